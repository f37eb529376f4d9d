//! Where values come from: for each part of a value the place it was written at, and its way from there.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use serde::Serialize;

use super::{
    profiles::{self, LeftOut},
    tree::{Node, Origin, Step, Value, Via},
};
use crate::{
    compose::{Document, Untyped},
    diagnostics::{Span, suggest},
};

/// A value that has no parts, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// Keys and positions that lead to it.
    pub path: String,
    /// The value.
    pub value: Untyped,
    /// Where it was written, or, if it is implied, where that stands which implies it. None for what no file says.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// It is not written, but a default or what follows from something else.
    pub implied: bool,
    /// What happened to it on its way, the last first.
    pub way: Vec<Stop>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as people name it from where they are.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A step on the way of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Stop {
    /// `*name`
    Alias {
        /// With its asterisk.
        name: String,
        /// Where the alias stands.
        #[serde(flatten)]
        place: Place,
    },
    /// `<<`
    MergeKey {
        /// Where it stands.
        #[serde(flatten)]
        place: Place,
    },
    /// A variable was filled in.
    Variable {
        /// Its name.
        name: String,
        /// Where it was set: `environment`, `nscompose` for one of nscompose's own, or a file.
        from: String,
        /// Where in the file.
        #[serde(flatten)]
        place: Option<Place>,
    },
    /// `extends:`
    Extends {
        /// The service that is extended.
        service: String,
        /// Where that is said.
        #[serde(flatten)]
        place: Place,
    },
    /// `include:`
    Include {
        /// Where that is said.
        #[serde(flatten)]
        place: Place,
    },
    /// It stands for another value.
    Replaces {
        /// The other one, as it is written.
        value: String,
        /// Where it is written.
        #[serde(flatten)]
        place: Place,
    },
    /// No file says it.
    Outside {
        /// What does: `-p` or `the folder`.
        from: &'static str,
    },
}

/// Where that stood which was taken out: keys by the service.
pub(super) type Taken = BTreeMap<(String, &'static str), Span>;

/// What will have been taken out of the services once their environment is there.
pub(super) fn taken(tree: &Node) -> Taken {
    let services = tree.entry("services").and_then(|services| services.value.entries()).unwrap_or_default();
    let keys = services.iter().flat_map(|service| ["env_file", "label_file"].map(|key| (service, key)));
    keys.filter_map(|(service, key)| {
        Some(((service.key.to_string(), key), service.value.entry(key)?.value.span.clone()))
    })
    .collect()
}

/// A path that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PathError {
    message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl PathError {
    fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), hint }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Key(String),
    Position(usize),
}

/// Explains all parts of the value at a path such as `services.web.ports[0]` or `services["a.b"]`; `.` is the whole.
///
/// Values are as they are printed, as far as they are at the same path there.
pub(super) fn explain(
    tree: &Node,
    printed: Option<&Document>,
    left_out: &LeftOut,
    taken: &Taken,
    path: &str,
) -> Result<Vec<Explained>, PathError> {
    let mut shown = String::new();
    let mut node = tree;
    let mut printed = printed;
    for part in parse(path)? {
        let before = shown.clone();
        add(&mut shown, &part);
        let next = step(node, &part, &before).map_err(|error| gone(&shown, tree, left_out, taken).unwrap_or(error))?;
        printed = printed.and_then(|printed| match &part {
            Part::Key(key) => printed.entries()?.find(|(name, _)| name == key).map(|(_, value)| value),
            Part::Position(at) => items(printed, node)?.get(*at),
        });
        node = next;
    }
    let mut explained = Vec::new();
    leaves(node, printed, &shown, &mut explained);
    Ok(explained)
}

/// The items of a list that is printed with as many as there are.
fn items<'d>(printed: &'d Document, node: &Node) -> Option<&'d [Document]> {
    match (printed, &node.value) {
        (Document::List(items), Value::Sequence(nodes)) if items.len() == nodes.len() => Some(items),
        _ => None,
    }
}

/// Why there is nothing any more at a path at which something may have been written.
fn gone(path: &str, tree: &Node, left_out: &LeftOut, taken: &Taken) -> Option<PathError> {
    let parts = parse(path).ok()?;
    let keys: Option<Vec<&str>> = parts
        .iter()
        .map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Position(_) => None,
        })
        .collect();
    let (what, places, hint) = match keys?[..] {
        ["services", service] => {
            let profiles = left_out.get(service)?;
            return Some(PathError::new(
                format!("`{path}` is left out: its profiles are not asked for"),
                Some(profiles::ask_for(profiles)),
            ));
        }
        ["services", service, "env_file"] => {
            let span = taken.get(&(service.to_owned(), "env_file"))?;
            ("env_file", vec![place(span)], format!("what the files say stands in `services.{service}.environment`"))
        }
        ["services", service, "label_file"] => {
            let span = taken.get(&(service.to_owned(), "label_file"))?;
            ("label_file", vec![place(span)], format!("what the files say stands in `services.{service}.labels`"))
        }
        ["services", service, "extends"] => {
            let service = tree.entry("services").and_then(|services| services.value.entry(service));
            // Its own is the last that its values have come by.
            let extends = |step: &Step| match step {
                Step::Extends(at) => Some(place(at)),
                _ => None,
            };
            let mut places = Vec::new();
            service.iter().for_each(|service| steps(&service.value, &extends, &mut places));
            ("extends", places, "values say `extends` on their way".to_owned())
        }
        ["include"] => {
            let include = |step: &Step| match step {
                Step::Include(at) => Some(place(at)),
                _ => None,
            };
            let mut places = Vec::new();
            steps(tree, &include, &mut places);
            ("include", places, "values say `include` on their way".to_owned())
        }
        _ => return None,
    };
    let places: Vec<String> = places.iter().take(5).map(ToString::to_string).collect();
    let hint = if places.is_empty() { hint } else { format!("it is written at {}; {hint}", places.join(", ")) };
    Some(PathError::new(format!("`{what}` does its work while files are loaded, and is gone afterwards"), Some(hint)))
}

/// The last step of each value that is one of these, each once.
fn steps(node: &Node, wanted: &dyn Fn(&Step) -> Option<Place>, found: &mut Vec<Place>) {
    let mut via = node.via.as_deref();
    while let Some(Via { step, before, .. }) = via {
        if let Some(place) = wanted(step) {
            if !found.contains(&place) {
                found.push(place);
            }
            break;
        }
        via = before.as_deref();
    }
    match &node.value {
        Value::Sequence(nodes) => nodes.iter().for_each(|node| steps(node, wanted, found)),
        Value::Mapping(entries) => entries.iter().for_each(|entry| steps(&entry.value, wanted, found)),
        Value::Scalar(_) | Value::Broken => {}
    }
}

fn step<'n>(node: &'n Node, part: &Part, path: &str) -> Result<&'n Node, PathError> {
    let whole = if path.is_empty() { "the project".to_owned() } else { format!("`{path}`") };
    match (&node.value, part) {
        (Value::Mapping(entries), Part::Key(key)) => match node.entry(key) {
            Some(entry) => Ok(&entry.value),
            None => {
                let known = entries.iter().map(|entry| &*entry.key);
                let hint = match suggest(key, known.clone().take(2_000)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None if entries.is_empty() => "it is empty".to_owned(),
                    None => {
                        let more = if entries.len() > 20 { ", …" } else { "" };
                        let known: Vec<String> = known.take(20).map(|key| format!("`{key}`")).collect();
                        format!("it has {}{more}", known.join(", "))
                    }
                };
                Err(PathError::new(format!("{whole} has no `{key}`"), Some(hint)))
            }
        },
        (Value::Sequence(items), Part::Position(at)) => items.get(*at).ok_or_else(|| {
            let count = items.len();
            let last = count.checked_sub(1).map(|last| format!("the last one is `{path}[{last}]`"));
            let items = if count == 1 { "item" } else { "items" };
            PathError::new(format!("{whole} has {count} {items}, and no [{at}]"), last)
        }),
        (Value::Sequence(_), Part::Key(key)) => {
            Err(PathError::new(format!("{whole} is a list, which has no `{key}`"), Some(format!("write `{path}[0]`"))))
        }
        (_, Part::Position(at)) => {
            Err(PathError::new(format!("{whole} is {}, which has no [{at}]", node.describe()), None))
        }
        (_, Part::Key(key)) => {
            Err(PathError::new(format!("{whole} is {}, which has no `{key}`", node.describe()), None))
        }
    }
}

fn add(path: &mut String, part: &Part) {
    let plain = |key: &str| !key.is_empty() && !key.contains(|c: char| ".[]\"'".contains(c) || c.is_whitespace());
    let _ = match part {
        Part::Position(at) => write!(path, "[{at}]"),
        Part::Key(key) if !plain(key) => {
            write!(path, "[\"{}\"]", key.replace('\\', "\\\\").replace('"', "\\\""))
        }
        Part::Key(key) if path.is_empty() => write!(path, "{key}"),
        Part::Key(key) => write!(path, ".{key}"),
    };
}

fn parse(text: &str) -> Result<Vec<Part>, PathError> {
    let wrong = |what: &str| {
        PathError::new(
            format!("`{text}` is no path: {what}"),
            Some("write one such as `services.web.ports[0]` or `services[\"a.b\"].image`, or `.` for all".to_owned()),
        )
    };
    let mut parts = Vec::new();
    let mut rest = text;
    if rest == "." {
        return Ok(parts);
    }
    let mut first = true;
    while first || !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (part, after) = match inside.strip_prefix(['"', '\'']) {
                Some(quoted) => {
                    let (key, after) = unquote(quoted, inside.starts_with('"'))
                        .ok_or_else(|| wrong("there is no end to what is between quotes"))?;
                    (Part::Key(key), after.strip_prefix(']'))
                }
                None => {
                    let (number, after) = inside.split_once(']').ok_or_else(|| wrong("a `]` is missing"))?;
                    let at = number.parse().map_err(|_| wrong(&format!("`{number}` is no position")))?;
                    (Part::Position(at), Some(after))
                }
            };
            parts.push(part);
            rest = after.ok_or_else(|| wrong("a `]` is missing"))?;
        } else {
            let key = match rest.strip_prefix('.') {
                Some(key) if !first => key,
                None if first => rest,
                _ => return Err(wrong("a `.` or a `[` has to stand between keys")),
            };
            let end = key.find(['.', '[']).unwrap_or(key.len());
            if end == 0 {
                return Err(wrong("a key is empty"));
            }
            parts.push(Part::Key(key[..end].to_owned()));
            rest = &key[end..];
        }
        first = false;
    }
    Ok(parts)
}

/// The text up to the closing quote, and what stands behind that. Between double quotes a backslash means what follows.
fn unquote(text: &str, double: bool) -> Option<(String, &str)> {
    let quote = if double { '"' } else { '\'' };
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((key, &text[at + 1..])),
            '\\' if double => key.push(chars.next()?.1),
            c => key.push(c),
        }
    }
    None
}

fn leaves(node: &Node, printed: Option<&Document>, path: &str, explained: &mut Vec<Explained>) {
    let below = |part: Part| {
        let mut path = path.to_owned();
        add(&mut path, &part);
        path
    };
    match &node.value {
        Value::Sequence(nodes) if !nodes.is_empty() => {
            let printed = printed.and_then(|printed| items(printed, node));
            for (at, node) in nodes.iter().enumerate() {
                leaves(node, printed.and_then(|items| items.get(at)), &below(Part::Position(at)), explained);
            }
        }
        Value::Mapping(entries) if !entries.is_empty() => {
            let printed: HashMap<&str, &Document> = printed.and_then(Document::entries).into_iter().flatten().collect();
            for entry in entries {
                let printed = printed.get(&*entry.key).copied();
                leaves(&entry.value, printed, &below(Part::Key(entry.key.to_string())), explained);
            }
        }
        _ => explained.push(leaf(node, printed, path)),
    }
}

fn leaf(node: &Node, printed: Option<&Document>, path: &str) -> Explained {
    let mut way = Vec::new();
    let mut implied = false;
    let mut outside = false;
    let mut via: Option<&Via> = node.via.as_deref();
    while let Some(Via { step, before, .. }) = via {
        outside |= matches!(step, Step::Outside(_));
        match stop(step) {
            Some(stop) => way.push(stop),
            None => implied = true,
        }
        via = before.as_deref();
    }
    // The name of the project, which a variable gives without any file that names the variable.
    outside |= path == "name" && implied;
    let value = printed.and_then(Untyped::printed).unwrap_or_else(|| Untyped::of(node));
    let place = (!outside).then(|| place(&node.span));
    Explained { path: path.to_owned(), value, place, implied, way }
}

/// None for what makes a value implied.
fn stop(step: &Step) -> Option<Stop> {
    Some(match step {
        Step::Implied => return None,
        Step::Outside(from) => Stop::Outside { from },
        Step::Alias(at) => Stop::Alias { name: first_line(at), place: place(at) },
        Step::MergeKey(at) => Stop::MergeKey { place: place(at) },
        Step::Variable(name, origin) => {
            let (from, place) = match origin {
                Origin::Environment => ("environment".to_owned(), None),
                Origin::Built => ("nscompose".to_owned(), None),
                Origin::File(at) => (at.file().path().to_owned(), Some(place(at))),
            };
            Stop::Variable { name: name.clone(), from, place }
        }
        Step::Extends(at) => {
            Stop::Extends { service: first_line(at).trim_matches(['"', '\'']).to_owned(), place: place(at) }
        }
        Step::Include(at) => Stop::Include { place: place(at) },
        Step::Replaced(at) => Stop::Replaces { value: first_line(at), place: place(at) },
    })
}

fn place(span: &Span) -> Place {
    let position = span.position();
    Place { file: span.file().path().to_owned(), line: position.line, column: position.column }
}

/// What is written there, or the beginning of it.
fn first_line(span: &Span) -> String {
    const LONGEST: usize = 60;
    let text = span.text();
    let line = text.lines().next().unwrap_or_default().trim();
    let mut shown: String = line.chars().take(LONGEST).collect();
    if shown.len() < text.trim_end().len() {
        shown.push('…');
    }
    shown
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alias { name, place } => write!(f, "alias {name} at {place}"),
            Self::MergeKey { place } => write!(f, "merge key at {place}"),
            Self::Variable { name, place: Some(place), .. } => write!(f, "variable {name} from {place}"),
            Self::Variable { name, from, place: None } => write!(f, "variable {name} from {from}"),
            Self::Extends { service, place } => write!(f, "extends {service} at {place}"),
            Self::Include { place } => write!(f, "include at {place}"),
            Self::Outside { from } => write!(f, "from {from}"),
            Self::Replaces { value, place } => write!(f, "instead of {value} at {place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<String, String> {
        let mut shown = String::new();
        parse(text).map_err(|e| e.to_string())?.iter().for_each(|part| add(&mut shown, part));
        Ok(shown)
    }

    #[test]
    fn paths() {
        for (text, normal) in [
            ("name", "name"),
            (".", ""),
            ("services.web.ports[0]", "services.web.ports[0]"),
            ("services['web']", "services.web"),
            ("services[\"a.b\"].image", "services[\"a.b\"].image"),
            ("[\"services\"].x[1][2].y", "services.x[1][2].y"),
            (r#"a["b\"]\\"].c"#, r#"a["b\"]\\"].c"#),
        ] {
            assert_eq!(parts(text).as_deref(), Ok(normal), "{text}");
        }
        for bad in ["", "a.", ".a", "a..b", "a[", "a[x]", "a[\"b", "a[\"b\"", "a[\"b\"c", "a[1]b", "a[-1]", "a]["] {
            assert!(parts(bad).is_err_and(|message| message.contains("no path")) || bad == "a][", "{bad}");
        }
    }
}
