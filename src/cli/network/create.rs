//! `nscompose network create`.

use std::{collections::BTreeMap, io::Write, net::IpAddr, os::fd::AsRawFd};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{all, broken, lock, networks};
use crate::{
    cli::settings::Settings,
    diagnostics::{Diagnostics, Failure},
    load::{LoadOptions, load},
    model::{Addressing, Family, Network, NetworkName},
    plan::subnets_for,
    state::Definition,
    supervisor::host,
};

/// Make a network that stacks share: in their files, `external: true`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Its name
    name: String,
    /// Who makes it: `bridge`
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Its addresses, such as 172.28.0.0/16; one of IPv4, one of IPv6
    #[arg(long = "subnet", value_name = "SUBNET")]
    subnets: Vec<String>,
    /// Address of its bridge
    #[arg(long = "gateway", value_name = "ADDRESS")]
    gateways: Vec<String>,
    /// The part of a subnet that services get their addresses from
    #[arg(long = "ip-range", value_name = "RANGE")]
    ranges: Vec<String>,
    /// An address that is somebody else's
    #[arg(long = "aux-address", value_name = "NAME=ADDRESS")]
    aux_addresses: Vec<String>,
    /// Whether there are IPv4 addresses
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    ipv4: bool,
    /// Whether there are IPv6 addresses
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    ipv6: bool,
    /// Nothing on it reaches the outside
    #[arg(long)]
    internal: bool,
    /// Set a label
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Set an option of the driver, such as com.docker.network.driver.mtu=1400
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// It is for clusters; for those who are used to it
    #[arg(long, hide = true)]
    _attachable: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let name: NetworkName = args.name.parse().map_err(|e| Failure::usage(format!("{e}")))?;
    if matches!(name.as_str(), "host" | "none" | "bridge" | "default") {
        return Err(Failure::usage(format!("`{name}` is the name of something else")).hint("choose another one"));
    }
    let mut network = described(args)?;
    let host = host()?;
    let _lock = lock(settings)?;
    let all = all(settings)?;
    if all.contains_key(&name) {
        return Err(Failure::operation(format!("there is a network `{name}` already"))
            .hint(format!("`nscompose network inspect {name}` shows it, `nscompose network rm {name}` removes it")));
    }
    // A stack can be on all of them.
    let subnets = |network: &Network| network.addressing().filter_map(|(_, of)| of.subnet).collect::<Vec<IpNet>>();
    let others: BTreeMap<&NetworkName, Vec<IpNet>> =
        all.iter().map(|(name, definition)| (name, subnets(&definition.network))).collect();
    for subnet in subnets(&network) {
        let overlap = |other: &&IpNet| other.contains(&subnet) || subnet.contains(*other);
        if let Some((other, of)) =
            others.iter().find_map(|(name, all)| all.iter().find(overlap).map(|other| (other, name)))
        {
            return Err(Failure::operation(format!("subnet {subnet} overlaps {other} of network `{of}`"))
                .hint("choose another one, or none"));
        }
    }
    let others: Vec<IpNet> = others.into_values().flatten().collect();
    let chosen = subnets_for(&network, &name, &host.routes, &others, &settings.address_pools()?);
    let chosen = chosen.ok_or_else(|| {
        Failure::operation("no subnet is left: every private range overlaps a route of this host or another network")
            .hint("name one with --subnet")
    })?;
    for (family, subnet) in chosen {
        let slot = if family == Family::V4 { &mut network.ipv4 } else { &mut network.ipv6 };
        slot.get_or_insert_with(Addressing::default).subnet = Some(subnet);
    }
    let labels = args.labels.iter().map(|label| pair(label)).collect();
    let definition = Definition { network, labels, created_ms: jiff::Timestamp::now().as_millisecond() };
    networks(settings).define(&name, &definition).map_err(|e| broken(&e))?;
    settings.printer.data(&format!("{name}\n"))?;
    Ok(0)
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// What was typed, as a network of a file: the rules are the same, and so is what is said of mistakes.
fn described(args: &Args) -> Result<Network, Failure> {
    let mut configs: Vec<Map<String, Value>> =
        args.subnets.iter().map(|subnet| Map::from_iter([("subnet".to_owned(), json!(subnet))])).collect();
    let subnets: Vec<Option<IpNet>> = args.subnets.iter().map(|subnet| subnet.parse().ok()).collect();
    let mut put = |key: &str, text: &str, address: &str, put: &dyn Fn(&mut Map<String, Value>)| {
        let address: Option<IpAddr> = address.split('/').next().unwrap_or_default().parse().ok();
        let inside = |net: &Option<IpNet>| net.zip(address).is_some_and(|(net, address)| net.contains(&address));
        // One that is in none is complained about at the first.
        let place = subnets.iter().position(inside).unwrap_or(0);
        match configs.get_mut(place) {
            Some(config) if config.contains_key(key) && key != "aux_addresses" => {
                Err(Failure::usage(format!("`{text}` is a second one for its subnet")))
            }
            Some(config) => {
                put(config);
                Ok(())
            }
            None => Err(Failure::usage(format!("`{text}` needs a subnet that it is in")).hint("name it with --subnet")),
        }
    };
    for (key, all) in [("gateway", &args.gateways), ("ip_range", &args.ranges)] {
        for text in all {
            put(key, text, text, &|config| {
                config.insert(key.to_owned(), json!(text));
            })?;
        }
    }
    for text in &args.aux_addresses {
        let (host, address) = pair(text);
        put("aux_addresses", text, &address, &|config| {
            let aux = config.entry("aux_addresses").or_insert_with(|| json!({}));
            if let Value::Object(aux) = aux {
                aux.insert(host.clone(), json!(address));
            }
        })?;
    }
    let options: Map<String, Value> =
        args.options.iter().map(|option| pair(option)).map(|(k, v)| (k, json!(v))).collect();
    let mut network = json!({
        "driver": args.driver, "driver_opts": options, "internal": args.internal, "ipam": {"config": configs},
    });
    // What is not typed does not contradict a subnet.
    for (key, flag, usual) in [("enable_ipv4", args.ipv4, true), ("enable_ipv6", args.ipv6, false)] {
        if flag != usual {
            network[key] = json!(flag);
        }
    }
    let file = json!({
        "services": {"any": {"rootfs": "host", "command": ["any"], "networks": ["it"]}},
        "networks": {"it": network},
    });
    let internal = |e: &dyn std::error::Error| Failure::host("cannot write a file into memory").caused_by(e);
    let memory = rustix::fs::memfd_create("network", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| internal(&e))?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    std::fs::File::from(memory.try_clone().map_err(|e| internal(&e))?)
        .write_all(file.to_string().as_bytes())
        .map_err(|e| internal(&e))?;
    let options = LoadOptions {
        files: vec![path.into()],
        project_name: Some("network".to_owned()),
        directory: "/".into(),
        no_interpolate: true,
        ..LoadOptions::default()
    };
    let loaded = load(&options).map_err(|diagnostics| wrong(&diagnostics))?;
    let network = loaded.project.networks.into_iter().find(|(name, _)| name.as_str() == "it");
    network.map(|(_, network)| network).ok_or_else(|| Failure::internal("the network is not in its own file"))
}

/// Mistakes of what was typed, which has no places.
fn wrong(diagnostics: &Diagnostics) -> Failure {
    let mut all = diagnostics.iter();
    let first = all.next().map_or("the network cannot be made", |first| first.message.as_str());
    let mut failure = Failure::usage(first.replace(" of network `it`", "").replace("network `it`", "the network"));
    for hint in diagnostics.iter().flat_map(|diagnostic| &diagnostic.hints) {
        failure = failure.hint(hint);
    }
    let more: Vec<&str> = all.map(|diagnostic| diagnostic.message.as_str()).collect();
    if more.is_empty() { failure } else { failure.note("and", more) }
}
