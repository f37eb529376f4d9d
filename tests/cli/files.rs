//! Which file, which project, which services.

use crate::support::{Need, Stack, needs};

const SLEEP: &str =
    "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}}\n";

/// The services that run, by a project's name.
fn services(stack: &Stack, project: &str) -> String {
    stack.run(&["-p", project, "ps", "--services"]).success().stdout
}

/// A stack whose only file is this one.
fn with_file(path: &str) -> Stack {
    let stack = Stack::empty();
    stack.file(path, &format!("name: {}\n{SLEEP}", stack.project()));
    stack
}

#[test]
fn each_of_the_usual_names_is_found() {
    needs!(Need::Namespaces);
    for name in
        ["nscompose.yaml", "stack.yaml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"]
    {
        let stack = with_file(name);
        stack.run(&["plan"]).code(2).stdout_has("start one");
    }
}

#[test]
fn a_file_is_found_from_a_folder_below() {
    needs!(Need::Namespaces);
    let stack = with_file("compose.yaml");
    stack.file("deep/er/x", "");
    stack.nscompose().dir(stack.path("deep/er")).args(["up", "-d"]).run().success();
    assert_eq!(services(&stack, stack.project()), "one\ntwo\n");
    stack.nscompose().dir(stack.path("deep")).arg("down").run().success();
    assert_eq!(services(&stack, stack.project()), "");
}

#[test]
fn a_word_that_ends_in_yaml_is_the_file() {
    needs!(Need::Namespaces);
    let stack = with_file("other.yaml");
    stack.run(&["up", "-d", "other.yaml"]).success();
    stack.run(&["ps", "other.yaml", "--services"]).success().stdout_is("one\ntwo\n");
    stack.run(&["down", "other.yaml"]).success();
}

#[test]
fn a_word_that_exists_as_a_file_is_the_file_whatever_its_ending() {
    needs!(Need::Namespaces);
    let stack = with_file("mystack.conf");
    stack.run(&["up", "-d", "mystack.conf", "one"]).success();
    stack.run(&["ps", "mystack.conf", "--services"]).success().stdout_is("one\n");
}

#[test]
fn a_file_can_be_named_before_and_behind_the_verb() {
    needs!(Need::Namespaces);
    let stack = with_file("a/b.conf");
    stack.run(&["-f", "a/b.conf", "up", "-d", "one"]).success();
    stack.run(&["up", "-d", "-f", "a/b.conf", "two"]).success();
    stack.run(&["ps", "-f", "a/b.conf", "--services"]).success().stdout_is("one\ntwo\n");
    stack.run(&["-f", "a/b.conf", "logs"]).success();
    stack.run(&["-f", "a/b.conf", "exec", "one", "true"]).success();
    stack.run(&["down", "-f", "a/b.conf"]).success();
}

#[test]
fn later_files_are_merged_over_earlier_ones() {
    needs!(Need::Namespaces);
    let stack = with_file("a.yaml");
    stack
        .file("b.yaml", "services: {one: {environment: {FROM: b}}, three: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["-f", "a.yaml", "-f", "b.yaml", "up", "-d"]).success();
    assert_eq!(services(&stack, stack.project()), "one\nthree\ntwo\n");
    let from = stack.run(&["-f", "a.yaml", "-f", "b.yaml", "exec", "one", "printenv", "FROM"]);
    from.success().stdout_is("b\n");
}

#[test]
fn the_file_can_come_from_the_environment() {
    needs!(Need::Namespaces);
    let stack = with_file("there.conf");
    stack.file("more.conf", "services: {three: {rootfs: host, command: [sleep, infinity]}}");
    stack.nscompose().env("COMPOSE_FILE", "there.conf:more.conf").args(["up", "-d"]).run().success();
    assert_eq!(services(&stack, stack.project()), "one\nthree\ntwo\n");
}

#[test]
fn the_file_can_come_from_standard_input() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let yaml = format!("name: {}\n{SLEEP}", stack.project());
    stack.nscompose().args(["-f", "-", "up", "-d"]).stdin(yaml).run().success();
    assert_eq!(services(&stack, stack.project()), "one\ntwo\n");
}

#[test]
fn a_project_name_on_the_command_line_wins() {
    needs!(Need::Namespaces);
    let stack = Stack::new(SLEEP);
    let other = format!("{}-other", stack.project());
    stack.run(&["-p", &other, "up", "-d"]).success();
    assert_eq!(services(&stack, &other), "one\ntwo\n");
    assert_eq!(services(&stack, stack.project()), "");
    stack.run(&["down", "-p", &other]).success();
    assert_eq!(services(&stack, &other), "");
}

#[test]
fn without_a_name_the_folder_names_the_project() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let folder = format!("{}.Folder", stack.project());
    stack.file(&format!("{folder}/stack.yaml"), SLEEP);
    let name = format!("{}folder", stack.project());
    stack.nscompose().dir(stack.path(&folder)).args(["up", "-d"]).run().success();
    assert_eq!(services(&stack, &name), "one\ntwo\n");
    stack.nscompose().dir(stack.path(&folder)).args(["down"]).run().success();
}

#[test]
fn two_stacks_of_one_file_run_side_by_side() {
    needs!(Need::Namespaces);
    let stack = Stack::new(SLEEP);
    let second = format!("{}-2nd", stack.project());
    stack.up();
    stack.run(&["-p", &second, "up", "-d"]).success();
    stack.down();
    assert_eq!(services(&stack, &second), "one\ntwo\n");
    stack.run(&["-p", &second, "down"]).success();
}

#[test]
fn the_home_can_come_from_the_environment() {
    needs!(Need::Namespaces);
    let stack = Stack::new(SLEEP);
    let bare = || stack.bare().env("NSCOMPOSE_HOME", stack.home());
    bare().args(["up", "-d"]).run().success();
    assert!(stack.home().join("run/v1").is_dir());
    stack.down();
    assert!(!stack.home().join("run").exists());
}

#[test]
fn a_word_that_is_neither_file_nor_service_is_an_error() {
    needs!(Need::Namespaces);
    let stack = Stack::new(SLEEP);
    stack.run(&["up", "-d", "tow"]).code(2).stderr_has("`tow`").stderr_has("did you mean `two`?");
    assert!(!stack.home().join("run").exists());
}

#[test]
fn stacks_of_one_name_from_two_folders_are_told_apart() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    for folder in ["a", "b"] {
        stack.file(&format!("{folder}/stack.yaml"), &format!("name: {}\n{SLEEP}", stack.project()));
    }
    let first = stack.path("a/stack.yaml").display().to_string();
    let within = |folder: &str, args: &[&str]| stack.nscompose().dir(stack.path(folder)).args(args).run();
    within("a", &["up", "-d"]).success();
    within("b", &["up", "-d"]).failure().stderr_has(&first).stderr_has("hint");
    within("b", &["down"]).failure().stderr_has(&first).stderr_has("hint");
    assert_eq!(services(&stack, stack.project()), "one\ntwo\n");
    within("a", &["down"]).success();
    within("b", &["up", "-d"]).success();
    // Whoever names the stack means it.
    within("a", &["-p", stack.project(), "down"]).success();
    assert_eq!(services(&stack, stack.project()), "");
}

#[test]
fn a_verb_that_is_not_supported_yet_is_named() {
    needs!(Need::Namespaces);
    let stack = Stack::new(SLEEP);
    for args in [&["run", "--rm", "one", "ls"][..], &["build"], &["cp", "one:/x", "."]] {
        let output = stack.run(args).code(2).stderr_has(&format!("`{}` is not supported yet", args[0]));
        output.stderr_has("hint");
    }
    stack.run(&["dwon"]).code(2).stderr_has("`dwon`").stderr_has("did you mean `down`?");
}

#[test]
fn what_is_not_supported_yet_is_refused_or_left_out_on_demand() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], use_api_socket: true}}");
    let refused = stack.run(&["plan"]).code(3).stderr_has("error: `use_api_socket` is not supported yet");
    assert_eq!(refused.stderr.matches("--allow-unsupported").count(), 1, "{refused}");
    let left_out = "warning: `use_api_socket` is not supported yet and is left out";
    let _ = stack.run(&["plan", "--allow-unsupported"]).code(2).stderr_has(left_out);
    let planned = stack.nscompose().env("NSCOMPOSE_ALLOW_UNSUPPORTED", "1").args(["plan"]).run();
    let _ = planned.code(2).stderr_has(left_out);
    let _ = stack.run(&["up", "-d", "--allow-unsupported"]).success().stderr_has(left_out);
    // Nobody has to say it again to take the stack down.
    let _ = stack.run(&["down", "-v"]).success();
}

#[test]
fn flags_of_docker_compose_that_are_not_here_yet_say_what_serves_meanwhile() {
    let stack = with_file("compose.yaml");
    for (args, flag) in [
        (&["up", "-dw"] as &[&str], "up -w"),
        (&["-p", "down", "up", "--build"], "up --build"),
        (&["--dry-run", "up"], "--dry-run"),
        (&["up", "--dry-run"], "--dry-run"),
    ] {
        stack.run(args).code(2).stderr_has(&format!("error: `{flag}` is not supported yet\nhint: "));
    }
    let json = stack.run(&["--message-format", "json", "up", "--build"]).code(2);
    assert!(json.stderr.starts_with('{'), "{json}");
    // What nobody has is as clap says it.
    stack.run(&["up", "--wiat"]).code(2).stderr_has("unexpected argument '--wiat'");
}

#[test]
fn flags_of_docker_compose_that_say_what_is_so_anyway_are_taken() {
    needs!(Need::Namespaces);
    let stack = with_file("compose.yaml");
    stack.run(&["up", "-d", "-y", "--no-build", "--quiet-pull", "one"]).success();
    stack.run(&["ps", "-a", "--services"]).success().stdout_is("one\n");
    stack.run(&["down", "--remove-orphans"]).success();
}

#[test]
fn the_version_is_printed_in_three_ways() {
    let stack = Stack::empty();
    let version = env!("CARGO_PKG_VERSION");
    stack.run(&["version"]).success().stdout_is(&format!("nscompose {version}\n"));
    stack.run(&["version", "--short"]).success().stdout_is(&format!("{version}\n"));
    stack.run(&["version", "-f", "json"]).success().stdout_is(&format!("{{\"version\":\"{version}\"}}\n"));
    stack.run(&["--version"]).success().stdout_is(&format!("nscompose {version}\n"));
}
