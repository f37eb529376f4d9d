//! Images that are unusual.

use std::fs;

use nscompose::model::Digest;
use serde_json::{Value, json};

use super::{
    archive::Archive,
    made::{Layout, Made, assert_nothing_kept, assert_whole, listed, rows},
    server::{Server, skopeo},
};
use crate::support::{Need, Run, Stack, needs, program};

#[test]
fn an_image_of_very_many_layers_is_pulled_and_runs() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let mut image = Made::busybox();
    for i in 1..140 {
        image = image.layer(Archive::new().file("who", i.to_string()).file(&format!("only/{i}"), ""));
    }
    server.put(image.write().path(), "app", None);
    let stack = Stack::new(&format!("services:\n  web: {{image: '{}/app'}}\n", server.host()));
    stack.up();
    assert_eq!(stack.sh("web", "cat /who; ls /only | grep -c ."), "139139");
    assert_eq!(rows(&stack)[0].layers, 140);
    stack.sh("web", "echo mine > /only/1; rm -r /only/2");
    let _ = stack.run(&["commit", "web", "mine"]).success();
    stack.down();
    stack.file(
        "other.yaml",
        &format!("name: {}\nservices: {{web: {{image: mine, pull_policy: never}}}}", stack.project()),
    );
    let _ = stack.run(&["up", "-d", "other.yaml"]).success();
    assert_eq!(stack.sh("web", "cat /only/1; ls /only | grep -c ."), "mine\n138");
}

#[test]
fn an_image_may_have_a_layer_more_than_once() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let (one, two) = (Archive::new().file("who", "one").file("one", ""), Archive::new().file("who", "two"));
    // Empty layers, too, as every step of a build that changes nothing makes one.
    let image = Made::busybox().gzip(one.clone()).gzip(two).gzip(Archive::new()).gzip(one).gzip(Archive::new());
    let image = image.write();
    server.put(image.path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n"));
    stack.up();
    assert_eq!(stack.sh("web", "cat /who"), "one");
    assert_eq!((listed(&stack, "layers").len(), listed(&stack, "blobs").len()), (4, 6));
    assert_whole(&stack);
    let _ = stack.run(&["save", "-o", "app.tar", &name]).success();
    stack.down();
    let _ = stack.run(&["rmi", &name]).success();
    let _ = stack.run(&["load", "-i", "app.tar"]).success();
    assert_eq!(rows(&stack)[0].layers, 6);
    stack.up();
    assert_eq!(stack.sh("web", "cat /who"), "one");
}

#[test]
fn a_layer_that_hides_all_below_it_does_so_whoever_may_look_into_it() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    // Its root is closed, and somebody else's than who runs it has a look.
    let mut opaque = Archive::new().mode(0o700).owner(1000, 1000).folder("./").file(".wh..wh..opq", "");
    opaque = opaque.folder("bin").mode(0o755).file("bin/busybox", fs::read(program("busybox").unwrap()).unwrap());
    for applet in ["sh", "sleep", "ls", "stat"] {
        opaque = opaque.symlink(&format!("bin/{applet}"), "busybox");
    }
    server.put(Made::busybox().gzip(opaque).write().path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n"));
    // It is pulled the first time, by a process that may look into everything, and only found the second time.
    for _ in 0..2 {
        stack.up();
        // What the layer below has is `etc`, and what is there all the same is made for the container.
        assert_eq!(stack.sh("web", "ls -d /bin /etc/passwd 2> /dev/null || true"), "/bin");
        // Who has a single id has all files.
        let single = stack.sh("web", "while read x; do echo $x; done < /proc/self/uid_map").ends_with(" 1");
        let owner = if single { "0 0 700" } else { "1000 1000 700" };
        assert_eq!(stack.sh("web", "stat -c '%u %g %a' /"), owner);
        stack.down();
    }
    assert_whole(&stack);
    let _ = stack.run(&["rmi", &name]).success();
    assert_nothing_kept(&stack);
}

#[test]
fn an_image_for_other_machines_is_said_to_be_that() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("curl"));
    let server = Server::plain();
    let other = Made::busybox().platform("linux/s390x").write();
    server.put(other.path(), "app:s390x", None);
    let stack = Stack::new(&format!("services:\n  web: {{image: '{}/app:all'}}\n", server.host()));
    put_index(&stack, &server, "app", &[("s390x", &other)]);
    let name = format!("{}/app:all", server.host());
    for args in [&["pull", name.as_str()][..], &["up", "-d"]] {
        let refused = stack.run(args).failure().stderr_has(&format!("cannot pull `{name}`"));
        let _ = refused.stderr_has("linux/s390x").stderr_has(&nscompose::model::Platform::host().to_string());
    }
    assert_nothing_kept(&stack);
    // It may be had when it is asked for, beside that of this machine.
    let _ = stack.run(&["pull", "--platform", "linux/s390x", &name]).success();
    assert_eq!(rows(&stack)[0].platform.as_deref(), Some("linux/s390x"));
}

#[test]
fn layers_that_zstd_has_compressed_are_taken() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let stack = Stack::new(&format!("services:\n  web: {{image: '{}/app'}}\n", server.host()));
    let layer = Archive::new().file("hello", "world").file("large", vec![b'x'; 3_000_000]);
    let image = Made::busybox().gzip(layer).write();
    let from = format!("oci:{}:it", image.path().display());
    let to = format!("docker://{}/app", server.host());
    let packed = ["copy", "--quiet", "--dest-compress-format=zstd", "--dest-tls-verify=false", &from, &to];
    let _ = skopeo().args(packed).run().success();
    stack.up();
    assert_eq!(stack.sh("web", "cat /hello; stat -c %s /large"), "world3000000");
    assert_whole(&stack);
}

#[test]
fn of_an_image_for_several_machines_that_for_this_one_is_taken() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("curl"));
    let server = Server::plain();
    let other = Made::busybox().layer(Archive::new().file("for", "s390x")).platform("linux/s390x").write();
    let own = Made::busybox().layer(Archive::new().file("for", "us")).write();
    server.put(other.path(), "app:other", None);
    server.put(own.path(), "app:own", None);
    let host = nscompose::model::Platform::host().to_string();
    let architecture = host.split('/').nth(1).unwrap();
    let stack = Stack::new(&format!("services:\n  web: {{image: '{}/app:all'}}\n", server.host()));
    let index = put_index(&stack, &server, "app", &[("s390x", &other), (architecture, &own)]);
    stack.up();
    assert_eq!(stack.sh("web", "cat /for"), "us");
    let row = rows(&stack).remove(0);
    assert_eq!((row.id.as_str(), row.digest.as_deref()), (own.id.as_str(), Some(index.as_str())));
    let name = format!("{}/app:all", server.host());
    let _ = stack.run(&["pull", &name]).success().stderr_has("is up to date");
    // Both may be here under the one name.
    let _ = stack.run(&["pull", "--platform", "linux/s390x", &name]).success();
    assert_eq!(rows(&stack).len(), 2);
    assert_whole(&stack);
    let _ = stack.up().stderr_has("nothing to do");
    // It goes on under the digest that the registry knows.
    let by_digest = format!("{}/app@{index}", server.host());
    stack.file("stack.yaml", &format!("name: {}\nservices: {{web: {{image: '{by_digest}'}}}}", stack.project()));
    stack.up();
    assert_eq!(stack.sh("web", "cat /for"), "us");
}

/// Puts an index of images that the registry has to `NAME:all`, and says its digest.
fn put_index(stack: &Stack, server: &Server, name: &str, images: &[(&str, &Layout)]) -> Digest {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(architecture, image)| {
            let size = std::fs::metadata(image.path().join("blobs/sha256").join(image.manifest.hex())).unwrap().len();
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.manifest.as_str(),
                "size": size, "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string();
    stack.file("index.json", &index);
    let header = format!("Content-Type: {kind}");
    let put = Run::new("curl").args(["-sSf", "-X", "PUT", "-H", &header, "--data-binary", "@index.json"]);
    let url = format!("{}/v2/{name}/manifests/all", server.url());
    let _ = put.arg(url).dir(stack.path("")).run().success();
    Digest::of(index.as_bytes())
}
