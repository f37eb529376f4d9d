//! The host's own forwarding (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding), without which nothing passes from an uplink to
//! anywhere. Each family has its own switch, turned on only when a stack needs it.
//!
//! A host that does not forward becomes a router for all its neighbours when it is told to, not only for our stacks. So
//! whoever turns it on here first makes a table of nftables, [`GUARD`], that goes on dropping what comes in through the
//! interfaces that were there at that moment and is for none of our uplinks; packets that somebody's DNAT leads elsewhere
//! are let through, so that Docker and its like work beside it. The table is also what tells that it was us: with the last
//! stack both go, unless an interface has come up since, such as a bridge of Docker's or of virtual machines, which may
//! rely on forwarding by now. Then both stay, until the last stack finds it gone.
//!
//! With IPv6 there is more to it: a host that forwards takes itself for a router and forgets the default routes that other routers have
//! told it (`rt6_purge_dflt_routers`, net/ipv6/route.c), and listens to them no longer, unless accept_ra is 2 (ip-sysctl). So
//! where it listens it is made to go on first, interfaces that are still to come included; the table knows which they were.
//!
//! All of this is under a lock of the host that the caller holds.

use std::{collections::BTreeSet, fs, io, path::Path};

use super::{
    NftError,
    nft::{ask_now, make_now, remove_table_now},
};
use crate::model::Family;

/// The table that keeps the host from forwarding more IPv4 than it did.
pub const GUARD: &str = "nscompose-forwarding";

/// The same for IPv6. It does not begin like the tables of stacks, which versions without it would take it for.
pub const GUARD_V6: &str = "nscompose6-forwarding";

/// How the tables of stacks begin; no stack has the name of the guard, as theirs end in a digest.
pub const TABLE_OF_STACK: &str = "nscompose-";

/// How outer ends of uplinks begin.
pub const LINK: &str = "nsc";

const IPV6_CONF: &str = "/proc/sys/net/ipv6/conf";

/// The kernel parameter of a family, below /proc/sys.
fn setting(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

/// The kernel parameter of a family, as sysctl(8) calls it.
pub fn parameter(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    }
}

fn guard(family: Family) -> &'static str {
    match family {
        Family::V4 => GUARD,
        Family::V6 => GUARD_V6,
    }
}

/// Why the host does not forward.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// The rules that go with it.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The setting.
    #[error("cannot write /proc/sys/{name}")]
    Setting {
        /// Which, below /proc/sys.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes sure that the host forwards this family; none if it did before. Else the interfaces, `default` for those that are still to come,
/// whose accept_ra had to become 2 for the host to heed other routers as before.
///
/// # Errors
/// When the setting cannot be changed, or not be guarded; what was done has been undone.
pub fn enable(nft: &Path, family: Family) -> Result<Option<Vec<String>>, ForwardingError> {
    if is_on(family) {
        return Ok(None);
    }
    let listening = if family == Family::V6 { listening() } else { Vec::new() };
    let (guard, protocol) = (guard(family), if family == Family::V4 { "ipv4" } else { "ipv6" });
    let mut text = String::new();
    add_set(&mut text, "interfaces", interfaces().iter());
    add_set(&mut text, "listening", listening.iter());
    text.push_str(&format!(
        "\tchain forward {{\n\t\ttype filter hook forward priority filter;\n\
         \t\tmeta nfproto {protocol} iifname @interfaces oifname != \"{LINK}*\" ct state new ct status ! dnat drop\n\t}}\n"
    ));
    make_now(nft, guard, &text)?;
    let set = listen(&listening, "2").and_then(|()| write(setting(family), "1"));
    if let Err(error) = set {
        let _ = listen(&listening, "1");
        let _ = remove_table_now(nft, guard);
        return Err(error);
    }
    Ok(Some(listening))
}

/// Turns the host's forwarding off again where it was turned on by [`enable`] and nobody needs it any more; the families of which it did.
/// `tables` are those of nftables that there are.
///
/// # Errors
/// When the setting cannot be changed or the guard not be removed.
pub fn disable_if_last(nft: &Path, tables: &[String]) -> Result<Vec<Family>, ForwardingError> {
    if tables.iter().any(|name| name.starts_with(TABLE_OF_STACK) && name != GUARD) {
        return Ok(Vec::new());
    }
    let mut disabled = Vec::new();
    for family in [Family::V4, Family::V6] {
        if !tables.iter().any(|name| name == guard(family)) {
            continue;
        }
        let Some(guarded) = elements(nft, guard(family), "interfaces") else { continue };
        if interfaces().difference(&guarded).next().is_some() {
            continue;
        }
        write(setting(family), "0")?;
        if family == Family::V6 {
            // Only now, or it would forget its routers after all. An interface that has gone is no mistake.
            let listening = elements(nft, GUARD_V6, "listening").unwrap_or_default();
            let there = listening.into_iter().filter(|name| accepts(name) == Some(2));
            listen(&there.collect::<Vec<_>>(), "1")?;
        }
        remove_table_now(nft, guard(family))?;
        disabled.push(family);
    }
    Ok(disabled)
}

/// Whether a table of nftables is of a stack or guards what [`enable`] did.
pub(super) fn is_ours(table: &str) -> bool {
    table.starts_with(TABLE_OF_STACK) || table == GUARD_V6
}

fn is_on(family: Family) -> bool {
    fs::read_to_string(format!("/proc/sys/{}", setting(family))).is_ok_and(|text| text.trim() != "0")
}

fn write(name: &str, value: &str) -> Result<(), ForwardingError> {
    fs::write(format!("/proc/sys/{name}"), value)
        .map_err(|source| ForwardingError::Setting { name: name.to_owned(), source })
}

/// The interfaces on which the host heeds router advertisements as long as it forwards nothing.
fn listening() -> Vec<String> {
    let names = fs::read_dir(IPV6_CONF).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let none = |name: &str| {
        let forwarding = fs::read_to_string(format!("{IPV6_CONF}/{name}/forwarding"));
        forwarding.is_ok_and(|text| text.trim() == "0")
    };
    let ours = |name: &str| matches!(name, "lo" | "all") || name.starts_with(LINK);
    let mut names: Vec<String> = names.filter(|name| !ours(name) && accepts(name) == Some(1) && none(name)).collect();
    names.sort();
    names
}

/// accept_ra of an interface; none if there is none.
fn accepts(interface: &str) -> Option<i32> {
    fs::read_to_string(format!("{IPV6_CONF}/{interface}/accept_ra")).ok()?.trim().parse().ok()
}

fn listen(interfaces: &[String], value: &str) -> Result<(), ForwardingError> {
    interfaces.iter().try_for_each(|name| write(&format!("net/ipv6/conf/{name}/accept_ra"), value))
}

fn add_set<'a>(text: &mut String, name: &str, interfaces: impl Iterator<Item = &'a String>) {
    let names: Vec<String> = interfaces.map(|name| format!("\"{name}\"")).collect();
    text.push_str(&format!("\tset {name} {{\n\t\ttype ifname\n"));
    if !names.is_empty() {
        text.push_str(&format!("\t\telements = {{ {} }}\n", names.join(", ")));
    }
    text.push_str("\t}\n");
}

/// The interfaces in a set of a guard; none when it is not there.
fn elements(nft: &Path, guard: &str, set: &str) -> Option<BTreeSet<String>> {
    let set = ask_now(nft, &["list", "set", "inet", guard, set]).ok()?;
    let set = objects(&set, "set").next()?;
    let names = set["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
    Some(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// All of the host's but loopback and uplinks.
fn interfaces() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    names.filter(|name| name != "lo" && !name.starts_with(LINK)).collect()
}

/// The objects of one kind in an answer of nft.
pub(super) fn objects<'a>(answer: &'a serde_json::Value, kind: &'a str) -> impl Iterator<Item = &'a serde_json::Value> {
    let all = answer["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(move |object| object.get(kind))
}
