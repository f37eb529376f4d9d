//! Images with the servers that public samples use, made of packages of the distribution, in a registry on the loopback.
//!
//! ```text
//! layer ──▶ layer.tar.gz ──────────────┐
//! images/common, images/NAME ──▶ a layer ─┴─▶ OCI layout ── skopeo ──▶ docker-registry ──▶ nscompose up
//! ```
//!
//! They behave as those of the same name in public registries do: they have volumes, entrypoints that know the usual variables,
//! and are somebody from the beginning (postgres, mariadb), become somebody (redis), or have children that do (nginx, apache).

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use nscompose::model::Digest;
use serde_json::{Value, json};

use crate::server::Server;

/// What one of them has besides the servers.
struct Image {
    /// Its name in the registry.
    name: &'static str,
    /// Below tests/samples/images.
    folder: &'static str,
    /// Empty folders, with the id of user and group that has them, and their mode.
    folders: &'static [(&'static str, u64, u32)],
    /// What its configuration says.
    config: fn() -> Value,
}

const PATH: &str = "PATH=/usr/lib/postgresql/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const IMAGES: [Image; 5] = [
    Image {
        name: "library/nginx:1.22",
        folder: "nginx",
        folders: &[("var/lib/nginx", 0, 0o755), ("var/log/nginx", 0, 0o755)],
        config: || {
            json!({
                "Env": [PATH],
                "Cmd": ["nginx", "-g", "daemon off;"],
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGQUIT",
            })
        },
    },
    Image {
        name: "library/postgres:15",
        folder: "postgres",
        folders: &[
            ("var/lib/postgresql", 999, 0o755),
            ("var/lib/postgresql/data", 999, 0o700),
            ("run/postgresql", 999, 0o755),
            ("docker-entrypoint-initdb.d", 0, 0o755),
        ],
        config: || {
            json!({
                "Env": [PATH, "LANG=C.UTF-8", "PGDATA=/var/lib/postgresql/data"],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["postgres", "-c", "listen_addresses=*"],
                "User": "postgres",
                "ExposedPorts": {"5432/tcp": {}},
                "Volumes": {"/var/lib/postgresql/data": {}},
                "StopSignal": "SIGINT",
            })
        },
    },
    Image {
        name: "library/redis:7",
        folder: "redis",
        folders: &[("data", 0, 0o755)],
        config: || {
            json!({
                "Env": [PATH],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["redis-server"],
                "WorkingDir": "/data",
                "ExposedPorts": {"6379/tcp": {}},
                "Volumes": {"/data": {}},
            })
        },
    },
    Image {
        name: "lamp/php:8.2-apache",
        folder: "php",
        folders: &[("var/www/html", 33, 0o755), ("run/lock", 0, 0o1777)],
        config: || {
            json!({
                "Env": [PATH, "PHP_INI_SCAN_DIR=/etc/php/conf.d"],
                "Cmd": ["apache2-foreground"],
                "WorkingDir": "/var/www/html",
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGWINCH",
            })
        },
    },
    Image {
        name: "library/mariadb:10.11",
        folder: "mariadb",
        folders: &[("var/lib/mysql", 998, 0o755), ("run/mysqld", 998, 0o755), ("docker-entrypoint-initdb.d", 0, 0o755)],
        config: || {
            json!({
                "Env": [PATH, "MARIADB_DATA=/var/lib/mysql"],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["mariadbd"],
                "User": "mysql:mysql",
                "ExposedPorts": {"3306/tcp": {}},
                "Volumes": {"/var/lib/mysql": {}},
            })
        },
    },
];

/// A registry that has them. Tests that run at the same time share it.
pub(crate) struct Samples {
    server: Server,
}

impl Samples {
    pub(crate) fn get() -> Arc<Self> {
        static SHARED: Mutex<Weak<Samples>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let samples = Arc::new(Self::new());
            *shared = Arc::downgrade(&samples);
            samples
        })
    }

    fn new() -> Self {
        let server = Server::plain();
        let folder = tempfile::tempdir().expect("a folder");
        // The gate makes it once for all accounts.
        let made = env::var_os("NSCOMPOSE_TEST_SAMPLES").map(PathBuf::from);
        let servers = made.unwrap_or_else(|| {
            // It takes longer than a command of a test may.
            let made = Command::new(tests().join("layer")).arg(folder.path()).output().expect("tests/samples/layer");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            folder.path().to_owned()
        });
        for image in &IMAGES {
            let layout = folder.path().join(image.folder);
            image.write(&servers, &layout);
            server.put(&layout, image.name, None);
        }
        Self { server }
    }

    /// A config.yaml with which it stands in for the registries that examples name.
    pub(crate) fn settings(&self) -> String {
        let url = self.server.url();
        format!("registries: {{docker.io: {{mirrors: ['{url}']}}, registry.example: {{mirrors: ['{url}']}}}}\n")
    }
}

impl Image {
    /// As an OCI layout, with the layer of the servers below and an own one above.
    fn write(&self, servers: &Path, layout: &Path) {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("folders");
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).expect("a blob");
            (digest, bytes.len() as u64)
        };
        let (below, below_size) = digest_of(&servers.join("layer.tar.gz"), &blobs);
        let below_id = fs::read_to_string(servers.join("layer.diff-id")).expect("the digest of what is in it");
        let (own, own_size) = put(&self.layer());
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": (self.config)(),
            "rootfs": {"type": "layers", "diff_ids": [below_id, own.to_string()]},
        });
        let (config, config_size) = put(config.to_string().as_bytes());
        let part = |kind: &str, digest: &Digest, size: u64| {
            let kind = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": kind, "digest": digest.to_string(), "size": size})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.v1+json", &config, config_size),
            "layers": [part("layer.v1.tar+gzip", &below, below_size), part("layer.v1.tar", &own, own_size)],
        });
        let (manifest, manifest_size) = put(manifest.to_string().as_bytes());
        let mut listed = part("manifest.v1+json", &manifest, manifest_size);
        listed["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
        let index = json!({"schemaVersion": 2, "manifests": [listed]});
        fs::write(layout.join("index.json"), index.to_string()).expect("an index");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    }

    /// Its own files.
    fn layer(&self) -> Vec<u8> {
        let mut layer = tar::Builder::new(Vec::new());
        for (folder, owner, mode) in [("tmp", 0, 0o1777), ("run", 0, 0o755)].iter().chain(self.folders) {
            append(&mut layer, Path::new(folder), tar::EntryType::Directory, (*owner, *mode), &[]);
        }
        for folder in ["common", self.folder] {
            append_all(&mut layer, &tests().join("images").join(folder), Path::new(""));
        }
        layer.into_inner().expect("memory")
    }
}

/// Files below a folder, as root's. Folders come from the layer below or by themselves.
fn append_all(layer: &mut tar::Builder<Vec<u8>>, root: &Path, folder: &Path) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    for name in names {
        let (path, file) = (folder.join(&name), root.join(folder).join(&name));
        let kind = fs::metadata(&file).expect("there");
        if kind.is_dir() {
            append_all(layer, root, &path);
        } else {
            let mode = if kind.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            append(layer, &path, tar::EntryType::Regular, (0, mode), &fs::read(&file).expect("a file"));
        }
    }
}

fn append(
    layer: &mut tar::Builder<Vec<u8>>,
    path: &Path,
    kind: tar::EntryType,
    (owner, mode): (u64, u32),
    bytes: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    layer.append_data(&mut header, path, bytes).expect("memory");
}

/// Digest and size of a file, which gets a link among the blobs.
fn digest_of(file: &Path, blobs: &Path) -> (Digest, u64) {
    let bytes = fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let digest = Digest::of(&bytes);
    symlink(file, blobs.join(digest.hex())).expect("a link");
    (digest, bytes.len() as u64)
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}
