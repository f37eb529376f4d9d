//! The slip of a hand that is behind an error of the parser, which reports where it noticed and not what was forgotten.

use std::ops::Range;

use super::scan::{Scan, closing_of};

/// What was probably done, where, and how to mend it.
pub(super) struct Slip {
    pub(super) message: String,
    pub(super) at: Range<usize>,
    pub(super) label: Option<(Range<usize>, String)>,
    pub(super) hint: String,
}

impl Slip {
    fn new(message: impl Into<String>, at: Range<usize>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), at, label: None, hint: hint.into() }
    }

    fn label(self, at: Range<usize>, text: impl Into<String>) -> Self {
        Self { label: Some((at, text.into())), ..self }
    }
}

/// Finds the slip behind what the parser says of the place `at`.
pub(super) fn find(text: &str, at: usize, says: &str) -> Option<Slip> {
    let line = Line::at(text, at);
    if let Some(tab) = line.indent().find('\t') {
        let tab = line.start + tab;
        return Some(Slip::new(
            "a line is indented with a tab",
            tab..tab + 1,
            "indent with blanks: YAML allows no tabs there",
        ));
    }
    if let Some(first) = text[at..].chars().next().filter(|first| "@`%".contains(*first))
        && says.contains("unexpected character")
    {
        let message = format!("a text cannot begin with `{first}`");
        return Some(Slip::new(message, at..at + 1, "put the text between quotes"));
    }
    let scan = Scan::of(text);
    if says.contains("quoted scalar") {
        return quotes(text, at, says, &scan);
    }
    brackets(text, at, says, &scan).or_else(|| if scan.around(at).is_some() { None } else { lines(text, at, says) })
}

fn quotes(text: &str, at: usize, says: &str, scan: &Scan) -> Option<Slip> {
    if says.contains("unexpected end of stream") {
        let quote = text[at..].chars().next().filter(|quote| "\"'".contains(*quote))?;
        let hint = format!("put a `{quote}` where the text ends");
        return Some(Slip::new("a text in quotes is never closed", at..at + 1, hint));
    }
    if !says.contains("trailing content") {
        return None;
    }
    let quoted = scan.quoted.iter().rev().find(|quoted| quoted.end <= at)?;
    let quote = &text[quoted.start..quoted.start + 1];
    if text[quoted.clone()].contains('\n') {
        let slip = Slip::new(
            "a text in quotes is not closed before another one begins",
            quoted.start..quoted.start + 1,
            format!("put a `{quote}` where the text ends"),
        );
        return Some(slip.label(quoted.end - 1..quoted.end, "this quote is taken for its end"));
    }
    if scan.around(at).is_some() || scan.unclosed(at).is_some() {
        return text[at..].starts_with(['"', '\'']).then(|| comma(at));
    }
    let hint = match quote {
        "'" => "between single quotes, a quote is written twice: `''`",
        _ => "between double quotes, a quote is written `\\\"`; or put the whole between single quotes",
    };
    let rest = Line::at(text, at);
    Some(Slip::new("something follows a text in quotes", at..rest.end.max(at), hint))
}

fn comma(at: usize) -> Slip {
    Slip::new("between two values, a comma is missing", at..at + 1, "put a `,` in front of this one")
}

fn brackets(text: &str, at: usize, says: &str, scan: &Scan) -> Option<Slip> {
    if says.contains("misplaced bracket") {
        let closing = text[at..].chars().next()?;
        let message = format!("this `{closing}` closes nothing");
        return Some(Slip::new(message, at..at + 1, "remove it, or put the text between quotes"));
    }
    let inner = scan.around(at);
    if let Some(open) = inner
        && let Some((end, false)) = open.closed
        && end == at
    {
        let right = char::from(closing_of(text.as_bytes()[open.at]));
        let message = format!("`{}` is closed by `{}`", &text[open.at..open.at + 1], &text[end..end + 1]);
        let slip = Slip::new(message, end..end + 1, format!("write `{right}`"));
        return Some(slip.label(open.at..open.at + 1, "opened here"));
    }
    let line = Line::at(text, at);
    if let Some(open) = scan.unclosed(at) {
        // A variable has a hint of its own.
        if text[..open.at].ends_with('$') {
            return None;
        }
        let closing = char::from(closing_of(text.as_bytes()[open.at]));
        let message = format!("this `{}` is never closed", &text[open.at..open.at + 1]);
        let slip = Slip::new(message, open.at..open.at + 1, format!("put a `{closing}` where it ends"));
        let first = line.start + line.indent().len();
        return Some(if line.start > open.at && first < line.end {
            slip.label(first..line.end, "this is taken for a part of it")
        } else {
            slip
        });
    }
    let expected = says.contains("',' or") && inner.is_some();
    (expected && text[at..].starts_with(['"', '\''])).then(|| comma(at))
}

/// What indentation, colons and dashes say.
fn lines(text: &str, at: usize, says: &str) -> Option<Slip> {
    let line = Line::at(text, at);
    if says.contains("simple key") {
        // Noticed where the text ends that should have been a key: it may go on over lines.
        let mut found = if line.body().is_empty() || at == line.start { line.before()? } else { line };
        while !found.is_key()
            && let Some(before) = found.before().filter(|before| !before.is_key())
        {
            found = before;
        }
        return found.without_colon();
    }
    let before = line.before();
    if says.contains("mapping values are not allowed") {
        let key = line.start + line.indent().len();
        if let Some(first) = line.text(key..at).find(": ") {
            let value = key + first + 2;
            let start = value + line.text(value..at).len() - line.text(value..at).trim_start().len();
            return Some(Slip::new(
                "a text without quotes contains `: `",
                start..line.end,
                "put the text between quotes",
            ));
        }
        let before = before?;
        if !before.is_key() {
            // A text that goes on over lines begins after the last key.
            let mut first = before;
            while let Some(earlier) = first.before().filter(|earlier| !earlier.is_key()) {
                first = earlier;
            }
            return first.without_colon();
        }
        if line.indent().len() > before.indent().len() {
            let name = line.name();
            let slip = Slip::new(
                format!("`{name}` is indented further than the key before it, which has its value"),
                key..key + name.len(),
                format!("indent it by {} blanks, as `{}`", before.indent().len(), before.name()),
            );
            let start = before.start + before.indent().len();
            return Some(slip.label(start..start + before.name().len(), "this one"));
        }
        return None;
    }
    let item = line.body().starts_with("- ") || line.body() == "-";
    let (levels, same) = line.levels();
    let key = line.start + line.indent().len();
    if says.contains("did not find expected") && !levels.is_empty() {
        if !levels.contains(&line.indent().len()) {
            let mut levels: Vec<String> = levels.iter().map(ToString::to_string).collect();
            levels.reverse();
            return Some(Slip::new(
                "the line is indented like none before it",
                key..line.end,
                format!("indent it by as many blanks as its neighbours: {}", levels.join(", ")),
            ));
        }
        let same = same?;
        let start = same.start + same.indent().len();
        if item && same.is_key() && !same.body().starts_with('-') {
            return Some(
                Slip::new("an item of a list stands among keys", key..line.end, "write all with `- `, or all without")
                    .label(start..same.end, "a key"),
            );
        }
        if !item && same.body().starts_with('-') {
            return Some(
                Slip::new(
                    "something without `- ` stands among the items of a list",
                    key..line.end,
                    "write all with `- `, or all without",
                )
                .label(start..same.end, "an item"),
            );
        }
    }
    None
}

/// A line of a text.
#[derive(Clone, Copy)]
struct Line<'t> {
    whole: &'t str,
    start: usize,
    /// Without blanks and comments at its end.
    end: usize,
}

impl<'t> Line<'t> {
    fn at(whole: &'t str, at: usize) -> Self {
        let start = whole[..at].rfind('\n').map_or(0, |found| found + 1);
        let line = whole[start..].split('\n').next().unwrap_or_default();
        let code = if line.trim_start().starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
        Self { whole, start, end: start + code.trim_end().len() }
    }

    fn text(&self, range: Range<usize>) -> &'t str {
        self.whole.get(range).unwrap_or_default()
    }

    fn indent(&self) -> &'t str {
        let line = self.text(self.start..self.end);
        &line[..line.len() - line.trim_start().len()]
    }

    /// What it says.
    fn body(&self) -> &'t str {
        self.text(self.start..self.end).trim_start()
    }

    /// The key that it begins with, or all of it.
    fn name(&self) -> &'t str {
        self.body().split(": ").next().unwrap_or_default().trim_end_matches(':')
    }

    fn is_key(&self) -> bool {
        self.body().contains(": ") || self.body().contains(":\t") || self.body().ends_with(':')
    }

    /// The one before that says something.
    fn before(&self) -> Option<Self> {
        let mut start = self.start;
        while start > 0 {
            let line = Self::at(self.whole, start - 1);
            if !line.body().is_empty() {
                return Some(line);
            }
            start = line.start;
        }
        None
    }

    /// How far collections that are open before it are indented, innermost first, and the nearest line that is indented
    /// like this one.
    fn levels(&self) -> (Vec<usize>, Option<Self>) {
        let mut levels = Vec::new();
        let mut same = None;
        let mut line = *self;
        while levels.last() != Some(&0)
            && let Some(before) = line.before()
        {
            let indent = before.indent().len();
            if levels.last().is_none_or(|last| indent < *last) {
                levels.push(indent);
                if indent == self.indent().len() {
                    same = same.or(Some(before));
                }
            }
            line = before;
        }
        (levels, same)
    }

    /// The slip that it has no colon, or none that counts.
    fn without_colon(&self) -> Option<Slip> {
        let body = self.body();
        let start = self.start + self.indent().len();
        let at = start..self.end;
        let word = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if let Some(item) = body.strip_prefix('-').filter(|item| !item.starts_with([' ', '-'])) {
            return Some(Slip::new("a blank is missing after `-`", at, format!("write `- {}`", short(item))));
        }
        if let Some((key, value)) = body.split_once(':').filter(|(key, value)| word(key) && !value.is_empty()) {
            let hint = format!("write `{key}: {}`", short(value));
            return Some(Slip::new("a blank is missing after `:`", at, hint));
        }
        let (key, value) = body.split_once(' ').unwrap_or((body, ""));
        if !word(key) || key == "-" {
            return None;
        }
        let hint = format!("write `{}`", format!("{key}: {}", short(value.trim_start())).trim_end());
        Some(Slip::new(format!("a `:` is missing after `{}`", short(key)), at, hint))
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
