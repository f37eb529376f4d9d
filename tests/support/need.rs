//! What tests need from the host.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Something that not every host and not every account has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// Namespaces can be made: nothing works without.
    Namespaces,
    /// The tests run as root.
    Root,
    /// The tests run as an ordinary user.
    OrdinaryUser,
    /// Containers have more ids than one: root, or a range in /etc/subuid.
    Ids,
    /// Containers have one id only: an ordinary user without a range.
    SingleId,
    /// Control groups that this account may make.
    Cgroups,
    /// A program in PATH.
    Program(&'static str),
    /// A busybox that needs no libraries.
    StaticBusybox,
    /// What a way out of a stack is made with: nft, and for an ordinary user pasta and /dev/net/tun.
    Uplink,
}

impl Need {
    /// Whether it is a matter of the account. The whole of the tests runs once under each kind of account, so what is
    /// skipped under one is run under another, and nothing that could be installed is missing.
    fn is_of_account(self) -> bool {
        matches!(self, Self::Root | Self::OrdinaryUser | Self::Ids | Self::SingleId | Self::Cgroups)
    }

    /// Why it is not met; none when it is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Namespaces => {
                let made = Command::new("unshare")
                    .args(if is_root() { ["-m", "true"] } else { ["-Urm", "true"] })
                    .stderr(Stdio::null())
                    .status();
                (!made.is_ok_and(|status| status.success())).then(|| "namespaces cannot be made here".to_owned())
            }
            Self::Root => (!is_root()).then(|| "it is for root".to_owned()),
            Self::OrdinaryUser => is_root().then(|| "it is for ordinary users".to_owned()),
            Self::Ids => (!is_root() && !has_range())
                .then(|| "the account has no range in /etc/subuid, or newuidmap is not installed".to_owned()),
            Self::SingleId => (is_root() || has_range()).then(|| "the account has more ids than one".to_owned()),
            Self::Cgroups => (!is_root()).then(|| "only root is sure to have control groups".to_owned()),
            Self::Program(name) => program(name).is_none().then(|| format!("there is no program `{name}`")),
            Self::Uplink => {
                let programs: &[&str] = if is_root() { &["nft"] } else { &["nft", "pasta"] };
                let tun = || fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok();
                match programs.iter().find(|name| program(name).is_none()) {
                    Some(name) => Some(format!("there is no program `{name}`")),
                    None => (!is_root() && !tun()).then(|| "/dev/net/tun cannot be opened".to_owned()),
                }
            }
            Self::StaticBusybox => static_busybox().is_none().then(|| "there is no static /bin/busybox".to_owned()),
        }
    }
}

/// Whether something is missing; it has been printed and counted then.
pub(crate) fn lacks(needs: &[Need]) -> bool {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let needs = std::iter::once(&Need::Namespaces).chain(needs);
    let missing: Vec<(Need, String)> = needs.filter_map(|need| Some((*need, need.missing()?))).collect();
    if missing.is_empty() {
        return false;
    }
    let why = missing.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let required = env::var("NSCOMPOSE_TEST_REQUIRE").as_deref() == Ok("all");
    let excused = missing.iter().any(|(need, _)| need.is_of_account());
    assert!(!required || excused, "{test} would be skipped: {why}");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Straight to the descriptor: libtest would keep the line of a test that passes to itself.
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {why} (skipped so far: {count})");
    if let Some(path) = env::var_os("NSCOMPOSE_TEST_SKIPS") {
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{test}: {why}\n").as_bytes()));
    }
    true
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where a program of the system is. Those of people's own folders are hidden from containers and do not count.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn has_range() -> bool {
    let uid = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
    let listed = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.split(':').next()).any(|who| who == name || who == uid.to_string())
    };
    program("newuidmap").is_some() && listed("/etc/subuid") && listed("/etc/subgid")
}

fn static_busybox() -> Option<PathBuf> {
    let path = program("busybox")?;
    let bytes = fs::read(&path).ok()?;
    // A dynamic program names its interpreter near its beginning.
    let head = &bytes[..bytes.len().min(4096)];
    (!head.windows(3).any(|window| window == b"/ld")).then_some(path)
}
