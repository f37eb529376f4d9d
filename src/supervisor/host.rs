//! What the command line asks about this machine, without a supervisor.

pub use crate::{network::ports::owner_of, sandbox::more_ids_hint};

use crate::{
    diagnostics::Failure,
    model::{Host, UplinkMeans},
    network::{netlink::host_routes, uplink::find_program},
    sandbox::StackIds,
};

/// Whether the caller is root of the machine, and not only of a user namespace.
pub fn is_root_of_machine() -> bool {
    StackIds::of_caller() == StackIds::Root
}

/// The machine and the account as a plan sees them. Routes that cannot be listed are taken for none.
///
/// # Errors
/// When there can be no event loop.
pub fn host() -> Result<Host, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))?;
    let routes = runtime.block_on(host_routes()).unwrap_or_default().into_iter().collect();
    let ids = StackIds::of_caller();
    Ok(Host { ids: ids.for_plan(), routes, uplink: uplink_means(&ids) })
}

/// What a way out can be made with; whether the kernel plays along is seen when it is made.
pub(super) fn uplink_means(ids: &StackIds) -> UplinkMeans {
    // As for newuidmap(1): where programs are is no setting of ours.
    let path = std::env::var_os("PATH");
    let find = |name: &str| find_program(name, path.as_deref());
    let missing =
        |program: &str, package: &str| UplinkMeans::Missing { program: program.into(), package: package.into() };
    match (find("nft"), *ids == StackIds::Root) {
        (None, _) => missing("nft", "nftables"),
        (Some(nft), true) => UplinkMeans::Veth { nft },
        (Some(nft), false) => match find("pasta") {
            Some(pasta) => UplinkMeans::Pasta { pasta, nft },
            None => missing("pasta", "passt"),
        },
    }
}
