//! The way out of the stack: made, told of networks and ports, and taken away.

use std::{
    fmt::Write,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::{Change, Stack};
use crate::{
    diagnostics::chain,
    model::{Family, PublishedPort, ServiceName, UplinkMeans},
    network::{
        netlink,
        uplink::{
            self, Foreign, Outside, PastaEvent, Published, There, Uplink, Wish,
            forwarding::{self, ForwardingError},
            rules::Bridge,
        },
    },
    plan,
    state::{Entry, HOST_NETWORK_LOCK, Lock, LockError},
};

/// How long somebody else may work on the network of the host: each stack needs some 50 ms.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the uplink, or tells the one that there is of new bridges. One that cannot be had is no reason to fail: everything
/// inside the stack works without, and what is outside is unreachable at once.
pub(super) async fn connect(wish: &plan::Uplink, stack: &Stack, changes: &UnboundedSender<Change>) {
    let warn = |text: String| {
        let _ = changes.send(Change::Warning(text));
    };
    let bridges = bridges_of(wish);
    if let Some(there) = stack.uplink() {
        if let Err(error) = there.set_bridges(bridges).await {
            warn(format!("new networks of the stack do not lead out: {}", chain(&error)));
        } else if let UplinkMeans::Veth { nft } = &wish.means
            && let Err(text) = add_ipv6(&there, &wish.addresses_v6, nft, stack, changes).await
        {
            warn(format!("new networks of the stack do not lead out by IPv6: {text}"));
        }
        return;
    }
    let wish = match wish_of(wish, stack) {
        Ok(Some(wish)) => wish,
        Ok(None) => return,
        Err(text) => return warn(text),
    };
    if let Err(text) = make(wish, stack, changes).await {
        warn(text);
        if stack.uplink().is_none()
            && let Err(error) = uplink::refuse(&stack.netns, &stack.netlink, &bridges).await
        {
            tracing::warn!(error = chain(&error), "what is outside of the stack is waited for in vain");
        }
    }
}

/// What the facts say of the way out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) wish: plan::Uplink,
    /// Its inner address; none when there is no way out.
    pub(super) addresses: Option<Ipv4Net>,
    /// The same of IPv6, as root.
    pub(super) ipv6: Option<Ipv6Net>,
}

/// The same, of the uplink that there is now.
pub(super) async fn way(wish: &plan::Uplink, stack: &Stack) -> Way {
    let uplink = stack.uplink();
    let addresses = uplink.as_ref().map(|uplink| uplink.addresses());
    let ipv6 = match &uplink {
        Some(uplink) => uplink.inner_v6().await,
        None => None,
    };
    Way { wish: wish.clone(), addresses, ipv6 }
}

/// Goes on with the uplink of a supervisor that has died, which led to these ports.
pub(super) async fn adopt(
    way: &Way,
    ports: Vec<(String, Vec<Published>)>,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) {
    let (Some(addresses), Ok(Some(wish))) = (way.addresses, wish_of(&way.wish, stack)) else { return };
    let events = pasta_events(stack, changes);
    let there = There { addresses, ipv6: way.ipv6, ports };
    match Uplink::adopt(wish, there, stack.netns.clone(), &stack.netlink, events).await {
        Ok(uplink) => stack.objects().uplink = Some(Arc::new(uplink)),
        Err(error) => {
            let text = format!("the way out of the stack is lost: {}; `down` and `up` make it anew", hinted(&error));
            tracing::warn!("{text}");
            let _ = changes.send(Change::Warning(text));
        }
    }
}

/// What it is made from, none where there is to be none; or why it cannot be.
fn wish_of(wish: &plan::Uplink, stack: &Stack) -> Result<Option<Wish>, String> {
    let outside = match &wish.means {
        UplinkMeans::None => return Ok(None),
        UplinkMeans::Missing { program, package } => {
            return Err(format!(
                "the stack has no way out, since this host has no `{program}`: install it (package {package}), then \
                 `down` and `up`"
            ));
        }
        UplinkMeans::Veth { nft } => {
            let (link, table) = names(stack);
            (Outside::Veth { link, table, alias: format!("nscompose {}", stack.layout.project()) }, nft)
        }
        UplinkMeans::Pasta { pasta, nft } => {
            (Outside::Pasta { program: pasta.clone(), folder: stack.layout.private() }, nft)
        }
    };
    let (outside, nft) = outside;
    let (addresses, addresses_v6, host_gateway) =
        (wish.addresses.clone(), wish.addresses_v6.clone(), wish.host_gateway);
    let (nft, bridges) = (nft.clone(), bridges_of(wish));
    Ok(Some(Wish { outside, nft, addresses, addresses_v6, host_gateway, bridges }))
}

fn bridges_of(wish: &plan::Uplink) -> Vec<Bridge> {
    let bridges = wish.bridges.iter();
    bridges.map(|bridge| Bridge { interface: bridge.interface.clone(), leads_out: bridge.leads_out }).collect()
}

async fn make(wish: Wish, stack: &Stack, changes: &UnboundedSender<Change>) -> Result<(), String> {
    let none = |why: String| format!("the stack has no way out: {why}");
    let Outside::Veth { table, link, .. } = &wish.outside else {
        let uplink = Uplink::connect(wish, stack.netns.clone(), &stack.netlink, pasta_events(stack, changes)).await;
        stack.objects().uplink = Some(Arc::new(uplink.map_err(|e| none(hinted(&e)))?));
        return Ok(());
    };
    let entry = Entry::Uplink { nft: wish.nft.clone(), table: table.clone(), link: link.clone() };
    stack.note(&entry).map_err(|e| none(format!("cannot write to the journal: {e}")))?;
    let (nft, addresses_v6) = (wish.nft.clone(), wish.addresses_v6.clone());
    // Stacks take their addresses, and turn the host's forwarding on and off, one after the other.
    let lock = take_lock().await.map_err(|e| none(chain(&e)))?;
    let made = make_on_host(wish, stack, changes).await;
    let _ = lock.remove();
    let Some(uplink) = stack.uplink() else { return made.map_err(none) };
    // What is in the way of the one need not be in the way of the other.
    let six = add_ipv6(&uplink, &addresses_v6, &nft, stack, changes).await;
    match (made, six) {
        (made, Ok(())) => made.map_err(none),
        (Ok(()), Err(why)) => Err(format!("the stack has no way out by IPv6: {why}")),
        (Err(four), Err(six)) => Err(none(format!("{four}; and by IPv6: {six}"))),
    }
}

async fn make_on_host(wish: Wish, stack: &Stack, changes: &UnboundedSender<Change>) -> Result<(), String> {
    let nft = wish.nft.clone();
    let uplink = Uplink::connect(wish, stack.netns.clone(), &stack.netlink, |_| {}).await;
    let uplink = Arc::new(uplink.map_err(|e| chain(&e))?);
    stack.objects().uplink = Some(uplink.clone());
    forward(Family::V4, &nft, changes).await?;
    unobstructed(&uplink, Family::V4, changes).await
}

/// Makes the uplink of root carry IPv6, unless it does, or the host has none.
async fn add_ipv6(
    uplink: &Uplink,
    addresses: &[Ipv6Net],
    nft: &Path,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) -> Result<(), String> {
    if addresses.is_empty() {
        return Ok(());
    }
    let lock = take_lock().await.map_err(|e| chain(&e))?;
    let made = async {
        if uplink.carry_ipv6(addresses, &stack.netlink).await.map_err(|e| chain(&e))? {
            forward(Family::V6, nft, changes).await?;
            unobstructed(uplink, Family::V6, changes).await?;
        }
        Ok(())
    };
    let made = made.await;
    let _ = lock.remove();
    made
}

/// Makes sure that the host forwards, and says so if it has not before.
async fn forward(family: Family, nft: &Path, changes: &UnboundedSender<Change>) -> Result<(), String> {
    let nft = nft.to_owned();
    let enabled = tokio::task::spawn_blocking(move || forwarding::enable(&nft, family)).await;
    let Some(listening) = enabled.map_err(|e| e.to_string())?.map_err(|e| chain(&e))? else { return Ok(()) };
    let mut text =
        format!("{} of the host was off and is on until the last stack has gone", forwarding::parameter(family));
    if !listening.is_empty() {
        let _ =
            write!(text, "; so is accept_ra=2 for {}, so that the host still heeds its routers", listening.join(", "));
    }
    tracing::info!("{text}");
    let _ = changes.send(Change::Notice(text));
    Ok(())
}

/// Tells what rules of others keep from services; those that keep the stack from the outside are the error.
async fn unobstructed(uplink: &Uplink, family: Family, changes: &UnboundedSender<Change>) -> Result<(), String> {
    let Foreign { forward, input, unseen } = uplink.foreign(family).await;
    let warn = |text: String| {
        let _ = changes.send(Change::Warning(text));
    };
    if let Some(obstacle) = input {
        warn(format!(
            "services do not reach this host as `host.docker.internal`, since {} drops it; let it through with `{}`",
            obstacle.what, obstacle.mend
        ));
    }
    if let (Some(obstacle), None) = (unseen, &forward) {
        warn(format!(
            "this host has rules in {}, which nothing on it can show; if the stack has no way out, let it through with \
             `{}`, then `down` and `up`",
            obstacle.what, obstacle.mend
        ));
    }
    match forward {
        None => Ok(()),
        Some(obstacle) => Err(format!(
            "{} of this host drops what it sends; let stacks through with `{}`, then `down` and `up`",
            obstacle.what, obstacle.mend
        )),
    }
}

/// News of pasta goes to the log, and to whoever watches the stack when it is news.
fn pasta_events(stack: &Stack, changes: &UnboundedSender<Change>) -> impl Fn(PastaEvent) + Send + 'static {
    let (changes, journal) = (changes.clone(), stack.journal.clone());
    let running = std::sync::atomic::AtomicBool::new(false);
    move |event| {
        use std::sync::atomic::Ordering::Relaxed;
        match event {
            PastaEvent::Started(pid) => {
                running.store(true, Relaxed);
                tracing::info!(pid, "pasta is the uplink");
                if let Some(Err(error)) = crate::state::ProcessRecord::of(pid).map(|p| journal.add(&Entry::Process(p)))
                {
                    tracing::warn!(%error, "pasta is not written down; it dies with this process all the same");
                }
            }
            PastaEvent::Ended(how) => {
                tracing::warn!(how, "pasta has ended");
                if running.swap(false, Relaxed) {
                    let text = format!(
                        "the way out of the stack is lost for now, pasta has ended ({how}) and is started anew"
                    );
                    let _ = changes.send(Change::Warning(text));
                }
            }
        }
    }
}

/// Leads what comes in at these ports to their container, with the address of the client kept; what comes by IPv6 to `address_v6`. The
/// built-in forwarder serves them anyway.
pub(super) async fn publish(
    service: &ServiceName,
    pid: i32,
    ports: &[(PublishedPort, SocketAddr)],
    address_v6: Option<Ipv6Addr>,
    stack: &Stack,
) {
    let Some(uplink) = stack.uplink() else { return };
    if let Err(error) = uplink.publish(&owner(service, pid), led_to(ports, address_v6)).await {
        tracing::warn!(%service, error = chain(&error), "ports of a service are served by the built-in forwarder only");
    }
}

/// The same as an uplink has it.
pub(super) fn led_to(ports: &[(PublishedPort, SocketAddr)], address_v6: Option<Ipv6Addr>) -> Vec<Published> {
    let ports = ports.iter().map(|(published, target)| {
        let protocol = match published.port.protocol {
            crate::model::Protocol::Tcp => "tcp",
            crate::model::Protocol::Udp => "udp",
        };
        let target_v6 = address_v6.map(|address| SocketAddr::new(address.into(), target.port()));
        let targets = [*target].into_iter().chain(target_v6).collect();
        Published { addresses: published.listens_on.clone(), targets, protocol }
    });
    ports.collect()
}

/// Whose ports they are: a container, not a service, whose next one may be there before the last one is known to have ended.
pub(super) fn owner(service: &ServiceName, pid: i32) -> String {
    format!("{service}/{pid}")
}

/// Removes the table and the link of a stack from the host, and the host's forwarding with the last one. For the end of a stack, and for
/// that of another whose supervisor was killed.
pub fn remove_uplink(nft: &Path, table: &str, link: &str) {
    let started = std::time::Instant::now();
    let lock = loop {
        match Lock::take(Path::new(HOST_NETWORK_LOCK)) {
            Err(LockError::Held { .. }) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(3)),
            other => break other,
        }
    };
    let removed = uplink::remove_table_of_stack(nft, table)
        .map_err(ForwardingError::from)
        .and_then(|others| forwarding::disable_if_last(nft, &others));
    match removed {
        Ok(disabled) => {
            for family in disabled {
                tracing::info!("{} of the host is off again", forwarding::parameter(family));
            }
        }
        Err(error) => tracing::warn!(table, error = chain(&error), "rules of the stack are left on the host"),
    }
    drop(lock.map(Lock::remove));
    // It would go with the namespace of the stack. But that stays for as long as a connection that is being closed in there, which
    // can take minutes, and the link is for everybody to see.
    if let Err(error) = netlink::delete_link_now(link) {
        tracing::warn!(link, error = chain(&error), "the uplink of the stack is left on the host");
    }
}

async fn take_lock() -> Result<Lock, LockError> {
    let started = tokio::time::Instant::now();
    loop {
        match Lock::take(Path::new(HOST_NETWORK_LOCK)) {
            Err(LockError::Held { .. }) if started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            other => return other,
        }
    }
}

/// Names of the outer link and the table: the same every time, and others for a stack of the same name that is kept elsewhere.
fn names(stack: &Stack) -> (String, String) {
    let project = stack.layout.project();
    let digest = stack.layout.digest();
    let [a, b, c, d, ..] = digest;
    let link = format!("{}{a:02x}{b:02x}{c:02x}{d:02x}", forwarding::LINK);
    (link, format!("{}{project}-{a:02x}{b:02x}{c:02x}", forwarding::TABLE_OF_STACK))
}

/// The same, with how to mend it where that is known.
fn hinted(error: &uplink::UplinkError) -> String {
    let text = chain(error);
    if text.contains("tun socket") || text.contains("/dev/net/tun") {
        return format!("{text}; your account has to be able to open /dev/net/tun: `sudo chmod 0666 /dev/net/tun`");
    }
    text
}
