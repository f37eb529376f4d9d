//! Phase 3 as well: the variables of a `.env` file, by the rules of Compose.
//!
//! ```text
//! # a comment              NAME=value # another
//! export NAME=value        NAME: value
//! SINGLE='taken as $it is' DOUBLE="with $VARIABLES and \n escapes"
//! INHERITED                (taken from the environment, if it is there)
//! ```
//!
//! Quoted values may go over several lines. Variables see the environment first, then what stands further up.

use std::collections::BTreeMap;

use super::template;
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile};

/// Text that a file may grow to.
const MOST_TEXT: usize = 16 * 1024 * 1024;

/// Reads a file. What is wrong in it goes to `diagnostics`.
pub(crate) fn parse(
    file: &SourceFile,
    environment: &BTreeMap<String, String>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, String> {
    let mut reader = Reader { file, at: 0, environment, variables: BTreeMap::new(), grown: 0 };
    while reader.skip_blank() {
        if let Err(diagnostic) = reader.line(diagnostics) {
            diagnostics.push(diagnostic);
            reader.skip_line();
        }
    }
    reader.variables
}

struct Reader<'a> {
    file: &'a SourceFile,
    at: usize,
    environment: &'a BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    grown: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.file.text()[self.at..]
    }

    /// Goes to the next character that is no blank and in no comment.
    fn skip_blank(&mut self) -> bool {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            match self.rest().chars().next() {
                None => return false,
                Some('#') => self.skip_line(),
                Some(_) => return true,
            }
        }
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    fn line(&mut self, diagnostics: &mut Diagnostics) -> Result<(), Diagnostic> {
        if let Some(after) = self.rest().strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.at += "export".len();
            self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        }
        let start = self.at;
        let line = self.rest().split('\n').next().unwrap_or_default();
        let end = line.find(['=', ':']).unwrap_or(line.len());
        let name = line[..end].split(" #").next().unwrap_or_default().trim();
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
        if name.is_empty() || !name.chars().all(valid) {
            let shown = line.len().min(end.max(1));
            return Err(Diagnostic::error(format!("`{name}` is not the name of a variable"))
                .at(&self.file.span(start..start + shown))
                .hint("a line is `NAME=value`"));
        }
        if end == line.len() {
            self.at += line.len();
            if let Some(value) = self.environment.get(name) {
                self.variables.insert(name.to_owned(), value.clone());
            }
            return Ok(());
        }
        self.at += end + 1;
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        let value = self.value(diagnostics)?;
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }

    fn value(&mut self, diagnostics: &mut Diagnostics) -> Result<String, Diagnostic> {
        let start = self.at;
        match self.rest().chars().next() {
            Some('\'') => {
                let raw = self.quoted('\'')?;
                Ok(raw.to_owned())
            }
            Some('"') => {
                let raw = self.quoted('"')?;
                self.fill(&unescape(raw), start, diagnostics)
            }
            _ => {
                let line = self.rest().split('\n').next().unwrap_or_default();
                self.at += line.len();
                let comment =
                    line.char_indices().find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
                let value = comment.map_or(line, |(at, _)| &line[..at]).trim();
                self.fill(value, start, diagnostics)
            }
        }
    }

    /// What stands between quotes; the rest of the line may only be a comment.
    fn quoted(&mut self, quote: char) -> Result<&'a str, Diagnostic> {
        let start = self.at;
        let body = &self.rest()[1..];
        let mut escaped = false;
        let end = body.char_indices().find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped && quote == '"';
            ends
        });
        let Some((end, _)) = end else {
            return Err(Diagnostic::error("the quoted value is not closed").at(&self.file.span(start..start + 1)));
        };
        self.at += end + 2;
        let after = self.rest().split('\n').next().unwrap_or_default();
        let trimmed = after.trim();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            return Err(Diagnostic::error("text follows the quoted value")
                .at(&self.file.span(self.at..self.at + after.len()))
                .hint("put the whole value between quotes"));
        }
        self.at += after.len();
        Ok(&body[..end])
    }

    fn fill(&mut self, text: &str, start: usize, diagnostics: &mut Diagnostics) -> Result<String, Diagnostic> {
        if !text.contains('$') {
            return Ok(text.to_owned());
        }
        let span = self.file.span(start..self.at);
        let located = |problem: template::Problem| Diagnostic::error(problem.message).at(&span);
        let parts = template::parse(text).map_err(located)?;
        let lookup = |name: &str| self.environment.get(name).or_else(|| self.variables.get(name)).cloned();
        let value = template::evaluate(&parts, &lookup, &mut |name, _| {
            diagnostics
                .push(Diagnostic::warning(format!("the variable `{name}` is not set and becomes empty")).at(&span));
        })
        .map_err(located)?;
        self.grown += value.len();
        if self.grown > MOST_TEXT {
            return Err(
                Diagnostic::error(format!("variables make more than {} MiB of text", MOST_TEXT >> 20)).at(&span)
            );
        }
        Ok(value)
    }
}

/// Escapes of a value in double quotes. `\$` stays a dollar sign through interpolation.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('$') => text.push_str("$$"),
            Some(c @ ('\\' | '"' | '\'' | '`')) => text.push(c),
            Some(other) => {
                text.push('\\');
                text.push(other);
            }
            None => text.push('\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (BTreeMap<String, String>, Diagnostics) {
        let environment = BTreeMap::from([("HOST".to_owned(), "h".to_owned())]);
        let mut diagnostics = Diagnostics::new();
        let variables = parse(&SourceFile::new(0, ".env", text), &environment, &mut diagnostics);
        (variables, diagnostics)
    }

    #[test]
    fn quoting() {
        let (variables, diagnostics) = read(concat!(
            "# comment\n\nA=1\nexport B = two words  # comment\nC='$A \\n'\nD=\"$A\\n\\$A \\\"q\\\"\"\nE=x#y\n",
            "F: yaml\nG=\nH=$A$HOST${U:-d}\nI=\"two\nlines\" # c\nHOST\nMISSING\nJ=a=b\r\n",
        ));
        assert!(diagnostics.is_empty(), "{diagnostics}");
        let shown: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            [
                "A=1",
                "B=two words",
                "C=$A \\n",
                "D=1\n$A \"q\"",
                "E=x#y",
                "F=yaml",
                "G=",
                "H=1hd",
                "HOST=h",
                "I=two\nlines",
                "J=a=b"
            ]
        );
    }

    #[test]
    fn mistakes_are_found_and_the_rest_is_read() {
        let (variables, diagnostics) = read("A B=1\nC=\"x\" y\nD=${\nE=5\nF='open\n");
        assert_eq!(variables.get("E").map(String::as_str), Some("5"));
        assert_eq!(diagnostics.len(), 4, "{diagnostics}");
    }
}
