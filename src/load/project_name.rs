//! The name of a project: from the caller, `COMPOSE_PROJECT_NAME`, the last file with a `name:`, or the folder.

use std::path::Path;

use super::{
    interpolate::Interpolator,
    tree::{Node, Origin, ScalarKind, Value},
    variables::Variables,
};
use crate::{
    diagnostics::{Diagnostic, Diagnostics},
    model::ProjectName,
};

/// Where the name is from.
#[derive(Debug, Clone)]
pub(super) enum From {
    /// The caller.
    Given,
    /// `COMPOSE_PROJECT_NAME`, which was set there.
    Variable(Origin),
    /// A file.
    Written,
    /// The folder.
    Folder,
}

pub(super) fn of(
    given: Option<&str>,
    written: Option<&Node>,
    variables: &Variables,
    directory: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<(ProjectName, From)> {
    let given = given.map(|name| (name, "the project name", From::Given));
    let variable =
        variables.get("COMPOSE_PROJECT_NAME").filter(|variable| !variable.value.is_empty()).map(|variable| {
            let from = From::Variable(variable.origin.clone());
            (variable.value.as_str(), "COMPOSE_PROJECT_NAME", from)
        });
    if let Some((name, origin, from)) = given.or(variable) {
        return match name.parse() {
            Ok(name) => Some((name, from)),
            Err(error) => {
                let diagnostic = Diagnostic::error(format!("{origin} cannot be used: {error}"));
                diagnostics.push(with_normalized(diagnostic, name));
                None
            }
        };
    }
    if let Some(written) = written {
        let mut node = written.clone();
        // Its mistakes are found once more, and reported, when the whole tree is filled in.
        Interpolator::new(variables).node(&mut node, &mut Diagnostics::new());
        return match &node.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::String => match scalar.text.parse() {
                Ok(name) => Some((name, From::Written)),
                // As Compose does it, which people may not have meant.
                Err(error) => match normalize(&scalar.text).parse::<ProjectName>() {
                    Ok(name) => {
                        let message = format!("`{}` is no name of a project: it is called `{name}`", scalar.text);
                        diagnostics.push(Diagnostic::warning(message).at(&node.span));
                        Some((name, From::Written))
                    }
                    Err(_) => {
                        diagnostics.push(Diagnostic::error(format!("{error}")).at(&node.span));
                        None
                    }
                },
            },
            Value::Broken => None,
            _ => {
                let found = node.describe();
                diagnostics.push(Diagnostic::error(format!("`name` takes a string, not {found}")).at(&node.span));
                None
            }
        };
    }
    let folder = directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name = normalize(&folder).parse().ok().map(|name| (name, From::Folder));
    if name.is_none() {
        diagnostics.push(
            Diagnostic::error(format!("no project name can be made of the folder `{}`", directory.display()))
                .hint("give one with `-p NAME`, or with `name:` in the file"),
        );
    }
    name
}

/// True for an empty text, which names nothing, unless a variable made it so.
pub(super) fn says_nothing(node: &Node) -> bool {
    node.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::String && scalar.text.is_empty())
}

fn with_normalized(diagnostic: Diagnostic, name: &str) -> Diagnostic {
    match normalize(name).as_str() {
        "" => diagnostic,
        normalized => diagnostic.hint(format!("`{normalized}` would do")),
    }
}

/// A name that follows the rules, as Compose makes it of a folder's.
fn normalize(name: &str) -> String {
    let name: String =
        name.to_lowercase().chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')).take(100).collect();
    name.trim_start_matches(['_', '-']).to_owned()
}
