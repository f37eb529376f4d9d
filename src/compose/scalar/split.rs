//! A command line as words, by the quoting rules of a shell (POSIX.1, XCU 2.2). No shell is involved: no variables, no
//! globs, no operators.

/// Splits a command line.
///
/// # Errors
/// What is not closed, for people.
pub(crate) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err("a single quote is not closed"),
                        Some('\'') => break,
                        Some(c) => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err("a double quote is not closed"),
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            None => return Err("a double quote is not closed"),
                            Some('\n') => {}
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                        },
                        Some(c) => word.push(c),
                    }
                }
            }
            '\\' => match chars.next() {
                None => return Err("nothing follows the backslash at the end"),
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, expected) in [
            ("echo  hello\tworld\n", vec!["echo", "hello", "world"]),
            (r#"sh -c "echo 'a b' \"c\" \n" "#, vec!["sh", "-c", r#"echo 'a b' "c" \n"#]),
            (r"a\ b 'c\d' e''f", vec!["a b", r"c\d", "ef"]),
            ("''", vec![""]),
            ("a | b && c; $D", vec!["a", "|", "b", "&&", "c;", "$D"]),
            ("   ", vec![]),
        ] {
            assert_eq!(split(text).expect(text), expected, "{text}");
        }
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
