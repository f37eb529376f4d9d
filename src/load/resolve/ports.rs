//! `ports:`.

use std::net::IpAddr;

use super::{Context, Cursor};
use crate::{
    compose::{self, Networking},
    diagnostics::{Diagnostic, Span},
    model::{Port, Protocol, ServiceName},
};

pub(super) fn lower(cx: &mut Context<'_>, name: &ServiceName, networking: &Networking, at: Cursor<'_>) -> Vec<Port> {
    let Some(ports) = &networking.ports else { return Vec::new() };
    let mut lowered = Vec::with_capacity(ports.0.0.len());
    // Of a range one conflict is enough.
    let mut reported: Option<&Span> = None;
    for (port, at) in at.at("ports").items(&ports.0.0) {
        let Some(port) = one(cx, port, at) else { continue };
        if let Some((service, span)) = cx.published.take(&port, name.as_str(), at.span())
            && reported != Some(at.span())
        {
            let (published, protocol) = (port.published.unwrap_or_default(), port.protocol);
            let twice = if service == name.as_str() {
                format!("service `{service}` publishes port {published}/{protocol} twice")
            } else {
                format!("services `{service}` and `{name}` both publish port {published}/{protocol}")
            };
            cx.push(at.here(Diagnostic::error(twice)).label(&span, "taken here"));
            reported = Some(at.span());
        }
        lowered.push(port);
    }
    lowered
}

fn one(cx: &mut Context<'_>, port: &compose::Port, at: Cursor<'_>) -> Option<Port> {
    let wrong = |cx: &mut Context<'_>, key: &str, problem: String, hint: &str| {
        let diagnostic = at.at(key).here(Diagnostic::error(problem));
        cx.push(if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) });
        None
    };
    if let Some(mode) = port.mode.as_ref().map(|mode| mode.0.as_str())
        && !matches!(mode, "host" | "ingress")
    {
        let hint = "use `host` or `ingress`, which are the same on one machine";
        return wrong(cx, "mode", format!("`{mode}` is not a mode of a port"), hint);
    }
    let target = u16::try_from(port.target?.0).ok()?;
    let host_ip = match port.host_ip.as_ref().map(|ip| ip.0.as_str()) {
        None | Some("") => None,
        Some(ip) => Some(ip.parse::<IpAddr>().ok()?),
    };
    let (published, last) = match port.published.as_ref().map(|published| published.0.as_str()) {
        None | Some("" | "0") => (None, None),
        Some(text) => match range(text) {
            Ok((first, last)) => (Some(first), last),
            Err(problem) => return wrong(cx, "published", problem, ""),
        },
    };
    let protocol = match port.protocol.as_ref().map(|protocol| protocol.0.to_ascii_lowercase()).as_deref() {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        // It has been refused.
        Some("sctp") => return None,
        Some(other) => {
            return wrong(cx, "protocol", format!("the protocol `{other}` is neither tcp nor udp"), "");
        }
    };
    Some(Port { host_ip, published, last, target, protocol })
}

/// `FIRST[-LAST]`; the last one only where it is another.
fn range(text: &str) -> Result<(u16, Option<u16>), String> {
    let one = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{text}` is not a port number from 1 to 65535")),
    };
    let Some((first, last)) = text.split_once('-') else { return Ok((one(text)?, None)) };
    let (first, last) = (one(first)?, one(last)?);
    if first > last {
        return Err(format!("the range {first}-{last} runs backwards"));
    }
    Ok((first, (first < last).then_some(last)))
}
