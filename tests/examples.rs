//! Every example loads and plans; those that need no images come up and go down.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use support::{Need, Run, Stack, is_root, needs, wait_for};

/// Those that run on the files of this machine. `samples.rs` brings up those that run on images.
fn examples() -> Vec<PathBuf> {
    let (on_images, others): (Vec<_>, Vec<_>) = all_examples().into_iter().partition(|file| is_on_images(file));
    assert!(on_images.len() >= 3, "{on_images:?}");
    others
}

fn is_on_images(file: &Path) -> bool {
    let folder = file.parent().and_then(Path::file_name).expect("a folder");
    folder.to_string_lossy().starts_with("images-")
}

fn all_examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("examples") {
        let found =
            fs::read_dir(entry.expect("an entry").path()).expect("a folder").flatten().map(|entry| entry.path());
        files.extend(found.filter(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")));
    }
    files.sort();
    files
}

/// An example in a project of its own, with what makes it run under any account and beside others.
fn run(stack: &Stack, file: &Path, args: &[&str]) -> Run {
    let run = stack.nscompose().arg("-f").arg(file).args(["-p", stack.project()]).args(args);
    if is_root() { run } else { run.env("RUN_AS", "root") }
}

#[test]
fn there_are_examples_for_the_readme() {
    assert!(examples().len() >= 4, "{:?}", examples());
}

#[test]
fn every_example_can_be_planned() {
    needs!(Need::Namespaces);
    for file in all_examples() {
        let stack = Stack::empty();
        let plan = run(&stack, &file, &["plan"]).run().code(2);
        // Images are not fetched for a plan, which says so.
        let told = plan.stderr.lines().filter(|line| !(is_on_images(&file) && line.ends_with("pulled by `up`")));
        assert!(plan.stdout.contains("start ") && told.count() == 0, "{plan}");
        assert!(!stack.home().join("run").exists(), "planning has made something");
    }
}

#[test]
fn every_example_comes_up_and_goes_down() {
    needs!(Need::Program("python3"), Need::Program("bash"), Need::Program("getent"));
    for file in examples() {
        let stack = Stack::empty();
        let up = run(&stack, &file, &["up", "-d"]).run();
        // A port of the example may be taken on this host; then it says so, and that is all it can do.
        if up.code != 0 && up.stderr.contains("cannot be published") {
            assert!(up.stderr.contains("hint"), "{up}");
            continue;
        }
        let _ = up.success();
        let containers = stack.ps();
        assert!(!containers.is_empty());
        let traces = stack.traces();
        let _ = run(&stack, &file, &["down", "-v"]).run().success();
        traces.assert_gone();
    }
}

#[test]
fn the_first_example_shows_that_its_services_talk_and_ends_by_itself() {
    needs!(Need::Program("python3"), Need::Program("bash"), Need::Program("getent"));
    let file = examples().into_iter().find(|file| file.to_string_lossy().contains("hello")).expect("hello");
    let stack = Stack::empty();
    let watch = stack.watch();
    let output = run(&stack, &file, &["up"]).run().success();
    watch.finish().assert_gone();
    let services: BTreeSet<&str> = output.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(services.len() >= 2, "{output}");
    let _ = output.stdout_has("42 visitors").stdout_has("app at ");
}

#[test]
fn examples_that_end_by_themselves_end_well() {
    needs!(Need::Program("python3"), Need::Program("bash"), Need::Program("getent"));
    for name in ["files", "identity", "networks"] {
        let Some(file) = examples().into_iter().find(|file| file.parent().is_some_and(|p| p.ends_with(name))) else {
            continue;
        };
        let stack = Stack::empty();
        let _ = run(&stack, &file, &["up", "-d"]).run().success();
        wait_for("the end of all services", || stack.ps().iter().all(|c| c.state == "exited").then_some(()));
        for container in stack.ps() {
            assert_eq!(container.exit_code, Some(0), "{name}: {container:?}\n{}", stack.log(&container.service));
        }
        let _ = run(&stack, &file, &["down", "-v"]).run().success();
    }
}
