//! Phase 12, second half: every name that something refers to by is looked up, and what excludes each other is found.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    missing::Missing,
    tree::{Node, Value},
};
use crate::{
    compose::{FileGrant, Mapping, MountType, Project, Service, located},
    diagnostics::{Diagnostic, Diagnostics, suggest},
};

/// Looks up all names of the services that are wanted.
///
/// `all_services` are declared, wanted or not.
pub(super) fn check(tree: &Node, project: &Project, all_services: &Names, diagnostics: &mut Diagnostics) {
    let sections = SECTIONS.map(|section| (section, names(tree, section)));
    let mut checker =
        Checker { tree, project, all_services, sections: sections.into(), missing: Missing::default(), diagnostics };
    // In the order of the file: the first that misses a name is the one that is shown.
    for entry in find(tree, &["services"]).entries().unwrap_or_default() {
        let known = project.services.as_ref().and_then(|services| services.0.0.get_key_value(&*entry.key));
        if let Some((name, service)) = known {
            checker.service(name, service);
        }
    }
    checker.container_names();
    checker.secrets();
    let missing = checker.missing;
    missing.report(diagnostics);
}

/// What may be referred to.
const SECTIONS: [&str; 6] = ["services", "networks", "volumes", "configs", "secrets", "models"];

/// Names of a section. They come from the tree: something with a mistake in it is declared all the same.
pub(super) type Names = HashSet<Arc<str>>;

/// What a section declares.
pub(super) fn names(tree: &Node, section: &str) -> Names {
    find(tree, &[section]).entries().unwrap_or_default().iter().map(|entry| entry.key.clone()).collect()
}

pub(super) fn services(project: &Project) -> impl Iterator<Item = (&String, &Service)> {
    project.services.iter().flat_map(|services| &services.0.0).map(|(name, service)| (name, &**service))
}

/// What stands at the end of the way, or as near to it as there is something. `#N` is the Nth item of a list.
pub(super) fn find<'n>(tree: &'n Node, way: &[&str]) -> &'n Node {
    let mut node = tree;
    for step in way {
        let next = match (&node.value, step.strip_prefix('#').and_then(|index| index.parse::<usize>().ok())) {
            (Value::Sequence(nodes), Some(index)) => nodes.get(index),
            _ => node.entry(step).map(|entry| &entry.value),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

struct Checker<'a> {
    tree: &'a Node,
    project: &'a Project,
    all_services: &'a Names,
    sections: HashMap<&'static str, Names>,
    missing: Missing,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Checker<'a> {
    fn push(&mut self, diagnostic: Diagnostic, way: &[&str]) {
        if self.diagnostics.is_full() {
            return self.diagnostics.push(diagnostic);
        }
        let located = located(diagnostic, find(self.tree, way));
        self.diagnostics.push(located);
    }

    /// The place of a key, where what is wrong is that it is there at all.
    fn push_at_key(&mut self, diagnostic: Diagnostic, way: &[&str]) {
        let Some((key, before)) = way.split_last() else { return };
        if self.diagnostics.is_full() {
            return self.diagnostics.push(diagnostic);
        }
        let span = find(self.tree, before).entry(key).map(|entry| entry.key_span.clone());
        match span {
            Some(span) => self.diagnostics.push(diagnostic.at(&span)),
            None => self.push(diagnostic, before),
        }
    }

    /// Reports that a name is not declared in its section.
    fn undeclared(&mut self, message: impl Fn() -> String, name: &str, section: &str, way: &[&str]) {
        if self.diagnostics.is_full() {
            return self.diagnostics.push(Diagnostic::error(""));
        }
        if self.missing.is_full() {
            return self.missing.count();
        }
        let service = way.get(1).copied().unwrap_or_default();
        if self.missing.again(section, name, service) {
            return;
        }
        let meant = if self.diagnostics.len() + self.missing.len() > 100 {
            None
        } else {
            let mut others: Vec<&str> = self.sections[section].iter().map(|name| &**name).take(2_000).collect();
            others.sort_unstable();
            suggest(name, others)
        };
        let diagnostic = Diagnostic::error(message()).did_you_mean(meant);
        let diagnostic = match section {
            "services" => diagnostic,
            "volumes" => {
                diagnostic.hint(format!("declare it under the top-level `volumes:`, or write `./{name}` for a folder"))
            }
            section => diagnostic.hint(format!("declare it under the top-level `{section}:`")),
        };
        let diagnostic = located(diagnostic, find(self.tree, way));
        self.missing.first(section, name, service, diagnostic);
    }

    fn declares(&self, section: &str, name: &str) -> bool {
        self.sections[section].contains(name)
    }

    fn service(&mut self, name: &str, service: &Service) {
        self.origin(name, service);
        self.build(name, service);
        self.networks(name, service);
        self.dependencies(name, service);
        self.mounts(name, service);
        self.grants(name, service);
        self.number(name, service);
    }

    /// What its files come from.
    fn origin(&mut self, name: &str, service: &Service) {
        let program = &service.program;
        let image = program.image.as_ref().is_some_and(|image| !image.0.is_empty());
        let rootfs = program.rootfs.as_ref().is_some_and(|rootfs| !rootfs.0.is_empty());
        if image || rootfs || program.build.is_some() || program.provider.is_some() {
            return;
        }
        // One that is there and could not be read has been reported, and so has a slip in its key. Among very many mistakes
        // it is not looked for.
        let reported = || {
            let sources = ["image", "build", "rootfs", "provider"];
            let said = |node: &Node| !node.is_null() && node.scalar().is_none_or(|scalar| !scalar.text.is_empty());
            find(self.tree, &["services", name]).entries().unwrap_or_default().iter().any(|entry| {
                if sources.contains(&&*entry.key) {
                    return said(&entry.value);
                }
                Service::field(&entry.key).is_none() && suggest(&entry.key, sources).is_some()
            })
        };
        if self.diagnostics.is_full() || !reported() {
            self.push_at_key(
                Diagnostic::error(format!("service `{name}` has neither an image nor a build nor a root file system"))
                    .hint("say what it runs on with `image:`, `build:` or `rootfs:`"),
                &["services", name],
            );
        }
    }

    fn build(&mut self, name: &str, service: &Service) {
        let Some(build) = &service.program.build else { return };
        let given = |text: &Option<crate::compose::Text>| text.as_ref().is_some_and(|text| !text.0.is_empty());
        if given(&build.dockerfile) && given(&build.dockerfile_inline) {
            let diagnostic = Diagnostic::error("`dockerfile` and `dockerfile_inline` exclude each other");
            let way = ["services", name, "build", "dockerfile_inline"];
            self.push_at_key(diagnostic.hint("remove one of the two"), &way);
        }
        for (context, source) in build.additional_contexts.iter().flat_map(|contexts| &contexts.0) {
            let Some(other) = source.strip_prefix("service:") else { continue };
            let way = ["services", name, "build", "additional_contexts", context];
            match self.project.services.as_ref().and_then(|services| services.0.0.get(other)) {
                None if self.declares("services", other) => {}
                None => {
                    let message = || format!("service `{name}` builds with service `{other}`, which is not declared");
                    self.undeclared(message, other, "services", &way);
                }
                Some(other_service) if other_service.program.build.is_none() => {
                    let message = format!("service `{name}` builds with service `{other}`, which is not built itself");
                    self.push(Diagnostic::error(message), &way);
                }
                Some(_) => {}
            }
        }
        if let (Some(platforms), Some(platform)) = (&build.platforms, &service.program.platform)
            && !platforms.0.is_empty()
            && !platforms.0.iter().any(|other| other == platform)
        {
            let message = format!("`{}` is not among the platforms that the image is built for", platform.0);
            self.push(Diagnostic::error(message), &["services", name, "platform"]);
        }
    }

    fn networks(&mut self, name: &str, service: &Service) {
        let Some(networks) = &service.networking.networks else { return };
        if networks.0.0.is_empty() {
            return;
        }
        if service.networking.network_mode.as_ref().is_some_and(|mode| !mode.0.is_empty()) {
            let mode = find(self.tree, &["services", name, "network_mode"]).span.clone();
            self.push_at_key(
                Diagnostic::error(format!("service `{name}` has both `network_mode` and `networks`"))
                    .label(&mode, "with its network chosen here")
                    .hint("remove one of the two"),
                &["services", name, "networks"],
            );
        }
        for network in networks.0.0.keys() {
            if network != "default" && !self.declares("networks", network) {
                let message = || format!("service `{name}` uses network `{network}`, which is not declared");
                self.undeclared(message, network, "networks", &["services", name, "networks", network]);
            }
        }
    }

    fn dependencies(&mut self, name: &str, service: &Service) {
        for (other, dependency) in service.lifecycle.depends_on.iter().flat_map(|all| &all.0.0) {
            if self.declares("services", other) {
                continue;
            }
            let optional = dependency.required.is_some_and(|required| !required.0.0);
            let way = ["services", name, "depends_on", other];
            if self.all_services.contains(&**other) {
                if !optional {
                    self.push(
                        Diagnostic::error(format!(
                            "service `{name}` depends on `{other}`, whose profiles are not asked for"
                        ))
                        .hint(format!("ask for one of them with `--profile`, or set `required: false` for `{other}`")),
                        &way,
                    );
                }
                continue;
            }
            let message = || format!("service `{name}` depends on `{other}`, which is not declared");
            self.undeclared(message, other, "services", &way);
        }
    }

    fn mounts(&mut self, name: &str, service: &Service) {
        let mut targets: HashMap<&str, [String; 2]> = HashMap::new();
        let tmpfs = service.storage.tmpfs.iter().flat_map(|tmpfs| &tmpfs.0.0);
        for (index, mount) in tmpfs.enumerate() {
            let target = mount.0.split(':').next().unwrap_or_default();
            self.mounted(name, target, ["tmpfs".to_owned(), format!("#{index}")], &mut targets);
        }
        for (index, mount) in service.storage.volumes.iter().flat_map(|volumes| &volumes.0).enumerate() {
            if let Some(target) = &mount.target {
                self.mounted(name, &target.0, ["volumes".to_owned(), format!("#{index}")], &mut targets);
            }
            let (Some(MountType::Volume), Some(source)) = (mount.r#type, &mount.source) else { continue };
            if !source.0.is_empty() && !self.declares("volumes", &source.0) {
                let message = || format!("service `{name}` mounts volume `{}`, which is not declared", source.0);
                let way = ["services", name, "volumes", &format!("#{index}"), "source"];
                self.undeclared(message, &source.0, "volumes", &way);
            }
        }
    }

    fn mounted<'t>(
        &mut self,
        name: &str,
        target: &'t str,
        way: [String; 2],
        targets: &mut HashMap<&'t str, [String; 2]>,
    ) {
        if let Some(first) = targets.get(target) {
            let first = find(self.tree, &["services", name, &first[0], &first[1]]).span.clone();
            let diagnostic = Diagnostic::error(format!("service `{name}` mounts two things at `{target}`"));
            self.push(diagnostic.label(&first, "the first one"), &["services", name, &way[0], &way[1]]);
        } else {
            targets.insert(target, way);
        }
    }

    /// Configs, secrets and models.
    fn grants(&mut self, name: &str, service: &Service) {
        let configs = service.storage.configs.as_ref().map_or(&[][..], |configs| &configs.0);
        self.granted(configs, "config", "configs", &["services", name, "configs"]);
        let secrets = service.storage.secrets.as_ref().map_or(&[][..], |secrets| &secrets.0.0);
        self.granted(secrets, "secret", "secrets", &["services", name, "secrets"]);
        let build = service.program.build.as_ref().and_then(|build| build.secrets.as_ref());
        let way = ["services", name, "build", "secrets"];
        self.granted(build.map_or(&[][..], |list| &list.0), "secret", "secrets", &way);
        for model in service.security.models.iter().flat_map(|models| models.0.0.keys()) {
            if !self.declares("models", model) {
                let message = || format!("service `{name}` uses model `{model}`, which is not declared");
                let way = ["services", name, "models", model];
                self.undeclared(message, model, "models", &way);
            }
        }
    }

    fn granted(&mut self, grants: &[FileGrant], what: &str, section: &str, way: &[&str]) {
        for (index, grant) in grants.iter().enumerate() {
            let Some(source) = &grant.source else { continue };
            if !self.declares(section, &source.0) {
                let item = format!("#{index}");
                let mut way = way.to_vec();
                way.extend([item.as_str(), "source"]);
                let service = way.get(1).copied().unwrap_or_default().to_owned();
                let message = || format!("service `{service}` reads {what} `{}`, which is not declared", source.0);
                self.undeclared(message, &source.0, section, &way);
            }
        }
    }

    /// Several containers cannot have one name.
    fn number(&mut self, name: &str, service: &Service) {
        let number = service.number();
        if number > 1 && service.naming.container_name.is_some() {
            self.push_at_key(
                Diagnostic::error(format!("service `{name}` has {number} containers, which cannot have one name"))
                    .hint("remove `container_name`"),
                &["services", name, "container_name"],
            );
        }
    }

    fn container_names(&mut self) {
        let project = self.project;
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        // What Compose calls a container of a service that gives it no name.
        let prefix = project.name.as_ref().map(|name| format!("{}-", name.0)).unwrap_or_default();
        let usual = |own: &str| -> Option<&str> {
            let (other, number) = own.strip_prefix(&*prefix)?.rsplit_once('-')?;
            let number = number.parse::<i64>().ok().filter(|n| *n > 0 && n.to_string() == number)?;
            let (other, service) = project.services.as_ref()?.0.0.get_key_value(other)?;
            (service.naming.container_name.is_none() && number <= service.number()).then_some(other.as_str())
        };
        for (name, service) in services(project) {
            let Some(own) = &service.naming.container_name else { continue };
            if let Some(other) = usual(&own.0).filter(|other| *other != name) {
                let message = format!("services `{other}` and `{name}` have one `container_name`");
                let diagnostic = Diagnostic::error(message)
                    .hint(format!("`{}` is what the container of `{other}` is called without one", own.0));
                self.push(diagnostic, &["services", name, "container_name"]);
            }
            if let Some(first) = taken.insert(&own.0, name) {
                let first_span = find(self.tree, &["services", first, "container_name"]).span.clone();
                let diagnostic =
                    Diagnostic::error(format!("services `{first}` and `{name}` have one `container_name`"));
                self.push(diagnostic.label(&first_span, "the first one"), &["services", name, "container_name"]);
            }
        }
    }

    fn secrets(&mut self) {
        let project = self.project;
        for (name, secret) in project.secrets.iter().flat_map(|secrets| &secrets.0) {
            let external = secret.external.is_some_and(|external| external.0);
            // Reading has said it of one without any.
            let written = find(self.tree, &["secrets", name]);
            let written = ["file", "environment", "driver"].iter().any(|key| written.entry(key).is_some());
            if written && !external && secret.file.is_none() && secret.environment.is_none() {
                self.push_at_key(
                    Diagnostic::error(format!("secret `{name}` has neither `file` nor `environment`, and needs one")),
                    &["secrets", name],
                );
            }
        }
    }
}
