//! `networks:` of a service.

use super::{Context, Cursor};
use crate::{
    compose::Networking,
    diagnostics::Diagnostic,
    model::{NamespaceMode, NetworkAttachment},
};

/// The network of services that name none (Compose Specification, "networks").
const DEFAULT: &str = "default";

/// The networks it is on, as they are listed.
pub(super) fn lower(
    cx: &mut Context<'_>,
    networking: &Networking,
    mode: &NamespaceMode,
    at: Cursor<'_>,
) -> Vec<NetworkAttachment> {
    let mut attachments = Vec::new();
    for (name, at) in at.get("networks").into_iter().flat_map(Cursor::entries) {
        let attachment = networking.networks.as_ref().and_then(|networks| networks.0.0.get(name)?.0.as_ref());
        let aliases = attachment.and_then(|attachment| attachment.aliases.as_ref());
        let aliases = aliases.map_or(Vec::new(), |aliases| {
            let items = at.at("aliases").items(&aliases.0);
            items.filter_map(|(alias, at)| host_name(cx, &alias.0, at)).collect()
        });
        if (name == DEFAULT || cx.declares_network(name))
            && let Ok(network) = name.parse()
        {
            attachments.push(NetworkAttachment { network, aliases });
        }
    }
    match mode {
        NamespaceMode::Private => {}
        _ => return Vec::new(),
    }
    if attachments.is_empty()
        && let Ok(network) = DEFAULT.parse()
    {
        attachments.push(NetworkAttachment { network, aliases: Vec::new() });
    }
    attachments
}

/// What a name server could answer for (RFC 1035, 2.3.4), without control characters or dots at the ends.
fn host_name(cx: &mut Context<'_>, alias: &str, at: Cursor<'_>) -> Option<String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !alias.is_empty() && alias.len() <= 253 && alias.bytes().all(valid) && !alias.starts_with(['.', '-']) {
        return Some(alias.to_owned());
    }
    let wrong = at.here(Diagnostic::error(format!("`{alias}` is not a host name")));
    cx.push(wrong.hint("use letters, digits, `-`, `.` and `_`"));
    None
}
