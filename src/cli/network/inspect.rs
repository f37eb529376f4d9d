//! `nscompose network inspect`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Serialize;

use super::{find, networks};
use crate::{
    cli::settings::Settings,
    diagnostics::Failure,
    model::{Addressing, BridgeOptions, NetworkName},
    state::{Definition, Place, SharedNetworks},
};

/// Show all there is to say of networks that stacks share, as JSON
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Networks
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
    /// It is JSON anyway; for those who are used to it
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide = true)]
    format: Option<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let mut shown = Vec::new();
    for word in &args.names {
        let (name, definition) = find(settings, word)?;
        shown.push(Shown::of(&name, &definition, &networks(settings)));
    }
    settings.printer.data(&crate::ui::json_lines(&shown))?;
    Ok(0)
}

/// A network, as programs see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Shown {
    pub(super) name: String,
    created: String,
    pub(super) driver: &'static str,
    internal: bool,
    #[serde(rename = "IPv4")]
    ipv4: Option<Addressing>,
    #[serde(rename = "IPv6")]
    ipv6: Option<Addressing>,
    options: BridgeOptions,
    labels: BTreeMap<String, String>,
    /// Services by stack, with their addresses and names.
    pub(super) stacks: BTreeMap<String, BTreeMap<String, Place>>,
}

impl Shown {
    pub(super) fn of(name: &NetworkName, definition: &Definition, networks: &SharedNetworks) -> Self {
        let network = definition.network.clone();
        let stacks = networks.leases(name).into_iter().map(|(stack, lease)| {
            let services = lease.services.into_iter().map(|(service, place)| (service.to_string(), place));
            (stack.to_string(), services.collect())
        });
        let created = jiff::Timestamp::from_millisecond(definition.created_ms).unwrap_or_default();
        Self {
            name: name.to_string(),
            created: format!("{created:.3}"),
            driver: "bridge",
            internal: network.internal,
            ipv4: network.ipv4,
            ipv6: network.ipv6,
            options: network.bridge,
            labels: definition.labels.clone(),
            stacks: stacks.collect(),
        }
    }

    pub(super) fn subnets(&self) -> Vec<String> {
        let subnets = [&self.ipv4, &self.ipv6].into_iter().flatten().filter_map(|addressing| addressing.subnet);
        subnets.map(|subnet: IpNet| subnet.to_string()).collect()
    }
}
