use super::*;
use crate::{load::read, yaml::scalar};

/// The documents in a short form, `!reset` and `!override` as `-` and `=` in front of a value, and what was said.
fn parsed(text: &str) -> (String, String) {
    let mut diagnostics = Diagnostics::new();
    let file = read::text(0, "f", text.as_bytes().to_vec()).expect("text");
    match parse(&file, &mut diagnostics) {
        Ok(documents) => (documents.iter().map(shown).collect::<Vec<_>>().join(" | "), messages(&diagnostics)),
        Err(diagnostic) => (String::new(), diagnostic.message),
    }
}

fn messages(diagnostics: &Diagnostics) -> String {
    diagnostics.iter().map(|diagnostic| diagnostic.message.clone()).collect::<Vec<_>>().join("; ")
}

fn shown(node: &Node) -> String {
    let all = |parts: Vec<String>| parts.join(" ");
    let value = match &node.value {
        Value::Scalar(scalar) => match scalar::value(&scalar.text, scalar.kind) {
            scalar::Typed::Null => "~".to_owned(),
            scalar::Typed::String(text) => format!("'{text}'"),
            other => scalar::go_string(&other),
        },
        Value::Sequence(nodes) => format!("[{}]", all(nodes.iter().map(shown).collect())),
        Value::Mapping(entries) => {
            let entry = |entry: &crate::yaml::tree::Entry| format!("{}:{}", entry.key, shown(&entry.value));
            format!("{{{}}}", all(entries.iter().map(entry).collect()))
        }
        Value::Broken => "broken".to_owned(),
    };
    let sign = match node.directive {
        Some(Directive::Reset) => "-",
        Some(Directive::Override) => "=",
        None => "",
    };
    format!("{sign}{value}")
}

#[track_caller]
fn trees(cases: &[(&str, &str)]) {
    for (text, tree) in cases {
        assert_eq!(parsed(text), ((*tree).to_owned(), String::new()), "{text}");
    }
}

#[track_caller]
fn problems(cases: &[(&str, &str)]) {
    for (text, message) in cases {
        assert_eq!(parsed(text).1, *message, "{text}");
    }
}

#[test]
fn each_document_is_a_tree() {
    trees(&[
        ("", ""),
        ("# nothing\n", ""),
        ("a: 1", "{a:1}"),
        ("---\na: 1\n---\nb: 2\n...\n", "{a:1} | {b:2}"),
        ("a: 1\n---\n---\nnull\n---\n", "{a:1} | ~ | ~ | ~"),
        ("---", "~"),
        ("%YAML 1.1\n---\na: yes", "{a:'yes'}"),
        // As in Compose, though the specification has it otherwise.
        ("a: &x 1\n---\nb: *x", "{a:1} | {b:1}"),
    ]);
}

#[test]
fn directives_are_noted() {
    trees(&[
        ("a: !reset [1]\nb: !override [1]", "{a:-~ b:=[1]}"),
        ("a: !reset\nb: !reset null\nc: !reset {d: &e 1}\nf: *e", "{a:-~ b:-~ c:-~ f:1}"),
        ("a: [!reset 1, 2, {b: !override 3}]", "{a:[-~ 2 {b:='3'}]}"),
        ("a: !<!reset> b", "{a:-~}"),
        // Without its tag the text of `!override` is as it is written.
        ("a: !override 0755\nb: !override \"null\"", "{a:='0755' b:='null'}"),
        ("a: !override {b: !override 1, c: [!override [d]]}", "{a:={b:'1' c:[['d']]}}"),
    ]);
    problems(&[
        ("a: !override null", "`!override` makes this the text `null`, not nothing"),
        ("a: !override {b: !reset 1}", "`!reset` does nothing below `!override`"),
        ("!override {a: 1}", "`!override` does nothing on a whole file"),
        ("!reset {a: 1}", "`!reset` cannot take away a whole file"),
        ("!reset a: 1", "`!reset` does nothing on a key"),
    ]);
}

#[test]
fn directives_through_aliases_and_merge_keys() {
    trees(&[
        ("a: &x !reset 1\nb: *x", "{a:-~ b:-~}"),
        ("a: &x !override [1]\nb: *x", "{a:=[1] b:=[1]}"),
        // What is inside of an anchored value counts at the anchor alone.
        ("a: &x {b: !reset 1, c: 2}\nd: *x\ne: {<<: *x}", "{a:{b:-~ c:2} d:{c:2} e:{c:2}}"),
        ("a: &x {b: !override [1]}\nd: *x", "{a:{b:=[1]} d:{b:=[1]}}"),
        ("a: {<<: {b: !reset 1, c: 2}}", "{a:{b:-~ c:2}}"),
        ("a: {b: !reset 1, <<: {b: 2}}", "{a:{b:=2}}"),
        ("a: {b: 2, <<: {b: !reset 1}}", "{a:{b:=2}}"),
        ("a: {<<: !reset {b: 1}, c: 2}", "{a:={c:2}}"),
        ("a: {<<: !override {b: 1}, c: 2}", "{a:={c:2 b:1}}"),
    ]);
}

#[test]
fn tags_say_the_type() {
    trees(&[
        ("[!!str 1, !!str ~, !!str , !!str [a], !<tag:yaml.org,2002:str> 1]", "['1' '~' '' ['a'] '1']"),
        ("[!!int \"5\", !!int 0b11, !!float 1, !!float 0x10, !!bool \"true\", !!null \"\"]", "[5 3 1 16 true ~]"),
        ("[!!binary aGVsbG8=, !!timestamp \"2020-01-01\"]", "['hello' '2020-01-01T00:00:00Z']"),
        ("[!!map {a: 1}, !!seq [1], !!set {a, b}, !!omap [a: 1], !!map 1]", "[{a:1} [1] {a:~ b:~} [{a:1}] '1']"),
        ("[! 12, ! \"12\", !!str &a 1, &b !!str 2, *a]", "[12 '12' '1' '2' '1']"),
    ]);
    problems(&[
        ("a: !!int x", "`x` is not what its tag `!!int` says"),
        ("a: !!int 1.0", "`1.0` is not what its tag `!!int` says"),
        ("a: !!bool yes", "`yes` is not what its tag `!!bool` says"),
        ("a: !!binary '?'", "this is not text in base 64, which its tag `!!binary` says"),
        ("a: !foo 1", "the tag `!foo` means nothing here"),
        ("a: !rest [1]", "the tag `!rest` means nothing here"),
        ("a: !!foo 1", "the tag `!!foo` means nothing here"),
    ]);
    assert_eq!(parsed("[!foo 1, !foo {a: 1}, !foo ]").0, "['1' {a:1} '']");
}

#[test]
fn keys_are_strings_and_come_once() {
    trees(&[("yes: 1\n\"2\": 3\n!!str 4: 5\n&k a: *k", "{yes:1 2:3 4:5 a:'a'}"), ("a: &k b\n*k : c", "{a:'b' b:'c'}")]);
    problems(&[
        ("1: a", "a key is a string, and `1` is a number"),
        ("true: a", "a key is a string, and `true` is a boolean"),
        ("~: a", "a key is a string, and `~` is null"),
        ("2020-01-01: a", "a key is a string, and `2020-01-01` is a date"),
        (": a", "a key is missing here"),
        ("? [a]\n: b", "a key is a single word, not a list or a mapping"),
        ("a: 1\n\"a\": 2", "the key `a` comes twice"),
        ("a: 1\na: !reset 2\na: 3", "the key `a` comes twice; the key `a` comes twice"),
        ("<<: {a: 1}\n<<: {b: 1}", "the key `<<` comes twice"),
        ("'<<': {a: 1}\n\"<<\": 1", "the key `<<` comes twice"),
    ]);
    let many: String = (0..100).map(|at| format!("k{at}: {at}\n")).collect();
    problems(&[(&format!("{many}k7: 1\nk99: 2\n"), "the key `k7` comes twice; the key `k99` comes twice")]);
}

#[test]
fn merge_keys() {
    trees(&[
        ("<<: [{a: 1, b: 1}, {b: 2, c: 2}]\nc: own", "{c:'own' a:1 b:1}"),
        ("<<: []\na: 1", "{a:1}"),
        ("x: &x {a: 1}\ny: &y {<<: *x, b: 2}\nz: {<<: *y}", "{x:{a:1} y:{b:2 a:1} z:{b:2 a:1}}"),
        ("x: &x [{a: 1}, {b: 2}]\ny: {<<: *x}", "{x:[{a:1} {b:2}] y:{a:1 b:2}}"),
        ("'<<': {a: 1}", "{<<:{a:1}}"),
        ("!!merge <<: {a: 1}", "{a:1}"),
        ("!!str <<: {a: 1}", "{<<:{a:1}}"),
        ("a: <<", "{a:'<<'}"),
    ]);
    let wrong = |found: &str| format!("`<<` takes a mapping or a list of mappings, not {found}");
    problems(&[
        ("<<:\na: 1", &wrong("nothing")),
        ("<<: text", &wrong("a string")),
        ("<<: [{a: 1}, 3]", &wrong("a number")),
        ("<<: [[{a: 1}]]", &wrong("a list")),
    ]);
}

#[test]
fn aliases() {
    trees(&[("a: &x 1\nb: *x\nc: &x 2\nd: *x", "{a:1 b:1 c:2 d:2}"), ("a: &x\nb: *x", "{a:~ b:~}")]);
    problems(&[
        ("a: &x {b: *x}", "an alias stands inside of what it repeats"),
        ("a: &x {<<: *x}", "an alias stands inside of what it repeats"),
        ("a: &x !reset {b: *x}", "an alias stands inside of what it repeats"),
        ("a: &x [*x]", "an alias stands inside of what it repeats"),
        ("a: *x", "nothing before this place is anchored as `x`"),
    ]);
}

#[test]
fn a_value_knows_its_way() {
    let text = "x: &x {a: &a 1}\ny: *a\nz:\n  <<: *x\nl: &l [{b: 1}]\nm: {<<: *l}\nn: {<<: {c: 1}}\no: {<<: {d: *a}}\n";
    let file = read::text(0, "f", text.as_bytes().to_vec()).expect("text");
    let documents = parse(&file, &mut Diagnostics::new()).expect("a tree");
    let steps = |keys: &[&str]| {
        let found = keys.iter().fold(&documents[0], |node, key| &node.entry(key).expect("a key").value);
        let mut steps = vec![found.span.to_string()];
        let mut via = found.via.as_deref();
        while let Some(Via { step, before, .. }) = via {
            steps.push(match step {
                Step::Alias(at) => format!("{} at {at}", at.text()),
                Step::MergeKey(at) => format!("{} at {at}", at.text()),
                other => format!("{other:?}"),
            });
            via = before.as_deref();
        }
        steps.join(", ")
    };
    assert_eq!(steps(&["x", "a"]), "f:1:14");
    assert_eq!(steps(&["y"]), "f:1:14, *a at f:2:4");
    assert_eq!(steps(&["z", "a"]), "f:1:14, << at f:4:3, *x at f:4:7");
    assert_eq!(steps(&["m", "b"]), "f:5:12, << at f:6:5, *l at f:6:9");
    assert_eq!(steps(&["n", "c"]), "f:7:13, << at f:7:5");
    assert_eq!(steps(&["o", "d"]), "f:1:14, << at f:8:5, *a at f:8:13");
}

#[test]
fn what_the_specification_refuses_and_people_write() {
    trees(&[
        ("a:\n  b: [\n    c,\n    d\n]\ne: {\nf: g\n}\n", "{a:{b:['c' 'd']} e:{f:'g'}}"),
        ("a:\n  b: [\n    c\n  ]\n  d: {\n    e: f\n  }\n", "{a:{b:['c'] d:{e:'f'}}}"),
        ("a:\n  b: \"c\n d\n\n  e\\\n  f\"\n", "{a:{b:'c d\nef'}}"),
        ("a:\tb\nc: \"d\"#e\nf: [g,#h\n  i]\n", "{a:'b' c:'d' f:['g' 'i']}"),
        ("a: [cat, -]\nb: \"it\\'s\"\n", "{a:['cat' '-'] b:'it's'}"),
        ("a: &b c\n*b: d\n", "{a:'c' c:'d'}"),
    ]);
    // Mistakes of a mended file are shown in the file.
    let file = read::text(0, "f", b"a: [\nb\n]\nc: *missing\n".to_vec()).expect("text");
    let error = parse(&file, &mut Diagnostics::new()).expect_err("no anchor");
    assert_eq!(error.span.expect("a place").to_string(), "f:4:4");
    let file = read::text(0, "f", b"a: [\nb\n]\nc: d\nc: e\n".to_vec()).expect("text");
    let mut diagnostics = Diagnostics::new();
    parse(&file, &mut diagnostics).expect("a tree");
    let places: Vec<_> = diagnostics.iter().filter_map(|one| one.span.as_ref()).map(ToString::to_string).collect();
    assert_eq!(places, ["f:5:1"]);
}

#[test]
fn control_characters_are_refused() {
    problems(&[
        ("a: \u{1b}[0m", "the file contains the control character U+001B"),
        ("# \u{7f}", "the file contains the control character U+007F"),
        ("a: \u{9b}", "the file contains the control character U+009B"),
        ("a: \u{ffff}", "the file contains the control character U+FFFF"),
        ("a: \"\\0\"", "the value contains a NUL character, which no text has"),
    ]);
    trees(&[("a: \"\\e\"", "{a:'\u{1b}'}"), ("a: ü\u{fffd}😀", "{a:'ü\u{fffd}😀'}")]);
}

#[test]
fn a_scalar_stands_where_its_text_is() {
    let text = "a: &x b\nc: !!str\n  1\nd: !!str &y 'e'\nf: !override\ng: &z\nh: !!str |\n  i\n";
    let file = read::text(0, "f", text.as_bytes().to_vec()).expect("text");
    let documents = parse(&file, &mut Diagnostics::new()).expect("a tree");
    let spans: Vec<_> = documents[0].entries().expect("keys").iter().map(|entry| entry.value.span.text()).collect();
    assert_eq!(spans, ["b", "1", "'e'", "!override", "&z", "|\n  i"]);
}
