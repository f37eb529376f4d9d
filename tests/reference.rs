//! The generated reference: docs/reference/cli.md says what `--help` says, docs/reference/keys.md what the types of the
//! format say.
//!
//! `UPDATE_GOLDEN=1` writes it; read the difference before committing it.

#![expect(clippy::expect_used, reason = "a test")]

use std::{fmt::Write, path::Path, process::Command};

/// What `nscompose WORDS... --help` prints: with no terminal around, the width is clap's own, and with no environment no
/// value of a variable shows.
fn help(words: &[&str]) -> String {
    let binary = env!("CARGO_BIN_EXE_nscompose");
    let output = Command::new(binary)
        .args(words)
        .arg("--help")
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The verbs that the help of the whole lists.
fn verbs(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What is further in goes on with the line before.
    listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|verb| !verb.is_empty()).collect()
}

fn reference() -> String {
    let whole = help(&[]);
    let mut page = format!(
        "# Command line\n\n\
         Generated from the help texts by `UPDATE_GOLDEN=1 cargo test --test reference`; `cargo test` checks that it is \
         current.\n\n## nscompose\n\n```text\n{whole}\n```\n"
    );
    for verb in verbs(&whole) {
        let _ = write!(page, "\n## nscompose {verb}\n\n```text\n{}\n```\n", help(&[verb]));
    }
    page
}

#[test]
fn the_command_line_reference_is_current() {
    let actual = reference();
    assert!(actual.matches("\n## nscompose ").count() >= 6, "verbs are missing:\n{actual}");
    current("docs/reference/cli.md", &actual);
}

#[test]
fn the_reference_of_keys_is_current() {
    let actual = nscompose::compose::reference();
    assert!(actual.matches("\n| `services.*.").count() >= 94, "keys are missing:\n{actual}");
    current("docs/reference/keys.md", &actual);
}

fn current(path: &str, actual: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder");
        std::fs::write(&file, actual).expect("written");
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(actual == expected, "{path} is not current; with UPDATE_GOLDEN=1 it becomes\n{actual}");
}
