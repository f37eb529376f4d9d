//! How lines look.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufWriter, Stdout, Write},
};

use anstyle::{AnsiColor, Color, Style};

use crate::{
    model::ServiceName,
    state::{LogLine, Stream},
};

/// How lines are shown.
#[derive(Debug, Clone, Copy)]
pub struct LogStyle {
    /// The service in front of each line.
    pub prefix: bool,
    /// Colours for the services.
    pub color: bool,
    /// The time in front of each line.
    pub timestamps: bool,
}

/// Prints lines to standard output, with the service in front, padded so that the text lines up.
pub struct LogPrinter {
    out: BufWriter<Stdout>,
    style: LogStyle,
    width: usize,
    colors: BTreeMap<String, Style>,
    /// What stands in front of the lines of each service.
    labels: BTreeMap<String, String>,
    /// The service and stream whose line goes on: what comes of them next is put behind it.
    open: Option<(String, Stream)>,
}

/// Told apart easily and readable on dark and light; red is for errors.
const COLORS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::BrightCyan];

impl LogPrinter {
    /// For these services.
    pub fn new(style: LogStyle, services: impl IntoIterator<Item = String>) -> Self {
        let services: BTreeSet<String> = services.into_iter().collect();
        let names: Vec<ServiceName> = services.iter().filter_map(|name| name.clone().try_into().ok()).collect();
        let several: BTreeSet<&str> = names.iter().filter(|n| n.number() > 1).map(ServiceName::service).collect();
        let labels = names.iter().map(|name| (name.to_string(), label(name, several.contains(name.service()))));
        let labels: BTreeMap<String, String> = labels.collect();
        let width = labels.values().map(String::len).max().unwrap_or(0);
        let colors = services.into_iter().zip(COLORS.into_iter().cycle());
        let colors = colors.map(|(name, color)| (name, Style::new().fg_color(Some(Color::Ansi(color))))).collect();
        Self { out: BufWriter::with_capacity(64 * 1024, io::stdout()), style, width, colors, labels, open: None }
    }

    /// Writes a line, which [`LogPrinter::flush`] brings out.
    ///
    /// # Errors
    /// What write(2) says; EPIPE when nobody reads any more.
    pub fn print(&mut self, service: &str, line: &LogLine) -> io::Result<()> {
        let goes_on = self.open.take().is_some_and(|(open, stream)| {
            let same = open == service && stream == line.stream;
            // Another's line does not go behind it.
            same || self.out.write_all(b"\n").is_err()
        });
        let out = &mut self.out;
        if self.style.prefix && !goes_on {
            let style = self.colors.get(service).copied().filter(|_| self.style.color).unwrap_or_default();
            // One that has come since is in no list.
            let of_new = || ServiceName::try_from(service.to_owned()).ok().map(|name| label(&name, name.number() > 1));
            let shown = self.labels.get(service).cloned().or_else(of_new).unwrap_or_default();
            write!(out, "{style}{shown:width$} |{style:#} ", width = self.width)?;
        }
        if self.style.timestamps && !goes_on {
            write!(out, "{:.9} ", line.time)?;
        }
        out.write_all(&line.text)?;
        if line.goes_on {
            self.open = Some((service.to_owned(), line.stream));
            return Ok(());
        }
        out.write_all(b"\n")
    }

    /// Brings out what has been written.
    ///
    /// # Errors
    /// As of [`LogPrinter::print`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What stands in front of lines: the service, and the number of the container where there are several.
fn label(name: &ServiceName, is_one_of_several: bool) -> String {
    if is_one_of_several { format!("{}-{}", name.service(), name.number()) } else { name.service().to_owned() }
}
