//! Images of ours in registries of others.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use nscompose::{
    image::{document::Document, registry::Pushed},
    model::Digest,
};

use super::{
    fake::{Fake, Reply},
    fixture::{Client, Layout, name, shown, wait},
    server::{Options, Server, skopeo},
};
use crate::support::{Need, needs};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes all of a layout; says how its layer came there.
async fn push(client: &Client, layout: &Layout, image: &str, from: Option<&str>) -> Pushed {
    let from = from.map(name);
    let image = name(image);
    let Ok(Document::Manifest(manifest)) = Document::parse(&layout.manifest, None) else { panic!("a manifest") };
    let config: Digest = manifest.config().digest().to_string().parse().unwrap();
    client.registry.push_blob(&image, &config, &layout.blob(&config), None, |_| {}).await.unwrap();
    let layer = layout.layer_digest();
    let sent = Arc::new(AtomicI64::new(0));
    let counter = sent.clone();
    let progress = move |bytes| {
        counter.fetch_add(bytes, Ordering::Relaxed);
    };
    let pushed =
        client.registry.push_blob(&image, &layer, &layout.blob(&layer), from.as_ref(), progress).await.unwrap();
    let expected = if pushed == Pushed::Uploaded { layout.layer.len() } else { 0 };
    assert_eq!(sent.load(Ordering::Relaxed), expected as i64);
    let digest = client.registry.push_manifest(&image, &layout.manifest, MANIFEST).await.unwrap();
    assert_eq!(digest, Digest::of(&layout.manifest));
    pushed
}

#[test]
fn what_is_pushed_others_can_pull() {
    needs!(Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, layout) = (Server::plain(), Layout::new(3_000_000));
    let client = Client::new("");
    let host = server.host();
    wait(async {
        let (one, two) = (format!("{host}/team/app:1"), format!("{host}/other:2"));
        assert!(!client.registry.has_blob(&name(&one), &layout.layer_digest()).await.unwrap());
        assert_eq!(push(&client, &layout, &one, None).await, Pushed::Uploaded);
        assert!(client.registry.has_blob(&name(&one), &layout.layer_digest()).await.unwrap());
        assert_eq!(push(&client, &layout, &one, None).await, Pushed::Present);
        assert_eq!(push(&client, &layout, &two, Some(&one)).await, Pushed::Mounted);
    });
    for image in ["team/app:1", "other:2"] {
        let target = tempfile::tempdir().unwrap();
        let copy = skopeo()
            .args(["copy", "--preserve-digests", "--src-tls-verify=false"])
            .arg(format!("docker://{host}/{image}"));
        copy.arg(format!("oci:{}:it", target.path().display())).run().success();
        let pulled = target.path().join("blobs/sha256").join(layout.layer_digest().hex());
        assert!(std::fs::read(pulled).unwrap() == layout.layer);
    }
}

#[test]
fn a_registry_may_take_its_time_with_what_it_got() {
    let server = Fake::new(|request| match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").header("Location", "/upload?state=x"),
        "PUT" => {
            // Longer than a registry may be silent otherwise.
            std::thread::sleep(std::time::Duration::from_millis(1_500));
            Reply::new(201, "")
        }
        _ => Reply::new(200, ""),
    });
    let (client, layout) = (Client::new(""), Layout::new(100));
    let digest = layout.layer_digest();
    let image = name(&format!("{}/app", server.host()));
    let pushed = wait(client.registry.push_blob(&image, &digest, &layout.blob(&digest), None, |_| {})).unwrap();
    assert_eq!((pushed, client.events().len()), (Pushed::Uploaded, 0));
    let put = format!("PUT /upload?state=x&digest={}", digest.as_str().replace(':', "%3A"));
    assert_eq!(server.lines().last(), Some(&put));
}

#[test]
fn whoever_may_not_push_is_told() {
    needs!(Need::Program("docker-registry"), Need::Program("htpasswd"));
    let server = Server::start(&Options { tls: false, account: Some(("alice", "secret")) });
    let (client, layout) = (Client::new(""), Layout::new(10));
    let image = name(&format!("{}/app", server.host()));
    let digest = layout.layer_digest();
    let error = wait(client.registry.push_blob(&image, &digest, &layout.blob(&digest), None, |_| {})).unwrap_err();
    let text = shown(&error);
    assert!(text.contains("does not let somebody without credentials push to `app`"), "{text}");
}
