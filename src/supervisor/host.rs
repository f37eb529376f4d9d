//! What the command line asks about this machine, without a supervisor.

pub use crate::{network::ports::owner_of, sandbox::more_ids_hint};

use crate::{diagnostics::Failure, model::Host, network::netlink::host_routes, sandbox::StackIds};

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
    Ok(Host { ids: ids.for_plan(), routes, invoker: ids.invoker() })
}
