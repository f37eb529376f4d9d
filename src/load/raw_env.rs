//! Files of variables with `format: raw`: what stands behind `=` is the value, to the last blank and quote.

use super::dotenv::Statements;
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile};

/// Compose refuses longer lines.
const LONGEST_LINE: usize = 65_535;

/// Finds the statements of a file. What is wrong with them goes to `diagnostics`.
pub(crate) fn read(file: &SourceFile, diagnostics: &mut Diagnostics) -> Statements {
    let mut statements = Statements::new(file);
    let mut next = 0;
    for line in file.text().split('\n') {
        let start = next;
        next += line.len() + 1;
        if line.len() > LONGEST_LINE {
            diagnostics.push(
                Diagnostic::error(format!("the line is longer than {LONGEST_LINE} bytes"))
                    .at(&file.span(start..start + 1))
                    .hint("without `format: raw`, a line may be longer"),
            );
            continue;
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        let text = line.trim_start();
        let start = start + line.len() - text.len();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let place = start..start + name.len();
        if name.is_empty() || name.contains([' ', '\t']) {
            let message = match name {
                "" => "the variable has no name".to_owned(),
                _ => "the name of a variable has no blanks in it".to_owned(),
            };
            diagnostics.push(
                Diagnostic::error(message)
                    .at(&file.span(start..start + name.len().max(1)))
                    .hint("with `format: raw`, a line is `NAME=value` with nothing around the name"),
            );
            continue;
        }
        match value {
            None => statements.inherit(name, place),
            Some("") => statements.set(name, String::new(), place),
            Some(value) => {
                let start = place.end + 1;
                statements.set(name, value.to_owned(), start..start + value.len());
            }
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        load::variables::{Variable, Variables},
        yaml::tree::Origin,
    };

    fn read_all(text: &str) -> (Vec<String>, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let host = Variable { value: "h".to_owned(), origin: Origin::Environment };
        let mut variables = Variables::default();
        read(&SourceFile::new(0, "raw.env", text), &mut diagnostics).fill(
            &|name| (name == "HOST").then_some(&host),
            &mut variables,
            &mut BTreeSet::new(),
            &mut diagnostics,
        );
        (variables.iter().map(|(name, variable)| format!("{name}={}", variable.value)).collect(), diagnostics)
    }

    /// What Docker Compose 2.40.3 makes of such a file.
    #[test]
    fn files_are_read_as_compose_does() {
        for (text, expected) in [
            (
                "A=\"q\"\nB='x'\nC=$HOST ${\n  D= x  \nHOST\nMISS\n# c\nE=a # b\nF=a=b\n\nG=\nexport_=1\nH:2=3\n1=x\nA.B!=v\nQ=$$\nR=a\\nb\n",
                "1=x|A=\"q\"|A.B!=v|B='x'|C=$HOST ${|D= x  |E=a # b|F=a=b|G=|H:2=3|HOST=h|Q=$$|R=a\\nb|export_=1",
            ),
            ("  # c\n\t\nA=1", "A=1"),
            ("A=1\r\nB=2\r\n", "A=1|B=2"),
            ("HOST", "HOST=h"),
            ("HOST\r\n", "HOST=h"),
            ("HOST#c", ""),
            ("A=\"", "A=\""),
            ("A=\"\"", "A=\"\""),
            ("\u{b}A=1", "A=1"),
            ("\u{a0}A=1", "A=1"),
            ("A\u{a0}=1", "A\u{a0}=1"),
            ("A=x\u{a0}", "A=x\u{a0}"),
            ("é=1", "é=1"),
            ("A=1\rB=2", "A=1\rB=2"),
            ("A=1\nA=2", "A=2"),
            ("HOST\nHOST=z", "HOST=z"),
            ("A+=1", "A+=1"),
            ("\"A\"=1", "\"A\"=1"),
            ("#A=1", ""),
            ("A#=1", "A#=1"),
            ("A=1\n\n\r\nB=2", "A=1|B=2"),
        ] {
            let (variables, diagnostics) = read_all(text);
            assert_eq!(variables.join("|"), expected, "{text:?}");
            assert!(diagnostics.is_empty(), "{text:?}: {diagnostics}");
        }
        for text in ["A B=1", "export A=1", "=1", "A =1", "A\t=1", "HOST \n", "A\n=1", "=", "MISS\n="] {
            assert!(read_all(text).1.has_errors(), "{text:?}");
        }
        for (length, accepted) in [(65_535, true), (65_536, false)] {
            let text = format!("A={}\nB=1", "x".repeat(length - 2));
            assert_eq!(!read_all(&text).1.has_errors(), accepted, "{length}");
        }
    }

    #[test]
    fn values_and_mistakes_have_their_place() {
        let file = SourceFile::new(0, "raw.env", "  A= x\r\nB C=1\n");
        let mut diagnostics = Diagnostics::new();
        let mut variables = Variables::default();
        read(&file, &mut diagnostics).fill(&|_| None, &mut variables, &mut BTreeSet::new(), &mut diagnostics);
        let Some(Origin::File(span)) = variables.get("A").map(|variable| &variable.origin) else { panic!("no place") };
        assert_eq!((span.to_string().as_str(), span.text()), ("raw.env:1:5", " x"));
        let span = diagnostics.iter().next().and_then(|found| found.span.clone()).expect("a place");
        assert_eq!((span.to_string().as_str(), span.text()), ("raw.env:2:1", "B C"));
    }
}
