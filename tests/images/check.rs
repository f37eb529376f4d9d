//! Damage in the store: found, named, and put right.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use super::{
    archive::Archive,
    made::{Layout, Made, assert_whole, store},
    server::Server,
};
use crate::support::{Need, Output, Stack, needs};

/// A registry with `app`, which is here.
fn place() -> (Server, Layout, Stack, String) {
    let server = Server::plain();
    let layer = Archive::new().folder("etc").file("etc/one", "one").file("etc/two", "two").symlink("link", "etc/one");
    let image = Made::busybox().gzip(layer).write();
    server.put(image.path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n"));
    let _ = stack.run(&["pull", &name]).success();
    assert_whole(&stack);
    (server, image, stack, name)
}

/// Damage is found and said to be of this image.
#[track_caller]
fn found(stack: &Stack, name: &str, what: &str) -> Output {
    let output = stack.run(&["images", "--check"]).code(1).stderr_has("damaged").stderr_has(name);
    output.stderr_has(what).stderr_has("--repair")
}

#[test]
fn an_altered_file_of_a_layer_is_found_and_put_right() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, image, stack, name) = place();
    drop(server);
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 9] = [
        ("/etc/one", |layer| fs::write(layer.join("etc/one"), "0ne").unwrap()),
        ("/etc/one", |layer| {
            // With its old time, and of its old size.
            let path = layer.join("etc/one");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "0ne").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }),
        ("/etc/two is missing", |layer| fs::remove_file(layer.join("etc/two")).unwrap()),
        ("/etc/more is too much", |layer| fs::write(layer.join("etc/more"), "").unwrap()),
        ("/etc/two", |layer| fs::set_permissions(layer.join("etc/two"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("/link", |layer| {
            fs::remove_file(layer.join("link")).unwrap();
            symlink("etc/two", layer.join("link")).unwrap();
        }),
        ("/etc is missing", |layer| fs::rename(layer.join("etc"), layer.with_file_name("gone")).unwrap()),
        ("it is marked to hide", |layer| fs::write(layer.with_extension("opaque"), "").unwrap()),
        ("it is not there", |layer| fs::remove_dir_all(layer).unwrap()),
    ];
    for (what, harm) in harms {
        harm(&store(&stack, "layers").join(image.diff_ids[1].hex()));
        found(&stack, &name, what);
        let _ = stack.run(&["images", "--check", "--repair"]).code(1).stderr_has(what);
        assert_whole(&stack);
    }
    stack.up();
    assert_eq!(stack.sh("web", "cat /link /etc/two"), "onetwo");
}

#[test]
fn a_damaged_blob_is_found_and_comes_again() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (_server, image, stack, name) = place();
    for digest in [&image.layers[1], &image.id, &image.manifest] {
        let harms: [fn(&Path); 3] = [
            |blob| {
                let mut bytes = fs::read(blob).unwrap();
                bytes[20] ^= 1;
                fs::write(blob, bytes).unwrap();
            },
            |blob| fs::write(blob, "").unwrap(),
            |blob| fs::remove_file(blob).unwrap(),
        ];
        for harm in harms {
            harm(&store(&stack, "blobs").join(digest.hex()));
            found(&stack, &name, "");
            let _ = stack.run(&["images", "--check", "--repair"]).code(1).stderr_has("nscompose pull");
            let _ = stack.run(&["pull", &name]).success();
            assert_whole(&stack);
        }
    }
    stack.up();
    assert_eq!(stack.sh("web", "cat /link"), "one");
}

#[test]
fn up_brings_again_what_is_damaged_beyond_running() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (_server, image, stack, _) = place();
    fs::remove_dir_all(store(&stack, "layers").join(image.diff_ids[1].hex())).unwrap();
    stack.up();
    assert_eq!(stack.sh("web", "cat /link"), "one");
    assert_whole(&stack);
}

#[test]
fn what_a_container_runs_is_not_taken_away_by_a_repair() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (_server, image, stack, name) = place();
    stack.up();
    let blob = store(&stack, "blobs").join(image.layers[1].hex());
    fs::write(&blob, "damaged").unwrap();
    let file = store(&stack, "layers").join(image.diff_ids[0].hex()).join("etc/passwd");
    fs::write(&file, "damaged").unwrap();
    let _ = stack.run(&["images", "--check", "--repair"]).code(1).stderr_has(&name);
    assert!(blob.exists() && file.exists());
    assert_eq!(stack.sh("web", "cat /link"), "one");
    stack.down();
    let _ = stack.run(&["images", "--check", "--repair"]).code(1).stderr_has(&name);
    let _ = stack.run(&["pull", &name]).success();
    assert_whole(&stack);
}

#[test]
fn a_name_that_cannot_be_read_is_found_and_taken_away() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (_server, _, stack, name) = place();
    let _ = stack.run(&["tag", &name, "mine:1"]).success();
    let file = super::made::listed(&stack, "names").remove(0);
    fs::write(store(&stack, "names").join(&file), "{").unwrap();
    let _ = stack.run(&["images"]).failure().stderr_has(&file).stderr_has("`nscompose images --check`");
    found(&stack, &file, "of an image");
    let _ = stack.run(&["images", "--check", "--repair"]).code(1).stderr_has(&file);
    assert_whole(&stack);
    assert_eq!(super::made::rows(&stack).len(), 1);
    let _ = stack.run(&["pull", &name]).success();
    assert_whole(&stack);
}

#[test]
fn layers_of_a_container_stay_whatever_is_damaged() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (_server, image, stack, name) = place();
    stack.up();
    fs::write(store(&stack, "blobs").join(image.manifest.hex()), "damaged").unwrap();
    let _ = stack.run(&["image", "prune", "-a"]).success();
    let _ = stack.run(&["images", "--check", "--repair"]).code(1);
    let _ = stack.run(&["image", "prune"]).success();
    assert_eq!(super::made::listed(&stack, "layers").len(), 2);
    assert_eq!(stack.sh("web", "cat /link"), "one");
    let _ = stack.run(&["pull", &name]).success();
    assert_whole(&stack);
    let _ = stack.up().stderr_has("nothing to do");
}
