//! Diagnostics for programs: a JSON object a line, as docs/reference/messages.md says.

use serde::Serialize;

use super::{Diagnostic, Diagnostics, Failure, Severity, Span, sanitize};

/// A message; what it lacks is left out.
#[derive(Debug, Serialize)]
struct Message {
    severity: &'static str,
    message: String,
    #[serde(flatten)]
    place: Option<Place>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Note>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

/// Lines and columns from 1, columns in characters; the end is behind the last character.
#[derive(Debug, Serialize)]
struct Place {
    file: String,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

#[derive(Debug, Serialize)]
struct Label {
    message: String,
    #[serde(flatten)]
    place: Place,
}

#[derive(Debug, Serialize)]
struct Note {
    title: String,
    lines: Vec<String>,
}

impl Place {
    fn of(span: &Span) -> Self {
        let (start, end) = (span.position(), span.file().position(span.bytes().end));
        Self {
            file: sanitize(span.file().path()).into_owned(),
            line: start.line,
            column: start.column,
            end_line: end.line,
            end_column: end.column,
        }
    }
}

impl Message {
    fn new(severity: Severity, message: &str) -> Self {
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        Self {
            severity,
            message: sanitize(message).into_owned(),
            place: None,
            labels: Vec::new(),
            causes: Vec::new(),
            notes: Vec::new(),
            hints: Vec::new(),
        }
    }

    fn line(&self) -> String {
        serde_json::to_string(self).map(|text| text + "\n").unwrap_or_default()
    }
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    texts.into_iter().map(|text| sanitize(text).into_owned()).collect()
}

pub(super) fn diagnostics(diagnostics: &Diagnostics) -> String {
    let mut text: String = diagnostics.iter().map(diagnostic).collect();
    let more = diagnostics.len() - diagnostics.iter().count();
    if more > 0 {
        let severity = if diagnostics.has_errors() { Severity::Error } else { Severity::Warning };
        text.push_str(&Message::new(severity, &format!("and {more} more")).line());
    }
    text
}

fn diagnostic(diagnostic: &Diagnostic) -> String {
    let label =
        |label: &super::Label| Label { message: sanitize(&label.text).into_owned(), place: Place::of(&label.span) };
    Message {
        place: diagnostic.span.as_ref().map(Place::of),
        labels: diagnostic.labels.iter().map(label).collect(),
        hints: texts(&diagnostic.hints),
        ..Message::new(diagnostic.severity, &diagnostic.message)
    }
    .line()
}

pub(super) fn failure(failure: &Failure) -> String {
    let mut text = diagnostics(failure.diagnostics());
    if !failure.message().is_empty() {
        let note =
            |(title, lines): &(String, Vec<String>)| Note { title: sanitize(title).into_owned(), lines: texts(lines) };
        let message = Message {
            causes: texts(failure.causes()),
            notes: failure.notes().iter().map(note).collect(),
            hints: texts(failure.hints()),
            ..Message::new(Severity::Error, failure.message())
        };
        text.push_str(&message.line());
    }
    text
}

/// A warning without a place.
pub(crate) fn warning(text: &str) -> String {
    Message::new(Severity::Warning, text).line()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::SourceFile;

    #[test]
    fn a_diagnostic_is_a_line_with_its_places() {
        let file = SourceFile::new(0, "compose.yaml", "a: ü\nb:\n  c\n");
        let span = |text: &str| {
            let at = file.text().find(text).expect("there");
            file.span(at..at + text.len())
        };
        let diagnostic = Diagnostic::error("no \u{1b}").at(&span("ü\nb")).label(&span("c"), "here").hint("do");
        assert_eq!(
            super::diagnostic(&diagnostic),
            "{\"severity\":\"error\",\"message\":\"no ␛\",\"file\":\"compose.yaml\",\"line\":1,\"column\":4,\
             \"end_line\":2,\"end_column\":2,\"labels\":[{\"message\":\"here\",\"file\":\"compose.yaml\",\"line\":3,\
             \"column\":3,\"end_line\":3,\"end_column\":4}],\"hints\":[\"do\"]}\n"
        );
        assert_eq!(warning("w"), "{\"severity\":\"warning\",\"message\":\"w\"}\n");
    }

    #[test]
    fn a_failure_has_its_causes() {
        let error = std::io::Error::other("full");
        let text = failure(&Failure::host("cannot write").caused_by(&error).note("log", ["x"]).hint("remove"));
        assert_eq!(
            text,
            "{\"severity\":\"error\",\"message\":\"cannot write\",\"causes\":[\"full\"],\
             \"notes\":[{\"title\":\"log\",\"lines\":[\"x\"]}],\"hints\":[\"remove\"]}\n"
        );
    }
}
