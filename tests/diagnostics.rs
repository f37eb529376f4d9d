//! Golden diagnostics: what is said about a file with mistakes, or with none.
//!
//! Each folder of `tests/diagnostics/` has a `compose.yaml` (other `*.yaml` files are merged over it in the order of their
//! names, a `.env` is read; with a file `allow-unsupported`, what is not supported is left out) and `expected.txt`: the
//! rendered diagnostics, or the project as JSON after its warnings.
//! `UPDATE_GOLDEN=1` writes what comes out as what is expected; read the difference before committing it.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "a test")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use nscompose::load::{LoadOptions, load};

fn outcome(case: &Path) -> String {
    let mut files: Vec<PathBuf> = std::fs::read_dir(case)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    // The name says which is the first.
    files.sort_by_key(|path| path.file_name().is_none_or(|name| name != "compose.yaml"));
    let options = LoadOptions {
        files,
        project_name: None,
        directory: case.to_owned(),
        environment: BTreeMap::from([
            ("HOME".to_owned(), "/home/me".to_owned()),
            ("GREETING".to_owned(), "hello".to_owned()),
        ]),
        allow_unsupported: case.join("allow-unsupported").exists(),
        ..LoadOptions::default()
    };
    let text = match load(&options) {
        Ok(loaded) => {
            let project = serde_json::to_string_pretty(&loaded.project).expect("JSON");
            format!("{}{project}\n", loaded.warnings.render(false))
        }
        Err(diagnostics) => diagnostics.render(false),
    };
    let cases = case.parent().expect("a folder above");
    text.replace(&case.display().to_string(), "<case>").replace(&cases.display().to_string(), "<cases>")
}

#[test]
fn every_case_says_what_is_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(cases).expect("cases").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 25, "{} cases", folders.len());
    let mut failed = Vec::new();
    for case in folders {
        let actual = outcome(&case);
        let file = case.join("expected.txt");
        if update {
            std::fs::write(&file, &actual).expect("written");
            continue;
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if actual != expected {
            eprintln!("{}: expected\n{expected}\nand got\n{actual}", case.display());
            failed.push(case);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
