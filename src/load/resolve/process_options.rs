//! What the processes of a service start with.

use std::collections::BTreeMap;

use super::{Context, Cursor, hostname, namespaces::Modes};
use crate::{
    compose::{self, Ulimit},
    diagnostics::{Diagnostic, suggest},
    model::{NamespaceMode, ProcessOptions, Resource, ResourceLimit, Sysctls, limit_text},
};

pub(super) fn lower(cx: &mut Context<'_>, service: &compose::Service, modes: &Modes, at: Cursor<'_>) -> ProcessOptions {
    let compose::Service { program, limits, .. } = service;
    ProcessOptions {
        groups: groups(cx, program, at),
        limits: resource_limits(cx, limits, at),
        oom_score_adj: limits.oom_score_adj.and_then(|score| i16::try_from(score.0).ok()).filter(|score| *score != 0),
        sysctls: sysctls(cx, limits, modes, at),
        terminal: program.tty.is_some_and(|tty| tty.0),
        stdin_open: program.stdin_open.is_some_and(|open| open.0),
        unattached: program.attach.is_some_and(|attach| !attach.0.0),
    }
}

/// Names and numbers; what a name means is known in the container only.
fn groups(cx: &mut Context<'_>, program: &compose::Program, at: Cursor<'_>) -> Vec<String> {
    let (Some(groups), Some(at)) = (&program.group_add, at.get("group_add")) else { return Vec::new() };
    let mut valid = Vec::new();
    for (group, at) in at.items(&groups.0) {
        let group = group.0.as_str();
        let number = group.bytes().all(|b| b.is_ascii_digit());
        // The largest one means "leave it" to the kernel and is nobody's.
        let too_large = number && group.parse::<u32>().map_or(true, |gid| gid == u32::MAX);
        let wrong = group.bytes().any(|b| b == b':' || b == b',' || b.is_ascii_control());
        if group.is_empty() {
            // What a variable made of nothing.
        } else if wrong || too_large {
            let diagnostic = at.here(Diagnostic::error(format!("`{group}` is not a group")));
            cx.push(diagnostic.hint("name a group of the container, or its number"));
        } else {
            valid.push(group.to_owned());
        }
    }
    valid
}

fn resource_limits(
    cx: &mut Context<'_>,
    limits: &compose::LimitKeys,
    at: Cursor<'_>,
) -> BTreeMap<Resource, ResourceLimit> {
    let mut lowered = BTreeMap::new();
    let (Some(limits), Some(at)) = (&limits.ulimits, at.get("ulimits")) else { return lowered };
    for (name, at) in at.entries() {
        let Some(limit) = limits.0.get(name) else { continue };
        let resource = match name.parse::<Resource>() {
            Ok(resource) => resource,
            Err(error) => {
                let names = || Resource::ALL.iter().map(|one| one.name());
                let listed: Vec<String> = names().map(|name| format!("`{name}`")).collect();
                let known = format!("there are {}", listed.join(", "));
                let unknown = at.at_key(Diagnostic::error(format!("{error}")));
                cx.push(unknown.did_you_mean(suggest(name, names())).hint(known));
                continue;
            }
        };
        let (soft, hard) = match limit {
            Ulimit::Single(both) => {
                let both = bound(cx, resource, both.0, at);
                (both, both)
            }
            Ulimit::Range(range) => {
                let mut one = |key: &str, number: Option<compose::Int>| bound(cx, resource, number?.0, at.at(key));
                (one("soft", range.soft.map(|limit| limit.0)), one("hard", range.hard.map(|limit| limit.0)))
            }
        };
        let (Some(soft), Some(hard)) = (soft, hard) else { continue };
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            let (soft_text, hard_text) = (limit_text(soft), limit_text(hard));
            let wrong = format!("the soft limit of `{name}`, {soft_text}, is above its hard limit, {hard_text}");
            let wrong = at.at("soft").here(Diagnostic::error(wrong)).label(at.at("hard").span(), "the hard limit");
            cx.push(wrong.hint("the soft limit is what counts, the hard one what a program may raise it to"));
            continue;
        }
        lowered.insert(resource, ResourceLimit { soft, hard });
    }
    lowered
}

/// A limit, of which -1 is none; nothing if it is not one.
fn bound(cx: &mut Context<'_>, resource: Resource, number: i64, at: Cursor<'_>) -> Option<Option<u64>> {
    match number {
        -1 => Some(None),
        _ => {
            if let Ok(number) = u64::try_from(number) {
                return Some(Some(number));
            }
            let wrong = Diagnostic::error(format!("a limit of `{resource}` cannot be {number}"));
            cx.push(at.here(wrong).hint("write -1 for no limit"));
            None
        }
    }
}

/// Which namespace a setting of the kernel belongs to.
enum Scope {
    Net,
    Ipc,
    /// Settings that are keys of their own.
    Name(&'static str),
    Machine,
}

/// As runc has it (libcontainer, `configs/validate`): what the kernel keeps for each IPC or network namespace.
fn scope(sysctl: &str) -> Scope {
    match sysctl {
        "kernel/hostname" => Scope::Name("hostname"),
        "kernel/domainname" => Scope::Name("domainname"),
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => Scope::Ipc,
        _ if sysctl.starts_with("net/") => Scope::Net,
        _ if sysctl.starts_with("fs/mqueue/") => Scope::Ipc,
        _ => Scope::Machine,
    }
}

/// The path of a setting. As in sysctl(8), the first separator says which of `.` and `/` separates; the other one stands
/// for it in a name, such as that of the interface in `net.ipv4.conf.eth0/1.rp_filter`.
fn path(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(|c| c.is_control() || c == ' ');
    (path.contains('/') && path.split('/').all(part)).then_some(path)
}

/// Takes one out that is set in another way than by writing to /proc/sys: the names of a container belong to root of the
/// machine there, however it is asked.
pub(super) fn take_name(
    cx: &mut Context<'_>,
    options: &mut ProcessOptions,
    key: &str,
    at: Cursor<'_>,
) -> Option<String> {
    let name = options.sysctls.remove(&format!("kernel/{key}"))?;
    hostname::valid(cx, key, &name, at.at("sysctls"))
}

fn sysctls(cx: &mut Context<'_>, limits: &compose::LimitKeys, modes: &Modes, at: Cursor<'_>) -> Sysctls {
    let mut lowered = Sysctls::new();
    let (Some(sysctls), Some(all)) = (&limits.sysctls, at.get("sysctls")) else { return lowered };
    let mut first: BTreeMap<String, Cursor<'_>> = BTreeMap::new();
    for (name, entry) in all.entries() {
        let Some(value) = sysctls.0.get(name) else { continue };
        let Some(path) = path(name) else {
            let wrong = entry.at_key(Diagnostic::error(format!("`{name}` is not the name of a sysctl")));
            cx.push(wrong.hint("a name is a path below /proc/sys, such as `net.core.somaxconn`"));
            continue;
        };
        if let Some(first) = first.get(&path) {
            let twice = Diagnostic::error(format!("sysctl `{name}` is set twice"));
            cx.push(entry.at_key(twice).label(first.key_span(), "first here"));
            continue;
        }
        first.insert(path.clone(), entry);
        if value.is_empty() || value.chars().any(char::is_control) {
            let wrong = format!("sysctl `{name}` {}", if value.is_empty() { "has no value" } else { "is one line" });
            cx.push(entry.at_key(Diagnostic::error(wrong)));
            continue;
        }
        let (key, what, mode) = match scope(&path) {
            Scope::Net => ("network_mode", "network", &modes.network),
            Scope::Ipc => ("ipc", "IPC namespace", &modes.ipc),
            Scope::Name(key) => {
                if at.get(key).is_some() {
                    let twice = Diagnostic::error(format!("sysctl `{name}` and the key `{key}` are the same"));
                    let twice = entry.at_key(twice).label(at.at(key).key_span(), "which is set here too");
                    cx.push(twice.hint("remove one of the two"));
                    continue;
                }
                ("uts", "host name", &modes.uts)
            }
            Scope::Machine => {
                let wrong = format!("sysctl `{name}` is one of the whole machine: no container has it for itself");
                let set = format!("set it on the host if it has to be: `sysctl -w {name}='{value}'`");
                cx.push(entry.at_key(Diagnostic::error(wrong)).hint(set));
                continue;
            }
        };
        let hint = match mode {
            NamespaceMode::Private | NamespaceMode::None => {
                lowered.insert(path, value.clone());
                continue;
            }
            NamespaceMode::Host => {
                format!("set it on the host, or leave out `{key}`")
            }
            NamespaceMode::Service(owner) => format!("set it at service `{owner}`, whose {what} it is"),
            NamespaceMode::Container(other) => format!("set it at container `{other}`, whose {what} it is"),
        };
        let wrong = match mode {
            NamespaceMode::Host => format!("sysctl `{name}` would change the {what} of the host itself"),
            _ => format!("sysctl `{name}` is of the {what}, and this service has none of its own"),
        };
        let wrong = entry.at_key(Diagnostic::error(wrong));
        let wrong = match at.get(key) {
            Some(mode) => wrong.label(mode.key_span(), "which is chosen here"),
            None => wrong,
        };
        cx.push(wrong.hint(hint));
    }
    lowered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sysctl_reads_them() {
        for (name, expected) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/1.rp_filter", Some("net/ipv4/conf/eth0.1/rp_filter")),
            ("net/ipv4/conf/eth0.1/rp_filter", Some("net/ipv4/conf/eth0.1/rp_filter")),
            ("net.ipv4..x", None),
            ("net/../kernel/panic", None),
            ("/net/core/somaxconn", None),
            // A name of `..`, spelt the other way round.
            ("net.//.panic", None),
            ("net", None),
        ] {
            assert_eq!(path(name).as_deref(), expected, "{name}");
        }
    }
}
