//! The grammar of variables in a text: `$V`, `${V}`, `${V:-d}`, `${V-d}`, `${V:?e}`, `${V?e}`, `${V:+r}`, `${V+r}`, `$$`.
//!
//! What follows an operator is a text with variables itself, up to the brace that closes it.

use std::ops::Range;

/// Operators within operators deeper than this are refused.
const DEEPEST: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Variable { name: String, operator: Option<Operator>, range: Range<usize> },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    kind: OperatorKind,
    /// With a colon, an empty value counts as none.
    colon: bool,
    word: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OperatorKind {
    Default,
    Required,
    Replacement,
}

/// Text that the variables of one value may grow it to.
const MOST_TEXT: usize = 16 * 1024 * 1024;

/// What is wrong, and which bytes of the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) range: Range<usize>,
    pub(crate) hint: Option<&'static str>,
}

/// Reads a text with variables.
pub(crate) fn parse(text: &str) -> Result<Vec<Part>, Problem> {
    let mut reader = Reader { text, at: 0 };
    reader.parts(0)
}

/// Fills in variables.
///
/// `unset` is told of each variable that has no value and no default, and becomes empty.
pub(crate) fn evaluate(
    parts: &[Part],
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str, &Range<usize>),
) -> Result<String, Problem> {
    let mut text = String::new();
    for part in parts {
        if text.len() > MOST_TEXT {
            let message = format!("variables make more than {} MiB of text", MOST_TEXT >> 20);
            return Err(Problem { message, range: 0..usize::MAX, hint: None });
        }
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Variable { name, operator, range } => {
                let value = lookup(name);
                let Some(operator) = operator else {
                    match value {
                        Some(value) => text.push_str(&value),
                        None => unset(name, range),
                    }
                    continue;
                };
                let present = value.filter(|value| !(operator.colon && value.is_empty()));
                match (operator.kind, present) {
                    (OperatorKind::Default | OperatorKind::Required, Some(value)) => text.push_str(&value),
                    (OperatorKind::Default, None) | (OperatorKind::Replacement, Some(_)) => {
                        text.push_str(&evaluate(&operator.word, lookup, unset)?);
                    }
                    (OperatorKind::Replacement, None) => {}
                    (OperatorKind::Required, None) => {
                        let word = evaluate(&operator.word, lookup, unset)?;
                        let state = if operator.colon { "is not set or empty" } else { "is not set" };
                        let message = match word.as_str() {
                            "" => format!("the required variable `{name}` {state}"),
                            word => format!("the required variable `{name}` {state}: {word}"),
                        };
                        return Err(Problem { message, range: range.clone(), hint: None });
                    }
                }
            }
        }
    }
    Ok(text)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Up to the end, or below the top to the closing brace, which stays unread.
    fn parts(&mut self, depth: usize) -> Result<Vec<Part>, Problem> {
        let mut parts = Vec::new();
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let stop = rest.find(|c| c == '$' || (depth > 0 && c == '}')).unwrap_or(rest.len());
            text.push_str(&rest[..stop]);
            self.at += stop;
            if !self.rest().starts_with('$') {
                break;
            }
            if self.rest().starts_with("$$") {
                text.push('$');
                self.at += 2;
                continue;
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(self.variable(depth)?);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(parts)
    }

    fn variable(&mut self, depth: usize) -> Result<Part, Problem> {
        let start = self.at;
        self.at += 1;
        let braced = self.rest().starts_with('{');
        if braced {
            self.at += 1;
        }
        let name = name(self.rest()).to_owned();
        if name.is_empty() {
            let shown: String = self.rest().chars().take(1).collect();
            self.at += shown.len();
            return Err(Problem {
                message: if braced {
                    "`${` is not followed by the name of a variable".to_owned()
                } else {
                    "`$` is not followed by the name of a variable".to_owned()
                },
                range: start..self.at,
                hint: Some("write `$$` for a dollar sign"),
            });
        }
        self.at += name.len();
        if !braced {
            return Ok(Part::Variable { name, operator: None, range: start..self.at });
        }
        let colon = self.rest().starts_with(':');
        let after = &self.rest()[usize::from(colon)..];
        let kind = match after.chars().next() {
            Some('-') => Some(OperatorKind::Default),
            Some('?') => Some(OperatorKind::Required),
            Some('+') => Some(OperatorKind::Replacement),
            Some('}') if !colon => None,
            None => return Err(self.unclosed(start, &name)),
            Some(other) => {
                let length = usize::from(colon) + other.len_utf8();
                return Err(Problem {
                    message: format!("`{}` is no operator after the variable `{name}`", &self.rest()[..length]),
                    range: self.at..self.at + length,
                    hint: Some("use `:-`, `-`, `:?`, `?`, `:+` or `+`, or write `$$` for a dollar sign"),
                });
            }
        };
        let operator = match kind {
            None => None,
            Some(_) if depth >= DEEPEST => {
                return Err(Problem {
                    message: format!("variables are nested deeper than {DEEPEST} levels"),
                    range: start..self.at,
                    hint: None,
                });
            }
            Some(kind) => {
                self.at += usize::from(colon) + 1;
                Some(Operator { kind, colon, word: self.parts(depth + 1)? })
            }
        };
        if !self.rest().starts_with('}') {
            return Err(self.unclosed(start, &name));
        }
        self.at += 1;
        Ok(Part::Variable { name, operator, range: start..self.at })
    }

    fn unclosed(&self, start: usize, name: &str) -> Problem {
        Problem {
            message: format!("`${{{name}` is not closed with `}}`"),
            range: start..start + 2 + name.len(),
            hint: Some("write `$$` for a dollar sign"),
        }
    }
}

fn name(text: &str) -> &str {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    &text[..text.bytes().position(|b| !valid(b)).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> String {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut missing = Vec::new();
        let result = parse(text)
            .and_then(|parts| evaluate(&parts, &lookup, &mut |name, _| missing.push(name.to_owned())))
            .unwrap_or_else(|problem| format!("{} @{}", problem.message, &text[problem.range]));
        if missing.is_empty() { result } else { format!("{result} (unset {})", missing.join(" ")) }
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("no variable", "no variable"),
            ("$A-${A}", "a-a"),
            ("$$A $${A} $$$A", "$A ${A} $a"),
            ("${A:-d}${EMPTY:-d}${U:-d}", "add"),
            ("${A-d}${EMPTY-d}${U-d}", "ad"),
            ("${A:+r}${EMPTY:+r}${U:+r}", "r"),
            ("${A+r}${EMPTY+r}${U+r}", "rr"),
            ("${A:?e}${EMPTY?e}", "a"),
            ("${U?why}", "the required variable `U` is not set: why @${U?why}"),
            ("${EMPTY:?}", "the required variable `EMPTY` is not set or empty @${EMPTY:?}"),
            ("${U:-${V:-x$A}}!", "xa!"),
            ("${U:-{\"k\": 1}}", "{\"k\": 1}"),
            ("${U:-$$}", "$"),
            ("${A:-$U}", "a"),
            ("$U.", ". (unset U)"),
            ("$AB", " (unset AB)"),
        ] {
            assert_eq!(fill(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, expected) in [
            ("cost: $", "`$` is not followed by the name of a variable @$"),
            ("$(date)", "`$` is not followed by the name of a variable @$("),
            ("$1", "`$` is not followed by the name of a variable @$1"),
            ("x ${}", "`${` is not followed by the name of a variable @${}"),
            ("${A", "`${A` is not closed with `}` @${A"),
            ("${A:-b", "`${A` is not closed with `}` @${A"),
            ("${A!b}", "`!` is no operator after the variable `A` @!"),
            ("${A:}", "`:}` is no operator after the variable `A` @:}"),
            ("${A:", "`${A` is not closed with `}` @${A"),
        ] {
            assert_eq!(fill(text), expected, "{text}");
        }
        assert!(fill(&"${A:-".repeat(100)).starts_with("variables are nested"));
    }
}
