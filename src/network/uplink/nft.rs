//! nft(8): a text of rules as one transaction, and bounded: it waits for the kernel's lock of all rules, which others may hold.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{fs::MemfdFlags, io::Errno};

use super::{forwarding::objects, rules};
use crate::sys::{Netns, PidFd};

/// How long it may take: it needs some 10 ms, and more where many stacks begin at the same moment.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// It does not end, and has been killed.
    #[error(
        "{} has not answered in {} s; `{} list ruleset` shows whether it does by itself",
        program.display(), PATIENCE.as_secs(), program.display()
    )]
    Slow {
        /// Where it is.
        program: PathBuf,
    },
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

/// Makes a table of the caller's namespace with this in it, in place of one that may be there.
pub(super) fn make_now(program: &Path, table: &str, body: &str) -> Result<(), NftError> {
    match run(program, &["-f", "-"], &rules::made(table, body)) {
        Err(NftError::Refused(_)) => run(program, &["-f", "-"], &rules::anew(table, body)).map(drop),
        made => made.map(drop),
    }
}

/// What there is of something, both as JSON (libnftables-json(5)).
pub(super) async fn list(program: &Path, what: serde_json::Value) -> Result<serde_json::Value, NftError> {
    let program = program.to_owned();
    let words = serde_json::json!({ "nftables": [{ "list": what }] }).to_string();
    let task = move || answer(&run(&program, &["-j", "-f", "-"], &words)?);
    tokio::task::spawn_blocking(task).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

/// What it answers to these words, as JSON, for a process without a runtime.
pub(super) fn ask_now(program: &Path, words: &[&str]) -> Result<serde_json::Value, NftError> {
    let words: Vec<&str> = ["-j"].iter().chain(words).copied().collect();
    answer(&run(program, &words, "")?)
}

fn answer(text: &str) -> Result<serde_json::Value, NftError> {
    serde_json::from_str(text).map_err(|e| NftError::Refused(format!("what is no JSON: {e}")))
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
pub(super) fn remove_table_now(program: &Path, table: &str) -> Result<(), NftError> {
    // `destroy`, which does not mind, came with nft 1.0.7.
    run(program, &["-f", "-"], &format!("table inet {table}\ndelete table inet {table}\n")).map(drop)
}

/// Removes the table of a stack from the caller's namespace, and says which others there are.
///
/// # Errors
/// Those of [`remove_table`].
pub fn remove_table_of_stack(program: &Path, table: &str) -> Result<Vec<String>, NftError> {
    let one = serde_json::json!({ "table": { "family": "inet", "name": table } });
    // Every table that is for something has a chain, and for a list of tables nft fetches all that is in them.
    let words = serde_json::json!({ "nftables": [{ "add": one }, { "delete": one }, { "list": { "chains": null } }] });
    let answer = answer(&run(program, &["-j", "-f", "-"], &words.to_string())?)?;
    // What it lists may be as it was before.
    let names = objects(&answer, "chain").filter_map(|chain| chain["table"].as_str());
    let others: BTreeSet<&str> = names.filter(|name| *name != table).collect();
    Ok(others.into_iter().map(str::to_owned).collect())
}

/// Runs a program of the system to its end, and gives what it wrote. What it reads and writes are files in memory, so that nobody
/// waits for whoever holds the other end of a pipe.
pub(super) fn run(program: &Path, words: &[&str], input: &str) -> Result<String, NftError> {
    let failed = |source| NftError::Run { program: program.to_owned(), source };
    let (rules, answer, complaint) = (memory().map_err(failed)?, memory().map_err(failed)?, memory().map_err(failed)?);
    rules.write_all_at(input.as_bytes(), 0).map_err(failed)?;
    let mut command = Command::new(program);
    command.args(words).stdin(rules).stdout(answer.try_clone().map_err(failed)?);
    let mut child = command.stderr(complaint.try_clone().map_err(failed)?).spawn().map_err(failed)?;
    let ended = PidFd::open(child.id() as i32).and_then(|pidfd| pidfd.ends_within(PATIENCE)).map_err(failed)?;
    if !ended {
        let _ = child.kill();
        // In the middle of a system call it may end later still.
        thread::spawn(move || child.wait());
        return Err(NftError::Slow { program: program.to_owned() });
    }
    if child.wait().map_err(failed)?.success() {
        return contents(&answer).map_err(failed);
    }
    let said = contents(&complaint).map_err(failed)?;
    // The first line says it; what follows shows the place in a text that nobody has written.
    Err(NftError::Refused(said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()))
}

/// A file that is in memory and nowhere else.
fn memory() -> io::Result<File> {
    const NAME: &str = "nscompose-nft";
    // Where programs in memory are forbidden it has to be said that this is none (vm.memfd_noexec); Linux 6.3 has the word for it.
    let made = match rustix::fs::memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(NAME, MemfdFlags::CLOEXEC),
        made => made,
    };
    Ok(made?.into())
}

/// All of it, whoever has read or written how much.
fn contents(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
