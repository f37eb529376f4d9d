//! One operation: its effect and its inverse.

use std::{collections::BTreeMap, fs, io, os::fd::AsFd, path::Path, sync::Arc};

use ipnet::IpNet;
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::{
    Change, ExecutorError, Stack, container, elsewhere, facts,
    freeze::Means,
    hooks, life, mounts,
    run::Claims,
    shared_network,
    stack::{OwnedNamespaces, StackBridge},
    stop::{remove, send, stop, take_back},
    uplink, volume,
};
use crate::{
    life::Happening,
    model::{MacAddress, NetworkName, ObservedNetwork, ServiceName, is_of_interface},
    network::netlink::{self, Interface, Netlink},
    plan::{self, Cable, ContainerSpec, Link, NameClient, NamespaceSet, Operation, UserNamespace},
    sandbox::{Forget, NamespaceOrder, Pinned, forget_shared_memory},
    sys::{Namespace, NamespaceKind, Netns, PidFd},
};

fn cable_of(link: &Link) -> Cable {
    Cable { service: link.service.clone(), network: link.network.clone(), bridge_end: link.bridge_end.clone() }
}

/// What cannot be written down is undone: after a death of the supervisor nobody would know of it.
async fn recorded(
    written: Result<(), ExecutorError>,
    operation: &Operation,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) -> Result<(), ExecutorError> {
    if let Err(error) = written {
        let _ = undo(operation, stack, changes).await;
        return Err(error);
    }
    Ok(())
}

pub(super) async fn carry_out(
    operation: &Operation,
    stack: &Arc<Stack>,
    claims: &Claims,
    changes: &UnboundedSender<Change>,
    is_over: &watch::Receiver<bool>,
) -> Result<(), ExecutorError> {
    let tell = |change| {
        let _ = changes.send(change);
    };
    match operation {
        Operation::CreateNetwork(bridge) => {
            create_network(bridge, stack).await?;
            recorded(stack.record(&facts::network(&bridge.network), bridge), operation, stack, changes).await?;
            tell(Change::Network(bridge.network.clone(), observed_network(bridge)));
        }
        Operation::CreateVolume(name, volume) => volume::create(name, volume, stack)?,
        Operation::SetNames(names) => {
            names.clients.iter().try_for_each(|client| write_names(client, stack))?;
            let what = "write the names of";
            let failed = |(service, path, source)| ExecutorError::Files { service, what, path, source };
            stack.names.plan(names.clone()).map_err(failed)?;
            stack.record(facts::NAMES, names)?;
        }
        Operation::AskForGroup => {
            stack.ask_for_group().await.map_err(ExecutorError::NoGroup)?;
            stack.record(facts::GROUP, &true)?;
            tell(Change::GroupGiven);
        }
        Operation::CreateNamespaces(set) => {
            create_namespaces(set, stack).await?;
            recorded(stack.record(&facts::namespaces(&set.service), set), operation, stack, changes).await?;
            tell(Change::Namespaces(set.service.clone(), set.fingerprint.clone()));
        }
        Operation::Attach(link) => {
            attach(link, stack).await?;
            let fact = stack.record(&facts::link(&link.service, &link.network), link);
            if let Err(error) = fact {
                let _ = detach(&cable_of(link), stack).await;
                return Err(error);
            }
            let addresses = link.addresses.iter().map(IpNet::addr).collect();
            tell(Change::Addresses(link.service.clone(), link.network.clone(), addresses));
        }
        Operation::Create(spec) => container::create(spec, stack, changes).await?,
        Operation::Start(spec) => {
            let Err(error) = start(spec, false, stack, claims, changes, is_over).await else { return Ok(()) };
            if let StartError::Hooks(_) = error {
                take_back(&spec.service, stack).await?;
                tell(Change::ContainerRemoved(spec.service.clone()));
            }
            return Err(error.into());
        }
        // One that cannot be started stays as it was.
        Operation::StartAgain(service) | Operation::StartAlone(service) => {
            let spec = stack.spec(service)?;
            let alone = matches!(operation, Operation::StartAlone(_));
            start(&spec, alone, stack, claims, changes, is_over).await?;
        }
        // The walk through the plan does it, which knows when nobody waits any more.
        Operation::WaitFor(_) => {}
        Operation::Stop(service) | Operation::StopWithin(service, _) => {
            if let Operation::StopWithin(_, grace_ms) = operation {
                stack.set_grace_of(service, *grace_ms);
            }
            // Its unit tells that it is stopping.
            life::hands_off(service, stack).await;
            hooks::before_stop(service, stack, changes).await;
            stop(service, stack).await?;
            // Whoever starts it next, or asks what there is, finds it stopped.
            stack.settled(service).await;
            tell(Change::Stopped(service.clone()));
        }
        Operation::Kill(service, signal) => send(service, *signal, stack).await?,
        Operation::Pause(service) => pause(service, stack, changes).await?,
        Operation::Unpause(service) => unpause(service, stack).await,
        Operation::Remove(service) => {
            remove(service, stack, false).await?;
            tell(Change::ContainerRemoved(service.clone()));
        }
        Operation::RemoveButVolumes(service) => {
            remove(service, stack, true).await?;
            tell(Change::ContainerRemoved(service.clone()));
        }
        Operation::RemoveVolume(name, volume) => {
            // The keeper has the locks of containers that have gone until it has done what it was told before.
            let _ = stack.keeper.keep(Vec::new()).await;
            if !volume::remove(name, volume, stack)? {
                tell(Change::Warning(format!("volume `{name}` stays: another stack has it mounted")));
            }
        }
        Operation::Detach(cable) => {
            detach(cable, stack).await?;
            stack.strike(&facts::link(&cable.service, &cable.network));
            tell(Change::Detached(cable.service.clone(), cable.network.clone()));
        }
        Operation::Connect(wish) => {
            uplink::connect(wish, stack, changes).await;
            stack.record(facts::UPLINK, &uplink::way(wish, stack).await)?;
            tell(Change::Uplink(wish.fingerprint.clone()));
        }
        Operation::RemoveNamespaces(service) => {
            remove_namespaces(service, stack);
            tell(Change::NamespacesRemoved(service.clone()));
        }
        Operation::RemoveNetwork(removal) => {
            remove_network(&removal.network, stack).await?;
            tell(Change::NetworkRemoved(removal.network.clone()));
        }
    }
    Ok(())
}

/// How far a start has got that has failed.
enum StartError {
    /// It has not come up, and is gone, or as it was before.
    Container(ExecutorError),
    /// What is to be run once it has failed. It has been stopped.
    Hooks(ExecutorError),
}

impl From<StartError> for ExecutorError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Container(error) | StartError::Hooks(error) => error,
        }
    }
}

/// Makes a container and runs what is to be run once its program does. One that ends meanwhile, and that its policy brings
/// back, has all of this once more and is waited for.
async fn start(
    spec: &ContainerSpec,
    alone: bool,
    stack: &Arc<Stack>,
    claims: &Claims,
    changes: &UnboundedSender<Change>,
    is_over: &watch::Receiver<bool>,
) -> Result<(), StartError> {
    life::begin(spec, alone, stack, claims, changes, is_over).await.map_err(StartError::Container)?;
    let service = &spec.service;
    // Of this one: it may be another one by the time that is looked at.
    let exit = stack.objects().containers.get(service).map(|container| container.exit.clone());
    let Err(error) = hooks::after_start(spec, stack, is_over.clone()).await else { return Ok(()) };
    let again = || {
        let text =
            format!("service `{service}` has ended before `post_start` was through, is started again and waited for");
        let _ = changes.send(Change::Warning(text));
    };
    if exit.is_some_and(|exit| exit.borrow().is_some())
        && life::comes_up_after_all(service, stack, is_over.clone(), again).await
    {
        return Ok(());
    }
    life::hands_off(service, stack).await;
    stop(service, stack).await.map_err(StartError::Hooks)?;
    stack.settled(service).await;
    Err(StartError::Hooks(error))
}

/// Takes back what an operation did. What was stopped or removed stays so.
pub(super) async fn undo(
    operation: &Operation,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) -> Result<(), ExecutorError> {
    let tell = |change| {
        let _ = changes.send(change);
    };
    match operation {
        Operation::CreateNetwork(bridge) => {
            remove_network(&bridge.network, stack).await?;
            tell(Change::NetworkRemoved(bridge.network.clone()));
        }
        Operation::CreateNamespaces(set) => {
            remove_namespaces(&set.service, stack);
            tell(Change::NamespacesRemoved(set.service.clone()));
        }
        // What has run to its end before a service has been removed already.
        Operation::Start(spec) if spec.service.hook().is_some() && !stack.has(&spec.service) => {}
        Operation::Create(spec) | Operation::Start(spec) => {
            life::hands_off(&spec.service, stack).await;
            if matches!(operation, Operation::Start(_)) {
                hooks::before_stop(&spec.service, stack, changes).await;
            }
            stop(&spec.service, stack).await?;
            take_back(&spec.service, stack).await?;
            tell(Change::ContainerRemoved(spec.service.clone()));
        }
        // It stays, as it was before.
        Operation::StartAgain(service) | Operation::StartAlone(service) => {
            life::hands_off(service, stack).await;
            stop(service, stack).await?;
            stack.settled(service).await;
        }
        Operation::Pause(service) => unpause(service, stack).await,
        // Where the whole stack goes the cables go with it, and nobody waits for the kernel to take them away.
        Operation::Attach(link) if !stack.objects().containers.is_empty() => {
            detach(&cable_of(link), stack).await?;
            stack.strike(&facts::link(&link.service, &link.network));
            tell(Change::Detached(link.service.clone(), link.network.clone()));
        }
        // A volume may have been there before, and is never removed unasked. Hosts files
        // of services that run on only name more than there is.
        Operation::Attach(_)
        | Operation::AskForGroup
        | Operation::CreateVolume(..)
        | Operation::SetNames(_)
        | Operation::WaitFor(_)
        | Operation::Stop(_)
        | Operation::StopWithin(..)
        | Operation::Kill(..)
        | Operation::Unpause(_)
        | Operation::Remove(_)
        | Operation::RemoveButVolumes(_)
        | Operation::Detach(_)
        // It goes with the stack; where the stack stays, so does what it can reach.
        | Operation::Connect(_)
        | Operation::RemoveNamespaces(_)
        | Operation::RemoveNetwork(_)
        | Operation::RemoveVolume(..) => {}
    }
    Ok(())
}

async fn pause(service: &ServiceName, stack: &Stack, changes: &UnboundedSender<Change>) -> Result<(), ExecutorError> {
    let found = stack.objects().containers.get(service).map(|container| container.freezer.clone());
    let Some(freezer) = found else {
        return Err(ExecutorError::Missing(format!("the container of `{service}`")));
    };
    // Its unit has nothing on its way into it from then on.
    stack.tell(service, Happening::Paused).await;
    let means = match freezer.freeze().await {
        Ok(means) => means,
        Err(error) => {
            stack.tell(service, Happening::Resumed).await;
            return Err(ExecutorError::NotPaused { service: service.clone(), source: error.into() });
        }
    };
    life::frozen(service, stack).await;
    if means == Means::Signals {
        let _ = changes.send(Change::Warning(format!(
            "service `{service}` has no control group that could be frozen: its processes are stopped with SIGSTOP, which \
             those among them that watch over others notice, and which another process of this account can undo"
        )));
    }
    Ok(())
}

async fn unpause(service: &ServiceName, stack: &Stack) {
    let frozen = {
        let objects = stack.objects();
        let container = objects.containers.get(service).filter(|container| container.freezer.is_frozen());
        container.map(|container| container.freezer.thaw()).is_some()
    };
    if frozen {
        stack.tell(service, Happening::Resumed).await;
    }
}

async fn create_network(bridge: &plan::Bridge, stack: &Stack) -> Result<(), ExecutorError> {
    if let Some(shared) = &bridge.shared {
        return shared_network::join(bridge, shared, stack).await;
    }
    let failed = |source| ExecutorError::Network { network: bridge.network.clone(), source: Box::new(source) };
    let index = stack.netlink.add_bridge(&netlink_bridge(bridge)).await.map_err(failed)?;
    let (interface, netns, netlink) = (bridge.interface.clone(), stack.netns.clone(), stack.netlink.clone());
    let made = StackBridge { index, interface, netns, netlink, shared: None };
    stack.objects().bridges.insert(bridge.network.clone(), Arc::new(made));
    Ok(())
}

/// The same in the picture of the stack.
pub(super) fn observed_network(bridge: &plan::Bridge) -> ObservedNetwork {
    let subnets = bridge.gateways.iter().map(IpNet::trunc).collect();
    let (config, record, shared) = (bridge.config.clone(), bridge.record.clone(), bridge.shared.clone());
    ObservedNetwork { subnets, interface: bridge.interface.clone(), config, record, shared }
}

pub(super) fn netlink_bridge(bridge: &plan::Bridge) -> netlink::Bridge {
    netlink::Bridge { name: bridge.interface.clone(), addresses: bridge.gateways.clone(), mtu: bridge.mtu }
}

/// One that stacks share goes with the last of them.
async fn remove_network(network: &NetworkName, stack: &Stack) -> Result<(), ExecutorError> {
    let Some(bridge) = stack.objects().bridges.remove(network) else { return Ok(()) };
    if bridge.shared.is_some() {
        stack.strike(&facts::network(network));
        stack.keeper.forget(vec![Forget::Descriptors(facts::shared(network))]);
        return Ok(());
    }
    let deleted = bridge.netlink.delete_link(&bridge.interface).await;
    deleted.map_err(|source| ExecutorError::Network { network: network.clone(), source: Box::new(source) })?;
    stack.strike(&facts::network(network));
    Ok(())
}

async fn create_namespaces(set: &NamespaceSet, stack: &Stack) -> Result<(), ExecutorError> {
    let made = make_namespaces(set, stack).await;
    if made.is_err() {
        // They may be made, and not be ready.
        remove_files(&set.service, set.ipc, stack);
        forget_namespaces(&set.service, stack);
    }
    made
}

async fn make_namespaces(set: &NamespaceSet, stack: &Stack) -> Result<(), ExecutorError> {
    let service = &set.service;
    let failed = |source| ExecutorError::Namespaces { service: service.clone(), source };
    let mut order = NamespaceOrder {
        owner: service.file_name(),
        ids: None,
        net: set.net,
        ipc: set.ipc,
        hostname: set.hostname.clone(),
        shm_size: set.shm_size,
        domainname: set.domainname.clone(),
        pid: set.pid,
        files: Vec::new(),
        // Those of an interface wait for it.
        sysctls: set
            .sysctls
            .iter()
            .filter(|(name, _)| !is_of_interface(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    };
    // Those of other stacks first: nothing has been made then if one has gone.
    let mut held = Vec::new();
    for (shared, foreign) in &set.elsewhere {
        held.push(elsewhere::open(set, foreign, elsewhere::kind(*shared))?);
    }
    let (files, mounts): (Vec<_>, Vec<_>) = elsewhere::files(set, stack)?.into_iter().unzip();
    order.files = files;
    let mut pinned = match &set.user {
        UserNamespace::Create(map) => {
            order.ids = Some((map.outside, map.count));
            stack.keeper.namespaces(order, None, mounts).await.map_err(failed)?
        }
        UserNamespace::Of(owner) => {
            let group = stack.namespaces(owner)?;
            stack.keeper.namespaces(order, group.pinned.get(NamespaceKind::User), mounts).await.map_err(failed)?
        }
        UserNamespace::Host => {
            let users = stack.users_of_host().await.map_err(failed)?;
            stack.keeper.namespaces(order, users, mounts).await.map_err(failed)?
        }
        UserNamespace::Elsewhere(foreign) => {
            let user = elsewhere::open(set, foreign, NamespaceKind::User)?;
            let pinned = stack.keeper.namespaces(order, Some(&user), mounts).await.map_err(failed)?;
            held.push(user);
            pinned
        }
    };
    let mut keep = Vec::new();
    for (i, namespace) in held.iter().enumerate() {
        let fd = namespace.as_fd().try_clone_to_owned().map_err(|e| failed(crate::sandbox::SandboxError::Talk(e)))?;
        keep.push((format!("{}{}/{i}", held_key(service), namespace.kind().proc_name()), fd));
    }
    if !keep.is_empty() {
        stack.keeper.keep(keep).await.map_err(failed)?;
    }
    held.into_iter().for_each(|namespace| pinned.hold(namespace));
    if let Some(init) = pinned.init()
        && let Err(source) = stack.note_process(init)
    {
        kill(init);
        let path = stack.layout.journal();
        return Err(ExecutorError::Files { service: service.clone(), what: "write to", path, source });
    }
    // That of another stack is set up by that one.
    let net = match pinned.get(NamespaceKind::Net).filter(|_| set.net) {
        Some(net) => Some(prepare_network(set, net).await?),
        None => None,
    };
    own(set, pinned, net, stack)
}

/// What the keeper has namespaces of other stacks under that a service has.
pub(super) fn held_key(service: &ServiceName) -> String {
    format!("held/{}/", service.file_name())
}

/// The network namespace of a service, to be configured.
pub(super) fn open_network(set: &NamespaceSet, net: &Namespace) -> Result<(Netns, Netlink), ExecutorError> {
    let fd = net.as_fd().try_clone_to_owned();
    let netns = Netns::from_fd(fd.map_err(|source| cannot_open_network(set, source))?);
    let netlink = Netlink::open(&netns).map_err(|source| cannot_set_up(set, source))?;
    Ok((netns, netlink))
}

fn cannot_open_network(set: &NamespaceSet, source: io::Error) -> ExecutorError {
    ExecutorError::Files {
        service: set.service.clone(),
        what: "open the network namespace of",
        path: set.service.as_str().into(),
        source,
    }
}

/// Sets up a network namespace that has just been made.
async fn prepare_network(set: &NamespaceSet, net: &Namespace) -> Result<(Netns, Netlink), ExecutorError> {
    let open = |source| cannot_open_network(set, source);
    let (netns, netlink) = open_network(set, net)?;
    // As in Docker: whoever a service runs as, its ports are its own, unless the file says otherwise.
    if !set.sysctls.contains_key("net/ipv4/ip_unprivileged_port_start") {
        netns.run(|| fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")).map_err(open)?;
    }
    // Anybody on a network could call himself a router otherwise (CVE-2020-13401). Without IPv6 there is no such file.
    let _ = netns.run(|| fs::write("/proc/sys/net/ipv6/conf/default/accept_ra", "0"));
    netlink.loopback_up().await.map_err(|source| cannot_set_up(set, source))?;
    Ok((netns, netlink))
}

fn cannot_set_up(set: &NamespaceSet, source: netlink::NetlinkError) -> ExecutorError {
    ExecutorError::Attach {
        service: set.service.clone(),
        network: "loopback".parse().expect("a valid name"),
        source: Box::new(source),
    }
}

/// Takes namespaces that are ready for those of their owner.
pub(super) fn own(
    set: &NamespaceSet,
    pinned: Pinned,
    net: Option<(Netns, Netlink)>,
    stack: &Stack,
) -> Result<(), ExecutorError> {
    let service = &set.service;
    let resolver = match net.as_ref().filter(|_| set.resolver) {
        None => None,
        Some((netns, _)) => Some(stack.names.serve(netns, service).map_err(|source| ExecutorError::Files {
            service: service.clone(),
            what: "start the name server of",
            path: service.as_str().into(),
            source,
        })?),
    };
    let mut elsewhere: BTreeMap<NamespaceKind, String> =
        set.elsewhere.iter().map(|(shared, of)| (elsewhere::kind(*shared), of.container.clone())).collect();
    if let UserNamespace::Elsewhere(of) = &set.user {
        elsewhere.insert(NamespaceKind::User, of.container.clone());
    }
    // Held while its number is sure to mean it: it can be killed from outside, and is waited for by the keeper alone.
    let init = pinned.init().and_then(|init| PidFd::open(init).ok());
    let owned = OwnedNamespaces { pinned, init, elsewhere, net, _resolver: resolver };
    stack.objects().namespaces.insert(service.clone(), Arc::new(owned));
    Ok(())
}

fn remove_namespaces(service: &ServiceName, stack: &Stack) {
    let Some(owned) = stack.objects().namespaces.remove(service) else { return };
    // Everything in a pid namespace ends with its init.
    if let Some(init) = &owned.init {
        let _ = init.signal(libc::SIGKILL);
    }
    remove_files(service, owned.pinned.get(NamespaceKind::Ipc).is_some(), stack);
    stack.strike(&facts::namespaces(service));
    forget_namespaces(service, stack);
}

/// Removes what goes with namespaces in the mount namespace of supervisor and keeper.
fn remove_files(service: &ServiceName, ipc: bool, stack: &Stack) {
    if ipc {
        forget_shared_memory(&stack.layout.private(), &service.file_name());
    }
    // It is one only where it is somebody else's.
    let _ = rustix::mount::unmount(stack.layout.hosts_elsewhere(service), rustix::mount::UnmountFlags::DETACH);
}

pub(super) fn forget_namespaces(service: &ServiceName, stack: &Stack) {
    stack.keeper.forget(vec![Forget::Namespaces(service.file_name()), Forget::Descriptors(held_key(service))]);
}

async fn detach(cable: &Cable, stack: &Stack) -> Result<(), ExecutorError> {
    let bridge = stack.objects().bridges.get(&cable.network).cloned();
    let netlink = bridge.as_ref().map_or(&stack.netlink, |bridge| &bridge.netlink);
    let deleted = netlink.delete_link(&cable.bridge_end).await;
    deleted.map_err(|source| ExecutorError::Attach {
        service: cable.service.clone(),
        network: cable.network.clone(),
        source: Box::new(source),
    })
}

/// Kills an init that has just been made, or that the keeper has just said is there: its number could mean another later.
pub(super) fn kill(init: i32) {
    if let Ok(init) = PidFd::open(init) {
        let _ = init.signal(libc::SIGKILL);
    }
}

async fn attach(link: &Link, stack: &Stack) -> Result<(), ExecutorError> {
    let failed = |source| ExecutorError::Attach {
        service: link.service.clone(),
        network: link.network.clone(),
        source: Box::new(source),
    };
    let bridge = stack.objects().bridges.get(&link.network).cloned();
    let bridge = bridge.ok_or_else(|| ExecutorError::Missing(format!("the bridge of network `{}`", link.network)))?;
    let owned = stack.namespaces(&link.service)?;
    let (netns, netlink) = owned
        .net
        .as_ref()
        .ok_or_else(|| ExecutorError::Missing(format!("the network namespace of `{}`", link.service)))?;
    let cable = netlink::Link {
        bridge: bridge.index,
        host_name: link.bridge_end.clone(),
        peer_name: link.interface.clone(),
        mac: link.mac.map(MacAddress::octets),
        mtu: link.mtu,
        isolated: link.isolated,
    };
    bridge.netlink.add_link(&cable, netns).await.map_err(failed)?;
    set_parameters(link, netns)?;
    let interface = Interface {
        name: link.interface.clone(),
        addresses: link.addresses.iter().chain(&link.link_local).copied().collect(),
        gateways: link.default_gateways.clone(),
        routes: link.routes.iter().map(|route| (route.to, route.via)).collect(),
    };
    netlink.configure(&[interface]).await.map_err(failed)?;
    // Or what a service sends first would be lost, and sent again only after a second.
    bridge.netlink.settle(&[&link.bridge_end, &link.bridge]).await.map_err(failed)
}

/// Sets kernel parameters of the end in the container, which is down yet. /proc/sys/net shows the network of the thread that
/// opens a file there.
fn set_parameters(link: &Link, netns: &Netns) -> Result<(), ExecutorError> {
    for (name, value) in &link.sysctls {
        let path = Path::new("/proc/sys").join(name);
        let written = netns.run(|| fs::write(&path, value));
        written.map_err(|source| ExecutorError::Files {
            service: link.service.clone(),
            what: "set the kernel parameter",
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Writes what a client sees beside its name server.
fn write_names(client: &NameClient, stack: &Stack) -> Result<(), ExecutorError> {
    let path = stack.layout.hosts(&client.service);
    let failed = |source| ExecutorError::Files {
        service: client.service.clone(),
        what: "write the names of",
        path: path.clone(),
        source,
    };
    mounts::write_readable(&path, &client.hosts_file).map_err(failed)
}

/// A folder for the contents of a volume, with the folders above it, open to look into whatever the umask is.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    while let Some(folder) = missing.pop() {
        match fs::create_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
            Ok(()) => fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?,
        }
    }
    if path.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}
