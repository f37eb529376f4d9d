//! The verbs of images: `load`, `images`, `rmi`, `image prune` and the like, and `up` on what they have left.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Need, Output, Stack, needs, program};

/// An archive as `docker save` writes it, of an image with a busybox that says this in its configuration.
fn archive(stack: &Stack, tag: &str, more: &Value) -> PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = fs::read(program("busybox").expect("declared")).expect("a program");
    for name in ["bin/busybox", "bin/sleep", "bin/ls"] {
        append(&mut layer, name, &busybox);
    }
    let layer = layer.into_inner().expect("a layer");
    let mut config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sleep", "100000"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{:x}", Sha256::digest(&layer))]},
    });
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let mut all = tar::Builder::new(Vec::new());
    append(&mut all, "config.json", config.to_string().as_bytes());
    append(&mut all, "layer.tar", &layer);
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]);
    append(&mut all, "manifest.json", manifest.to_string().as_bytes());
    let path = stack.path("image.tar");
    fs::write(&path, all.into_inner().expect("an archive")).expect("a file");
    path
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, name, bytes).expect("appended");
}

/// A stack with one service on the image `app:1`.
fn on_app() -> Stack {
    Stack::new("services: {web: {image: 'app:1', network_mode: none}}")
}

#[track_caller]
fn load(stack: &Stack, tag: &str, more: &Value) -> Output {
    let path = archive(stack, tag, more);
    stack.nscompose().args(["load", "-i"]).arg(path).run()
}

fn images(stack: &Stack) -> PathBuf {
    stack.home().join("data/v1/images")
}

/// What a name of the store leads to.
fn entry(stack: &Stack, name: &str) -> Value {
    let files = fs::read_dir(images(stack).join("names")).expect("names").map(|file| file.expect("a name").path());
    let mut entries = files.map(|path| serde_json::from_slice::<Value>(&fs::read(path).expect("read")).expect("JSON"));
    entries.find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("`{name}` is not there"))
}

fn blob(stack: &Stack, digest: &Value) -> PathBuf {
    images(stack).join("blobs").join(digest.as_str().expect("a digest").trim_start_matches("sha256:"))
}

#[test]
fn images_can_be_removed_while_a_stack_is_up_in_the_foreground() {
    needs!(Need::StaticBusybox);
    let stack = on_app();
    load(&stack, "app:1", &json!({})).success();
    load(&stack, "other:1", &json!({})).success();
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stderr("web started");
    stack.run(&["rmi", "other:1"]).success().stderr_has("other:1 untagged");
    stack.run(&["rmi", "app:1"]).failure().stderr_has("image `app:1` is in use");
    stack.down();
    let _ = up.wait();
}

#[test]
fn an_image_that_is_taken_into_use_while_rmi_waits_stays() {
    needs!(Need::StaticBusybox);
    let stack = on_app();
    load(&stack, "app:1", &json!({})).success();
    // As an `up` does it: the store is held from finding the image until its container holds that.
    let up = File::open(images(&stack).join("lock")).expect("there");
    rustix::fs::flock(&up, FlockOperation::LockShared).expect("locked");
    let mut rmi = stack.nscompose().args(["rmi", "app:1"]).start();
    rmi.expect_stderr("which is waited for");
    let held = File::open(blob(&stack, &entry(&stack, "docker.io/library/app:1")["id"])).expect("there");
    rustix::fs::flock(&held, FlockOperation::LockShared).expect("locked");
    drop(up);
    rmi.wait().failure().stderr_has("image `app:1` is in use");
    stack.run(&["images", "-q", "app:1"]).success();
}

#[test]
fn no_archive_says_what_a_digest_leads_to() {
    needs!(Need::StaticBusybox);
    let pinned = format!("app@sha256:{}", "a".repeat(64));
    let stack = Stack::new(&format!("services: {{web: {{image: '{pinned}', pull_policy: never}}}}"));
    load(&stack, &pinned, &json!({})).success();
    stack.run(&["up", "-d"]).failure().stderr_has("is not here");
    load(&stack, &format!("app:1@sha256:{}", "a".repeat(64)), &json!({})).success().stderr_has("app:1 loaded");
    stack.run(&["up", "-d"]).failure().stderr_has("is not here");
}

#[test]
fn the_root_of_an_image_does_not_depend_on_the_umask() {
    needs!(Need::StaticBusybox, Need::Program("sh"));
    let stack = on_app();
    let path = archive(&stack, "app:1", &json!({}));
    let load = format!(
        "umask 077; exec {} --home {} load -i {}",
        env!("CARGO_BIN_EXE_nscompose"),
        stack.home().display(),
        path.display()
    );
    crate::support::Run::new("sh").args(["-c", &load]).dir(stack.path("")).run().success();
    let mut layers = fs::read_dir(images(&stack).join("layers")).expect("layers");
    let layer = layers.next().expect("one").expect("a layer").path();
    assert_eq!(fs::metadata(layer).expect("there").permissions().mode() & 0o7777, 0o755);
}

#[test]
fn a_damaged_document_is_repaired() {
    needs!(Need::StaticBusybox);
    let stack = on_app();
    load(&stack, "app:1", &json!({})).success();
    for document in ["manifest", "id"] {
        fs::write(blob(&stack, &entry(&stack, "docker.io/library/app:1")[document]), "").expect("written");
        stack.run(&["images", "--check", "--repair"]).failure().stderr_has("name app:1 of app:1");
        stack.run(&["images", "--check"]).success();
        load(&stack, "app:1", &json!({})).success();
        stack.run(&["images", "--check"]).success();
    }
    stack.up();
}

#[test]
fn a_loaded_image_of_a_variant_that_runs_here_is_found() {
    needs!(Need::StaticBusybox);
    let stack = on_app();
    load(&stack, "app:1", &json!({"architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { std::env::consts::ARCH }, "variant": if cfg!(target_arch = "x86_64") { "v2" } else { "" }})).success();
    stack.run(&["up", "-d", "--pull", "never"]).success();
}

#[test]
fn a_loaded_image_for_another_machine_is_told_of() {
    needs!(Need::StaticBusybox);
    let stack = on_app();
    load(&stack, "app:1", &json!({"architecture": "s390x"})).success().stderr_has("it is for linux/s390x");
}

#[test]
fn images_are_kept_in_folders_of_our_own_alone() {
    needs!(Need::StaticBusybox, Need::Root);
    let stack = on_app();
    let data = stack.home().join("data");
    fs::create_dir(&data).expect("a folder");
    std::os::unix::fs::chown(&data, Some(65_534), Some(65_534)).expect("given away");
    load(&stack, "app:1", &json!({})).failure().stderr_has("cannot make nscompose's folders");
    stack.run(&["image", "prune"]).failure().stderr_has("cannot make nscompose's folders");
    assert!(!images(&stack).exists());
}
