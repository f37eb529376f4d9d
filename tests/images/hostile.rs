//! Images that mean harm, all the way from a registry and from files.

use std::fs;

use super::{
    archive::Archive,
    made::{Made, assert_nothing_kept, rows},
    server::Server,
};
use crate::support::{Need, Stack, needs};

/// Archives that are refused, with the member that has to be named.
fn refused(outside: &str) -> Vec<(&'static str, Archive)> {
    vec![
        ("../evil", Archive::new().file("ok", "").file("../evil", "evil")),
        ("a/../../evil", Archive::new().folder("a").file("a/../../evil", "evil")),
        ("hard", Archive::new().link("hard", &format!("{outside}/secret"))),
        ("hard", Archive::new().link("hard", "../../../../../../../../etc/passwd")),
        ("loop", Archive::new().symlink("loop", "loop").file("loop/evil", "evil")),
        ("file", Archive::new().file("file", "").file("file/evil", "evil")),
    ]
}

/// A folder that has to stay as it is.
fn outside(stack: &Stack) -> String {
    stack.file("outside/secret", "secret");
    stack.path("outside").display().to_string()
}

#[track_caller]
fn assert_untouched(stack: &Stack) {
    let left: Vec<_> = fs::read_dir(stack.path("outside")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(fs::read_to_string(stack.path("outside/secret")).unwrap(), "secret");
}

#[test]
fn a_layer_that_leads_out_is_refused_with_its_member_and_nothing_is_kept() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let stack = Stack::empty();
    let outside = outside(&stack);
    for (number, (member, layer)) in refused(&outside).into_iter().enumerate() {
        let image = Made::busybox().gzip(layer).write();
        server.put(image.path(), &format!("app:{number}"), None);
        let name = format!("{}/app:{number}", server.host());
        stack.file("stack.yaml", &format!("name: {}\nservices: {{web: {{image: '{name}'}}}}", stack.project()));
        for args in [&["pull", name.as_str()][..], &["up", "-d"]] {
            let output = stack.run(args).failure().stderr_has(&name).stderr_has(&format!("`{member}`"));
            assert!(!output.stderr.contains("internal"), "{output}");
        }
        let path = stack.path("image");
        let _ = fs::remove_dir_all(&path);
        image.copy_to(&format!("oci:{}", path.display()));
        let _ = stack.run(&["load", "-i", "image"]).failure().stderr_has(&format!("`{member}`"));
        assert_eq!(rows(&stack).len(), 0);
        assert!(stack.supervisor().is_none());
        assert_untouched(&stack);
        assert_nothing_kept(&stack);
    }
}

#[test]
fn links_of_layers_lead_nowhere_but_into_them() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let stack = Stack::empty();
    let outside = outside(&stack);
    let up = format!("{}{outside}", "../".repeat(30));
    let layer = Archive::new()
        .symlink("absolute", &outside)
        .file("absolute/one", "1")
        .symlink("relative", &up)
        .file("relative/two", "2")
        .symlink("file", &format!("{outside}/secret"))
        .file("file", "replaced")
        .symlink("gone", &outside)
        .file("gone/.wh.secret", "");
    // Through the link of a lower layer.
    let image = Made::busybox()
        .layer(layer)
        .layer(Archive::new().file("absolute/three", "3").file("relative/.wh..wh..opq", ""));
    server.put(image.write().path(), "app", None);
    stack.file(
        "stack.yaml",
        &format!("name: {}\nservices: {{web: {{image: '{}/app'}}}}", stack.project(), server.host()),
    );
    stack.up();
    assert_untouched(&stack);
    assert_eq!(stack.sh("web", &format!("cat /file {outside}/one {outside}/two")), "replaced12");
    assert_eq!(stack.sh("web", "cat /absolute/three"), "3");
}

#[test]
fn content_that_is_not_what_was_promised_is_refused() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let stack = Stack::empty();
    // Another layer's content under the digest of the configuration.
    let image = Made::busybox().lying(Archive::new().file("a", "a"), Archive::new().file("b", "b")).write();
    server.put(image.path(), "app", None);
    let name = format!("{}/app", server.host());
    let _ = stack.run(&["pull", &name]).failure().stderr_has(&name).stderr_has("promises");
    assert_nothing_kept(&stack);
    let _ = stack.run(&["pull", &name]).failure().stderr_has("promises");
    assert_nothing_kept(&stack);
}
