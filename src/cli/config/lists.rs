//! What a project has, one thing a line, and the variables that it names as a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    compose::{Project, Service},
    diagnostics::{Failure, suggest},
    load::{Contents, UsedVariable},
};

/// A text with a line for each.
pub(super) fn lines<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().fold(String::new(), |text, item| text + item.as_ref() + "\n")
}

fn services(project: &Project) -> impl Iterator<Item = (&String, &Service)> {
    project.services.iter().flat_map(|services| &services.0.0).map(|(name, service)| (name, &**service))
}

/// Names of services, each behind those that it depends on.
pub(super) fn in_order(project: &Project) -> Vec<&str> {
    let dependencies = |name: &str| {
        let service = project.services.as_ref().and_then(|services| services.0.0.get(name));
        let depends_on = service.and_then(|service| service.lifecycle.depends_on.as_ref());
        depends_on.into_iter().flat_map(|depends_on| depends_on.0.0.keys())
    };
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for (start, _) in services(project) {
        if !seen.insert(start.as_str()) {
            continue;
        }
        let mut way = vec![(start.as_str(), dependencies(start))];
        while let Some((name, rest)) = way.last_mut() {
            match rest.next() {
                Some(next) if seen.insert(next.as_str()) => way.push((next, dependencies(next))),
                Some(_) => {}
                None => {
                    order.push(*name);
                    way.pop();
                }
            }
        }
    }
    // What is depended on may be missing, if nobody checked.
    order.retain(|name| project.services.as_ref().is_some_and(|services| services.0.0.contains_key(*name)));
    order
}

/// The image of each service, by the name of the service; what is built and has no name is called after the project.
pub(super) fn images(project: &Project, name: &str) -> Vec<String> {
    let image = |(service, config): (&String, &Service)| {
        let program = &config.program;
        match (&program.image, &program.build) {
            (Some(image), _) => Some(image.0.clone()),
            (None, Some(_)) => Some(format!("{name}-{service}")),
            (None, None) => None,
        }
    };
    services(project).filter_map(image).collect()
}

pub(super) fn models(project: &Project) -> Vec<&str> {
    let models = project.models.iter().flat_map(|models| models.0.values());
    models.filter_map(|model| model.model.as_ref()).map(|model| model.0.as_str()).collect()
}

pub(super) fn profiles(project: &Project) -> BTreeSet<&str> {
    services(project)
        .filter_map(|(_, service)| service.lifecycle.profiles.as_ref())
        .flat_map(|profiles| profiles.0.iter().map(|profile| profile.0.as_str()))
        .collect()
}

/// A line with the fingerprint for each service of a list, `*` being all of them.
pub(super) fn hashes(contents: &Contents, list: &str) -> Result<String, Failure> {
    let all: BTreeMap<&str, &Service> =
        services(&contents.project).map(|(name, service)| (name.as_str(), service)).collect();
    let mut text = String::new();
    let wanted: Vec<&str> = if list == "*" { all.keys().copied().collect() } else { list.split(',').collect() };
    for name in wanted {
        let Some(service) = all.get(name) else {
            return Err(unknown(name, &contents.all_services));
        };
        let _ = writeln!(text, "{name} {}", hash(service)?);
    }
    Ok(text)
}

/// The same for all ways of writing the same: keys are in order, and everything is in its long form.
fn hash(service: &Service) -> Result<String, Failure> {
    let failed = |e: serde_json::Error| Failure::internal("cannot write the service").caused_by(&e);
    let value = serde_json::to_value(service).map_err(failed)?;
    let text = serde_json::to_string(&value).map_err(failed)?;
    Ok(Sha256::digest(text).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

pub(super) fn unknown(name: &str, all: &[String]) -> Failure {
    if all.iter().any(|known| known == name) {
        return Failure::usage(format!("service `{name}` is left out: nobody asks for one of its profiles"))
            .hint("ask for one with --profile, or for the service by its name");
    }
    let failure = Failure::usage(format!("there is no service `{name}` in this project"));
    match suggest(name, all.iter().map(String::as_str)) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure,
    }
}

/// Columns as wide as Docker Compose has them.
pub(super) fn variables_table(variables: &[UsedVariable]) -> String {
    const WIDTH: usize = 20;
    const APART: usize = 3;
    let required: Vec<String> = variables.iter().map(|variable| variable.required.to_string()).collect();
    let mut rows = vec![["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"].map(String::from)];
    rows.extend(variables.iter().zip(required).map(|(variable, required)| {
        [&variable.name, &required, &variable.default, &variable.alternate]
            .map(|text| crate::diagnostics::sanitize(text).into_owned())
    }));
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [0, 1, 2].map(|column| WIDTH.max(widest(column) + APART));
    rows.iter().fold(String::new(), |mut text, [name, required, default, alternate]| {
        let [a, b, c] = widths;
        let _ = writeln!(text, "{name:a$}{required:b$}{default:c$}{alternate}");
        text
    })
}

pub(super) fn variables_json(variables: &[UsedVariable]) -> Result<String, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Row<'a> {
        name: &'a str,
        default_value: &'a str,
        presence_value: &'a str,
        required: bool,
    }
    let row = |variable: &'_ UsedVariable| -> (String, serde_json::Value) {
        let UsedVariable { name, required, default, alternate } = variable;
        let row = Row { name, default_value: default, presence_value: alternate, required: *required };
        (name.clone(), serde_json::to_value(row).unwrap_or_default())
    };
    let rows: serde_json::Map<String, serde_json::Value> = variables.iter().map(row).collect();
    let text = serde_json::to_string_pretty(&rows).map_err(|e| Failure::internal("cannot write them").caused_by(&e))?;
    Ok(text + "\n")
}
