//! The way out of the stack: made, told of networks and ports, and taken away.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::{Change, Stack};
use crate::{
    model::{PublishedPort, ServiceName, UplinkMeans},
    network::{
        netlink,
        uplink::{
            self, Foreign, Outside, PastaEvent, Uplink, Wish,
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
        }
        return;
    }
    let wish = match wish_of(wish, stack) {
        Ok(Some(wish)) => wish,
        Ok(None) => return,
        Err(text) => return warn(text),
    };
    if let Err(text) = make(wish, stack, changes).await {
        warn(format!("the stack has no way out: {text}"));
        if stack.uplink().is_none()
            && let Err(error) = uplink::refuse(&stack.netns, &stack.netlink, &bridges).await
        {
            tracing::warn!(error = chain(&error), "what is outside of the stack is waited for in vain");
        }
    }
}

/// What the journal says of the way out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) wish: plan::Uplink,
    /// Its inner address; none when there is no way out.
    pub(super) addresses: Option<Ipv4Net>,
}

/// Goes on with the uplink of a supervisor that has died, which led to these ports.
pub(super) async fn adopt(
    way: &Way,
    ports: Vec<(String, uplink::Ports)>,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) {
    let (Some(addresses), Ok(Some(wish))) = (way.addresses, wish_of(&way.wish, stack)) else { return };
    let events = pasta_events(stack, changes);
    match Uplink::adopt(wish, addresses, ports, stack.netns.clone(), &stack.netlink, events).await {
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
    let (addresses, host_gateway) = (wish.addresses.clone(), wish.host_gateway);
    Ok(Some(Wish { outside, nft: nft.clone(), addresses, host_gateway, bridges: bridges_of(wish) }))
}

fn bridges_of(wish: &plan::Uplink) -> Vec<Bridge> {
    let bridges = wish.bridges.iter();
    bridges.map(|bridge| Bridge { interface: bridge.interface.clone(), leads_out: bridge.leads_out }).collect()
}

async fn make(wish: Wish, stack: &Stack, changes: &UnboundedSender<Change>) -> Result<(), String> {
    let Outside::Veth { table, link, .. } = &wish.outside else {
        let uplink = Uplink::connect(wish, stack.netns.clone(), &stack.netlink, pasta_events(stack, changes)).await;
        stack.objects().uplink = Some(Arc::new(uplink.map_err(|e| hinted(&e))?));
        return Ok(());
    };
    let entry = Entry::Uplink { nft: wish.nft.clone(), table: table.clone(), link: link.clone() };
    stack.note(&entry).map_err(|e| format!("cannot write to the journal: {e}"))?;
    // Stacks take their addresses, and turn the host's forwarding on and off, one after the other.
    let lock = take_lock().await.map_err(|e| chain(&e))?;
    let made = make_on_host(wish, stack, changes).await;
    let _ = lock.remove();
    made
}

async fn make_on_host(wish: Wish, stack: &Stack, changes: &UnboundedSender<Change>) -> Result<(), String> {
    let nft = wish.nft.clone();
    let uplink = Uplink::connect(wish, stack.netns.clone(), &stack.netlink, |_| {}).await;
    let uplink = Arc::new(uplink.map_err(|e| chain(&e))?);
    stack.objects().uplink = Some(uplink.clone());
    let enabled = tokio::task::spawn_blocking(move || forwarding::enable(&nft)).await.map_err(|e| e.to_string())?;
    if enabled.map_err(|e| chain(&e))? {
        let text = "net.ipv4.ip_forward of the host was off and is on until the last stack has gone";
        tracing::info!("{text}");
        let _ = changes.send(Change::Notice(text.to_owned()));
    }
    let Foreign { forward, input, unseen } = uplink.foreign();
    let warn = |text: String| {
        let _ = changes.send(Change::Warning(text));
    };
    if let Some(obstacle) = input {
        warn(format!(
            "services do not reach this host as `host.docker.internal`, since {} drops it; let it through with `{}`",
            obstacle.what, obstacle.mend
        ));
    }
    if let (Some(obstacle), None) = (unseen, forward) {
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

/// Leads what comes in at these ports to their container, with the address of the client kept. The built-in forwarder
/// serves them anyway.
pub(super) async fn publish(service: &ServiceName, pid: i32, ports: &[(PublishedPort, SocketAddr)], stack: &Stack) {
    let Some(uplink) = stack.uplink() else { return };
    if let Err(error) = uplink.publish(&owner(service, pid), led_to(ports)).await {
        tracing::warn!(%service, error = chain(&error), "ports of a service are served by the built-in forwarder only");
    }
}

/// The same as an uplink has it.
pub(super) fn led_to(ports: &[(PublishedPort, SocketAddr)]) -> uplink::Ports {
    let ports = ports.iter().map(|(published, target)| {
        let protocol = match published.port.protocol {
            crate::model::Protocol::Tcp => "tcp",
            crate::model::Protocol::Udp => "udp",
        };
        (published.listens_on.clone(), *target, protocol)
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
    let removed = uplink::remove_table_now(nft, table)
        .map_err(ForwardingError::from)
        .and_then(|()| forwarding::disable_if_last(nft));
    match removed {
        Ok(true) => tracing::info!("net.ipv4.ip_forward of the host is off again"),
        Ok(false) => {}
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

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The same, with how to mend it where that is known.
fn hinted(error: &uplink::UplinkError) -> String {
    let text = chain(error);
    if text.contains("tun socket") || text.contains("/dev/net/tun") {
        return format!("{text}; your account has to be able to open /dev/net/tun: `sudo chmod 0666 /dev/net/tun`");
    }
    text
}
