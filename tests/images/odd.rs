//! Images that are unusual.

use serde_json::json;

use super::{
    archive::Archive,
    made::{Made, assert_nothing_kept, assert_whole, listed, rows},
    server::{Server, skopeo},
};
use crate::support::{Need, Run, Stack, needs};

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
fn an_image_for_other_machines_is_said_to_be_that() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("curl"));
    let server = Server::plain();
    let other = Made::busybox().platform("linux/s390x").write();
    server.put(other.path(), "app:s390x", None);
    let size = std::fs::metadata(other.path().join("blobs/sha256").join(other.manifest.hex())).unwrap().len();
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": other.manifest.as_str(), "size": size,
            "platform": {"os": "linux", "architecture": "s390x"},
        }],
    });
    let stack = Stack::new(&format!("services:\n  web: {{image: '{}/app:all'}}\n", server.host()));
    stack.file("index.json", &index.to_string());
    let _ = Run::new("curl")
        .args([
            "-sSf",
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/vnd.oci.image.index.v1+json",
            "--data-binary",
            "@index.json",
        ])
        .arg(format!("{}/v2/app/manifests/all", server.url()))
        .dir(stack.path(""))
        .run()
        .success();
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
