//! Who gets in: nobody in particular, those with a password, those who trust the right authority.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use nscompose::{
    image::{
        document::Document,
        registry::{RegistryError, TlsMistake},
    },
    model::Digest,
};

use super::{
    fake::{Fake, Reply},
    fixture::{Client, Layout, name, shown, wait},
    server::{Options, Server},
};
use crate::support::{Need, free_port, needs};

#[test]
fn an_image_for_everybody_is_pulled() {
    needs!(Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, layout) = (Server::plain(), Layout::new(300_000));
    server.put(layout.path(), "team/app:1", None);
    let client = Client::new("");
    let image = format!("{}/team/app:1", server.host());
    wait(async {
        let fetched = client.registry.manifest(&name(&image)).await.unwrap();
        assert_eq!(fetched.digest, Digest::of(&layout.manifest));
        assert_eq!(fetched.bytes, layout.manifest);
        assert_eq!(fetched.media_type.as_deref(), Some("application/vnd.oci.image.manifest.v1+json"));
        assert!(matches!(Document::parse(&fetched.bytes, fetched.media_type.as_deref()), Ok(Document::Manifest(_))));
        assert_eq!(client.registry.manifest_digest(&name(&image)).await.unwrap(), fetched.digest);
        let exact = name(&image).at(fetched.digest.clone());
        assert_eq!(client.registry.manifest(&exact).await.unwrap().digest, fetched.digest);
        let seen = client.fetch(&image, &layout.layer_digest(), layout.layer.len()).await.unwrap();
        assert!(seen == layout.layer);
        assert!(client.events().is_empty(), "{:?}", client.events());
    });
}

#[test]
fn what_is_not_there_is_told_with_what_there_is() {
    needs!(Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, layout) = (Server::plain(), Layout::new(10));
    for tag in ["1.26", "1.27-alpine"] {
        server.put(layout.path(), &format!("team/app:{tag}"), None);
    }
    let client = Client::new("");
    let host = server.host();
    wait(async {
        let error = client.registry.manifest(&name(&format!("{host}/team/app:1.27-alpin"))).await.unwrap_err();
        assert_eq!(
            shown(&error),
            format!(
                "there is no image `{host}/team/app:1.27-alpin`: `{host}/team/app` has no tag `1.27-alpin`\n\
                 hint: did you mean `{host}/team/app:1.27-alpine`?\n\
                 hint: it has: 1.26, 1.27-alpine\n"
            )
        );
        let error = client.registry.manifest(&name(&format!("{host}/team/ap"))).await.unwrap_err();
        assert_eq!(
            shown(&error),
            format!(
                "there is no image `{host}/team/ap:latest`: {host} does not know it\n\
                 hint: is `{host}/team/ap` spelled right?\n"
            )
        );
        let digest = Digest::of(b"nothing");
        let error = client.fetch(&format!("{host}/team/app:1.26"), &digest, 7).await.unwrap_err();
        assert!(matches!(error, RegistryError::NoBlob { .. }), "{error}");
    });
}

#[test]
fn tls_is_trusted_with_the_right_authority_alone() {
    needs!(Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("openssl"));
    let server = Server::start(&Options { tls: true, account: None });
    let layout = Layout::new(100_000);
    server.put(layout.path(), "app:1", None);
    let host = server.host();
    let image = format!("{host}/app:1");
    let ca = server.folder().join("ca.pem");
    let pull = |client: &Client| wait(client.registry.manifest(&name(&image))).map(|fetched| fetched.digest);

    let trusting = Client::new(&format!("registries: {{'{host}': {{ca: {}}}}}", ca.display()));
    assert_eq!(pull(&trusting).unwrap(), Digest::of(&layout.manifest));
    let seen = wait(trusting.fetch(&image, &layout.layer_digest(), layout.layer.len())).unwrap();
    assert!(seen == layout.layer);

    // Loopback registries are insecure unless something else is said, and then TLS may show what it likes.
    assert!(pull(&Client::new("")).is_ok());

    let careful = format!("registries: {{'{host}': {{insecure: false}}}}");
    let error = pull(&Client::new(&careful)).unwrap_err();
    assert!(matches!(error, RegistryError::Tls { kind: TlsMistake::UnknownIssuer, .. }), "{error:?}");
    assert_eq!(
        shown(&error),
        format!(
            "no trusted connection to https://{host}/v2/app/manifests/1: nobody who is trusted here has signed its certificate\n\
             hint: name the certificate of who signed it in config.yaml: `registries: {{\"{host}\": {{ca: /path/ca.pem}}}}`\n\
             hint: or trust whoever answers: `registries: {{\"{host}\": {{insecure: true}}}}`\n"
        )
    );

    // As Docker and Podman have it.
    let with_folder = Client::with(&careful, |access, folder| {
        let certificates = folder.join("certs.d");
        fs::create_dir_all(certificates.join(&host)).unwrap();
        fs::copy(&ca, certificates.join(&host).join("ca.crt")).unwrap();
        access.certificates = vec![folder.join("not-there"), certificates];
    });
    assert_eq!(pull(&with_folder).unwrap(), Digest::of(&layout.manifest));

    let error = pull(&Client::new(&format!("registries: {{'{host}': {{ca: /nonexistent.pem}}}}"))).unwrap_err();
    assert!(shown(&error).contains("cannot use the certificates of /nonexistent.pem"), "{error}");
}

#[test]
fn plain_http_is_not_taken_for_tls() {
    let server = Fake::new(|_| Reply::new(404, ""));
    let client = Client::new(&format!("registries: {{'{}': {{insecure: false}}}}", server.host()));
    let error = wait(client.registry.manifest(&name(&format!("{}/app", server.host())))).unwrap_err();
    assert!(matches!(error, RegistryError::Tls { kind: TlsMistake::Plain, .. }), "{error:?}");
    assert!(shown(&error).contains("insecure: true"), "{}", shown(&error));
}

#[test]
fn a_password_is_needed_and_found() {
    needs!(Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("htpasswd"));
    let server = Server::start(&Options { tls: false, account: Some(("alice", "s3:cret")) });
    let layout = Layout::new(100_000);
    server.put(layout.path(), "team/app:1", Some("alice:s3:cret"));
    let host = server.host();
    let image = format!("{host}/team/app:1");
    let pull = |client: &Client| wait(client.registry.manifest(&name(&image))).map(|fetched| fetched.digest);
    let with = |text: String| {
        Client::with("", |access, folder| {
            fs::write(folder.join("docker.json"), text).unwrap();
            let helper = folder.join("docker-credential-vault");
            fs::write(&helper, "#!/bin/sh\necho '{\"Username\":\"alice\",\"Secret\":\"s3:cret\"}'\n").unwrap();
            fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
            access.credentials.files = vec![folder.join("docker.json")];
            access.credentials.search_path = folder.as_os_str().to_owned();
        })
    };

    // alice:s3:cret
    let right = with(format!(r#"{{"auths": {{"{host}": {{"auth": "YWxpY2U6czM6Y3JldA=="}}}}}}"#));
    assert_eq!(pull(&right).unwrap(), Digest::of(&layout.manifest));
    assert!(wait(right.fetch(&image, &layout.layer_digest(), layout.layer.len())).unwrap() == layout.layer);

    let helped = with(format!(r#"{{"credHelpers": {{"{host}": "vault"}}}}"#));
    assert_eq!(pull(&helped).unwrap(), Digest::of(&layout.manifest));

    let scoped = with(format!(
        r#"{{"auths": {{"{host}": {{"auth": "YWxpY2U6d3Jvbmc="}}, "{host}/team": {{"auth": "YWxpY2U6czM6Y3JldA=="}}}}}}"#
    ));
    assert_eq!(pull(&scoped).unwrap(), Digest::of(&layout.manifest));

    let wrong = with(format!(r#"{{"auths": {{"{host}": {{"auth": "YWxpY2U6d3Jvbmc="}}}}}}"#));
    let error = pull(&wrong).unwrap_err();
    let text = shown(&error);
    let file = wrong.folder.path().join("docker.json");
    let wanted = format!("{host} does not let `alice` (from {}) pull from `team/app`", file.display());
    assert!(text.starts_with(&wanted) && text.contains(&format!("`docker login {host}`")), "{text}");
    assert!(!text.contains("wrong"), "the password is nobody's business: {text}");

    let missing = with("{}".to_owned());
    let text = shown(&pull(&missing).unwrap_err());
    let file = missing.folder.path().join("docker.json");
    assert!(
        text.starts_with(&format!("{host} does not let somebody without credentials pull from `team/app`")),
        "{text}"
    );
    assert!(text.contains(&format!("there are no credentials for it in {}", file.display())), "{text}");

    let gone = with(format!(r#"{{"credHelpers": {{"{host}": "desktop"}}}}"#));
    let text = shown(&pull(&gone).unwrap_err());
    assert!(text.contains("there is no program `docker-credential-desktop`"), "{text}");
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let port = free_port();
    let error = wait(Client::new("").registry.manifest(&name(&format!("127.0.0.1:{port}/app")))).unwrap_err();
    assert!(matches!(error, RegistryError::Connect { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot connect to https://127.0.0.1:{port}/v2/: connection refused"));
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let proxy = format!("127.0.0.1:{}", free_port());
    let client = Client::with("", |access, _| access.proxies.https = Some(format!("http://me:secret@{proxy}")));
    let error = wait(client.registry.manifest(&name("registry.invalid/app"))).unwrap_err();
    let text = shown(&error);
    assert!(text.contains(&format!(" through the proxy `{proxy}`: connection refused")), "{text}");
    assert!(text.contains("HTTPS_PROXY") && !text.contains("secret"), "{text}");
}

#[test]
fn a_store_that_refuses_is_not_a_registry_to_log_in_to() {
    let store = Fake::new(|_| Reply::new(403, "<Error/>"));
    let place = format!("http://{}/bucket?signature=secret", store.host());
    let server = Fake::new(move |request| match request.path.contains("/blobs/") {
        true => Reply::new(307, "").header("Location", place.as_str()),
        false => Reply::new(200, ""),
    });
    let client = Client::new("");
    let digest = Digest::of(b"layer");
    let error = wait(client.fetch(&format!("{}/app", server.host()), &digest, 5)).unwrap_err();
    let text = shown(&error);
    assert!(text.starts_with(&format!("http://{}/bucket answers 403", store.host())), "{text}");
    assert!(!text.contains("login") && !text.contains("secret"), "{text}");
    let own = Fake::new(|request| Reply::new(if request.path.contains("/blobs/") { 403 } else { 200 }, ""));
    let error = wait(client.fetch(&format!("{}/app", own.host()), &digest, 5)).unwrap_err();
    assert!(shown(&error).contains(&format!("`docker login {}`", own.host())), "{error}");
}

#[test]
fn a_registry_that_says_nothing_is_not_waited_for_forever() {
    let server = Fake::new(|_| Reply::new(200, "{}").stall(1));
    let client = Client::new("");
    let error = wait(client.registry.manifest(&name(&format!("{}/app", server.host())))).unwrap_err();
    assert!(matches!(error, RegistryError::Silent { after, .. } if after == Duration::from_secs(1)), "{error:?}");
    assert_eq!(client.events().len(), 3, "each further attempt is told: {:?}", client.events());
}

#[test]
fn too_many_requests_are_told_and_waited_out_if_it_is_short() {
    let server = Fake::new(|request| match request.path.as_str() {
        "/v2/" => Reply::new(200, ""),
        _ => Reply::new(
            429,
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#,
        )
        .header("Retry-After", "3600"),
    });
    let host = server.host();
    let error = wait(Client::new("").registry.manifest(&name(&format!("{host}/app")))).unwrap_err();
    let text = shown(&error);
    assert!(
        text.starts_with(&format!(
            "{host} takes no more requests for now, but again in 3600 s: You have reached your pull rate limit\n"
        )),
        "{text}"
    );
    assert!(text.contains(&format!("docker login {host}")), "{text}");
    assert_eq!(server.requests().len(), 1, "an hour is not waited for");

    let first = std::sync::atomic::AtomicBool::new(true);
    let server = Fake::new(move |request| match request.path.as_str() {
        "/v2/" => Reply::new(200, ""),
        _ if first.swap(false, std::sync::atomic::Ordering::Relaxed) => Reply::new(429, "").header("Retry-After", "1"),
        _ => Reply::new(200, r#"{"schemaVersion":2}"#),
    });
    let client = Client::new("");
    wait(client.registry.manifest(&name(&format!("{}/app", server.host())))).unwrap();
    assert!(client.events()[0].contains("again in 1.0 s (attempt 2 of 4)"), "{:?}", client.events());
}
