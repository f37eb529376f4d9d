//! One mistake, and all mistakes of a run.

use std::fmt;

use super::{Span, json, render};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and does not mean what it seems to.
    Warning,
}

/// A second place that explains the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there.
    pub text: String,
}

/// One mistake: what, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, present, no full stop, names in backticks.
    pub message: String,
    /// Where, if it is in a file.
    pub span: Option<Span>,
    /// Further places.
    pub labels: Vec<Label>,
    /// How to mend it.
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span: None, labels: Vec::new(), hints: Vec::new() }
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Says where it is.
    #[must_use]
    pub fn at(mut self, span: &Span) -> Self {
        self.span = Some(span.clone());
        self
    }

    /// Adds another place that explains it.
    #[must_use]
    pub fn label(mut self, span: &Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span: span.clone(), text: text.into() });
        self
    }

    /// Adds a way to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds "did you mean …" where there is a candidate.
    #[must_use]
    pub fn did_you_mean(self, candidate: Option<&str>) -> Self {
        match candidate {
            Some(candidate) => self.hint(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }

    /// Cuts texts that hold names of a hostile file: a thousand of them are kept.
    pub(crate) fn shorten(&mut self) {
        const LONGEST: usize = 10_000;
        let texts = self.hints.iter_mut().chain(self.labels.iter_mut().map(|label| &mut label.text));
        for text in texts.chain([&mut self.message]).filter(|text| text.len() > LONGEST) {
            let cut = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
            *text = format!("{}…", &text[..cut]);
        }
    }

    /// The text for people, with its excerpt, ending in a line break.
    pub fn render(&self, color: bool) -> String {
        render::diagnostic(self, color)
    }
}

/// All mistakes of a run, in the order of the files and of the places in them, warnings before errors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// How many of the list are errors.
    errors: usize,
    /// How many were not kept.
    dropped: usize,
    /// A way to mend them all.
    hint: Option<&'static str>,
}

/// Rendering more than this helps nobody, and a hostile file has millions.
const MOST_RENDERED: usize = 100;
/// Keeping more than this, of errors and of warnings each, costs memory for nothing.
const MOST_KEPT: usize = 1000;

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.shorten();
        // Neither keeps the other out.
        let is_error = diagnostic.severity == Severity::Error;
        let kept = if is_error { self.errors } else { self.list.len() - self.errors };
        if kept < MOST_KEPT {
            self.errors += usize::from(is_error);
            self.list.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds a way to mend them all, which is said once, after the last.
    pub fn close(&mut self, hint: &'static str) {
        self.hint = Some(hint);
    }

    /// Whether there are so many errors that those to come are only counted: where they are need not be looked up.
    pub fn is_full(&self) -> bool {
        self.errors >= MOST_KEPT
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len() + self.dropped
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Puts them in file order, warnings before errors, which are what is read last: those without a place first, else by file, place and the order in which they were found.
    /// What was found twice, as in a file that is read alone and again with others, is said once.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|diagnostic| {
            let place =
                diagnostic.span.as_ref().map(|span| (span.file().order(), span.bytes().start, span.bytes().end));
            (diagnostic.severity == Severity::Error, place)
        });
        let mut kept: Vec<Diagnostic> = Vec::with_capacity(self.list.len());
        for diagnostic in self.list.drain(..) {
            let same_place = kept.iter().rev().take_while(|other| other.span == diagnostic.span);
            if !same_place.into_iter().any(|other| *other == diagnostic) {
                kept.push(diagnostic);
            }
        }
        self.errors = kept.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        self.list = kept;
    }

    /// The text of all of them for programs: a JSON object a line.
    pub fn render_json(&self) -> String {
        json::diagnostics(self)
    }

    /// The text of all of them for people, an empty line between two. If there are too many, warnings are left out first.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        let mut errors = self.errors.min(MOST_RENDERED);
        let mut warnings = MOST_RENDERED - errors;
        for diagnostic in &self.list {
            let left = if diagnostic.severity == Severity::Error { &mut errors } else { &mut warnings };
            if *left == 0 {
                continue;
            }
            *left -= 1;
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&diagnostic.render(color));
        }
        if self.len() > MOST_RENDERED {
            text.push_str(&format!("\n… and {} more\n", self.len() - MOST_RENDERED));
        }
        if let Some(hint) = self.hint {
            text.push('\n');
            text.push_str(&render::labelled("hint", hint, render::HINT, color));
        }
        text
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        let mut diagnostics = Self::new();
        diagnostics.push(diagnostic);
        diagnostics
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: T) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Diagnostics {}
