//! How many containers services have, and what several cannot all have.

use std::collections::BTreeMap;

use super::{Context, Cursor};
use crate::{
    compose,
    diagnostics::{Diagnostic, suggest},
    model::{Port, Service, ServiceName},
};

/// The most replicas, beyond the first of each service, that a file may ask for in all: a few letters of it are enough for each, and each
/// costs this process some kilobytes before anything is started.
const MOST: i64 = 10_000;

/// Modes that mean something here. On one machine `global` is one container.
const MODES: [&str; 2] = ["replicated", "global"];

/// How many containers those services have that have not just one.
pub(super) fn numbers(
    project: &compose::Project,
    services: &BTreeMap<ServiceName, Service>,
) -> BTreeMap<ServiceName, u32> {
    let numbers = services.keys().filter_map(|name| {
        let number = project.services.as_ref()?.0.0.get(name.as_str())?.number();
        Some((name.clone(), u32::try_from(number).ok().filter(|number| *number != 1)?))
    });
    numbers.collect()
}

/// Refuses numbers that are too large, and what several containers of one service cannot all have.
pub(super) fn check(cx: &mut Context<'_>, services: &BTreeMap<ServiceName, Service>, all: Cursor<'_>) {
    let mut total = 0;
    for (name, service) in services {
        let Some(at) = all.get(name.as_str()) else { continue };
        let said = cx.project.services.as_ref().and_then(|services| services.0.0.get(name.as_str()));
        let Some(said) = said else { continue };
        mode(cx, name, said, at);
        let number = said.number();
        let place = place(at);
        let further = (number - 1).max(0);
        if total <= MOST && total.saturating_add(further) > MOST {
            let wrong = Diagnostic::error(format!("the services have more than {MOST} further replicas in all"));
            cx.push(place.unwrap_or(at).at_key(wrong).hint("that is more than a machine has room for"));
        }
        total = total.saturating_add(further);
        if number > 1 {
            let so_many = |diagnostic: Diagnostic| match place {
                Some(place) => diagnostic.label(place.span(), "so many"),
                None => diagnostic,
            };
            ports(cx, name, service, number, at, so_many);
            addresses(cx, name, number, at, so_many);
        }
        owners_are_there(cx, name, service, at);
    }
}

/// Where the number is written, if it is.
fn place(at: Cursor<'_>) -> Option<Cursor<'_>> {
    at.get("scale").or_else(|| at.get("deploy")?.get("replicas"))
}

fn mode(cx: &mut Context<'_>, name: &ServiceName, service: &compose::Service, at: Cursor<'_>) {
    let mode = service.lifecycle.deploy.as_ref().and_then(|deploy| deploy.mode.as_ref());
    let Some(mode) = mode.map(|mode| mode.0.as_str()).filter(|mode| !mode.is_empty()) else { return };
    let at_mode = at.at("deploy").at("mode");
    if mode == "global" && service.number() != 1 {
        let wrong = format!("service `{name}` has one container on each machine, and cannot have {}", service.number());
        let wrong = at_mode.here(Diagnostic::error(wrong));
        let wrong = match place(at) {
            Some(place) => wrong.label(place.span(), "so many"),
            None => wrong,
        };
        cx.push(wrong.hint("say `replicated`, or nothing: it is what a number of containers is for"));
    } else if !MODES.contains(&mode) && !matches!(mode, "replicated-job" | "global-job") {
        let wrong = at_mode.here(Diagnostic::error(format!("`{mode}` is not a mode of a service")));
        cx.push(wrong.did_you_mean(suggest(mode, MODES)).hint("use `replicated` or `global`"));
    }
}

/// A port of the host is one container's.
fn ports(
    cx: &mut Context<'_>,
    name: &ServiceName,
    service: &Service,
    number: i64,
    at: Cursor<'_>,
    so_many: impl Fn(Diagnostic) -> Diagnostic,
) {
    let said = cx.project.services.as_ref().and_then(|services| services.0.0.get(name.as_str()));
    let said = said.and_then(|service| service.networking.ports.as_ref()).map_or(&[][..], |ports| &ports.0.0);
    // One line of the file can be many ports: what is wrong with it is said once.
    let mut reported: Option<&crate::diagnostics::Span> = None;
    for (port, at) in at.at("ports").items(said) {
        let target = port.target.and_then(|target| u16::try_from(target.0).ok());
        let published = port.published.as_ref().map_or("", |published| published.0.as_str());
        let is_it = |known: &&Port| {
            let range = match (known.published, known.last) {
                (Some(first), Some(last)) => format!("{first}-{last}"),
                (Some(first), None) => first.to_string(),
                (None, _) => return false,
            };
            Some(known.target) == target && range == published
        };
        let Some(known) = service.ports.iter().find(is_it) else { continue };
        let first = known.published.unwrap_or_default();
        let there = i64::from(known.last.unwrap_or(first)) - i64::from(first) + 1;
        if there >= number || reported == Some(at.span()) {
            continue;
        }
        reported = Some(at.span());
        let what = match known.last {
            None => format!("which cannot all have port {first}/{} of the host", known.protocol),
            Some(last) => format!("and the ports {first}-{last} of the host are {there}"),
        };
        let wrong = so_many(at.here(Diagnostic::error(format!("service `{name}` has {number} containers, {what}"))));
        let end = i64::from(first) + number - 1;
        cx.push(if end <= i64::from(u16::MAX) {
            wrong.hint(format!(
                "publish a range, as in `{first}-{end}:{target}`, or say `{target}` alone for any that are free",
                target = known.target
            ))
        } else {
            wrong.hint(format!("say `{}` alone for any ports that are free", known.target))
        });
    }
}

/// Addresses are one container's each.
fn addresses(
    cx: &mut Context<'_>,
    name: &ServiceName,
    number: i64,
    at: Cursor<'_>,
    so_many: impl Fn(Diagnostic) -> Diagnostic,
) {
    let networks = at.get("networks").into_iter().flat_map(Cursor::entries);
    let of_networks = networks.flat_map(|(network, at)| {
        ["ipv4_address", "ipv6_address", "mac_address", "link_local_ips"]
            .into_iter()
            .filter_map(move |key| at.get(key).map(|at| (at, format!(" on network `{network}`"))))
    });
    let own = at.get("mac_address").map(|at| (at, String::new()));
    let chosen: Vec<_> = of_networks.chain(own).collect();
    for (at, on) in chosen {
        let is_empty = match (at.node.scalar(), &at.node.value) {
            (Some(scalar), _) => scalar.text.is_empty(),
            (None, super::super::tree::Value::Sequence(items)) => items.is_empty(),
            (None, _) => true,
        };
        if !is_empty {
            let text = format!("service `{name}` has {number} containers, which cannot have one `{}`{on}", at.key());
            cx.push(so_many(at.at_key(Diagnostic::error(text))).hint("leave it out: each gets one of its own"));
        }
    }
}

/// What a service has of another, that one has to have.
fn owners_are_there(cx: &mut Context<'_>, name: &ServiceName, service: &Service, at: Cursor<'_>) {
    let is_none = |cx: &Context<'_>, owner: &ServiceName| {
        let owner = cx.project.services.as_ref().and_then(|services| services.0.0.get(owner.as_str()));
        owner.is_some_and(|owner| owner.number() == 0)
    };
    let own = cx.project.services.as_ref().and_then(|services| services.0.0.get(name.as_str()));
    if own.is_some_and(|own| own.number() == 0) {
        return;
    }
    let shared = service.sharing().into_iter().filter_map(|(key, mode)| Some((key, mode.service()?)));
    let volumes = service.files.volumes_from.iter().map(|from| ("volumes_from", &from.service));
    let missing: Vec<_> = shared.chain(volumes).filter(|(_, owner)| is_none(cx, owner)).collect();
    for (key, owner) in missing {
        let text = format!("service `{name}` needs a container of service `{owner}`, which has none");
        cx.push(at.at(key).here(Diagnostic::error(text)).hint(format!("give `{owner}` at least one: `scale: 1`")));
    }
}
