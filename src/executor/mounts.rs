//! What a container has mounted besides the usual: names, volumes, folders of the host, memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use tokio::sync::{OwnedMutexGuard, mpsc::UnboundedSender};

use super::{Change, ExecutorError, Stack, operation::create_folder, volume::VolumeFolder};
use crate::{
    model::{MountSource, Rootfs, VolumeMount},
    plan::ContainerSpec,
    sandbox::{LaunchMount, LaunchSource},
};

/// The volumes of a container, by the position of their mount.
pub(super) fn volumes(spec: &ContainerSpec, stack: &Stack, folder: &Path) -> BTreeMap<usize, VolumeFolder> {
    let mounts = spec.files.mounts.iter().enumerate();
    let volumes = mounts.filter_map(|(i, mount)| match &mount.source {
        MountSource::Volume(VolumeMount { volume: Some(name), .. }) => Some((i, stack.volume(name))),
        MountSource::Volume(VolumeMount { volume: None, .. }) => {
            let path = folder.join(format!("volume{i}"));
            Some((i, VolumeFolder { marker: path.with_extension("new"), path }))
        }
        MountSource::Bind(_) | MountSource::Tmpfs(_) => None,
    });
    volumes.collect()
}

/// Waits for other services that fill new volumes of this one for the first time, and keeps them from it meanwhile.
pub(super) async fn wait_for_volumes(
    spec: &ContainerSpec,
    stack: &Stack,
    volumes: &BTreeMap<usize, VolumeFolder>,
) -> Vec<OwnedMutexGuard<()>> {
    // In the order of their names, so that no two services wait for each other.
    let mut new = BTreeSet::new();
    for (i, folder) in volumes {
        if let MountSource::Volume(VolumeMount { volume: Some(name), .. }) = &spec.files.mounts[*i].source
            && folder.may_be_new()
        {
            new.insert(name);
        }
    }
    let mut held = Vec::new();
    for name in new {
        held.push(stack.fill(name).await);
    }
    held
}

/// What is mounted besides the usual: names, volumes, folders of the host, memory.
pub(super) fn mounts(
    spec: &ContainerSpec,
    stack: &Stack,
    volumes: &BTreeMap<usize, VolumeFolder>,
    changes: &UnboundedSender<Change>,
) -> Result<Vec<LaunchMount>, ExecutorError> {
    let files = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ExecutorError::Files { service: spec.service.clone(), what, path, source }
    };
    let mut mounts = Vec::new();
    let taken = |target: &str| spec.files.mounts.iter().any(|mount| mount.target == Path::new(target));
    match &spec.files.hosts_of {
        Some(owner) => {
            let resolver = stack.layout.resolver();
            if !resolver.exists() {
                write_readable(&resolver, RESOLVER).map_err(files("write", &resolver))?;
            }
            let hosts = match spec.files.hosts_elsewhere {
                true => stack.layout.hosts_elsewhere(owner),
                false => stack.layout.hosts(owner),
            };
            for (target, path) in [("/etc/hosts", hosts), ("/etc/resolv.conf", resolver)] {
                if !taken(target) {
                    mounts.push(bind(target, path, false));
                }
            }
        }
        // In the host's network the host's names count; a view of the host has them already.
        None if spec.files.rootfs != Rootfs::Host => {
            for target in ["/etc/hosts", "/etc/resolv.conf"] {
                if !taken(target) && Path::new(target).exists() {
                    mounts.push(bind(target, PathBuf::from(target), true));
                }
            }
        }
        None => {}
    }
    if !taken("/etc/hostname") {
        let path = stack.layout.hostname(&spec.service);
        write_readable(&path, &format!("{}\n", spec.hostname)).map_err(files("write", &path))?;
        mounts.push(bind("/etc/hostname", path, false));
    }
    for (i, mount) in spec.files.mounts.iter().enumerate() {
        mounts.push(match &mount.source {
            MountSource::Bind(source) => {
                if fs::symlink_metadata(&source.source).is_err() && source.create_host_path {
                    create_folder(&source.source).map_err(files("make the folder", &source.source))?;
                    let text = format!(
                        "{} was not there; service `{}` gets an empty folder that has just been made there",
                        source.source.display(),
                        spec.service
                    );
                    let _ = changes.send(Change::Warning(text));
                }
                bind(&mount.target, source.source.clone(), source.read_only)
            }
            MountSource::Volume(volume) => {
                let folder = &volumes[&i];
                // The host's files are not a program's, and there may be any number of them.
                let copy_up = spec.files.rootfs != Rootfs::Host && !volume.nocopy;
                // A database that does not run as root has to be able to write to its new volume.
                // One that is mounted at two places is filled from the first.
                let new = if volumes.range(..i).any(|(_, before)| before.path == folder.path) {
                    None
                } else {
                    let new = folder.prepare(copy_up, spec.user.is_some());
                    new.map_err(files("make the folder", &folder.path))?
                };
                let source = LaunchSource::Bind { path: folder.path.clone(), read_only: volume.read_only, new };
                LaunchMount { target: mount.target.clone(), source }
            }
            MountSource::Tmpfs(tmpfs) => {
                LaunchMount { target: mount.target.clone(), source: LaunchSource::Tmpfs(tmpfs.clone()) }
            }
        });
    }
    Ok(mounts)
}

fn bind(target: impl AsRef<Path>, path: PathBuf, read_only: bool) -> LaunchMount {
    LaunchMount { target: target.as_ref().to_owned(), source: LaunchSource::Bind { path, read_only, new: None } }
}

/// A resolv.conf for a stack without a name server: what /etc/hosts does not know is unknown at once, since nobody listens
/// on the loopback interface of the container.
const RESOLVER: &str = "# names of the stack are in /etc/hosts\nnameserver 127.0.0.11\noptions timeout:1 attempts:1\n";

/// Writes a file that everybody may read, in place: containers that run have this very file mounted.
pub(super) fn write_readable(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}
