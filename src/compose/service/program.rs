//! What runs.

use crate::compose::inherit::inherit;
use serde_json::{Value as Json, json};

use super::super::{
    Build, Distinct, Environment, Flag, Folder, Format, HostPath, Kept, List, Map, Merger, Pattern, PatternText,
    Reader, Schemas, Set, Text, TextOrWhole, Untyped, Words,
    mapping::{made_of, mapping},
};
use crate::{
    diagnostics::{Diagnostic, suggest},
    yaml::tree::{Node, ScalarKind, Value},
};

mapping! {
    /// What runs.
    pub struct Program {
        /// The image whose files it sees, by its name in a registry, or as `oci:FOLDER`, `oci-archive:FILE` or
        /// `docker-archive:FILE`, each with or without `:NAME`.
        works image: Text,
        /// How the image is made.
        refused("images are not built yet: name one with `image:`, or use `rootfs:` with a folder or a tar file") build: Box<Build>,
        /// nscompose's own: the files it sees, instead of an image. `host` for a copy of the host's own that is written to
        /// without changing it, a folder, or a tar file.
        works rootfs: RootfsPath,
        /// What comes before the command on the command line.
        works entrypoint: Words,
        /// The command line: a list of words, or a string that is split like a shell splits it.
        works command: Words,
        /// Variables that the program sees. A name without a value takes the caller's; where the caller
        /// has none, the program has none either, whatever its image says.
        works environment: Environment,
        /// Files with such variables; `environment` counts for more.
        loaded env_file: EnvFiles,
        /// Folder that it starts in.
        works working_dir: Text,
        /// User, and group, that it runs as.
        works user: Text,
        /// Further groups: names of the container, or numbers.
        works group_add: Distinct<TextOrWhole>,
        /// A small first process that passes signals on and cleans up after children.
        works init: Kept<Flag>,
        /// Its standard streams are a terminal of its own.
        works tty: Flag,
        /// Its standard input stays open, for `attach`; else it has nothing to read.
        works stdin_open: Flag,
        /// Its output is shown by an `up` in the foreground.
        works attach: Kept<Flag>,
        /// The platform that the image is for.
        works platform: Text,
        /// When the image is looked for in the registry.
        works pull_policy: PatternText<PullPolicy>,
        /// After what time the image is looked for anew.
        refused pull_refresh_after: Text,
        /// The runtime that makes its container.
        refused runtime: Text,
        /// Something that is not a container: a program that makes it available.
        refused provider: Box<Provider>,
    }
}

/// `always`, `never`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullPolicy;

impl Pattern for PullPolicy {
    const PATTERN: &'static str =
        "always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+";
    const RULE: &'static str = "it may be `always`, `missing`, `if_not_present`, `never`, `build`, `daily`, `weekly` or `every_` with a time, such as `every_12h`";
    fn matches(text: &str) -> bool {
        ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"]
            .iter()
            .any(|word| text.contains(word))
            || text.split_once("every_").is_some_and(|(_, time)| {
                let digits = time.len() - time.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                digits > 0 && time[digits..].starts_with(['w', 'd', 'h', 'm', 's'])
            })
    }
}

/// `host`, or a path of the host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct RootfsPath(pub String);

impl Format for RootfsPath {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        if node.scalar().is_some_and(|scalar| scalar.text.starts_with(['.', '/', '~'])) {
            HostPath::settle(node, folder);
        }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let text = cx.string(node)?;
        // An empty one says nothing, which is missed where it matters.
        if text == "host" || text.is_empty() || text.starts_with(['.', '/', '~']) || cx.undecided(node) {
            return Some(Self(text.to_owned()));
        }
        let wrong = Diagnostic::error(format!("`{text}` is neither `host` nor a path"));
        let path = format!("write `./{text}` for a folder or a tar file beside the Compose file");
        cx.report(
            wrong.did_you_mean(suggest(text, ["host"]).filter(|_| text.starts_with(['h', 'H']))).hint(path),
            node,
        );
        None
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

mapping! {
    /// A file with variables.
    pub struct EnvFile {
        /// Where it is.
        works path: HostPath,
        /// It is a mistake if it is not there; so it is unless this says otherwise.
        works required: Kept<Flag>,
        /// `raw`: values are taken as they are, quotes and `$` included.
        works format: Text,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["path"];
        const EXTENSIBLE: bool = false;
        const EXPECTED: &'static str = "a path or a mapping";
        fn long(node: Node, _: &mut Reader<'_>) -> Node {
            match node.scalar() {
                Some(scalar) if scalar.kind == ScalarKind::String => {
                    let path = Node { directive: None, ..node.clone() };
                    made_of(&node, vec![("path", path), ("required", node.flag(true))])
                }
                _ => {
                    let (mut node, yes) = (node.clone(), node.flag(true));
                    node.put("required", yes);
                    node
                }
            }
        }
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": "string"})]
        }
        fn identity(node: &Node) -> Option<String> {
            node.entry("path")?.value.scalar().map(|scalar| scalar.text.to_string())
        }
    }
}

/// A list of files with variables, or one of them.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct EnvFiles(pub Set<EnvFile>);

impl Format for EnvFiles {
    inherit!(Set<EnvFile>: merge settle omitted keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        let node = match node.scalar() {
            Some(scalar) if scalar.kind == ScalarKind::String => {
                let item = Node { directive: None, ..node.clone() };
                node.with_value(Value::Sequence(vec![item]))
            }
            _ => node,
        };
        Set::<EnvFile>::canonical(node, cx)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Sequence(_) => Set::read(node, cx).map(Self),
            _ => {
                cx.mistyped("a string or a list", node);
                None
            }
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        let list = Set::<EnvFile>::schema(schemas);
        json!({"anyOf": [{"type": "string"}, list]})
    }
}

mapping! {
    /// Something that is not a container.
    pub struct Provider {
        /// The program that makes it available.
        refused r#type as "type": Text,
        /// What the program is told.
        refused options: Map<ProviderOption>,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["type"];
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            if let Some(program) = node.entry("type").filter(|program| program.value.is_empty_text()) {
                let diagnostic = Diagnostic::error("the provider has an empty `type`");
                cx.report(diagnostic.hint("name the program that makes it available"), &program.value);
            }
        }
    }
}

/// What a provider is told: a value, or several.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct ProviderOption(pub Vec<String>);

impl Format for ProviderOption {
    fn canonical(node: Node, _: &mut Reader<'_>) -> Node {
        match &node.value {
            Value::Scalar(_) if !node.is_null() => {
                let item = Node { directive: None, ..node.clone() };
                node.with_value(Value::Sequence(vec![item]))
            }
            _ => node,
        }
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        List::<Text>::merge(earlier, later, merger)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let Value::Sequence(nodes) = &node.value else {
            cx.mistyped("a string, a number, a boolean or a list of them", node);
            return None;
        };
        let mut texts = Vec::new();
        for node in nodes {
            match node.scalar().map(|scalar| Untyped::scalar(&scalar.text, scalar.kind)) {
                None | Some(Untyped::Null) => cx.mistyped("a string, a number or a boolean", node),
                Some(_) => texts.extend(node.scalar().map(super::super::untyped::text)),
            }
        }
        Some(Self(texts))
    }
    fn schema(_: &mut Schemas) -> Json {
        let one = json!({"type": ["string", "number", "boolean"]});
        json!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}
