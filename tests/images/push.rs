//! From here to a registry.

use std::fs;

use nscompose::model::Digest;

use super::{
    archive::Archive,
    door::Door,
    made::Made,
    server::{Server, skopeo},
};
use crate::support::{Need, Stack, needs};

#[test]
fn what_is_pushed_is_what_was_here_and_is_not_sent_twice() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let door = Door::to(server.port);
    let image = Made::busybox().gzip(Archive::new().file("hello", "world")).write();
    let stack = Stack::empty();
    image.copy_to(&format!("oci-archive:{}:app", stack.path("image.tar").display()));
    let _ = stack.run(&["load", "-i", "image.tar"]).success();
    let id = stack.run(&["images", "-aq"]).success().stdout.trim().to_owned();
    let name = format!("{}/some/app:1", door.host());
    let _ = stack.run(&["push", &name]).failure().stderr_has(&format!("there is no image `{name}`"));
    let _ = stack.run(&["tag", &id, &name]).success();
    let pushed = stack.run(&["push", &name]).success().stdout_is("").stderr_has(&name).stderr_has("pushed");
    let all = fs::metadata(stack.path("image.tar")).unwrap().len() as usize;
    assert!(door.sent() > all / 10 * 9, "{pushed}");
    // Copied back, it is the same.
    let back = stack.path("back").display().to_string();
    let from = format!("docker://{}/some/app:1", server.host());
    let copy = ["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", &from, &format!("oci:{back}:it")];
    let _ = skopeo().args(copy).run().success();
    let raw = skopeo().args(["inspect", "--raw", &format!("oci:{back}:it")]).run().success().stdout;
    assert_eq!(Digest::of(raw.as_bytes()), image.manifest);

    door.open();
    let _ = stack.run(&["push", &name]).success();
    assert!(door.sent() < 100_000, "{} bytes are sent again", door.sent());
    // Another name in the same registry: layers are there already.
    let other = format!("{}/other:1", door.host());
    let _ = stack.run(&["tag", &name, &other]).success();
    door.open();
    let _ = stack.run(&["push", &other]).success();
    assert!(door.sent() < 100_000, "{} bytes are sent again", door.sent());

    let puller = Stack::new(&format!("services:\n  web: {{image: '{}/other:1'}}\n", server.host()));
    puller.up();
    assert_eq!(puller.sh("web", "cat /hello"), "world");
}

#[test]
fn images_of_services_are_pushed() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (from, to) = (Server::plain(), Server::plain());
    from.put(Made::busybox().write().path(), "app", None);
    let (old, new) = (format!("{}/app", from.host()), format!("{}/app:new", to.host()));
    let stack = Stack::new(&format!("services:\n  web: {{image: '{new}'}}\n  host: {{rootfs: host, command: [ls]}}\n"));
    let _ = stack.run(&["pull", &old]).success();
    let _ = stack.run(&["tag", &old, &new]).success();
    let _ = stack.run(&["push"]).success().stderr_has(&new);
    let _ = stack.run(&["pull", &new]).success();
    drop(to);
    let _ = stack.run(&["push", "web"]).failure().stderr_has(&format!("cannot push `{new}`"));
}
