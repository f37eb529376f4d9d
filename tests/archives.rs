//! Images in files: what skopeo, umoci and `docker save` write is read, what is written here they read, and what a
//! stranger writes does no harm.

#![expect(clippy::expect_used, reason = "a test")]

mod support;

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use nscompose::{
    image::{
        archive::{Archive, ArchiveError, ArchiveKind, Imported, SaveFormat, save, save_layout},
        store::{Entry, Store, StoreLock, Stored},
    },
    model::{Digest, Platform},
};
use serde_json::{Value, json};
use support::{Need, needs};
use tempfile::TempDir;

/// A store, and a folder for all else.
struct Place {
    folder: TempDir,
    store: Store,
    _lock: StoreLock,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::new(folder.path().join("store"));
        let lock = store.share().expect("store");
        Self { folder, store, _lock: lock }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("file");
        path
    }

    fn open(&self, name: &str, kind: ArchiveKind) -> Result<Archive, ArchiveError> {
        Archive::open(&self.path(name), kind, &self.store)
    }

    /// Imports the image of this name, or the only one.
    fn import(&self, file: &str, kind: ArchiveKind, name: Option<&str>) -> Result<Imported, ArchiveError> {
        let archive = self.open(file, kind)?;
        let imported = archive.import(archive.find(name)?, &Platform::host(), &self.store)?;
        assert!(self.store.has_blob(&imported.manifest) && self.store.has_blob(&imported.id));
        assert!(imported.layers.iter().all(|layer| self.store.has_blob(&layer.digest)));
        Ok(imported)
    }

    /// The error of an import of a tar archive, with all its causes.
    fn refused(&self, bytes: &[u8]) -> String {
        self.file("refused.tar", bytes);
        let error = self.import("refused.tar", ArchiveKind::Any, None).expect_err("refused");
        let left: Vec<_> = fs::read_dir(self.store.folder().join("partial")).expect("partial").collect();
        assert!(left.is_empty(), "nothing is left: {left:?}");
        said(&error)
    }

    fn stored(&self, imported: &Imported, name: Option<&str>) -> Stored {
        let entry = Entry {
            name: name.map(|name| name.parse().expect("name")),
            platform: None,
            manifest: imported.manifest.clone(),
            id: imported.id.clone(),
            registry_digest: None,
            unpacked: 0,
            checked: 0,
        };
        self.store.open(entry).expect("whole")
    }

    /// An image with two files, in two layers, in the layout `made` under the tag `base`.
    fn made(&self) -> PathBuf {
        let layout = self.path("made");
        let image = format!("{}:base", layout.display());
        run("umoci", &["init", "--layout", &layout.display().to_string()]);
        run("umoci", &["new", "--image", &image]);
        let program = self.file("program", &b"0123456789abcde\n".repeat(100_000)).display().to_string();
        run("umoci", &["insert", "--rootless", "--image", &image, &program, "/bin/program"]);
        let text = self.file("text", b"hello\n");
        run("umoci", &["insert", "--rootless", "--image", &image, &text.display().to_string(), "/etc/hello"]);
        run("umoci", &["config", "--image", &image, "--config.cmd", "/bin/program"]);
        layout
    }
}

fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output.stdout
}

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let mut all = vec!["--insecure-policy"];
    all.extend(arguments);
    run("skopeo", &all)
}

/// What skopeo says about an image: digests of its manifest and of its configuration.
fn seen(image: &str) -> (Digest, Digest) {
    let manifest = skopeo(&["inspect", "--raw", image]);
    (Digest::of(&manifest), Digest::of(&skopeo(&["inspect", "--config", "--raw", image])))
}

/// Tar archives, also those that no library would write.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(&mut self, name: &str, kind: u8, link: &str, size: u64) {
        let mut header = tar::Header::new_ustar();
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        bytes[156] = kind;
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
    }

    fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.header(name, b'0', "", content.len() as u64);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().div_ceil(512) * 512, 0);
        self
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        self.header(name, b'2', target, 0);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A layer with one file.
fn layer(text: &str) -> Vec<u8> {
    Tar::default().file("file", text).end()
}

/// A configuration with these layers.
fn config(layers: &[&[u8]]) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let platform = Platform::host();
    json!({
        "architecture": platform.architecture(),
        "os": "linux",
        "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An archive as Docker before 25 wrote it, of one image whose two layers are equal.
fn legacy() -> Tar {
    let one = layer("one");
    let config = config(&[&one, &one]);
    let hex = Digest::of(config.as_bytes()).hex().to_owned();
    let manifest = json!([{
        "Config": format!("{hex}.json"),
        "RepoTags": ["app:1", "app:latest"],
        "Layers": ["aaaa/layer.tar", "bbbb/layer.tar"],
    }]);
    Tar::default()
        .file("aaaa/VERSION", "1.0")
        .file("aaaa/json", "{}")
        .file("aaaa/layer.tar", &one)
        .file("bbbb/VERSION", "1.0")
        .link("bbbb/layer.tar", "../aaaa/layer.tar")
        .file(&format!("{hex}.json"), &config)
        .file("manifest.json", manifest.to_string())
        .file("repositories", r#"{"app":{"1":"bbbb","latest":"bbbb"}}"#)
}

/// A layout of one image with one layer, in which `change` has its way with what there is.
fn layout(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let layer = layer("one");
    let config = config(&[&layer]).into_bytes();
    let described = |media_type: &str, bytes: &[u8]| {
        json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": Digest::of(bytes).as_str(),
            "size": bytes.len(),
        })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "config": described("config.v1+json", &config),
        "layers": [described("layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = json!({ "schemaVersion": 2, "manifests": [described("manifest.v1+json", &manifest)] });
    let blob = |bytes: Vec<u8>| (format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes);
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        blob(manifest),
        blob(config),
        blob(layer),
    ];
    change(&mut files);
    files.into_iter().fold(Tar::default(), |tar, (name, bytes)| tar.file(&name, bytes)).end()
}

/// Numbers of the files in [`layout`].
const INDEX: usize = 1;
const MANIFEST: usize = 2;
const CONFIG: usize = 3;
const LAYER: usize = 4;

#[test]
fn a_layout_of_umoci_is_read_and_its_digests_stay() {
    needs!(Need::Program("umoci"), Need::Program("skopeo"));
    let place = Place::new();
    let image = format!("oci:{}:base", place.made().display());
    for name in [None, Some("base")] {
        let imported = place.import("made", ArchiveKind::OciLayout, name).expect("imported");
        assert_eq!((imported.manifest.clone(), imported.id), seen(&image));
        assert_eq!((imported.layers.len(), imported.names), (2, vec![]));
        assert_eq!(imported.platform, Some(Platform::host()));
    }
    let error = place.import("made", ArchiveKind::OciLayout, Some("other")).expect_err("no such image");
    assert_eq!(said(&error), "there is no image `other` in it; there are: `base`");
    let error = place.import("made", ArchiveKind::DockerArchive, None).expect_err("a folder");
    assert!(said(&error).contains("write `oci:`"), "{}", said(&error));
}

#[test]
fn archives_of_skopeo_are_read_compressed_and_from_a_pipe() {
    needs!(Need::Program("umoci"), Need::Program("skopeo"));
    let place = Place::new();
    let image = format!("oci:{}:base", place.made().display());
    let archive = place.path("plain.tar");
    skopeo(&["copy", &image, &format!("oci-archive:{}:example.org/app:1", archive.display())]);
    let plain = fs::read(&archive).expect("written");
    place.file("app.tar.gz", &gzip(&plain));
    place.file("app.tar.zst", &zstd(&plain));
    let half = plain.len() / 2;
    place.file("two.tar.zst", &[zstd(&plain[..half]), zstd(&plain[half..])].concat());
    for file in ["plain.tar", "app.tar.gz", "app.tar.zst", "two.tar.zst"] {
        for kind in [ArchiveKind::OciArchive, ArchiveKind::Any] {
            let imported = place.import(file, kind, Some("example.org/app:1")).expect("imported");
            assert_eq!((imported.manifest, imported.id), seen(&image), "{file}");
            assert_eq!(imported.names, ["example.org/app:1".parse().expect("name")]);
        }
    }
    for bytes in [plain.clone(), gzip(&plain)] {
        let (reader, mut writer) = std::io::pipe().expect("pipe");
        let writing = std::thread::spawn(move || writer.write_all(&bytes).expect("read"));
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let archive = Archive::from_file(file, Path::new("-"), ArchiveKind::Any, &place.store).expect("read");
        writing.join().expect("written");
        let imported = archive.import(&archive.images()[0], &Platform::host(), &place.store).expect("imported");
        assert_eq!((imported.manifest, imported.id), seen(&image));
    }
    let left: Vec<_> = fs::read_dir(place.store.folder().join("partial")).expect("partial").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_docker_archive_of_skopeo_is_read_and_keeps_its_id() {
    needs!(Need::Program("umoci"), Need::Program("skopeo"));
    let place = Place::new();
    let image = format!("oci:{}:base", place.made().display());
    let archive = format!("docker-archive:{}", place.path("docker.tar").display());
    skopeo(&["copy", &image, &format!("{archive}:app:1")]);
    for name in [None, Some("app:1"), Some("docker.io/library/app:1"), Some("@0")] {
        let imported = place.import("docker.tar", ArchiveKind::DockerArchive, name).expect("imported");
        assert_eq!(imported.id, seen(&archive).1);
        assert!(imported.layers.iter().all(|layer| layer.digest == layer.diff_id));
        assert_eq!(imported.names, ["app:1".parse().expect("name")]);
    }
    let error = place.import("docker.tar", ArchiveKind::OciArchive, None).expect_err("no layout");
    assert!(said(&error).contains("write `docker-archive:`"), "{}", said(&error));
}

#[test]
fn what_is_saved_skopeo_and_umoci_read() {
    needs!(Need::Program("umoci"), Need::Program("skopeo"));
    let place = Place::new();
    place.made();
    let imported = place.import("made", ArchiveKind::OciLayout, None).expect("imported");
    let both = (imported.manifest.clone(), imported.id.clone());
    let images = [place.stored(&imported, Some("app:1")), place.stored(&imported, Some("example.org/x/app:two"))];
    let mut docker = Vec::new();
    save(&place.store, &images, SaveFormat::Docker, &mut docker).expect("saved");
    let mut again = Vec::new();
    save(&place.store, &images, SaveFormat::Docker, &mut again).expect("saved");
    assert!(docker == again, "the same images give the same bytes");
    let path = place.file("docker.tar", &docker).display().to_string();
    // As old Docker and podman read it: by manifest.json.
    for name in ["", ":app:1", ":example.org/x/app:two"] {
        assert_eq!(seen(&format!("docker-archive:{path}{name}")).1, both.1);
    }
    let copied = place.path("copied").display().to_string();
    skopeo(&["copy", &format!("docker-archive:{path}:app:1"), &format!("dir:{copied}")]);
    // As new Docker reads it: by index.json.
    for name in [":1", ":two"] {
        assert_eq!(seen(&format!("oci-archive:{path}{name}")), both);
    }
    // And as we do.
    for (kind, name) in [(ArchiveKind::Any, "app:1"), (ArchiveKind::OciArchive, "two"), (ArchiveKind::Any, "@0")] {
        let again = place.import("docker.tar", kind, Some(name)).expect("imported");
        assert_eq!((again.manifest, again.id), both);
        assert_eq!(again.names.len(), 2);
    }
    assert_eq!(place.import("docker.tar", ArchiveKind::DockerArchive, None).expect("imported").id, both.1);

    let mut oci = Vec::new();
    save(&place.store, &images[1..], SaveFormat::Oci, &mut oci).expect("saved");
    let path = place.file("oci.tar", &oci).display().to_string();
    for name in ["", ":example.org/x/app:two"] {
        assert_eq!(seen(&format!("oci-archive:{path}{name}")), both);
    }

    let out = place.path("out");
    save_layout(&place.store, &images[..1], &out).expect("saved");
    save_layout(&place.store, &images, &out).expect("added");
    assert_eq!(seen(&format!("oci:{}:docker.io/library/app:1", out.display())), both);
    let tags = String::from_utf8(run("umoci", &["ls", "--layout", &out.display().to_string()])).expect("text");
    let mut tags: Vec<&str> = tags.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["docker.io/library/app:1", "example.org/x/app:two"]);
    assert_eq!(place.import("out", ArchiveKind::OciLayout, Some("app:1")).expect("imported").manifest, both.0);
}

#[test]
fn images_are_added_to_a_layout_of_another_tool() {
    needs!(Need::Program("umoci"), Need::Program("skopeo"));
    let place = Place::new();
    let made = place.made();
    place.file("legacy.tar", &legacy().end());
    let imported = place.import("legacy.tar", ArchiveKind::Any, None).expect("imported");
    save_layout(&place.store, &[place.stored(&imported, Some("app:1"))], &made).expect("added");
    let tags = run("umoci", &["ls", "--layout", &made.display().to_string()]);
    let tags = String::from_utf8(tags).expect("text");
    assert!(tags.contains("base") && tags.contains("docker.io/library/app:1"), "{tags}");
    let error = place.import("made", ArchiveKind::OciLayout, None).expect_err("two");
    assert!(
        said(&error)
            .starts_with("there are several images in it that could be meant: `base`, `docker.io/library/app:1`")
    );
    assert_eq!(seen(&format!("oci:{}:docker.io/library/app:1", made.display())).1, imported.id);
    let error = save_layout(&place.store, &[], &place.folder.path().join("store")).expect_err("another folder");
    assert!(said(&error).contains("other things in it"), "{}", said(&error));
}

#[test]
fn what_docker_saved_before_25_is_read() {
    let place = Place::new();
    place.file("legacy.tar", &legacy().end());
    place.file("legacy.tgz", &gzip(&legacy().end()));
    // `tar -C folder -c .` puts it so.
    let folder = Tar(legacy().0).file("./manifest.json", b"[]");
    assert_eq!(place.refused(&folder.end()), "there is no image in it", "of two the last counts");
    for file in ["legacy.tar", "legacy.tgz"] {
        for name in [None, Some("app"), Some("app:1")] {
            let imported = place.import(file, ArchiveKind::DockerArchive, name).expect("imported");
            assert_eq!(imported.names.len(), 2);
            assert_eq!(imported.layers[0], imported.layers[1]);
            assert_eq!(imported.layers[0].digest, Digest::of(&layer("one")));
            assert_eq!(place.stored(&imported, None).image.config.command, ["/bin/sh"]);
        }
    }
}

#[test]
fn layers_may_be_compressed_in_a_docker_archive() {
    let place = Place::new();
    let (one, two) = (layer("one"), layer("two"));
    let config = config(&[&one, &two]);
    let manifest = json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["one.tar.gz", "two.tar.zst"] }]);
    let archive = Tar::default()
        .file("config.json", &config)
        .file("one.tar.gz", gzip(&one))
        .file("two.tar.zst", zstd(&two))
        .file("manifest.json", manifest.to_string());
    place.file("compressed.tar", &archive.end());
    let imported = place.import("compressed.tar", ArchiveKind::Any, None).expect("imported");
    assert_eq!(imported.id, Digest::of(config.as_bytes()));
    assert_eq!(
        (imported.layers[0].digest.clone(), imported.layers[0].diff_id.clone()),
        (Digest::of(&gzip(&one)), Digest::of(&one))
    );
    assert!(imported.layers[0].media_type.ends_with("+gzip") && imported.layers[1].media_type.ends_with("+zstd"));
}

#[test]
fn the_platform_that_is_wanted_is_chosen() {
    let place = Place::new();
    // An index of two platforms below index.json, as Docker writes it with the blobs of one of them only.
    let bytes = layout(|files| {
        let index: Value = serde_json::from_slice(&files[INDEX].1).expect("JSON");
        let mut ours = index["manifests"][0].clone();
        let mut theirs = ours.clone();
        ours["platform"] = json!({ "os": "linux", "architecture": Platform::host().architecture() });
        theirs["platform"] = json!({ "os": "linux", "architecture": "s390x" });
        theirs["digest"] = json!(Digest::of(b"not there").as_str());
        let nested = json!({ "schemaVersion": 2, "manifests": [theirs, ours] }).to_string();
        let digest = Digest::of(nested.as_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest.as_str(),
            "size": nested.len(),
            "annotations": { "io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1" },
        }]});
        files[INDEX].1 = index.to_string().into_bytes();
        files.push((format!("blobs/sha256/{}", digest.hex()), nested.into_bytes()));
    });
    place.file("many.tar", &bytes);
    for name in ["app:1", "1", "docker.io/library/app:1"] {
        place.import("many.tar", ArchiveKind::OciArchive, Some(name)).expect("ours");
    }
    let archive = place.open("many.tar", ArchiveKind::Any).expect("open");
    let theirs = "linux/s390x".parse().expect("platform");
    let error = archive.import(&archive.images()[0], &theirs, &place.store).expect_err("not there");
    assert!(said(&error).contains("there is no image for linux/s390x"), "{}", said(&error));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let place = Place::new();
    let names: Vec<String> = {
        let mut names = Vec::new();
        layout(|files| names = files.iter().map(|(name, _)| name.clone()).collect());
        names
    };
    for number in [MANIFEST, CONFIG, LAYER] {
        let missing = place.refused(&layout(|files| drop(files.remove(number))));
        assert_eq!(missing, format!("`{}` is missing", names[number]));
        let wrong = place.refused(&layout(|files| files[number].1[20] ^= 1));
        assert!(wrong.starts_with(&format!("`{}` should have digest sha256:", names[number])), "{wrong}");
        let longer = place.refused(&layout(|files| files[number].1.push(b' ')));
        assert!(longer.contains("bytes and has"), "{longer}");
    }
    // Also when the store has what is wrong in the archive, from another one.
    let whole = layout(|_| ());
    place.file("whole.tar", &whole);
    place.import("whole.tar", ArchiveKind::Any, None).expect("imported");
    let lie = place.refused(&layout(|files| {
        let text = String::from_utf8(files[MANIFEST].1.clone()).expect("text");
        let manifest = text.replace(&format!("\"size\":{}", files[LAYER].1.len()), "\"size\":7").into_bytes();
        let mut index: Value = serde_json::from_slice(&files[INDEX].1).expect("JSON");
        index["manifests"][0]["digest"] = json!(Digest::of(&manifest).as_str());
        index["manifests"][0]["size"] = json!(manifest.len());
        files[INDEX].1 = index.to_string().into_bytes();
        files[MANIFEST] = (format!("blobs/sha256/{}", Digest::of(&manifest).hex()), manifest);
    }));
    assert!(lie.contains("should have 7 bytes and has 2048"), "{lie}");
    // Nor is anything missed that is there.
    let known = layout(|files| drop(files.remove(LAYER)));
    place.file("known.tar", &known);
    place.import("known.tar", ArchiveKind::Any, None).expect("imported");
    let cut = place.refused(&whole[..whole.len() - 2048]);
    assert_eq!(cut, format!("it ends in the middle of `{}`", names[LAYER]));
    let cut = place.refused(&whole[..1100]);
    assert!(cut.contains("it ends in the middle of a header at byte"), "{cut}");
    let packed = gzip(&whole);
    assert!(place.refused(&packed[..packed.len() - 20]).starts_with("cannot decompress it"));
    let packed = zstd(&whole);
    assert!(place.refused(&packed[..packed.len() - 20]).starts_with("cannot decompress it"));
    assert!(place.refused(&[zstd(&whole), b"more".to_vec()].concat()).contains("something else behind it"));
    assert!(place.refused(b"BZh91AY&SY").contains("bzip2"));
    assert!(place.refused(&[b'x'; 4096]).contains("not a tar archive"));
    assert!(place.refused(b"").contains("neither an index.json nor a manifest.json"));
    assert!(place.refused(&Tar::default().file("repositories", "{}").end()).contains("before 1.10"));
    assert!(
        place
            .refused(&layout(|files| files[0].1 = br#"{"imageLayoutVersion":"2.0"}"#.to_vec()))
            .contains("version 2.0")
    );
    assert!(place.refused(&layout(|files| files[INDEX].1 = b"[".to_vec())).starts_with("`index.json` is not valid"));
    let deep = "[".repeat(100_000);
    assert!(place.refused(&Tar::default().file("manifest.json", deep).end()).contains("`manifest.json` is not valid"));
}

#[test]
fn names_and_links_lead_nowhere_but_to_members() {
    let place = Place::new();
    let secret = place.file("secret", b"{}");
    let outside = secret.display().to_string();
    let with = |config: &str, layers: Value| {
        Tar::default()
            .file("manifest.json", json!([{ "Config": config, "RepoTags": ["app:1"], "Layers": layers }]).to_string())
    };
    for name in ["../secret", "../../../../../../etc/passwd", outside.as_str(), ""] {
        assert_eq!(place.refused(&with(name, json!([])).end()), format!("`{name}` is missing"));
        let through = place.refused(&with("link", json!([])).link("link", &outside[..outside.len().min(99)]).end());
        assert!(through.starts_with("`link -> ") && through.ends_with("is missing"), "{through}");
    }
    // A member that is called so is a member like any other.
    let one = layer("one");
    let named = with("../c", json!(["../../../l"])).file("../c", config(&[&one])).file("../../../l", &one);
    place.file("named.tar", &named.end());
    place.import("named.tar", ArchiveKind::Any, None).expect("imported");
    assert!(!place.path("c").exists() && !place.path("../c").exists());
    let around = with("a", json!([])).link("a", "b").link("b", "./x/../a");
    assert_eq!(place.refused(&around.end()), "`a` is a link that never ends");
    assert_eq!(place.refused(&with("a", json!([])).link("a", "a").end()), "`a` is a link that never ends");
    let mut device = with("a", json!([]));
    device.header("a", b'3', "", 0);
    assert_eq!(place.refused(&device.end()), "`a` is not a plain file");
}

#[test]
fn what_is_too_much_is_refused_soon() {
    let place = Place::new();
    // Holes: nothing of it is read.
    let mut large = Tar::default();
    large.header("manifest.json", b'0', "", 100 << 20);
    let path = place.file("large.tar", &large.0);
    File::options().write(true).open(&path).and_then(|file| file.set_len((100 << 20) + 2048)).expect("long");
    let error = place.import("large.tar", ArchiveKind::Any, None).expect_err("too large");
    assert_eq!(said(&error), "`manifest.json` has 104857600 bytes; at most 4194304 are taken");

    let mut many = Tar::default();
    many.header("x", b'0', "", 0);
    assert_eq!(place.refused(&many.0.repeat(200_001)), "it has more than 200000 members");

    let mut name = Tar::default();
    name.header("././@LongLink", b'L', "", 1 << 40);
    let path = place.file("name.tar", &name.0);
    File::options().write(true).open(&path).and_then(|file| file.set_len(1 << 41)).expect("long");
    let error = place.open("name.tar", ArchiveKind::Any).expect_err("too long");
    assert!(said(&error).contains("a name is too long"), "{}", said(&error));

    let one = layer("one");
    let layers: Vec<&[u8]> = vec![&one; 501];
    let manifest = json!([{ "Config": "c", "Layers": vec!["l"; 501] }]);
    let deep = Tar::default().file("c", config(&layers)).file("l", &one).file("manifest.json", manifest.to_string());
    assert!(place.refused(&deep.end()).contains("it has 501 layers; at most 500 can be shown"));
    let few = json!([{ "Config": "c", "Layers": ["l"] }]);
    let few = Tar::default().file("c", config(&layers[..2])).file("l", &one).file("manifest.json", few.to_string());
    assert!(place.refused(&few.end()).contains("it has 1 layers and its configuration 2"));
}

#[test]
fn long_names_and_large_sizes_of_pax_and_gnu_are_read() {
    let place = Place::new();
    let one = layer("one");
    let long = format!("{}/layer.tar", "d".repeat(150));
    let manifest = json!([{ "Config": "c", "Layers": [long] }]).to_string();
    let start = || Tar::default().file("c", config(&[&one])).file("manifest.json", &manifest);
    let pax = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        // The length counts its own digits.
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        format!("{length}{rest}")
    };
    let mut gnu = start();
    gnu.header("././@LongLink", b'L', "", long.len() as u64 + 1);
    gnu.0.extend_from_slice(long.as_bytes());
    gnu.0.resize(gnu.0.len().div_ceil(512) * 512, 0);
    let records = pax("path", &long) + &pax("size", &one.len().to_string());
    let mut posix = start();
    posix.header("PaxHeaders/x", b'x', "", records.len() as u64);
    posix.0.extend_from_slice(records.as_bytes());
    posix.0.resize(posix.0.len().div_ceil(512) * 512, 0);
    let mut sized = posix.clone();
    // The size in the header itself is none, as it is above 8 GiB.
    sized.header("short", b'0', "", 0);
    sized.0.extend_from_slice(&one);
    for tar in [gnu.file("short", &one), posix.file("short", &one), sized] {
        place.file("long.tar", &tar.end());
        place.import("long.tar", ArchiveKind::Any, None).expect("imported");
    }
}

#[test]
fn a_damaged_store_saves_nothing_that_looks_whole() {
    let place = Place::new();
    place.file("legacy.tar", &legacy().end());
    let imported = place.import("legacy.tar", ArchiveKind::Any, None).expect("imported");
    let stored = place.stored(&imported, Some("app:1"));
    let path = place.store.blob(&imported.layers[0].digest);
    let mut bytes = Vec::new();
    File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("blob");
    bytes[600] ^= 1;
    fs::write(&path, &bytes).expect("damaged");
    let error = save(&place.store, std::slice::from_ref(&stored), SaveFormat::Docker, &mut std::io::sink())
        .expect_err("damaged");
    assert!(said(&error).contains("is damaged"), "{}", said(&error));
    let out = place.path("out");
    save_layout(&place.store, &[stored], &out).expect_err("damaged");
    assert!(!out.join("index.json").exists());
}

#[test]
fn bytes_changed_at_random_are_refused_or_do_no_harm() {
    let place = Place::new();
    let mut state = 1_u64;
    // SplitMix64.
    let mut below = |bound: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % bound
    };
    let whole = [layout(|_| ()), legacy().end(), gzip(&legacy().end()), zstd(&layout(|_| ()))];
    for number in 0..2000 {
        let mut bytes = whole[number % whole.len()].clone();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] = below(256) as u8,
                1 => bytes[at] ^= 1 << below(8),
                2 => bytes.truncate(at.max(1)),
                // Sizes and checksums are in the headers, which random places seldom hit.
                _ => bytes[at] = b"0123456789\0 "[below(12)],
            }
        }
        // With the sum of each header right, or nearly everything would end there.
        if number % 2 == 0 && number % whole.len() < 2 {
            for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
                let mut header = tar::Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        place.file("changed.tar", &bytes);
        let Ok(archive) = place.open("changed.tar", ArchiveKind::Any) else { continue };
        for image in archive.images() {
            if let Ok(imported) = archive.import(image, &Platform::host(), &place.store) {
                for layer in &imported.layers {
                    let bytes = fs::read(place.store.blob(&layer.digest)).expect("there");
                    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (layer.digest.clone(), layer.size));
                }
            }
        }
    }
}

#[test]
fn an_image_with_a_manifest_of_docker_is_saved_for_every_reader() {
    needs!(Need::Program("skopeo"));
    let place = Place::new();
    let bytes = layout(|files| {
        let before = files[MANIFEST].1.len();
        let text = String::from_utf8(files[MANIFEST].1.clone()).expect("text");
        let text =
            text.replace("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json");
        let text =
            text.replace("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar");
        let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
        manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
        let manifest = manifest.to_string().into_bytes();
        let old = files[MANIFEST].0.trim_start_matches("blobs/").replace('/', ":");
        let index = String::from_utf8(files[INDEX].1.clone()).expect("text");
        let index = index
            .replace(&old, Digest::of(&manifest).as_str())
            .replace(&format!("\"size\":{before}"), &format!("\"size\":{}", manifest.len()))
            .replace(
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.docker.distribution.manifest.v2+json",
            );
        files[INDEX].1 = index.into_bytes();
        files[MANIFEST] = (format!("blobs/sha256/{}", Digest::of(&manifest).hex()), manifest);
    });
    place.file("schema2.tar", &bytes);
    let imported = place.import("schema2.tar", ArchiveKind::Any, None).expect("imported");
    let both = (imported.manifest.clone(), imported.id.clone());
    let images = [place.stored(&imported, Some("app:1"))];
    let mut saved = Vec::new();
    save(&place.store, &images, SaveFormat::Docker, &mut saved).expect("saved");
    let path = place.file("saved.tar", &saved).display().to_string();
    assert_eq!(seen(&format!("docker-archive:{path}:app:1")).1, both.1);
    let again = place.import("saved.tar", ArchiveKind::Any, Some("app:1")).expect("imported");
    assert_eq!((again.manifest, again.id), both);
    // In a layout alone it is one of OCI: skopeo takes no other.
    let mut saved = Vec::new();
    save(&place.store, &images, SaveFormat::Oci, &mut saved).expect("saved");
    let path = place.file("oci.tar", &saved).display().to_string();
    let shown = seen(&format!("oci-archive:{path}:docker.io/library/app:1"));
    let out = place.path("out");
    save_layout(&place.store, &images, &out).expect("saved");
    assert_eq!(seen(&format!("oci:{}", out.display())), shown);
    let again = place.import("out", ArchiveKind::OciLayout, None).expect("imported");
    assert_eq!((again.manifest, again.id), shown);
    assert_eq!(shown.1, both.1);
    let copied = format!("dir:{}", place.path("copied").display());
    skopeo(&["copy", &format!("oci:{}", out.display()), &copied]);
}
