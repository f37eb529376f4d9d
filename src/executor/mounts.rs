//! What a container has mounted besides the usual: names, volumes, folders of the host, memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use tokio::sync::{OwnedMutexGuard, mpsc::UnboundedSender};

use super::{Change, ExecutorError, Stack, operation::create_folder, volume::VolumeFolder};
use crate::{
    image::store::Store,
    model::{
        Beginning, BindMount, Digest, Grant, GrantSource, ImageMount, MountSource, MountedImage, Propagation, Rootfs,
        VolumeMount, VolumeSource,
    },
    plan::ContainerSpec,
    sandbox::{BindSource, Give, LaunchMount, LaunchSource, Owner, StackIds},
    state::remove_tree,
};

/// The volumes of a container, by the position of their mount.
pub(super) fn volumes(spec: &ContainerSpec, stack: &Stack, folder: &Path) -> BTreeMap<usize, VolumeFolder> {
    let mounts = spec.files.mounts.iter().enumerate();
    let volumes = mounts.filter_map(|(i, mount)| match &mount.source {
        MountSource::Volume(VolumeMount { volume: Some(name), .. }) => {
            Some((i, stack.volume(name, spec.files.volumes.get(name)?)))
        }
        MountSource::Volume(VolumeMount { volume: None, of, .. }) => {
            let (folder, target) = match of {
                Some((service, target)) => (&stack.layout.container(service), target),
                None => (&folder.to_owned(), &mount.target),
            };
            let path = folder.join(anonymous(target));
            Some((i, VolumeFolder { marker: path.with_extension("new"), path }))
        }
        MountSource::Bind(_) | MountSource::Tmpfs(_) | MountSource::Grant(_) | MountSource::Image(_) => None,
    });
    volumes.collect()
}

/// Those of its own anonymous volumes that are not there yet.
pub(super) fn new_anonymous(spec: &ContainerSpec, volumes: &BTreeMap<usize, VolumeFolder>) -> Vec<VolumeFolder> {
    let is_own = |i: usize| {
        matches!(&spec.files.mounts[i].source, MountSource::Volume(VolumeMount { volume: None, of: None, .. }))
    };
    volumes.iter().filter(|(i, volume)| is_own(**i) && !volume.path.exists()).map(|(_, it)| it.clone()).collect()
}

/// What names of folders of anonymous volumes begin with.
const ANONYMOUS: &str = "volume-";

/// The name of the folder of an anonymous volume, by its place in the container.
fn anonymous(target: &Path) -> String {
    let digest = Digest::of(target.as_os_str().as_bytes());
    format!("{ANONYMOUS}{}", &digest.hex()[..16])
}

/// Whether something in the folder of a container is an anonymous volume, or the file that says that one is not complete.
pub(super) fn is_volume(name: &OsStr) -> bool {
    name.as_bytes().starts_with(ANONYMOUS.as_bytes())
}

/// Removes what another container of the service has left in the folder: all but its writable layer and those anonymous
/// volumes that this one has too.
pub(super) fn forget_volumes(spec: &ContainerSpec, folder: &Path) -> io::Result<()> {
    let own = spec
        .files
        .mounts
        .iter()
        .filter(|mount| matches!(&mount.source, MountSource::Volume(VolumeMount { volume: None, of: None, .. })));
    let own: BTreeSet<String> = own.map(|mount| anonymous(&mount.target)).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !is_volume(&name) || own.contains(&stem) {
            continue;
        }
        if entry.file_type()?.is_dir() { remove_tree(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
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
    match &spec.files.names_of {
        Some(owner) => {
            let resolver = stack.layout.resolver(&spec.service);
            let written = stack.names.write_resolver_file(&spec.service, owner, resolver.clone());
            written.map_err(files("write", &resolver))?;
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
        None if !spec.files.hosts_besides.is_empty() => {
            let path = stack.layout.hosts(&spec.service);
            let text = fs::read_to_string("/etc/hosts").unwrap_or_default();
            write_readable(&path, &format!("{}\n{}", text.trim_end(), spec.files.hosts_besides))
                .map_err(files("write", &path))?;
            if !taken("/etc/hosts") {
                mounts.push(bind("/etc/hosts", path, false));
            }
            if !taken("/etc/resolv.conf") && spec.files.rootfs != Rootfs::Host && Path::new("/etc/resolv.conf").exists()
            {
                mounts.push(bind("/etc/resolv.conf", PathBuf::from("/etc/resolv.conf"), true));
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
                propagates(source, spec, stack)?;
                let bind = BindSource {
                    path: source.source.clone(),
                    read_only: source.read_only,
                    submounts: source.submounts,
                    propagation: source.propagation,
                    ..BindSource::default()
                };
                LaunchMount { target: mount.target.clone(), source: LaunchSource::Bind(bind) }
            }
            MountSource::Volume(volume) => {
                let folder = &volumes[&i];
                // The host's files are not a program's, and there may be any number of them. A part of a volume is not what the
                // image has there.
                let copy_up = spec.files.rootfs != Rootfs::Host && !volume.nocopy && volume.subpath.is_none();
                // A database that does not run as root has to be able to write to its new volume.
                let give = spec.user.is_some() && volume.subpath.is_none() && !is_memory(volume, spec);
                // One that is mounted at two places is filled from the first.
                let new = if volumes.range(..i).any(|(_, before)| before.path == folder.path) {
                    None
                } else {
                    let new = match volume.beginning {
                        Beginning::Usual => folder.prepare(copy_up, give.then_some(Give::Always)),
                        Beginning::Ownerless => folder.prepare(copy_up, None),
                        Beginning::Made => folder.prepare(false, give.then_some(Give::UnlessTaken)),
                    };
                    new.map_err(files("make the folder", &folder.path))?
                };
                let bind = BindSource {
                    path: folder.path.clone(),
                    subpath: volume.subpath.clone(),
                    read_only: volume.read_only,
                    new,
                    ..BindSource::default()
                };
                LaunchMount { target: mount.target.clone(), source: LaunchSource::Bind(bind) }
            }
            MountSource::Image(ImageMount { image: MountedImage::Wanted(image), .. }) => {
                return Err(ExecutorError::Missing(format!("image `{}` in the store", image.source)));
            }
            MountSource::Image(ImageMount { image: MountedImage::Here(image), subpath }) => {
                // The manifest has the lowest first.
                let layers = image.layers.iter().rev().map(|layer| layer.hex().to_owned()).collect();
                let store = Store::new(stack.layout.layout().images()).layers();
                let source = LaunchSource::Image { store, layers, name: format!("image{i}"), subpath: subpath.clone() };
                LaunchMount { target: mount.target.clone(), source }
            }
            MountSource::Grant(grant) => {
                let bind =
                    grant_source(grant, i, spec, stack).map_err(files("write", &stack.layout.grants(&spec.service)))?;
                LaunchMount { target: mount.target.clone(), source: LaunchSource::Bind(bind) }
            }
            MountSource::Tmpfs(tmpfs) => {
                LaunchMount { target: mount.target.clone(), source: LaunchSource::Tmpfs(tmpfs.clone()) }
            }
        });
    }
    Ok(mounts)
}

fn bind(target: impl AsRef<Path>, path: PathBuf, read_only: bool) -> LaunchMount {
    let source = LaunchSource::Bind(BindSource { path, read_only, ..BindSource::default() });
    LaunchMount { target: target.as_ref().to_owned(), source }
}

/// The root of files in memory belongs to whom its options say.
fn is_memory(volume: &VolumeMount, spec: &ContainerSpec) -> bool {
    let volume = volume.volume.as_ref().and_then(|name| spec.files.volumes.get(name));
    volume.is_some_and(|volume| matches!(volume.source, VolumeSource::Memory(_)))
}

/// A config or a secret: the file itself, or a copy on the private tmpfs, which root of the container owns until it is
/// given to whom it is to belong.
fn grant_source(grant: &Grant, i: usize, spec: &ContainerSpec, stack: &Stack) -> io::Result<BindSource> {
    let (contents, uid, gid, mode) = match &grant.source {
        GrantSource::File(path) => {
            return Ok(BindSource { path: path.clone(), read_only: true, ..BindSource::default() });
        }
        GrantSource::Copy { contents, uid, gid, mode } => (contents, uid, gid, mode),
    };
    let folder = stack.layout.grants(&spec.service);
    fs::create_dir_all(&folder)?;
    let path = folder.join(i.to_string());
    // A container that ran before may have the old one mounted still.
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(&contents.0)?;
    file.set_permissions(fs::Permissions::from_mode(*mode))?;
    std::os::unix::fs::fchown(&file, Some(spec.ids.outside), Some(spec.ids.outside))?;
    let own = Some(Owner { uid: *uid, gid: *gid });
    Ok(BindSource { path, read_only: true, own, ..BindSource::default() })
}

/// Refuses a bind mount that could not do what its `propagation` says.
fn propagates(bind: &BindMount, spec: &ContainerSpec, stack: &Stack) -> Result<(), ExecutorError> {
    let service = || spec.service.clone();
    let path = || bind.source.clone();
    match bind.propagation {
        Propagation::Private => return Ok(()),
        Propagation::Shared if stack.ids != StackIds::Root => {
            return Err(ExecutorError::SharesNothing { service: service(), path: path() });
        }
        Propagation::Slave | Propagation::Shared => {}
    }
    // The stack's own mounts are slaves of the host's: what is no slave of anything here is shared with nobody there.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let source = fs::canonicalize(&bind.source).unwrap_or_else(|_| path());
    let (mount, shared) = mount_of(&table, &source);
    if shared { Ok(()) } else { Err(ExecutorError::NotShared { service: service(), path: path(), mount }) }
}

/// The mount that a path lies on, and whether it gets the host's mounts (proc_pid_mountinfo(5)).
fn mount_of(table: &str, path: &Path) -> (PathBuf, bool) {
    let mut found = (PathBuf::from("/"), false);
    for line in table.lines() {
        let (fields, _) = line.split_once(" - ").unwrap_or((line, ""));
        let mut fields = fields.split(' ').skip(4);
        let Some(point) = fields.next().map(unescaped) else { continue };
        // The last of several at one place is on top.
        if path.starts_with(&point) && point.components().count() >= found.0.components().count() {
            found = (point, fields.any(|field| field.starts_with("master:") || field.starts_with("shared:")));
        }
    }
    found
}

/// Blanks and the like are written as octal numbers.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..3).filter(|_| *first == b'\\').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Writes a file that everybody may read, in place: containers that run have this very file mounted.
pub(super) fn write_readable(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_a_path_lies_on() {
        let table = "1 0 8:1 / / rw master:1 - ext4 /dev/sda1 rw\n2 1 0:5 / /mnt/a\\040b rw - tmpfs none rw\n\
                     3 1 0:6 / /mnt/c rw shared:4 master:2 - tmpfs none rw\n";
        assert_eq!(mount_of(table, Path::new("/home/x")), ("/".into(), true));
        assert_eq!(mount_of(table, Path::new("/mnt/a b/x")), ("/mnt/a b".into(), false));
        assert_eq!(mount_of(table, Path::new("/mnt/c")), ("/mnt/c".into(), true));
        assert_eq!(mount_of(table, Path::new("/mnt/cd")), ("/".into(), true));
    }
}
