//! What is to be brought up, handed over until a supervisor takes it.

use std::collections::BTreeMap;

use super::Progress;
use crate::{
    cli::{
        limits::no_plan_of,
        network::Shared,
        stack::{Broken, DEATHS, broken, gone, look_again, reconnect, until_done},
    },
    diagnostics::Failure,
    load::Loaded,
    model::{ContainerElsewhere, Port, Project, ServiceName},
    plan::{self, Action, Intent, Plan},
    state::StackLayout,
    supervisor::{Connection, Event, Reply, Request, Snapshot},
};

/// What a plan depends on besides the project: what other stacks have, and the files, for the places of what is wrong.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Others<'a> {
    pub(in crate::cli) elsewhere: &'a BTreeMap<String, ContainerElsewhere>,
    pub(in crate::cli) shared: &'a Shared,
    pub(in crate::cli) loaded: &'a Loaded,
}

/// What is to be said of a plan that has been taken.
pub(in crate::cli) struct Submitted {
    /// There is nothing to do.
    pub(in crate::cli) unchanged: bool,
    /// Services whose containers are made anew, and why.
    pub(super) anew: Vec<(ServiceName, String)>,
}

impl Submitted {
    fn of(plan: &Plan) -> Self {
        let anew = plan.actions().into_iter().filter(|(_, (action, _))| *action == Action::Recreate);
        let anew = anew.map(|(service, (_, cause))| (service.clone(), cause.to_string())).collect();
        Self { unchanged: plan.is_empty(), anew }
    }
}

/// What is to be brought up, and what its plan depends on.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Wanted<'a> {
    pub(in crate::cli) layout: &'a StackLayout,
    pub(in crate::cli) project: &'a Project,
    pub(in crate::cli) intent: &'a Intent,
    pub(in crate::cli) others: Others<'a>,
    /// The stack goes down with who wants it.
    pub(in crate::cli) foreground: bool,
}

impl Wanted<'_> {
    /// Plans, and hands the plan over until one is taken: whoever changes the stack meanwhile makes it stale. What the plan was
    /// made from comes back, and what is to be said of it.
    pub(super) async fn submit(
        &self,
        connection: &mut Connection,
        mut snapshot: Snapshot,
        progress: &mut Progress,
    ) -> Result<(Snapshot, Submitted), Broken> {
        let Self { project, intent, others, foreground, .. } = *self;
        loop {
            snapshot.observed.host.containers.clone_from(others.elsewhere);
            // No other stack chooses addresses between our look and our word.
            let lock = others.shared.lock()?;
            others.shared.look(&mut snapshot.observed)?;
            let plan = plan::up(project, &snapshot.observed, intent).map_err(|e| no_plan_of(&e, others.loaded))?;
            let places =
                plan::shared_places(project, &snapshot.observed, intent).map_err(|e| no_plan_of(&e, others.loaded))?;
            others.shared.take(snapshot.keeper, places)?;
            drop(lock);
            let submitted = Submitted::of(&plan);
            let generation = snapshot.generation;
            let request = Request::Apply { plan, generation, files: project.files.clone(), foreground };
            connection.send(&request, &[]).await.map_err(|e| broken(&e))?;
            let answer = loop {
                match connection.next().await.map_err(|e| broken(&e))? {
                    // Another command is carried out first.
                    Some(Reply::Event(event)) => progress.show(&event),
                    answer => break answer,
                }
            };
            match answer {
                Some(Reply::Accepted) => {
                    progress.announce(&submitted);
                    return Ok((snapshot, submitted));
                }
                Some(Reply::Stale) => snapshot = look_again(connection).await?.ok_or(Broken::Gone)?,
                Some(Reply::Failed(failure)) => return Err(failure.into()),
                Some(_) => {
                    return Err(Failure::internal("the supervisor answers something else than what was asked").into());
                }
                None => return Err(Broken::Gone),
            }
        }
    }

    /// Has it carried out to its end, by the next supervisor if one dies, and shows what happens but for ports that are `taken`.
    /// Whether there was nothing to do comes back; none if there is no supervisor any more.
    pub(in crate::cli) async fn carry_through(
        &self,
        connection: &mut Connection,
        mut snapshot: Snapshot,
        progress: &mut Progress,
        taken: &mut Vec<Port>,
    ) -> Result<Option<bool>, Failure> {
        let mut deaths = 0;
        loop {
            let outcome = async {
                let (_, submitted) = self.submit(connection, snapshot, progress).await?;
                let show = |event| match event {
                    Event::PortTaken(port) => taken.push(port),
                    event => progress.show(&event),
                };
                until_done(connection, show).await.map(|()| submitted.unchanged)
            };
            match outcome.await {
                Ok(unchanged) => return Ok(Some(unchanged && deaths == 0)),
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Gone) if deaths == DEATHS => return Err(gone()),
                // What the last supervisor has not done is planned anew from what there is.
                Err(Broken::Gone) => match reconnect(self.layout).await? {
                    Some(another) => (*connection, snapshot) = another,
                    None => return Ok(None),
                },
            }
            deaths += 1;
        }
    }
}
