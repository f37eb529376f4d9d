//! The namespaces that services have.

use std::collections::{BTreeMap, BTreeSet};

use super::{Causes, Up, fingerprint};
use crate::{
    model::{NetworkName, ServiceName},
    plan::{NamespaceSet, Operation, Plan, Shared, Source, StepId, UserNamespace, elsewhere, names},
};

impl<'a> Up<'a> {
    /// Owners of user namespaces before those who live in them.
    pub(super) fn owners_first(&self, causes: &Causes<'a>) -> Vec<&'a ServiceName> {
        let is_owner = |name: &&ServiceName| self.groups.sources(name).user == Source::Of((*name).clone());
        let needed = causes.keys().copied();
        // The one that stands for a group may not be wanted itself; its user namespace is.
        let leaders = needed.clone().filter_map(|name| match &self.groups.sources(name).user {
            Source::Of(leader) => Some(leader),
            Source::New | Source::Host => None,
        });
        let leaders: BTreeSet<&ServiceName> = leaders.collect();
        // Neither may whoever has another namespace that somebody shares, where nothing is brought up but what was asked for.
        let others = needed.clone().flat_map(|name| self.owners(name));
        let others =
            others.filter(|owner| !causes.contains_key(*owner) && !self.observed.namespaces.contains_key(*owner));
        let others: BTreeSet<&ServiceName> = others.collect();
        let rest = self.project.services.keys().filter(|name| others.contains(name));
        let rest = needed.chain(rest).filter(|name| !is_owner(name));
        let leaders = self.project.services.keys().filter(|name| leaders.contains(name));
        leaders.chain(rest).collect()
    }

    /// The namespaces that a service owns, and its links; all steps that a container has to wait for come back.
    pub(super) fn create_namespaces(
        &self,
        plan: &mut Plan,
        name: &'a ServiceName,
        namespaces: &BTreeMap<&ServiceName, Vec<StepId>>,
        networks: &BTreeMap<&NetworkName, StepId>,
        unpinned: &BTreeMap<&ServiceName, StepId>,
    ) -> Vec<StepId> {
        let mut set = self.namespace_set(name);
        set.fingerprint = self.namespaces_fingerprint(name);
        let mut after: Vec<StepId> = unpinned.get(name).copied().into_iter().collect();
        if let UserNamespace::Of(owner) = &set.user {
            after.extend(namespaces.get(owner).and_then(|ids| ids.first()));
        }
        let has_net = set.net;
        let made =
            plan.add(Operation::CreateNamespaces(set), "a service has its own unless the file says otherwise", after);
        let mut ids = vec![made];
        if has_net {
            for link in self.links(name) {
                let after = networks.get(&link.network).copied().into_iter().chain([made]);
                ids.push(plan.add(Operation::Attach(link), "the file puts it on this network", after));
            }
        }
        ids
    }

    pub(super) fn namespace_set(&self, name: &ServiceName) -> NamespaceSet {
        let sources = self.groups.sources(name);
        let elsewhere = elsewhere::namespaces(self.project, self.observed, name);
        let own = |source: &Source, kind| *source == Source::Of(name.clone()) && !elsewhere.contains_key(&kind);
        let has_name = own(&sources.uts, Shared::Uts);
        NamespaceSet {
            service: name.clone(),
            user: match &sources.user {
                Source::Of(leader) if leader == name => {
                    let users = elsewhere::user_namespace(self.project, self.observed, &self.groups, name);
                    users.map_or(UserNamespace::Create(self.ids[name]), UserNamespace::Elsewhere)
                }
                Source::Of(leader) => UserNamespace::Of(leader.clone()),
                Source::New | Source::Host => UserNamespace::Host,
            },
            net: own(&sources.net, Shared::Net),
            resolver: own(&sources.net, Shared::Net) && !self.project.services[name].networks.is_empty(),
            ipc: own(&sources.ipc, Shared::Ipc),
            hostname: has_name.then(|| names::hostname(self.project, name)),
            domainname: self.project.services[name].domainname.clone().filter(|_| has_name),
            shm_size: self.project.services[name].files.shm_size.filter(|_| own(&sources.ipc, Shared::Ipc)),
            pid: own(&sources.pid, Shared::Pid),
            elsewhere,
            sysctls: self.project.services[name].process.sysctls.clone(),
            fingerprint: String::new(),
        }
    }

    pub(super) fn namespaces_fingerprint(&self, name: &ServiceName) -> String {
        let lasting = |name: &ServiceName| {
            let mut set = self.namespace_set(name);
            // By which process those of other stacks are had makes no difference.
            set.elsewhere.values_mut().for_each(|foreign| *foreign = foreign.lasting());
            if let UserNamespace::Elsewhere(foreign) = &mut set.user {
                *foreign = foreign.lasting();
            }
            set
        };
        let own = |name: &ServiceName| (lasting(name), self.links(name));
        // With the user namespace of the group all others have to be made anew: they belong to it (user_namespaces(7)).
        match self.groups.leader(name) {
            leader if leader == name => fingerprint(&own(name)),
            leader => fingerprint(&(own(name), own(leader))),
        }
    }
}
