//! `build:`: how an image is made.

use crate::compose::inherit::inherit;
use serde_json::{Value as Json, json};

use super::{
    ByteSize, Contexts, Environment, ExtraHosts, FileGrant, Flag, Folder, Format, Labels, List, Map, Reader, Schemas,
    Set, Text, Ulimit, Words,
    mapping::{made_of, mapping},
};
use crate::{
    compose::resolve_path,
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind, Value},
};

mapping! {
    /// How the image of a service is made.
    pub struct Build {
        /// Folder, or repository, that the build sees.
        refused context: Context,
        /// File with the instructions, relative to the context.
        refused dockerfile: Text,
        /// The instructions themselves.
        refused dockerfile_inline: Text,
        /// Extra privileges that the build may have.
        refused entitlements: List<Text>,
        /// Values of build arguments.
        refused args: Environment,
        /// Whether an attestation of the build's origin is made.
        refused provenance: FlagText,
        /// Whether a bill of materials is made.
        refused sbom: FlagText,
        /// Agents and keys of SSH that the build may use.
        refused ssh: Ssh,
        /// Labels of the image.
        refused labels: Labels,
        /// Where the cache comes from.
        refused cache_from: List<Text>,
        /// Where the cache goes to.
        refused cache_to: List<Text>,
        /// Nothing is taken from the cache.
        refused no_cache: Flag,
        /// Further folders or images that the build sees, by name.
        refused additional_contexts: Contexts,
        /// Network that the build's commands are on.
        refused network: Text,
        /// The base image is looked for anew.
        refused pull: Flag,
        /// Stage at which the build ends.
        refused target: Text,
        /// Size of `/dev/shm` for the build's commands.
        refused shm_size: ByteSize,
        /// Names that the build's commands find at addresses of the author's choice.
        refused extra_hosts: ExtraHosts,
        /// How the build's containers are isolated, on Windows.
        refused isolation: Text,
        /// The build's commands may do anything.
        refused privileged: Flag,
        /// Secrets that the build's commands may read.
        refused secrets: List<FileGrant>,
        /// Names of the image, besides that of the service.
        refused tags: Set<Text>,
        /// Resource limits of the build's commands.
        refused ulimits: Map<Ulimit>,
        /// Platforms that the image is made for.
        refused platforms: List<Text>,
    }
    rules {
        const EXPECTED: &'static str = "a folder or a mapping";
        fn long(node: Node, _: &mut Reader<'_>) -> Node {
            match node.scalar() {
                Some(scalar) if scalar.kind == ScalarKind::String => {
                    let context = Node { directive: None, ..node.clone() };
                    made_of(&node, vec![("context", context)])
                }
                _ => node,
            }
        }
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": "string"})]
        }
        fn settle_whole(node: &mut Node, _: &Folder<'_>) {
            let here = node.text(".");
            node.put_unless_said("context", here);
        }
    }
}

/// A folder of the host or a reference to something elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Context(pub String);

impl Format for Context {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        context_path(node, folder);
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.string(node).map(|text| Self(text.to_owned()))
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

/// Makes a folder absolute; leaves what is elsewhere alone (a URL, a repository, another service, an image).
pub(super) fn context_path(node: &mut Node, folder: &Folder<'_>) {
    const ELSEWHERE: [&str; 7] = ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "service:"];
    if let Value::Scalar(scalar) = &mut node.value {
        let remote = ELSEWHERE.iter().any(|prefix| scalar.text.starts_with(prefix)) || scalar.text.contains("://");
        if !remote
            && !scalar.text.is_empty()
            && let Some(path) = resolve_path(&scalar.text, folder)
        {
            scalar.text = path.into();
            scalar.kind = ScalarKind::String;
        }
    }
}

/// `true`, `false`, or a text with details.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct FlagText(pub String);

impl Format for FlagText {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match node.scalar() {
            Some(scalar) if matches!(scalar.kind, ScalarKind::Bool | ScalarKind::String) => {
                Some(Self(super::untyped::text(scalar)))
            }
            _ => {
                cx.mistyped("`true`, `false` or a string", node);
                None
            }
        }
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": ["boolean", "string"]})
    }
}

/// Agents and keys of SSH: `default`, `ID=PATH`, or a mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ssh(pub Environment);

/// As it is written: a list.
impl serde::Serialize for Ssh {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.0.iter().map(|(id, path)| match path.as_deref() {
            None | Some("") if id == "default" => id.clone(),
            None => format!("{id}="),
            Some(path) => format!("{id}={path}"),
        }))
    }
}

impl Format for Ssh {
    inherit!(Environment: merge read omitted schema);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if let Value::Sequence(items) = &node.value {
            for item in items {
                let Some(scalar) = item.scalar().filter(|scalar| scalar.kind == ScalarKind::String) else { continue };
                if &*scalar.text != "default" && !scalar.text.contains('=') {
                    let diagnostic = Diagnostic::error(format!("`{}` is not a key of SSH", scalar.text));
                    cx.report(
                        diagnostic.hint("write `default`, or `ID=PATH` with the path of an agent or a key"),
                        item,
                    );
                }
            }
        }
        Environment::canonical(node, cx)
    }
}

mapping! {
    /// A command run in a container at some time of its life.
    pub struct Hook {
        /// The command line.
        works command: Words,
        /// User that it runs as; that of the service unless it is given.
        works user: Text,
        /// It has all rights that the container can have.
        works privileged: Flag,
        /// Folder that it runs in; that of the service unless it is given.
        works working_dir: Text,
        /// Variables that it sees besides those of the service.
        works environment: Environment,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["command"];
    }
}
