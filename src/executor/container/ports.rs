//! The published ports of a container.

use crate::{
    executor::{ExecutorError, Stack, facts::socket_of_port, run::Claims},
    model::PublishedPort,
    network::ports::serve,
    plan::ContainerSpec,
};

/// Whether what comes in by the uplink gets to a container and back. The uplink ends in the stack's own namespace, from where
/// networks that stacks share are not reached, and on an internal network there is no way back: there the forwarder, which speaks from the
/// bridge's own address, is the only one.
pub(super) async fn is_led_to_by_uplink(spec: &ContainerSpec, stack: &Stack) -> bool {
    let bridge = spec.address_on.as_ref().and_then(|network| stack.objects().bridges.get(network).cloned());
    match (bridge, stack.uplink()) {
        (Some(bridge), Some(uplink)) => bridge.shared.is_none() && uplink.is_on(&bridge.interface).await,
        _ => false,
    }
}

pub(super) async fn publish(
    spec: &ContainerSpec,
    stack: &Stack,
    claims: &Claims,
) -> Result<Vec<(PublishedPort, std::net::SocketAddr)>, ExecutorError> {
    let claimed = claims.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&spec.service);
    let Some(claimed) = claimed else { return Ok(Vec::new()) };
    let address = spec.address.ok_or_else(|| ExecutorError::Missing(format!("an address of `{}`", spec.service)))?;
    let bridge = spec.address_on.as_ref().and_then(|network| stack.objects().bridges.get(network).cloned());
    let netns = bridge.map_or_else(|| stack.netns.clone(), |bridge| bridge.netns.clone());
    let failed = |source| ExecutorError::Files {
        service: spec.service.clone(),
        what: "listen on the ports of",
        path: spec.name.as_str().into(),
        source,
    };
    let mut keep = Vec::new();
    for (i, port) in claimed.iter().enumerate() {
        for (j, socket) in port.sockets().into_iter().enumerate() {
            keep.push((socket_of_port(&spec.service, i, j), socket.try_clone_to_owned().map_err(failed)?));
        }
    }
    // Before it is written down that they are there.
    let kept = stack.keeper.keep(keep).await;
    kept.map_err(|source| ExecutorError::Keep { service: spec.service.clone(), source })?;
    let mut ports = Vec::new();
    let mut forwarders = Vec::new();
    for claimed in claimed {
        let port = claimed.port().clone();
        let target = std::net::SocketAddr::new(address, port.target);
        ports.push((PublishedPort { port, listens_on: claimed.addresses().to_vec() }, target));
        let forwarder = serve(claimed, target, netns.clone());
        forwarders.push(forwarder.map_err(failed)?);
    }
    if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
        container.forwarders = forwarders;
    }
    Ok(ports)
}
