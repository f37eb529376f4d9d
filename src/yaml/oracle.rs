//! The tree of phase 2 against another YAML library: on what both understand, they have to agree.

use serde_yaml::Value as Theirs;

use super::{
    parse,
    tree::{Node, ScalarKind, Value as Ours},
};
use crate::diagnostics::Diagnostics;
use crate::load::read;

fn ours(text: &str) -> Result<Option<Node>, String> {
    let mut diagnostics = Diagnostics::new();
    let file = read::text(0, "f", text.as_bytes().to_vec()).map_err(|d| d.render(false))?;
    let node = parse::parse(&file, &mut diagnostics).map_err(|d| d.render(false))?;
    if diagnostics.is_empty() { Ok(node.into_iter().next()) } else { Err(diagnostics.render(false)) }
}

fn theirs(text: &str) -> Result<Theirs, String> {
    let mut value: Theirs = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    value.apply_merge().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Keys of ours are text; a mapping of theirs keeps them typed.
fn key(value: &Theirs) -> Option<String> {
    match value {
        Theirs::String(text) => Some(text.clone()),
        Theirs::Bool(value) => Some(value.to_string()),
        Theirs::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn same(ours: &Node, theirs: &Theirs) -> Result<(), String> {
    let differ = || Err(format!("{ours:?}\nand {theirs:?}"));
    match (&ours.value, theirs) {
        (Ours::Mapping(entries), Theirs::Mapping(mapping)) => {
            if entries.len() != mapping.len() {
                return differ();
            }
            mapping.iter().try_for_each(|(name, value)| {
                let name = key(name).ok_or("an odd key")?;
                same(&ours.entry(&name).ok_or_else(|| format!("no key {name:?} in {ours:?}"))?.value, value)
            })
        }
        (Ours::Sequence(mine), Theirs::Sequence(other)) if mine.len() == other.len() => {
            mine.iter().zip(other).try_for_each(|(mine, other)| same(mine, other))
        }
        (Ours::Scalar(scalar), other) => {
            let text = &*scalar.text;
            let agree = match (scalar.kind, other) {
                (ScalarKind::Null, Theirs::Null) => true,
                (ScalarKind::Bool, Theirs::Bool(value)) => text.eq_ignore_ascii_case(&value.to_string()),
                (ScalarKind::String, Theirs::String(other)) => text == other,
                // They know no numbers of YAML 1.1 but some of 1.2, and no dates.
                (ScalarKind::Int, Theirs::String(other)) => {
                    text == other && (text.starts_with('0') || text.contains('_'))
                }
                (ScalarKind::Timestamp, Theirs::String(other)) => text == other,
                (ScalarKind::Int | ScalarKind::Float, Theirs::Number(number)) => {
                    text.parse::<f64>().is_ok_and(|value| Some(value) == number.as_f64())
                        || text.contains(['x', 'o', 'n'])
                }
                _ => false,
            };
            if agree { Ok(()) } else { differ() }
        }
        _ => differ(),
    }
}

fn compare(text: &str) {
    match (ours(text), theirs(text)) {
        (Ok(mine), Ok(other)) => {
            let result = match &mine {
                None if other.is_null() => Ok(()),
                None => Err(format!("nothing and {other:?}")),
                Some(mine) => same(mine, &other),
            };
            if let Err(difference) = result {
                panic!("{text}\n{difference}");
            }
        }
        (Err(_), Err(_)) => {}
        (mine, other) => panic!("{text}\nours {mine:?}\ntheirs {other:?}"),
    }
}

#[test]
fn hand_written_documents() {
    let documents = [
        "",
        "# only a comment\n",
        "---\na: 1\n...\n",
        "a: b\nc: [d, 'e', \"f\\n\", ~, null, true, False, 1, -2, 3.5, 1e3, .inf]\n",
        "a:\n- 1\n- - 2\n  - 3\n-\nb:\n  c:\n",
        "lit: |\n  one\n   two\n\nfold: >-\n  three\n  four\n\n  five\nkeep: |+\n  x\n\n",
        "plain: several words\n  over lines\nquoted: \"a\n  b\\\n  c\"\nsingle: 'it''s'\n",
        "{a: {b: [c, {d: e}]}, f: , \"g\": h}\n",
        "x: &a {k: v, l: [1]}\ny: *a\nz: {<<: *a, k: own}\n",
        "b: &b {p: 1}\nc: &c {p: 2, q: 3}\nm:\n  <<: [*b, *c]\n  r: 4\n",
        "yes: no\non: off\ny: n\ntime: 22:22\nver: 1.2.3\nempty: ''\n",
        "t: !!str 12\nu: \"12\"\n",
        "? long key\n: value\n",
        "ümläut: \"\\u00e9\\x41\\t\"\nemoji: 😀 ok\n",
        "a: b\r\nc:\r\n  - d\r\n",
        "a: 'x # y' # comment\nb: x#y\nurl: http://x:80/y?z=1\n",
        "cmd: [sh, -c, \"echo 'hi'\"]\n",
        "dup: 1\ndup: 2\n",
        "bad: [1, 2\n",
        "a: *missing\n",
        "a: b: c\n",
        "- a\nb: c\n",
        "a: \"\\ud800\"\n",
        "hex: 0x1F\noct: 0o17\nplus: +3\n",
    ];
    documents.into_iter().for_each(compare);
}

#[test]
fn the_golden_files() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut count = 0;
    for case in std::fs::read_dir(folder).expect("cases") {
        let text = std::fs::read_to_string(case.expect("a case").path().join("compose.yaml")).expect("a file");
        // They refuse what stands beside the mistakes of these for reasons of their own.
        if ["\n---\n", "!reset", "<<: text", "&all"].iter().any(|odd| text.contains(odd)) {
            continue;
        }
        compare(&text);
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

/// Numbers that look random and are the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % bound
    }

    fn scalar(&mut self) -> &'static str {
        const SCALARS: [&str; 24] = [
            "a",
            "two words",
            "'single ''q'''",
            "\"dou\\tble\"",
            "1",
            "-7",
            "2.50",
            "true",
            "null",
            "~",
            "\"\"",
            "yes",
            "a#b",
            "x:y",
            "./path:/to:ro",
            "\"80:80\"",
            "1.2.3",
            "$VAR",
            "'# no comment'",
            "ü",
            "1e5",
            "0.0.0.0:80:80",
            "-x",
            "\"\\\"\"",
        ];
        SCALARS[self.below(SCALARS.len())]
    }

    fn block(&mut self, indent: usize, depth: usize, text: &mut String) {
        let pad = " ".repeat(indent);
        match if depth == 0 { 0 } else { self.below(4) } {
            1 => {
                text.push('\n');
                for index in 0..=self.below(3) {
                    text.push_str(&format!("{pad}k{index}:"));
                    self.block(indent + 2, depth - 1, text);
                }
            }
            2 => {
                text.push('\n');
                for _ in 0..=self.below(3) {
                    text.push_str(&format!("{pad}-"));
                    self.block(indent + 2, depth - 1, text);
                }
            }
            3 => {
                text.push(' ');
                self.flow(depth - 1, text);
                text.push_str(" # end\n");
            }
            _ => text.push_str(&format!(" {}\n", self.scalar())),
        }
    }

    fn flow(&mut self, depth: usize, text: &mut String) {
        match if depth == 0 { 0 } else { self.below(3) } {
            1 => {
                text.push('{');
                for index in 0..self.below(4) {
                    text.push_str(&format!("k{index}: "));
                    self.flow(depth - 1, text);
                    text.push_str(", ");
                }
                text.push('}');
            }
            2 => {
                text.push('[');
                for _ in 0..self.below(4) {
                    self.flow(depth - 1, text);
                    text.push_str(", ");
                }
                text.push(']');
            }
            _ => text.push_str(self.scalar()),
        }
    }
}

#[test]
fn generated_documents() {
    let mut random = Random(42);
    for _ in 0..3_000 {
        let mut text = String::from("root:");
        random.block(2, 4, &mut text);
        compare(&text);
    }
}

#[test]
fn every_span_of_a_plain_scalar_covers_its_text() {
    fn check(node: &Node) {
        match &node.value {
            Ours::Scalar(scalar) if !node.span.text().starts_with(['"', '\'']) => {
                assert!(scalar.kind == ScalarKind::Null || node.span.text() == &*scalar.text, "{:?}", node.span);
            }
            Ours::Scalar(_) | Ours::Broken => {}
            Ours::Sequence(nodes) => nodes.iter().for_each(check),
            Ours::Mapping(entries) => entries.iter().for_each(|entry| {
                assert_eq!(entry.key_span.text(), &*entry.key);
                check(&entry.value);
            }),
        }
    }
    let mut random = Random(7);
    for _ in 0..1_000 {
        // Comments in front hold characters of several bytes, tabs and odd line breaks.
        let mut text = String::from("# ü😀\t\r\n#\r\nroot:");
        random.block(2, 4, &mut text);
        check(&ours(&text).expect("YAML").expect("a document"));
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    const PIECES: [&str; 26] = [
        "\n",
        "\r\n",
        "\t",
        " ",
        "  ",
        "\"",
        "'",
        "\\",
        "\\'",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ": ",
        "#",
        "- ",
        "|\n",
        ">-\n",
        "*a",
        "&a ",
        "!reset ",
        "!override ",
        "<<: ",
        "ü😀",
    ];
    let mut random = Random(3);
    for _ in 0..3_000 {
        let mut text = String::from("root:");
        random.block(2, 3, &mut text);
        for _ in 0..=random.below(4) {
            let mut at = random.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.insert_str(at, PIECES[random.below(PIECES.len())]);
        }
        if random.below(4) == 0 {
            let mut at = random.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.truncate(at);
        }
        let mut diagnostics = Diagnostics::new();
        let file = read::text(0, "f", text.into_bytes()).expect("text");
        match parse::parse(&file, &mut diagnostics) {
            Ok(mut documents) => documents.iter_mut().for_each(|tree| drop(crate::load::reset::take(tree))),
            Err(diagnostic) => drop(diagnostic.render(false)),
        }
        diagnostics.render(false);
    }
}
