//! Devices of the host that a container has.
//!
//! ```text
//! root of the machine    a node of our own on the private tmpfs, which belongs to the container's ids ──bind──▶ container
//! an ordinary user       the node of the host ──bind──▶ container, if root of the container may open it
//! ```

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode};

use super::{ExecutorError, Stack};
use crate::{
    model::{Device, DeviceAccess, DeviceKind, DeviceRule},
    plan::ContainerSpec,
    sandbox::{LaunchMount, LaunchSource, StackIds},
};

/// A device as the kernel knows it, and where a container has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Path on the host.
    pub(super) source: PathBuf,
    /// Path in the container.
    pub(super) target: PathBuf,
    /// It is a block device, else one of characters.
    pub(super) is_block: bool,
    /// Major and minor number.
    pub(super) number: u64,
    /// What may be done with it.
    pub(super) access: DeviceAccess,
    uid: u32,
    gid: u32,
    mode: u32,
}

/// How deep folders of devices may be in each other.
const MAX_DEPTH: usize = 16;

/// The devices that a container is given, each by itself: a folder stands for all that are below it.
pub(super) fn nodes(devices: &[Device]) -> io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for device in devices {
        let meta = fs::metadata(&device.source).map_err(|e| named(&device.source, &e))?;
        if meta.is_dir() {
            below(&device.source, device, MAX_DEPTH, &mut nodes)?;
        } else if let Some(node) = node(&device.source, device.target.clone(), device.access)? {
            nodes.push(node);
        } else {
            let text = format!("{} is not a device", device.source.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    Ok(nodes)
}

fn below(folder: &Path, device: &Device, depth: usize, nodes: &mut Vec<Node>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() && depth > 0 {
            below(&path, device, depth - 1, nodes)?;
        } else if !meta.file_type().is_symlink() {
            let target = device.target.join(path.strip_prefix(&device.source).unwrap_or(&path));
            nodes.extend(node(&path, target, device.access)?);
        }
    }
    Ok(())
}

/// None is something else than a device.
fn node(source: &Path, target: PathBuf, access: DeviceAccess) -> io::Result<Option<Node>> {
    let meta = fs::metadata(source).map_err(|e| named(source, &e))?;
    let kind = meta.file_type();
    let is_device = kind.is_block_device() || kind.is_char_device();
    Ok(is_device.then(|| Node {
        source: source.to_owned(),
        target,
        is_block: kind.is_block_device(),
        number: meta.rdev(),
        access,
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o777,
    }))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    io::Error::new(error.kind(), format!("{}: {why}", path.display()))
}

/// What is mounted for them.
pub(super) fn mounts(spec: &ContainerSpec, stack: &Stack) -> Result<Vec<LaunchMount>, ExecutorError> {
    let failed = |source| ExecutorError::Devices { service: spec.service.clone(), source };
    let nodes = nodes(&spec.files.devices).map_err(failed)?;
    let folder = stack.layout.devices(&spec.service);
    let mut mounts = Vec::new();
    for (i, node) in nodes.into_iter().enumerate() {
        let (ours, path) = match stack.ids {
            StackIds::Root => (true, make(&node, &folder, i, spec).map_err(failed)?),
            _ => (false, node.source),
        };
        let DeviceAccess { read, write, .. } = node.access;
        mounts.push(LaunchMount { target: node.target, source: LaunchSource::Device { path, ours, read, write } });
    }
    Ok(mounts)
}

/// The rules for devices, and what they have to allow so that those of the container can be used.
pub(super) fn rules(mut rules: Vec<DeviceRule>, spec: &ContainerSpec) -> io::Result<Vec<DeviceRule>> {
    for node in nodes(&spec.files.devices)? {
        rules.push(DeviceRule {
            kind: if node.is_block { DeviceKind::Block } else { DeviceKind::Char },
            major: Some(rustix::fs::major(node.number)),
            minor: Some(rustix::fs::minor(node.number)),
            access: node.access,
        });
    }
    Ok(rules)
}

/// A node with the owner that it has on the host, by number: root of the container, and the groups that it has, may do with
/// it what they may there.
fn make(node: &Node, folder: &Path, i: usize, spec: &ContainerSpec) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join(i.to_string());
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let kind = if node.is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
    rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(node.mode), node.number)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(node.mode))?;
    let inside = |id: u32| spec.ids.outside + if id < spec.ids.count { id } else { 0 };
    std::os::unix::fs::lchown(&path, Some(inside(node.uid)), Some(inside(node.gid)))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: DeviceAccess = DeviceAccess { read: true, write: true, mknod: true };

    #[test]
    fn a_device_is_known_by_its_number() {
        let device = Device { source: "/dev/null".into(), target: "/dev/nothing".into(), access: ALL };
        let nodes = nodes(&[device]).expect("there");
        assert_eq!(nodes.len(), 1);
        let number = (rustix::fs::major(nodes[0].number), rustix::fs::minor(nodes[0].number));
        assert_eq!((number, nodes[0].is_block, nodes[0].target.as_path()), ((1, 3), false, Path::new("/dev/nothing")));
    }

    #[test]
    fn what_is_no_device_is_said() {
        for (source, text) in [("/etc/passwd", "is not a device"), ("/dev/nscompose-none", "no such file")] {
            let error = nodes(&[Device { source: source.into(), target: "/dev/x".into(), access: ALL }]);
            assert!(error.expect_err("refused").to_string().contains(text), "{source}");
        }
    }

    #[test]
    fn a_folder_stands_for_what_is_below() {
        let device = Device { source: "/dev/pts".into(), target: "/dev/terminals".into(), access: ALL };
        let nodes = nodes(&[device]).expect("a folder");
        assert!(nodes.iter().all(|node| node.target.starts_with("/dev/terminals") && !node.is_block));
    }
}
