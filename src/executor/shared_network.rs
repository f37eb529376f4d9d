//! Joining a network that stacks share: its bridge is in a network namespace that each of them holds.
//!
//! ```text
//! lock ─▶ who else is on it? ── nobody ──────────▶ a new namespace, with the bridge
//!                            └─ STACK ──socket──▶ the descriptor of the one that there is
//! ```
//!
//! There is no process that keeps the network: the namespace goes with the last stack on it. Stacks of an ordinary user are in
//! one user namespace (supervisor/start.rs), which is what lets one of them connect its containers to a bridge that another one
//! made: moving a device takes CAP_NET_ADMIN in the user namespaces of both ends (rtnetlink, `rtnl_link_get_net_capable`).

use std::{io, os::fd::AsFd, sync::Arc};

use super::{ExecutorError, Stack, facts, operation::netlink_bridge, stack::StackBridge};
use crate::{
    model::{NetworkName, ProjectName},
    network::{
        self,
        netlink::{Netlink, NetlinkError},
    },
    plan,
    state::{FolderLock, SharedNetworks, StackLayout},
    sys::Netns,
};

/// Asks the supervisor of another stack for the namespace of a network that it is on.
pub type AskForNetwork = fn(&StackLayout, &NetworkName) -> io::Result<Option<Netns>>;

pub(super) async fn join(bridge: &plan::Bridge, shared: &NetworkName, stack: &Stack) -> Result<(), ExecutorError> {
    let failed =
        |source: NetlinkError| ExecutorError::Network { network: bridge.network.clone(), source: Box::new(source) };
    let (layout, name, ask) = (stack.layout.clone(), shared.clone(), stack.ask_for_network);
    let found = tokio::task::spawn_blocking(move || find(&layout, &name, ask)).await;
    // Held until the bridge is there for others to be found.
    let (_lock, found) = found
        .map_err(io::Error::other)
        .and_then(|found| found)
        .map_err(|source| failed(NetlinkError::Open { source }))?;
    let (netns, from) = match (stack.shared_network(shared), found) {
        // Under another name in the same file.
        (Some(netns), _) => (netns, Some(stack.layout.project().clone())),
        (None, Some((netns, from))) => (Arc::new(netns), Some(from)),
        (None, None) => {
            let netns = Netns::create().map_err(|source| failed(NetlinkError::Open { source }))?;
            network::keep_bridges_from_netfilter(&netns);
            (Arc::new(netns), None)
        }
    };
    let netlink = Netlink::open(&netns).map_err(|error| match (&error, &from) {
        // It belongs to another user namespace, of which we are not root.
        (NetlinkError::Open { source }, Some(stack)) if source.raw_os_error() == Some(libc::EPERM) => {
            ExecutorError::SharedApart { network: bridge.network.clone(), stack: stack.clone() }
        }
        _ => failed(error),
    })?;
    let index = match from {
        None => {
            netlink.loopback_up().await.map_err(failed)?;
            netlink.add_bridge(&netlink_bridge(bridge)).await.map_err(failed)?
        }
        Some(_) => {
            let links = netlink.links().await.map_err(failed)?;
            let there = links.into_iter().find(|link| link.name == bridge.interface);
            there.map(|link| link.index).ok_or_else(|| {
                ExecutorError::Missing(format!("the bridge `{}` of network `{shared}`", bridge.interface))
            })?
        }
    };
    let kept = netns.as_fd().try_clone_to_owned().map_err(|source| failed(NetlinkError::Open { source }))?;
    let kept = stack.keeper.keep(vec![(facts::shared(&bridge.network), kept)]).await;
    kept.map_err(|error| failed(NetlinkError::Open { source: io::Error::other(error) }))?;
    let made = StackBridge { index, interface: bridge.interface.clone(), netns, netlink, shared: Some(shared.clone()) };
    stack.objects().bridges.insert(bridge.network.clone(), Arc::new(made));
    Ok(())
}

type Found = (FolderLock, Option<(Netns, ProjectName)>);

fn find(layout: &StackLayout, name: &NetworkName, ask: AskForNetwork) -> io::Result<Found> {
    let networks = SharedNetworks::new(layout.layout());
    let lock = networks.lock()?;
    for other in networks.leases(name).into_keys().filter(|other| other != layout.project()) {
        match ask(&layout.layout().stack(&other), name) {
            Ok(Some(netns)) => return Ok((lock, Some((netns, other)))),
            // It has not joined yet, and waits for the lock.
            Ok(None) => {}
            // One that is just ending does not answer, and lets go of the network.
            Err(_) if !networks.leases(name).contains_key(&other) => {}
            // It may be on the network. A second bridge of the same name would keep the two apart without a word.
            Err(error) => {
                let text = format!("stack `{other}`, which is on it, does not answer ({error})");
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    Ok((lock, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Layout, Lease, ProcessRecord};

    /// Another stack that is alive, and has addresses on the network.
    fn with_a_neighbour(check: impl FnOnce(&StackLayout, &NetworkName)) {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data"));
        layout.create().expect("folders");
        let name = "proxy".parse().expect("name");
        let owner = ProcessRecord::of(std::process::id() as i32).expect("this process");
        let lease = Lease { owner, services: Default::default() };
        SharedNetworks::new(&layout).take(&name, &"other".parse().expect("name"), &lease).expect("taken");
        check(&layout.stack(&"ours".parse().expect("name")), &name);
    }

    #[test]
    fn a_stack_that_does_not_answer_is_not_taken_for_one_that_is_not_there() {
        with_a_neighbour(|layout, name| {
            let error = find(layout, name, |_, _| Err(io::ErrorKind::WouldBlock.into())).expect_err("no second bridge");
            assert!(error.to_string().contains("`other`"), "{error}");
        });
    }

    #[test]
    fn a_stack_that_ends_meanwhile_is_not_waited_for() {
        with_a_neighbour(|layout, name| {
            let ask = |other: &StackLayout, _: &NetworkName| {
                SharedNetworks::new(other.layout()).give_back(other.project(), &Default::default());
                Err(io::ErrorKind::ConnectionRefused.into())
            };
            assert!(find(layout, name, ask).expect("a network of our own").1.is_none());
        });
    }

    #[test]
    fn a_stack_that_has_not_joined_yet_is_none_to_join() {
        with_a_neighbour(|layout, name| {
            assert!(find(layout, name, |_, _| Ok(None)).expect("a network of our own").1.is_none());
        });
    }
}
