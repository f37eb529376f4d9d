//! Reading values of their types, and what is said when they are not.

use std::sync::Arc;

use crate::{
    diagnostics::{Diagnostic, Diagnostics, Span, suggest},
    yaml::tree::{Entry, Node, Origin, Scalar, ScalarKind, Step, Value},
};

/// Where the reading is, and where its mistakes go.
pub(crate) struct Reader<'a> {
    diagnostics: &'a mut Diagnostics,
    /// Keys from the root to the value that is being read.
    path: Vec<Arc<str>>,
    /// Variables stand as they are written, and any value may turn out to be what it should be.
    as_written: bool,
    /// Keys that begin with `x-` are left out, but at the top level.
    without_extensions: bool,
    has_extensions: bool,
    /// Ports that short forms have been short for.
    pub(super) ports: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            diagnostics,
            path: Vec::new(),
            as_written: false,
            without_extensions: false,
            has_extensions: false,
            ports: 0,
        }
    }

    /// Reads what has variables in it: nothing is said about a value that has one.
    pub(crate) fn leaving_variables(self, as_written: bool) -> Self {
        Self { as_written, ..self }
    }

    /// Whether the value is up to a variable, so that nobody can say yet what it means.
    pub(crate) fn undecided(&self, node: &Node) -> bool {
        self.as_written && has_variable(node)
    }

    /// Leaves out keys that begin with `x-`, but at the top level.
    pub(crate) fn without_extensions(self) -> Self {
        Self { without_extensions: true, ..self }
    }

    /// Meets a key that begins with `x-`: whether it is kept.
    pub(super) fn extension(&mut self) -> bool {
        let below = !self.path.is_empty();
        self.has_extensions |= below;
        !(below && self.without_extensions)
    }

    /// Whether there were keys that begin with `x-` below the top level.
    pub(crate) fn has_extensions(&self) -> bool {
        self.has_extensions
    }

    /// Does something to the value of a key.
    pub(crate) fn at<T>(&mut self, key: &Arc<str>, does: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.clone());
        let done = does(self);
        self.path.pop();
        done
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Reports a mistake in a value: with its place, and where it came from if that is elsewhere.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic, node: &Node) {
        if !matches!(node.value, Value::Broken) && !self.undecided(node) {
            self.push(located(diagnostic, node));
        }
    }

    /// The value that is being read, for messages.
    pub(crate) fn what(&self) -> String {
        // Names of a hostile file may be as long as the file, and its mistakes as many.
        let name = |name: &Arc<str>| match name.char_indices().nth(200) {
            Some((cut, _)) => format!("{}…", &name[..cut]),
            None => name.to_string(),
        };
        match &self.path[..] {
            [] => "a Compose file".to_owned(),
            [section, last] => match &**section {
                "services" => format!("service `{}`", name(last)),
                "networks" => format!("network `{}`", name(last)),
                "volumes" => format!("volume `{}`", name(last)),
                "configs" => format!("config `{}`", name(last)),
                "secrets" => format!("secret `{}`", name(last)),
                "models" => format!("model `{}`", name(last)),
                _ => format!("`{}`", name(last)),
            },
            [.., last] => format!("`{}`", name(last)),
        }
    }

    /// The candidate that `name` may be a slip of. After many mistakes the search is given up: in a hostile file it would
    /// cost more than all the rest.
    pub(crate) fn suggest<'c>(&self, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        const MISTAKES: usize = 100;
        const CANDIDATES: usize = 2_000;
        if self.diagnostics.len() > MISTAKES { None } else { suggest(name, candidates.into_iter().take(CANDIDATES)) }
    }

    /// Says that the value should have been something else.
    pub(crate) fn mistyped(&mut self, expected: &str, node: &Node) {
        let what = self.what();
        if node.is_null() {
            let diagnostic = Diagnostic::error(format!("{what} has no value: it takes {expected}"));
            return self.report(diagnostic.hint("give it one, or remove the key"), node);
        }
        let diagnostic = Diagnostic::error(format!("{what} takes {expected}, not {}", node.describe()));
        let diagnostic = match self.mend(expected, node) {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        };
        self.report(diagnostic, node);
    }

    /// Says so, and how to mend it.
    pub(crate) fn mistyped_with(&mut self, expected: &str, node: &Node, hint: String) {
        let message = format!("{} takes {expected}, not {}", self.what(), node.describe());
        self.report(Diagnostic::error(message).hint(hint), node);
    }

    /// Tries whether something can be read without a mistake. After many mistakes nobody needs to know.
    pub(super) fn accepts(&self, reads: impl FnOnce(&mut Reader<'_>) -> bool) -> bool {
        const MISTAKES: usize = 100;
        let mut found = Diagnostics::new();
        self.diagnostics.len() <= MISTAKES && reads(&mut Reader::new(&mut found)) && found.is_empty()
    }

    /// How to mend a value of a wrong type, if that can be told from how it is written.
    fn mend(&self, expected: &str, node: &Node) -> Option<String> {
        let wants = |what: &str| expected.contains(what);
        match &node.value {
            Value::Scalar(scalar) if scalar.text.len() >= 40 || scalar.text.contains('\n') => None,
            Value::Scalar(Scalar { text, kind: ScalarKind::String, .. }) => {
                let plain = !node.span.text().starts_with(['"', '\'']);
                let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
                match text.split_once(':') {
                    _ if !plain => None,
                    _ if text.starts_with('-') && text.contains(" -") && wants("a list") => {
                        Some("a blank is missing after each `-`".to_owned())
                    }
                    _ if text.starts_with('-') && wants("a list") => {
                        Some(format!("a blank is missing after `-`: write `- {}`", text.trim_start_matches('-')))
                    }
                    Some((key, value)) if wants("a mapping") && word(key) && !key.is_empty() => {
                        Some(format!("a blank is missing after `:`: write `{key}: {value}`"))
                    }
                    _ if wants("a list of `") && text.contains('=') => {
                        Some(format!("make it an item: write `- {text}`"))
                    }
                    _ if expected == "a list of names or a mapping" && word(text) => {
                        Some(format!("make it a list: write `[{text}]`"))
                    }
                    _ => None,
                }
            }
            // The commonest slip: a number or a boolean where a text is wanted. Where a mapping would do as well, a text of
            // that kind is hardly what was meant.
            Value::Scalar(Scalar { text, kind: ScalarKind::Bool, .. })
                if &**text == "false" && self.path.last().is_some_and(|key| &**key == "restart") =>
            {
                Some("write `\"no\"`, with its quotes".to_owned())
            }
            Value::Scalar(Scalar { text, .. }) if wants("string") && !wants("a mapping") => {
                Some(format!("put it between quotes: `\"{text}\"`"))
            }
            Value::Sequence(items) if expected.starts_with("a mapping") && !wants("a list") => {
                let name = |item: &Node| Some(item.scalar()?.text.clone()).filter(|text| text.len() < 40);
                if let (true, [first, ..]) = (expected == "a mapping of names", &items[..])
                    && let Some(first) = name(first)
                {
                    return Some(format!("write each as a key, without `- `: `{first}:`"));
                }
                let named = items.iter().all(|item| item.entries().is_some());
                (named && !items.is_empty()).then(|| "leave out the `- `".to_owned())
            }
            Value::Mapping(_) if expected == "a list" => Some("begin each of its items with `- `".to_owned()),
            _ => None,
        }
    }

    /// A string: quoted, or plain and not readable as anything else.
    pub(crate) fn string<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match node.scalar() {
            Some(Scalar { text, kind: ScalarKind::String, .. }) => Some(text),
            _ => {
                self.mistyped("a string", node);
                None
            }
        }
    }

    /// A string or a number, as it is written.
    pub(crate) fn string_or_number<'n>(&mut self, node: &'n Node) -> Option<&'n Scalar> {
        match node.scalar() {
            Some(scalar) if scalar.kind != ScalarKind::Bool => Some(scalar),
            _ => {
                self.mistyped("a string or a number", node);
                None
            }
        }
    }
}

/// Whether a variable stands in it as it is written.
pub(crate) fn has_variable(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.text.contains('$'),
        Value::Sequence(nodes) => nodes.iter().any(has_variable),
        Value::Mapping(entries) => entries.iter().any(|entry| has_variable(&entry.value)),
        Value::Broken => false,
    }
}

/// The diagnostic at the place of the value, with the steps of its way that a reader of the file would not see.
pub(crate) fn located(diagnostic: Diagnostic, node: &Node) -> Diagnostic {
    at(diagnostic, &node.span, node)
}

/// The diagnostic at the place of the key, with the steps of its value's way.
pub(crate) fn located_key(diagnostic: Diagnostic, entry: &Entry) -> Diagnostic {
    at(diagnostic, &entry.key_span, &entry.value)
}

fn at(diagnostic: Diagnostic, span: &Span, node: &Node) -> Diagnostic {
    let mut diagnostic = diagnostic.at(span);
    let mut via = node.via.as_deref();
    while let Some(step) = via {
        diagnostic = match &step.step {
            Step::Variable(name, Origin::File(at)) => diagnostic.label(at, format!("`{name}` is set here")),
            Step::Variable(name, Origin::Environment) => {
                diagnostic.hint(format!("the variable `{name}` comes from the environment"))
            }
            Step::Variable(_, Origin::Built) | Step::Replaced(_) | Step::Implied | Step::Outside(_) => diagnostic,
            Step::Alias(at) => diagnostic.label(at, "used here"),
            Step::MergeKey(at) => diagnostic.label(at, "merged here"),
            Step::Extends(at) => diagnostic.label(at, "extended here"),
            Step::Include(at) => diagnostic.label(at, "included here"),
        };
        via = step.before.as_deref();
    }
    diagnostic
}
