//! What comes of a service and its image: the service's own keys go before what the image says.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::Image;
use crate::model::{Mount, MountSource, MountedImage, PreStart, Project, Rootfs, Service, ServiceName, VolumeMount};

/// An image that says nothing of what to run, for a service that does not either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("service `{service}` has no command, and neither has its image `{image}`")]
pub struct NoCommand {
    /// The service.
    pub service: ServiceName,
    /// What its image is called.
    pub image: String,
}

impl Project {
    /// The project with these images in place of what its services asked for. A service that is not among them stays as it
    /// is.
    ///
    /// # Errors
    /// When there is nothing to run in one of them.
    pub fn on_images(mut self, images: &BTreeMap<ServiceName, Image>) -> Result<Self, NoCommand> {
        for (name, image) in images {
            let Some(service) = self.services.get_mut(name) else { continue };
            service.put_on(image);
            if service.argv().is_empty() {
                return Err(NoCommand { service: name.clone(), image: image.name.clone() });
            }
        }
        Ok(self)
    }

    /// The project with this image in place of the one that each of these commands of `pre_start` asked for, by their places.
    #[must_use]
    pub fn with_image_of_hooks(mut self, image: &Image, hooks: &[(ServiceName, usize)]) -> Self {
        for (service, index) in hooks {
            if let Some(hook) = self.services.get_mut(service).and_then(|service| service.pre_start.get_mut(*index)) {
                hook.put_on(image);
            }
        }
        self
    }

    /// The project with this image in place of the one that is asked for at each of these places.
    #[must_use]
    pub fn with_image_at(mut self, image: &Image, places: &[(ServiceName, PathBuf)]) -> Self {
        for (service, target) in places {
            let mounts = self.services.get_mut(service).into_iter().flat_map(|service| &mut service.mounts);
            for mount in mounts.filter(|mount| mount.target == *target) {
                if let MountSource::Image(mounted) = &mut mount.source {
                    mounted.image = MountedImage::Here(Box::new(image.clone()));
                }
            }
        }
        self
    }
}

impl Service {
    /// The command line.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).flatten().cloned().collect()
    }

    /// As Docker merges the two (Compose Specification, `entrypoint` and `command`; moby, `daemon/commit.go`, `merge`).
    fn put_on(&mut self, image: &Image) {
        let config = &image.config;
        // An entrypoint of the file hides the image's command too, which are arguments for another program.
        if self.command.is_none() && self.entrypoint.as_ref().is_none_or(Vec::is_empty) {
            self.command = Some(config.command.clone());
        }
        self.entrypoint.get_or_insert_with(|| config.entrypoint.clone());
        for (name, value) in config.environment.iter().filter(|(name, _)| !self.unset.contains(*name)) {
            self.environment.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.working_dir = self.working_dir.take().or_else(|| config.working_dir.clone());
        self.user = self.user.take().or_else(|| config.user.clone());
        self.stop_signal = self.stop_signal.or(config.stop_signal);
        if let Some(health) = &config.healthcheck {
            self.life.health.put_on(health);
        }
        self.life.shell.clone_from(&config.shell);
        // One on the root would hide the whole image, and what leads up may lead there.
        for target in config.volumes.iter().filter(|target| is_mountable(target)) {
            if !self.mounts.iter().any(|mount| mount.target == *target) {
                let source = MountSource::Volume(VolumeMount::anonymous());
                self.mounts.push(Mount { target: target.clone(), source });
            }
        }
        self.rootfs = Rootfs::Layers(Box::new(image.clone()));
    }
}

impl PreStart {
    /// The command line.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.run.command).cloned().collect()
    }

    /// As in Docker Compose, the image's entrypoint gets the command as its arguments (`pkg/compose/pre_start.go`). A volume of
    /// its image that the service has none at would be gone with it, and so is what it writes there.
    fn put_on(&mut self, image: &Image) {
        let config = &image.config;
        self.entrypoint.clone_from(&config.entrypoint);
        for (name, value) in &config.environment {
            self.run.environment.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.run.working_dir = self.run.working_dir.take().or_else(|| config.working_dir.clone());
        self.run.user = self.run.user.take().or_else(|| config.user.clone());
        self.rootfs = Rootfs::Layers(Box::new(image.clone()));
    }
}

/// Whether a volume of an image can be one: not on the root, and nothing that leads up.
fn is_mountable(target: &Path) -> bool {
    let mut below = false;
    for part in target.components() {
        match part {
            Component::Normal(_) => below = true,
            Component::ParentDir => return false,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, ImageConfig, ImageRequest, NamespaceMode, PullPolicy, StopSignal};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image() -> Image {
        Image {
            name: "app:latest".to_owned(),
            id: Digest::of(b"config"),
            layers: vec![Digest::of(b"layer")],
            config: ImageConfig {
                entrypoint: words("/entry --flag"),
                command: words("serve"),
                environment: [("PATH", "/bin"), ("A", "image")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                working_dir: Some("/srv".into()),
                user: Some("app".parse().expect("user")),
                volumes: vec!["/data".into(), "/cache".into()],
                stop_signal: Some(StopSignal::KILL),
                ..ImageConfig::default()
            },
        }
    }

    fn service(entrypoint: Option<&str>, command: Option<&str>) -> Service {
        let request =
            ImageRequest { source: "app".parse().expect("name"), platform: None, pull_policy: PullPolicy::default() };
        Service {
            rootfs: Rootfs::Image(request),
            entrypoint: entrypoint.map(words),
            command: command.map(words),
            environment: [("A".to_owned(), "file".to_owned())].into(),
            unset: Default::default(),
            working_dir: None,
            user: None,
            container_name: None,
            hostname: None,
            domainname: None,
            mounts: vec![Mount {
                target: "/data".into(),
                source: MountSource::Tmpfs(crate::model::TmpfsMount::default()),
            }],
            depends_on: Vec::new(),
            networks: Vec::new(),
            names: crate::model::NameSettings::default(),
            ports: Vec::new(),
            network_mode: NamespaceMode::Private,
            ipc: NamespaceMode::Private,
            private_ipc: false,
            pid: NamespaceMode::Private,
            uts: NamespaceMode::Private,
            userns_mode: NamespaceMode::Private,
            cgroup: NamespaceMode::Private,
            init: false,
            read_only: false,
            files: crate::model::Files::default(),
            process: crate::model::ProcessOptions::default(),
            privileges: crate::model::Privileges::default(),
            limits: crate::model::Limits::default(),
            logging: crate::model::Logging::default(),
            stop_signal: None,
            stop_grace_period: Service::DEFAULT_STOP_GRACE_PERIOD,
            hooks: crate::model::Hooks::default(),
            pre_start: Vec::new(),
            life: crate::model::LifeSettings::default(),
        }
    }

    #[test]
    fn the_command_line_is_that_of_docker() {
        for (entrypoint, command, expected) in [
            (None, None, "/entry --flag serve"),
            (None, Some("other"), "/entry --flag other"),
            (Some("/mine"), None, "/mine"),
            (Some("/mine"), Some("arg"), "/mine arg"),
            (Some(""), None, "serve"),
            (Some(""), Some("arg"), "arg"),
            (None, Some(""), "/entry --flag"),
        ] {
            let mut service = service(entrypoint, command);
            service.put_on(&image());
            assert_eq!(service.argv(), words(expected), "entrypoint {entrypoint:?}, command {command:?}");
        }
    }

    #[test]
    fn volumes_on_the_root_and_upwards_are_left_out() {
        let mut image = image();
        let said = ["/", "//", "/.", "/..", "/../etc", "/a/../b", "/a/..", "/a/./b", "/a..b"];
        image.config.volumes = said.map(Into::into).into();
        let mut service = service(None, None);
        service.put_on(&image);
        let targets: Vec<&str> = service.mounts.iter().filter_map(|mount| mount.target.to_str()).collect();
        assert_eq!(targets, ["/data", "/a/./b", "/a..b"]);
    }

    #[test]
    fn a_name_without_a_value_takes_the_variable_of_the_image_away() {
        let unset = ["PATH".to_owned()].into();
        let mut service = Service { environment: BTreeMap::new(), unset, ..service(None, None) };
        service.put_on(&image());
        assert_eq!(service.environment, [("A".to_owned(), "image".to_owned())].into());
    }

    #[test]
    fn what_the_file_says_goes_before_the_image() {
        let mut plain = service(None, None);
        plain.put_on(&image());
        assert_eq!(plain.environment["A"], "file");
        assert_eq!(plain.environment["PATH"], "/bin");
        assert_eq!(plain.working_dir.as_deref(), Some(std::path::Path::new("/srv")));
        assert_eq!(plain.user.as_ref().map(ToString::to_string).as_deref(), Some("app"));
        assert_eq!(plain.stop_signal, Some(StopSignal::KILL));
        let targets: Vec<&str> = plain.mounts.iter().filter_map(|mount| mount.target.to_str()).collect();
        assert_eq!(targets, ["/data", "/cache"]);
        assert!(matches!(plain.mounts[0].source, MountSource::Tmpfs(_)), "what the file mounts there stays");

        let said = Service {
            working_dir: Some("/own".into()),
            user: Some("0".parse().expect("user")),
            stop_signal: Some(StopSignal::TERM),
            ..service(None, None)
        };
        let mut own = said.clone();
        own.put_on(&image());
        assert_eq!((&own.working_dir, &own.user, own.stop_signal), (&said.working_dir, &said.user, said.stop_signal));
    }

    #[test]
    fn a_hook_is_put_on_its_own_image() {
        let run = crate::model::Hook {
            command: words("migrate"),
            user: None,
            privileged: false,
            working_dir: Some("/own".into()),
            environment: [("A".to_owned(), "file".to_owned())].into(),
        };
        let mut hook = PreStart { run, entrypoint: Vec::new(), rootfs: service(None, None).rootfs, per_replica: false };
        hook.put_on(&image());
        assert_eq!(hook.argv(), words("/entry --flag migrate"));
        assert_eq!(hook.run.user.as_ref().map(ToString::to_string).as_deref(), Some("app"));
        assert_eq!(hook.run.working_dir.as_deref(), Some(Path::new("/own")));
        assert_eq!((&*hook.run.environment["A"], &*hook.run.environment["PATH"]), ("file", "/bin"));
        assert_eq!(hook.rootfs, Rootfs::Layers(Box::new(image())));
    }
}
