//! nft(8): a text of rules as one transaction.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use crate::sys::Netns;

/// Rules that are not in place.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program cannot be started.
    #[error("cannot run {}", program.display())]
    Run {
        /// Where it is.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It says no.
    #[error("nft says: {0}")]
    Refused(String),
}

/// Loads rules, all of them or none, in a network namespace or in the caller's.
pub(super) async fn load(program: &Path, rules: String, netns: Option<Arc<Netns>>) -> Result<(), NftError> {
    let program = program.to_owned();
    let task = move || match netns {
        None => run(&program, &["-f", "-"], &rules).map(drop),
        Some(netns) => {
            let mut outcome = Ok(());
            let entered = netns.run(|| {
                outcome = run(&program, &["-f", "-"], &rules).map(drop);
                Ok(())
            });
            entered.map_err(|source| NftError::Run { program, source }).and(outcome)
        }
    };
    tokio::task::spawn_blocking(task).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

/// What the rules are, as JSON (libnftables-json(5)).
pub(super) async fn ask(program: &Path, words: &'static [&'static str]) -> Result<serde_json::Value, NftError> {
    let program = program.to_owned();
    let task = move || ask_now(&program, words);
    tokio::task::spawn_blocking(task).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

/// The same, for a process without a runtime.
pub(super) fn ask_now(program: &Path, words: &[&str]) -> Result<serde_json::Value, NftError> {
    let words: Vec<&str> = ["-j"].iter().chain(words).copied().collect();
    let answer = run(program, &words, "")?;
    serde_json::from_str(&answer).map_err(|e| NftError::Refused(e.to_string()))
}

/// Removes a table of the namespace that the caller is in; it is no error when there is none.
///
/// # Errors
/// When nft cannot be run or does not do it.
pub async fn remove_table(program: &Path, table: &str) -> Result<(), NftError> {
    let (program, table) = (program.to_owned(), table.to_owned());
    let task = move || remove_table_now(&program, &table);
    tokio::task::spawn_blocking(task).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

/// The same, for a process without a runtime.
///
/// # Errors
/// Likewise.
pub fn remove_table_now(program: &Path, table: &str) -> Result<(), NftError> {
    // `destroy`, which does not mind, came with nft 1.0.7.
    run(program, &["-f", "-"], &format!("table inet {table}\ndelete table inet {table}\n")).map(drop)
}

pub(super) fn run(program: &Path, words: &[&str], input: &str) -> Result<String, NftError> {
    let failed = |source| NftError::Run { program: program.to_owned(), source };
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end before it has read all; what it says then counts.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The first line says it; what follows shows the place in a text that nobody has written.
    Err(NftError::Refused(said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()))
}
