//! Phase 5: services take the settings of others, of the same file or of another one.
//!
//! ```text
//! web ─extends─▶ base ─extends─▶ other.yaml:app          followed to the end,
//! web ◀──merge── base ◀──merge── app                     then merged on the way back
//! ```

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use super::{
    files::Group,
    paths, reset,
    sources::Sources,
    tree::{Entry, Node, Step, Value},
};
use crate::{
    compose::{Folder, Format, Merger, Project, Service, clean, has_variable},
    diagnostics::{Diagnostic, Diagnostics, Span, suggest},
};

/// A service is followed through no more than this many others.
const LONGEST: usize = 1_000;

/// A service of a file.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reference {
    file: Arc<PathBuf>,
    service: Arc<str>,
}

/// The services of a file as they are before they are extended.
struct Services {
    entries: HashMap<Arc<str>, Node>,
    resets: Resets,
}

/// What a file takes out of its services.
#[derive(Default)]
struct Resets {
    /// Out of all of them.
    all: Vec<reset::Path>,
    /// Out of the service of a name.
    services: HashMap<Arc<str>, Vec<reset::Path>>,
}

impl Resets {
    fn add(&mut self, paths: &[reset::Path]) {
        for path in paths {
            match &path.0[..] {
                [section] if &**section == "services" => self.all.push(path.clone()),
                [section, name, ..] if &**section == "services" => {
                    self.services.entry(name.clone()).or_default().push(path.clone());
                }
                _ => {}
            }
        }
    }

    fn of(&self, service: &str) -> Vec<reset::Path> {
        self.all.iter().chain(self.services.get(service).into_iter().flatten()).cloned().collect()
    }
}

pub(super) struct Extender<'a, 'd> {
    group: &'a Group<'a>,
    main: Arc<PathBuf>,
    sources: &'d mut Sources,
    diagnostics: &'d mut Diagnostics,
    files: HashMap<Arc<PathBuf>, Option<Arc<Services>>>,
    /// Names that services of the document extend.
    bases: HashSet<Arc<str>>,
    /// What has been extended; none if that failed and has been reported.
    done: HashMap<Reference, Option<Rc<Node>>>,
}

impl<'a, 'd> Extender<'a, 'd> {
    pub(super) fn new(
        group: &'a Group<'a>,
        file: &Path,
        sources: &'d mut Sources,
        diagnostics: &'d mut Diagnostics,
    ) -> Self {
        let main = Arc::new(file.to_owned());
        Self { group, main, sources, diagnostics, files: HashMap::new(), bases: HashSet::new(), done: HashMap::new() }
    }

    /// Extends every service of a document that asks for it.
    pub(super) fn apply(mut self, tree: &mut Node, resets: &[reset::Path]) {
        let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
            return;
        };
        if services.iter().all(|service| service.value.entry("extends").is_none()) {
            return;
        }
        let name = |service: &Entry| {
            let extends = &service.value.entry("extends")?.value;
            Some(extends.entry("service")?.value.scalar()?.text.clone())
        };
        self.bases = services.iter().filter_map(name).collect();
        let entries = services.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
        let mut taken = Resets::default();
        taken.add(resets);
        self.files.insert(self.main.clone(), Some(Arc::new(Services { entries, resets: taken })));
        for service in services.iter_mut().filter(|service| service.value.entry("extends").is_some()) {
            if !self.group.interpolate && service.value.entry("extends").is_some_and(|entry| has_variable(&entry.value))
            {
                continue;
            }
            let reference = Reference { file: self.main.clone(), service: service.key.clone() };
            service.value = match self.extended(&reference) {
                Some(node) => Rc::unwrap_or_clone(node),
                None => service.value.with_value(Value::Broken),
            };
        }
    }

    fn extended(&mut self, start: &Reference) -> Option<Rc<Node>> {
        // Followed to the first service that extends nothing, or is done.
        let mut way: Vec<(Reference, Node, Span)> = Vec::new();
        let mut passed = HashSet::new();
        let mut at = start.clone();
        let mut base = loop {
            if let Some(known) = self.done.get(&at) {
                break known.clone();
            }
            let Some(node) = self.service(&at) else { break None };
            let Some((next, span)) = self.base_of(&at, &node) else {
                // Nothing, or a mistake that has been reported.
                break if node.entry("extends").is_some() { None } else { Some(Rc::new(node)) };
            };
            passed.insert(at.clone());
            way.push((at.clone(), node, span));
            if passed.contains(&next) || way.len() > LONGEST {
                self.cycle(&way, &next);
                way.iter().for_each(|(reference, ..)| {
                    self.done.insert(reference.clone(), None);
                });
                return None;
            }
            at = next;
        };
        self.done.insert(at, base.clone());
        while let Some((reference, node, span)) = way.pop() {
            base = base.map(|base| Rc::new(self.merged(&reference, &base, node, &span)));
            // Most services are not extended by others, and need not be kept for them.
            if base.is_none() || self.bases.contains(&reference.service) {
                self.done.insert(reference, base.clone());
            }
        }
        base
    }

    /// `node` over the settings of `base`.
    fn merged(&mut self, reference: &Reference, base: &Node, mut node: Node, span: &Span) -> Node {
        if base.is_null() {
            // As Compose does it: there was nothing to take, and what asked for it is still there.
            return node;
        }
        if !self.sources.budget.nodes(base.size(), Some(span), self.diagnostics) {
            return base.with_value(Value::Broken);
        }
        remove(&mut node, "extends");
        let mut base = base.clone();
        base.came(&Step::Extends(span.clone()));
        for file in [&self.main.clone(), &reference.file] {
            let Some(Some(services)) = self.files.get(file) else { continue };
            let resets = services.resets.of(&reference.service);
            if !resets.is_empty() {
                base = without(base, &reference.service, &resets);
            }
        }
        Service::merge(base, node, &mut Merger::new(self.diagnostics))
    }

    /// The service as it is written. What is in another file has its paths made absolute: they start from there.
    fn service(&mut self, reference: &Reference) -> Option<Node> {
        self.services(&reference.file, None)?.entries.get(&reference.service).cloned()
    }

    fn services(&mut self, file: &Arc<PathBuf>, named: Option<&Span>) -> Option<Arc<Services>> {
        if let Some(known) = self.files.get(file) {
            return known.clone();
        }
        let services = self.read(file, named).map(Arc::new);
        self.files.insert(file.clone(), services.clone());
        services
    }

    fn read(&mut self, file: &Path, named: Option<&Span>) -> Option<Services> {
        let documents = self.sources.documents(file, named, self.diagnostics)?;
        let mut merged: Option<Node> = None;
        let mut resets = Resets::default();
        for document in documents {
            let (tree, more) = self.group.prepared(document, &mut self.sources.budget, self.diagnostics);
            merged = Some(match merged {
                None => tree,
                Some(mut earlier) => {
                    reset::apply(&more, &mut earlier);
                    Project::merge(earlier, tree, &mut Merger::new(self.diagnostics))
                }
            });
            resets.add(&more);
        }
        let folder = Folder { directory: file.parent().unwrap_or(file), ..self.group.folder() };
        let mut entries = HashMap::new();
        let services = merged.as_mut().and_then(|tree| tree.entry_mut("services"));
        if let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = services {
            for entry in services {
                let mut value = entry.value.clone();
                Service::settle(&mut value, &folder);
                entries.insert(entry.key.clone(), value);
            }
        }
        Some(Services { entries, resets })
    }

    /// The service that `node` extends, and where it says so.
    fn base_of(&mut self, from: &Reference, node: &Node) -> Option<(Reference, Span)> {
        let extends = &node.entry("extends")?.value;
        if extends.entries().is_none() {
            // It is read, and refused, like everything else: see the end of `extended`.
            let diagnostic = Diagnostic::error(format!(
                "`extends` takes the name of a service or a mapping, not {}",
                extends.describe()
            ));
            self.report(diagnostic, extends);
            return None;
        }
        let Some(service) = extends.entry("service") else {
            self.report(
                Diagnostic::error("`extends` has no `service`, which it needs").hint("name the service to extend"),
                extends,
            );
            return None;
        };
        let Some(name) = service.value.scalar().map(|scalar| scalar.text.clone()) else {
            let diagnostic = Diagnostic::error(format!("`service` takes a string, not {}", service.value.describe()));
            self.report(diagnostic, &service.value);
            return None;
        };
        let file = match extends.entry("file").filter(|entry| !entry.value.is_null()) {
            None => from.file.clone(),
            Some(entry) => {
                let Some(text) = entry.value.scalar().map(|scalar| scalar.text.clone()) else {
                    let diagnostic =
                        Diagnostic::error(format!("`file` takes a string, not {}", entry.value.describe()));
                    self.report(diagnostic, &entry.value);
                    return None;
                };
                if let Some(remote) = paths::remote(&text) {
                    self.report(remote, &entry.value);
                    return None;
                }
                let folder = if from.file == self.main {
                    self.group.directory
                } else {
                    from.file.parent().unwrap_or(self.group.directory)
                };
                Arc::new(clean(&folder.join(&*text)))
            }
        };
        let named = extends.entry("file").map_or(&extends.span, |entry| &entry.value.span).clone();
        let services = self.services(&file, Some(&named))?;
        if !services.entries.contains_key(&name) {
            let meant = suggest(&name, services.entries.keys().map(|name| &**name).take(2_000));
            let diagnostic = Diagnostic::error(format!(
                "service `{}` extends service `{name}`, which is not declared{}",
                from.service,
                if file == from.file { "" } else { " in that file" }
            ));
            self.report(diagnostic.did_you_mean(meant), &service.value);
            return None;
        }
        Some((Reference { file, service: name }, service.value.span.clone()))
    }

    fn report(&mut self, diagnostic: Diagnostic, node: &Node) {
        if !matches!(node.value, Value::Broken) {
            self.diagnostics.push(diagnostic.at(&node.span));
        }
    }

    fn cycle(&mut self, way: &[(Reference, Node, Span)], next: &Reference) {
        let from = way.iter().position(|(before, ..)| before == next).unwrap_or_default();
        let mut names: Vec<&str> = way[from..].iter().map(|(reference, ..)| &*reference.service).take(20).collect();
        names.push(&next.service);
        let Some(((.., first), rest)) = way[from..].split_first() else { return };
        let message = if way.len() > LONGEST {
            format!("services extend each other more than {LONGEST} deep")
        } else {
            format!("services extend each other: `{}`", names.join(" -> "))
        };
        let diagnostic = rest.iter().take(20).fold(Diagnostic::error(message).at(first), |diagnostic, step| {
            diagnostic.label(&step.2, format!("`{}` extends another here", step.0.service))
        });
        self.diagnostics.push(diagnostic);
    }
}

fn remove(node: &mut Node, key: &str) {
    if let Value::Mapping(entries) = &mut node.value {
        entries.retain(|entry| &*entry.key != key);
    }
}

/// The settings of a base without what the file takes out of the service that extends it.
fn without(base: Node, service: &Arc<str>, resets: &[reset::Path]) -> Node {
    let span = base.span.clone();
    let entry = |key: &Arc<str>, value| Entry { key: key.clone(), key_span: span.clone(), value };
    let services = Node::new(span.clone(), Value::Mapping(vec![entry(service, base)]));
    let mut tree = Node::new(span.clone(), Value::Mapping(vec![entry(&Arc::from("services"), services)]));
    reset::apply(resets, &mut tree);
    let taken = tree.entry_mut("services").and_then(|services| services.value.entry_mut(service));
    taken.map_or_else(
        || Node::new(span.clone(), Value::Mapping(Vec::new())),
        |entry| std::mem::replace(&mut entry.value, Node::new(span.clone(), Value::Broken)),
    )
}
