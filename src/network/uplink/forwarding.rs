//! The host's own forwarding (net.ipv4.ip_forward), without which nothing passes from an uplink to anywhere.
//!
//! A host that does not forward becomes a router for all its neighbours when it is told to, not only for our stacks. So
//! whoever turns it on here first makes a table of nftables, [`GUARD`], that goes on dropping what comes in through the
//! interfaces that were there at that moment and is for none of our uplinks; packets that somebody's DNAT leads elsewhere
//! are let through, so that Docker and its like work beside it. The table is also what tells that it was us: with the last
//! stack both go, unless an interface has come up since, such as a bridge of Docker's or of virtual machines, which may
//! rely on forwarding by now. Then both stay, until the last stack finds it gone.
//!
//! All of this is under a lock of the host that the caller holds.

use std::{collections::BTreeSet, fs, io, path::Path};

use super::{
    NftError,
    nft::{ask_now, remove_table_now, run},
    rules::begun,
};

/// The table that keeps the host from forwarding more than it did.
pub const GUARD: &str = "nscompose-forwarding";

/// How the tables of stacks begin; no stack has the name of the guard, as theirs end in a digest.
pub const TABLE_OF_STACK: &str = "nscompose-";

/// How outer ends of uplinks begin.
pub const LINK: &str = "nsc";

const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Why the host does not forward.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// The rules that go with it.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The setting.
    #[error("cannot write {SETTING}")]
    Setting(#[source] io::Error),
}

/// Makes sure that the host forwards; whether it did not before.
///
/// # Errors
/// When the setting cannot be changed, or not be guarded.
pub fn enable(nft: &Path) -> Result<bool, ForwardingError> {
    if is_on() {
        return Ok(false);
    }
    let names: Vec<String> = interfaces().iter().map(|name| format!("\"{name}\"")).collect();
    let mut text = begun(GUARD);
    text.push_str("\tset interfaces {\n\t\ttype ifname\n");
    if !names.is_empty() {
        text.push_str(&format!("\t\telements = {{ {} }}\n", names.join(", ")));
    }
    text.push_str(&format!(
        "\t}}\n\tchain forward {{\n\t\ttype filter hook forward priority filter;\n\
         \t\tiifname @interfaces oifname != \"{LINK}*\" ct state new ct status ! dnat drop\n\t}}\n}}\n"
    ));
    run(nft, &["-f", "-"], &text)?;
    if let Err(error) = fs::write(SETTING, "1") {
        let _ = remove_table_now(nft, GUARD);
        return Err(ForwardingError::Setting(error));
    }
    Ok(true)
}

/// Turns the host's forwarding off again if it was turned on by [`enable`] and nobody needs it any more; whether it did.
///
/// # Errors
/// When the rules cannot be seen or the setting not be changed.
pub fn disable_if_last(nft: &Path) -> Result<bool, ForwardingError> {
    let Some(guarded) = guarded(nft) else { return Ok(false) };
    let tables = ask_now(nft, &["list", "tables"])?;
    let names = objects(&tables, "table").filter_map(|table| table["name"].as_str());
    if names.into_iter().any(|name| name.starts_with(TABLE_OF_STACK) && name != GUARD) {
        return Ok(false);
    }
    if interfaces().difference(&guarded).next().is_some() {
        return Ok(false);
    }
    fs::write(SETTING, "0").map_err(ForwardingError::Setting)?;
    remove_table_now(nft, GUARD)?;
    Ok(true)
}

fn is_on() -> bool {
    fs::read_to_string(SETTING).is_ok_and(|text| text.trim() == "1")
}

/// The interfaces of the guard; none when it is not there.
fn guarded(nft: &Path) -> Option<BTreeSet<String>> {
    let set = ask_now(nft, &["list", "set", "inet", GUARD, "interfaces"]).ok()?;
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
