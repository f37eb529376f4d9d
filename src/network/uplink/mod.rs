//! The way out of a stack: a link from its network namespace to the host's, and the rules on both sides of it.
//!
//! ```text
//!  host                                    │ network namespace of the stack
//!                                          │
//!  routes ◀─ masquerade ─ nscXXXXXXXX ── veth ── nsc0 ◀─ masquerade ─ forward ◀─ bridges
//!              DNAT ─▶ (root)              │                DNAT ─▶ containers
//!                                          │
//!  sockets ◀── pasta (ordinary user) ──── tap ── nsc0 ◀─ likewise
//! ```
//!
//! Inside it is the same for root and for an ordinary user: an interface [`INNER`] with the default route, forwarding for
//! the bridges that lead out, and one table of nftables that keeps networks apart, masquerades what leaves, and leads what
//! comes in for a published port to its container ([`rules::inside`]). Addresses of containers are translated twice as
//! root, here and on the host: so the host needs no routes to them, and stacks may use the same subnets.
//!
//! Outside, root has a veth pair (`veth.rs`) and one table of nftables for the stack ([`rules::outside`]); an ordinary user
//! has pasta(1) (`pasta.rs`). [`forwarding`] turns the host's forwarding on and off. Rules are text for nft(8), one transaction a table: there is
//! no crate for nftables that is pure Rust, maintained and not GPL, and nft is on every host that has the rules.

mod foreign;
pub mod forwarding;
mod legacy;
mod nft;
mod pasta;
pub mod rules;
mod veth;

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::Ipv4Net;
use tokio::sync::Mutex;

pub use foreign::{Foreign, Obstacle};
pub use nft::{NftError, remove_table, remove_table_now};
pub use pasta::{Event as PastaEvent, Pasta, PastaError};
use rules::{Bridge, Publication};

use super::netlink::{Netlink, NetlinkError};
use crate::sys::Netns;

/// The name of the uplink inside the stack.
pub const INNER: &str = crate::model::UPLINK_INTERFACE;

/// What the outside is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// A veth pair into the namespace that the caller is in.
    Veth {
        /// The name of its outer end, at most 15 bytes.
        link: String,
        /// The name of the table of nftables out there.
        table: String,
        /// What the link is there for, for people.
        alias: String,
    },
    /// pasta(1).
    Pasta {
        /// Where the program is.
        program: PathBuf,
        /// A folder that nobody else sees, where the namespace is mounted for it to be opened.
        folder: PathBuf,
    },
}

/// Why there is no uplink.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// A link, an address or a route.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The rules.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// pasta(1).
    #[error(transparent)]
    Pasta(#[from] PastaError),
    /// A setting of the kernel.
    #[error("cannot write {}", path.display())]
    Setting {
        /// The file below /proc/sys.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Each of the pairs of addresses is in use.
    #[error("every address for the uplink that was tried is in use on this host")]
    NoAddress,
}

/// An uplink that is there. Dropping it ends pasta; a veth pair goes with the namespace of the stack, and the table on the
/// host is for [`remove_table`].
#[derive(Debug)]
pub struct Uplink {
    stack: Arc<Netns>,
    nft: PathBuf,
    outside: Outside,
    /// The inner address; the outer one is the other of the two.
    addresses: Ipv4Net,
    host_gateway: Ipv4Addr,
    /// Rules of others that would drop what goes through it.
    foreign: Foreign,
    state: Mutex<State>,
    _pasta: Option<Pasta>,
}

#[derive(Debug, Default)]
struct State {
    bridges: Vec<Bridge>,
    publications: BTreeMap<String, Vec<Publication>>,
}

/// Ports of a container: addresses on the host, where they lead, and the protocol.
pub type Ports = Vec<(Vec<SocketAddr>, SocketAddr, &'static str)>;

impl State {
    /// Sets the ports of a container, and says whether they are others than before.
    fn set(&mut self, owner: &str, ports: Ports) -> bool {
        let before = self.publications.remove(owner).unwrap_or_default();
        let mut publications: Vec<Publication> = Vec::new();
        for (addresses, target, protocol) in ports {
            let SocketAddr::V4(target) = target else { continue };
            for address in addresses {
                // IPv6 is the forwarder's, as long as the container has none.
                let SocketAddr::V4(address) = address else { continue };
                let others = self.publications.values().flatten().chain(&publications);
                let inner = rules::free_port(others, protocol, address.port());
                publications.push(Publication { address, protocol, inner, target });
            }
        }
        let changed = before != publications;
        if !publications.is_empty() {
            self.publications.insert(owner.to_owned(), publications);
        }
        changed
    }
}

/// What an uplink is made from.
#[derive(Debug, Clone)]
pub struct Wish {
    /// With what.
    pub outside: Outside,
    /// nft(8).
    pub nft: PathBuf,
    /// Addresses of the inner end with their prefix, of which the first that is free on the host is taken; the outer end
    /// has the address before it.
    pub addresses: Vec<Ipv4Net>,
    /// The address that containers reach the host's loopback at.
    pub host_gateway: Ipv4Addr,
    /// The bridges of the stack.
    pub bridges: Vec<Bridge>,
}

impl Uplink {
    /// Makes the uplink of the stack whose namespace is `stack`. As root the caller holds the lock of the host's network, since
    /// addresses are chosen by what there is; see [`forwarding`]. To be called on the thread that lives as long as the stack, which pasta dies with.
    ///
    /// # Errors
    /// What could not be made; the rest has been undone.
    pub async fn connect(
        wish: Wish,
        stack: Arc<Netns>,
        netlink: &Netlink,
        events: impl Fn(PastaEvent) + Send + 'static,
    ) -> Result<Self, UplinkError> {
        Self::make(wish, None, Vec::new(), stack, netlink, events).await
    }

    /// The uplink that a process has made which has ended: with this inner address, and these ports by owner. A veth pair is there
    /// still; pasta has ended with that process and is started anew.
    ///
    /// # Errors
    /// When pasta does not come up, or the rules are refused.
    pub async fn adopt(
        wish: Wish,
        addresses: Ipv4Net,
        ports: Vec<(String, Ports)>,
        stack: Arc<Netns>,
        netlink: &Netlink,
        events: impl Fn(PastaEvent) + Send + 'static,
    ) -> Result<Self, UplinkError> {
        Self::make(wish, Some(addresses), ports, stack, netlink, events).await
    }

    async fn make(
        wish: Wish,
        there: Option<Ipv4Net>,
        ports: Vec<(String, Ports)>,
        stack: Arc<Netns>,
        netlink: &Netlink,
        events: impl Fn(PastaEvent) + Send + 'static,
    ) -> Result<Self, UplinkError> {
        let Wish { outside, nft, addresses, host_gateway, bridges } = wish;
        // An earlier attempt may have failed.
        netlink.accept_from(&names(&bridges)).await?;
        let (addresses, pasta, foreign) = match &outside {
            Outside::Veth { link, alias, .. } => {
                let foreign = foreign::rules(&nft, link).await?;
                let addresses = match there {
                    Some(addresses) => addresses,
                    None => veth::connect(link, alias, &addresses, &stack, netlink).await?,
                };
                (addresses, None, foreign)
            }
            Outside::Pasta { program, folder } => {
                let addresses = *addresses.first().ok_or(UplinkError::NoAddress)?;
                let pasta = Pasta::start(program, folder, &stack, addresses, netlink.clone(), events).await?;
                (addresses, Some(pasta), Foreign::default())
            }
        };
        let mut state = State { bridges, publications: BTreeMap::new() };
        if matches!(outside, Outside::Veth { .. }) {
            for (owner, ports) in ports {
                state.set(&owner, ports);
            }
        }
        let state = Mutex::new(state);
        let uplink = Self { stack, nft, outside, addresses, host_gateway, foreign, state, _pasta: pasta };
        let made = uplink.establish().await;
        if let (Err(_), None, Outside::Veth { link, table, .. }) = (&made, there, &uplink.outside) {
            // One that hangs would do so again; who removes the stack tries it.
            if !matches!(made, Err(UplinkError::Nft(NftError::Slow { .. }))) {
                let _ = remove_table(&uplink.nft, table).await;
            }
            let _ = Netlink::open_here()?.delete_link(link).await;
        }
        made.map(|()| uplink)
    }

    async fn establish(&self) -> Result<(), UplinkError> {
        let state = self.state.lock().await;
        self.apply(&state).await?;
        // Only with the rules in place: from here on packets go through.
        self.forward(&state.bridges)
    }

    /// The stack has these bridges now.
    ///
    /// # Errors
    /// When the rules are refused; the old ones are in place then.
    pub async fn set_bridges(&self, bridges: Vec<Bridge>) -> Result<(), UplinkError> {
        let mut state = self.state.lock().await;
        state.bridges = bridges;
        self.apply_inside(&state).await?;
        self.forward(&state.bridges)
    }

    /// Whether connections from elsewhere come to the containers with the address of the client, past the built-in forwarder: as
    /// root, unless somebody else's rules drop them, or may do so.
    pub fn translates(&self) -> bool {
        matches!(self.outside, Outside::Veth { .. }) && self.foreign.forward.is_none() && self.foreign.unseen.is_none()
    }

    /// Rules of others that are in the way.
    pub fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    /// Whether a bridge leads out, so that answers of what is on it do.
    pub async fn is_on(&self, bridge: &str) -> bool {
        self.state.lock().await.bridges.iter().any(|there| there.leads_out && there.interface == bridge)
    }

    /// Leads these ports of the host to a container, instead of what `owner` had before: for clients on the host, and for those from
    /// elsewhere if it [translates](Self::translates).
    ///
    /// # Errors
    /// When the rules are refused.
    pub async fn publish(&self, owner: &str, ports: Ports) -> Result<(), UplinkError> {
        if !matches!(self.outside, Outside::Veth { .. }) {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        if !state.set(owner, ports) {
            return Ok(());
        }
        self.apply(&state).await
    }

    /// The inner address, with the prefix that both ends are in.
    pub fn addresses(&self) -> Ipv4Net {
        self.addresses
    }

    /// Both tables, anew.
    async fn apply(&self, state: &State) -> Result<(), UplinkError> {
        self.apply_inside(state).await?;
        if let Outside::Veth { link, table, .. } = &self.outside {
            let publications: Vec<&Publication> = state.publications.values().flatten().collect();
            let inner = self.addresses.addr();
            let text = rules::outside(table, link, self.outer(), inner, &publications, self.translates());
            nft::load(&self.nft, text, None).await?;
        }
        Ok(())
    }

    async fn apply_inside(&self, state: &State) -> Result<(), UplinkError> {
        let publications: Vec<&Publication> = state.publications.values().flatten().collect();
        let text = rules::inside(&state.bridges, self.host_gateway, self.outer(), &publications);
        Ok(nft::load(&self.nft, text, Some(self.stack.clone())).await?)
    }

    fn outer(&self) -> Ipv4Addr {
        outer(self.addresses)
    }

    /// Turns forwarding on for what comes from bridges that lead out, and from the uplink; and off for others.
    fn forward(&self, bridges: &[Bridge]) -> Result<(), UplinkError> {
        let of_bridges = bridges.iter().map(|bridge| (bridge.interface.as_str(), bridge.leads_out));
        forward(&self.stack, of_bridges.chain([(INNER, true)]))
    }
}

/// Makes what lies outside of a stack unreachable at once, when there is no uplink after all: containers have a default route, and
/// the kernel drops without a word what it is not to forward (`ip_error`, net/ipv4/route.c). So it shall forward, and find no way
/// for anything. That takes no nft, which may be why there is no uplink.
///
/// # Errors
/// When the kernel refuses it; then nothing is forwarded.
pub async fn refuse(stack: &Netns, netlink: &Netlink, bridges: &[Bridge]) -> Result<(), UplinkError> {
    netlink.refuse_from(&names(bridges)).await?;
    forward(stack, bridges.iter().map(|bridge| (bridge.interface.as_str(), bridge.leads_out)))
}

fn names(bridges: &[Bridge]) -> Vec<&str> {
    bridges.iter().map(|bridge| bridge.interface.as_str()).collect()
}

fn forward<'a>(stack: &Netns, interfaces: impl Iterator<Item = (&'a str, bool)>) -> Result<(), UplinkError> {
    let setting = |(interface, on): (&str, bool)| (format!("/proc/sys/net/ipv4/conf/{interface}/forwarding"), on);
    let settings: Vec<(String, bool)> = interfaces.map(setting).collect();
    let mut at = PathBuf::new();
    let written = stack.run(|| {
        settings.iter().try_for_each(|(path, on)| {
            at = path.into();
            fs::write(path, if *on { "1" } else { "0" })
        })
    });
    written.map_err(|source| UplinkError::Setting { path: at, source })
}

/// The address before.
fn outer(inner: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(inner.addr().to_bits().wrapping_sub(1))
}

/// Where a program of the system is; an ordinary user's PATH may lack sbin.
pub fn find_program(name: &str, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let folders = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    folders
        .into_iter()
        .chain(usual)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
