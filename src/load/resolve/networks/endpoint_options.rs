//! `driver_opts` of how a service joins a network.

use super::attachment::interface;
use crate::{
    compose,
    diagnostics::{Diagnostic, suggest},
    load::resolve::{Context, Cursor},
    model::NetworkAttachment,
};

/// Options of how a service joins a network that are understood.
const ENDPOINT: [&str; 2] = ["com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"];

pub(super) fn endpoint_options(
    cx: &mut Context<'_>,
    said: &compose::NetworkAttachment,
    lowered: &mut NetworkAttachment,
    at: Cursor<'_>,
) {
    let Some(written) = &said.driver_opts else { return };
    for (key, place) in at.at("driver_opts").entries() {
        let Some(text) = written.0.get(key).map(|text| text.0.as_str()) else { continue };
        match key {
            "com.docker.network.endpoint.ifname" => {
                let Some(name) = interface(cx, text, place) else { continue };
                match &lowered.interface {
                    Some(other) if *other != name => {
                        let two = Diagnostic::error(format!("the interface has two names, `{other}` and `{name}`"));
                        cx.push(place.here(two).label(at.at("interface_name").span(), "the other one"));
                    }
                    _ => lowered.interface = Some(name),
                }
            }
            "com.docker.network.endpoint.sysctls" => {
                for part in text.split(',').filter(|part| !part.is_empty()) {
                    match sysctl(part) {
                        Some((name, value)) => {
                            lowered.sysctls.insert(name, value);
                        }
                        None => {
                            let wrong =
                                Diagnostic::error(format!("`{part}` is not a kernel parameter of an interface"));
                            cx.push(place.here(wrong).hint("write `net.ipv4.conf.IFNAME.KEY=VALUE`, with `IFNAME` as it stands here, and `,` between them"));
                        }
                    }
                }
            }
            _ => {
                let meant = suggest(key, ENDPOINT);
                cx.refusals
                    .option(&format!("driver_opts.{key}"), |diagnostic| place.at_key(diagnostic).did_you_mean(meant));
            }
        }
    }
}

/// `net.ipv4.conf.IFNAME.KEY=VALUE` as the path below /proc/sys and the value: those that are of one interface.
fn sysctl(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let parts: Vec<&str> = name.trim().split(['.', '/']).collect();
    let of_interface = match parts[..] {
        ["net", "ipv4" | "ipv6", "conf" | "neigh", "IFNAME", key] | ["net", "mpls", "conf", "IFNAME", key] => key,
        _ => return None,
    };
    let known = !of_interface.is_empty() && of_interface.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    known.then(|| (parts.join("/"), value.trim().to_owned()))
}
