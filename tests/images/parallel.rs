//! Several commands at the same store.

use std::fs;

use super::{
    archive::Archive,
    door::Door,
    made::{Made, assert_whole, listed, names, store},
    server::Server,
};
use crate::support::{Need, Stack, Started, needs};

#[test]
fn pulls_at_the_same_time_fetch_and_store_each_layer_once() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let layer = |name: &str| {
        (0..40).fold(Archive::new(), |layer, i| layer.file(&format!("{name}/{i}"), [name.as_bytes()[0]; 20_000]))
    };
    let base = Made::busybox().layer(layer("common"));
    let images = [
        base.clone().layer(layer("a")).layer(layer("x")).layer(layer("y")),
        // In another order, so that each has what the other waits for.
        base.clone().layer(layer("y")).layer(layer("x")).layer(layer("b")),
        base.layer(layer("x")),
    ];
    for (name, image) in ["one", "two", "three"].iter().zip(&images) {
        server.put(image.write().path(), name, None);
    }
    let door = Door::to(server.port);
    let stack = Stack::empty();
    let pulls: Vec<Started> = ["one", "two", "three", "one", "two", "one"]
        .iter()
        .map(|name| stack.nscompose().args(["pull", &format!("{}/{name}", door.host())]).start())
        .collect();
    for pull in pulls {
        let _ = pull.wait().success();
    }
    assert_eq!(names(&stack).len(), 3);
    assert_eq!(listed(&stack, "layers").len(), 6);
    assert_eq!(listed(&stack, "blobs").len(), 6 + 3 * 2);
    for folder in ["partial", "unpacking"] {
        assert_eq!(listed(&stack, folder), [""; 0], "{folder}");
    }
    let stored: u64 =
        fs::read_dir(store(&stack, "blobs")).unwrap().map(|blob| blob.unwrap().metadata().unwrap().len()).sum();
    let come = door.come() as u64;
    assert!((stored..stored + 200_000).contains(&come), "{come} bytes have come for {stored}");
    assert_whole(&stack);
}

#[test]
fn pulls_and_prunes_at_the_same_time_do_each_other_no_harm() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let image = Made::busybox().layer((0..200).fold(Archive::new(), |layer, i| layer.file(&format!("many/{i}"), "x")));
    server.put(image.write().path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::empty();
    for _ in 0..4 {
        let mut started = Vec::new();
        for _ in 0..3 {
            started.push(stack.nscompose().args(["pull", &name]).start());
            started.push(stack.nscompose().args(["image", "prune"]).start());
        }
        for command in started {
            let _ = command.wait().success();
        }
        assert_whole(&stack);
        assert_eq!(names(&stack), [format!("{name}:latest")]);
        let _ = stack.run(&["rmi", &name]).success();
    }
    // With what takes named ones too, either comes first.
    let pull = stack.nscompose().args(["pull", &name]).start();
    let prune = stack.nscompose().args(["image", "prune", "-a"]).start();
    let _ = (pull.wait().success(), prune.wait().success());
    assert_whole(&stack);
}

#[test]
fn stacks_that_come_up_at_the_same_time_pull_what_they_share_once() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let image = Made::busybox().layer(Archive::new().file("a", "a").folder("data").file("data/x", "x")).write();
    server.put(image.path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::empty();
    let projects: Vec<String> = (0..4).map(|i| format!("{}-{i}", stack.project())).collect();
    stack.file("stack.yaml", &format!("services:\n  web: {{image: '{name}', volumes: ['/data']}}\n"));
    let ups: Vec<Started> =
        projects.iter().map(|project| stack.nscompose().args(["-p", project, "up", "-d"]).start()).collect();
    let ups: Vec<_> = ups.into_iter().map(Started::wait).collect();
    let seen: Vec<_> =
        projects.iter().map(|project| stack.run(&["-p", project, "exec", "web", "cat", "/data/x"])).collect();
    for project in &projects {
        let _ = stack.run(&["-p", project, "down", "-v"]).success();
    }
    for output in ups {
        let _ = output.success();
    }
    for output in seen {
        let _ = output.success().stdout_is("x");
    }
    assert_eq!(listed(&stack, "layers").len(), 2);
}
