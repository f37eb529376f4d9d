//! Phase 3 as well: files of variables, by the rules of Docker Compose: `.env`, `env_file:` and `label_file:`.
//!
//! ```text
//! # a comment              NAME=value # another
//! export NAME=value        NAME: value
//! SINGLE='taken as $it is' DOUBLE="with $VARIABLES and \n escapes"
//! INHERITED                (taken from where the reader looks, if it is there)
//! ```
//!
//! Quoted values may go over several lines. Variables see what the reader looks at first, then what stands further up.
//!
//! [`read`] finds the statements, once for a file; [`Statements::fill`] fills in variables, once for each reader.

use std::{collections::BTreeSet, ops::Range};

use super::{
    template::{self, Notice, Part},
    tree::Origin,
    variables::{Variable, Variables},
};
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile};

/// Text that a file may grow to.
const MOST_TEXT: usize = 64 * 1024 * 1024;

/// The statements of a file, in their order.
#[derive(Debug)]
pub(crate) struct Statements {
    file: SourceFile,
    list: Vec<Statement>,
}

#[derive(Debug)]
struct Statement {
    name: String,
    value: Written,
    /// Where the value stands, or the name if there is none.
    place: Range<usize>,
}

#[derive(Debug)]
enum Written {
    /// A name alone.
    Inherited,
    Text(String),
    /// With variables; where the text is the text of the file, it begins at this byte.
    Template(Vec<Part>, Option<usize>),
}

/// Reads a file whose variables see `lookup`.
#[cfg(test)]
pub(crate) fn parse(file: &SourceFile, lookup: &Variables, diagnostics: &mut Diagnostics) -> Variables {
    let mut variables = Variables::default();
    let statements = read(file, diagnostics);
    statements.fill(&|name| lookup.get(name), &mut variables, &mut BTreeSet::new(), diagnostics);
    variables
}

/// Finds the statements of a file. What is wrong with them goes to `diagnostics`.
pub(crate) fn read(file: &SourceFile, diagnostics: &mut Diagnostics) -> Statements {
    let mut reader = Reader { file, at: 0, line_end: 0, statements: Statements::new(file) };
    while reader.skip_blank() {
        if let Err(diagnostic) = reader.statement(diagnostics) {
            diagnostics.push(diagnostic);
            reader.skip_line();
        }
    }
    reader.statements
}

impl Statements {
    pub(super) fn new(file: &SourceFile) -> Self {
        Self { file: file.clone(), list: Vec::new() }
    }

    pub(super) fn inherit(&mut self, name: &str, place: Range<usize>) {
        self.list.push(Statement { name: name.to_owned(), value: Written::Inherited, place });
    }

    pub(super) fn set(&mut self, name: &str, value: String, place: Range<usize>) {
        self.list.push(Statement { name: name.to_owned(), value: Written::Text(value), place });
    }

    /// Sets the variables in `into`, whose own are seen after those of `lookup`. Names in `warned` are not warned about.
    ///
    /// Returns how much text was set.
    pub(crate) fn fill<'v>(
        &self,
        lookup: &dyn Fn(&str) -> Option<&'v Variable>,
        into: &mut Variables,
        warned: &mut BTreeSet<String>,
        diagnostics: &mut Diagnostics,
    ) -> usize {
        let mut size = 0;
        for statement in &self.list {
            let span = self.file.span(statement.place.clone());
            let value = match &statement.value {
                Written::Inherited => {
                    if let Some(variable) = lookup(&statement.name) {
                        size += variable.value.len();
                        into.set(statement.name.clone(), variable.clone());
                    }
                    continue;
                }
                Written::Text(text) => text.clone(),
                Written::Template(parts, start) => {
                    let part = |range: Range<usize>| match start {
                        Some(start) => {
                            self.file.span(start.saturating_add(range.start)..start.saturating_add(range.end))
                        }
                        None => span.clone(),
                    };
                    let known = &*into;
                    let seen =
                        |name: &str| lookup(name).map(|variable| variable.value.as_str()).or_else(|| known.value(name));
                    let filled = template::evaluate(parts, &seen, &mut |notice| {
                        if let Notice::Unset(name, range) = notice
                            && warned.insert(name.to_owned())
                        {
                            diagnostics.push(
                                Diagnostic::warning(format!("the variable `{name}` is not set and becomes empty"))
                                    .at(&part(range.clone()))
                                    .hint(format!("set it, or write `${{{name}:-}}` if it may be empty")),
                            );
                        }
                    });
                    match filled {
                        Ok(text) => text,
                        Err(problem) => {
                            diagnostics.push(located(&part, problem));
                            continue;
                        }
                    }
                }
            };
            size += value.len();
            if size > MOST_TEXT {
                let message = format!("variables make more than {} MiB of text", MOST_TEXT >> 20);
                diagnostics.push(Diagnostic::error(message).at(&span));
                break;
            }
            into.set(statement.name.clone(), Variable { value, origin: Origin::File(span) });
        }
        size
    }
}

fn located(part: &dyn Fn(Range<usize>) -> crate::diagnostics::Span, problem: template::Problem) -> Diagnostic {
    let diagnostic = Diagnostic::error(problem.message).at(&part(problem.range));
    match problem.hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

struct Reader<'a> {
    file: &'a SourceFile,
    at: usize,
    /// Where the line that `at` was last seen in ends: one with many values in quotes is searched once.
    line_end: usize,
    statements: Statements,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.file.text()[self.at..]
    }

    /// The rest of the line, its break left out.
    fn line(&mut self) -> &'a str {
        let text = self.file.text();
        // Zero is what it begins with, and no answer.
        if self.at > self.line_end || self.line_end == 0 {
            self.line_end = text[self.at..].find('\n').map_or(text.len(), |length| self.at + length);
        }
        &text[self.at..self.line_end]
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

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
    }

    fn skip_line(&mut self) {
        self.at += self.line().len();
    }

    fn statement(&mut self, diagnostics: &mut Diagnostics) -> Result<(), Diagnostic> {
        let first = self.at;
        if let Some(after) = self.rest().strip_prefix("export")
            && after.starts_with(['\t', '\n', '\x0c', '\r', ' '])
        {
            self.at += "export".len();
            self.skip_space();
            if self.rest().is_empty() {
                return Err(Diagnostic::error("`export` is not followed by the name of a variable")
                    .at(&self.file.span(first..first + "export".len()))
                    .hint("a line is `NAME=value`"));
            }
        }
        let start = self.at;
        let line = self.line();
        let end = self.name_end(line, first)?;
        let name = line[..end.unwrap_or(line.len())].trim_end();
        let place = start..start + name.len();
        if name.contains(' ') && (end.is_some() || self.rest().len() > line.len()) {
            return Err(Diagnostic::error(format!("`{}` is not the name of a variable", shorten(name)))
                .at(&self.file.span(place))
                .hint(self.hint(first, "a name has no spaces in it; a line is `NAME=value`")));
        }
        let Some(end) = end else {
            self.at += line.len();
            if self.rest().is_empty() {
                // Compose takes it for the value of a variable whose name is empty.
                diagnostics.push(
                    Diagnostic::warning(format!("`{}` becomes the value of a variable without a name", shorten(name)))
                        .at(&self.file.span(place.clone()))
                        .hint(self.hint(first, "end the last line with a line break, or write `NAME=value`")),
                );
                self.statements.set("", name.to_owned(), place);
            } else {
                self.statements.inherit(name, place);
            }
            return Ok(());
        };
        if name.is_empty() {
            diagnostics.push(
                Diagnostic::warning("the variable has no name, so nothing can use it")
                    .at(&self.file.span(start + end..start + end + 1))
                    .hint("a line is `NAME=value`"),
            );
        }
        self.at += end + 1;
        self.skip_space();
        self.value(name, place)
    }

    /// Where the name ends in its line: at `=` or `:`, or nowhere.
    fn name_end(&self, line: &str, first: usize) -> Result<Option<usize>, Diagnostic> {
        for (at, c) in line.char_indices() {
            match c {
                '=' | ':' => return Ok(Some(at)),
                '_' | '.' | '-' | '[' | ']' => {}
                c if is_space(c) || c.is_alphanumeric() => {}
                other => {
                    let place = self.at + at..self.at + at + other.len_utf8();
                    let shown = other.escape_debug();
                    return Err(Diagnostic::error(format!("`{shown}` cannot be part of the name of a variable"))
                        .at(&self.file.span(place))
                        .hint(self.hint(first, "a line is `NAME=value`")));
                }
            }
        }
        Ok(None)
    }

    /// How to mend what begins at `first`: what follows a value in quotes was most likely meant to belong to it.
    fn hint(&self, first: usize, otherwise: &'static str) -> &'static str {
        let before = self.file.text()[..first].trim_end_matches(is_space);
        if before.is_empty() || before.ends_with('\n') { otherwise } else { "put the whole value between quotes" }
    }

    fn value(&mut self, name: &str, place: Range<usize>) -> Result<(), Diagnostic> {
        let start = self.at;
        match self.rest().chars().next() {
            Some('\'') => {
                let text = self.quoted('\'')?;
                self.statements.set(name, text, start..self.at);
                Ok(())
            }
            Some('"') => {
                let quoted = self.quoted('"')?;
                let text = unescape(&quoted, &self.file.span(start..self.at))?;
                let written = self.file.text().get(start + 1..self.at - 1) == Some(&*text);
                self.template(name, &text, start..self.at, written.then_some(start + 1))
            }
            _ => {
                let line = self.line();
                self.at += line.len();
                let text = line.split(" #").next().unwrap_or_default().trim_end();
                let place = if text.is_empty() { place } else { start..start + text.len() };
                self.template(name, text, place, Some(start))
            }
        }
    }

    fn template(
        &mut self,
        name: &str,
        text: &str,
        place: Range<usize>,
        start: Option<usize>,
    ) -> Result<(), Diagnostic> {
        if !text.contains('$') {
            self.statements.set(name, text.to_owned(), place);
            return Ok(());
        }
        let part = |range: Range<usize>| match start {
            Some(start) => self.file.span(start.saturating_add(range.start)..start.saturating_add(range.end)),
            None => self.file.span(place.clone()),
        };
        let parts = template::parse(text).map_err(|problem| located(&part, problem))?;
        let value = Written::Template(parts, start);
        self.statements.list.push(Statement { name: name.to_owned(), value, place });
        Ok(())
    }

    /// What stands between quotes; a backslash makes the quote a part of it.
    fn quoted(&mut self, quote: char) -> Result<String, Diagnostic> {
        let start = self.at;
        let mut text = String::new();
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            if c == quote && !escaped {
                self.at += at + 1;
                return Ok(text);
            }
            if c == '\\' && !escaped {
                escaped = true;
                continue;
            }
            if escaped && c != quote {
                text.push('\\');
            }
            escaped = false;
            text.push(c);
        }
        // All that follows is in quotes.
        self.at = self.file.text().len();
        Err(Diagnostic::error("the quoted value is not closed")
            .at(&self.file.span(start..start + 1))
            .hint(format!("end it with `{quote}`")))
    }
}

/// Blanks within a line.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

fn shorten(name: &str) -> &str {
    name.char_indices().nth(60).map_or(name, |(end, _)| &name[..end])
}

/// Escapes of a value in double quotes. `\$` stays a dollar sign when variables are filled in.
fn unescape(raw: &str, span: &crate::diagnostics::Span) -> Result<String, Diagnostic> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some(c) = after.chars().next() else {
            rest = &rest[at..];
            break;
        };
        rest = &after[c.len_utf8()..];
        match c {
            'a' => text.push('\x07'),
            'b' => text.push('\x08'),
            'f' => text.push('\x0c'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\x0b'),
            '\\' => text.push('\\'),
            '$' => text.push_str("$$"),
            '0' => {
                // Three octal digits are a character; anything else loses its zero, as in Compose.
                let digits = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
                let octal = &rest[..digits];
                rest = &rest[digits..];
                match u8::from_str_radix(octal, 8) {
                    Ok(0) if digits == 3 => {
                        return Err(Diagnostic::error("a value cannot contain a NUL character").at(span));
                    }
                    Ok(byte) if digits == 3 => text.push(char::from(byte)),
                    _ => {
                        text.push('\\');
                        text.push_str(octal);
                    }
                }
            }
            other => {
                text.push('\\');
                text.push(other);
            }
        }
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Docker Compose 2.40.3 makes of an `env_file:`, and of an `.env`, where HOST=h and EMPTY is empty.
    #[rustfmt::skip]
    const ACCEPTED: &[(&str, &[(&str, &str)])] = &[
        ("A=1", &[("A", "1")]),
        ("A=1\n", &[("A", "1")]),
        ("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]),
        ("A = 1", &[("A", "1")]),
        ("A =1", &[("A", "1")]),
        ("A= 1", &[("A", "1")]),
        ("  A=1", &[("A", "1")]),
        ("\tA\t=\t1\t", &[("A", "1")]),
        ("A=", &[("A", "")]),
        ("A=\n", &[("A", "")]),
        ("A= \n", &[("A", "")]),
        ("A=   # c\n", &[("A", "# c")]),
        ("A=# c\n", &[("A", "# c")]),
        ("A=#c", &[("A", "#c")]),
        ("A=x#y", &[("A", "x#y")]),
        ("A=x #y", &[("A", "x")]),
        ("A=x\t#y", &[("A", "x\t#y")]),
        ("A=x\t #y", &[("A", "x")]),
        ("A= #y", &[("A", "#y")]),
        ("A=\t#y", &[("A", "#y")]),
        ("A=a b c", &[("A", "a b c")]),
        ("A=a b c  ", &[("A", "a b c")]),
        ("A=a  #  b # c", &[("A", "a")]),
        ("A: 1", &[("A", "1")]),
        ("A:1", &[("A", "1")]),
        ("A :1", &[("A", "1")]),
        ("A : 1", &[("A", "1")]),
        ("A:", &[("A", "")]),
        ("A:=1", &[("A", "=1")]),
        ("A=:1", &[("A", ":1")]),
        ("A==1", &[("A", "=1")]),
        ("A=a=b", &[("A", "a=b")]),
        ("A: \"x\"", &[("A", "x")]),
        ("A: b=c", &[("A", "b=c")]),
        ("A=b:c", &[("A", "b:c")]),
        ("A.B=1", &[("A.B", "1")]),
        ("A-B=1", &[("A-B", "1")]),
        ("A[0]=1", &[("A[0]", "1")]),
        ("A B", &[("", "A B")]),
        ("1A=1", &[("1A", "1")]),
        ("1=1", &[("1", "1")]),
        ("_=1", &[("_", "1")]),
        (".=1", &[(".", "1")]),
        ("-=1", &[("-", "1")]),
        ("[=1", &[("[", "1")]),
        ("=1", &[("", "1")]),
        ("=", &[("", "")]),
        ("=\nA=1", &[("", ""), ("A", "1")]),
        (":1", &[("", "1")]),
        ("é=1", &[("é", "1")]),
        ("A\n", &[]),
        ("A", &[("", "A")]),
        ("HOST\n", &[("HOST", "h")]),
        ("HOST", &[("", "HOST")]),
        ("HOST \n", &[("HOST", "h")]),
        ("MISSING\n", &[]),
        ("MISSING\nB=2", &[("B", "2")]),
        ("HOST\nB=$HOST", &[("B", "h"), ("HOST", "h")]),
        ("HOST\n\nB=2", &[("B", "2"), ("HOST", "h")]),
        ("HOST=1", &[("HOST", "1")]),
        ("HOST=1\nB=$HOST", &[("B", "h"), ("HOST", "1")]),
        ("A=1\nHOST\n", &[("A", "1"), ("HOST", "h")]),
        ("A=1\nHOST", &[("", "HOST"), ("A", "1")]),
        ("A=1\nMISSING", &[("", "MISSING"), ("A", "1")]),
        ("EMPTY", &[("", "EMPTY")]),
        ("EMPTY\n", &[("EMPTY", "")]),
        ("EMPTY=x\nA=${EMPTY:-y}\nB=${EMPTY-z}\n", &[("A", "y"), ("B", ""), ("EMPTY", "x")]),
        ("export A=1", &[("A", "1")]),
        ("export A = 1", &[("A", "1")]),
        ("export\tA=1", &[("A", "1")]),
        ("export   A=1", &[("A", "1")]),
        ("  export A=1", &[("A", "1")]),
        ("exportA=1", &[("exportA", "1")]),
        ("export=1", &[("export", "1")]),
        ("export =1", &[("", "1")]),
        ("export  =1", &[("", "1")]),
        ("export\nA=1", &[("A", "1")]),
        ("export HOST\n", &[("HOST", "h")]),
        ("export HOST", &[("", "HOST")]),
        ("export", &[("", "export")]),
        ("export\n", &[]),
        ("export A\nB=1", &[("B", "1")]),
        ("export: 1", &[("export", "1")]),
        ("export A: 1", &[("A", "1")]),
        ("A='x'", &[("A", "x")]),
        ("A='x' # c", &[("A", "x")]),
        ("A='x'#c", &[("A", "x")]),
        ("A='x' y", &[("", "y"), ("A", "x")]),
        ("A='x'y", &[("", "y"), ("A", "x")]),
        ("A='x'\nB=2", &[("A", "x"), ("B", "2")]),
        ("A='x' B=2", &[("A", "x"), ("B", "2")]),
        ("A='x'B=2", &[("A", "x"), ("B", "2")]),
        ("A='x'\r\nB=2", &[("A", "x"), ("B", "2")]),
        ("A='$HOST'", &[("A", "$HOST")]),
        ("A='a\\nb'", &[("A", "a\\nb")]),
        ("A='a\\'b'", &[("A", "a'b")]),
        ("A='a\\\\'", &[("A", "a\\\\")]),
        ("A='a\"b'", &[("A", "a\"b")]),
        ("A='a\nb'\nB=1", &[("A", "a\nb"), ("B", "1")]),
        ("A='a\r\nb'\nB=1", &[("A", "a\r\nb"), ("B", "1")]),
        ("A=''", &[("A", "")]),
        ("A=' x '", &[("A", " x ")]),
        ("A=x'y'", &[("A", "x'y'")]),
        ("A=x'y", &[("A", "x'y")]),
        ("A='a # b'", &[("A", "a # b")]),
        ("A='a\\$b'", &[("A", "a\\$b")]),
        ("A='é'", &[("A", "é")]),
        ("A='\\é'", &[("A", "\\é")]),
        ("A='a\\\nb'", &[("A", "a\\\nb")]),
        ("A='a' \nB=1", &[("A", "a"), ("B", "1")]),
        ("A='a'   \n\n B=1", &[("A", "a"), ("B", "1")]),
        ("A='a' #b=c\nB=1", &[("A", "a"), ("B", "1")]),
        ("A='a'=b", &[("", "b"), ("A", "a")]),
        ("A='a':b", &[("", "b"), ("A", "a")]),
        ("A=\"x\"", &[("A", "x")]),
        ("A=\"x\" # c", &[("A", "x")]),
        ("A=\"x\"#c", &[("A", "x")]),
        ("A=\"x\" y", &[("", "y"), ("A", "x")]),
        ("A=\"x\" y=z", &[("A", "x"), ("y", "z")]),
        ("A=\"x\"\nB=2", &[("A", "x"), ("B", "2")]),
        ("A=\"$HOST\"", &[("A", "h")]),
        ("A=\"${HOST}x\"", &[("A", "hx")]),
        ("A=\"\\$HOST\"", &[("A", "$HOST")]),
        ("A=\"\\\\$HOST\"", &[("A", "\\h")]),
        ("A=\"\\\\\\$HOST\"", &[("A", "\\$HOST")]),
        ("A=\"$$HOST\"", &[("A", "$HOST")]),
        ("A=\"a\\nb\"", &[("A", "a\nb")]),
        ("A=\"a\\rb\"", &[("A", "a\rb")]),
        ("A=\"a\\tb\"", &[("A", "a\tb")]),
        ("A=\"a\\ab\\bc\\fd\\ve\"", &[("A", "a\u{7}b\u{8}c\u{c}d\u{b}e")]),
        ("A=\"a\\cb\"", &[("A", "a\\cb")]),
        ("A=\"a\\\\nb\"", &[("A", "a\\nb")]),
        ("A=\"a\\\"b\"", &[("A", "a\"b")]),
        ("A=\"a\\'b\"", &[("A", "a\\'b")]),
        ("A=\"a'b\"", &[("A", "a'b")]),
        ("A=\"a\\`b\"", &[("A", "a\\`b")]),
        ("A=\"a\\xb\"", &[("A", "a\\xb")]),
        ("A=\"a\\x41\"", &[("A", "a\\x41")]),
        ("A=\"a\\u0041\"", &[("A", "a\\u0041")]),
        ("A=\"\\0\"", &[("A", "\\")]),
        ("A=\"\\01\"", &[("A", "\\1")]),
        ("A=\"\\012\"", &[("A", "\\12")]),
        ("A=\"\\0123\"", &[("A", "S")]),
        ("A=\"\\0101\"", &[("A", "A")]),
        ("A=\"\\01234\"", &[("A", "S4")]),
        ("A=\"\\0777\"", &[("A", "\\777")]),
        ("A=\"\\0400\"", &[("A", "\\400")]),
        ("A=\"\\0377\"", &[("A", "ÿ")]),
        ("A=\"\\08\"", &[("A", "\\8")]),
        ("A=\"\\1\"", &[("A", "\\1")]),
        ("A=\"\\101\"", &[("A", "\\101")]),
        ("A=\"\\e\"", &[("A", "\\e")]),
        ("A=\"a\\ b\"", &[("A", "a\\ b")]),
        ("A=\"a\\\\\"", &[("A", "a\\")]),
        ("A=\"a\\\\\" # c", &[("A", "a\\")]),
        ("A=\"a\nb\"\nB=1", &[("A", "a\nb"), ("B", "1")]),
        ("A=\"a\r\nb\"\nB=1", &[("A", "a\r\nb"), ("B", "1")]),
        ("A=\"a\\\nb\"\nB=1", &[("A", "a\\\nb"), ("B", "1")]),
        ("A=\"\"", &[("A", "")]),
        ("A=\"\" ", &[("A", "")]),
        ("A=\" x \"", &[("A", " x ")]),
        ("A=x\"y\"", &[("A", "x\"y\"")]),
        ("A=\"a # b\"", &[("A", "a # b")]),
        ("A=\"a#b\" # \"c\"", &[("A", "a#b")]),
        ("A=\"\\é\"", &[("A", "\\é")]),
        ("A=\"{\\\"a\\\": 1}\"", &[("A", "{\"a\": 1}")]),
        ("A={\"a\": 1}", &[("A", "{\"a\": 1}")]),
        ("A=\"${U:-\\\"q\\\"}\"", &[("A", "\"q\"")]),
        ("A=\"${U:-}}\"", &[("A", "}")]),
        ("A=\"a\\n$HOST\"", &[("A", "a\nh")]),
        ("A=\"\\n${U:-x}\"", &[("A", "\nx")]),
        ("A=\"multi $HOST\n${HOST}\n\"\nB=$A", &[("A", "multi h\nh\n"), ("B", "multi h\nh\n")]),
        ("A=\\n", &[("A", "\\n")]),
        ("A=a\\nb", &[("A", "a\\nb")]),
        ("A=\\$HOST", &[("A", "\\h")]),
        ("A=\\\\x", &[("A", "\\\\x")]),
        ("A=$$HOST", &[("A", "$HOST")]),
        ("A=$HOST", &[("A", "h")]),
        ("A=${HOST}", &[("A", "h")]),
        ("A=$HOST$HOST", &[("A", "hh")]),
        ("A=$U", &[("A", "")]),
        ("A=${U}", &[("A", "")]),
        ("A=${U:-d}", &[("A", "d")]),
        ("A=${U-d}", &[("A", "d")]),
        ("A=${U:-d e} f", &[("A", "d e f")]),
        ("A=${U:-d#e}", &[("A", "d#e")]),
        ("A=${HOST:+r}", &[("A", "r")]),
        ("A=${U:+r}", &[("A", "")]),
        ("A=${HOST:?why}", &[("A", "h")]),
        ("A=$1", &[("A", "$1")]),
        ("A=$", &[("A", "$")]),
        ("A=$ x", &[("A", "$ x")]),
        ("A=a$", &[("A", "a$")]),
        ("A=${U:-\"q\"}", &[("A", "\"q\"")]),
        ("A=${U:-${HOST}}", &[("A", "h")]),
        ("A=1\nB=$A", &[("A", "1"), ("B", "1")]),
        ("A=1\nB=${A}2\nC=$B", &[("A", "1"), ("B", "12"), ("C", "12")]),
        ("B=$A\nA=1", &[("A", "1"), ("B", "")]),
        ("A=$A", &[("A", "")]),
        ("A=$A\nA=$A", &[("A", "")]),
        ("A=1\nA=${A}2", &[("A", "12")]),
        ("A=1\nA=2", &[("A", "2")]),
        ("A=1\nA=2\nB=$A", &[("A", "2"), ("B", "2")]),
        ("A=1\nA=", &[("A", "")]),
        ("HOST=x\nA=$HOST", &[("A", "h"), ("HOST", "x")]),
        ("HOST=x$HOST", &[("HOST", "xh")]),
        ("A=x\nA\n", &[("A", "x")]),
        ("A=x\nHOST\nB=${HOST}${A}", &[("A", "x"), ("B", "hx"), ("HOST", "h")]),
        ("A=\"1\nB=2\nC=3\"", &[("A", "1\nB=2\nC=3")]),
        ("A=`date`", &[("A", "`date`")]),
        ("A=$(date)", &[("A", "$(date)")]),
        ("A=$((1+1))", &[("A", "$((1+1))")]),
        ("A=~", &[("A", "~")]),
        ("A=*", &[("A", "*")]),
        ("A=a\\", &[("A", "a\\")]),
        ("A=a\\\nB=1", &[("A", "a\\"), ("B", "1")]),
        ("A=a,b;c", &[("A", "a,b;c")]),
        ("A=a;B=b", &[("A", "a;B=b")]),
        ("A=é ü", &[("A", "é ü")]),
        ("A=😀", &[("A", "😀")]),
        ("A=\u{a0}x\u{a0}", &[("A", "x")]),
        ("A=x\u{2003}", &[("A", "x")]),
        ("A=\u{2003}x", &[("A", "\u{2003}x")]),
        ("A=\u{3000}\"x\"", &[("A", "\u{3000}\"x\"")]),
        ("\u{a0}A=1", &[("A", "1")]),
        ("A\u{a0}=1", &[("A", "1")]),
        ("\u{2003}A=1", &[("A", "1")]),
        ("A=\u{b}x", &[("A", "x")]),
        ("A=\u{c}x", &[("A", "x")]),
        ("\u{c}A=1", &[("A", "1")]),
        ("A=a\rb", &[("A", "a\rb")]),
        ("A=a\r\r\n", &[("A", "a")]),
        ("A=1\rB=2", &[("A", "1\rB=2")]),
        ("A=\r\nB=1\r\n", &[("A", ""), ("B", "1")]),
        ("A=\"x\"\r\nB=1", &[("A", "x"), ("B", "1")]),
        ("A=\u{1}", &[("A", "\u{1}")]),
        ("A=1\n\n\n# c\n  # d\n\nB=2\n#", &[("A", "1"), ("B", "2")]),
        ("#", &[]),
        ("# A=1", &[]),
        ("#A=1\nB=1", &[("B", "1")]),
        ("\n", &[]),
        ("", &[]),
        ("   ", &[]),
        ("  #c\n  A=1", &[("A", "1")]),
        ("A=1 # c\n# c\nB=2", &[("A", "1"), ("B", "2")]),
        ("A=1\n#B=2", &[("A", "1")]),
        ("A=1;#x", &[("A", "1;#x")]),
        ("A=1# x", &[("A", "1# x")]),
        ("A=1 #", &[("A", "1")]),
        ("A=#", &[("A", "#")]),
        ("A=##", &[("A", "##")]),
        ("A=a #b #c", &[("A", "a")]),
        ("A=a#b #c", &[("A", "a#b")]),
        ("A=a\"b c\"", &[("A", "a\"b c\"")]),
        ("A= \"x\"", &[("A", "x")]),
        ("A= 'x'", &[("A", "x")]),
        ("A=\t\"x\"", &[("A", "x")]),
        ("A=\" $HOST \"", &[("A", " h ")]),
        ("A=yes", &[("A", "yes")]),
        ("A=null", &[("A", "null")]),
        ("A=~\n", &[("A", "~")]),
        ("A=0x10", &[("A", "0x10")]),
        ("A=1.10", &[("A", "1.10")]),
        ("A=1\nB\n=2", &[("", "2"), ("A", "1")]),
        ("A \n=2", &[("", "2")]),
        ("A\n:2", &[("", "2")]),
        ("A[x]y=1", &[("A[x]y", "1")]),
        ("A.b.c=$HOST", &[("A.b.c", "h")]),
        ("1A=1\nB=2", &[("1A", "1"), ("B", "2")]),
        ("0=x", &[("0", "x")]),
        ("١=1", &[("١", "1")]),
        ("A１=1", &[("A１", "1")]),
        ("ª=1", &[("ª", "1")]),
        ("A²=1", &[("A²", "1")]),
        ("if=1", &[("if", "1")]),
        ("A=\u{2028}x", &[("A", "\u{2028}x")]),
        ("A=x\u{2028}", &[("A", "x")]),
        ("A=x\u{85}", &[("A", "x")]),
        ("A=\u{85}x", &[("A", "x")]),
        ("\u{85}A=1", &[("A", "1")]),
        ("A=x\u{a0}#y", &[("A", "x\u{a0}#y")]),
        ("A=\"x\"\u{a0}", &[("A", "x")]),
        ("A=\"x\"\u{2003}\nB=1", &[("A", "x"), ("B", "1")]),
    ];

    /// What it refuses.
    #[rustfmt::skip]
    const REFUSED: &[&str] = &[
        "\u{feff}\u{feff}A=1\n",
        "A B=1",
        "A B\n",
        "A B : 1",
        "A+=1",
        "A!=1",
        "A/B=1",
        "A,B=1",
        "$A=1",
        "\"A\"=1",
        "'A'=1",
        "HOST # c\n",
        "HOST#c\n",
        "export ",
        "export export A=1",
        "EXPORT A=1",
        "A='a\\\\'b'",
        "A='",
        "A='x",
        "A='x\nB=2",
        "A=''x''",
        "A='''x'''",
        "A='a';B=1",
        "A=\"a\\\"",
        "A=\"",
        "A=\"x",
        "A=\"x\nB=2",
        "A=\"\"x\"\"",
        "A=\"${U:-a\\nb}\"",
        "A=\"${U:-a\nb}\"",
        "A=${U:-d #e} f",
        "A=${U:?why}",
        "A=${U?why}",
        "A=${EMPTY:?why}",
        "A=${HOST",
        "A=${",
        "A=${}",
        "A=${HOST!x}",
        "A=\"x\";B=1",
        "A\u{2003}=1",
        "A=\"a\"b\"c\"",
        "A=\"a\" \"b\"",
        "- A=1",
        "A.b=1\nC=${A.b}",
        "A\u{301}=1",
        "A\u{200b}=1",
    ];

    fn read_all(text: &str) -> (Vec<(String, String)>, Diagnostics) {
        let mut lookup = Variables::default();
        for (name, value) in [("HOST", "h"), ("EMPTY", "")] {
            lookup.set(name, Variable { value: value.to_owned(), origin: Origin::Environment });
        }
        let mut diagnostics = Diagnostics::new();
        let variables = parse(&SourceFile::new(0, ".env", text), &lookup, &mut diagnostics);
        (variables.iter().map(|(name, variable)| (name.to_owned(), variable.value.clone())).collect(), diagnostics)
    }

    #[test]
    fn files_are_read_as_compose_does() {
        for (text, expected) in ACCEPTED {
            let (variables, diagnostics) = read_all(text);
            assert!(!diagnostics.has_errors(), "{text:?}: {diagnostics}");
            let shown: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(shown, *expected, "{text:?}");
        }
        for text in REFUSED {
            assert!(read_all(text).1.has_errors(), "{text:?}");
        }
    }

    #[test]
    fn mistakes_are_found_and_the_rest_is_read() {
        let (variables, diagnostics) = read_all("A B=1\nC=\"x\" y+z\nD=${\nD=${HOST:?}${U?no}\nE=5\nF='open\nG=1");
        assert!(variables.contains(&("E".to_owned(), "5".to_owned())), "{variables:?}");
        let shown: Vec<String> = diagnostics
            .iter()
            .map(|found| {
                let span = found.span.as_ref().expect("a place");
                format!("{span} {} @{} ({})", found.message, span.text(), found.hints.join(", "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                ".env:1:1 `A B` is not the name of a variable @A B (a name has no spaces in it; a line is `NAME=value`)",
                ".env:2:8 `+` cannot be part of the name of a variable @+ (put the whole value between quotes)",
                ".env:3:3 `${` is not followed by the name of a variable @${ (write `$$` for a dollar sign)",
                ".env:6:3 the quoted value is not closed @' (end it with `'`)",
                ".env:4:12 the required variable `U` is not set: no @${U?no} ()",
            ]
        );
    }

    #[test]
    fn variables_know_where_they_were_set() {
        let mut lookup = Variables::default();
        lookup.set("HOST", Variable { value: "h".to_owned(), origin: Origin::Environment });
        let file = SourceFile::new(0, ".env", "A= x # c\nB='y z'\nHOST\nC=\nD=\"${A}\\n\"\n");
        let variables = parse(&file, &lookup, &mut Diagnostics::new());
        let shown: Vec<String> = variables
            .iter()
            .map(|(name, variable)| match &variable.origin {
                Origin::File(span) => format!("{name} {span} {}", span.text()),
                other => format!("{name} {other:?}"),
            })
            .collect();
        let expected =
            ["A .env:1:4 x", "B .env:2:3 'y z'", "C .env:4:1 C", "D .env:5:3 \"${A}\\n\"", "HOST Environment"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn oddities_are_warned_about() {
        for (text, expected) in [
            ("A=1\nHOST", "`HOST` becomes the value of a variable without a name"),
            ("A=\"x\" y", "`y` becomes the value of a variable without a name"),
            ("=1", "the variable has no name, so nothing can use it"),
            ("A=$U\nB=$U", "the variable `U` is not set and becomes empty"),
        ] {
            let (_, diagnostics) = read_all(text);
            let messages: Vec<&str> = diagnostics.iter().map(|found| found.message.as_str()).collect();
            assert_eq!(messages, [expected], "{text}");
            assert!(!diagnostics.has_errors());
        }
    }

    #[test]
    fn hostile_files_are_refused_or_cheap() {
        let long = "a".repeat(10 << 20);
        assert_eq!(read_all(&format!("A={long}\nB=$A\n")).0.len(), 2);
        assert!(read_all(&format!("A={long}\nB=$A$A\n")).1.has_errors());
        read_all(&long);
        read_all(&format!("{long}="));
        let doubling: String = (1..100).map(|n| format!("A{n}=$A{0}$A{0}\n", n - 1)).collect();
        assert!(read_all(&format!("A0=aaaa\n{doubling}")).1.has_errors());
        assert!(read_all(&format!("A={}", "${A:-".repeat(10_000))).1.has_errors());
        assert!(read_all("A=\"\\0000\"").1.has_errors());
        read_all(&"A='\n".repeat(200_000));
        read_all(&"A=\"\\\"\n".repeat(100_000));
        read_all(&"+\n".repeat(100_000));
        read_all(&"A='x' ".repeat(200_000));
    }
}
