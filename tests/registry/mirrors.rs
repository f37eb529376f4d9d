//! Other places that have the same.

use nscompose::model::Digest;

use super::{
    fake::{Fake, Reply, ranged},
    fixture::{Client, Layout, name, noise, wait},
    server::Server,
};
use crate::support::{Need, free_port, needs};

#[test]
fn mirrors_are_asked_in_order_and_the_registry_last() {
    needs!(Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, layout) = (Server::plain(), Layout::new(200_000));
    server.put(layout.path(), "team/app:1", None);
    let down = free_port();
    let empty = Fake::new(|_| Reply::new(404, ""));
    // Nobody answers for the registry itself, so a mirror it must have been.
    let client = Client::new(&format!(
        "registries: {{reg.example: {{mirrors: ['http://127.0.0.1:{down}', 'http://{}', '{}']}}}}",
        empty.host(),
        server.url()
    ));
    let image = "reg.example/team/app:1";
    wait(async {
        let fetched = client.registry.manifest(&name(image)).await.unwrap();
        assert_eq!(fetched.digest, Digest::of(&layout.manifest));
        assert!(client.fetch(image, &layout.layer_digest(), layout.layer.len()).await.unwrap() == layout.layer);
    });
    assert_eq!(
        client.events(),
        [format!(
            "mirror 127.0.0.1:{down} of reg.example is left out: cannot connect to \
             http://127.0.0.1:{down}/v2/team/app/manifests/1: connection refused"
        )],
        "once, and not for a mirror that does not have it"
    );
    assert_eq!(empty.requests().len(), 2);
}

#[test]
fn without_a_mirror_that_works_the_registry_is_asked() {
    let own = Fake::new(|_| Reply::new(200, r#"{"schemaVersion":2}"#));
    let refusing = Fake::new(|_| Reply::new(403, ""));
    let client = Client::new(&format!("registries: {{'{}': {{mirrors: ['http://{}']}}}}", own.host(), refusing.host()));
    let image = name(&format!("{}/app", own.host()));
    wait(client.registry.manifest(&image)).unwrap();
    wait(client.registry.manifest_digest(&image)).unwrap();
    assert_eq!(refusing.requests().len(), 1, "it is asked no more");
    assert_eq!(client.events().len(), 1);
}

#[test]
fn a_mirror_that_breaks_again_and_again_is_left_for_the_registry() {
    let blob = noise(50_000);
    let digest = Digest::of(&blob);
    let (served, cut) = (blob.clone(), blob.clone());
    let own = Fake::new(move |request| ranged(&served, request));
    let breaking = Fake::new(move |request| ranged(&cut, request).cut(1_000));
    let client = Client::new(&format!("registries: {{'{}': {{mirrors: ['http://{}']}}}}", own.host(), breaking.host()));
    let seen = wait(client.fetch(&format!("{}/app", own.host()), &digest, blob.len())).unwrap();
    assert!(seen == blob);
    assert_eq!((breaking.requests().len(), own.requests().len()), (3, 1));
    assert_eq!(own.requests()[0].range(), Some(3_000));
}

#[test]
fn a_mirror_may_have_its_images_below_a_path() {
    let mirror = Fake::new(|_| Reply::new(200, r#"{"schemaVersion":2}"#));
    let client = Client::new(&format!("registries: {{docker.io: {{mirrors: ['http://{}/hub/']}}}}", mirror.host()));
    wait(client.registry.manifest(&name("nginx"))).unwrap();
    assert_eq!(mirror.lines(), ["GET /v2/hub/library/nginx/manifests/latest"]);
}
