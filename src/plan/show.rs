//! A plan for people, for programs and as a picture.

use std::{collections::BTreeMap, fmt::Write};

use petgraph::dot::{Config, Dot};
use serde_json::{Value, json};

use super::{Cause, Difference, Operation, Plan, Step};
use crate::model::{Recorded, ServiceName};

/// What becomes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// One is made, or started again.
    Start,
    /// One is made and not started.
    Create,
    /// Another one takes its place.
    Recreate,
    /// It runs to its end before another one is started.
    Run,
    /// It goes.
    Remove,
}

impl Action {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Create => "create",
            Self::Recreate => "recreate",
            Self::Run => "run",
            Self::Remove => "remove",
        }
    }
}

/// What a step is about.
enum Subject<'s> {
    Service(&'s str),
    Network(&'s str),
    Volume(&'s str),
    Stack,
}

impl Operation {
    /// What programs call it, and what it is about.
    fn about(&self) -> (&'static str, Subject<'_>) {
        match self {
            Self::CreateNetwork(bridge) => ("create_network", Subject::Network(bridge.network.as_str())),
            Self::CreateVolume(volume, _) => ("create_volume", Subject::Volume(volume.as_str())),
            Self::SetNames(_) => ("set_names", Subject::Stack),
            Self::AskForGroup => ("ask_for_group", Subject::Stack),
            Self::CreateNamespaces(set) => ("create_namespaces", Subject::Service(set.service.as_str())),
            Self::Attach(link) => ("attach", Subject::Service(link.service.as_str())),
            Self::Create(spec) => ("create", Subject::Service(spec.service.as_str())),
            Self::Start(spec) => ("start", Subject::Service(spec.service.as_str())),
            Self::Stop(service) | Self::StopWithin(service, _) => ("stop", Subject::Service(service.as_str())),
            Self::StartAgain(service) | Self::StartAlone(service) => {
                ("start_again", Subject::Service(service.as_str()))
            }
            Self::WaitFor(wait) => ("wait", Subject::Service(wait.service.as_str())),
            Self::Kill(service, _) => ("kill", Subject::Service(service.as_str())),
            Self::Pause(service) => ("pause", Subject::Service(service.as_str())),
            Self::Unpause(service) => ("unpause", Subject::Service(service.as_str())),
            Self::Remove(service) | Self::RemoveButVolumes(service) => ("remove", Subject::Service(service.as_str())),
            Self::Detach(cable) => ("detach", Subject::Service(cable.service.as_str())),
            Self::RemoveNamespaces(service) => ("remove_namespaces", Subject::Service(service.as_str())),
            Self::RemoveVolume(volume, _) => ("remove_volume", Subject::Volume(volume.as_str())),
            Self::RemoveNetwork(removal) => ("remove_network", Subject::Network(removal.network.as_str())),
            Self::Connect(_) => ("connect", Subject::Stack),
        }
    }
}

impl Plan {
    /// What becomes of which containers, and why; those that stay as they are are not in it.
    pub fn actions(&self) -> BTreeMap<&ServiceName, (Action, &Cause)> {
        let mut actions: BTreeMap<&ServiceName, (Action, &Cause)> = BTreeMap::new();
        // What is removed goes before what is made of it.
        for (_, Step { operation, cause }) in self.steps() {
            let (service, action) = match operation {
                Operation::Start(spec) if spec.service.hook().is_some() => (&spec.service, Action::Run),
                Operation::StartAgain(service) if service.hook().is_some() => (service, Action::Run),
                Operation::Remove(hook) if actions.get(hook).is_some_and(|(action, _)| *action == Action::Run) => {
                    continue;
                }
                Operation::Remove(service) | Operation::RemoveButVolumes(service) => (service, Action::Remove),
                Operation::StartAgain(service) | Operation::StartAlone(service) => (service, Action::Start),
                Operation::Create(spec) if !actions.contains_key(&spec.service) => (&spec.service, Action::Create),
                Operation::Start(spec) if !actions.contains_key(&spec.service) => (&spec.service, Action::Start),
                Operation::Create(spec) | Operation::Start(spec) => (&spec.service, Action::Recreate),
                _ => continue,
            };
            actions.insert(service, (action, cause));
        }
        actions
    }

    /// A line for each container that something becomes of: `recreate web: services.web.environment.DEBUG "0" → "1"`.
    pub fn summary(&self) -> String {
        self.actions().into_iter().fold(String::new(), |mut text, (service, (action, cause))| {
            let _ = writeln!(text, "{} {service}: {cause}", action.name());
            text
        })
    }

    /// All of it for programs.
    pub fn json(&self) -> Value {
        let actions: serde_json::Map<String, Value> = self
            .actions()
            .into_iter()
            .map(|(service, (action, cause))| {
                let about = json!({"action": action.name(), "because": cause.to_string(), "differences": list(cause)});
                (service.to_string(), about)
            })
            .collect();
        let steps = self.steps().map(|(id, step)| {
            let (kind, subject) = step.operation.about();
            let mut one = json!({
                "id": id + 1,
                "kind": kind,
                "text": step.operation.to_string(),
                "after": self.before(id).map(|id| id + 1).collect::<Vec<_>>(),
                "because": step.cause.to_string(),
            });
            match subject {
                Subject::Service(name) => one["service"] = name.into(),
                Subject::Network(name) => one["network"] = name.into(),
                Subject::Volume(name) => one["volume"] = name.into(),
                Subject::Stack => {}
            }
            one
        });
        json!({"changes": !self.is_empty(), "services": actions, "steps": steps.collect::<Vec<_>>()})
    }

    /// The graph for `dot` of graphviz: an arrow leads from each step to those that wait for it.
    pub fn dot(&self) -> String {
        let labels = self
            .graph()
            .map(|node, step| format!("{} {}\n{}", node.index() + 1, step.operation, step.cause), |_, ()| "");
        Dot::with_config(&labels, &[Config::EdgeNoLabel]).to_string()
    }
}

/// What differs, with values as they are in JSON; one that is not to be shown is null.
fn list(cause: &Cause) -> Vec<Value> {
    let value = |recorded: &Option<Recorded>| match recorded {
        Some(Recorded::Shown(text)) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())),
        Some(Recorded::Hidden { .. }) | None => Value::Null,
    };
    let is_hidden = |Difference { was, is, .. }: &Difference| {
        [was, is].into_iter().any(|value| matches!(value, Some(Recorded::Hidden { .. })))
    };
    let all = cause.differences.iter().map(|difference| {
        let mut one = json!({"key": difference.key, "was": value(&difference.was), "is": value(&difference.is)});
        if is_hidden(difference) {
            one["hidden"] = true.into();
        }
        one
    });
    all.collect()
}
