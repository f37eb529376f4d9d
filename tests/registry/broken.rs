//! Downloads that break off, and servers that give something else than was asked for.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use nscompose::{image::registry::RegistryError, model::Digest};

use super::{
    fake::{Fake, Reply, cutting_proxy, ranged},
    fixture::{Client, Layout, is_mismatch, name, noise, shown, wait},
    server::Server,
};
use crate::support::{Need, needs};

#[test]
fn a_download_that_breaks_goes_on_and_the_sink_sees_each_byte_once() {
    needs!(Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, layout) = (Server::plain(), Layout::new(9_000_000));
    server.put(layout.path(), "app:1", None);
    // Each connection gets less than half; since each comes forward, none of them counts against the attempts.
    let port = cutting_proxy(server.port, 1_500_000);
    let client = Client::new("");
    let image = format!("127.0.0.1:{port}/app:1");
    let seen = wait(client.fetch(&image, &layout.layer_digest(), layout.layer.len())).unwrap();
    assert!(seen == layout.layer);
    let events = client.events();
    assert!(events.len() > 4, "more often than there are attempts: {events:?}");
    assert!(events.iter().all(|event| event.contains("(attempt 2 of 4)")), "{events:?}");
}

#[test]
fn what_a_process_before_has_left_is_gone_on_with() {
    let blob = noise(500_000);
    let digest = Digest::of(&blob);
    let served = blob.clone();
    let server = Fake::new(move |request| ranged(&served, request));
    let client = Client::new("");
    let mut writer = client.writer(&digest);
    writer.write(&blob[..300_000]).unwrap();
    drop(writer);
    let seen = wait(client.fetch(&format!("{}/app", server.host()), &digest, blob.len())).unwrap();
    assert!(seen == blob, "the sink sees what was there already too");
    assert_eq!(server.requests()[0].range(), Some(300_000));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_again() {
    let blob = noise(400_000);
    let digest = Digest::of(&blob);
    let served = blob.clone();
    let first = AtomicUsize::new(0);
    let server = Fake::new(move |request| match request.path.as_str() {
        "/v2/" => Reply::new(200, ""),
        _ if first.fetch_add(1, Ordering::Relaxed) == 0 => Reply::new(200, served.as_slice()).cut(250_000),
        _ => Reply::new(200, served.as_slice()),
    });
    let client = Client::new("");
    let seen = wait(client.fetch(&format!("{}/app", server.host()), &digest, blob.len())).unwrap();
    assert!(seen == blob);
    assert_eq!(client.events().len(), 1);
}

#[test]
fn a_server_that_refuses_a_range_is_asked_for_all() {
    let blob = noise(100_000);
    let digest = Digest::of(&blob);
    let served = blob.clone();
    let server = Fake::new(move |request| match request.range() {
        Some(_) => Reply::new(416, ""),
        None => Reply::new(200, served.as_slice()),
    });
    let client = Client::new("");
    client.writer(&digest).write(&blob[..5]).unwrap();
    assert!(wait(client.fetch(&format!("{}/app", server.host()), &digest, blob.len())).unwrap() == blob);
}

#[test]
fn one_that_never_comes_forward_ends() {
    let server = Fake::new(|request| match request.path.as_str() {
        "/v2/" => Reply::new(200, ""),
        _ => Reply::new(503, "out of order"),
    });
    let client = Client::new("");
    let error = wait(client.fetch(&format!("{}/app", server.host()), &Digest::of(b"x"), 1)).unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 503, .. }), "{error:?}");
    assert_eq!((server.requests().len(), client.events().len()), (4, 3));

    let stalling = Fake::new(|request| match request.path.as_str() {
        "/v2/" => Reply::new(200, ""),
        _ => Reply::new(200, [0; 100]).stall(0),
    });
    let client = Client::new("");
    let error = wait(client.fetch(&format!("{}/app", stalling.host()), &Digest::of(b"x"), 100)).unwrap_err();
    assert!(matches!(error, RegistryError::Silent { .. }), "{error:?}");
}

#[test]
fn more_bytes_than_promised_are_refused() {
    let digest = Digest::of(b"x");
    // Said in the head, and not said at all.
    let said = Fake::new(|_| Reply::new(200, vec![0; 2_000]));
    let endless = Fake::new(|request| match request.path.as_str() {
        "/v2/" => Reply::new(200, ""),
        _ => {
            let mut body = b"fff\r\n".to_vec();
            body.extend_from_slice(&[0; 0xfff]);
            body.extend_from_slice(b"\r\n0\r\n\r\n");
            Reply::new(200, body).header("Transfer-Encoding", "chunked")
        }
    });
    for server in [said, endless] {
        let client = Client::new("");
        let error = wait(client.fetch(&format!("{}/app", server.host()), &digest, 1_000)).unwrap_err();
        assert!(matches!(error, RegistryError::TooLong { limit: 1_000, .. }), "{error:?}");
        assert_eq!(server.requests().len(), 1, "once is enough");
    }

    let client = Client::new("limits: {max_layer_size: 1K}");
    let error = wait(client.fetch("127.0.0.1:1/app", &digest, 1_025)).unwrap_err();
    assert!(shown(&error).contains("has 1025 bytes; the settings allow 1024\nhint: "), "{}", shown(&error));
}

#[test]
fn content_with_another_digest_is_thrown_away_and_not_asked_for_again() {
    let server = Fake::new(|_| Reply::new(200, "wrong"));
    let client = Client::new("");
    let digest = Digest::of(b"right");
    let error = wait(client.fetch(&format!("{}/app", server.host()), &digest, 5)).unwrap_err();
    assert!(is_mismatch(&error), "{error:?}");
    assert_eq!(server.requests().len(), 1);
    assert!(!client.store().has_blob(&digest));
    assert_eq!(client.writer(&digest).written(), 0);
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    let server = Fake::new(|_| Reply::new(200, r#"{"schemaVersion":2}"#));
    let digest = Digest::of(b"another");
    let client = Client::new("");
    let error = wait(client.registry.manifest(&name(&format!("{}/app@{digest}", server.host())))).unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error:?}");
    assert!(error.to_string().contains(digest.as_str()), "{error}");

    let lying = Fake::new(move |_| Reply::new(200, "{}").header("Docker-Content-Digest", digest.as_str()));
    let error = wait(client.registry.manifest(&name(&format!("{}/app", lying.host())))).unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error:?}");
}

#[test]
fn a_manifest_without_an_end_is_not_read_to_its_end() {
    let long = Fake::new(|_| Reply::new(200, vec![b' '; 5 << 20]));
    let client = Client::new("");
    let error = wait(client.registry.manifest(&name(&format!("{}/app", long.host())))).unwrap_err();
    assert!(matches!(error, RegistryError::TooLong { .. }), "{error:?}");
}

#[test]
fn a_digest_that_is_not_in_the_head_is_computed() {
    let server = Fake::new(|request| match request.method.as_str() {
        "HEAD" => Reply::new(200, ""),
        _ => Reply::new(200, "{}"),
    });
    let client = Client::new("");
    let digest = wait(client.registry.manifest_digest(&name(&format!("{}/app", server.host())))).unwrap();
    assert_eq!(digest, Digest::of(b"{}"));
}

#[test]
fn a_sink_that_fails_ends_the_download() {
    let blob = noise(1_000);
    let served = blob.clone();
    let server = Fake::new(move |request| ranged(&served, request));
    let client = Client::new("");
    let mut writer = client.writer(&Digest::of(&blob));
    let sink = async |_| Err(std::io::Error::other("no such layer"));
    let image = name(&format!("{}/app", server.host()));
    let error =
        wait(nscompose::image::registry::download(&client.registry, &image, 1_000, &mut writer, sink)).unwrap_err();
    assert!(matches!(error, RegistryError::Sink(_)), "{error:?}");
    assert!(fs::metadata(client.folder.path().join("images/partial").join(Digest::of(&blob).hex())).is_ok());
}

#[test]
fn the_signature_of_an_address_is_in_no_message() {
    let server = Fake::new(|request| match request.path.split_once('?') {
        None if request.path.contains("/blobs/") => {
            Reply::new(307, "").header("Location", "/store/layer?X-Amz-Signature=c0ffee")
        }
        None => Reply::new(200, ""),
        Some(_) => Reply::new(503, ""),
    });
    let client = Client::new("");
    let error = wait(client.fetch(&format!("{}/app", server.host()), &Digest::of(b"x"), 1)).unwrap_err();
    let all = shown(&error) + &client.events().concat();
    assert!(all.contains("/store/layer answers 503") && !all.contains("c0ffee"), "{all}");
}
