//! When `up` looks for an image in its registry.

use super::{
    archive::Archive,
    made::{Made, names},
    server::Server,
};
use crate::support::{Need, Stack, needs};

fn version(text: &str) -> super::made::Layout {
    Made::busybox().layer(Archive::new().file("version", text)).write()
}

/// A registry with `app` and `other`, and a stack with a service on each, whose first has this policy.
fn stack(policy: &str) -> (Server, Stack) {
    let server = Server::plain();
    server.put(version("1").path(), "app", None);
    server.put(version("other").path(), "other", None);
    let host = server.host();
    let stack = Stack::new(&format!(
        "services:\n  web: {{image: '{host}/app', pull_policy: {policy}}}\n  other: {{image: '{host}/other', pull_policy: missing}}\n"
    ));
    (server, stack)
}

#[test]
fn never_starts_nothing_when_the_image_is_not_here() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, stack) = stack("never");
    let name = format!("{}/app", server.host());
    let up = stack.run(&["up", "-d"]).failure();
    let up =
        up.stderr_has(&format!("image `{name}:latest` of service `web` is not here")).stderr_has("`nscompose pull`");
    assert_eq!(names(&stack), [""; 0], "nothing is pulled when something cannot be had: {up}");
    assert!(stack.supervisor().is_none());
    let _ = stack.run(&["pull", &name]).success();
    server.put(version("2").path(), "app", None);
    stack.up();
    assert_eq!(stack.sh("web", "cat /version"), "1");
}

#[test]
fn missing_is_content_with_what_is_here() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, stack) = stack("missing");
    stack.up();
    server.put(version("2").path(), "app", None);
    let _ = stack.up().stderr_has("nothing to do");
    assert_eq!(stack.sh("web", "cat /version"), "1");
}

#[test]
fn always_takes_what_the_registry_has_now_and_replaces_only_its_service() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, stack) = stack("always");
    stack.up();
    let (web, other) = (stack.pid("web"), stack.pid("other"));
    let _ = stack.up().stderr_has("is up to date").stderr_has("nothing to do");
    server.put(version("2").path(), "app", None);
    let name = format!("{}/app", server.host());
    // A plan asks no registry, and takes what is here.
    let _ = stack.run(&["plan"]).success().stderr_has("is looked for and pulled by `up`");
    let _ = stack.run(&["pull", &name]).success();
    stack.up();
    assert_eq!(stack.sh("web", "cat /version"), "2");
    assert_ne!(stack.pid("web"), web);
    assert_eq!(stack.pid("other"), other);
    server.put(version("3").path(), "app", None);
    stack.up();
    assert_eq!(stack.sh("web", "cat /version"), "3");
    assert_eq!(stack.pid("other"), other);
}

#[test]
fn a_plan_says_that_an_image_has_changed() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, stack) = stack("missing");
    stack.up();
    server.put(version("2").path(), "app", None);
    let _ = stack.run(&["pull", "web"]).success();
    let plan = stack.run(&["plan"]).code(2);
    let image = |line: &str| line.contains("services.web.image") && line.matches("app:latest@sha256:").count() == 2;
    assert!(plan.stdout.lines().any(|line| line.starts_with("recreate web: ") && image(line)), "{plan}");
    assert!(!plan.stdout.lines().any(|line| line.contains(" start other") || line.contains(" stop other")), "{plan}");
    let other = stack.pid("other");
    stack.up();
    assert_eq!(stack.sh("web", "cat /version"), "2");
    assert_eq!(stack.pid("other"), other);
    let _ = stack.up().stderr_has("nothing to do");
}

#[test]
fn every_so_often_looks_when_the_time_has_come() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, stack) = stack("every_1h");
    stack.up();
    server.put(version("2").path(), "app", None);
    let _ = stack.up().stderr_has("nothing to do");
    stack.file(
        "stack.yaml",
        &std::fs::read_to_string(stack.path("stack.yaml")).unwrap().replace("every_1h", "every_0s"),
    );
    stack.up();
    assert_eq!(stack.sh("web", "cat /version"), "2");
}

#[test]
fn what_is_typed_wins_over_the_policy_of_the_file() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, stack) = stack("missing");
    let _ = stack.run(&["up", "-d", "--pull", "never"]).failure().stderr_has("is not here");
    stack.up();
    server.put(version("2").path(), "app", None);
    let _ = stack.run(&["up", "-d", "--pull", "never"]).success().stderr_has("nothing to do");
    let _ = stack.run(&["up", "-d", "--pull", "always"]).success();
    assert_eq!(stack.sh("web", "cat /version"), "2");
    drop(server);
    let _ = stack.run(&["up", "-d", "--pull", "missing"]).success().stderr_has("nothing to do");
    let pid = stack.pid("web");
    let _ = stack.run(&["up", "-d", "--pull", "always"]).failure().stderr_has("cannot pull");
    assert_eq!(stack.pid("web"), pid, "what runs goes on");
    let _ = stack.run(&["up", "-d", "--pull", "sometimes"]).failure().stderr_has("`always`, `missing` or `never`");
}
