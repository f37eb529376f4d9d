//! A part of a project: some services, what they depend on, and what these use.

use std::collections::BTreeSet;

use super::{Named, Project, Service};

impl Project {
    /// Keeps the services of those names, with all that they depend on, and of networks, volumes and the rest what these
    /// use.
    pub fn keep_only(&mut self, names: &[String]) {
        let Some(services) = &mut self.services else { return };
        let mut kept = BTreeSet::new();
        let mut next: Vec<String> = names.to_vec();
        while let Some(name) = next.pop() {
            if let Some(service) = services.0.get(&name)
                && kept.insert(name)
            {
                next.extend(service.lifecycle.depends_on.iter().flat_map(|depends_on| depends_on.0.0.keys().cloned()));
            }
        }
        services.0.retain(|name, _| kept.contains(name));
        let mut used = Used::default();
        services.0.values().for_each(|service| used.add(service));
        retain(&mut self.networks, &used.networks);
        retain(&mut self.volumes, &used.volumes);
        retain(&mut self.secrets, &used.secrets);
        retain(&mut self.configs, &used.configs);
        retain(&mut self.models, &used.models);
    }
}

fn retain<T>(all: &mut Option<Named<T>>, used: &BTreeSet<String>) {
    if let Some(named) = all {
        named.0.retain(|name, _| used.contains(name));
        if named.0.is_empty() {
            *all = None;
        }
    }
}

/// Names that services use.
#[derive(Default)]
struct Used {
    networks: BTreeSet<String>,
    volumes: BTreeSet<String>,
    secrets: BTreeSet<String>,
    configs: BTreeSet<String>,
    models: BTreeSet<String>,
}

impl Used {
    fn add(&mut self, service: &Service) {
        let networks = service.networking.networks.iter().flat_map(|networks| networks.0.0.keys());
        self.networks.extend(networks.cloned());
        for mount in service.storage.volumes.iter().flat_map(|volumes| &volumes.0) {
            self.volumes.extend(mount.source.as_ref().map(|source| source.0.clone()));
        }
        let build = service.program.build.iter().flat_map(|build| &build.secrets).flat_map(|grants| &grants.0);
        for grant in service.storage.secrets.iter().flat_map(|grants| &grants.0).chain(build) {
            self.secrets.extend(grant.source.as_ref().map(|source| source.0.clone()));
        }
        for grant in service.storage.configs.iter().flat_map(|grants| &grants.0) {
            self.configs.extend(grant.source.as_ref().map(|source| source.0.clone()));
        }
        if let Some(config) = service.security.credential_spec.as_ref().and_then(|spec| spec.config.as_ref()) {
            self.configs.insert(config.0.clone());
        }
        self.models.extend(service.security.models.iter().flat_map(|models| models.0.0.keys().cloned()));
    }
}
