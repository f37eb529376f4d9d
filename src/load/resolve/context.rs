//! What reading functions share: the surroundings, the diagnostics, and how a value is asked for its type.

use std::path::PathBuf;

use super::{Node, Scalar, ScalarKind, Surroundings, Value, clean, ports::PublishedPorts};
use crate::diagnostics::{Diagnostic, Diagnostics, Span, suggest};

pub(super) struct Context<'a> {
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) published: PublishedPorts,
}

impl<'a> Context<'a> {
    pub(super) fn new(surroundings: &'a Surroundings<'a>, diagnostics: &'a mut Diagnostics) -> Self {
        Self { surroundings, diagnostics, published: PublishedPorts::default() }
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The candidate that `name` may be a slip of. After many mistakes the search is given up: in a hostile file it would
    /// cost more than all the rest.
    pub(super) fn suggest<'c>(&self, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        const MISTAKES: usize = 100;
        const CANDIDATES: usize = 2_000;
        if self.diagnostics.len() > MISTAKES { None } else { suggest(name, candidates.into_iter().take(CANDIDATES)) }
    }

    /// A key or value that the specification knows and this version does not.
    pub(super) fn unsupported(&mut self, what: &str, span: &Span, hint: &str) {
        let diagnostic = Diagnostic::error(format!("`{what}` is not supported yet")).at(span);
        self.push(if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) });
    }

    /// Says that `what` should have been something else.
    pub(super) fn mistyped(&mut self, what: &str, expected: &str, node: &Node) {
        if matches!(node.value, Value::Broken) {
            return;
        }
        let diagnostic = if node.is_null() {
            Diagnostic::error(format!("{what} has no value: it takes {expected}"))
        } else {
            Diagnostic::error(format!("{what} takes {expected}, not {}", node.describe()))
        };
        let diagnostic = diagnostic.at(&node.span);
        // The commonest slip: a number or a boolean where a text is wanted.
        let quoted = match &node.value {
            Value::Scalar(scalar)
                if expected.contains("string") && scalar.kind != ScalarKind::Null && scalar.text.len() < 40 =>
            {
                Some(format!("put it between quotes: `\"{}\"`", scalar.text))
            }
            _ => None,
        };
        self.push(match quoted {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        });
    }

    /// A string: quoted, or plain and not readable as anything else.
    pub(super) fn string<'n>(&mut self, what: &str, node: &'n Node) -> Option<&'n str> {
        match node.scalar() {
            Some(Scalar { text, kind: ScalarKind::String, .. }) => Some(text),
            _ => {
                self.mistyped(what, "a string", node);
                None
            }
        }
    }

    /// A string or a number, as text.
    pub(super) fn string_or_number<'n>(&mut self, what: &str, node: &'n Node) -> Option<&'n str> {
        match node.scalar() {
            Some(Scalar { text, kind: ScalarKind::String | ScalarKind::Int | ScalarKind::Float, .. }) => Some(text),
            _ => {
                self.mistyped(what, "a string or a number", node);
                None
            }
        }
    }

    /// `true` or `false`. Compose takes some strings as well, with a warning.
    pub(super) fn boolean(&mut self, what: &str, node: &Node) -> Option<bool> {
        let text = node.scalar().map(|scalar| (scalar.text.to_ascii_lowercase(), scalar.kind));
        match text.as_ref().map(|(text, kind)| (text.as_str(), kind)) {
            Some(("true", _)) => Some(true),
            Some(("false", _)) => Some(false),
            Some((word @ ("yes" | "y" | "on" | "no" | "n" | "off"), ScalarKind::String)) => {
                let value = matches!(word, "yes" | "y" | "on");
                self.push(
                    Diagnostic::warning(format!("{what} is a boolean, and `{word}` is a string"))
                        .at(&node.span)
                        .hint(format!("write `{value}`")),
                );
                Some(value)
            }
            _ => {
                self.mistyped(what, "`true` or `false`", node);
                None
            }
        }
    }

    /// The items of a list. Nothing at all is an empty one, so that every item may be commented out.
    pub(super) fn list<'n>(&mut self, what: &str, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::Sequence(nodes) => nodes,
            _ => {
                if !node.is_null() {
                    self.mistyped(what, "a list", node);
                }
                &[]
            }
        }
    }

    /// A path of the host, absolute: `~` is the home folder, and a relative one starts from the project's folder.
    pub(super) fn host_path(&mut self, text: &str, span: &Span) -> Option<PathBuf> {
        let rest = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            Some(_) => {
                self.push(
                    Diagnostic::error(format!("`{text}` names the home folder of another user"))
                        .at(span)
                        .hint("only `~/…` is understood; write the whole path"),
                );
                return None;
            }
            None => return Some(clean(&self.surroundings.directory.join(text))),
        };
        match self.surroundings.variables.get("HOME").filter(|home| home.starts_with('/')) {
            Some(home) => Some(clean(&PathBuf::from(format!("{home}{rest}")))),
            None => {
                self.push(
                    Diagnostic::error("`~` stands for the home folder, and HOME is not set")
                        .at(span)
                        .hint("write the whole path"),
                );
                None
            }
        }
    }

    /// A path inside a container, which has to be absolute.
    pub(super) fn container_path(&mut self, what: &str, text: &str, span: &Span) -> Option<PathBuf> {
        if text.starts_with('/') {
            return Some(clean(&PathBuf::from(text)));
        }
        let diagnostic = Diagnostic::error(format!("{what} `{text}` is not an absolute path")).at(span);
        self.push(match text {
            "" => diagnostic,
            _ => diagnostic.hint(format!("write `/{}`", text.trim_start_matches("./"))),
        });
        None
    }
}
