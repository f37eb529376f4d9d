//! Phase 3: variables in values are filled in; keys stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    template,
    tree::{Node, Scalar, ScalarKind, Value},
};
use crate::diagnostics::{Diagnostic, Diagnostics};

/// Text that variables may grow a project to.
const MOST_TEXT: usize = 64 * 1024 * 1024;

/// Fills in variables for all files of a project.
pub(crate) struct Interpolator<'a> {
    variables: &'a BTreeMap<String, String>,
    /// Variables without a value that were warned about.
    warned: BTreeSet<String>,
    text: usize,
}

impl<'a> Interpolator<'a> {
    pub(crate) fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self { variables, warned: BTreeSet::new(), text: 0 }
    }

    /// Fills in every value below `node`. A value that cannot be filled in is broken afterwards.
    pub(crate) fn node(&mut self, node: &mut Node, diagnostics: &mut Diagnostics) {
        match &mut node.value {
            Value::Sequence(nodes) => nodes.iter_mut().for_each(|node| self.node(node, diagnostics)),
            Value::Mapping(entries) => entries.iter_mut().for_each(|entry| self.node(&mut entry.value, diagnostics)),
            Value::Scalar(scalar) if scalar.text.contains('$') => match self.scalar(node, diagnostics) {
                Ok(scalar) => node.value = Value::Scalar(scalar),
                Err(diagnostic) => {
                    diagnostics.push(diagnostic);
                    node.value = Value::Broken;
                }
            },
            Value::Scalar(_) | Value::Broken => {}
        }
    }

    fn scalar(&mut self, node: &Node, diagnostics: &mut Diagnostics) -> Result<Scalar, Diagnostic> {
        let text = node.scalar().map_or("", |scalar| &scalar.text);
        let located = |problem: template::Problem| {
            let diagnostic = Diagnostic::error(problem.message).at(&node.part(problem.range));
            match problem.hint {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            }
        };
        let parts = template::parse(text).map_err(located)?;
        let warned = &mut self.warned;
        let filled = template::evaluate(&parts, &|name| self.variables.get(name).cloned(), &mut |name, range| {
            if warned.insert(name.to_owned()) {
                diagnostics.push(
                    Diagnostic::warning(format!("the variable `{name}` is not set and becomes empty"))
                        .at(&node.part(range.clone()))
                        .hint(format!("set it, or write `${{{name}:-}}` if it may be empty")),
                );
            }
        })
        .map_err(located)?;
        self.text += filled.len();
        if self.text > MOST_TEXT {
            return Err(
                Diagnostic::error(format!("variables make more than {} MiB of text", MOST_TEXT >> 20)).at(&node.span)
            );
        }
        // `$$` alone makes no variable, but the text is no number either.
        let interpolated = parts.iter().any(|part| matches!(part, template::Part::Variable { .. }));
        Ok(Scalar { text: filled.into(), kind: ScalarKind::String, interpolated })
    }
}
