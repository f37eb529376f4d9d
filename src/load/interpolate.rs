//! Phase 3: variables in values are filled in; keys stay as they are, and list items are values as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    template::{self, Mention, Notice},
    tree::{Node, Scalar, ScalarKind, Step, Value},
    variables::Variables,
};
use crate::diagnostics::{Diagnostic, Diagnostics};

/// Text that variables may grow a project to.
const MOST_TEXT: usize = 64 * 1024 * 1024;

/// Variables that a value remembers as steps on its way. More help nobody.
const MOST_STEPS: usize = 16;

/// Fills in variables for all files of a project.
pub(crate) struct Interpolator<'a> {
    variables: &'a Variables,
    /// Variables without a value that were warned about.
    warned: BTreeSet<String>,
    text: usize,
    full: bool,
}

impl<'a> Interpolator<'a> {
    pub(crate) fn new(variables: &'a Variables) -> Self {
        Self { variables, warned: BTreeSet::new(), text: 0, full: false }
    }

    /// How much text it has made.
    pub(crate) fn text(&self) -> usize {
        self.text
    }

    /// Fills in every value below `node`. A value that cannot be filled in is broken afterwards.
    pub(crate) fn node(&mut self, node: &mut Node, diagnostics: &mut Diagnostics) {
        match &mut node.value {
            Value::Sequence(nodes) => nodes.iter_mut().for_each(|node| self.node(node, diagnostics)),
            Value::Mapping(entries) => entries.iter_mut().for_each(|entry| self.node(&mut entry.value, diagnostics)),
            Value::Scalar(scalar) if scalar.text.contains('$') => match self.scalar(node, diagnostics) {
                Ok((scalar, steps)) => {
                    node.value = Value::Scalar(scalar);
                    steps.iter().for_each(|step| node.came(step));
                }
                Err(diagnostic) => {
                    // Once there is too much, there is no use in saying so for each value.
                    if !self.full {
                        diagnostics.push(diagnostic);
                    }
                    self.full = self.text > MOST_TEXT;
                    node.value = Value::Broken;
                }
            },
            Value::Scalar(_) | Value::Broken => {}
        }
    }

    fn scalar(&mut self, node: &Node, diagnostics: &mut Diagnostics) -> Result<(Scalar, Vec<Step>), Diagnostic> {
        if self.full {
            return Err(too_much(node));
        }
        let text = node.scalar().map_or("", |scalar| &scalar.text);
        let parts = template::parse(text).map_err(|problem| located(node, problem))?;
        let (variables, warned) = (self.variables, &mut self.warned);
        let mut used: Vec<String> = Vec::new();
        let filled = template::evaluate(&parts, &|name| variables.value(name), &mut |notice| match notice {
            Notice::Used(name) => {
                if used.len() < MOST_STEPS && used.iter().all(|known| known != name) {
                    used.push(name.to_owned());
                }
            }
            Notice::Unset(name, range) => {
                if warned.insert(name.to_owned()) {
                    diagnostics.push(
                        Diagnostic::warning(format!("the variable `{name}` is not set and becomes empty"))
                            .at(&node.part(range.clone()))
                            .hint(format!("set it, or write `${{{name}:-}}` if it may be empty")),
                    );
                }
            }
        })
        .map_err(|problem| located(node, problem))?;
        self.text += filled.len();
        if self.text > MOST_TEXT {
            return Err(too_much(node));
        }
        let step = |name: String| {
            let origin = variables.get(&name)?.origin.clone();
            Some(Step::Variable(name, origin))
        };
        let steps = used.into_iter().filter_map(step).collect();
        // `$$` alone makes no variable, but the text is no number either.
        let interpolated = parts.iter().any(|part| matches!(part, template::Part::Variable { .. }));
        Ok((Scalar { text: filled.into(), kind: ScalarKind::String, interpolated }, steps))
    }
}

fn too_much(node: &Node) -> Diagnostic {
    Diagnostic::error(format!("variables make more than {} MiB of text", MOST_TEXT >> 20)).at(&node.span)
}

fn located(node: &Node, problem: template::Problem) -> Diagnostic {
    let diagnostic = Diagnostic::error(problem.message).at(&node.part(problem.range));
    match problem.hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

/// A variable that a project names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedVariable {
    /// Its name.
    pub name: String,
    /// One of its places says `:?` or `?`.
    pub required: bool,
    /// What the first place with `:-` or `-` says, as it is written there; else empty.
    pub default: String,
    /// What the first place with `:+` or `+` says, as it is written there; else empty.
    pub alternate: String,
}

/// The variables that the values of a tree name, by name. The tree is one that has not been filled in.
pub(crate) fn used_variables(tree: &Node, diagnostics: &mut Diagnostics) -> Vec<UsedVariable> {
    let mut found = BTreeMap::new();
    collect(tree, &mut found, diagnostics);
    found.into_values().collect()
}

fn collect(node: &Node, found: &mut BTreeMap<String, UsedVariable>, diagnostics: &mut Diagnostics) {
    match &node.value {
        Value::Sequence(nodes) => nodes.iter().for_each(|node| collect(node, found, diagnostics)),
        Value::Mapping(entries) => entries.iter().for_each(|entry| collect(&entry.value, found, diagnostics)),
        Value::Scalar(scalar) if scalar.text.contains('$') => match template::parse(&scalar.text) {
            Ok(parts) => template::mentions(&scalar.text, &parts, &mut |mention| add(found, &mention)),
            Err(problem) => diagnostics.push(located(node, problem)),
        },
        Value::Scalar(_) | Value::Broken => {}
    }
}

fn add(found: &mut BTreeMap<String, UsedVariable>, mention: &Mention<'_>) {
    let Some(known) = found.get_mut(mention.name) else {
        found.insert(
            mention.name.to_owned(),
            UsedVariable {
                name: mention.name.to_owned(),
                required: mention.required,
                default: mention.default.to_owned(),
                alternate: mention.alternate.to_owned(),
            },
        );
        return;
    };
    known.required |= mention.required;
    for (known, said) in [(&mut known.default, mention.default), (&mut known.alternate, mention.alternate)] {
        if known.is_empty() {
            said.clone_into(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnostics::SourceFile,
        load::{
            parse::parse,
            tree::{Origin, Via},
            variables::Variable,
        },
    };

    fn tree(text: &str) -> Node {
        parse(&SourceFile::new(0, "compose.yaml", text), &mut Diagnostics::new()).expect("YAML").remove(0)
    }

    fn filled(text: &str) -> (Node, Diagnostics) {
        let mut variables = Variables::default();
        for (name, value) in [("A", "a"), ("N", "1"), ("EMPTY", "")] {
            variables.set(name, Variable { value: value.to_owned(), origin: Origin::Environment });
        }
        let (mut tree, mut diagnostics) = (tree(text), Diagnostics::new());
        Interpolator::new(&variables).node(&mut tree, &mut diagnostics);
        (tree, diagnostics)
    }

    fn steps(node: &Node) -> Vec<&str> {
        let mut steps = Vec::new();
        let mut via: Option<&Via> = node.via.as_deref();
        while let Some(Via { step, before, .. }) = via {
            if let Step::Variable(name, _) = step {
                steps.push(name.as_str());
            }
            via = before.as_deref();
        }
        steps
    }

    #[test]
    fn values_are_filled_in_and_keys_are_not() {
        let (tree, diagnostics) = filled("$A: $A\nlist: [\"$A=${N}\", $$A, plain]\n");
        assert!(diagnostics.is_empty(), "{diagnostics}");
        let text = |node: &Node| node.scalar().map(|scalar| (scalar.text.to_string(), scalar.interpolated));
        assert_eq!(text(&tree.entry("$A").expect("the key").value), Some(("a".to_owned(), true)));
        let Value::Sequence(list) = &tree.entry("list").expect("a list").value.value else { panic!("{tree:?}") };
        let list: Vec<_> = list.iter().filter_map(text).collect();
        assert_eq!(list, [("a=1".to_owned(), true), ("$A".to_owned(), false), ("plain".to_owned(), false)]);
    }

    #[test]
    fn a_value_remembers_the_variables_that_made_it() {
        let (tree, _) = filled("a: $A${N}$A${U:-x}\nb: plain\nc: ${U:-$N}\n");
        let of = |key: &str| steps(&tree.entry(key).expect(key).value);
        assert_eq!((of("a"), of("b"), of("c")), (vec!["N", "A"], vec![], vec!["N"]));
    }

    #[test]
    fn an_unset_variable_is_warned_about_once() {
        let (tree, diagnostics) = filled("a: $U-$U\nb: ${U}\nc: ${V?say}\n");
        assert_eq!(diagnostics.len(), 2, "{diagnostics}");
        assert!(matches!(tree.entry("c").expect("c").value.value, Value::Broken));
        assert!(diagnostics.has_errors());
    }

    #[test]
    fn used_variables_of_all_places_come_together() {
        let mut diagnostics = Diagnostics::new();
        let tree = tree("$K: ${A}\nb: [\"${A:-x}\", {c: \"${A:?m} ${B+${C}} $$D\"}]\nd: ${A:-y}\n");
        let listed: Vec<String> = used_variables(&tree, &mut diagnostics)
            .iter()
            .map(|UsedVariable { name, required, default, alternate }| {
                format!("{name} {required} {default} {alternate}")
            })
            .collect();
        assert_eq!(listed, ["A true x ", "B false  ${C}", "C false  "]);
        assert!(diagnostics.is_empty(), "{diagnostics}");
    }
}
