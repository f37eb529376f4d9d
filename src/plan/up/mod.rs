//! Bringing a stack up: only what differs is touched, and each step says why.

mod causes;
mod check;
mod container;
mod hooks;
mod namespaces;
mod networks;
mod volumes;
mod waits;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use serde::Serialize;
use sha2::{Digest, Sha256};

use self::{
    hooks::{AfterHooks, BeforeStart},
    volumes::{is_anonymous, named_volumes},
};
use super::{
    Cause, IdMap, Operation, Plan, PlanError, Source, StepId,
    address::Addresses,
    down::{Manner, stop_and_remove},
    elsewhere,
    group::Groups,
    ids::IdRanges,
    limits, names,
    remove::unneeded,
    replicas, uplink,
};
use crate::model::{AddressPool, NetworkName, Observed, Project, ServiceName};

/// What is asked for beyond the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// The services to bring up, all replicas of each, with all they depend on; empty means all.
    pub services: BTreeSet<ServiceName>,
    /// Leave out what they depend on.
    pub no_dependencies: bool,
    /// When containers of those services are made anew.
    pub recreate: Recreate,
    /// The same for what they depend on.
    pub recreate_dependencies: Recreate,
    /// Containers that are made anew get new anonymous volumes, instead of those of the one before.
    pub renew_volumes: bool,
    /// Milliseconds that containers may take to stop that are replaced or removed, instead of what their file said.
    pub grace_ms: Option<u64>,
    /// Make containers and start none.
    pub no_start: bool,
    /// Services that the files have, whether somebody asks for them or not: their containers are no orphans.
    pub declared: BTreeSet<ServiceName>,
    /// Remove containers of services that the files do not have any more.
    pub remove_orphans: bool,
    /// Where subnets come from that nobody has chosen; empty is Docker's pools and the rest of 10.0.0.0/8.
    pub pools: Vec<AddressPool>,
    /// Wait until all of them are up.
    pub wait: bool,
    /// Milliseconds after which nothing is waited for any more; none leaves it to the services.
    pub wait_timeout_ms: Option<u64>,
}

impl Intent {
    /// Whether a service, or the one that it is a replica of, is asked for by name or along with all.
    pub fn asks_for(&self, name: &ServiceName) -> bool {
        asks_for(&self.services, name)
    }
}

fn asks_for(asked: &BTreeSet<ServiceName>, name: &ServiceName) -> bool {
    asked.is_empty() || asked.contains(name) || name.number() > 1 && asked.contains(&name.replica(1))
}

/// When a container that there is is made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recreate {
    /// When it differs from what the file says.
    #[default]
    Changed,
    /// In any case (`--force-recreate`, `--always-recreate-deps`).
    Always,
    /// Never (`--no-recreate`), unless it is on a network that is made anew or has to give up its address.
    Never,
}

/// Containers whose services the files do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Those that came from these files, which had their services once.
    pub gone: BTreeSet<ServiceName>,
    /// Those that came from other files too, with these: they may have their services still.
    pub elsewhere: BTreeMap<ServiceName, Vec<PathBuf>>,
}

/// The containers whose services the files do not have.
pub fn orphans(project: &Project, observed: &Observed, intent: &Intent) -> Orphans {
    let mut orphans = Orphans::default();
    for (name, container) in &observed.containers {
        // Replicas that are more than the file asks for are none: it has their service.
        let first = name.replica(1);
        let has = |name: &ServiceName| project.services.contains_key(name) || project.replicas.contains_key(name);
        // What runs before a container goes where that goes.
        if name.hook().is_some() || intent.declared.contains(&first) || has(&first) || has(name) {
            continue;
        }
        let others = container.origin.files.iter().filter(|file| !project.files.contains(file));
        let others: Vec<PathBuf> = others.cloned().collect();
        if others.is_empty() && !container.origin.files.is_empty() {
            orphans.gone.insert(name.clone());
        } else {
            orphans.elsewhere.insert(name.clone(), others);
        }
    }
    orphans
}

/// Compares what is wanted with what there is.
///
/// # Errors
/// When the file asks for what cannot be had here; nothing has been touched then.
pub fn up(project: &Project, observed: &Observed, intent: &Intent) -> Result<Plan, PlanError> {
    let expanded = replicas::expand(project.clone());
    let up = Up { jobs: waits::jobs(project), ..Up::new(&expanded, observed, intent)? };
    match replicas::left_behind(project, observed, &up.surplus) {
        Some(error) => Err(error),
        None => up.plan(),
    }
}

/// What a stack has on a network that stacks share: each service with its addresses, and the names it is found under.
pub type SharedPlaces = BTreeMap<NetworkName, BTreeMap<ServiceName, (Vec<IpAddr>, Vec<String>)>>;

/// What the stack will have on networks that stacks share, once [`up`] has been carried out.
///
/// # Errors
/// Those of [`up`].
pub fn shared_places(project: &Project, observed: &Observed, intent: &Intent) -> Result<SharedPlaces, PlanError> {
    let project = &replicas::expand(project.clone());
    let up = Up::new(project, observed, intent)?;
    let mut places = SharedPlaces::new();
    for (network, declared) in &project.networks {
        let Some(external) = &declared.external else { continue };
        for (name, service) in &project.services {
            // A service that shares somebody's network is found where that one is.
            let Source::Of(at) = &up.groups.sources(name).net else { continue };
            let addresses = up.addresses.of(at, network);
            if addresses.is_empty() {
                continue;
            }
            let mut names = vec![names::container_name(project, name), name.service().to_owned()];
            let aliases = service.networks.iter().filter(|on| on.network == *network).flat_map(|on| &on.aliases);
            names.extend(aliases.cloned());
            places.entry(external.clone()).or_default().insert(name.clone(), (addresses.to_vec(), names));
        }
    }
    // What the file does not have any more, and runs on, keeps its addresses.
    for (name, networks) in observed.addresses.iter().filter(|(name, _)| !up.gone.contains(*name)) {
        for (network, addresses) in networks {
            let there = observed.networks.get(network).and_then(|network| network.shared.clone());
            if let Some(external) = there.filter(|_| !addresses.is_empty()) {
                let of_it = places.entry(external).or_default();
                of_it.entry(name.clone()).or_insert_with(|| (addresses.clone(), vec![name.service().to_owned()]));
            }
        }
    }
    Ok(places)
}

/// What is to be touched, and why.
type Causes<'a> = BTreeMap<&'a ServiceName, Cause>;

struct Up<'a> {
    project: &'a Project,
    observed: &'a Observed,
    intent: &'a Intent,
    groups: Groups,
    addresses: Addresses,
    ids: BTreeMap<ServiceName, IdMap>,
    /// What is brought up, each after what it depends on.
    wanted: Vec<&'a ServiceName>,
    /// Replicas that there are and that nobody asks for any more, each with the reason.
    surplus: BTreeMap<&'a ServiceName, Cause>,
    /// Services that others wait for to end.
    jobs: BTreeSet<ServiceName>,
    /// Containers that stay as they are whatever the file says.
    kept: BTreeSet<&'a ServiceName>,
    /// Orphans that are removed.
    gone: BTreeSet<ServiceName>,
}

impl<'a> Up<'a> {
    fn new(project: &'a Project, observed: &'a Observed, intent: &'a Intent) -> Result<Self, PlanError> {
        if let Some(unknown) = intent
            .services
            .iter()
            .find(|name| !project.services.contains_key(name) && !project.replicas.contains_key(name))
        {
            return Err(PlanError::UnknownService(unknown.clone()));
        }
        let groups = Groups::of(project, &observed.host.containers);
        let wanted = in_order(project, &intent.services, intent.no_dependencies);
        elsewhere::check(project, observed, &groups, &wanted)?;
        let mut ranges = IdRanges::new(observed.host.ids, &project.name);
        let mut ids = BTreeMap::new();
        // One more replica takes nobody's ids, who has been there longer.
        let mut leaders: Vec<&ServiceName> =
            project.services.keys().filter(|name| groups.leader(name) == *name).collect();
        leaders.sort_by_key(|name| name.number());
        for name in leaders {
            let map = match (&groups.sources(name).user, elsewhere::users(project, observed, &groups, name)) {
                (Source::Host, _) => ranges.host(),
                (_, Some(other)) => IdMap { outside: other.ids.0, count: other.ids.1 },
                (_, None) => ranges.next(name),
            };
            ids.insert(name.clone(), map);
        }
        for name in &wanted {
            let in_host = groups.sources(name).user == Source::Host;
            check::service(observed, name, &project.services[*name], ids[groups.leader(name)], in_host)?;
            for (index, hook) in (0_u32..).zip(&project.services[*name].pre_start) {
                let service = hooks::as_service(&project.services[*name], hook);
                check::service(observed, &name.with_hook(index), &service, ids[groups.leader(name)], in_host)?;
            }
        }
        let unmet = {
            // All replicas of a service are alike.
            let first = wanted.iter().filter(|name| name.number() == 1);
            limits::unmet(&observed.host, first.map(|name| (*name, &project.services[*name])))
        };
        if !unmet.is_empty() {
            return Err(PlanError::Limits(unmet));
        }
        let on = |network: &NetworkName| {
            wanted.iter().any(|name| project.services[*name].networks.iter().any(|on| on.network == *network))
        };
        let addresses = Addresses::choose(project, observed, &intent.pools, on)?;
        let surplus = replicas::surplus(project, observed, intent, &wanted);
        let gone = if intent.remove_orphans { orphans(project, observed, intent).gone } else { BTreeSet::new() };
        let (jobs, kept) = (waits::jobs(project), BTreeSet::new());
        let mut up = Self { addresses, project, observed, intent, groups, ids, wanted, surplus, jobs, kept, gone };
        up.wanted = up.with_moved();
        up.kept = up.kept_as_they_are();
        Ok(up)
    }

    fn plan(&self) -> Result<Plan, PlanError> {
        let mut plan = Plan::default();
        let causes = self.causes();
        let mut waits = self.waits(&causes);
        let mut started: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
        let left = self.left_hooks(&causes);
        if causes.is_empty() && self.surplus.is_empty() && self.gone.is_empty() && left.is_empty() {
            self.wait_for_all(&mut plan, &waits, &started);
            return Ok(plan);
        }
        self.nobody_is_left_behind(&causes)?;
        self.namespaces_are_there(&causes)?;

        let replaced: BTreeSet<&ServiceName> = causes
            .keys()
            .copied()
            .filter(|name| self.is_replaced(name))
            .chain(self.surplus.keys().copied().filter(|name| self.observed.containers.contains_key(*name)))
            .chain(&self.gone)
            .chain(left.iter().copied())
            .collect();
        let orphaned = Cause::from("its service is not in the file any more");
        let cause_of = |name: &ServiceName| match name.hook() {
            Some(_) => Cause::from("it is left from before"),
            None => causes.get(name).or_else(|| self.surplus.get(name)).unwrap_or(&orphaned).clone(),
        };
        let removed = stop_and_remove(&mut plan, self.observed, &replaced, &self.manner(&replaced), cause_of);
        let all_removed: Vec<StepId> = removed.values().copied().collect();
        let mut unpinned: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
        let mut detached: BTreeMap<&NetworkName, Vec<StepId>> = BTreeMap::new();
        let gone: BTreeSet<&ServiceName> = self.gone.iter().chain(left).collect();
        for name in unneeded(self.observed, &gone) {
            let Some((name, _)) = self.observed.namespaces.get_key_value(name) else { continue };
            self.let_go(&mut plan, name, &orphaned, &all_removed, &mut detached);
        }
        if causes.is_empty() && self.surplus.is_empty() {
            self.wait_for_all(&mut plan, &waits, &started);
            return Ok(plan);
        }
        // Those that have ended and that nobody wants lose their place on a network that goes, and get another when they come.
        let ended = self.observed.namespaces.keys().filter(|name| !causes.contains_key(name) && self.is_moved(name));
        let differ = causes.keys().copied().filter(|name| self.namespaces_differ(name));
        for name in differ.chain(ended).chain(self.surplus.keys().copied()) {
            if self.observed.namespaces.contains_key(name) {
                let cause = match self.surplus.get(name) {
                    Some(cause) => cause.clone(),
                    None => Cause::of(self.namespaces_differences(name), "what the file asks of them has changed"),
                };
                let id = self.let_go(&mut plan, name, &cause, &all_removed, &mut detached);
                unpinned.insert(name, id);
            }
        }

        let removed_networks = self.remove_networks(&mut plan, detached, &all_removed);
        let networks = self.create_networks(&mut plan, &causes, &removed_networks);
        let volumes = self.create_volumes(&mut plan, &causes);
        let named = plan.add(
            Operation::SetNames(names::names(self.project, &self.groups, &self.addresses, &self.observed.host)),
            "containers find each other by them",
            [],
        );

        let limited = causes.keys().find(|name| !self.project.services[**name].limits.asks().is_empty());
        let group = limited
            .filter(|_| self.observed.host.cgroups.ask)
            .map(|name| plan.add(Operation::AskForGroup, format!("{name} has limits"), all_removed.iter().copied()));

        let wish = uplink::wish(
            self.project,
            self.observed,
            self.uplink_bridges(networks.keys().copied(), &removed_networks),
            fingerprint,
        );
        let after = networks.values().chain(removed_networks.values()).copied();
        let connected = wish.map(|wish| plan.add(Operation::Connect(wish), "networks lead out", after));

        let mut namespaces: BTreeMap<&ServiceName, Vec<StepId>> = BTreeMap::new();
        for name in self.owners_first(&causes) {
            if self.namespaces_differ(name) {
                let ids = self.create_namespaces(&mut plan, name, &namespaces, &networks, &unpinned);
                namespaces.insert(name, ids);
            }
        }
        let mut hooked: BTreeMap<&ServiceName, AfterHooks> = BTreeMap::new();
        for name in self.wanted.iter().copied().filter(|name| causes.contains_key(name)) {
            let mut needed = |plan: &mut Plan, name: &'a ServiceName| {
                let mut after: Vec<StepId> = vec![named];
                after.extend(group);
                after.extend(self.owners(name).filter_map(|owner| namespaces.get(owner)).flatten());
                let waited = self.wait_for_dependencies(plan, name, &mut waits, &started);
                let dependencies = self.project.services[name].dependencies();
                after.extend(dependencies.filter_map(|dependency| waited.get(dependency).or(started.get(dependency))));
                after.extend(removed.get(name));
                after.extend(connected);
                after.extend(named_volumes(&self.mounts(name)).filter_map(|volume| volumes.get(volume)));
                after
            };
            let mut spec = self.container(name);
            let after = if self.wants_hooks(&causes, name) {
                if !hooked.contains_key(name) {
                    // All replicas that are new at once: what is run for all of them comes before each.
                    let alike = self.wanted.iter().copied().filter(|other| other.is_replica_of(name));
                    let alike: Vec<&ServiceName> = alike.filter(|other| self.wants_hooks(&causes, other)).collect();
                    let before = BeforeStart {
                        containers: alike.into_iter().map(|name| (name, needed(&mut plan, name))).collect(),
                        removed: removed
                            .iter()
                            .filter(|(other, _)| other.is_replica_of(name))
                            .map(|(_, id)| *id)
                            .collect(),
                    };
                    hooked.extend(self.run_hooks(&mut plan, &causes, &before));
                }
                let hooks = hooked.remove(name).unwrap_or_default();
                hooks.mark(&mut spec);
                hooks.after
            } else {
                needed(&mut plan, name)
            };
            let operation = match self.intent.no_start {
                true => Operation::Create(Box::new(spec)),
                false => Operation::Start(Box::new(spec)),
            };
            started.insert(name, plan.add(operation, causes[name].clone(), after));
        }
        self.wait_for_all(&mut plan, &waits, &started);
        Ok(plan)
    }

    /// How containers that are replaced go: with what is in their anonymous volumes, unless the next one has none there.
    fn manner(&self, replaced: &BTreeSet<&ServiceName>) -> Manner {
        let has_volumes = |name: &&&ServiceName| {
            let service = self.project.services.get(**name);
            service.is_some_and(|service| service.mounts.iter().any(is_anonymous))
        };
        let keep = replaced.iter().filter(|_| !self.intent.renew_volumes).filter(has_volumes);
        Manner { grace_ms: self.intent.grace_ms, keep_volumes: keep.copied().cloned().collect() }
    }

    /// Lets go of the namespaces that a service owns; the step that is done then comes back.
    fn let_go(
        &self,
        plan: &mut Plan,
        name: &'a ServiceName,
        cause: &Cause,
        removed: &[StepId],
        detached: &mut BTreeMap<&'a NetworkName, Vec<StepId>>,
    ) -> StepId {
        // A namespace that nothing holds is taken down by the kernel in its own time, and until then the near end of
        // a cable keeps its name.
        let networks = self.observed.addresses.get(name).into_iter().flat_map(BTreeMap::keys);
        let mut cables: Vec<StepId> = Vec::new();
        for network in networks {
            let id = self.detach(plan, name, network, cause, removed);
            detached.entry(network).or_default().push(id);
            cables.push(id);
        }
        let after = removed.iter().copied().chain(cables);
        plan.add(Operation::RemoveNamespaces(name.clone()), cause.clone(), after)
    }
}

/// A digest of a value's JSON form: equal for equal values, in this version and the next.
fn fingerprint(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("plain data without maps of odd keys has a JSON form");
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The services asked for and all that they need, each after what it depends on, else in the order of names.
/// `alone` leaves out those that were not asked for.
fn in_order<'a>(project: &'a Project, asked: &BTreeSet<ServiceName>, alone: bool) -> Vec<&'a ServiceName> {
    fn visit<'a>(
        project: &'a Project,
        name: &'a ServiceName,
        seen: &mut BTreeSet<&'a ServiceName>,
        order: &mut Vec<&'a ServiceName>,
    ) {
        if !seen.insert(name) {
            return;
        }
        for dependency in project.services[name].dependencies() {
            visit(project, dependency, seen, order);
        }
        order.push(name);
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in project.services.keys().filter(|name| asks_for(asked, name)) {
        visit(project, name, &mut seen, &mut order);
    }
    order.retain(|name| !alone || asks_for(asked, name));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load::{LoadOptions, load},
        model::{Addressing, Network, ObservedNetwork, Record, SharedNetwork},
    };

    fn project(yaml: &str) -> Project {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("compose.yaml");
        std::fs::write(&file, format!("name: case\n{yaml}")).expect("written");
        let options = LoadOptions { files: vec![file], directory: folder.path().to_owned(), ..LoadOptions::default() };
        load(&options).unwrap_or_else(|e| panic!("{}", e.render(false))).project
    }

    /// Each network with the gateways that are the way out of service `a`.
    fn ways_out(yaml: &str, shared: &[&str]) -> Vec<(String, Vec<String>)> {
        let project = project(yaml);
        let name = |name: &str| name.parse().expect("a name");
        let network = Network {
            ipv4: Some(Addressing { subnet: Some("10.9.0.0/24".parse().expect("a subnet")), ..Addressing::default() }),
            ..Network::default()
        };
        let shared =
            shared.iter().map(|it| (name(it), SharedNetwork { network: network.clone(), taken: BTreeMap::new() }));
        let observed = Observed { shared: shared.collect(), ..Observed::default() };
        let intent = Intent::default();
        let up = Up::new(&project, &observed, &intent).unwrap_or_else(|e| panic!("{e}"));
        let service = "a".parse().expect("a name");
        let networks = project.services[&service].networks.iter().map(|attachment| &attachment.network);
        let gateways = |network| up.way_out(&service, network).iter().map(ToString::to_string).collect();
        networks.map(|network| (network.to_string(), gateways(network))).collect()
    }

    #[test]
    fn the_way_out_is_the_network_with_the_highest_priority_that_leads_out() {
        let yaml = |a: &str, more: &str| {
            format!(
                "services: {{a: {{rootfs: host, command: a, networks: {a}}}}}
networks:
  one: {{ipam: {{config: [{{subnet: 10.1.0.0/24}}]}}}}
  two: {{ipam: {{config: [{{subnet: 10.2.0.0/24}}, {{subnet: 'fd02::/64'}}]}}}}
  shut: {{internal: true}}
{more}"
            )
        };
        let out =
            |network: &str, gateways: &[&str]| (network.to_owned(), gateways.iter().map(|&g| g.to_owned()).collect());
        assert_eq!(
            ways_out(&yaml("[shut, one, two]", ""), &[]),
            [out("shut", &[]), out("one", &["10.1.0.1"]), out("two", &["fd02::1"])]
        );
        assert_eq!(
            ways_out(&yaml("{shut: {gw_priority: 9}, one: , two: {gw_priority: 1}}", ""), &[]),
            [out("shut", &[]), out("one", &[]), out("two", &["10.2.0.1", "fd02::1"])]
        );
        assert_eq!(
            ways_out(&yaml("{all: {gw_priority: 1}, one: }", "  all: {external: true}"), &["all"]),
            [out("all", &[]), out("one", &["10.1.0.1"])]
        );
    }

    #[test]
    fn what_runs_on_keeps_its_place_on_a_shared_network() {
        let project = project("services: {a: {rootfs: host, command: a}}");
        let mut observed = Observed::default();
        let (all, gone, address) =
            ("all".parse::<NetworkName>().expect("a name"), "gone", "10.9.0.7".parse().expect("an address"));
        let there = ObservedNetwork {
            subnets: Vec::new(),
            interface: String::new(),
            config: String::new(),
            record: Record::new(),
            shared: Some(all.clone()),
        };
        observed.networks.insert("it".parse().expect("a name"), there);
        let gone: ServiceName = gone.parse().expect("a name");
        observed.addresses.entry(gone.clone()).or_default().insert("it".parse().expect("a name"), vec![address]);
        let places = shared_places(&project, &observed, &Intent::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(places[&all][&gone].0, [address]);
    }
}
