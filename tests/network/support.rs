//! What tests that need the kernel share.

use std::{env, process::Command};

/// Set in the process that a test runs in.
const INSIDE: &str = "NSCOMPOSE_TEST_INSIDE";
/// `all` makes a skipped test a failed one.
const REQUIRE: &str = "NSCOMPOSE_TEST_REQUIRE";

/// Runs `test` in a process of its own with namespaces of its own (user unless root, net, mount), loopback up. `name` is
/// the full name of the calling test function, by which the binary is told to run it again.
///
/// A process with several threads, such as the one that runs the tests, cannot make itself a user namespace.
pub(crate) fn in_own_namespaces(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let user: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(user).args(["--net", "--mount"]);
        command
    };
    match unshare().arg("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip(name, &format!("no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => return skip(name, &format!("needs unshare(1): {error}")),
    }
    let output = unshare()
        .arg(env::current_exe().expect("the test binary"))
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("test result: ok. 1 passed"), "{name} failed:\n{out}{err}");
    err.lines().filter(|line| line.starts_with("SKIP ")).for_each(|line| eprintln!("{line}"));
}

/// Says that a test could not run here; a failure where everything is required to.
pub(crate) fn skip(name: &str, why: &str) {
    assert!(env::var(REQUIRE).as_deref() != Ok("all"), "{name} was skipped: {why}");
    eprintln!("SKIP {name}: {why}");
}

/// A runtime as the supervisor's.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
