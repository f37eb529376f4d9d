//! A whole file.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{
    Config, Format, HostPath, Int, Kept, List, Model, Named, Network, Nullable, OneOrMany, Reader, Schemas, Secret,
    Service, Text, Volume,
    mapping::{made_of, mapping},
};
use crate::yaml::tree::{Node, ScalarKind};

mapping! {
    /// A Compose file.
    pub struct Project {
        /// Version of the format, which means nothing any more.
        loaded version: Text,
        /// Name of the project.
        loaded name: Text,
        /// Other Compose files, whose services and the rest become part of this one.
        loaded include: List<Nullable<Include>>,
        /// What runs.
        works services: Kept<Named<Box<Service>>>,
        /// Networks that services join.
        works networks: Named<Network>,
        /// Places for files that outlive containers.
        works volumes: Named<Volume>,
        /// Files with settings.
        works configs: Named<Config>,
        /// Files with secrets.
        works secrets: Named<Secret>,
        /// Language models.
        refused models: Named<Model>,
    }
}

mapping! {
    /// Another Compose file.
    pub struct Include {
        /// Where it is; of several, the later ones are merged over the first.
        loaded path: OneOrMany<List<HostPath>>,
        /// Files with variables for it, instead of the `.env` beside it.
        loaded env_file: OneOrMany<List<HostPath>>,
        /// Folder that its relative paths start from, instead of its own.
        loaded project_directory: HostPath,
    }
    rules {
        const EXTENSIBLE: bool = false;
        const EXPECTED: &'static str = "a path or a mapping";
        fn long(node: Node, _: &mut Reader<'_>) -> Node {
            match node.scalar() {
                Some(scalar) if scalar.kind == ScalarKind::String => {
                    let path = Node { directive: None, ..node.clone() };
                    made_of(&node, vec![("path", path)])
                }
                _ => node,
            }
        }
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": "string"})]
        }
    }
}

impl Project {
    /// Services of these names have so many containers, whatever is written.
    pub(crate) fn set_numbers(&mut self, numbers: &BTreeMap<String, u32>) {
        for (name, number) in numbers {
            let service = self.services.as_mut().and_then(|services| services.0.0.get_mut(name));
            let Some(lifecycle) = service.map(|service| &mut service.lifecycle) else { continue };
            let number = Kept(Int(i64::from(*number)));
            lifecycle.scale = Some(number);
            if let Some(replicas) = lifecycle.deploy.as_mut().and_then(|deploy| deploy.replicas.as_mut()) {
                *replicas = number;
            }
        }
    }

    /// All but the services, which are most of it.
    pub(crate) fn without_services(&self) -> Self {
        let Self { version, name, include, services: _, networks, volumes, configs, secrets, models, extensions } =
            self;
        Self {
            version: version.clone(),
            name: name.clone(),
            include: include.clone(),
            services: None,
            networks: networks.clone(),
            volumes: volumes.clone(),
            configs: configs.clone(),
            secrets: secrets.clone(),
            models: models.clone(),
            extensions: extensions.clone(),
        }
    }
}

/// The JSON Schema of the format.
#[must_use]
pub fn schema() -> Json {
    let mut schemas = Schemas::default();
    let root = Project::schema(&mut schemas);
    schemas.document(root)
}
