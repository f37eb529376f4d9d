//! Bridges, cables, and the way out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Causes, Up, fingerprint};
use crate::{
    model::{Family, HOST_GATEWAY, Network, NetworkName, Record, ServiceName},
    plan::{
        Bridge, BridgeRemoval, Cable, Cause, Link, Operation, Plan, Route, StepId, UplinkBridge, address, record,
        uplink,
    },
};

impl<'a> Up<'a> {
    pub(super) fn create_networks(
        &self,
        plan: &mut Plan,
        causes: &Causes<'a>,
        removed: &BTreeMap<&'a NetworkName, StepId>,
    ) -> BTreeMap<&'a NetworkName, StepId> {
        let mut made = BTreeMap::new();
        for network in self.project.networks.keys() {
            let on_it =
                |name: &&&ServiceName| self.project.services[**name].networks.iter().any(|a| a.network == *network);
            let Some(first) = causes.keys().find(on_it) else { continue };
            let gone = removed.get(network);
            if self.observed.networks.contains_key(network) && gone.is_none() {
                continue;
            }
            let (bridge, after) = (self.bridge(network), gone.copied());
            made.insert(network, plan.add(Operation::CreateNetwork(bridge), format!("{first} is on it"), after));
        }
        made
    }

    /// Removes the bridges that have to be made anew, each after all that is connected to it.
    pub(super) fn remove_networks(
        &self,
        plan: &mut Plan,
        mut detached: BTreeMap<&'a NetworkName, Vec<StepId>>,
        removed: &[StepId],
    ) -> BTreeMap<&'a NetworkName, StepId> {
        let mut gone = BTreeMap::new();
        for network in self.observed.networks.keys().filter(|network| self.network_changes(network)) {
            let cause = Cause::of(self.network_differences(network), "what the file says of it has changed");
            let mut after = detached.remove(network).unwrap_or_default();
            // Services that the file does not have any more, and that run on.
            for (service, networks) in &self.observed.addresses {
                let stays = !self.surplus.contains_key(service) && !self.gone.contains(service);
                let runs_on = !self.project.services.contains_key(service) && stays;
                if runs_on && networks.contains_key(network) {
                    after.push(self.detach(plan, service, network, &cause, removed));
                }
            }
            let removal = BridgeRemoval { network: network.clone() };
            gone.insert(network, plan.add(Operation::RemoveNetwork(removal), cause, after));
        }
        gone
    }

    pub(super) fn detach(
        &self,
        plan: &mut Plan,
        service: &ServiceName,
        network: &NetworkName,
        cause: &Cause,
        after: &[StepId],
    ) -> StepId {
        let bridge_end = self.link_name(service, network);
        let cable = Cable { service: service.clone(), network: network.clone(), bridge_end };
        plan.add(Operation::Detach(cable), cause.clone(), after.iter().copied())
    }

    pub(super) fn bridge(&self, network: &NetworkName) -> Bridge {
        let said = &self.project.networks[network];
        let what = address::definition(said, self.observed);
        let mut bridge = Bridge {
            network: network.clone(),
            shared: said.external.clone(),
            interface: what.bridge.name.clone().unwrap_or_else(|| {
                let name = said.external.as_ref().unwrap_or(network);
                address::interface_name(name.as_str(), name.as_str())
            }),
            gateways: self.addresses.gateways(network),
            internal: what.internal,
            masquerade: what.bridge.masquerade,
            mtu: self.mtu(network),
            config: String::new(),
            record: Record::new(),
        };
        bridge.config = fingerprint(&(&bridge, what.bridge.icc));
        bridge.record = record::network(&bridge, what.bridge.icc);
        bridge
    }

    /// The bridges in the stack's own namespace once these networks have been made and those have gone. Networks that the
    /// file does not have any more lead nowhere.
    pub(super) fn uplink_bridges(
        &self,
        made: impl Iterator<Item = &'a NetworkName>,
        gone: &BTreeMap<&NetworkName, StepId>,
    ) -> Vec<UplinkBridge> {
        let stay = self.observed.networks.keys().filter(|network| !gone.contains_key(network));
        let all: BTreeSet<&NetworkName> = stay.chain(made).collect();
        let bridges = all.into_iter().filter_map(|network| match self.project.networks.get(network) {
            Some(said) if said.external.is_some() => None,
            Some(_) => {
                let Bridge { interface, config, .. } = self.bridge(network);
                Some(UplinkBridge { interface, leads_out: uplink::leads_out(self.project, network), config })
            }
            None => {
                let there = self.observed.networks.get(network).filter(|there| there.shared.is_none())?;
                let (interface, config) = (there.interface.clone(), there.config.clone());
                Some(UplinkBridge { interface, leads_out: false, config })
            }
        });
        bridges.collect()
    }

    pub(super) fn network(&self, network: &NetworkName) -> &Network {
        address::definition(&self.project.networks[network], self.observed)
    }

    pub(super) fn links(&self, name: &ServiceName) -> Vec<Link> {
        let attachments = &self.project.services[name].networks;
        let chosen: BTreeSet<&str> =
            attachments.iter().filter_map(|attachment| attachment.interface.as_deref()).collect();
        let mut given: BTreeSet<String> = BTreeSet::new();
        let mut links = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            let network = &attachment.network;
            let addresses = self.addresses.nets_of(name, network);
            if addresses.is_empty() {
                continue;
            }
            let what = self.network(network);
            let interface = attachment.interface.clone().unwrap_or_else(|| {
                let prefix = what.bridge.interface_prefix.as_deref().unwrap_or("eth");
                let names = (0_u32..).map(|number| format!("{prefix}{number}"));
                let mut free = names.filter(|name| !chosen.contains(name.as_str()) && !given.contains(name));
                free.next().unwrap_or_default()
            });
            given.insert(interface.clone());
            let bridge = self.bridge(network);
            links.push(Link {
                service: name.clone(),
                network: network.clone(),
                bridge: bridge.interface,
                bridge_end: self.link_name(name, network),
                sysctls: attachment
                    .sysctls
                    .iter()
                    .map(|(name, value)| (name.replace("/IFNAME/", &format!("/{interface}/")), value.clone()))
                    .collect(),
                interface,
                addresses,
                link_local: attachment.link_local.iter().map(|address| link_local_net(*address)).collect(),
                routes: self.routes(name, network),
                default_gateways: self.default_gateways(name, network),
                mac: attachment.mac,
                mtu: self.mtu(network),
                isolated: !what.bridge.icc,
                bridge_config: bridge.config,
            });
        }
        links
    }

    /// The gateways of this network that are the way out of a service.
    pub(super) fn way_out(&self, name: &ServiceName, network: &NetworkName) -> Vec<IpAddr> {
        let families = [Family::V4, Family::V6].into_iter();
        let ways = families.filter_map(|family| uplink::way_out(self.project, &self.addresses, name, family));
        ways.filter(|(on, _)| *on == network).map(|(_, gateway)| gateway).collect()
    }

    /// Where a service sends what is not for its networks. Without a way out there is none: what lies outside is unreachable
    /// at once then, and not waited for. IPv6 that the host does not have is refused by the stack's own namespace, so that it need not be known
    /// here whether the host has it just now.
    pub(super) fn default_gateways(&self, name: &ServiceName, network: &NetworkName) -> Vec<IpAddr> {
        if self.observed.host.uplink.is_there() { self.way_out(name, network) } else { Vec::new() }
    }

    /// The address of the host is one that services with an address of the same kind, on whatever network, would look for there.
    fn routes(&self, name: &ServiceName, network: &NetworkName) -> Vec<Route> {
        let attachments = &self.project.services[name].networks;
        let mut link_local = attachments.iter().flat_map(|attachment| &attachment.link_local);
        if !link_local.any(IpAddr::is_ipv4) {
            return Vec::new();
        }
        let gateways = self.default_gateways(name, network).into_iter();
        gateways.filter(IpAddr::is_ipv4).map(|via| Route { to: HOST_GATEWAY.into(), via }).collect()
    }

    /// The largest packet on a network: what the file says, or what suits the uplink; none leaves it to the kernel.
    pub(super) fn mtu(&self, network: &NetworkName) -> Option<u32> {
        self.network(network).bridge.mtu.or_else(|| uplink::mtu(self.project, &self.observed.host, network))
    }

    pub(super) fn link_name(&self, service: &ServiceName, network: &NetworkName) -> String {
        // Cables of several stacks meet on a bridge that they share.
        address::interface_name(service.service(), &format!("{}/{service}/{network}", self.project.name))
    }
}

/// A link-local address with the prefix of all of its kind (RFC 3927, RFC 4291).
fn link_local_net(address: IpAddr) -> IpNet {
    IpNet::new(address, if address.is_ipv4() { 16 } else { 64 }).unwrap_or_else(|_| address.into())
}
