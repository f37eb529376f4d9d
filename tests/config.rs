//! Golden projects: what the files of a folder mean, in full, or what is wrong with them.
//!
//! Each folder of `tests/config/` is a project as people would have it: `compose.yaml`, perhaps `compose.override.yaml`,
//! `.env` and whatever else these name. Beside them is `expected.json`, the project as `config --format json` prints it, or
//! `expected.txt`, the mistakes. Docker Compose 2.40 answers the same, but to those called `differs-…`: the reasons are in
//! `docs/reference/compatibility.md`. `UPDATE_GOLDEN=1` writes what comes out as what is expected; read the difference
//! before committing it.

#![expect(clippy::expect_used, clippy::print_stderr, reason = "a test")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use nscompose::load::{LoadOptions, contents};

/// The name of the file that says what is expected, and what it should say.
fn outcome(case: &Path) -> (&'static str, String) {
    let options = LoadOptions {
        directory: case.to_owned(),
        environment: BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]),
        ..LoadOptions::default()
    };
    let (file, text) = match contents(&options) {
        Ok(contents) => {
            let project = contents.json().expect("what JSON can say");
            ("expected.json", project.replace('$', "$$"))
        }
        Err(diagnostics) => ("expected.txt", diagnostics.render(false)),
    };
    let cases = case.parent().expect("a folder above");
    (file, text.replace(&case.display().to_string(), "<case>").replace(&cases.display().to_string(), "<cases>"))
}

#[test]
fn every_project_means_what_is_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(cases).expect("cases").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 80, "{} cases", folders.len());
    let mut failed = Vec::new();
    for case in folders {
        let (file, actual) = outcome(&case);
        if update {
            for stale in ["expected.json", "expected.txt"].into_iter().filter(|stale| *stale != file) {
                let _ = std::fs::remove_file(case.join(stale));
            }
            std::fs::write(case.join(file), &actual).expect("written");
            continue;
        }
        let expected = std::fs::read_to_string(case.join(file)).unwrap_or_default();
        if actual != expected {
            eprintln!("{}: expected\n{expected}\nand got\n{actual}", case.display());
            failed.push(case);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
