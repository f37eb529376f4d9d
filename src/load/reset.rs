//! What `!reset` and `!override` of one document do to the documents before it.
//!
//! ```text
//! later document ── take ──▶ it, without its directives, to be merged
//!                     └────▶ paths ── apply ──▶ what was merged before, or what `extends` brings in
//! ```

use std::{collections::HashMap, sync::Arc};

use super::tree::{Directive, Node, Value};

/// The keys that lead from the root of a document to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Arc<str>>);

/// Takes the directives out of a document: what is marked with `!reset` is gone afterwards, what is marked with
/// `!override` stays, and the paths of both are returned.
///
/// An item of a list has no name that an earlier list could know it by, so its directive, and any below it, changes only
/// the document itself.
pub(crate) fn take(tree: &mut Node) -> Vec<Path> {
    let mut paths = Vec::new();
    walk(tree, &mut Vec::new(), true, &mut paths);
    paths
}

fn walk(node: &mut Node, keys: &mut Vec<Arc<str>>, named: bool, paths: &mut Vec<Path>) {
    match &mut node.value {
        Value::Mapping(entries) => entries.retain_mut(|entry| {
            keys.push(entry.key.clone());
            let directive = entry.value.directive.take();
            if named && directive.is_some() {
                paths.push(Path(keys.clone()));
            }
            let kept = directive != Some(Directive::Reset);
            if kept {
                walk(&mut entry.value, keys, named, paths);
            }
            keys.pop();
            kept
        }),
        Value::Sequence(nodes) => nodes.retain_mut(|node| {
            let kept = node.directive.take() != Some(Directive::Reset);
            if kept {
                walk(node, keys, false, paths);
            }
            kept
        }),
        Value::Scalar(_) | Value::Broken => {}
    }
}

/// Deletes what the paths lead to. A path that leads nowhere, or through something else than mappings, is no mistake.
pub(crate) fn apply(paths: &[Path], earlier: &mut Node) {
    if paths.is_empty() {
        return;
    }
    let mut root = Branch::default();
    for Path(keys) in paths {
        let last = keys.iter().fold(&mut root, |branch, key| branch.below.entry(key).or_default());
        last.ends = true;
    }
    root.cut(earlier);
}

/// All paths as one tree, so that each mapping is gone through once.
#[derive(Default)]
struct Branch<'a> {
    ends: bool,
    below: HashMap<&'a str, Branch<'a>>,
}

impl Branch<'_> {
    fn cut(&self, node: &mut Node) {
        let Value::Mapping(entries) = &mut node.value else { return };
        entries.retain_mut(|entry| match self.below.get(&*entry.key) {
            Some(branch) if branch.ends => false,
            Some(branch) => {
                branch.cut(&mut entry.value);
                true
            }
            None => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnostics::Diagnostics,
        load::{parse, read},
    };

    fn tree(text: &str) -> Node {
        let file = read::text(0, "f", text.as_bytes().to_vec()).expect("text");
        parse::parse(&file, &mut Diagnostics::new()).expect("a tree").remove(0)
    }

    fn shown(node: &Node) -> String {
        assert_eq!(node.directive, None);
        match &node.value {
            Value::Mapping(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|entry| format!("{}:{}", entry.key, shown(&entry.value))).collect();
                format!("{{{}}}", entries.join(" "))
            }
            Value::Sequence(nodes) => format!("[{}]", nodes.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Value::Scalar(scalar) => scalar.text.to_string(),
            Value::Broken => "broken".to_owned(),
        }
    }

    fn taken(text: &str) -> (String, String) {
        let mut tree = tree(text);
        let paths: Vec<_> = take(&mut tree).iter().map(|Path(keys)| keys.join("/")).collect();
        (paths.join(" "), shown(&tree))
    }

    #[test]
    fn resets_leave_the_document_and_overrides_stay() {
        for (text, paths, rest) in [
            ("a: 1", "", "{a:1}"),
            ("a: {b: !reset 1, c: 2}\nd: !reset {}", "a/b d", "{a:{c:2}}"),
            ("a: !override {b: 1}\nc: !override d", "a c", "{a:{b:1} c:d}"),
            ("a.b: {c.d: !reset 1}", "a.b/c.d", "{a.b:{}}"),
            ("a: [1, !reset 2, {b: !reset 3, c: !override 4}]", "", "{a:[1 {c:4}]}"),
            ("a: {b: !reset 1, <<: {b: 5, c: !reset 6}}", "a/b a/c", "{a:{b:5}}"),
            ("a: {<<: !reset {}, b: 1}", "a", "{a:{b:1}}"),
        ] {
            assert_eq!(taken(text), (paths.to_owned(), rest.to_owned()), "{text}");
        }
    }

    #[test]
    fn paths_cut_what_was_before() {
        for (later, earlier, rest) in [
            ("a: {b: !reset 1}", "a: {b: {c: 1}, d: 2}\ne: 3", "{a:{d:2} e:3}"),
            ("a: !override [1]\nf: !reset 1", "a: [2]\ne: 3", "{e:3}"),
            // A list has no keys.
            ("a: {b: !reset 1}", "a: [b=1]", "{a:[b=1]}"),
            ("a: {b: !reset 1}\nc: {d: {e: !reset 1}}", "a: text\nc: {d: 1}", "{a:text c:{d:1}}"),
            ("a: !override {b: !override 1}", "a: {b: 1}", "{}"),
        ] {
            let (mut later, mut earlier) = (tree(later), tree(earlier));
            apply(&take(&mut later), &mut earlier);
            assert_eq!(shown(&earlier), rest);
        }
    }

    #[test]
    fn many_paths_cost_no_more_than_their_number() {
        let many = |value: &str| (0..50_000).map(|at| format!("k{at}: {value}\n")).collect::<String>();
        let (mut later, mut earlier) = (tree(&many("!reset 1")), tree(&many("1")));
        apply(&take(&mut later), &mut earlier);
        assert_eq!(shown(&earlier), "{}");
    }
}
