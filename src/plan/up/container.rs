//! Containers: all that one is made of.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Up, check, fingerprint, named_volumes};
use crate::{
    model::{
        Condition, Family, Invoker, NamespaceMode, NetworkAttachment, NetworkName, Origin, Port, Privileges, Record,
        Rootfs, Service, ServiceName, UserSpec,
    },
    plan::{ContainerSpec, FileSystem, Source, limits, names, record, uplink},
};

impl<'a> Up<'a> {
    pub(super) fn container(&self, name: &ServiceName) -> ContainerSpec {
        let service = &self.project.services[name];
        let sources = self.groups.sources(name);
        let mut mounts = self.mounts(name);
        // What lies below another mount has to come after it, or it would be hidden.
        mounts.sort_by_key(|mount| mount.target.components().count());
        let target = match &sources.net {
            Source::Of(owner) => self.target(owner),
            Source::New | Source::Host => None,
        };
        let (address, address_on) = target.unzip();
        let address_v6 = match &sources.net {
            Source::Of(owner) => self.target_of(owner, Family::V6),
            Source::New | Source::Host => None,
        };
        let address_v6 = address_v6.and_then(|(address, _)| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        });
        ContainerSpec {
            service: name.clone(),
            name: names::container_name(self.project, name),
            hostname: self.hostname(name),
            argv: service.argv(),
            environment: service.environment.clone(),
            unset: service.unset.clone(),
            working_dir: service.working_dir.clone().unwrap_or_else(|| "/".into()),
            user: service.user.clone(),
            files: FileSystem {
                rootfs: service.rootfs.clone(),
                volumes_image: None,
                read_only: service.read_only,
                volumes: named_volumes(&mounts)
                    .map(|volume| (volume.clone(), self.project.volumes.get(volume).cloned().unwrap_or_default()))
                    .collect(),
                devices: service.files.devices.clone(),
                mounts,
                shm: service.ipc != NamespaceMode::None,
                private_ipc: service.private_ipc,
                hosts_besides: names::besides_the_hosts(service),
                names_of: match &sources.net {
                    Source::Of(owner) => Some(owner.clone()),
                    Source::New | Source::Host => None,
                },
                hosts_elsewhere: match &sources.net {
                    Source::Of(owner) => self.project.services[owner].network_mode.container().is_some(),
                    Source::New | Source::Host => false,
                },
            },
            ids: self.ids[self.groups.leader(name)],
            // Without a user namespace of the container's there is none that another could be below.
            invoker: self.as_invoker(service.user.as_ref()).filter(|_| sources.user != Source::Host),
            namespaces: sources.clone(),
            init: service.init,
            process: service.process.clone(),
            privileges: Privileges {
                // Without AppArmor everything is unconfined.
                apparmor: service.privileges.apparmor.clone().filter(|_| self.observed.host.modules.apparmor),
                ..service.privileges.clone()
            },
            limits: service.limits.clone(),
            devices: limits::devices(&self.observed.host, service),
            ports: self.ports(name),
            address,
            address_on,
            address_v6,
            stop_signal: service.stop_signal.unwrap_or_default(),
            stop_grace_ms: u64::try_from(service.stop_grace_period.as_millis()).unwrap_or(u64::MAX),
            logging: service.logging.settings(
                service,
                &names::container_name(self.project, name),
                self.own_labels(name),
            ),
            life: service.life.policy(),
            dependencies: service.dependencies().cloned().collect(),
            depends_on: service.depends_on.clone(),
            hooks: service.hooks.clone(),
            config: self.config(name),
            origin: self.origin(name),
        }
    }

    /// The labels that Docker Compose gives to a container (docker/compose, `pkg/api/labels.go`), for programs that read logs.
    /// There are neither its version nor its hash of the configuration here.
    fn own_labels(&self, name: &ServiceName) -> BTreeMap<String, String> {
        let files: Vec<String> = self.project.files.iter().map(|file| file.display().to_string()).collect();
        let service = &self.project.services[name];
        let depends_on = service.depends_on.iter().filter(|on| on.service.number() == 1).map(|on| {
            let condition = match on.condition {
                Condition::Started => "service_started",
                Condition::Healthy => "service_healthy",
                Condition::Completed => "service_completed_successfully",
            };
            format!("{}:{condition}:{}", on.service, on.restart)
        });
        let mut labels = vec![
            ("project", self.project.name.to_string()),
            ("service", name.service().to_owned()),
            ("container-number", name.number().to_string()),
            ("oneoff", "False".to_owned()),
            ("project.working_dir", self.project.directory.display().to_string()),
            ("project.config_files", files.join(",")),
            ("depends_on", depends_on.collect::<Vec<_>>().join(",")),
        ];
        if let Rootfs::Layers(image) = &service.rootfs {
            labels.push(("image", format!("sha256:{}", image.id.hex())));
        }
        labels.into_iter().map(|(label, value)| (format!("com.docker.compose.{label}"), value)).collect()
    }

    /// What the fingerprint is made of, in the words of the file.
    pub(super) fn origin(&self, name: &ServiceName) -> Origin {
        let service = &self.project.services[name];
        let mut record = Record::new();
        record::service(&mut record, name, service);
        for volume in named_volumes(&service.mounts) {
            if let Some(kind) = self.project.volumes.get(volume) {
                record::volume(&mut record, volume, kind);
            }
        }
        for from in &service.files.volumes_from {
            self.lent(&from.service).iter().for_each(|mount| record::mount_of(&mut record, &from.service, mount));
        }
        Origin { files: self.project.files.clone(), record }
    }

    pub(super) fn config(&self, name: &ServiceName) -> String {
        // Who was started before it, and how far, makes it no other container: with one replica more of what it depends on it runs on.
        let service = &Service { depends_on: Vec::new(), ..self.project.services[name].clone() };
        let volumes: Vec<_> = named_volumes(&service.mounts).map(|volume| self.project.volumes.get(volume)).collect();
        let others: Vec<_> = service.files.volumes_from.iter().map(|from| self.lent(&from.service)).collect();
        fingerprint(&(service, volumes, others, self.as_invoker(service.user.as_ref())))
    }

    /// The ports of a service; what names no address of the host is at that which its first network says.
    pub(super) fn ports(&self, name: &ServiceName) -> Vec<Port> {
        let service = &self.project.services[name];
        let first = service.networks.first().map(|attachment| self.network(&attachment.network));
        let binding = first.and_then(|network| network.bridge.host_binding);
        let ports = service.ports.iter().cloned();
        ports.map(|port| Port { host_ip: port.host_ip.or(binding.map(IpAddr::V4)), ..port }).collect()
    }

    /// Where published ports of whoever is in the network namespace of this service lead to: an address on the network that is
    /// its way out, since answers go there, or on the first of the stack's own, since the stack itself is on those. That of IPv4, if there is
    /// one.
    pub(super) fn target(&self, owner: &ServiceName) -> Option<(IpAddr, NetworkName)> {
        let target = self.target_of(owner, Family::V4).or_else(|| self.target_of(owner, Family::V6));
        target.or_else(|| {
            let own = |attachment: &&NetworkAttachment| self.project.networks[&attachment.network].external.is_none();
            let networks = &self.project.services[owner].networks;
            let network = &networks.iter().find(own).or_else(|| networks.first())?.network;
            Some((*self.addresses.of(owner, network).first()?, network.clone()))
        })
    }

    /// The address of a service on the network that is its way out for this family.
    fn target_of(&self, owner: &ServiceName, family: Family) -> Option<(IpAddr, NetworkName)> {
        let (network, _) = uplink::way_out(self.project, &self.addresses, owner, family)?;
        let address = self.addresses.of(owner, network).iter().find(|address| Family::of(**address) == family)?;
        Some((*address, network.clone()))
    }

    /// The host name that a service sees, as far as it is known.
    pub(super) fn hostname(&self, name: &ServiceName) -> String {
        let host = &self.observed.host;
        match &self.groups.sources(name).uts {
            Source::Host if !host.name.is_empty() => host.name.clone(),
            Source::Host | Source::New => names::hostname(self.project, name),
            Source::Of(owner) => {
                let other = self.project.services[owner].uts.container();
                let other = other.and_then(|other| host.containers.get(other.as_str()));
                other.map_or_else(|| names::hostname(self.project, owner), |other| other.hostname.clone())
            }
        }
    }

    pub(super) fn as_invoker(&self, user: Option<&UserSpec>) -> Option<Invoker> {
        check::as_invoker(self.observed, user)
    }
}
