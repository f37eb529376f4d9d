//! From a registry to an image that can be run.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use nscompose::{
    image::{
        ImageEvent, Installer, LayerState, PullError, Puller,
        store::Stored,
        unpack::{Limits, OverlayAttributes, Ownership, UnpackOptions},
    },
    model::{Digest, Platform},
};
use serde_json::json;

use super::{
    fake::{Fake, Reply},
    fixture::{Client, name, wait},
};
use crate::support::{Need, Stack, is_root, needs};

/// A registry that has one image, of one empty layer; `first` may answer in its place, and gets how many times it was asked.
fn registry(
    architecture: &str,
    first: impl Fn(&str, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Fake, Arc<Digest>) {
    let layer = vec![0; 1024];
    let digest = Digest::of(&layer);
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [digest.as_str()]},
    });
    let config = config.to_string().into_bytes();
    let id = Digest::of(&config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": id.as_str(),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest.as_str(),
            "size": layer.len(),
        }],
    });
    let manifest = manifest.to_string().into_bytes();
    let kept = Arc::new(id.clone());
    let asked = AtomicUsize::new(0);
    let fake = Fake::new(move |request| {
        let path = request.path.as_str();
        let answer = first(path, asked.load(Ordering::Relaxed));
        if answer.is_some() {
            asked.fetch_add(1, Ordering::Relaxed);
        }
        answer.unwrap_or_else(|| match path {
            _ if path.contains("/manifests/") => {
                Reply::new(200, manifest.as_slice()).header("Docker-Content-Digest", Digest::of(&manifest).as_str())
            }
            _ if path.ends_with(id.as_str()) => Reply::new(200, config.as_slice()),
            _ if path.ends_with(digest.as_str()) => Reply::new(200, layer.as_slice()),
            _ => Reply::new(200, ""),
        })
    });
    (fake, kept)
}

/// Pulls it; says what it was warned of, too.
fn pull(client: &Client, fake: &Fake, platform: Option<&str>) -> (Result<Stored, PullError>, Vec<String>) {
    let options = UnpackOptions {
        ownership: if is_root() { Ownership::Kept } else { Ownership::Single },
        attributes: if is_root() { OverlayAttributes::Trusted } else { OverlayAttributes::User },
        limits: Limits::default(),
    };
    let store = client.store();
    let _held = store.share().unwrap();
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let told = warnings.clone();
    let event = Arc::new(move |event| match event {
        ImageEvent::Warning(text) => told.lock().unwrap().push(text),
        ImageEvent::Layer { state: LayerState::Waiting, .. } => told.lock().unwrap().push("waits".to_owned()),
        _ => {}
    });
    let puller = Puller::new(Installer::new(store.clone(), options), client.registry.clone(), event);
    let platform = platform.map(|text| text.parse::<Platform>().unwrap());
    let pulled = wait(puller.pull(&name(&format!("{}/app:1", fake.host())), platform.as_ref()));
    let warnings = warnings.lock().unwrap().clone();
    (pulled, warnings)
}

#[test]
fn a_configuration_that_does_not_come_at_once_is_tried_for_again() {
    let (fake, id) = registry("amd64", {
        let wanted = Mutex::new(None);
        move |path, before| {
            let mut wanted = wanted.lock().unwrap();
            // The first blob that is asked for is the configuration.
            let first = path.contains("/blobs/") && wanted.get_or_insert_with(|| path.to_owned()) == path;
            (first && before < 2)
                .then(|| if before == 0 { Reply::new(503, "") } else { Reply::new(200, "{xxxxxx").cut(3) })
        }
    });
    let client = Client::new("");
    let (pulled, _) = pull(&client, &fake, Some("linux/amd64"));
    assert_eq!(pulled.unwrap().image.id, *id);
    assert_eq!(client.events().len(), 2, "{:?}", client.events());
}

#[test]
fn an_image_for_another_machine_is_told_of_or_refused() {
    let other = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
    let (fake, _) = registry(other, |_, _| None);
    let (pulled, warnings) = pull(&Client::new(""), &fake, None);
    assert!(pulled.is_ok(), "it may be that the kernel can run it: {pulled:?}");
    assert!(warnings[0].contains(&format!("it is for linux/{other}, and this machine is")), "{warnings:?}");
    let (pulled, _) = pull(&Client::new(""), &fake, Some("linux/s390x"));
    let error = pulled.unwrap_err().to_string();
    assert_eq!(error, format!("there is no image for linux/s390x; there are: linux/{other}"));
}

#[test]
fn an_index_in_an_index_leads_to_the_image_but_not_forever() {
    let index = |digest: &Digest, size: usize| {
        let kind = "application/vnd.oci.image.index.v1+json";
        let inner = json!({"mediaType": kind, "digest": digest.as_str(), "size": size});
        json!({"schemaVersion": 2, "mediaType": kind, "manifests": [inner]}).to_string()
    };
    for (depth, right) in [(2, true), (20, false)] {
        // Its manifest is what the fake gives for a name that nothing else is under.
        let (fake, id) = registry("amd64", |_, _| None);
        let (client, image) = (Client::new(""), format!("{}/app:1", fake.host()));
        let manifest = wait(client.registry.manifest(&name(&image))).unwrap();
        let mut all = vec![(manifest.digest.clone(), manifest.bytes.to_vec())];
        for _ in 0..depth {
            let (below, bytes) = &all[all.len() - 1];
            let text = index(below, bytes.len());
            all.push((Digest::of(text.as_bytes()), text.into_bytes()));
        }
        let (top, _) = all[depth].clone();
        let (fake, _) = registry("amd64", move |path, _| {
            let wanted = path.split_once("/manifests/")?.1;
            let found = all.iter().find(|(digest, _)| digest.as_str() == wanted);
            Some(Reply::new(200, found.unwrap_or(&all[depth]).1.as_slice()))
        });
        match pull(&client, &fake, Some("linux/amd64")).0 {
            Ok(stored) => {
                assert!(right, "{depth} indexes");
                assert_eq!((stored.image.id, stored.entry.registry_digest), ((*id).clone(), Some(top)));
                assert_eq!(stored.entry.manifest, manifest.digest);
            }
            Err(error) => {
                assert!(!right, "{error}");
                assert!(error.to_string().contains("indexes lead to each other"), "{error}");
            }
        }
    }
}

#[test]
fn waiting_for_somebody_who_pulls_the_same_layer_is_told() {
    let (fake, _) = registry("amd64", |_, _| None);
    let client = Client::new("");
    let other = client.writer(&Digest::of(&[0; 1024]));
    let ends = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        drop(other);
    });
    let (pulled, told) = pull(&client, &fake, Some("linux/amd64"));
    assert!(pulled.is_ok(), "{pulled:?}");
    assert!(told.contains(&"waits".to_owned()), "{told:?}");
    ends.join().unwrap();
}

#[test]
fn what_is_here_already_is_not_fetched_to_see_whether_it_is_new() {
    let (fake, id) = registry("amd64", |_, _| None);
    let client = Client::new("");
    pull(&client, &fake, Some("linux/amd64")).0.unwrap();
    let before = fake.lines().len();
    assert_eq!(pull(&client, &fake, Some("linux/amd64")).0.unwrap().image.id, *id);
    assert_eq!(fake.lines()[before..], ["HEAD /v2/app/manifests/1"]);
}

#[test]
fn what_was_pulled_by_its_tag_is_found_by_its_digest() {
    let (fake, id) = registry("amd64", |_, _| None);
    let client = Client::new("");
    let stored = pull(&client, &fake, None).0.unwrap();
    let digest = stored.entry.registry_digest.unwrap();
    for version in [format!("@{digest}"), format!(":1@{digest}"), format!(":other@{digest}")] {
        let by_digest = name(&format!("{}/app{version}", fake.host()));
        assert_eq!(client.store().find(&by_digest, None).unwrap().unwrap().image.id, *id, "{version}");
    }
    for other in [format!("app@{}", Digest::of(b"")), format!("other@{digest}")] {
        assert_eq!(client.store().find(&name(&format!("{}/{other}", fake.host())), None).unwrap(), None, "{other}");
    }
    let elsewhere = "linux/s390x".parse().unwrap();
    let by_digest = name(&format!("{}/app@{digest}", fake.host()));
    assert_eq!(client.store().find(&by_digest, Some(&elsewhere)).unwrap(), None);
}

#[test]
fn a_failure_does_not_wait_for_somebody_who_pulls_another_image() {
    needs!(Need::Namespaces);
    let (fake, _) = registry("amd64", |_, _| None);
    let absent = Fake::new(|request| {
        if request.path.contains("/manifests/") {
            // The other image has come as far as its layer by then.
            std::thread::sleep(std::time::Duration::from_millis(1_500));
        }
        Reply::new(if request.path == "/v2/" { 200 } else { 404 }, "")
    });
    let stack = Stack::empty();
    let partial = stack.home().join("data/v1/images/partial");
    std::fs::create_dir_all(&partial).unwrap();
    let other = std::fs::File::create(partial.join(Digest::of(&[0; 1024]).hex())).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let images = [format!("{}/app:1", fake.host()), format!("{}/absent:1", absent.host())];
    let pulled = stack.nscompose().arg("pull").args(["--platform", "linux/amd64"]).args(&images).run().failure();
    let _ = pulled.stderr_has("is being brought by somebody else").stderr_has("does not know it");
    drop(other);
}
