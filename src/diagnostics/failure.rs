//! Why a verb did not do what it was asked to do.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};

use super::{
    Diagnostics, json,
    render::{ERROR, HINT, labelled},
    sanitize,
};

/// Who can do something about a failure; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// What was asked could not be done: a service failed, a port is taken.
    Operation,
    /// The command line makes no sense.
    Usage,
    /// A file has mistakes.
    File,
    /// This machine lacks something.
    Host,
    /// A mistake of nscompose's own.
    Internal,
}

impl FailureKind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Operation => 1,
            Self::Usage => 2,
            Self::File => 3,
            Self::Host => 4,
            // EX_SOFTWARE of sysexits.h(3head).
            Self::Internal => 70,
        }
    }
}

/// What a verb returns when it fails, rendered once, at the top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failure(Box<Details>);

/// Behind a pointer, since every result carries the room for one and few have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Details {
    kind: FailureKind,
    message: String,
    causes: Vec<String>,
    notes: Vec<(String, Vec<String>)>,
    hints: Vec<String>,
    /// Instead of that of the kind.
    exit_code: Option<u8>,
    /// Those of a file, which never crosses the control socket: files are read where the command runs.
    #[serde(skip)]
    diagnostics: Diagnostics,
}

impl Failure {
    /// A failure with its message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind,
            message: message.into(),
            causes: Vec::new(),
            notes: Vec::new(),
            hints: Vec::new(),
            exit_code: None,
            diagnostics: Diagnostics::new(),
        }))
    }

    /// A failure from an error: its message, then the chain of its sources.
    pub fn from_error(kind: FailureKind, error: &dyn Error) -> Self {
        let failure = Self::new(kind, error.to_string());
        match error.source() {
            Some(source) => failure.caused_by(source),
            None => failure,
        }
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// This machine lacks something.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Host, message)
    }

    /// What was asked could not be done.
    pub fn operation(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Operation, message)
    }

    /// A mistake of nscompose's own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal, message)
    }

    /// Appends an error and the chain of its sources as causes.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some errors of libraries repeat their source in their own text.
            if self.0.causes.last().is_none_or(|last| *last != text) {
                self.0.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds lines under a heading, such as the last lines that a service logged.
    #[must_use]
    pub fn note(mut self, title: impl Into<String>, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.notes.push((title.into(), lines.into_iter().map(Into::into).collect()));
        self
    }

    /// Adds a way to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Ends the process with another code than the kind has.
    #[must_use]
    pub fn with_exit_code(mut self, code: u8) -> Self {
        self.0.exit_code = Some(code);
        self
    }

    /// Who can do something about it.
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        self.0.exit_code.unwrap_or(self.0.kind.exit_code())
    }

    /// What happened, in one line; empty when diagnostics say it.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The causes, the nearest first.
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// The mistakes of the file, if that is what it is about.
    pub fn diagnostics(&self) -> &Diagnostics {
        &self.0.diagnostics
    }

    /// Lines under their headings.
    pub fn notes(&self) -> &[(String, Vec<String>)] {
        &self.0.notes
    }

    /// Ways to mend it.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// The text for programs: a JSON object a line.
    pub fn render_json(&self) -> String {
        json::failure(self)
    }

    /// The text for people, ending in a line break.
    pub fn render(&self, color: bool) -> String {
        let mut text = self.0.diagnostics.render(color);
        if !self.0.message.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&labelled("error", &self.0.message, ERROR, color));
        }
        for cause in &self.0.causes {
            text.push_str(&labelled("caused by", cause, ERROR, color));
        }
        for (title, lines) in &self.0.notes {
            text.push_str(&sanitize(title));
            text.push_str(":\n");
            for line in lines {
                text.push_str("  | ");
                text.push_str(&sanitize(line));
                text.push('\n');
            }
        }
        for hint in &self.0.hints {
            text.push_str(&labelled("hint", hint, HINT, color));
        }
        text
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        let mut failure = Self::new(FailureKind::File, "");
        failure.0.diagnostics = diagnostics;
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.message.is_empty() { write!(f, "{}", self.0.diagnostics) } else { f.write_str(&self.0.message) }
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot mount `/proc`")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_chain_is_walked_once() {
        let error = Outer(std::io::Error::other("permission denied"));
        let failure = Failure::operation("service `web` did not start")
            .caused_by(&error)
            .note("last lines of `web`", ["ready\x1b[2J"])
            .hint("run `nscompose check`");
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(
            failure.render(false),
            "error: service `web` did not start
caused by: cannot mount `/proc`
caused by: permission denied
last lines of `web`:
  | ready␛[2J
hint: run `nscompose check`
"
        );
        assert_eq!(Failure::from_error(FailureKind::Host, &error).causes(), ["permission denied"]);
    }

    #[test]
    fn mistakes_of_a_file_are_rendered_as_they_are() {
        let failure = Failure::from(Diagnostics::from(super::super::Diagnostic::error("no")));
        assert_eq!((failure.exit_code(), failure.render(false).as_str()), (3, "error: no\n"));
    }
}
