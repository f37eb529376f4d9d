//! `driver_opts` of a network.

use std::net::Ipv4Addr;

use super::INTERFACE;
use crate::{
    compose::{self, Flag},
    diagnostics::{Diagnostic, suggest},
    load::resolve::{Context, Cursor},
    model::{BridgeOptions, Network, UPLINK_INTERFACE, is_interface_name},
};

/// Options of a bridge that are understood.
const OPTIONS: [&str; 6] = [
    "com.docker.network.bridge.name",
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.driver.mtu",
    "com.docker.network.container_iface_prefix",
];

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

pub(super) fn bridge_options(
    cx: &mut Context<'_>,
    said: &compose::Network,
    network: &Network,
    at: Cursor<'_>,
) -> BridgeOptions {
    let mut options = BridgeOptions::default();
    let Some(written) = &said.driver_opts else { return options };
    for (key, place) in at.at("driver_opts").entries() {
        let Some(text) = written.0.get(key).map(|text| text.0.as_str()) else { continue };
        let mut wrong = |what: String, hint: &str| cx.push(place.here(Diagnostic::error(what)).hint(hint));
        let flag = |wrong: &mut dyn FnMut(String, &str), default| match Flag::parse(text).or(match text {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }) {
            Some(flag) => flag,
            None => {
                wrong(format!("`{text}` is neither `true` nor `false`"), "write one of the two");
                default
            }
        };
        match key {
            // That of the uplink is taken, and rules of nftables could take some others for a pattern.
            "com.docker.network.bridge.name" if text == UPLINK_INTERFACE => {
                wrong(format!("the interface `{UPLINK_INTERFACE}` is the way out of the stack"), "choose another name");
            }
            "com.docker.network.bridge.name" if is_interface_name(text) && is_plain(text) => {
                options.name = Some(text.to_owned());
            }
            "com.docker.network.bridge.name" => wrong(format!("`{text}` is not a name of an interface"), INTERFACE),
            "com.docker.network.bridge.enable_icc" => options.icc = flag(&mut wrong, true),
            "com.docker.network.bridge.enable_ip_masquerade" => {
                options.masquerade = flag(&mut wrong, true);
                // What leaves a stack has the address of its uplink: the host has no way back to any other.
                if !options.masquerade && !network.internal {
                    let option = format!("driver_opts.{key}: {text}");
                    cx.refusals.option(&option, |diagnostic| place.here(diagnostic));
                    options.masquerade = true;
                }
            }
            "com.docker.network.bridge.host_binding_ipv4" => match text.parse::<Ipv4Addr>() {
                Ok(address) => options.host_binding = (!address.is_unspecified()).then_some(address),
                Err(_) => wrong(
                    format!("`{text}` is not an IPv4 address"),
                    "name an address of the host, such as `127.0.0.1`",
                ),
            },
            "com.docker.network.driver.mtu" => {
                // What each family needs at least: RFC 791 and RFC 8200, 5; what the kernel takes at most of a veth.
                let least = if network.ipv6.is_some() { 1280 } else { 68 };
                match text.parse::<u32>() {
                    Ok(0) => {}
                    Ok(mtu) if (least..=65_535).contains(&mtu) => options.mtu = Some(mtu),
                    _ => wrong(
                        format!("`{text}` is not a size of packets"),
                        &format!("it has from {least} to 65535 bytes"),
                    ),
                }
            }
            // Room for the number behind it.
            "com.docker.network.container_iface_prefix" if is_interface_name(text) && text.len() <= 12 => {
                options.interface_prefix = Some(text.to_owned());
            }
            "com.docker.network.container_iface_prefix" => {
                wrong(
                    format!("`{text}` cannot begin names of interfaces"),
                    "at most 12 letters, digits and signs, without `/`, `:` and `%`",
                );
            }
            _ => {
                let meant = suggest(key, OPTIONS);
                cx.refusals
                    .option(&format!("driver_opts.{key}"), |diagnostic| place.at_key(diagnostic).did_you_mean(meant));
            }
        }
    }
    options
}
