//! What a service sees besides its mounts: shared memory, devices, the mounts of other services.

use std::collections::HashMap;

use super::{Context, Cursor, program::container_path};
use crate::{
    compose::{self, Storage},
    diagnostics::{Diagnostic, Span},
    model::{Device, DeviceAccess, Files, ServiceName, VolumesFrom},
};

pub(super) fn files(cx: &mut Context<'_>, name: &ServiceName, storage: &Storage, at: Cursor<'_>) -> Files {
    Files {
        shm_size: shm_size(cx, storage, at),
        devices: devices(cx, name, storage, at),
        volumes_from: volumes_from(cx, storage, at),
    }
}

/// Zero is the default, as in Docker.
fn shm_size(cx: &mut Context<'_>, storage: &Storage, at: Cursor<'_>) -> Option<u64> {
    let size = storage.shm_size?.0;
    match u64::try_from(size) {
        Ok(0) => None,
        Ok(size) => Some(size),
        Err(_) => {
            let negative = Diagnostic::error("`shm_size` is less than nothing");
            cx.push(at.at("shm_size").here(negative).hint("write a size such as `128m`"));
            None
        }
    }
}

fn devices(cx: &mut Context<'_>, name: &ServiceName, storage: &Storage, at: Cursor<'_>) -> Vec<Device> {
    let Some((all, at)) = storage.devices.as_ref().zip(at.get("devices")) else { return Vec::new() };
    let mut places: HashMap<std::path::PathBuf, &Span> = HashMap::new();
    let mut devices = Vec::new();
    for (device, at) in at.items(&all.0) {
        let Some(lowered) = one(cx, device, at) else { continue };
        match places.get(&lowered.target) {
            None => {
                places.insert(lowered.target.clone(), at.span());
                devices.push(lowered);
            }
            Some(first) => {
                let twice = format!("service `{name}` has two devices at `{}`", lowered.target.display());
                cx.push(at.here(Diagnostic::error(twice)).label(first, "the first one"));
            }
        }
    }
    devices
}

fn one(cx: &mut Context<'_>, device: &compose::Device, at: Cursor<'_>) -> Option<Device> {
    let source = device.source.as_ref()?.0.as_str();
    let at_source = at.at("source");
    if !source.starts_with('/') {
        let wrong = match source.split_once('/').filter(|(_, rest)| rest.contains('=')) {
            Some(_) => Diagnostic::error(format!("`{source}` names a device of the Container Device Interface"))
                .hint("nscompose gives no such devices: name each node, such as `/dev/dri/renderD128`"),
            None => Diagnostic::error(format!("`{source}` is not the path of a device"))
                .hint("write an absolute path, such as `/dev/fuse`"),
        };
        cx.push(at_source.here(wrong));
        return None;
    }
    let target = device.target.as_ref().map_or(source, |target| target.0.as_str());
    let target = container_path(cx, "the target", target, at.at("target"))?;
    let access = match &device.permissions {
        Some(permissions) => access(cx, &permissions.0, at.at("permissions"))?,
        None => DeviceAccess { read: true, write: true, mknod: true },
    };
    Some(Device { source: compose::clean(std::path::Path::new(source)), target, access })
}

/// Of `r`, `w` and `m` some, each once.
fn access(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<DeviceAccess> {
    let mut access = DeviceAccess { read: false, write: false, mknod: false };
    for letter in text.chars() {
        let bit = match letter {
            'r' => Some(&mut access.read),
            'w' => Some(&mut access.write),
            'm' => Some(&mut access.mknod),
            _ => None,
        };
        match bit.filter(|bit| !**bit) {
            Some(bit) => *bit = true,
            None => {
                let wrong = Diagnostic::error(format!("`{text}` does not say what may be done with a device"));
                cx.push(
                    at.here(wrong).hint("write some of `r` (read), `w` (write) and `m` (make its node), as in `rw`"),
                );
                return None;
            }
        }
    }
    Some(access)
}

/// Those of containers are refused, and services that are not there have been reported.
fn volumes_from(cx: &mut Context<'_>, storage: &Storage, at: Cursor<'_>) -> Vec<VolumesFrom> {
    let Some((all, at)) = storage.volumes_from.as_ref().zip(at.get("volumes_from")) else { return Vec::new() };
    let mut found = Vec::new();
    for (text, at) in at.items(&all.0) {
        let text = text.0.as_str();
        if text.starts_with("container:") {
            continue;
        }
        let (service, mode) = text.split_once(':').unwrap_or((text, "rw"));
        let read_only = match mode {
            "ro" => true,
            "rw" => false,
            other => {
                let wrong = Diagnostic::error(format!("`{other}` does not say what may be done with volumes"));
                let range = service.len() + 1..text.len();
                cx.push(at.at_part(wrong, range).hint("write `SERVICE`, `SERVICE:ro` or `SERVICE:rw`"));
                continue;
            }
        };
        if let Some(service) = cx.service(service) {
            found.push(VolumesFrom { service, read_only });
        }
    }
    found
}
