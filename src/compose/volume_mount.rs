//! `volumes:` of a service: `[SOURCE:]TARGET[:OPTIONS]`, or a mapping.

use serde_json::{Value as Json, json};

use super::{
    ByteSize, Flag, Folder, Labels, Reader, Text, Truncated, Unquoted,
    choice::choice,
    mapping::{made_of, mapping},
};
use crate::{
    compose::resolve_path,
    diagnostics::{Diagnostic, suggest},
    yaml::tree::{Node, Scalar, ScalarKind, Value},
};

choice! {
    /// What is mounted.
    pub enum MountType {
        /// A file or a folder of the host.
        Bind = "bind",
        /// A volume, named or the service's own.
        Volume = "volume",
        /// Files in memory.
        Tmpfs = "tmpfs",
        /// A volume of a cluster.
        Cluster = "cluster",
        /// A named pipe of Windows.
        Npipe = "npipe",
        /// The files of an image.
        Image = "image",
    }
}

choice! {
    /// Whether mounts below the source come with it.
    pub enum Recursive {
        /// They do.
        Enabled = "enabled",
        /// They do not.
        Disabled = "disabled",
        /// They do, and can be written to.
        Writable = "writable",
        /// They do, and cannot be written to.
        Readonly = "readonly",
    }
}

choice! {
    /// The SELinux label that the files are given.
    pub enum Selinux {
        /// One that all containers share.
        Shared = "z",
        /// One of this container.
        Private = "Z",
    }
}

mapping! {
    /// Something of the host or a volume, at a path of the container.
    pub struct VolumeMount {
        /// What is mounted.
        works r#type as "type": MountType,
        /// A path of the host, the name of a volume, or an image.
        works source: Text,
        /// The path in the container.
        works target: Text,
        /// Nothing can be written there.
        works read_only: Flag,
        /// How soon changes are seen on both sides, which on Linux is at once.
        no_effect("a mount on Linux is always consistent") consistency: Text,
        /// More of a bind mount.
        works bind: BindOptions,
        /// More of a volume.
        works volume: VolumeOptions,
        /// More of a tmpfs.
        works tmpfs: TmpfsOptions,
        /// More of an image.
        works image: ImageOptions,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["type"];
        const EXPECTED: &'static str = "a string or a mapping";
        fn long(node: Node, cx: &mut Reader<'_>) -> Node {
            match node.scalar() {
                Some(scalar) if scalar.kind == ScalarKind::String => match short(&scalar.text, &node, cx) {
                    Ok(long) => long,
                    Err(diagnostic) => {
                        cx.report(diagnostic, &node);
                        node.with_value(Value::Broken)
                    }
                },
                _ => clean(node),
            }
        }
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": "string"})]
        }
        fn identity(node: &Node) -> Option<String> {
            node.entry("target")?.value.scalar().map(|scalar| scalar.text.to_string())
        }
        fn settle_whole(node: &mut Node, folder: &Folder<'_>) {
            let is_bind = |node: &Node| node.entry("type")?.value.scalar().map(|scalar| &*scalar.text == "bind");
            if is_bind(node) != Some(true) {
                return;
            }
            let Value::Mapping(entries) = &mut node.value else { return };
            for entry in entries.iter_mut().filter(|entry| &*entry.key == "source") {
                if let Value::Scalar(scalar) = &mut entry.value.value
                    && let Some(path) = resolve_path(&scalar.text, folder)
                {
                    scalar.text = path.into();
                }
            }
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            if node.entry("target").is_none() {
                cx.report(Diagnostic::error("the volume has no `target`").hint("name the path in the container"), node);
            }
            if self.r#type == Some(MountType::Bind) && self.source.as_ref().is_none_or(|source| source.0.is_empty()) {
                let diagnostic = Diagnostic::error("a bind mount needs a `source`");
                cx.report(diagnostic.hint("name the path on the host"), node);
            }
        }
    }
}

mapping! {
    /// More of a bind mount.
    pub struct BindOptions {
        /// Which mounts made later are seen on both sides.
        works propagation: Text,
        /// A source that is not there is made, as a folder.
        works create_host_path: Flag,
        /// Whether mounts below the source come with it.
        works recursive: Recursive,
        /// The SELinux label that the files are given.
        no_effect("files are not given other SELinux labels") selinux: Selinux,
    }
}

mapping! {
    /// More of a volume.
    pub struct VolumeOptions {
        /// Labels for a volume that is made for this mount.
        metadata labels: Labels,
        /// What the image has at that path is not copied into a new volume.
        works nocopy: Flag,
        /// A path inside of the volume.
        works subpath: Text,
    }
}

mapping! {
    /// More of a tmpfs.
    pub struct TmpfsOptions {
        /// How large it may grow.
        works size: ByteSize,
        /// Permission bits of its root, in octal.
        works mode: Unquoted<Truncated<0>>,
    }
    rules {
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            let Some(size) = node.entry("size").map(|entry| &entry.value) else { return };
            let whole = |scalar: &Scalar| match scalar.kind {
                ScalarKind::Int => !scalar.text.starts_with('-'),
                kind => kind != ScalarKind::Float,
            };
            if !size.scalar().is_some_and(whole) && self.size.is_some() {
                cx.report(Diagnostic::error("`size` is a whole number of bytes, or a text such as `64m`"), size);
            }
        }
    }
}

mapping! {
    /// More of an image.
    pub struct ImageOptions {
        /// A path inside of the image.
        works subpath: Text,
    }
}

/// The target of a mapping without `.`, `..` and slashes too many.
fn clean(mut node: Node) -> Node {
    if let Value::Mapping(entries) = &mut node.value {
        for entry in entries.iter_mut().filter(|entry| &*entry.key == "target") {
            if let Value::Scalar(scalar) = &mut entry.value.value
                && scalar.kind == ScalarKind::String
            {
                scalar.text = clean_text(&scalar.text).into();
            }
        }
    }
    node
}

/// A path of a container as Go's `path.Clean` leaves it.
fn clean_text(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    match (path.starts_with('/'), parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// A letter and a colon at the beginning.
fn is_drive(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 1 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
}

/// The parts between colons.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        // As Compose does it: one letter is a drive of Windows, and no volume.
        let from = if is_drive(rest) { 2 } else { 0 };
        match rest[from..].find(':') {
            Some(at) => {
                parts.push(&rest[..from + at]);
                rest = &rest[from + at + 1..];
            }
            None => {
                parts.push(rest);
                return parts;
            }
        }
    }
}

/// The mapping that a short form stands for.
fn short(text: &str, node: &Node, cx: &mut Reader<'_>) -> Result<Node, Diagnostic> {
    let at = |text: &str| Node { via: node.via.clone(), ..Node::string(text, node.span.clone()) };
    let flag = |value: bool| {
        let scalar = Scalar { text: value.to_string().into(), kind: ScalarKind::Bool, interpolated: false };
        Node { via: node.via.clone(), ..Node::new(node.span.clone(), Value::Scalar(scalar)) }
    };
    let parts = parts(text);
    let (source, target, options) = match parts[..] {
        [""] => return Err(Diagnostic::error("the volume is empty").hint("write `SOURCE:TARGET`")),
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => {
            return Err(Diagnostic::error(format!("`{text}` has too many colons for a volume"))
                .hint("write `SOURCE:TARGET:OPTIONS`, or the long form with `source:` and `target:`"));
        }
    };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Diagnostic::error(format!("`{text}` has nothing between two colons")).hint("write `SOURCE:TARGET`"));
    }
    let is_path = source.is_some_and(|source| source.starts_with(['.', '/', '~', '\\']) || is_drive(source));
    let mut entries = vec![("type", at(if is_path { "bind" } else { "volume" }))];
    entries.extend(source.map(|source| ("source", at(source))));
    entries.push(("target", at(&clean_text(target))));
    let mut bind = Vec::new();
    let mut volume = Vec::new();
    for option in options.split(',') {
        match option {
            "ro" if entries.iter().any(|(key, _)| *key == "read_only") => {}
            "ro" => entries.push(("read_only", flag(true))),
            "rw" => entries.retain(|(key, _)| *key != "read_only"),
            "" => {}
            "nocopy" if !volume.is_empty() => {}
            "nocopy" => volume.push(("nocopy", flag(true))),
            "z" | "Z" if is_path => bind.push(("selinux", at(option))),
            // On Linux changes are seen at once, whatever is said here.
            "consistent" | "cached" | "delegated" => {}
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if is_path => {
                bind.push(("propagation", at(option)));
            }
            // Compose takes anything there, and does nothing about it.
            other => {
                const KNOWN: [&str; 8] = ["ro", "rw", "nocopy", "z", "Z", "cached", "rshared", "rslave"];
                let meant = suggest(other, KNOWN).filter(|_| other.len() > 2);
                let warning =
                    Diagnostic::warning(format!("`{other}` is not an option of this volume, and does nothing"));
                cx.report(warning.did_you_mean(meant), node);
            }
        }
    }
    if is_path {
        bind.push(("create_host_path", flag(true)));
        entries.push(("bind", made_of(node, bind)));
    }
    // As Compose prints it: with nothing to say of the volume, but for the shortest of paths.
    if !volume.is_empty() || (!is_path && text.len() > 2) {
        entries.push(("volume", made_of(node, volume)));
    }
    Ok(made_of(node, entries))
}
