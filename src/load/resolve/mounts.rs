//! `volumes:` of a service, and what is common to all mounts.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

use super::{
    Context, Cursor,
    grants::{self, Kind},
    image,
    program::container_path,
    tmpfs::{self, not_a_mode},
};
use crate::{
    compose::{BindOptions, MountType, Recursive, Storage, Text, VolumeMount},
    diagnostics::{Diagnostic, Span, suggest},
    load::tree::ScalarKind,
    model::{
        self, BindMount, ImageMount, Mount, MountSource, MountedImage, Propagation, ServiceName, Submounts, TmpfsMount,
    },
};

/// A mount, and what it is made of.
struct Found<'t> {
    /// The key that it stands under.
    key: &'t str,
    mount: Mount,
    /// Its target as it is written.
    spelt: Cow<'t, str>,
    at: Cursor<'t>,
}

/// All mounts of a service, in file order; no two at one target.
pub(super) fn lower<'t>(cx: &mut Context<'_>, name: &ServiceName, storage: &'t Storage, at: Cursor<'t>) -> Vec<Mount> {
    let mut found: Vec<Found<'_>> = Vec::new();
    for (key, at) in at.entries() {
        match (key, &storage.volumes, &storage.tmpfs) {
            ("volumes", Some(volumes), _) => found.extend(at.items(&volumes.0).filter_map(|(volume, at)| {
                let target = volume.target.as_ref()?;
                Some(Found { key, mount: one(cx, volume, &target.0, at)?, spelt: target.0.as_str().into(), at })
            })),
            ("tmpfs", _, Some(tmpfs)) => found.extend(at.items(&tmpfs.0.0).filter_map(|(text, at)| {
                let target = text.0.split(':').next().unwrap_or_default();
                Some(Found { key, mount: tmpfs::lower(cx, &text.0, at)?, spelt: target.into(), at })
            })),
            _ => {}
        }
        let granted = match key {
            "configs" => storage.configs.as_ref().map(|configs| (Kind::Config, &configs.0)),
            "secrets" => storage.secrets.as_ref().map(|secrets| (Kind::Secret, &secrets.0.0)),
            _ => None,
        };
        if let Some((kind, all)) = granted {
            found.extend(at.items(all).filter_map(|(grant, at)| {
                let (mount, target) = grants::lower(cx, kind, grant, at)?;
                Some(Found { key, mount, spelt: target.into(), at })
            }));
        }
    }
    let mut targets: HashMap<PathBuf, (&str, Cow<'_, str>, &Span)> = HashMap::new();
    let mut mounts = Vec::with_capacity(found.len());
    for Found { key, mount, spelt, at } in found {
        match targets.get(&mount.target) {
            None => {
                targets.insert(mount.target.clone(), (key, spelt, at.span()));
                mounts.push(mount);
            }
            // It has been reported: by `consistency.rs`, or when the list was read.
            Some((before, same, _))
                if *same == spelt && (*before == key || (is_checked(before) && is_checked(key))) => {}
            Some((_, _, first)) => {
                let twice = format!("service `{name}` mounts two things at `{}`", mount.target.display());
                cx.push(at.here(Diagnostic::error(twice)).label(first, "the first one"));
            }
        }
    }
    mounts
}

/// Keys in which two mounts at one place, spelt alike, are found without the others.
fn is_checked(key: &str) -> bool {
    matches!(key, "volumes" | "tmpfs")
}

/// A target, which must not be the root itself.
pub(super) fn target(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<PathBuf> {
    let target = container_path(cx, "the target", text, at)?;
    if target == Path::new("/") {
        let wrong = at.here(Diagnostic::error("nothing can be mounted at `/`"));
        cx.push(wrong.hint("use `rootfs:` for the root file system"));
        return None;
    }
    Some(target)
}

/// A path of the host. All that could be made absolute are.
pub(super) fn host_path(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<PathBuf> {
    let (problem, hint) = match text.strip_prefix('~') {
        _ if text.starts_with('/') => return Some(PathBuf::from(text)),
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            ("`~` stands for the home folder, and HOME is not set".to_owned(), "write the whole path")
        }
        Some(_) => (
            format!("`{text}` names the home folder of another user"),
            "only `~/…` is understood; write the whole path",
        ),
        None => (format!("`{text}` is not a path"), "write an absolute path, or one that begins with `./`"),
    };
    cx.push(at.here(Diagnostic::error(problem)).hint(hint));
    None
}

fn one(cx: &mut Context<'_>, volume: &VolumeMount, target: &str, at: Cursor<'_>) -> Option<Mount> {
    let target = self::target(cx, target, at.at("target"))?;
    let read_only = volume.read_only.is_some_and(|read_only| read_only.0);
    let path = volume.source.as_ref().map(|source| source.0.as_str());
    let wrong = |cx: &mut Context<'_>, diagnostic: Diagnostic| {
        cx.push(diagnostic);
        None
    };
    let Some(kind) = volume.r#type else {
        // What is there and wrong has been reported.
        return match at.get("type") {
            Some(_) => None,
            None => {
                let missing = at.here(Diagnostic::error("the volume has no `type`"));
                wrong(cx, missing.hint("use `bind`, `volume`, `tmpfs` or `image`"))
            }
        };
    };
    let own = match kind {
        MountType::Bind => "bind",
        MountType::Tmpfs => "tmpfs",
        MountType::Image => "image",
        MountType::Volume | MountType::Cluster | MountType::Npipe => "volume",
    };
    for (key, options) in at.entries() {
        if matches!(key, "bind" | "tmpfs" | "image" | "volume") && key != own && !options.is_implied() {
            let warning = Diagnostic::warning(format!("`{key}` says nothing of a mount of the type `{own}`"));
            cx.push(options.at_key(warning));
        }
    }
    let nocopy = volume.volume.as_ref().and_then(|options| options.nocopy).is_some_and(|nocopy| nocopy.0);
    let source = match (kind, path) {
        (MountType::Bind, Some(path)) => MountSource::Bind(BindMount {
            source: host_path(cx, path, at.at("source"))?,
            read_only,
            // The long form makes folders as the short one does since Compose 2.
            create_host_path: volume.bind.as_ref().and_then(|bind| bind.create_host_path).is_none_or(|create| create.0),
            propagation: propagation(cx, volume.bind.as_ref(), at.at("bind")),
            submounts: submounts(cx, volume.bind.as_ref(), read_only, at.at("bind")),
        }),
        // It has been reported.
        (MountType::Bind, None) => return None,
        (MountType::Volume, None) => {
            let subpath = subpath(cx, volume, at)?;
            MountSource::Volume(model::VolumeMount { read_only, nocopy, subpath, ..model::VolumeMount::anonymous() })
        }
        (MountType::Volume, Some("")) => {
            return wrong(cx, at.at("source").here(Diagnostic::error("the source of the volume is empty")));
        }
        // Of one that is not declared it has been said.
        (MountType::Volume, Some(name)) if !cx.declares_volume(name) => return None,
        (MountType::Volume, Some(name)) => {
            let (volume, subpath) = (Some(name.parse().ok()?), subpath(cx, volume, at)?);
            MountSource::Volume(model::VolumeMount {
                volume,
                read_only,
                nocopy,
                subpath,
                ..model::VolumeMount::anonymous()
            })
        }
        (MountType::Tmpfs, None) => MountSource::Tmpfs(TmpfsMount { read_only, ..memory(cx, volume, at) }),
        (MountType::Tmpfs, Some(_)) => {
            return wrong(cx, at.at("source").here(Diagnostic::error("a tmpfs has no `source`")));
        }
        // They have been refused.
        (MountType::Npipe | MountType::Cluster, _) => return None,
        (MountType::Image, source) => {
            let Some(source) = source.filter(|source| !source.is_empty()) else {
                let missing = at.here(Diagnostic::error("the mount of an image has no `source`"));
                return wrong(cx, missing.hint("name the image, such as `alpine:3`"));
            };
            let image = image::of_mount(cx, source, at.at("source"))?;
            let subpath = volume.image.as_ref().and_then(|options| options.subpath.as_ref());
            let subpath = subpath_of(cx, "image", subpath, at.at("image"))?;
            MountSource::Image(ImageMount { image: MountedImage::Wanted(image), subpath })
        }
    };
    Some(Mount { target, source })
}

fn propagation(cx: &mut Context<'_>, bind: Option<&BindOptions>, at: Cursor<'_>) -> Propagation {
    let Some(text) = super::said(bind.and_then(|bind| bind.propagation.as_ref())) else { return Propagation::Private };
    match text {
        "private" | "rprivate" => Propagation::Private,
        "slave" | "rslave" => Propagation::Slave,
        "shared" | "rshared" => Propagation::Shared,
        other => {
            const KNOWN: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];
            let wrong = Diagnostic::error(format!("`{other}` is not a way for mounts to propagate"));
            let wrong = at.at("propagation").here(wrong).did_you_mean(suggest(other, KNOWN));
            cx.push(wrong.hint("use `rprivate`, `rslave` or `rshared`"));
            Propagation::Private
        }
    }
}

fn submounts(cx: &mut Context<'_>, bind: Option<&BindOptions>, read_only: bool, at: Cursor<'_>) -> Submounts {
    let Some(recursive) = bind.and_then(|bind| bind.recursive) else { return Submounts::Follow };
    if let (Recursive::Writable | Recursive::Readonly, false) = (recursive, read_only) {
        let wrong = Diagnostic::error("`recursive` says what may be written to below a mount that is not read-only");
        cx.push(at.at("recursive").here(wrong).hint("add `read_only: true`, or remove it"));
    }
    match recursive {
        Recursive::Enabled | Recursive::Readonly => Submounts::Follow,
        Recursive::Writable => Submounts::Writable,
        Recursive::Disabled => Submounts::Left,
    }
}

fn subpath(cx: &mut Context<'_>, volume: &VolumeMount, at: Cursor<'_>) -> Option<Option<PathBuf>> {
    let text = volume.volume.as_ref().and_then(|options| options.subpath.as_ref());
    subpath_of(cx, "volume", text, at.at("volume"))
}

/// A part of a volume or an image, without what leads up or nowhere; nothing if it is none.
fn subpath_of(cx: &mut Context<'_>, what: &str, text: Option<&Text>, at: Cursor<'_>) -> Option<Option<PathBuf>> {
    let Some(text) = super::said(text) else { return Some(None) };
    let path = Path::new(text);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays {
        let wrong = Diagnostic::error(format!("`{text}` is not a path inside of the {what}"));
        cx.push(at.at("subpath").here(wrong).hint("write a relative path without `..`, such as `logs/web`"));
        return None;
    }
    Some(Some(path.components().filter(|part| matches!(part, Component::Normal(_))).collect()))
}

/// What `tmpfs:` of a long form says.
fn memory(cx: &mut Context<'_>, volume: &VolumeMount, at: Cursor<'_>) -> TmpfsMount {
    let Some(options) = &volume.tmpfs else { return TmpfsMount::default() };
    let at = at.at("tmpfs");
    TmpfsMount {
        // None is no limit.
        size: options.size.and_then(|size| u64::try_from(size.0).ok()),
        mode: options.mode.as_ref().and_then(|_| mode(cx, at.at("mode"))),
        ..TmpfsMount::default()
    }
}

/// Says that permission bits look as if they were meant in octal, and are not.
pub(super) fn warn_of_decimal(cx: &mut Context<'_>, at: Cursor<'_>) {
    let Some(scalar) = at.node.scalar() else { return };
    let text = &*scalar.text;
    let plain = scalar.kind == ScalarKind::Int && !scalar.interpolated && !text.starts_with('0');
    if plain && u32::from_str_radix(text, 8).is_ok_and(|mode| (0o100..=0o7777).contains(&mode)) {
        let odd = format!("`mode: {text}` is a decimal number, and permissions are octal");
        cx.push(at.here(Diagnostic::warning(odd)).hint(format!("write `0{text}`")));
    }
}

/// Permission bits: octal with a leading zero or in quotes, and a plain number as it is, as Compose reads them.
fn mode(cx: &mut Context<'_>, at: Cursor<'_>) -> Option<u32> {
    let scalar = at.node.scalar()?;
    let text = &*scalar.text;
    let plain = scalar.kind == ScalarKind::Int && !scalar.interpolated;
    let octal = u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok();
    let mode = if plain && !text.starts_with('0') {
        warn_of_decimal(cx, at);
        text.parse().ok()
    } else {
        octal
    };
    let mode = mode.filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        cx.push(at.here(not_a_mode(text)));
    }
    mode
}
