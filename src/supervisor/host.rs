//! What the command line asks about this machine, without a supervisor.

pub use crate::{network::ports::owner_of, sandbox::more_ids_hint};

use ipnet::Ipv4Net;

use crate::{
    cgroup::Hierarchy,
    diagnostics::Failure,
    dns,
    model::{Cgroups, Host, SecurityModules, UplinkMeans},
    network::{netlink::host_routes, uplink::find_program},
    sandbox::{StackIds, hard_limits},
};

/// Whether the caller is root of the machine, and not only of a user namespace.
pub fn is_root_of_machine() -> bool {
    StackIds::of_caller() == StackIds::Root
}

/// The host name (uname(2)); empty when it is none that can be written down.
pub(super) fn name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// The machine and the account as a plan sees them. Routes that cannot be listed are taken for none.
///
/// # Errors
/// When there can be no event loop.
pub fn host() -> Result<Host, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))?;
    let routes = runtime.block_on(host_routes()).unwrap_or_default();
    let ids = StackIds::of_caller();
    let cgroups = Hierarchy::detect().offers(ids == StackIds::Root);
    Ok(of_machine(&ids, routes, cgroups))
}

/// The machine, for an account that has these ids and routes.
pub(super) fn of_machine(ids: &StackIds, routes: Vec<Ipv4Net>, cgroups: Cgroups) -> Host {
    Host {
        ids: ids.for_plan(),
        invoker: ids.invoker(),
        routes: routes.into_iter().collect(),
        name: name(),
        modules: security_modules(),
        hard_limits: hard_limits(),
        cgroups,
        uplink: uplink_means(ids),
        resolver: dns::host_resolver(),
        ..Host::default()
    }
}

/// Which security modules the kernel has, as far as it shows.
pub(super) fn security_modules() -> SecurityModules {
    let apparmor = std::fs::read("/sys/module/apparmor/parameters/enabled");
    SecurityModules {
        apparmor: apparmor.is_ok_and(|text| text.starts_with(b"Y")),
        // selinuxfs is there if the module is on (selinux(8)).
        selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
    }
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
