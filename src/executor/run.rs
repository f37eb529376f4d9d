//! Walking a plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::{
    Change, ExecutorError, Stack, operation,
    wait::{self, Unmet},
};
use crate::{
    cgroup,
    model::ServiceName,
    network::ports::{Claimed, Forwarder, claim},
    plan::{ContainerSpec, Operation, Plan, StepId},
};

/// Ports that have been claimed for services that are about to start.
pub(super) type Claims = std::sync::Mutex<BTreeMap<ServiceName, Vec<Claimed>>>;

/// Carries `plan` out. Every step begins when all that it waits for are done; what is independent runs at the same time.
///
/// All ports are claimed before anything is changed. When a step fails, or `interrupted` becomes true, no further step
/// begins, those under way are waited for, and then everything that was done is undone in reverse. Where what failed is
/// a service that others wait for, nothing is undone: everything was made as the plan says, and what runs can be looked at.
/// Nor is it when this is interrupted: that is for taking the stack down, which stops at the same time what does not depend on each other.
/// When `abandoned` becomes true nothing is waited for any more: what has not got there by then is a failure of that kind.
///
/// # Errors
/// The first failure. What could not be undone is told as a warning.
pub async fn run(
    plan: &Plan,
    stack: &Arc<Stack>,
    changes: &UnboundedSender<Change>,
    mut interrupted: watch::Receiver<bool>,
    abandoned: watch::Receiver<bool>,
) -> Result<(), ExecutorError> {
    find_devices(plan, stack)?;
    // Ports of services that have ended are free when the keeper has let go of them too.
    if specs(plan, stack)?.iter().any(|spec| !spec.ports.is_empty()) {
        let _ = stack.keeper.keep(Vec::new()).await;
    }
    let claims = claim_ports(plan, stack)?;
    let mut waits_for: BTreeMap<StepId, usize> = plan.steps().map(|(id, _)| (id, plan.before(id).count())).collect();
    let mut ready: BTreeSet<StepId> = waits_for.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
    let mut done: Vec<StepId> = Vec::new();
    let mut failure: Option<ExecutorError> = None;
    let mut under_way = FuturesUnordered::new();
    let began = Instant::now();
    // Steps that only wait end when nothing that waits for them will begin.
    let (over, is_over) = watch::channel(false);
    loop {
        if failure.is_none() {
            while let Some(id) = ready.pop_first() {
                let _ = changes.send(Change::Began(id));
                let (claims, mut is_over, abandoned) = (&claims, is_over.clone(), abandoned.clone());
                under_way.push(async move {
                    let result = match &plan.step(id).operation {
                        Operation::WaitFor(wait) => tokio::select! {
                            result = wait::wait(wait, stack, began, changes, abandoned) => result,
                            _ = is_over.wait_for(|over| *over) => Err(ExecutorError::Interrupted),
                        },
                        operation => operation::carry_out(operation, stack, claims, changes, &is_over).await,
                    };
                    (id, result)
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
                        over.send_replace(true);
                        failure = Some(error);
                    }
                }
            },
            _ = interrupted.wait_for(|stop| *stop), if failure.is_none() => {
                over.send_replace(true);
                failure = Some(ExecutorError::Interrupted);
            }
        }
    }
    drop(under_way);
    let failure = match failure {
        Some(failure) => failure,
        // One that was up when its turn came may have ended while others were waited for.
        None => tokio::select! {
            result = still_up(plan, stack, began, changes, &abandoned) => return result,
            _ = interrupted.wait_for(|stop| *stop) => ExecutorError::Interrupted,
        },
    };
    if let ExecutorError::Condition(mut unmet) = failure {
        unmet.chain = chain(&specs(plan, stack).unwrap_or_default(), &unmet);
        return Err(ExecutorError::Condition(unmet));
    }
    if matches!(failure, ExecutorError::Interrupted) {
        return Err(failure);
    }
    for id in done.into_iter().rev() {
        let _ = changes.send(Change::Undoing(id));
        if let Err(error) = operation::undo(&plan.step(id).operation, stack, changes).await {
            let _ = changes.send(Change::Warning(format!("cannot undo `{}`: {error}", plan.step(id).operation)));
        }
    }
    Err(failure)
}

/// What the containers are made from that the plan starts.
fn specs(plan: &Plan, stack: &Stack) -> Result<Vec<Arc<ContainerSpec>>, ExecutorError> {
    let specs = plan.steps().filter_map(|(_, step)| match &step.operation {
        Operation::Start(spec) => Some(Ok(Arc::new(ContainerSpec::clone(spec)))),
        Operation::StartAgain(service) | Operation::StartAlone(service) => Some(stack.spec(service)),
        _ => None,
    });
    specs.collect()
}

/// Sees that all is up that whoever brought the stack up waits for.
async fn still_up(
    plan: &Plan,
    stack: &Stack,
    began: Instant,
    changes: &UnboundedSender<Change>,
    abandoned: &watch::Receiver<bool>,
) -> Result<(), ExecutorError> {
    for (_, step) in plan.steps() {
        if let Operation::WaitFor(up) = &step.operation
            && up.dependents.is_empty()
        {
            wait::wait(up, stack, began, changes, abandoned.clone()).await?;
        }
    }
    Ok(())
}

/// Who waits in vain, each with who it waits for: what needs the service, what needs that, and so on.
fn chain(starts: &[Arc<ContainerSpec>], unmet: &Unmet) -> Vec<(ServiceName, ServiceName)> {
    let mut chain: Vec<(ServiceName, ServiceName)> =
        unmet.wait.dependents.iter().map(|name| (name.clone(), unmet.wait.service.clone())).collect();
    let known = |chain: &[(ServiceName, ServiceName)], name: &ServiceName| chain.iter().any(|(known, _)| known == name);
    // Steps come after what they wait for, so once over them is enough.
    for spec in starts {
        let on = spec.dependencies.iter().find(|on| known(&chain, on)).cloned();
        if let Some(on) = on.filter(|_| !known(&chain, &spec.service)) {
            chain.push((spec.service.clone(), on));
        }
    }
    chain
}

/// Sees that every block device that a limit names is there, before anything has been touched.
fn find_devices(plan: &Plan, stack: &Stack) -> Result<(), ExecutorError> {
    for spec in specs(plan, stack)? {
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
    for spec in specs(plan, stack)? {
        if spec.ports.is_empty() {
            continue;
        }
        // Ports of containers that go are handed over, whichever service wants them next.
        let objects = stack.objects();
        let gone = plan.steps().filter_map(|(_, step)| match &step.operation {
            Operation::Remove(service) | Operation::RemoveButVolumes(service) => objects.containers.get(service),
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
