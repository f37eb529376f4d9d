//! Registries that ask for a token of another server.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use nscompose::{image::registry::RegistryError, model::Digest};

use super::{
    fake::{Fake, Reply, Request, ranged},
    fixture::{Client, name, noise, shown, wait},
};

/// A registry and its token server in one. Each token is good for so many requests.
fn registry(blob: Vec<u8>, uses: usize, cut: usize, password: Option<&'static str>) -> Fake {
    let port = Arc::new(Mutex::new(0));
    let (given, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let own = port.clone();
    let fake = Fake::new(move |request: &Request| {
        let host = format!("127.0.0.1:{}", own.lock().unwrap());
        let authorization = request.headers.get("authorization").cloned().unwrap_or_default();
        if request.path.starts_with("/token") {
            if password.is_some_and(|password| authorization != password && !request.body.contains(password)) {
                return Reply::new(401, r#"{"details":"incorrect username or password"}"#);
            }
            let number = given.fetch_add(1, Ordering::Relaxed) + 1;
            left.store(uses, Ordering::Relaxed);
            return Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        let valid = format!("Bearer t{}", given.load(Ordering::Relaxed));
        let used_up = authorization != valid
            || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err();
        if used_up {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="the registry",scope="x""#);
            return Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
                .header("WWW-Authenticate", challenge);
        }
        match request.path.contains("/blobs/") {
            true => {
                let reply = ranged(&blob, request);
                let rest = blob.len() - request.range().unwrap_or(0);
                if rest > cut { reply.cut(cut) } else { reply }
            }
            false => Reply::new(200, r#"{"schemaVersion":2}"#),
        }
    });
    *port.lock().unwrap() = fake.port;
    fake
}

#[test]
fn a_token_is_had_and_renewed_in_the_middle_of_a_pull() {
    let blob = noise(250_000);
    let digest = Digest::of(&blob);
    let server = registry(blob.clone(), 2, 100_000, None);
    let client = Client::new("");
    let image = format!("{}/team/app", server.host());
    wait(async {
        client.registry.manifest(&name(&image)).await.unwrap();
        let seen = client.fetch(&image, &digest, blob.len()).await.unwrap();
        assert!(seen == blob);
    });
    let token = "GET /token?service=the+registry&scope=repository%3Ateam%2Fapp%3Apull";
    let (manifest, layer) =
        ("GET /v2/team/app/manifests/latest".to_owned(), format!("GET /v2/team/app/blobs/{digest}"));
    // The second request for the layer finds the token expired.
    assert_eq!(server.lines(), [&manifest, token, &manifest, &layer, &layer, token, &layer, &layer]);
    assert_eq!(server.requests()[6].range(), Some(100_000));
}

fn with(text: &str, server: &Fake) -> Client {
    Client::with("", |access, folder| {
        fs::write(folder.join("auth.json"), text.replace("HOST", &server.host())).unwrap();
        access.credentials.files = vec![folder.join("auth.json")];
    })
}

#[test]
fn a_token_is_had_for_a_password() {
    let server = registry(Vec::new(), 9, 0, Some("Basic dTpw"));
    let image = name(&format!("{}/app", server.host()));
    let client = with(r#"{"auths": {"HOST": {"auth": "dTpw"}}}"#, &server);
    wait(client.registry.manifest(&image)).unwrap();
    wait(client.registry.manifest(&image)).unwrap();
    let tokens = server.lines().iter().filter(|line| line.contains("/token")).count();
    assert_eq!(tokens, 1, "it is kept");

    let wrong = with(r#"{"auths": {"HOST": {"auth": "dTp3cm9uZw=="}}}"#, &server);
    let error = wait(wrong.registry.manifest(&image)).unwrap_err();
    let text = shown(&error);
    assert!(text.contains("does not let `u` (from ") && text.contains(": incorrect username or password\n"), "{text}");
}

#[test]
fn a_token_is_had_for_an_identity_token() {
    let server = registry(Vec::new(), 9, 0, Some("refresh_token=idt"));
    let client = with(r#"{"auths": {"HOST": {"identitytoken": "idt"}}}"#, &server);
    wait(client.registry.manifest(&name(&format!("{}/app", server.host())))).unwrap();
    let requests = server.requests();
    let asked = requests.iter().find(|request| request.path == "/token").unwrap();
    assert_eq!(
        (asked.method.as_str(), asked.body.as_str()),
        (
            "POST",
            "grant_type=refresh_token&client_id=nscompose&scope=repository%3Aapp%3Apull&refresh_token=idt&service=the+registry"
        )
    );
}

#[test]
fn a_registry_that_is_never_content_is_not_asked_forever() {
    let server = registry(Vec::new(), 0, 0, None);
    let error = wait(Client::new("").registry.manifest(&name(&format!("{}/app", server.host())))).unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 3);
    let text = shown(&error);
    assert!(text.contains("somebody without credentials") && text.contains("is `app` spelled right?"), "{text}");
}

#[test]
fn secrets_are_not_shown_to_other_hosts() {
    let blob = noise(1_000);
    let digest = Digest::of(&blob);
    let elsewhere = {
        let blob = blob.clone();
        Fake::new(move |request| ranged(&blob, request))
    };
    let target = format!("http://{}/bucket?signature=x", elsewhere.host());
    let server = Fake::new(move |request| match request.headers.get("authorization") {
        None => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=x"),
        Some(_) => Reply::new(307, "").header("Location", target.as_str()),
    });
    let client = with(r#"{"auths": {"HOST": {"auth": "dTpw"}}}"#, &server);
    let seen = wait(client.fetch(&format!("{}/app", server.host()), &digest, blob.len())).unwrap();
    assert!(seen == blob);
    assert_eq!(elsewhere.lines(), ["GET /bucket?signature=x"]);
    assert_eq!(elsewhere.requests()[0].headers.get("authorization"), None);
}
