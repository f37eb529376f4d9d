//! When it runs and for how long.

use crate::compose::inherit::inherit;
use std::{collections::HashSet, sync::Arc};

use serde_json::{Value as Json, json};

use super::super::{
    Deploy, Develop, Environment, Flag, Folder, Format, Healthcheck, Hook, HostPath, Int, Kept, List, Map, Merger,
    Named, Reader, Schemas, Set, Span, StrictFlag, Text, TextOrNothing, Words,
    choice::choice,
    mapping::{made_of, mapping},
};
use crate::yaml::tree::{Entry, Node, ScalarKind, Value};

mapping! {
    /// When it runs and for how long.
    pub struct Lifecycle {
        /// Services that have to run before it.
        works depends_on: DependsOn,
        /// It takes its settings from another service, which its own are merged over.
        loaded extends: Box<Extends>,
        /// Names of which one has to be asked for, or the service is left out.
        loaded profiles: Set<Text>,
        /// What happens when it ends.
        works restart: Text,
        /// Signal that asks it to stop.
        works stop_signal: Text,
        /// Time that it has to stop.
        works stop_grace_period: Span,
        /// How it is known that it is healthy.
        works healthcheck: Box<Healthcheck>,
        /// Commands run to their ends before its container is started, one after the other, each in a container of its own with the
        /// networks and mounts of the service. They are run when its container is made anew. One that fails ends `up`.
        works pre_start: List<PreStart>,
        /// Commands run in it once it has started, one after the other; it counts as started when the last has ended. One that
        /// fails stops it, and the start has failed.
        works post_start: List<Hook>,
        /// Commands run in it before it is asked to stop, one after the other, for at most `stop_grace_period` in all; one that
        /// fails is a warning.
        works pre_stop: List<Hook>,
        /// How many containers there are.
        works scale: Kept<Int<0>>,
        /// How it is run as a whole.
        works deploy: Box<Deploy>,
        /// What happens when source files change.
        no_effect("`up` does not watch files") develop: Box<Develop>,
        /// Where its output goes.
        works logging: Box<Logging>,
    }
}

mapping! {
    /// A command run in a container of its own before that of the service is started.
    pub struct PreStart {
        /// The command line; the entrypoint of its image comes before it.
        works command: Words,
        /// The image that it runs on; without it, whatever the service runs on.
        works image: Text,
        /// User that it runs as; that of the service unless it is given.
        works user: Text,
        /// It may do what a service with `privileged` may.
        works privileged: Flag,
        /// Folder that it runs in; that of the service unless it is given.
        works working_dir: Text,
        /// Variables that it sees besides those of the service.
        works environment: Environment,
        /// It is run for each container of the service that is made anew, and not once before all of them.
        works per_replica: Flag,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["command"];
    }
}

/// Services that have to run first.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct DependsOn(pub Named<Dependency>);

mapping! {
    /// How far a service has to be.
    pub struct Dependency {
        /// How far it has to be. A dependency that does not get there ends `up` with an error.
        works condition: Condition,
        /// This one is started again when `up` makes that one anew or starts it again.
        works restart: Flag,
        /// Without that one this one is not started; so it is unless this says otherwise: then it is a warning when that one
        /// does not get so far, and one that no profile includes is left out.
        works required: Kept<StrictFlag>,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["condition"];
        const MAIN: Option<&'static str> = Some("condition");
        fn settle_whole(node: &mut Node, _: &Folder<'_>) {
            let yes = node.flag(true);
            node.put("required", yes);
        }
    }
}

choice! {
    /// How far a service has to be.
    pub enum Condition {
        /// It has been started.
        Started = "service_started",
        /// Its probe has passed.
        Healthy = "service_healthy",
        /// It has ended, with success.
        Completed = "service_completed_successfully",
    }
}

/// A mapping of what a list of names is short for; left alone if an item is no name, so that reading says so.
pub(super) fn by_name(node: Node, value: impl Fn(&Node) -> Node) -> Node {
    let Value::Sequence(items) = &node.value else { return node };
    if !items.iter().all(|item| item.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::String)) {
        return node;
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(items.len());
    // Keys of a mapping differ. What is listed twice is reported by `twice`.
    let mut known = HashSet::new();
    for item in items {
        let Some(scalar) = item.scalar() else { continue };
        let key: Arc<str> = scalar.text.clone();
        if known.insert(key.clone()) {
            entries.push(Entry { key, key_span: item.span.clone(), value: value(item) });
        }
    }
    node.with_value(Value::Mapping(entries))
}

/// What stands in the place of a mapping of names, and is none.
pub(super) fn no_names(node: &Node, cx: &mut Reader<'_>) {
    match &node.value {
        Value::Sequence(items) => items.iter().for_each(|item| match item.entries() {
            Some(_) => {
                cx.mistyped_with("a string", item, "names that say more are a mapping: leave out all `- `".to_owned())
            }
            None => {
                cx.string(item);
            }
        }),
        _ => cx.mistyped("a list of names or a mapping", node),
    }
}

/// A name that stands twice in a list.
pub(in crate::compose) fn twice(node: &Node, cx: &mut Reader<'_>) {
    let Value::Sequence(items) = &node.value else { return };
    let mut seen = std::collections::HashMap::new();
    for item in items {
        let Some(scalar) = item.scalar() else { continue };
        if let Some(first) = seen.insert(scalar.text.clone(), item.span.clone()) {
            let diagnostic = crate::diagnostics::Diagnostic::error(format!("`{}` is listed twice", scalar.text));
            cx.report(diagnostic.label(&first, "first here"), item);
        }
    }
}

impl Format for DependsOn {
    inherit!(Named<Dependency>: merge settle omitted keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if cx.undecided(&node) && node.entries().is_none() {
            return node;
        }
        twice(&node, cx);
        let node = by_name(node, |item| {
            made_of(item, vec![("condition", item.text("service_started")), ("required", item.flag(true))])
        });
        Named::<Dependency>::canonical(node, cx)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if node.entries().is_none() {
            no_names(node, cx);
            return None;
        }
        Named::read(node, cx).map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        let named = Named::<Dependency>::schema(schemas);
        json!({"anyOf": [{"type": "array", "items": {"type": "string"}, "uniqueItems": true}, named]})
    }
}

mapping! {
    /// The service whose settings come first.
    pub struct Extends {
        /// Its name.
        loaded service: Text,
        /// The file that it is in; this one unless it is given.
        loaded file: HostPath,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["service"];
        const EXTENSIBLE: bool = false;
        const EXPECTED: &'static str = "the name of a service or a mapping";
        fn long(node: Node, _: &mut Reader<'_>) -> Node {
            match node.scalar() {
                Some(scalar) if scalar.kind == ScalarKind::String => {
                    let service = Node { directive: None, ..node.clone() };
                    made_of(&node, vec![("service", service)])
                }
                _ => node,
            }
        }
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": "string"})]
        }
    }
}

mapping! {
    /// Where its output goes.
    pub struct Logging {
        /// Who takes it: `json-file`, with files for each service, `local`, which is the same with bounds that are set
        /// already, or `none`.
        works driver: Text,
        /// More for the driver: `max-size`, `max-file` and `compress`, and for `json-file` `labels`, `labels-regex`, `env`,
        /// `env-regex` and `tag`.
        works options: Map<TextOrNothing>,
    }
    rules {
        /// Options of one driver mean nothing to another.
        fn merge_whole(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
            let driver = |node: &Node| Some(node.entry("driver")?.value.scalar()?.text.clone());
            match (driver(&earlier), driver(&later)) {
                (Some(before), Some(after)) if before != after => later,
                _ => super::super::mapping::merge::<Self>(earlier, later, merger),
            }
        }
    }
}
