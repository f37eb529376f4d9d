//! The verbs of images where there are none, and words that mean nothing. What they do is in tests/images.rs.

use crate::support::{Need, Stack, needs};

#[test]
fn there_is_nothing_to_list_and_nothing_is_made_for_that() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let header = stack.run(&["images"]).success().stdout;
    assert_eq!(header.split_whitespace().collect::<Vec<_>>().join(" "), "REPOSITORY TAG IMAGE ID CREATED SIZE USED BY");
    let _ = stack.run(&["images", "-q"]).success().stdout_is("");
    let _ = stack.run(&["image", "ls", "--all", "--format", "json"]).success().stdout_is("[]\n");
    assert!(!stack.home().join("data").exists());
    let _ = stack.run(&["images", "--check"]).success();
    let _ = stack.run(&["image", "prune", "-a"]).success().stderr_has("0 B");
    let _ = stack.run(&["system", "df"]).success().stdout_has("Images");
}

#[test]
fn images_that_are_not_here_are_said_to_be_not_here() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    for args in
        [&["rmi", "none"][..], &["tag", "none", "other"], &["save", "none"], &["images", "none"], &["push", "none:1"]]
    {
        let _ = stack.run(args).failure().stderr_has("there is no image `none").stderr_has("hint:");
    }
    assert!(!stack.home().join("run").exists());
}

#[test]
fn names_that_are_none_are_refused_before_anything_is_done() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    for args in [
        &["pull", "127.0.0.1:1/Upper"][..],
        &["pull", "127.0.0.1:1/a:b:c"],
        &["tag", "none", "Upper"],
        &["push", "127.0.0.1:1/a//b"],
    ] {
        let _ = stack.run(args).code(2).stderr_has("error:");
    }
    let digest = format!("a@sha256:{}", "0".repeat(64));
    let _ = stack.run(&["tag", "none", &digest]).code(2).stderr_has("a digest is not something that can be given");
    let _ = stack.run(&["save", "--format", "oci-dir", "none"]).failure();
    let _ = stack.run(&["images", "--repair"]).code(2).stderr_has("--check");
    let _ = stack.run(&["pull", "--platform", "a/b/c/d", "127.0.0.1:1/a"]).code(2);
    assert!(!stack.home().join("data").exists());
}

#[test]
fn what_runs_on_no_image_has_none_to_commit() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services:\n  web: {rootfs: host, command: [sleep, infinity]}\n");
    for verb in ["commit", "export"] {
        let _ = stack.run(&[verb, "web"]).failure().stderr_has("is not up");
    }
    stack.up();
    for verb in ["commit", "export"] {
        let _ = stack.run(&[verb, "web"]).failure().stderr_has("service `web` runs on no image");
        let _ = stack.run(&[verb, "wbe"]).failure().stderr_has("did you mean `web`?");
    }
    let _ = stack.run(&["pull"]).success().stderr_has("has no image to pull");
}
