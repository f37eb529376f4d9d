//! The JSON Schema against files: what loads fits it, and what does not fit it does not load.
//!
//! Files: the examples, tests/compose-files/valid and invalid, and, if `NSCOMPOSE_CORPUS` names folders (`:` between
//! them), those of a corpus: `golden.json` has for each path below `cases/` the exit code that another program gave it.
//! `UPDATE_GOLDEN=1` writes schemas/compose.json.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use nscompose::{
    compose,
    load::{LoadOptions, contents},
};
use serde::Deserialize as _;
use serde_json::{Map, Value as Json};
use serde_yaml::Value as Yaml;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validator() -> jsonschema::Validator {
    let schema = compose::schema();
    jsonschema::draft7::meta::validate(&schema).expect("a schema");
    jsonschema::draft7::new(&schema).expect("a schema")
}

/// The documents of a file as an editor sees them: aliases and merge keys followed, variables as they are written.
fn documents(text: &str) -> Result<Vec<Json>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let mut value = Yaml::deserialize(document).map_err(|error| error.to_string())?;
        // What is merged in may bring a merge key of its own.
        for _ in 0..10 {
            value.apply_merge().map_err(|error| error.to_string())?;
        }
        documents.extend(json(value).filter(|value| !value.is_null()));
    }
    Ok(documents)
}

/// None for what `!reset` takes out.
fn json(value: Yaml) -> Option<Json> {
    let key = |key: Yaml| match key {
        Yaml::String(text) => text,
        other => serde_yaml::to_string(&other).unwrap_or_default().trim().to_owned(),
    };
    Some(match value {
        Yaml::Null => Json::Null,
        Yaml::Bool(value) => value.into(),
        Yaml::Number(number) => serde_json::to_value(number).unwrap_or_default(),
        Yaml::String(text) => text.into(),
        Yaml::Sequence(items) => items.into_iter().filter_map(json).collect::<Vec<_>>().into(),
        Yaml::Mapping(entries) => {
            let entries = entries.into_iter().filter_map(|(name, value)| Some((key(name), json(value)?)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
        Yaml::Tagged(tagged) if tagged.tag == "!reset" => return None,
        Yaml::Tagged(tagged) => return json(tagged.value),
    })
}

/// What is wrong with a file, by the schema.
fn mistakes(validator: &jsonschema::Validator, text: &str) -> Result<Vec<String>, String> {
    let documents = documents(text)?;
    let told = documents.iter().flat_map(|document| validator.iter_errors(document));
    Ok(told.map(|error| format!("{}: {error:.400}", error.instance_path())).collect())
}

/// Whether parts of a file are merged over others: nothing at all may stand there, for the earlier value to stay, or it
/// is a number that JSON has not.
fn merged(text: &str) -> bool {
    ["extends:", "\n---", ".inf", ".nan"].iter().any(|sign| text.contains(sign))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn loads(path: &Path) -> Result<(), String> {
    let directory = path.parent().expect("a folder").to_owned();
    let environment = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
    let options = LoadOptions { files: vec![path.to_owned()], directory, environment, ..LoadOptions::default() };
    contents(&options).map(|_| ()).map_err(|diagnostics| diagnostics.to_string())
}

#[test]
fn the_schema_is_current() {
    let path = root().join("schemas/compose.json");
    let text = serde_json::to_string_pretty(&compose::schema()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "schemas/compose.json is not current: write it with UPDATE_GOLDEN=1");
}

#[test]
fn what_is_right_loads_and_fits_the_schema() {
    let validator = validator();
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in files("examples").into_iter().chain(files("tests/compose-files/valid")) {
        let name = path.strip_prefix(root()).expect("below").display().to_string();
        let text = fs::read_to_string(&path).expect("a file");
        match mistakes(&validator, &text) {
            Ok(mistakes) => wrong.extend(mistakes.into_iter().map(|mistake| format!("{name}: {mistake}"))),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
        if let Err(error) = loads(&path) {
            wrong.push(format!("{name}: {error}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 30, "{count}");
}

#[test]
fn what_is_wrong_neither_loads_nor_fits_the_schema() {
    let validator = validator();
    let mut wrong = Vec::new();
    let all = files("tests/compose-files/invalid");
    for path in &all {
        let name = path.file_name().expect("a name").to_string_lossy();
        let text = fs::read_to_string(path).expect("a file");
        if mistakes(&validator, &text).expect("YAML").is_empty() {
            wrong.push(format!("{name} fits the schema"));
        }
        if loads(path).is_ok() {
            wrong.push(format!("{name} loads"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(all.len() >= 20, "{}", all.len());
}

#[test]
fn every_key_stands_in_a_file_of_the_tests() {
    /// The keys that the schema names, as `Definition.key`.
    fn keys(schema: &Json) -> Vec<String> {
        let definitions = schema["definitions"].as_object().expect("definitions");
        let of = |definition: &Json| -> Vec<String> {
            let forms = definition["anyOf"].as_array().cloned().unwrap_or_else(|| vec![definition.clone()]);
            let properties = forms.iter().filter_map(|form| form["properties"].as_object());
            properties.flat_map(|properties| properties.keys().cloned()).collect()
        };
        definitions
            .iter()
            .flat_map(|(name, definition)| of(definition).into_iter().map(move |key| format!("{name}.{key}")))
            .collect()
    }
    let written: String =
        files("tests/compose-files/valid").iter().map(|path| fs::read_to_string(path).expect("a file")).collect();
    let missing: Vec<String> = keys(&compose::schema())
        .into_iter()
        .filter(|key| !written.contains(&format!("{}:", key.rsplit('.').next().expect("a key"))))
        .collect();
    assert!(missing.is_empty(), "no file has {}", missing.join(", "));
}

#[test]
fn what_a_corpus_has_fits_the_schema() {
    let Some(folders) = std::env::var_os("NSCOMPOSE_CORPUS") else {
        eprintln!("SKIP what_a_corpus_has_fits_the_schema: NSCOMPOSE_CORPUS is not set");
        return;
    };
    let validator = validator();
    let (mut count, mut unread, mut excused, mut wrong, mut refused, mut missed) = (0, 0, 0, Vec::new(), 0, Vec::new());
    for folder in std::env::split_paths(&folders) {
        let golden = fs::read_to_string(folder.join("golden.json")).expect("golden.json");
        let golden: BTreeMap<String, Json> = serde_json::from_str(&golden).expect("JSON");
        for (case, expected) in golden {
            let Ok(text) = fs::read_to_string(folder.join("cases").join(&case)) else { continue };
            let Ok(mistakes) = mistakes(&validator, &text) else {
                unread += 1;
                continue;
            };
            count += 1;
            if expected["rc"] != 0 {
                refused += usize::from(!mistakes.is_empty());
                missed.extend(mistakes.is_empty().then(|| case.clone()));
            } else if let Some(first) = mistakes.first()
                && loads(&folder.join("cases").join(&case)).is_ok()
                && !(first.contains(": null is not ") && merged(&text))
            {
                // These are done with before anything is read, so that the loader forgives more.
                let place = first.split(':').next().unwrap_or_default();
                if place.starts_with("/include/") || place.ends_with("/extends") {
                    excused += 1;
                    continue;
                }
                wrong.push(format!("{case}: {first}"));
            }
        }
    }
    eprintln!(
        "{count} files and {unread} that are no YAML, {excused} excused; of the wrong ones {refused} do not fit, {} do",
        missed.len()
    );
    if let Some(path) = std::env::var_os("NSCOMPOSE_CORPUS_MISSED") {
        fs::write(path, missed.join("\n")).expect("written");
    }
    assert!(wrong.is_empty(), "{} files do not fit:\n{}", wrong.len(), wrong.join("\n"));
}
