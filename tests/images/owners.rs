//! Whose the files of an image are, under each kind of account.

use super::{
    archive::Archive,
    made::{Made, assert_whole},
    server::Server,
};
use crate::support::{Need, Run, Stack, needs, wait_for};

fn image() -> Made {
    let layer =
        Archive::new().owner(33, 34).folder("www").owner(33, 34).file("www/index", "hello").file("www/roots", "");
    Made::busybox().layer(layer)
}

#[test]
fn owners_inside_are_those_of_the_image() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"), Need::Ids);
    let server = Server::plain();
    server.put(image().write().path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!(
        "volumes: {{www: {{}}}}\nservices:\n  web: {{image: '{name}'}}\n  www: {{image: '{name}', user: '33', volumes: ['www:/www']}}\n"
    ));
    let up = stack.up();
    assert!(!up.stderr.contains("warning"), "{up}");
    for service in ["web", "www"] {
        assert_eq!(
            stack.sh(service, "stat -c %u:%g / /www /www/index /www/roots"),
            "0:0\n33:34\n33:34\n0:0",
            "{service}"
        );
    }
    assert_eq!(stack.sh("www", "echo more > /www/index && cat /www/index && id -u"), "more\n33");
    let _ = stack.run(&["exec", "www", "touch", "/etc/passwd"]).failure();
    assert_whole(&stack);
    let _ = stack.run(&["down", "-v", "-t", "0"]).success();
}

#[test]
fn an_account_with_a_single_id_is_warned_and_has_no_other_user() {
    needs!(Need::SingleId, Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    server.put(image().write().path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n"));
    let up = stack.up().stderr_has("2 files belong to others than root").stderr_has("/etc/subuid");
    assert_eq!(up.stderr.matches("single id").count(), 1, "{up}");
    assert_eq!(stack.sh("web", "stat -c %u /www /www/index; echo more > /www/index"), "0\n0");
    assert_whole(&stack);
    // The owners are not lost, though.
    let _ = stack.run(&["export", "-o", "app.tar", "web"]).success();
    let listed = Run::new("tar").args(["--numeric-owner", "-tvf"]).arg(stack.path("app.tar")).run().success().stdout;
    let line = listed.lines().find(|line| line.contains("www/index"));
    assert!(line.is_some_and(|line| line.contains(" 33/34 ")), "{listed}");
    let _ = stack.run(&["commit", "web", "mine"]).success();
    assert_whole(&stack);
    stack.down();
    stack.file("stack.yaml", &format!("name: {}\nservices: {{web: {{image: '{name}', user: '33'}}}}", stack.project()));
    let refused = stack.run(&["up", "-d"]).failure().stderr_has("wants to run as user `33`");
    let _ = refused.stderr_has("single id").stderr_has("hint");
    wait_for("the end of the supervisor", || stack.supervisor().is_none().then_some(()));
    // As root it may run, whatever it is called.
    stack.file("stack.yaml", &format!("name: {}\nservices: {{web: {{image: '{name}', user: root}}}}", stack.project()));
    stack.up();
}

#[test]
fn a_user_of_the_image_that_a_single_id_cannot_have_is_refused() {
    needs!(Need::SingleId, Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    server.put(image().config(serde_json::json!({"User": "www"})).write().path(), "app", None);
    let stack = Stack::new(&format!("services:\n  web: {{image: '{}/app'}}\n", server.host()));
    let _ = stack.run(&["up", "-d"]).failure().stderr_has("user `www`").stderr_has("single id");
}
