//! Walking a plan.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::{Change, ExecutorError, Stack, operation};
use crate::{
    cgroup,
    model::ServiceName,
    network::ports::{Claimed, Forwarder, claim},
    plan::{Operation, Plan, StepId},
};

/// Ports that have been claimed for services that are about to start.
pub(super) type Claims = std::sync::Mutex<BTreeMap<ServiceName, Vec<Claimed>>>;

/// Carries `plan` out. Every step begins when all that it waits for are done; what is independent runs at the same time.
///
/// All ports are claimed before anything is changed. When a step fails, or `interrupted` becomes true, no further step
/// begins, those under way are waited for, and then everything that was done is undone in reverse.
///
/// # Errors
/// The first failure. What could not be undone is told as a warning.
pub async fn run(
    plan: &Plan,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
    mut interrupted: watch::Receiver<bool>,
) -> Result<(), ExecutorError> {
    find_devices(plan)?;
    // Ports of services that have ended are free when the keeper has let go of them too.
    if plan.steps().any(|(_, step)| matches!(&step.operation, Operation::Start(spec) if !spec.ports.is_empty())) {
        let _ = stack.keeper.keep(Vec::new()).await;
    }
    let claims = claim_ports(plan, stack)?;
    let mut waits_for: BTreeMap<StepId, usize> = plan.steps().map(|(id, _)| (id, plan.before(id).count())).collect();
    let mut ready: BTreeSet<StepId> = waits_for.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
    let mut done: Vec<StepId> = Vec::new();
    let mut failure: Option<ExecutorError> = None;
    let mut under_way = FuturesUnordered::new();
    loop {
        if failure.is_none() {
            while let Some(id) = ready.pop_first() {
                let _ = changes.send(Change::Began(id));
                let claims = &claims;
                under_way.push(async move {
                    (id, operation::carry_out(&plan.step(id).operation, stack, claims, changes).await)
                });
            }
        }
        tokio::select! {
            biased;
            next = under_way.next() => match next {
                None => break,
                Some((id, Ok(()))) => {
                    let _ = changes.send(Change::Done(id));
                    done.push(id);
                    for next in plan.after(id) {
                        let left = waits_for.entry(next).or_default();
                        *left -= 1;
                        if *left == 0 {
                            ready.insert(next);
                        }
                    }
                }
                Some((_, Err(error))) => {
                    // Later failures are most often consequences of the first.
                    if let Some(first) = &failure {
                        tracing::warn!(%first, %error, "a further step failed");
                    } else {
                        failure = Some(error);
                    }
                }
            },
            _ = interrupted.wait_for(|stop| *stop), if failure.is_none() => {
                failure = Some(ExecutorError::Interrupted);
            }
        }
    }
    drop(under_way);
    let Some(failure) = failure else { return Ok(()) };
    for id in done.into_iter().rev() {
        let _ = changes.send(Change::Undoing(id));
        if let Err(error) = operation::undo(&plan.step(id).operation, stack, changes).await {
            let _ = changes.send(Change::Warning(format!("cannot undo `{}`: {error}", plan.step(id).operation)));
        }
    }
    Err(failure)
}

/// Sees that every block device that a limit names is there, before anything has been touched.
fn find_devices(plan: &Plan) -> Result<(), ExecutorError> {
    for (_, step) in plan.steps() {
        let Operation::Start(spec) = &step.operation else { continue };
        for (_, device) in spec.limits.io.devices() {
            let found = cgroup::block_device(&device.path);
            found.map_err(|source| ExecutorError::Limits { service: spec.service.clone(), source })?;
        }
    }
    Ok(())
}

/// Listens on every port of every container that the plan starts, so that nothing has been touched when one is taken.
fn claim_ports(plan: &Plan, stack: &Stack) -> Result<Claims, ExecutorError> {
    let mut claims = BTreeMap::new();
    let mut conflicts = Vec::new();
    for (_, step) in plan.steps() {
        let Operation::Start(spec) = &step.operation else { continue };
        if spec.ports.is_empty() {
            continue;
        }
        // Ports of containers that go are handed over, whichever service wants them next.
        let objects = stack.objects();
        let gone = plan.steps().filter_map(|(_, step)| match &step.operation {
            Operation::Remove(service) => objects.containers.get(service),
            _ => None,
        });
        let again = objects.containers.get(&spec.service);
        let held: Vec<&Forwarder> = gone.chain(again).flat_map(|container| &container.forwarders).collect();
        match claim(&spec.ports, &held) {
            Ok(claimed) => {
                claims.insert(spec.service.clone(), claimed);
            }
            Err(taken) => conflicts.extend(taken),
        }
    }
    if conflicts.is_empty() { Ok(Claims::new(claims)) } else { Err(ExecutorError::Ports { conflicts }) }
}
