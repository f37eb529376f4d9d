//! Templates of `--format`, as far as `docker compose ps` is called with them: text with `{{.Key}}`, `{{json .Key}}` and
//! `{{json .}}`, and `table` in front for columns with a header.

use serde_json::{Map, Value};

use crate::diagnostics::{sanitize, suggest};

/// How each row is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    table: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Key(String),
    Json(String),
    /// The whole row as JSON.
    Row,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// It is not closed.
    #[error("`{0}` is not closed with `}}}}`")]
    Open(String),
    /// No row has such a key.
    #[error("there is no `.{key}`{}; there are {known}", .meant.as_ref().map(|key| format!(", did you mean `.{key}`")).unwrap_or_default())]
    Key {
        /// As it was written.
        key: String,
        /// What it may have been meant to be.
        meant: Option<String>,
        /// All there are.
        known: String,
    },
    /// Anything else that Go's templates have.
    #[error("`{{{{{0}}}}}` is not understood: write `{{{{.Key}}}}`, `{{{{json .Key}}}}` or `{{{{json .}}}}`")]
    Action(String),
}

impl Template {
    /// Reads one; `\t` and `\n` stand for a tab and a new line, as Docker has it.
    ///
    /// # Errors
    /// When it names a key that rows do not have, or has more of Go's templates in it.
    pub fn parse(text: &str, keys: &[&str]) -> Result<Self, InvalidTemplate> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let table = text.strip_prefix("table ").or_else(|| text.strip_prefix("table\t"));
        let (mut rest, mut parts) = (table.unwrap_or(&text), Vec::new());
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) =
                after.split_once("}}").ok_or_else(|| InvalidTemplate::Open(format!("{{{{{after}")))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(action(inside, keys)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { parts, table: table.is_some() })
    }

    /// The rows, a line each; a table has a header.
    pub fn render(&self, rows: &[Map<String, Value>]) -> String {
        let lines = rows.iter().map(|row| self.parts.iter().map(|part| part.of(row)).collect::<String>());
        if !self.table {
            return lines.map(|line| line + "\n").collect();
        }
        let header: String = self.parts.iter().map(Part::header).collect();
        let lines: Vec<String> = std::iter::once(header).chain(lines).collect();
        let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
        let width = |at: usize| cells.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
        let line = |line: &Vec<&str>| {
            let padded = line.iter().enumerate().map(|(at, cell)| {
                let width = width(at).unwrap_or(0);
                format!("{cell:<width$}   ")
            });
            format!("{}\n", padded.collect::<String>().trim_end())
        };
        cells.iter().map(line).collect()
    }
}

fn action(text: &str, keys: &[&str]) -> Result<Part, InvalidTemplate> {
    let known = |key: &str| match keys.contains(&key) {
        true => Ok(key.to_owned()),
        false => Err(InvalidTemplate::Key {
            key: key.to_owned(),
            meant: suggest(key, keys.iter().copied()).map(str::to_owned),
            known: keys.iter().map(|key| format!("`.{key}`")).collect::<Vec<_>>().join(", "),
        }),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["json", "."] => Ok(Part::Row),
        ["json", word] if word.starts_with('.') => known(&word[1..]).map(Part::Json),
        [word] if word.starts_with('.') && word.len() > 1 => known(&word[1..]).map(Part::Key),
        _ => Err(InvalidTemplate::Action(text.to_owned())),
    }
}

impl Part {
    fn of(&self, row: &Map<String, Value>) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Key(key) => match row.get(key) {
                None | Some(Value::Null) => String::new(),
                // Programs choose what is in it.
                Some(Value::String(text)) => sanitize(text).into_owned(),
                Some(value) => value.to_string(),
            },
            Self::Json(key) => row.get(key).unwrap_or(&Value::Null).to_string(),
            Self::Row => Value::Object(row.clone()).to_string(),
        }
    }

    /// `EXIT CODE` for `ExitCode`.
    fn header(&self) -> String {
        let (Self::Key(key) | Self::Json(key)) = self else {
            return if let Self::Text(text) = self { text.clone() } else { String::new() };
        };
        let mut header = String::new();
        let mut after_small = false;
        for letter in key.chars() {
            if letter.is_uppercase() && after_small {
                header.push(' ');
            }
            after_small = letter.is_lowercase();
            header.extend(letter.to_uppercase());
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = ["Name", "ExitCode", "Ports"];

    fn rows() -> Vec<Map<String, Value>> {
        let row = |name: &str, code: i32| match serde_json::json!({"Name": name, "ExitCode": code}) {
            Value::Object(row) => row,
            _ => unreachable!(),
        };
        vec![row("web", 0), row("database\u{1b}", 137)]
    }

    fn rendered(text: &str) -> String {
        Template::parse(text, &KEYS).expect("a template").render(&rows())
    }

    #[test]
    fn keys_stand_for_what_rows_have() {
        assert_eq!(rendered("{{.Name}} {{ .ExitCode }}\\t|{{.Ports}}"), "web 0\t|\ndatabase␛ 137\t|\n");
        assert_eq!(rendered("{{json .Name}}{{json .Ports}}"), "\"web\"null\n\"database\\u001b\"null\n");
        assert_eq!(rendered("{{json .}}").lines().count(), 2);
        assert_eq!(rendered("name"), "name\nname\n");
    }

    #[test]
    fn a_table_has_a_header_and_columns() {
        let table = rendered("table {{.Name}}\\t{{.ExitCode}}\\t{{.Ports}}");
        assert_eq!(table, "NAME        EXIT CODE   PORTS\nweb         0\ndatabase␛   137\n");
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let error = |text| Template::parse(text, &KEYS).expect_err("none").to_string();
        assert!(error("{{.Nam}}").starts_with("there is no `.Nam`, did you mean `.Name`; there are `.Name`, "));
        assert_eq!(error("{{.Name"), "`{{.Name` is not closed with `}}`");
        assert!(error("{{range .}}").starts_with("`{{range .}}` is not understood: write `{{.Key}}`, "));
        assert!(error("{{.}}").contains("not understood"));
    }
}
