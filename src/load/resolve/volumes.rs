//! Top-level `volumes:`.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Context, Cursor, mounts::host_path, tmpfs, valid};
use crate::{
    compose,
    diagnostics::Diagnostic,
    model::{ProjectName, Volume, VolumeName, VolumeSource},
};

pub(super) fn lower(cx: &mut Context<'_>, at: Option<Cursor<'_>>) -> BTreeMap<VolumeName, Volume> {
    let project = cx.project;
    let mut volumes = BTreeMap::new();
    for (key, at) in at.into_iter().flat_map(Cursor::entries) {
        let Some(name) = valid::<VolumeName>(cx, key, at) else { continue };
        let volume = project.volumes.as_ref().and_then(|volumes| volumes.0.get(key));
        let lowered = volume.map(|volume| one(cx, volume, at)).unwrap_or_default();
        volumes.insert(name, lowered);
    }
    volumes
}

fn one(cx: &mut Context<'_>, volume: &compose::Volume, at: Cursor<'_>) -> Volume {
    let name = at.get("name").filter(|at| !at.is_implied()).and_then(|at| {
        let text = super::said(volume.name.as_ref())?;
        text.parse().map_err(|error| cx.push(at.here(Diagnostic::error(format!("{error}"))))).ok()
    });
    let external = volume.external.is_some_and(|external| external.0);
    // An external one goes by its key if nothing else is said, and not by that of the project.
    let name = name.or_else(|| match at.get("name").filter(|_| external) {
        Some(_) => volume.name.as_ref()?.0.parse().ok(),
        None => None,
    });
    if let Some(driver) = super::said(volume.driver.as_ref()).filter(|driver| *driver != "local") {
        let wrong = Diagnostic::error(format!("there is no volume driver `{driver}`"));
        cx.push(at.at("driver").here(wrong).hint("the only one is `local`; remove the key"));
    }
    Volume { name, external, source: source(cx, volume, at) }
}

/// What the options of the driver `local` make of it: those of mount(8), as in Docker.
fn source(cx: &mut Context<'_>, volume: &compose::Volume, at: Cursor<'_>) -> VolumeSource {
    let Some((options, at)) = volume.driver_opts.as_ref().zip(at.get("driver_opts")) else { return VolumeSource::Kept };
    if options.0.is_empty() {
        return VolumeSource::Kept;
    }
    for (key, at) in at.entries() {
        if !matches!(key, "type" | "o" | "device") {
            let wrong = Diagnostic::error(format!("`{key}` is not an option of a local volume"));
            cx.push(at.at_key(wrong).hint("the options are `type`, `o` and `device`"));
        }
    }
    let text = |key: &str| options.0.get(key).map(|text| text.0.as_str()).unwrap_or_default();
    let (kind, flags, device) = (text("type"), text("o"), text("device"));
    let is_bind = kind == "bind" || flags.split(',').any(|flag| matches!(flag, "bind" | "rbind"));
    if is_bind {
        let unknown = flags.split(',').filter(|flag| !matches!(*flag, "" | "bind" | "rbind" | "rw"));
        for flag in unknown {
            let wrong =
                Diagnostic::error(format!("`{flag}` is not an option of a volume that is a folder of the host"));
            cx.push(at.at("o").here(wrong).hint("write `o: bind`, and `read_only` where the service mounts it"));
        }
        if device.is_empty() {
            let missing = Diagnostic::error("the volume is a folder of the host, and no `device` says which");
            cx.push(at.at_key(missing).hint("name it with `device: /path`"));
            return VolumeSource::Kept;
        }
        return host_path(cx, device, at.at("device")).map_or(VolumeSource::Kept, VolumeSource::Folder);
    }
    if kind == "tmpfs" {
        return tmpfs::read(cx, flags, 0, at.at("o")).map_or(VolumeSource::Kept, VolumeSource::Memory);
    }
    let (what, hint) = match kind {
        "" => {
            ("the options of the volume have no `type`".to_owned(), "write `type: none`, `o: bind`, or `type: tmpfs`")
        }
        _ => (
            format!("a volume of the type `{kind}` is not mounted by nscompose"),
            "mount it on the host, and name its folder: `type: none`, `o: bind`, `device: /path`",
        ),
    };
    cx.push(at.at("type").here(Diagnostic::error(what)).hint(hint));
    VolumeSource::Kept
}

/// The volumes of files that need not be fit to be run, as far as it matters for removing them.
pub(crate) fn of_contents(project: &compose::Project, name: &ProjectName) -> BTreeMap<VolumeName, Volume> {
    let volumes = project.volumes.iter().flat_map(|volumes| &volumes.0);
    let one = |(key, volume): (&String, &compose::Volume)| -> Option<(VolumeName, Volume)> {
        let own = format!("{name}_{key}");
        let options = volume.driver_opts.as_ref();
        let text = |key: &str| options.and_then(|options| options.0.get(key)).map(|text| text.0.as_str());
        let is_bind = text("o").is_some_and(|flags| flags.split(',').any(|flag| matches!(flag, "bind" | "rbind")));
        let source = match text("device").filter(|_| is_bind || text("type") == Some("bind")) {
            Some(device) => VolumeSource::Folder(PathBuf::from(device)),
            None => VolumeSource::Kept,
        };
        let written = super::said(volume.name.as_ref()).filter(|written| *written != own);
        let external = volume.external.is_some_and(|external| external.0);
        let whole = match written {
            Some(written) => Some(written.parse().ok()?),
            None => None,
        };
        Some((key.parse().ok()?, Volume { name: whole, external, source }))
    };
    volumes.filter_map(one).collect()
}
