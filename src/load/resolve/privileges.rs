//! What a service may do: `cap_add`, `cap_drop`, `privileged`, `security_opt`.

use super::{Context, Cursor, seccomp};
use crate::{
    compose::{self, Flag, REFUSED_SECURITY_OPTIONS, Text},
    diagnostics::{Diagnostic, suggest},
    model::{Capabilities, Capability, Privileges, Seccomp, SelinuxLabel},
};

/// Options that say something, as they are written.
const OPTIONS: [&str; 6] = ["no-new-privileges", "seccomp", "apparmor", "label", "systempaths", "writable-cgroups"];

pub(super) fn lower(cx: &mut Context<'_>, service: &compose::Service, at: Cursor<'_>) -> Privileges {
    let compose::Security { cap_add, cap_drop, privileged, security_opt, .. } = &service.security;
    let privileged = privileged.is_some_and(|privileged| privileged.0);
    let added = named(cx, cap_add.as_ref().map(|list| &*list.0), at.get("cap_add"));
    let dropped = named(cx, cap_drop.as_ref().map(|list| &*list.0), at.get("cap_drop"));
    let mut privileges = Privileges {
        capabilities: if privileged { Capabilities::ALL } else { capabilities(&added, &dropped) },
        hide_kernel_files: !privileged,
        host_devices: privileged,
        ..Privileges::default()
    };
    // Docker leaves the filter away unless one is named.
    if privileged {
        privileges.seccomp = Seccomp::Unconfined;
    }
    if let (Some(options), Some(at)) = (security_opt, at.get("security_opt")) {
        for (option, at) in at.items(&options.0) {
            set(cx, &mut privileges, &option.0, at);
        }
    }
    privileges
}

/// What a list of capabilities says.
#[derive(Default)]
struct Named {
    /// `ALL` is among them.
    all: bool,
    these: Capabilities,
}

fn named(cx: &mut Context<'_>, list: Option<&[Text]>, at: Option<Cursor<'_>>) -> Named {
    let mut named = Named::default();
    let (Some(list), Some(at)) = (list, at) else { return named };
    for (text, at) in at.items(list) {
        let upper = text.0.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            named.all = true;
            continue;
        }
        match text.0.parse::<Capability>() {
            Ok(one) => named.these = named.these.union([one].into_iter().collect()),
            Err(error) => {
                let meant = suggest(bare, Capability::names().chain(["ALL"]));
                let written = bare.len() < upper.len();
                let meant = meant.map(|meant| format!("{}{meant}", if written { "CAP_" } else { "" }));
                let wrong = Diagnostic::error(error.to_string()).did_you_mean(meant.as_deref());
                cx.push(at.here(if meant.is_none() { wrong.hint("capabilities(7) lists them") } else { wrong }));
            }
        }
    }
    named
}

/// As Docker reckons (moby, `oci/caps/utils.go`): whoever adds all gets all but what is dropped by name; whoever drops all
/// gets what is added; else what is dropped goes first, so that what is in both lists is there.
fn capabilities(added: &Named, dropped: &Named) -> Capabilities {
    if added.all {
        Capabilities::ALL.without(dropped.these)
    } else if dropped.all {
        added.these
    } else {
        Capabilities::usual().without(dropped.these).union(added.these)
    }
}

/// Does what an option says. `=` separates its name from its value; an older way is `:`.
fn set(cx: &mut Context<'_>, privileges: &mut Privileges, option: &str, at: Cursor<'_>) {
    let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let value_at = option.len() - value.map_or(0, str::len)..option.len();
    let mut wrong = |diagnostic: Diagnostic| cx.push(at.at_part(diagnostic, value_at.clone()));
    match (name, value) {
        ("no-new-privileges", None) => privileges.no_new_privileges = true,
        ("no-new-privileges", Some(value)) => match Flag::parse(value) {
            Some(set) => privileges.no_new_privileges = set,
            None => wrong(
                Diagnostic::error(format!("`{value}` is neither `true` nor `false`"))
                    .did_you_mean(suggest(value, ["true", "false"])),
            ),
        },
        // Docker has it from the time before `label=`.
        ("disable", None) => privileges.label = SelinuxLabel::default(),
        ("seccomp" | "apparmor" | "label" | "systempaths", None | Some("")) => {
            let example = match name {
                "seccomp" => "seccomp=unconfined",
                "apparmor" => "apparmor=unconfined",
                "label" => "label=disable",
                _ => "systempaths=unconfined",
            };
            cx.push(at.here(Diagnostic::error(format!("`{name}` says nothing")).hint(format!("as in `{example}`"))));
        }
        ("seccomp", Some("unconfined")) => privileges.seccomp = Seccomp::Unconfined,
        // What Docker's own profile is called in its configuration.
        ("seccomp", Some("builtin" | "default")) => privileges.seccomp = Seccomp::Default,
        ("seccomp", Some(path)) => {
            if let Some(profile) = seccomp::profile(cx, path, at, value_at) {
                privileges.seccomp = Seccomp::Profile(Box::new(profile));
            }
        }
        ("apparmor", Some(profile)) => privileges.apparmor = Some(profile.to_owned()),
        ("systempaths", Some("unconfined")) => privileges.hide_kernel_files = false,
        ("systempaths", Some(value)) => wrong(
            Diagnostic::error(format!("`{value}` is not a value of `systempaths`"))
                .hint("the only one is `unconfined`"),
        ),
        ("label", Some("nested")) | ("writable-cgroups", _) => refuse(cx, option, at),
        ("label", Some(label)) if label.starts_with("filetype:") => refuse(cx, option, at),
        ("label", Some(text)) => {
            let label = &mut privileges.label;
            match text.split_once(':') {
                None if text == "disable" => *label = SelinuxLabel::default(),
                Some(("user", part)) => label.user = Some(part.to_owned()),
                Some(("role", part)) => label.role = Some(part.to_owned()),
                Some(("type", part)) => label.kind = Some(part.to_owned()),
                Some(("level", part)) => label.level = Some(part.to_owned()),
                _ => wrong(
                    Diagnostic::error(format!("`{text}` is not a part of a label"))
                        .hint("use `disable`, or `user:`, `role:`, `type:` or `level:` with a value"),
                ),
            }
        }
        _ => cx.push(
            at.here(Diagnostic::error(format!("`{name}` is not a security option")))
                .did_you_mean(suggest(name, OPTIONS))
                .hint("the options are `no-new-privileges`, `seccomp`, `apparmor`, `label` and `systempaths`"),
        ),
    }
}

fn refuse(cx: &mut Context<'_>, option: &str, at: Cursor<'_>) {
    cx.refusals.value(&REFUSED_SECURITY_OPTIONS, option, |diagnostic| at.here(diagnostic));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Named {
        let mut named = Named::default();
        for word in text.split_whitespace() {
            match word {
                "ALL" => named.all = true,
                word => named.these = named.these.union([word.parse().expect("a name")].into_iter().collect()),
            }
        }
        named
    }

    #[test]
    fn lists_are_reckoned_as_in_docker() {
        let of = |added, dropped| capabilities(&list(added), &list(dropped));
        let these = |names| list(names).these;
        assert_eq!(of("", ""), Capabilities::usual());
        assert_eq!(of("ALL", ""), Capabilities::ALL);
        assert_eq!(of("ALL", "SYS_ADMIN"), Capabilities::ALL.without(these("SYS_ADMIN")));
        assert_eq!(of("ALL", "ALL"), Capabilities::ALL);
        assert_eq!(of("", "ALL"), these(""));
        assert_eq!(of("CHOWN SYS_TIME", "ALL"), these("CHOWN SYS_TIME"));
        assert_eq!(of("NET_RAW", "NET_RAW KILL"), Capabilities::usual().without(these("KILL")));
    }
}
