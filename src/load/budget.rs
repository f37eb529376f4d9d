//! What a project may cost altogether: each file is bounded by itself, and a file can be loaded many times.

use crate::diagnostics::{Diagnostic, Diagnostics, Span};

/// Values that are loaded, copied by `extends`, or gone through to merge a document.
const MOST_NODES: usize = 2_000_000;
/// Text that variables make.
const MOST_TEXT: usize = 128 * 1024 * 1024;
/// Times that a file is included.
const MOST_INCLUDES: usize = 10_000;

/// What has been spent. Once it is too much, that has been reported, and whoever asks stops.
#[derive(Debug, Default)]
pub(super) struct Budget {
    nodes: usize,
    text: usize,
    includes: usize,
    exhausted: bool,
}

impl Budget {
    /// True if no more may be spent.
    pub(super) fn exhausted(&self) -> bool {
        self.exhausted
    }

    /// Spends values; false if there were not so many left. `at` is what asked for them.
    pub(super) fn nodes(&mut self, nodes: usize, at: Option<&Span>, diagnostics: &mut Diagnostics) -> bool {
        self.nodes = self.nodes.saturating_add(nodes);
        self.within(
            self.nodes <= MOST_NODES,
            || format!("the project has more than {MOST_NODES} values"),
            at,
            diagnostics,
        )
    }

    /// Spends text.
    pub(super) fn text(&mut self, text: usize, at: Option<&Span>, diagnostics: &mut Diagnostics) -> bool {
        self.text = self.text.saturating_add(text);
        let message = || format!("variables make more than {} MiB of text of the project", MOST_TEXT >> 20);
        self.within(self.text <= MOST_TEXT, message, at, diagnostics)
    }

    /// Spends an include.
    pub(super) fn include(&mut self, at: &Span, diagnostics: &mut Diagnostics) -> bool {
        self.includes += 1;
        let message = || format!("files are included more than {MOST_INCLUDES} times");
        self.within(self.includes <= MOST_INCLUDES, message, Some(at), diagnostics)
    }

    fn within(
        &mut self,
        enough: bool,
        message: impl FnOnce() -> String,
        at: Option<&Span>,
        diagnostics: &mut Diagnostics,
    ) -> bool {
        if !enough && !self.exhausted {
            self.exhausted = true;
            let diagnostic = Diagnostic::error(message()).hint("this is hardly a project for nscompose");
            diagnostics.push(at.map_or(diagnostic.clone(), |span| diagnostic.at(span)));
        }
        !self.exhausted
    }
}
