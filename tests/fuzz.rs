//! Files that are nearly right: cases of the other tests, with values replaced, moved and taken out at random.
//!
//! Loading one ends soon, without a panic, and either with an error that says where, or with a project whose JSON comes to
//! the same project when it is loaded.
//!
//! `NSCOMPOSE_FUZZ_CASES` says how many are made, `NSCOMPOSE_FUZZ_SEED` where the numbers begin; see docs/benchmarks.md. A
//! failure names the case, and with `NSCOMPOSE_FUZZ_ONLY` it alone is made again and shown.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a test")]

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use nscompose::{
    diagnostics::{Diagnostics, Severity},
    load::{Contents, LoadOptions, contents, load},
};
use serde_yaml::{
    Value,
    value::{Tag, TaggedValue},
};
use tempfile::TempDir;

/// Numbers that look random and are the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % bound.max(1)
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// What a value may be replaced with, as YAML.
const VALUES: [&str; 52] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "1.5",
    ".nan",
    ".inf",
    "1e400",
    "18446744073709551616",
    "0755",
    "\"\"",
    "a",
    "\"1\"",
    "\"true\"",
    "2020-01-01",
    "[]",
    "{}",
    "[a]",
    "[1, null]",
    "{a: b}",
    "{a: null}",
    "[[a]]",
    "[{a: b}]",
    "${A}",
    "\"${A:-x}\"",
    "\"${UNSET}\"",
    "\"$$A\"",
    "\"${A\"",
    "\"${N}\"",
    "\"$\"",
    "80:80",
    "\"8000-8002:80-82\"",
    "127.0.0.1::80/udp",
    "10s",
    "1h5m",
    "10m",
    "1gb",
    "\"0.5\"",
    "./here",
    "~/there",
    "/abs",
    "a:b",
    "a:/b:ro",
    "\"A=b\"",
    "\"=\"",
    "default",
    "service:web",
    "on-failure:3",
    "\"\\0\"",
    "\"ü\\n\\t'\\\"$$\"",
];

const KEYS: [&str; 24] = [
    "x-a",
    "a",
    "web",
    "default",
    "",
    "<<",
    "ports",
    "volumes",
    "networks",
    "environment",
    "extends",
    "include",
    "name",
    "services",
    "build",
    "deploy",
    "healthcheck",
    "depends_on",
    "profiles",
    "external",
    "command",
    "labels",
    "env_file",
    "configs",
];

/// Where a text that stands for an alias is.
const ALIAS: &str = "stands-for-an-alias";

fn children(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Sequence(items) => items.iter_mut().collect(),
        Value::Mapping(entries) => entries.values_mut().collect(),
        Value::Tagged(tagged) => children(&mut tagged.value),
        _ => Vec::new(),
    }
}

/// A part of the value, deep ones as likely as others.
fn part<'v>(value: &'v mut Value, random: &mut Random) -> &'v mut Value {
    let below = children(value).len();
    if below == 0 || random.below(5) == 0 {
        return value;
    }
    let at = random.below(below);
    match children(value).into_iter().nth(at) {
        Some(child) => part(child, random),
        None => unreachable!("there are so many"),
    }
}

fn mutate(tree: &mut Value, other: &Value, random: &mut Random) {
    let at = part(tree, random);
    match random.below(10) {
        0..=3 => *at = serde_yaml::from_str::<Value>(random.of::<&str>(&VALUES)).unwrap_or(Value::Null),
        4 => {
            let tag = *random.of(&["!reset", "!override", "!odd"]);
            let value = if random.below(3) == 0 { Value::Null } else { at.clone() };
            *at = Value::Tagged(Box::new(TaggedValue { tag: Tag::new(tag), value }));
        }
        5 => *at = part(&mut other.clone(), random).clone(),
        6 => *at = Value::String(ALIAS.to_owned()),
        _ => match at {
            Value::Sequence(items) if !items.is_empty() => {
                let item = items[random.below(items.len())].clone();
                if random.below(2) == 0 {
                    items.push(item);
                } else {
                    items.remove(random.below(items.len()));
                }
            }
            Value::Mapping(entries) if !entries.is_empty() => {
                let key = entries.keys().nth(random.below(entries.len())).cloned().unwrap_or(Value::Null);
                let value = entries.get(&key).cloned().unwrap_or(Value::Null);
                if random.below(3) > 0 {
                    entries.remove(&key);
                }
                if random.below(2) == 0 {
                    entries.insert(Value::String((*random.of(&KEYS)).to_owned()), value);
                }
            }
            other => *other = serde_yaml::from_str::<Value>(random.of::<&str>(&VALUES)).unwrap_or(Value::Null),
        },
    }
}

fn seeds() -> Vec<Value> {
    fn collect(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    ["tests", "examples"].iter().for_each(|folder| collect(&root.join(folder), &mut paths));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).ok().filter(|text| text.len() < 8_000)?;
        serde_yaml::from_str(&text).ok().filter(Value::is_mapping)
    };
    paths.iter().filter_map(read).collect()
}

/// A document, and what may come before it for its aliases.
fn document(seeds: &[Value], random: &mut Random) -> (Value, String) {
    let mut tree = random.of(seeds).clone();
    for _ in 0..random.below(4) {
        let other = random.of(seeds);
        mutate(&mut tree, other, random);
    }
    let text = serde_yaml::to_string(&tree).unwrap_or_default();
    let text = if text.contains(ALIAS) {
        let anchored = random.of(&["{a: b}", "[a, \"80:80\"]", "a", "null", "{image: a, ports: [80]}"]);
        format!("x-anchored: &anchored {anchored}\n{}", text.replace(ALIAS, "*anchored"))
    } else {
        text
    };
    (tree, text)
}

struct Case {
    folder: TempDir,
    shown: String,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("again")).expect("a folder");
        Self { folder, shown: String::new() }
    }

    fn write(&mut self, name: &str, text: &str) {
        self.shown += &format!("--- {name}\n{text}\n");
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn options(&self, files: &[&str]) -> LoadOptions {
        LoadOptions {
            files: files.iter().map(Into::into).collect(),
            project_name: Some("fuzz".to_owned()),
            project_directory: Some(self.folder.path().to_owned()),
            directory: self.folder.path().to_owned(),
            environment: BTreeMap::from([("A".to_owned(), "a $B".to_owned()), ("N".to_owned(), "7".to_owned())]),
            ..LoadOptions::default()
        }
    }

    fn make(&mut self, seeds: &[Value], random: &mut Random) -> Result<bool, String> {
        self.shown.clear();
        let (_, first) = document(seeds, random);
        let mut text = first;
        let mut files = vec!["compose.yaml"];
        match random.below(8) {
            0 => text = format!("{text}---\n{}", document(seeds, random).1),
            1 => {
                let (_, other) = document(seeds, random);
                self.write("override.yaml", &other);
                files.push("override.yaml");
            }
            2 => {
                let (_, other) = document(seeds, random);
                self.write("included.yaml", &other);
                if !text.contains("include:") {
                    text = format!("include: [included.yaml]\n{text}");
                }
            }
            _ => {}
        }
        self.write("compose.yaml", &text);
        let options = self.options(&files);
        // Also what is to be run, which may refuse more.
        if let Err(diagnostics) = load(&options) {
            check(&diagnostics)?;
        }
        let Ok(first) = contents(&options) else { return Ok(false) };
        let json = printed(&first)?;
        self.write("again.json", &json);
        if says_all(&json) {
            match contents(&self.options(&["again.json"])) {
                Ok(again) => same(&json, &printed(&again)?, "what is printed comes to something else")?,
                Err(diagnostics) => return Err(format!("what is printed is refused: {}", diagnostics.render(false))),
            }
        }
        self.write("nothing.yaml", "{}\n");
        let merged = contents(&self.options(&[&files[..], &["nothing.yaml"]].concat()));
        let merged = merged.map_err(|diagnostics| format!("{{}} changes it: {}", diagnostics.render(false)))?;
        same(&json, &printed(&merged)?, "{} changes it")?;
        Ok(true)
    }
}

/// What is printed as Docker Compose prints it does not always say all: JSON knows no models and calls what limits devices by
/// other names; a name in a list may be empty, and one in a mapping may not; a dependency on what is left out stays; and a `$`
/// of a key is doubled although keys are not filled in. What extends a service that says nothing there extends it still,
/// although an earlier document may have said something.
fn says_all(json: &str) -> bool {
    const SAID_OTHERWISE: [&str; 5] = ["\"\": ", "\"models\":", "\"Path\":", "\"required\": false", "\"extends\":"];
    let dollar_key = |line: &str| line.split_once("\": ").is_some_and(|(key, _)| key.contains("$$"));
    !SAID_OTHERWISE.iter().any(|text| json.contains(text)) && !json.lines().any(dollar_key)
}

fn printed(contents: &Contents) -> Result<String, String> {
    let project = contents.json().map_err(|error| error.to_string())?;
    Ok(project.replace('$', "$$"))
}

fn same(one: &str, other: &str, message: &str) -> Result<(), String> {
    if one == other {
        return Ok(());
    }
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    Err(format!("{message}: {differs:?}"))
}

/// An error says where it is.
fn check(diagnostics: &Diagnostics) -> Result<(), String> {
    let mut errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).peekable();
    if errors.peek().is_none() {
        return Err("refused without an error".to_owned());
    }
    if errors.any(|error| error.span.is_some()) {
        Ok(())
    } else {
        Err(format!("no place: {}", diagnostics.render(false)))
    }
}

#[test]
fn files_that_are_nearly_right() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let cases = number("NSCOMPOSE_FUZZ_CASES");
    let seed = number("NSCOMPOSE_FUZZ_SEED").unwrap_or(1);
    let only = number("NSCOMPOSE_FUZZ_ONLY");
    let seeds = seeds();
    let mut case = Case::new();
    let begin = Instant::now();
    let (mut made, mut accepted, mut failures) = (0, 0, Vec::new());
    let range = only.map_or(0..cases.unwrap_or(4_000), |only| only..only + 1);
    for round in range {
        if cases.is_none() && begin.elapsed() > Duration::from_secs(10) {
            break;
        }
        let mut random = Random(seed.wrapping_mul(1 << 40).wrapping_add(round << 8));
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| case.make(&seeds, &mut random)));
        made += 1;
        let failure = match outcome {
            Ok(Ok(loaded)) => {
                accepted += u64::from(loaded);
                (start.elapsed() > Duration::from_secs(5)).then(|| format!("it takes {:?}", start.elapsed()))
            }
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some("it panics".to_owned()),
        };
        if only.is_some() {
            println!("{}", case.shown);
        }
        if let Some(failure) = failure {
            let failure = failure.lines().take(4).collect::<Vec<_>>().join(" ");
            failures.push(format!("case {round} of seed {seed}: {failure}"));
            if failures.len() >= 20 {
                break;
            }
        }
    }
    println!("{made} cases, {accepted} of them accepted, {:?}", begin.elapsed());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
