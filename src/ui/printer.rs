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
    messages: Messages,
    /// On a terminal too no line is written over.
    plain: bool,
}

/// Who reads messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// People: texts with excerpts of files.
    Human,
    /// Programs: a JSON object a line, and no progress.
    Json,
}

impl Printer {
    /// With colours where the stream is a terminal and NO_COLOR is not set, as `anstream` decides it; or as the command line
    /// says, which is to be written to [`anstream::ColorChoice`] before.
    pub fn new(quiet: bool, messages: Messages) -> Self {
        Self { color: has_color(&io::stderr()), quiet, messages, plain: false }
    }

    /// The same without progress that is drawn over and over.
    pub fn with_lines_that_stay(self) -> Self {
        Self { plain: true, ..self }
    }

    /// Whether progress may be drawn over and over: people see it, on a terminal, and have not asked for lines.
    pub fn draws(self) -> bool {
        !self.quiet && !self.plain && self.messages == Messages::Human && io::stderr().is_terminal()
    }

    /// Whether nothing but data, warnings and errors is wanted.
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether people read the messages, and not a program.
    pub fn messages_are_for_people(self) -> bool {
        self.messages == Messages::Human
    }

    /// Whether messages have colours.
    pub fn color(self) -> bool {
        self.color
    }

    /// Whether data that has colours may have them: standard output is a terminal, and NO_COLOR is not set; or as the command
    /// line says.
    pub fn data_color(self) -> bool {
        has_color(&io::stdout())
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
        if !self.quiet && self.messages == Messages::Human {
            let style = if self.color { Style::new().fg_color(Some(AnsiColor::Green.into())) } else { Style::new() };
            let _ = writeln!(anstream::stderr(), "{} {style}{}{style:#}", sanitize(subject), sanitize(verb));
        }
    }

    /// A question to people, to be answered on the same line.
    pub fn ask(self, question: &str) {
        let _ = write!(anstream::stderr(), "{}", sanitize(question));
        let _ = anstream::stderr().flush();
    }

    /// Something that people should know.
    pub fn warning(self, text: &str) {
        if self.messages == Messages::Json {
            return write(&crate::diagnostics::warning_json(text));
        }
        let style =
            if self.color { Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold() } else { Style::new() };
        let _ = writeln!(anstream::stderr(), "{style}warning{style:#}: {}", sanitize(text));
    }

    /// What is odd about a file.
    pub fn diagnostics(self, diagnostics: &Diagnostics) {
        match self.messages {
            _ if diagnostics.is_empty() => {}
            Messages::Human => write(&diagnostics.render(self.color)),
            Messages::Json => write(&diagnostics.render_json()),
        }
    }

    /// Why the command failed.
    pub fn failure(self, failure: &Failure) {
        match self.messages {
            Messages::Human => write(&failure.render(self.color)),
            Messages::Json => write(&failure.render_json()),
        }
    }
}

fn has_color(stream: &(impl IsTerminal + anstream::stream::RawStream)) -> bool {
    if anstream::ColorChoice::global() == anstream::ColorChoice::AlwaysAnsi {
        return true;
    }
    anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never && IsTerminal::is_terminal(stream)
}

/// Whoever does not listen to messages misses them.
fn write(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}
