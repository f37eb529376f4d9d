//! Every name that a service refers to by is looked up, and keys that exclude each other are found.

use std::collections::{BTreeMap, HashMap};

use super::{
    Context, Parts, cycle,
    root::Root,
    service::{Draft, Joined},
};
use crate::{
    diagnostics::{Diagnostic, suggest},
    model::{NamespaceMode, Network, NetworkAttachment, NetworkName, ServiceName, VolumeName},
};

/// The network of services that name none (Compose Specification, "networks").
const DEFAULT: &str = "default";

pub(super) fn check(cx: &mut Context<'_>, root: Root) -> Option<Parts> {
    let Root { services: mut drafts, misnamed, mut networks, volumes } = root;
    let index: HashMap<String, usize> =
        drafts.iter().enumerate().map(|(index, draft)| (draft.name.as_str().to_owned(), index)).collect();
    let default: NetworkName = DEFAULT.parse().ok()?;

    for draft in &drafts {
        links(cx, draft, &drafts, &index, &misnamed);
        for (name, span) in &draft.volumes {
            if !name.parse().is_ok_and(|name: VolumeName| volumes.contains_key(&name)) {
                let meant = cx.suggest(name, volumes.keys().map(|name| name.as_str()));
                cx.push(
                    Diagnostic::error(format!(
                        "service `{}` mounts volume `{name}`, which is not declared",
                        draft.name
                    ))
                    .at(span)
                    .did_you_mean(meant)
                    .hint(format!("declare it under the top-level `volumes:`, or write `./{name}` for a folder")),
                );
            }
        }
        exclusions(cx, draft);
        no_command(cx, draft);
    }
    for draft in &mut drafts {
        let attachments = attachments(cx, draft, &networks, &default);
        draft.attach(attachments);
    }
    if drafts.iter().any(|draft| draft.service.networks.iter().any(|joined| joined.network == default)) {
        networks.entry(default).or_default();
    }
    cycle::check(cx, &drafts, &index);

    let services: BTreeMap<ServiceName, _> = drafts
        .into_iter()
        .map(|mut draft| {
            draft.service.depends_on = draft
                .links
                .iter()
                .filter(|link| link.key == "depends_on")
                .filter_map(|link| link.target.parse().ok())
                .collect();
            (draft.name, draft.service)
        })
        .collect();
    Some(Parts { services, networks, volumes })
}

fn links(
    cx: &mut Context<'_>,
    draft: &Draft,
    drafts: &[Draft],
    index: &HashMap<String, usize>,
    misnamed: &HashMap<String, ()>,
) {
    let name = &draft.name;
    for link in &draft.links {
        let target = &link.target;
        if target == name.as_str() && link.key != "depends_on" {
            cx.push(
                Diagnostic::error(format!("service `{name}` shares its `{}` with itself", link.key)).at(&link.span),
            );
        } else if !index.contains_key(target) && !misnamed.contains_key(target) {
            let message = match link.key {
                "depends_on" => format!("service `{name}` depends on `{target}`, which is not declared"),
                key => format!("service `{name}` shares the `{key}` of `{target}`, which is not declared"),
            };
            let others = drafts.iter().map(|draft| draft.name.as_str()).filter(|other| *other != name.as_str());
            let meant = cx.suggest(target, others);
            cx.push(Diagnostic::error(message).at(&link.span).did_you_mean(meant));
        }
    }
}

/// Keys that exclude each other.
fn exclusions(cx: &mut Context<'_>, draft: &Draft) {
    let own = matches!(draft.service.network_mode, NamespaceMode::Private);
    if let Some(mode) = draft.keys.get("network_mode") {
        if let Some(networks) = draft.keys.get("networks")
            && draft.networks.as_ref().is_some_and(|networks| !networks.is_empty())
        {
            cx.push(
                Diagnostic::error(format!("service `{}` has both `network_mode` and `networks`", draft.name))
                    .at(networks)
                    .label(mode, "with its network chosen here")
                    .hint("remove one of the two"),
            );
        }
        if let Some(ports) = draft.keys.get("ports")
            && !own
            && !draft.service.ports.is_empty()
        {
            let hint = match &draft.service.network_mode {
                NamespaceMode::Host => "remove `ports`: on the network of the host every port is reachable".to_owned(),
                NamespaceMode::Service(owner) => format!("publish them at service `{owner}`, whose network it is"),
                NamespaceMode::None | NamespaceMode::Private => "remove one of the two".to_owned(),
            };
            cx.push(
                Diagnostic::error(format!(
                    "service `{}` publishes ports and has no network of its own to publish them from",
                    draft.name
                ))
                .at(ports)
                .label(mode, "with its network chosen here")
                .hint(hint),
            );
        }
    }
    if let (NamespaceMode::Host, Some(uts)) = (&draft.service.uts, draft.keys.get("uts")) {
        for key in ["hostname", "domainname"] {
            if let Some(span) = draft.keys.get(key) {
                cx.push(
                    Diagnostic::error(format!("`{key}` would change the name of the host itself"))
                        .at(span)
                        .label(uts, "its name is the host's")
                        .hint("remove one of the two"),
                );
            }
        }
    }
}

fn no_command(cx: &mut Context<'_>, draft: &Draft) {
    let service = &draft.service;
    // What was there and wrong has been reported; an image would bring a command of its own.
    let excused = ["image", "build", "extends", "provider"].iter().any(|key| draft.keys.contains_key(*key));
    let misspelt = |key: &String| {
        !key.starts_with("x-") && suggest(key, ["command", "entrypoint"]).is_some_and(|meant| meant != key)
    };
    if service.command.is_some() || service.entrypoint.is_some() || excused || draft.misread_command {
        return;
    }
    if draft.keys.keys().any(misspelt) {
        return;
    }
    cx.push(
        Diagnostic::error(format!("service `{}` has no command", draft.name))
            .at(&draft.name_span)
            .hint("say what to run with `command:`"),
    );
}

fn attachments(
    cx: &mut Context<'_>,
    draft: &mut Draft,
    networks: &BTreeMap<NetworkName, Network>,
    default: &NetworkName,
) -> Vec<NetworkAttachment> {
    let joined = draft.networks.take().unwrap_or_default();
    if draft.service.network_mode != NamespaceMode::Private {
        return Vec::new();
    }
    if joined.is_empty() {
        return vec![NetworkAttachment { network: default.clone(), aliases: Vec::new() }];
    }
    let mut attachments = Vec::new();
    for Joined { network, span, aliases } in joined {
        match network.parse::<NetworkName>() {
            Ok(name) if networks.contains_key(&name) || name == *default => {
                attachments.push(NetworkAttachment { network: name, aliases });
            }
            _ => cx.push(
                Diagnostic::error(format!("service `{}` uses network `{network}`, which is not declared", draft.name))
                    .at(&span)
                    .did_you_mean(suggest(&network, networks.keys().map(|name| name.as_str())))
                    .hint("declare it under the top-level `networks:`"),
            ),
        }
    }
    attachments
}
