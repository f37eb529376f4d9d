//! The two streams.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

use crate::diagnostics::{Diagnostics, Failure, sanitize};

/// Takes a reader that has gone away as success.
pub trait FilterBrokenPipe {
    /// The result, but for EPIPE.
    ///
    /// # Errors
    /// Any other.
    fn filter_broken_pipe(self) -> io::Result<()>;
}

impl FilterBrokenPipe for io::Result<()> {
    fn filter_broken_pipe(self) -> io::Result<()> {
        self.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
    }
}

/// Writes to standard output and standard error. A reader that has gone away is no reason to fail.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    color: bool,
    quiet: bool,
}

impl Printer {
    /// With colours where the stream is a terminal and NO_COLOR is not set, as `anstream` decides it.
    pub fn new(quiet: bool) -> Self {
        let choice = anstream::AutoStream::choice(&io::stderr());
        Self { color: io::stderr().is_terminal() && choice != anstream::ColorChoice::Never, quiet }
    }

    /// Whether messages have colours.
    pub fn color(self) -> bool {
        self.color
    }

    /// Whether data that has colours may have them: standard output is a terminal, and NO_COLOR is not set.
    pub fn data_color(self) -> bool {
        anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never && io::stdout().is_terminal()
    }

    /// Data. A reader that has gone away has had what it wanted.
    ///
    /// # Errors
    /// When it cannot be written, as to a full disk.
    pub fn data(self, text: &str) -> Result<(), Failure> {
        // What begins no escape sequence needs none taken out, which is slow for a large text.
        let written = if text.contains('\u{1b}') {
            let mut stdout = anstream::stdout();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        } else {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        };
        written.filter_broken_pipe().map_err(|e| Failure::host("cannot write to standard output").caused_by(&e))
    }

    /// Something that happened to a thing: `db  started`.
    pub fn progress(self, subject: &str, verb: &str) {
        if !self.quiet {
            let style = if self.color { Style::new().fg_color(Some(AnsiColor::Green.into())) } else { Style::new() };
            let _ = writeln!(anstream::stderr(), "{} {style}{}{style:#}", sanitize(subject), sanitize(verb));
        }
    }

    /// Something that people should know.
    pub fn warning(self, text: &str) {
        let style =
            if self.color { Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold() } else { Style::new() };
        let _ = writeln!(anstream::stderr(), "{style}warning{style:#}: {}", sanitize(text));
    }

    /// What is odd about a file.
    pub fn diagnostics(self, diagnostics: &Diagnostics) {
        if !diagnostics.is_empty() {
            let _ = anstream::stderr().write_all(diagnostics.render(self.color).as_bytes());
        }
    }

    /// Why the command failed.
    pub fn failure(self, failure: &Failure) {
        let _ = anstream::stderr().write_all(failure.render(self.color).as_bytes());
    }
}
