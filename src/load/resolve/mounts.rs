//! `volumes:` and `tmpfs:` of a service.

use std::path::{Path, PathBuf};

use super::{
    Context, Entry, Node, Value, byte_size, clean,
    keys::{self, Key, later, no_effect, read as reads},
    service::Draft,
};
use crate::{
    diagnostics::{Diagnostic, Span, suggest},
    model::{BindMount, Mount, MountSource, TmpfsMount, VolumeMount},
};

/// Where an item of `volumes:` is mounted; items with one target override each other when files are merged.
pub(in super::super) fn target(node: &Node) -> Option<String> {
    let text = match &node.value {
        Value::Mapping(_) => &node.entry("target")?.value.scalar()?.text,
        Value::Scalar(scalar) => &scalar.text,
        Value::Sequence(_) | Value::Broken => return None,
    };
    let target = match node.entries() {
        Some(_) => text,
        None => text.split(':').nth(1).unwrap_or(text),
    };
    Some(clean(Path::new(target)).to_string_lossy().into_owned())
}

pub(super) fn volumes(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    for node in cx.list("`volumes`", &entry.value) {
        let mount = match &node.value {
            Value::Mapping(_) => long(cx, node, draft),
            _ => short(cx, node, draft),
        };
        if let Some(mount) = mount {
            draft.mount(cx, mount, &node.span);
        }
    }
}

/// A target, which must not be the root itself.
fn target_path(cx: &mut Context<'_>, text: &str, span: &Span) -> Option<PathBuf> {
    let target = cx.container_path("the target", text, span)?;
    if target == Path::new("/") {
        cx.push(
            Diagnostic::error("nothing can be mounted at `/`").at(span).hint("use `rootfs:` for the root file system"),
        );
        return None;
    }
    Some(target)
}

/// `[SOURCE:]TARGET[:OPTIONS]`
fn short(cx: &mut Context<'_>, node: &Node, draft: &mut Draft) -> Option<Mount> {
    let text = cx.string("a volume", node)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => {
            cx.push(
                Diagnostic::error(format!("`{text}` has too many colons for a volume"))
                    .at(&node.span)
                    .hint("write `SOURCE:TARGET:OPTIONS`, or the long form with `source:` and `target:`"),
            );
            return None;
        }
    };
    let read_only = self::options(cx, node, text.len() - options.len(), options)?;
    let target_at = source.map_or(0, |source| source.len() + 1);
    let target = target_path(cx, target, &node.part(target_at..target_at + target.len()))?;
    let source = match source {
        None => MountSource::Volume(VolumeMount { volume: None, read_only }),
        Some("") => {
            cx.push(Diagnostic::error("the source of the volume is empty").at(&node.span));
            return None;
        }
        Some(path) if path.starts_with(['.', '/', '~']) => {
            let source = cx.host_path(path, &node.part(0..path.len()))?;
            MountSource::Bind(BindMount { source, read_only, create_host_path: true })
        }
        Some(name) => named(draft, name, node.part(0..name.len()), read_only)?,
    };
    Some(Mount { target, source })
}

/// Reads `ro`, `rw` and those without effect; nothing if there is a mistake.
fn options(cx: &mut Context<'_>, node: &Node, start: usize, options: &str) -> Option<bool> {
    const KNOWN: [&str; 13] = [
        "ro",
        "rw",
        "z",
        "Z",
        "consistent",
        "cached",
        "delegated",
        "nocopy",
        "rprivate",
        "rshared",
        "rslave",
        "shared",
        "slave",
    ];
    let mut read_only = false;
    let mut valid = true;
    let mut at = start;
    for option in options.split(',') {
        let span = node.part(at..at + option.len());
        at += option.len() + 1;
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "" => {}
            // Said, and not an error: files that people have are full of them.
            "z" | "Z" => cx.push(
                Diagnostic::warning(format!("`{option}` has no effect: files are not given other SELinux labels"))
                    .at(&span),
            ),
            "consistent" | "cached" | "delegated" => cx.push(
                Diagnostic::warning(format!("`{option}` has no effect: a mount on Linux is always consistent"))
                    .at(&span),
            ),
            other if KNOWN.contains(&other) => {
                cx.unsupported(other, &span, "");
                valid = false;
            }
            other => {
                cx.push(
                    Diagnostic::error(format!("`{other}` is not an option of a volume"))
                        .at(&span)
                        .did_you_mean(suggest(other, KNOWN).filter(|_| other.len() > 2))
                        .hint("the options are `ro` and `rw`"),
                );
                valid = false;
            }
        }
    }
    valid.then_some(read_only)
}

fn named(draft: &mut Draft, name: &str, span: Span, read_only: bool) -> Option<MountSource> {
    draft.volumes.push((name.to_owned(), span));
    // What is no name is not declared either, which the check of references will say.
    let volume = Some(name.parse().ok()?);
    Some(MountSource::Volume(VolumeMount { volume, read_only }))
}

#[derive(Default)]
struct Long {
    kind: Option<(String, Span)>,
    source: Option<(String, Span)>,
    target: Option<(String, Span)>,
    read_only: bool,
    create_host_path: Option<bool>,
    tmpfs: TmpfsMount,
    /// Something in it was wrong and has been reported.
    wrong: bool,
}

const KEYS: [Key<Long>; 9] = [
    reads("type", |cx, entry, long| long.kind = text(cx, "`type`", entry, &mut long.wrong)),
    reads("source", |cx, entry, long| long.source = text(cx, "`source`", entry, &mut long.wrong)),
    reads("target", |cx, entry, long| long.target = text(cx, "`target`", entry, &mut long.wrong)),
    reads("read_only", |cx, entry, long| match cx.boolean("`read_only`", &entry.value) {
        Some(value) => long.read_only = value,
        None => long.wrong = true,
    }),
    reads("bind", |cx, entry, long| keys::read_mapping(cx, "`bind`", &entry.value, &BIND_KEYS, long)),
    reads("tmpfs", |cx, entry, long| keys::read_mapping(cx, "`tmpfs`", &entry.value, &TMPFS_KEYS, &mut long.tmpfs)),
    reads("volume", |cx, entry, long| keys::read_mapping(cx, "`volume`", &entry.value, &VOLUME_KEYS, long)),
    later("image"),
    no_effect("consistency"),
];

const BIND_KEYS: [Key<Long>; 4] = [
    reads("create_host_path", |cx, entry, long| {
        long.create_host_path = cx.boolean("`create_host_path`", &entry.value);
    }),
    no_effect("selinux"),
    later("propagation"),
    later("recursive"),
];

const VOLUME_KEYS: [Key<Long>; 3] = [later("labels"), later("nocopy"), later("subpath")];

const TMPFS_KEYS: [Key<TmpfsMount>; 2] = [
    reads("size", |cx, entry, tmpfs| tmpfs.size = byte_size::read(cx, "`size`", &entry.value)),
    reads("mode", |cx, entry, tmpfs| tmpfs.mode = mode(cx, &entry.value)),
];

fn text(cx: &mut Context<'_>, what: &str, entry: &Entry, wrong: &mut bool) -> Option<(String, Span)> {
    let text = cx.string(what, &entry.value).map(|text| (text.to_owned(), entry.value.span.clone()));
    *wrong |= text.is_none();
    text
}

fn long(cx: &mut Context<'_>, node: &Node, draft: &mut Draft) -> Option<Mount> {
    let mut long = Long::default();
    keys::read_mapping(cx, "a volume", node, &KEYS, &mut long);
    if long.wrong {
        return None;
    }
    let Some((target, span)) = &long.target else {
        cx.push(Diagnostic::error("the volume has no `target`").at(&node.span).hint("name the path in the container"));
        return None;
    };
    let target = target_path(cx, target, span)?;
    let read_only = long.read_only;
    let Some((kind, kind_span)) = &long.kind else {
        cx.push(Diagnostic::error("the volume has no `type`").at(&node.span).hint("use `bind`, `volume` or `tmpfs`"));
        return None;
    };
    let source = match (kind.as_str(), long.source) {
        ("bind", Some((path, span))) => {
            let source = cx.host_path(&path, &span)?;
            // The long form makes folders as the short one does since Compose 2.
            MountSource::Bind(BindMount { source, read_only, create_host_path: long.create_host_path.unwrap_or(true) })
        }
        ("bind", None) => {
            cx.push(
                Diagnostic::error("a bind mount needs a `source`").at(&node.span).hint("name the path on the host"),
            );
            return None;
        }
        ("volume", None) => MountSource::Volume(VolumeMount { volume: None, read_only }),
        ("volume", Some((name, span))) => named(draft, &name, span, read_only)?,
        ("tmpfs", None) => MountSource::Tmpfs(TmpfsMount { read_only, ..long.tmpfs }),
        ("tmpfs", Some((_, span))) => {
            cx.push(Diagnostic::error("a tmpfs has no `source`").at(&span));
            return None;
        }
        ("npipe" | "cluster" | "image", _) => {
            cx.unsupported(&format!("type: {kind}"), kind_span, "use `bind`, `volume` or `tmpfs`");
            return None;
        }
        (other, _) => {
            cx.push(
                Diagnostic::error(format!("`{other}` is not a type of volume"))
                    .at(kind_span)
                    .did_you_mean(suggest(other, ["bind", "volume", "tmpfs"]))
                    .hint("use `bind`, `volume` or `tmpfs`"),
            );
            return None;
        }
    };
    Some(Mount { target, source })
}

/// Permission bits: octal with a leading zero or in quotes, and a plain number as it is, as Compose reads them.
fn mode(cx: &mut Context<'_>, node: &Node) -> Option<u32> {
    use super::ScalarKind;
    let text = cx.string_or_number("`mode`", node)?;
    let plain = node.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::Int && !scalar.interpolated);
    let octal = u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok();
    let mode = if plain && !text.starts_with('0') {
        if octal.is_some_and(|mode| (0o100..=0o7777).contains(&mode)) {
            cx.push(
                Diagnostic::warning(format!("`mode: {text}` is a decimal number, and permissions are octal"))
                    .at(&node.span)
                    .hint(format!("write `0{text}`")),
            );
        }
        text.parse().ok()
    } else {
        octal
    };
    let mode = mode.filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        cx.push(not_a_mode(text).at(&node.span));
    }
    mode
}

fn not_a_mode(text: &str) -> Diagnostic {
    Diagnostic::error(format!("`{text}` is not a set of permission bits")).hint("write them in octal, such as `01777`")
}

/// `PATH[:OPTIONS]`, or a list of those.
pub(super) fn tmpfs(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    let nodes = match &entry.value.value {
        Value::Scalar(_) if entry.value.is_null() => return,
        Value::Sequence(nodes) => nodes.as_slice(),
        Value::Scalar(_) => std::slice::from_ref(&entry.value),
        Value::Mapping(_) | Value::Broken => {
            cx.mistyped("`tmpfs`", "a string or a list of strings", &entry.value);
            return;
        }
    };
    for node in nodes {
        if let Some(mount) = cx.string("a tmpfs", node).and_then(|text| one_tmpfs(cx, node, text)) {
            draft.mount(cx, mount, &node.span);
        }
    }
}

fn one_tmpfs(cx: &mut Context<'_>, node: &Node, text: &str) -> Option<Mount> {
    const KNOWN: [&str; 14] = [
        "size",
        "mode",
        "ro",
        "rw",
        "nosuid",
        "nodev",
        "noexec",
        "exec",
        "suid",
        "dev",
        "uid",
        "gid",
        "nr_inodes",
        "nr_blocks",
    ];
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = TmpfsMount::default();
    let mut valid = true;
    let mut at = target.len() + 1;
    for option in options.split(',').filter(|_| !options.is_empty()) {
        let span = node.part(at..at + option.len());
        at += option.len() + 1;
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = match name {
            "ro" => {
                tmpfs.read_only = true;
                None
            }
            "rw" => {
                tmpfs.read_only = false;
                None
            }
            // What every tmpfs of a container is anyway.
            "nosuid" | "nodev" => None,
            "size" => {
                tmpfs.size = byte_size::parse(value);
                tmpfs.size.is_none().then(|| byte_size::not_a_size(value))
            }
            "mode" => {
                tmpfs.mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                tmpfs.mode.is_none().then(|| not_a_mode(value))
            }
            known if KNOWN.contains(&known) => Some(Diagnostic::error(format!("`{known}` is not supported yet"))),
            other => Some(
                Diagnostic::error(format!("`{other}` is not an option of a tmpfs"))
                    .did_you_mean(suggest(other, KNOWN))
                    .hint("the options are `size`, `mode`, `ro` and `rw`"),
            ),
        };
        if let Some(diagnostic) = wrong {
            cx.push(diagnostic.at(&span));
            valid = false;
        }
    }
    let target = target_path(cx, target, &node.part(0..target.len()))?;
    valid.then_some(Mount { target, source: MountSource::Tmpfs(tmpfs) })
}
