//! The registry of the Distribution project, on a port of the loopback, for one test.

use std::{fs, net::TcpStream, path::Path};

use crate::support::{Run, Started, free_port, program, wait_for};

/// A registry that runs until it is dropped.
pub(crate) struct Server {
    pub(super) port: u16,
    scheme: &'static str,
    folder: tempfile::TempDir,
    _process: Started,
}

/// What it is like.
#[derive(Default)]
pub(super) struct Options {
    pub(super) tls: bool,
    /// Name and password of the only one who may do anything.
    pub(super) account: Option<(&'static str, &'static str)>,
}

impl Server {
    /// One that everybody may use, without TLS.
    pub(crate) fn plain() -> Self {
        Self::start(&Options::default())
    }

    pub(super) fn start(options: &Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/data}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            path.display()
        );
        if options.tls {
            make_certificates(path);
            let at = path.display();
            config.push_str(&format!("  tls: {{certificate: {at}/server.pem, key: {at}/server.key}}\n"));
        }
        if let Some((user, password)) = options.account {
            let made = Run::new("htpasswd").args(["-Bbn", user, password]).run().success();
            fs::write(path.join("htpasswd"), made.stdout).unwrap();
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n", path.display()));
        }
        fs::write(path.join("config.yml"), config).unwrap();
        let program = program("docker-registry").unwrap();
        let mut process = Run::new(program).arg("serve").arg(path.join("config.yml")).start();
        wait_for("the registry", || {
            assert!(process.is_running(), "{}", process.stderr());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { port, scheme: if options.tls { "https" } else { "http" }, folder, _process: process }
    }

    /// As it stands in the names of images.
    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }

    /// Its folder, with `ca.pem` if it has TLS.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts an image from a layout there.
    pub(crate) fn put(&self, layout: &Path, name: &str, credentials: Option<&str>) {
        // What it remembers of registries goes with this one.
        let copy = skopeo().env("HOME", self.folder()).args(["copy", "--preserve-digests", "--dest-tls-verify=false"]);
        let copy = match credentials {
            Some(credentials) => copy.arg(format!("--dest-creds={credentials}")),
            None => copy,
        };
        let from = format!("oci:{}:it", layout.display());
        copy.args([from, format!("docker://{}/{name}", self.host())]).run().success();
    }
}

pub(super) fn skopeo() -> Run {
    Run::new("skopeo").env("HOME", std::env::temp_dir()).args(["--insecure-policy", "--override-os=linux"])
}

/// An authority, and a certificate of it for the loopback.
fn make_certificates(folder: &Path) {
    let openssl = |line: &str| {
        Run::new("openssl").args(line.split(' ')).dir(folder).run().success();
    };
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("{new} -x509 -days 2 -keyout ca.key -out ca.pem -subj /CN=authority-of-a-test"));
    openssl(&format!("{new} -keyout server.key -out server.csr -subj /CN=server"));
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    openssl("x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem");
}
