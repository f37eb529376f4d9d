//! Programs that keep passwords: `docker-credential-NAME get`.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Deserialize;

use super::{CredentialError, Secret};

/// Long enough for somebody to unlock a keyring.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer is a line; who says more has not understood the question.
const LARGEST: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper for the secret of `server`; none when it knows none. `file` is who names the helper.
///
/// # Errors
/// When there is no such program, and when it fails, says something else, or does not end.
pub(super) fn ask(
    name: &str,
    server: &str,
    file: &Path,
    search_path: &OsStr,
) -> Result<Option<Secret>, CredentialError> {
    let program = format!("docker-credential-{name}");
    // A name with a slash would be a path, and none of the helpers has one.
    let found = std::env::split_paths(search_path).map(|folder| folder.join(&program)).find(|path| path.is_file());
    let Some(found) = found.filter(|_| !name.contains('/')) else {
        return Err(CredentialError::NoHelper { program, path: file.to_owned() });
    };
    let failed = |said: &str| CredentialError::Helper {
        program: program.clone(),
        server: server.to_owned(),
        said: said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing").to_owned(),
    };
    let (success, stdout, stderr) = run(&found, &program, server, PATIENCE)?;
    if !success {
        // What helpers say when there is none (docker-credential-helpers, `credentials/error.go`), in either stream.
        let unknown = ["credentials not found", "no credentials server URL", "no credentials username"];
        if unknown.iter().any(|text| stdout.contains(text) || stderr.contains(text)) {
            return Ok(None);
        }
        return Err(failed(if stderr.trim().is_empty() { &stdout } else { &stderr }));
    }
    let answer: Answer = serde_json::from_str(&stdout).map_err(|_| failed("what it says is not understood"))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(match answer.username.as_str() {
        "<token>" => Secret::Identity(answer.secret),
        _ => Secret::Password { user: answer.username, password: answer.secret },
    }))
}

/// Runs it to its end: whether it succeeded, and what it said.
fn run(
    path: &Path,
    program: &str,
    server: &str,
    patience: Duration,
) -> Result<(bool, String, String), CredentialError> {
    let failed = |source| CredentialError::Run { program: program.to_owned(), source };
    let mut command = Command::new(path);
    // A group of its own, so that what it starts is ended with it.
    command.arg("get").process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        // It is being written this moment, or a child that another thread has just forked has it open still.
        Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
            thread::sleep(Duration::from_millis(100));
            command.spawn()
        }
        other => other,
    }
    .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Less than a pipe holds. A helper that does not read it says why itself.
        let _ = stdin.write_all(server.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
    }
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let began = Instant::now();
    let mut status = None;
    let ended =
        |thread: &Option<thread::JoinHandle<String>>| thread.as_ref().is_none_or(thread::JoinHandle::is_finished);
    while began.elapsed() < patience {
        status = match status {
            None => child.try_wait().map_err(failed)?,
            known => known,
        };
        // Its output may be kept open by something that it has left behind.
        if status.is_some() && ended(&stdout) && ended(&stderr) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let silent =
        || CredentialError::HelperSilent { program: program.to_owned(), server: server.to_owned(), after: patience };
    if status.is_none() || !ended(&stdout) || !ended(&stderr) {
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        return Err(silent());
    }
    let text = |thread: Option<thread::JoinHandle<String>>| thread.and_then(|thread| thread.join().ok());
    let success = status.is_some_and(|status| status.success());
    Ok((success, text(stdout).unwrap_or_default(), text(stderr).unwrap_or_default()))
}

fn collect(stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.take(LARGEST).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn one_that_does_not_end_is_ended() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("docker-credential-slow");
        fs::write(&path, "#!/bin/sh\nsleep 60 & sleep 60\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        let began = Instant::now();
        let error = run(&path, "docker-credential-slow", "x", Duration::from_millis(200)).expect_err("too slow");
        assert!(matches!(error, CredentialError::HelperSilent { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
