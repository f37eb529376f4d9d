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
//! root, here and on the host: so the host needs no routes to them, and stacks may use the same subnets. IPv6 is treated like IPv4
//! where a network that leads out has it ([`Uplink::carry_ipv6`]).
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
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::{Ipv4Net, Ipv6Net};
use tokio::sync::Mutex;

pub use foreign::{Foreign, Obstacle};
pub use nft::{NftError, remove_table, remove_table_of_stack};
pub use pasta::{Event as PastaEvent, Pasta, PastaError};
use rules::{Bridge, Publication};

use super::netlink::{Netlink, NetlinkError};
use crate::{model::Family, sys::Netns};

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
    state: Mutex<State>,
    /// What the rules are of; locked while they are being loaded.
    loaded: Mutex<Loaded>,
    _pasta: Option<Pasta>,
}

/// A port to publish.
#[derive(Debug, Clone)]
pub struct Published {
    /// Where on the host; an unspecified address is every one of its family.
    pub addresses: Vec<SocketAddr>,
    /// Where it leads: at most one address of each family.
    pub targets: Vec<SocketAddr>,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

#[derive(Debug, Default)]
struct State {
    /// Counts changes.
    revision: u64,
    /// Changes are not to become rules: the stack goes, and the tables with it.
    leaves: bool,
    /// Rules of others that would drop what goes through it.
    foreign: Foreign,
    /// The inner IPv6 address, as root.
    ipv6: Option<Ipv6Net>,
    /// Rules of others that would drop IPv6.
    foreign_v6: Foreign,
    bridges: Vec<Bridge>,
    publications: BTreeMap<String, Vec<Publication>>,
}

/// The rules that are in place.
#[derive(Debug, Default)]
struct Loaded {
    /// The state that they are of; none before there are any.
    revision: Option<u64>,
    /// What they are without a port.
    bare: Tables,
    publications: Vec<Publication>,
}

/// What is in the two tables, the outer one of which root alone has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tables {
    inside: String,
    outside: Option<String>,
}

/// What is done to the two tables.
struct Steps {
    inside: Step,
    outside: Option<Step>,
}

/// What is done to a table.
enum Step {
    /// Rules are added to it; then this is in it.
    Add { additions: String, body: String },
    /// It is made, with this in it.
    Make(String),
    /// It is made anew.
    Replace(String),
}

impl State {
    /// Sets the ports of a container, and says whether they are others than before.
    fn set(&mut self, owner: &str, ports: Vec<Published>) -> bool {
        let before = self.publications.remove(owner).unwrap_or_default();
        let mut publications: Vec<Publication> = Vec::new();
        for Published { addresses, targets, protocol } in ports {
            for address in addresses {
                // What comes by one family to a container that has only the other is the forwarder's.
                let target = targets.iter().copied().find(|target| target.is_ipv4() == address.is_ipv4());
                let Some(target) = target.filter(|_| address.is_ipv4() || self.ipv6.is_some()) else { continue };
                if !is_of_one_link(address) {
                    let others = self.publications.values().flatten().chain(&publications);
                    let inner = rules::free_port(others, protocol, address);
                    publications.push(Publication { address, protocol, inner, target });
                }
            }
        }
        let changed = before != publications;
        self.revision += u64::from(changed);
        if !publications.is_empty() {
            self.publications.insert(owner.to_owned(), publications);
        }
        changed
    }
}

/// What a process that has ended has left of its uplink.
#[derive(Debug)]
pub struct There {
    /// The inner address.
    pub addresses: Ipv4Net,
    /// The same of IPv6, as root.
    pub ipv6: Option<Ipv6Net>,
    /// Ports of containers, by owner.
    pub ports: Vec<(String, Vec<Published>)>,
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
    /// The same for IPv6; pasta alone takes it here, others when they are told to carry it ([`Uplink::carry_ipv6`]).
    pub addresses_v6: Vec<Ipv6Net>,
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
        Self::make(wish, None, stack, netlink, events).await
    }

    /// The uplink that a process has made which has ended. A veth pair is there still; pasta has ended with that process and
    /// is started anew.
    ///
    /// # Errors
    /// When pasta does not come up, or the rules are refused.
    pub async fn adopt(
        wish: Wish,
        there: There,
        stack: Arc<Netns>,
        netlink: &Netlink,
        events: impl Fn(PastaEvent) + Send + 'static,
    ) -> Result<Self, UplinkError> {
        Self::make(wish, Some(there), stack, netlink, events).await
    }

    async fn make(
        wish: Wish,
        there: Option<There>,
        stack: Arc<Netns>,
        netlink: &Netlink,
        events: impl Fn(PastaEvent) + Send + 'static,
    ) -> Result<Self, UplinkError> {
        let Wish { outside, nft, addresses, addresses_v6, host_gateway, bridges } = wish;
        // An earlier attempt may have failed.
        netlink.accept_from(&names(&bridges)).await?;
        let (addresses, pasta) = match &outside {
            Outside::Veth { link, alias, .. } => {
                let addresses = match &there {
                    Some(there) => there.addresses,
                    None => veth::connect(link, alias, &addresses, &stack, netlink).await?,
                };
                (addresses, None)
            }
            Outside::Pasta { program, folder } => {
                let addresses = *addresses.first().ok_or(UplinkError::NoAddress)?;
                let inner = (addresses, addresses_v6.first().copied());
                let pasta = Pasta::start(program, folder, &stack, inner, netlink.clone(), events).await?;
                (addresses, Some(pasta))
            }
        };
        let mut state = State { bridges, ..State::default() };
        let adopted = there.is_some();
        if let (Some(there), Outside::Veth { link, .. }) = (there, &outside) {
            state.foreign = foreign::rules(&nft, link, Family::V4).await?;
            if there.ipv6.is_some() {
                (state.ipv6, state.foreign_v6) = (there.ipv6, foreign::rules(&nft, link, Family::V6).await?);
            }
            for (owner, ports) in there.ports {
                state.set(&owner, ports);
            }
        }
        let (state, loaded) = (Mutex::new(state), Mutex::default());
        let uplink = Self { stack, nft, outside, addresses, host_gateway, state, loaded, _pasta: pasta };
        let made = match &uplink.outside {
            // Rules of others matter to ports, which there are none of yet.
            Outside::Veth { link, .. } if !adopted => {
                let (made, foreign) = tokio::join!(uplink.establish(), foreign::rules(&uplink.nft, link, Family::V4));
                match foreign {
                    Ok(foreign) => {
                        uplink.state.lock().await.foreign = foreign;
                        made
                    }
                    Err(error) => made.and(Err(error.into())),
                }
            }
            _ => uplink.establish().await,
        };
        if let (Err(_), false, Outside::Veth { link, table, .. }) = (&made, adopted, &uplink.outside) {
            // One that hangs would do so again; who removes the stack tries it.
            if !matches!(made, Err(UplinkError::Nft(NftError::Slow { .. }))) {
                let _ = remove_table(&uplink.nft, table).await;
            }
            let _ = Netlink::open_here()?.delete_link(link).await;
        }
        made.map(|()| uplink)
    }

    async fn establish(&self) -> Result<(), UplinkError> {
        let mut loaded = self.loaded.lock().await;
        self.load(&mut loaded).await?;
        // Only with the rules in place: from here on packets go through.
        self.forward(&self.state.lock().await.bridges)
    }

    /// The stack has these bridges now.
    ///
    /// # Errors
    /// When the rules are refused; the old ones are in place then.
    pub async fn set_bridges(&self, bridges: Vec<Bridge>) -> Result<(), UplinkError> {
        let revision = {
            let mut state = self.state.lock().await;
            state.bridges = bridges;
            state.revision += 1;
            state.revision
        };
        self.settle(revision).await?;
        self.forward(&self.state.lock().await.bridges)
    }

    /// Whether the stack is about to go: as long as it is, ports that go are left for who removes the tables.
    ///
    /// # Errors
    /// When it is to stay after all and the rules are refused.
    pub async fn leaves(&self, leaves: bool) -> Result<(), UplinkError> {
        let mut loaded = self.loaded.lock().await;
        let revision = {
            let mut state = self.state.lock().await;
            state.leaves = leaves;
            state.revision
        };
        match leaves || loaded.revision == Some(revision) {
            true => Ok(()),
            false => self.load(&mut loaded).await,
        }
    }

    /// Makes it carry IPv6, too, with the first of `addresses` that is free on the host, likewise inner ones with the outer one before each;
    /// whether something was done. It is nothing where it does so already, as pasta does from the beginning if the host has IPv6, and on a host
    /// without IPv6. As root the caller holds the lock of the host's network, and sees to [`forwarding`].
    ///
    /// # Errors
    /// What could not be made; IPv4 is not affected.
    pub async fn carry_ipv6(&self, addresses: &[Ipv6Net], netlink: &Netlink) -> Result<bool, UplinkError> {
        let Outside::Veth { link, .. } = &self.outside else { return Ok(false) };
        let mut loaded = self.loaded.lock().await;
        if self.state.lock().await.ipv6.is_some() || addresses.is_empty() {
            return Ok(false);
        }
        let Some(inner) = veth::add_ipv6(link, addresses, netlink).await? else { return Ok(false) };
        let foreign = foreign::rules(&self.nft, link, Family::V6).await?;
        {
            let mut state = self.state.lock().await;
            (state.ipv6, state.foreign_v6) = (Some(inner), foreign);
            state.revision += 1;
        }
        let made = self.load(&mut loaded).await;
        if made.is_err() {
            self.state.lock().await.ipv6 = None;
        }
        made.map(|()| true)
    }

    /// Whether connections from elsewhere come to the containers with the address of the client, past the built-in forwarder: as
    /// root, unless somebody else's rules drop them, or may do so.
    pub async fn translates(&self, family: Family) -> bool {
        self.translates_in(&*self.state.lock().await, family)
    }

    fn translates_in(&self, state: &State, family: Family) -> bool {
        let (carries, foreign) = match family {
            Family::V4 => (true, &state.foreign),
            Family::V6 => (state.ipv6.is_some(), &state.foreign_v6),
        };
        let passes = foreign.forward.is_none() && foreign.unseen.is_none();
        matches!(self.outside, Outside::Veth { .. }) && carries && passes
    }

    /// Rules of others that are in the way of this family.
    pub async fn foreign(&self, family: Family) -> Foreign {
        let state = self.state.lock().await;
        match family {
            Family::V4 => state.foreign.clone(),
            Family::V6 => state.foreign_v6.clone(),
        }
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
    pub async fn publish(&self, owner: &str, ports: Vec<Published>) -> Result<(), UplinkError> {
        if !matches!(self.outside, Outside::Veth { .. }) {
            return Ok(());
        }
        let revision = {
            let mut state = self.state.lock().await;
            let changes = state.set(owner, ports) && !state.leaves;
            changes.then_some(state.revision)
        };
        match revision {
            Some(revision) => self.settle(revision).await,
            None => {
                // Nothing is being loaded any more once this comes back: the stack may end, and its table be removed.
                drop(self.loaded.lock().await);
                Ok(())
            }
        }
    }

    /// The inner IPv6 address likewise, as root.
    pub async fn inner_v6(&self) -> Option<Ipv6Net> {
        self.state.lock().await.ipv6
    }

    /// The inner address, with the prefix that both ends are in.
    pub fn addresses(&self) -> Ipv4Net {
        self.addresses
    }

    /// Has the rules be those of this revision of the state, or of a later one: who comes while others are being loaded is served
    /// along with everybody else who has come by then.
    async fn settle(&self, revision: u64) -> Result<(), UplinkError> {
        let mut loaded = self.loaded.lock().await;
        if loaded.revision.is_some_and(|loaded| loaded >= revision) {
            return Ok(());
        }
        self.load(&mut loaded).await
    }

    /// Has both tables say what the state is: each namespace has its own.
    async fn load(&self, loaded: &mut Loaded) -> Result<(), UplinkError> {
        let (revision, bare, publications, how) = {
            let state = self.state.lock().await;
            let publications: Vec<Publication> = state.publications.values().flatten().cloned().collect();
            let bare = self.tables(&state, &[]);
            let how = self.way_to(&state, &bare, &publications, loaded);
            (state.revision, bare, publications, how)
        };
        let inside = Self::load_table(&self.nft, rules::INSIDE, how.inside, Some(self.stack.clone()));
        let outside = async {
            match (how.outside, &self.outside) {
                (Some(text), Outside::Veth { table, .. }) => Self::load_table(&self.nft, table, text, None).await,
                _ => Ok(()),
            }
        };
        let first = loaded.revision.is_none();
        // What is in place is not known if one of the two is refused.
        loaded.bare = Tables::default();
        if first {
            // Nothing goes through yet.
            let (inside, outside) = tokio::join!(inside, outside);
            inside.and(outside)?;
        } else {
            // What the host led to the stack, and the stack to nobody, would be lost.
            inside.await?;
            outside.await?;
        }
        *loaded = Loaded { revision: Some(revision), bare, publications };
        Ok(())
    }

    /// What leads from the rules in place to those of this state.
    fn way_to(&self, state: &State, bare: &Tables, publications: &[Publication], loaded: &Loaded) -> Steps {
        let added: Vec<&Publication> = publications.iter().filter(|one| !loaded.publications.contains(one)).collect();
        let only_added = added.len() + loaded.publications.len() == publications.len();
        let all: Vec<&Publication> = publications.iter().collect();
        let Tables { inside, outside } = self.tables(state, &all);
        if *bare == loaded.bare && only_added {
            let add = |additions, body| Step::Add { additions, body };
            let of_table =
                |table: &str| rules::additions_outside(table, self.inner(state), &added, &self.routed(state));
            let outside = match (&self.outside, outside) {
                (Outside::Veth { table, .. }, Some(body)) => Some(add(of_table(table), body)),
                _ => None,
            };
            return Steps { inside: add(rules::additions_inside(&added), inside), outside };
        }
        let step = if loaded.revision.is_none() { Step::Make } else { Step::Replace };
        Steps { inside: step(inside), outside: outside.map(step) }
    }

    async fn load_table(program: &Path, table: &str, step: Step, netns: Option<Arc<Netns>>) -> Result<(), NftError> {
        let body = match step {
            Step::Add { additions, .. } if additions.is_empty() => return Ok(()),
            Step::Add { additions, body } => match nft::load(program, additions, netns.clone()).await {
                // Somebody has removed the table, most likely (`nft flush ruleset`).
                Err(NftError::Refused(_)) => body,
                added => return added,
            },
            Step::Make(body) => match nft::load(program, rules::made(table, &body), netns.clone()).await {
                // It is left of one that was killed, most likely.
                Err(NftError::Refused(_)) => body,
                made => return made,
            },
            Step::Replace(body) => body,
        };
        nft::load(program, rules::anew(table, &body), netns).await
    }

    fn tables(&self, state: &State, publications: &[&Publication]) -> Tables {
        let outside = match &self.outside {
            Outside::Veth { link, .. } => {
                Some(rules::outside(link, self.outer(), self.inner(state), publications, &self.routed(state)))
            }
            Outside::Pasta { .. } => None,
        };
        Tables { inside: rules::inside(&state.bridges, self.host_gateway, self.outer(), publications), outside }
    }

    fn routed(&self, state: &State) -> Vec<Family> {
        [Family::V4, Family::V6].into_iter().filter(|family| self.translates_in(state, *family)).collect()
    }

    fn inner(&self, state: &State) -> (Ipv4Addr, Option<Ipv6Addr>) {
        (self.addresses.addr(), state.ipv6.map(|net| net.addr()))
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
        // Of IPv6 the kernel asks this one only (ip6_forward), so that the rules alone keep networks apart.
        at = "/proc/sys/net/ipv6/conf/all/forwarding".into();
        match fs::write(&at, "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
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

fn outer_v6(inner: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from_bits(inner.addr().to_bits().wrapping_sub(1))
}

/// An address of IPv6 that nobody leads away from its host or link: that of loopback, or a link-local one. Loopback of IPv4 is led away, by
/// route_localnet.
fn is_of_one_link(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(address) => address.ip().is_loopback() || address.ip().is_unicast_link_local(),
    }
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
