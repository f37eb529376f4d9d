//! Phase 12, second half: every name that something refers to by is looked up.

use std::collections::BTreeMap;

use super::tree::Node;
use crate::{
    compose::{Project, Service},
    diagnostics::{Diagnostic, Diagnostics, suggest},
};

/// Looks up all names.
pub(super) fn check(tree: &Node, project: &Project, diagnostics: &mut Diagnostics) {
    let mut checker = Checker { tree, project, diagnostics };
    for (name, service) in project.services.iter().flat_map(|services| &services.0) {
        checker.service(name, service);
    }
    checker.cycles();
}

struct Checker<'a> {
    tree: &'a Node,
    project: &'a Project,
    diagnostics: &'a mut Diagnostics,
}

/// The value at the end of the keys, or the last one there is.
fn find<'n>(tree: &'n Node, path: &[&str]) -> &'n Node {
    let mut node = tree;
    for key in path {
        match node.entry(key) {
            Some(entry) => node = &entry.value,
            None => break,
        }
    }
    node
}

impl Checker<'_> {
    fn declares<T>(all: Option<&crate::compose::Named<T>>, name: &str) -> bool {
        all.is_some_and(|all| all.0.contains_key(name))
    }

    fn report(&mut self, message: String, path: &[&str], meant: Option<String>, hint: Option<String>) {
        let node = find(self.tree, path);
        let mut diagnostic = crate::compose::located(Diagnostic::error(message), node);
        diagnostic = diagnostic.did_you_mean(meant.as_deref());
        if let Some(hint) = hint {
            diagnostic = diagnostic.hint(hint);
        }
        self.diagnostics.push(diagnostic);
    }

    fn meant<T>(all: Option<&crate::compose::Named<T>>, name: &str) -> Option<String> {
        let names: Vec<&str> = all.into_iter().flat_map(|all| all.0.keys()).map(String::as_str).take(2_000).collect();
        suggest(name, names).map(str::to_owned)
    }

    fn service(&mut self, name: &str, service: &Service) {
        let project = self.project;
        let program = &service.program;
        if program.image.is_none() && program.build.is_none() && program.rootfs.is_none() && program.provider.is_none()
        {
            self.report(
                format!("service `{name}` has neither an image nor a build nor a root file system"),
                &["services", name],
                None,
                Some("say what it runs on with `image:`, `build:` or `rootfs:`".to_owned()),
            );
        }
        if let Some(networks) = &service.networking.networks {
            for network in networks.0.0.keys() {
                if !Self::declares(project.networks.as_ref(), network) && network != "default" {
                    self.report(
                        format!("service `{name}` uses network `{network}`, which is not declared"),
                        &["services", name, "networks", network],
                        Self::meant(project.networks.as_ref(), network),
                        Some("declare it under the top-level `networks:`".to_owned()),
                    );
                }
            }
        }
        if let Some(depends_on) = &service.lifecycle.depends_on {
            for (other, dependency) in &depends_on.0.0 {
                let required = dependency.required.is_none_or(|required| required.0);
                if required && !Self::declares(project.services.as_ref(), other) {
                    self.report(
                        format!("service `{name}` depends on `{other}`, which is not declared"),
                        &["services", name, "depends_on", other],
                        Self::meant(project.services.as_ref(), other),
                        None,
                    );
                }
            }
        }
    }

    fn cycles(&mut self) {}
}
