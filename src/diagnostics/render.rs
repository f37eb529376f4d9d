//! Diagnostics as text for people: annotate-snippets draws the excerpt, hints follow as lines of their own.
//!
//! Only the lines that are pointed at are handed over, cut to a window and made harmless first: a line may be megabytes
//! long. A span of several lines is shown by its first.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use anstyle::{AnsiColor, Style};

use super::{Diagnostic, Severity, SourceFile, Span, sanitize};

/// Characters of a line shown before and after the place that is pointed at.
const WINDOW: usize = 100;
/// Characters of a message, of which names from a file may be a part.
const LONGEST: usize = 1000;
/// Two places this many lines apart are drawn as one excerpt.
const NEAR: usize = 4;

pub(super) const ERROR: Style = AnsiColor::BrightRed.on_default().bold();
pub(super) const HINT: Style = AnsiColor::BrightCyan.on_default().bold();

/// `label: text` in one line, the label in `style`.
pub(super) fn labelled(label: &str, text: &str, style: Style, color: bool) -> String {
    let text = clipped(text);
    if color { format!("{style}{label}:{style:#} {text}\n") } else { format!("{label}: {text}\n") }
}

/// A text of one line, harmless and of a bearable length.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", sanitize(&text[..end])),
        None => sanitize(text).into_owned(),
    }
}

pub(super) fn diagnostic(diagnostic: &Diagnostic, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = clipped(&diagnostic.message);
    let mut group = Group::with_title(level.primary_title(message));
    let mut corrections = Vec::new();
    for excerpt in excerpts(diagnostic) {
        let mut snippet = Snippet::source(excerpt.text).path(excerpt.path).line_start(excerpt.line).fold(false);
        for mark in excerpt.marks {
            snippet = snippet.annotation(mark.kind.span(mark.bytes).label(mark.label));
            corrections.extend(mark.correction);
        }
        group = group.element(snippet);
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = renderer.render(&[group]);
    for (drawn, meant) in corrections {
        text = text.replacen(&drawn, &meant, 1);
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for hint in &diagnostic.hints {
        text.push_str(&labelled("hint", hint, HINT, color));
    }
    text
}

struct Mark {
    kind: AnnotationKind,
    bytes: std::ops::Range<usize>,
    label: Option<String>,
    /// `path:line:column` as it is drawn and as it should be, where the line was cut in front of the place.
    correction: Option<(String, String)>,
}

/// A few lines in a row, ready to be drawn.
struct Excerpt {
    path: String,
    line: usize,
    text: String,
    marks: Vec<Mark>,
}

fn excerpts(diagnostic: &Diagnostic) -> Vec<Excerpt> {
    struct Place<'a> {
        span: &'a Span,
        line: usize,
        kind: AnnotationKind,
        label: Option<String>,
    }
    let primary = diagnostic.span.iter().map(|span| Place {
        span,
        line: span.position().line,
        kind: AnnotationKind::Primary,
        label: None,
    });
    let secondary = diagnostic.labels.iter().map(|label| Place {
        span: &label.span,
        line: label.span.position().line,
        kind: AnnotationKind::Context,
        label: Some(clipped(&label.text)),
    });

    // Places that are near each other share an excerpt; the first place of an excerpt names it.
    let mut clusters: Vec<(&SourceFile, usize, usize, Vec<Place<'_>>)> = Vec::new();
    for place in primary.chain(secondary) {
        let near = clusters.iter_mut().find(|(file, first, last, _)| {
            *file == place.span.file() && place.line + NEAR >= *first && place.line <= *last + NEAR
        });
        match near {
            Some((_, first, last, places)) => {
                *first = place.line.min(*first);
                *last = place.line.max(*last);
                places.push(place);
            }
            None => clusters.push((place.span.file(), place.line, place.line, vec![place])),
        }
    }

    let mut excerpts = Vec::new();
    for (file, first, last, places) in clusters {
        let mut text = String::new();
        let mut marks = Vec::new();
        for line in first..=last {
            let here = places.iter().filter(|place| place.line == line);
            let window = Window::new(file, line, here.clone().map(|place| place.span.bytes().start).min());
            for place in here {
                let bytes = window.locate(&place.span.bytes());
                let correction = window.cut.then(|| {
                    let path = sanitize(file.path());
                    let drawn = window.text[..bytes.start].chars().count() + 1;
                    (format!("{path}:{line}:{drawn}"), format!("{path}:{line}:{}", place.span.position().column))
                });
                marks.push(Mark {
                    kind: place.kind,
                    correction,
                    bytes: text.len() + bytes.start..text.len() + bytes.end,
                    label: place.label.clone(),
                });
            }
            text.push_str(&window.text);
            text.push('\n');
        }
        text.pop();
        excerpts.push(Excerpt { path: sanitize(file.path()).into_owned(), line: first, text, marks });
    }
    excerpts
}

/// The part of a line around a place, harmless.
struct Window {
    text: String,
    /// Something is missing in front.
    cut: bool,
    /// For each character of the file that is shown: its byte in the file and its byte in `text`.
    map: Vec<(usize, usize)>,
}

impl Window {
    fn new(file: &SourceFile, line: usize, focus: Option<usize>) -> Self {
        let start = file.line_start(line);
        let whole = file.line(line);
        let focus = focus.map_or(0, |focus| focus.saturating_sub(start)).min(whole.len());
        let from = whole[..focus].char_indices().rev().nth(WINDOW).map_or(0, |(at, c)| at + c.len_utf8());
        let to = whole[focus..].char_indices().nth(WINDOW).map_or(whole.len(), |(at, _)| focus + at);
        let mut text = String::new();
        let mut map = Vec::new();
        if from > 0 {
            text.push('…');
        }
        for (at, c) in whole[from..to].char_indices() {
            map.push((start + from + at, text.len()));
            // A tab is as wide as the terminal likes; one blank keeps the carets in place.
            text.push_str(&sanitize(if c == '\t' { " " } else { &whole[from + at..from + at + c.len_utf8()] }));
        }
        map.push((start + to, text.len()));
        if to < whole.len() {
            text.push('…');
        }
        Self { text, cut: from > 0, map }
    }

    /// Where bytes of the file are in the text of the window.
    fn locate(&self, bytes: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let end = self.map.last().map_or(0, |(_, at)| *at);
        let find = |byte: usize| self.map.iter().find(|(at, _)| *at >= byte).map_or(end, |(_, at)| *at);
        let start = find(bytes.start);
        start..find(bytes.end).max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_with_a_hint() {
        let file = SourceFile::new(0, "compose.yaml", "services:\n  web:\n    networks:\n      - fronted\n");
        let at = file.text().find("fronted").expect("there");
        let text = Diagnostic::error("service `web` uses network `fronted`, which is not declared")
            .at(&file.span(at..at + 7))
            .did_you_mean(Some("frontend"))
            .render(false);
        assert_eq!(
            text,
            "error: service `web` uses network `fronted`, which is not declared
 --> compose.yaml:4:9
  |
4 |       - fronted
  |         ^^^^^^^
hint: did you mean `frontend`?
"
        );
    }

    #[test]
    fn long_lines_are_cut_and_escapes_are_shown_as_pictures() {
        let line = format!("{}\x1b[31m!{}", "ü".repeat(100_000), "y".repeat(100_000));
        let file = SourceFile::new(0, "f", line);
        let at = file.text().find('!').expect("there");
        let text = Diagnostic::error("bad \x1b[0m").at(&file.span(at..at + 1)).render(false);
        assert!(text.len() < 2_000, "{} bytes", text.len());
        assert!(!text.contains('\x1b'));
        assert!(text.contains("f:1:100006"), "{text}");
        assert!(text.contains("␛[31m!yyy"), "{text}");
    }
}
