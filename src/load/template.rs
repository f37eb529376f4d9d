//! The grammar of variables in a text: `$V`, `${V}`, `${V:-d}`, `${V-d}`, `${V:?e}`, `${V?e}`, `${V:+r}`, `${V+r}`, `$$`.
//!
//! What follows an operator is a text with variables itself. It ends at the brace that balances the first, or at the last
//! one of the line where none does; it never goes over a line break. A `$` that begins none of these is a `$`. What
//! follows an operator is filled in even where it is not used: a required variable in there is required.

use std::ops::Range;

/// Operators within operators deeper than this are refused.
const DEEPEST: usize = 64;

/// Text that the variables of one value may grow it to.
const MOST_TEXT: usize = 16 * 1024 * 1024;

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
    /// Where the word stands.
    range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OperatorKind {
    Default,
    Required,
    Replacement,
}

/// What is wrong, and which bytes of the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) range: Range<usize>,
    pub(crate) hint: Option<&'static str>,
}

/// What a text does with a variable while it is filled in.
#[derive(Debug)]
pub(crate) enum Notice<'a> {
    /// It has no value and no default, and becomes empty.
    Unset(&'a str, &'a Range<usize>),
    /// Its value is part of the text, or decides about it.
    Used(&'a str),
}

/// A variable as it stands in a text, its operands as they are written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention<'a> {
    pub(crate) name: &'a str,
    pub(crate) required: bool,
    pub(crate) default: &'a str,
    pub(crate) alternate: &'a str,
}

/// Reads a text with variables.
pub(crate) fn parse(text: &str) -> Result<Vec<Part>, Problem> {
    Reader { text }.parts(0..text.len(), 0)
}

/// Fills in variables.
pub(crate) fn evaluate<'v>(
    parts: &[Part],
    lookup: &dyn Fn(&str) -> Option<&'v str>,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<String, Problem> {
    let mut text = String::new();
    fill(parts, lookup, notice, Some(&mut text))?;
    bounded(&text)?;
    Ok(text)
}

fn bounded(text: &str) -> Result<(), Problem> {
    if text.len() <= MOST_TEXT {
        return Ok(());
    }
    let message = format!("variables make more than {} MiB of text", MOST_TEXT >> 20);
    Err(Problem { message, range: 0..usize::MAX, hint: None })
}

/// Each variable that a text names, those of defaults and replacements after the one they belong to.
pub(crate) fn mentions<'a>(text: &'a str, parts: &'a [Part], each: &mut dyn FnMut(Mention<'a>)) {
    for part in parts {
        let Part::Variable { name, operator, .. } = part else { continue };
        let mut mention = Mention { name, required: false, default: "", alternate: "" };
        let Some(operator) = operator else {
            each(mention);
            continue;
        };
        let word = &text[operator.range.clone()];
        match operator.kind {
            OperatorKind::Default => mention.default = word,
            OperatorKind::Replacement => mention.alternate = word,
            OperatorKind::Required => mention.required = true,
        }
        let required = mention.required;
        each(mention);
        // Compose does not list those of a message.
        if !required {
            mentions(text, &operator.word, each);
        }
    }
}

/// Without `out`, only what is required is looked for.
fn fill<'v>(
    parts: &[Part],
    lookup: &dyn Fn(&str) -> Option<&'v str>,
    notice: &mut dyn FnMut(Notice<'_>),
    mut out: Option<&mut String>,
) -> Result<(), Problem> {
    for part in parts {
        if let Some(out) = &out {
            bounded(out)?;
        }
        let (name, operator, range) = match part {
            Part::Text(text) => {
                if let Some(out) = out.as_deref_mut() {
                    out.push_str(text);
                }
                continue;
            }
            Part::Variable { name, operator, range } => (name, operator, range),
        };
        let value = lookup(name);
        let Some(operator) = operator else {
            match (out.as_deref_mut(), value) {
                (Some(out), Some(value)) => {
                    out.push_str(value);
                    notice(Notice::Used(name));
                }
                (Some(_), None) => notice(Notice::Unset(name, range)),
                (None, _) => {}
            }
            continue;
        };
        let present = value.filter(|value| !(operator.colon && value.is_empty()));
        let taken = match (operator.kind, present) {
            (OperatorKind::Required, None) => {
                let used = out.is_some();
                return Err(required(name, operator, range, used, lookup, notice));
            }
            (OperatorKind::Default, None) => true,
            (OperatorKind::Replacement, Some(_)) => {
                if out.is_some() {
                    notice(Notice::Used(name));
                }
                true
            }
            (OperatorKind::Default | OperatorKind::Required, Some(value)) => {
                if let Some(out) = out.as_deref_mut() {
                    out.push_str(value);
                    notice(Notice::Used(name));
                }
                false
            }
            (OperatorKind::Replacement, None) => false,
        };
        fill(&operator.word, lookup, notice, if taken { out.as_deref_mut() } else { None })?;
    }
    Ok(())
}

fn required<'v>(
    name: &str,
    operator: &Operator,
    range: &Range<usize>,
    used: bool,
    lookup: &dyn Fn(&str) -> Option<&'v str>,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Problem {
    let mut word = String::new();
    if let Err(problem) = fill(&operator.word, lookup, notice, Some(&mut word)) {
        return problem;
    }
    let state = if operator.colon { "is not set or empty" } else { "is not set" };
    let message = match word.as_str() {
        "" => format!("the required variable `{name}` {state}"),
        word => format!("the required variable `{name}` {state}: {word}"),
    };
    let hint = (!used).then_some("what follows an operator is filled in even where it is not used");
    Problem { message, range: range.clone(), hint }
}

struct Reader<'a> {
    text: &'a str,
}

/// Where a line ends, and the last brace on it. Kept for all variables of a line, so that a long one is searched once.
struct Line {
    end: usize,
    brace: Option<usize>,
}

impl Reader<'_> {
    fn parts(&self, within: Range<usize>, depth: usize) -> Result<Vec<Part>, Problem> {
        let text = &self.text[..within.end];
        let mut at = within.start;
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut line = None;
        while let Some(found) = text[at..].find('$') {
            let dollar = at + found;
            plain.push_str(&text[at..dollar]);
            let after = &text[dollar + 1..];
            let named = name(after);
            at = dollar + 1 + named.len();
            let variable = if after.starts_with('{') {
                self.braced(dollar, within.end, depth, &mut line, &mut at)?
            } else if !named.is_empty() {
                Part::Variable { name: named.to_owned(), operator: None, range: dollar..at }
            } else {
                plain.push('$');
                at += usize::from(after.starts_with('$'));
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(variable);
        }
        plain.push_str(&text[at..]);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(parts)
    }

    /// What begins with `${` at `dollar`; `at` is moved behind it.
    fn braced(
        &self,
        dollar: usize,
        end: usize,
        depth: usize,
        line: &mut Option<Line>,
        at: &mut usize,
    ) -> Result<Part, Problem> {
        let inner = &self.text[dollar + 2..end];
        let name = name(inner);
        if name.is_empty() {
            let shown = inner.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
            return Err(Problem {
                message: "`${` is not followed by the name of a variable".to_owned(),
                range: dollar..dollar + 2 + shown,
                hint: Some("write `$$` for a dollar sign"),
            });
        }
        let behind = dollar + 2 + name.len();
        let rest = &inner[name.len()..];
        let colon = rest.starts_with(':');
        let kind = match rest[usize::from(colon)..].chars().next() {
            Some('-') => OperatorKind::Default,
            Some('?') => OperatorKind::Required,
            Some('+') => OperatorKind::Replacement,
            Some('}') if !colon => {
                *at = behind + 1;
                return Ok(Part::Variable { name: name.to_owned(), operator: None, range: dollar..*at });
            }
            None | Some('\n') => return Err(self.unclosed(dollar, name, end)),
            Some(other) => {
                let length = usize::from(colon) + other.len_utf8();
                return Err(Problem {
                    message: format!("`{}` is no operator after the variable `{}`", &rest[..length], shorten(name)),
                    range: behind..behind + length,
                    hint: Some("use `:-`, `-`, `:?`, `?`, `:+` or `+`, or write `$$` for a dollar sign"),
                });
            }
        };
        let start = behind + usize::from(colon) + 1;
        if line.as_ref().is_none_or(|line| line.end < start) {
            let rest = &self.text[start..end];
            let length = rest.find('\n').unwrap_or(rest.len());
            *line = Some(Line { end: start + length, brace: rest[..length].rfind('}').map(|brace| start + brace) });
        }
        let Some(last) = line.as_ref().and_then(|line| line.brace).filter(|brace| *brace >= start) else {
            return Err(self.unclosed(dollar, name, end));
        };
        if depth >= DEEPEST {
            return Err(Problem {
                message: format!("variables are nested deeper than {DEEPEST} levels"),
                range: dollar..behind,
                hint: None,
            });
        }
        let close = balancing(&self.text.as_bytes()[dollar..=last]).map_or(last, |close| dollar + close);
        let word = self.parts(start..close, depth + 1)?;
        *at = close + 1;
        let operator = Some(Operator { kind, colon, word, range: start..close });
        Ok(Part::Variable { name: name.to_owned(), operator, range: dollar..*at })
    }

    fn unclosed(&self, dollar: usize, name: &str, end: usize) -> Problem {
        let later = self.text[dollar..end].find('\n').is_some_and(|at| self.text[dollar + at..end].contains('}'));
        Problem {
            message: format!("`${{{}` is not closed with `}}`", shorten(name)),
            range: dollar..dollar + 2 + name.len(),
            hint: Some(if later { "it has to end on the line it begins on" } else { "write `$$` for a dollar sign" }),
        }
    }
}

/// Where the brace is that balances the first one. As in Compose, what directly follows an opening brace is not looked at.
fn balancing(text: &[u8]) -> Option<usize> {
    let mut open = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'{' => {
                open += 1;
                at += 1;
            }
            b'}' if open == 1 => return Some(at),
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// A name as it is shown in a message: it may be as long as the file.
fn shorten(name: &str) -> &str {
    name.char_indices().nth(60).map_or(name, |(end, _)| &name[..end])
}

/// The name that a text begins with, or nothing.
fn name(text: &str) -> &str {
    // The last two are s and k to Compose, which does not look at the case of letters.
    let letter = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '\u{17f}' | '\u{212a}');
    if !text.starts_with(letter) {
        return "";
    }
    let end = text.find(|c: char| !(letter(c) || c.is_ascii_digit()));
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Docker Compose 2.40.3 makes of a label, where A=a, B=b and E is empty.
    #[rustfmt::skip]
    const FILLED: &[(&str, &str)] = &[
        ("no variable", "no variable"),
        ("$A-${A}", "a-a"),
        ("$$A $${A} $$$A", "$A ${A} $a"),
        ("${A:-d}${E:-d}${U:-d}", "add"),
        ("${A-d}${E-d}${U-d}", "ad"),
        ("${A:+r}${E:+r}${U:+r}", "r"),
        ("${A+r}${E+r}${U+r}", "rr"),
        ("${A:?e}${E?e}", "a"),
        ("${E?}", ""),
        ("${U:-${V:-x$A}}!", "xa!"),
        ("${U:-{\"k\": 1}}", "{\"k\": 1}"),
        ("${U:-{\"k\": {\"a\":1}}} b", "{\"k\": {\"a\":1}} b"),
        ("${U:-{}}", "{}"),
        ("${U:-{}} b} c", "{}} b c"),
        ("${U:-a{}b}", "a{}b"),
        ("${U:-a{} b", "a{ b"),
        ("${U:-{ x }} y", "{ x } y"),
        ("${U:-$$}", "$"),
        ("${U:-$$A}", "$A"),
        ("${U:-$${A}}", "${A}"),
        ("${U:-$${A} b", "${A b"),
        ("${A:-$U}", "a"),
        ("$U.", "."),
        ("$AB", ""),
        ("$1", "$1"),
        ("$ ", "$ "),
        ("$", "$"),
        ("a$", "a$"),
        ("$(date)", "$(date)"),
        ("cost: $5", "cost: $5"),
        ("${A:-b} and ${B:-c}", "a and b"),
        ("${U:-b} and ${V:-c} end", "b and c end"),
        ("${U:-b} } x", "b } x"),
        ("${U:-b}} x", "b} x"),
        ("${U:-b}$A} x", "ba} x"),
        ("${A} } x", "a } x"),
        ("${U:-a-b:-c}", "a-b:-c"),
        ("${U-b:-c}", "b:-c"),
        ("${U-:-c}", ":-c"),
        ("${U-:c}", ":c"),
        ("${U:--c}", "-c"),
        ("${U:-:-c}", ":-c"),
        ("${U:-a?b}", "a?b"),
        ("${U:-a:?b}", "a:?b"),
        ("${U:-a+b}", "a+b"),
        ("${A+a-b}", "a-b"),
        ("${A:+a?b}", "a?b"),
        ("${A:+a:?b}", "a:?b"),
        ("${E:+a?b}", ""),
        ("$A$B", "ab"),
        ("$A_B", ""),
        ("$_", ""),
        ("${_}", ""),
        ("$A1", ""),
        ("${A}1", "a1"),
        ("$é", "$é"),
        ("$Aé", "aé"),
        ("${A:-é}", "a"),
        ("${U:-é}", "é"),
        ("$ſ", ""),
        ("${ſ}", ""),
        ("${Aſ}", ""),
        ("$K", ""),
        ("${A}\n${B:-x}", "a\nb"),
        ("${U:-x}\n${V:-y}", "x\ny"),
        ("${U:-x}}\n${V:-y}", "x}\ny"),
        ("$\n", "$\n"),
        ("${U:-'}'}", "''}"),
        ("${U:-\"}\"}", "\"\"}"),
        ("${U:-\\}}", "\\}"),
        ("\\$A", "\\a"),
        ("\\${A}", "\\a"),
        ("$A$", "a$"),
        ("$$", "$"),
        ("$$$", "$$"),
        ("$$$$", "$$"),
        ("$$$A$$", "$a$"),
        ("${A}$", "a$"),
        ("${U:-$}", "$"),
        ("${U:-a$}", "a$"),
        ("${U:-$1}", "$1"),
        ("${U:-$ x}", "$ x"),
        ("${U:- }", " "),
        ("${U:-  a  }x", "  a  x"),
        ("${U:- $A }", " a "),
        ("${A:+}", ""),
        ("${U:-}", ""),
        ("${U-}", ""),
        ("${E:-}", ""),
        ("{$A}", "{a}"),
        ("{${A}}", "{a}"),
        ("{ ${A} }", "{ a }"),
        ("{{.A}}", "{{.A}}"),
        ("{{${A}}}", "{{a}}"),
        ("{{ ${U:-b} }}", "{{ b }}"),
        ("{{ ${U:-b} }} ${V:-c}", "{{ b }} c"),
        ("${U:-{{.A}}}", "{{.A}}"),
        ("${U:-{{.A}}} ${V:-c}", "{{.A}} c"),
        ("${U:-{{ .A }}} x", "{{ .A }} x"),
        ("${U:-{{${A}}}}", "{{a}}"),
        ("${U:-{a}", "{a"),
        ("${U:-a} {${V:-b}", "a {b"),
        ("${U:-${A}} ${B}", "a b"),
        ("${U:-${A}-${B}} ${B}", "a-b b"),
        ("${U:-${V:-${W:-z}}} t", "z t"),
        ("${U:-$A} $U ${V-}", "a  "),
        ("$${A:-b}", "${A:-b}"),
        ("$${A:-${B}}", "${A:-b}"),
        ("$$${A:-${B}}", "$a"),
        ("${U:-$${B:-c}}", "${B:-c}"),
        ("${U:-x$${B}y} z", "x${B}y z"),
        ("$A:$B", "a:b"),
        ("$A.$B", "a.b"),
        ("$A-$B", "a-b"),
        ("a@${A}@b", "a@a@b"),
        ("${U:-x}$", "x$"),
        ("${A?a}b}", "ab}"),
        ("${E:-x$E}", "x"),
        ("${A-}", "a"),
        ("${A:-\t}", "a"),
        ("${a}", ""),
        ("${A:-$a}", "a"),
        ("$a", ""),
        ("${U:-\"a b\"}", "\"a b\""),
        ("${U:-'a b'}", "'a b'"),
        ("%A%", "%A%"),
        ("$${", "${"),
        ("$$}", "$}"),
        ("${A}}", "a}"),
        ("${A}{", "a{"),
        ("${A}${B}}", "ab}"),
        ("}${A}", "}a"),
        ("}${U:-x}", "}x"),
        ("}}${U:-x}{", "}}x{"),
        ("${U:-x}{}", "x{}"),
        ("${U:-x}{}}", "x{}}"),
        ("${U:-x}{y}", "x{y}"),
        ("${U:-${V:-x}{y}}", "x{y}"),
        ("${U:-{${V:-x}}}", "{x}"),
        ("${U:-{ ${V:-x} }}", "{ x }"),
        ("${U:-{a ${V:-x} }}", "{a x }"),
        ("${U:- {a ${V:-x} b} } c", " {a x b}  c"),
    ];

    /// What it refuses.
    #[rustfmt::skip]
    const REFUSED: &[&str] = &[
        "${U?why}",
        "${U:?why $A}",
        "${U:?why ${B:-x}}",
        "${E:?}",
        "${U?}",
        "${U:?${BAD!}}",
        "${A:-${}}",
        "${U:-${}}",
        "${A:+${U!}}",
        "${}",
        "${1}",
        "${A",
        "${A:-b",
        "${A!b}",
        "${A:}",
        "${A:b}",
        "${A:=b}",
        "${A=b}",
        "${A b}",
        "${ A}",
        "${A }",
        "${U?a:-b}",
        "${U:+x${V?boom}}",
        "${U+x${V?boom}}",
        "${A:-x${V?boom}}",
        "${U:-x${V?boom}}",
        "${A?x${V?boom}}",
        "${Ué}",
        "${U:-line1\nline2}",
        "${A:-x\n}",
        "${\n}",
        "a\n${U:-b c",
        "${U:-{a} ${V:-b}",
        "${A:-{} {${V:-b}",
        "${A:-x}${",
        "${U:-x}${",
        "${U:-x}${1}",
        "${U:-x}${U!}",
        "${U:-x} ${A",
        "${A}${",
        "${A:?${",
        "${A:-${",
        "${A:-${}",
        "${U:-${}",
        "${U?a}b}",
        "${A:?a} ${B:?b} ${U:?c}",
        "${A/x/y}",
        "${A^^}",
        "${!A}",
        "${#A}",
        "${A[0]}",
        "${A.B}",
        "$$${",
    ];

    fn fill(text: &str) -> Result<String, Problem> {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "B" => Some("b"),
            "E" => Some(""),
            _ => None,
        };
        let mut missing = Vec::new();
        let text = evaluate(&parse(text)?, &lookup, &mut |notice| {
            if let Notice::Unset(name, _) = notice {
                missing.push(name.to_owned());
            }
        })?;
        Ok(if missing.is_empty() { text } else { format!("{text} (unset {})", missing.join(" ")) })
    }

    #[test]
    fn texts_are_filled_in_as_compose_does() {
        for (text, expected) in FILLED {
            let filled = fill(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"));
            assert_eq!(filled.split(" (unset").next(), Some(*expected), "{text}");
        }
        for text in REFUSED {
            assert!(fill(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_unset_is_noticed_where_it_matters() {
        for (text, expected) in [
            ("$U.", ". (unset U)"),
            ("${U:-$V}", " (unset V)"),
            ("${A:-$V}", "a"),
            ("${U+$V}", ""),
            ("$AB ${E}", "  (unset AB)"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, expected) in [
            ("x ${}", "`${` is not followed by the name of a variable @${}"),
            ("${", "`${` is not followed by the name of a variable @${"),
            ("${A", "`${A` is not closed with `}` @${A"),
            ("${A:-b", "`${A` is not closed with `}` @${A"),
            ("${A!b}", "`!` is no operator after the variable `A` @!"),
            ("${A:}", "`:}` is no operator after the variable `A` @:}"),
            ("${A:", "`${A` is not closed with `}` @${A"),
            ("${U?why}", "the required variable `U` is not set: why @${U?why}"),
            ("${E:?} ", "the required variable `E` is not set or empty @${E:?}"),
            ("${A:-x${V?b}}", "the required variable `V` is not set: b @${V?b}"),
            ("${U:-x${V!b}}", "`!` is no operator after the variable `V` @!"),
        ] {
            let problem = fill(text).expect_err(text);
            assert_eq!(format!("{} @{}", problem.message, &text[problem.range]), expected, "{text}");
        }
        assert_eq!(fill("${A:-b\n}").expect_err("lines").hint, Some("it has to end on the line it begins on"));
    }

    #[test]
    fn contributions_are_noticed() {
        let used = |text: &str| {
            let mut names = String::new();
            let lookup = |name: &str| (name != "U").then_some("v");
            evaluate(&parse(text).expect(text), &lookup, &mut |notice| {
                if let Notice::Used(name) = notice {
                    names.push_str(name);
                }
            })
            .expect(text);
            names
        };
        assert_eq!(used("$A-${B:-$C}-${U:-$D}-${U+$E}-${F+x}-${G:?$H}-$U-$$I"), "ABDFG");
    }

    #[test]
    fn mentions_are_listed_with_their_operands() {
        let text = "${A:-${B+c}} $$C ${D:?${E}} $F";
        let parts = parse(text).expect(text);
        let mut listed = Vec::new();
        mentions(text, &parts, &mut |Mention { name, required, default, alternate }| {
            listed.push(format!("{name} {required} {default} {alternate}"));
        });
        assert_eq!(listed, ["A false ${B+c} ", "B false  c", "D true  ", "F false  "]);
    }

    #[test]
    fn hostile_texts_are_refused_or_cheap() {
        let deep = |levels: usize| "${U:-".repeat(levels) + &"}".repeat(levels);
        assert_eq!(fill(&deep(DEEPEST)).as_deref(), Ok(""));
        assert!(fill(&deep(10_000)).expect_err("depth").message.starts_with("variables are nested"));
        assert!(fill(&"${A:-".repeat(10_000)).is_err());
        assert!(fill(&("${".repeat(100_000) + &"}".repeat(100_000))).is_err());
        let long = "${A:-x}".repeat(200_000) + &"y".repeat(5_000_000);
        assert_eq!(fill(&long).expect("long").len(), 5_200_000);
        // Neither what is made nor what is thrown away may cost more than it should.
        let big = "v".repeat(1 << 20);
        let lookup = |_: &str| Some(&*big);
        let grow = parse(&"$A".repeat(10_000)).expect("grow");
        assert!(evaluate(&grow, &lookup, &mut |_| {}).is_err());
        let discard = parse(&"${U+${A:-$A$A$A$A}}".repeat(10_000)).expect("discard");
        let none = |name: &str| (name != "U").then_some(&*big);
        assert_eq!(evaluate(&discard, &none, &mut |_| {}).as_deref(), Ok(""));
    }
}
