//! The plan itself: operations, what each waits for, and why it is there.

use std::fmt;

use petgraph::{
    Direction,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef,
};
use serde::{Deserialize, Serialize};

use super::{Cause, Operation};
use crate::model::ServiceName;

/// The place of a step in its plan, counted from 0.
pub type StepId = usize;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// Why, for people.
    pub cause: Cause,
}

/// A graph of steps; an edge means that the second step begins only after the first has succeeded.
///
/// A step is added after everything it waits for, so the order of ids is an order in which the plan can be carried out,
/// and there can be no cycle.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Plan {
    graph: DiGraph<Step, ()>,
}

impl Plan {
    /// Adds a step that waits for `after`.
    pub(super) fn add(
        &mut self,
        operation: Operation,
        cause: impl Into<Cause>,
        after: impl IntoIterator<Item = StepId>,
    ) -> StepId {
        let node = self.graph.add_node(Step { operation, cause: cause.into() });
        for earlier in after {
            let earlier = NodeIndex::new(earlier);
            debug_assert!(earlier < node);
            self.graph.update_edge(earlier, node, ());
        }
        node.index()
    }

    pub(super) fn graph(&self) -> &DiGraph<Step, ()> {
        &self.graph
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.graph.node_count() == 0
    }

    /// Whether it consists of signals, which wait for nothing that is under way.
    pub fn only_signals(&self) -> bool {
        !self.is_empty() && self.steps().all(|(_, step)| matches!(step.operation, Operation::Kill(..)))
    }

    /// The services that are sent signals.
    pub fn killed(&self) -> impl Iterator<Item = &ServiceName> {
        self.steps().filter_map(|(_, step)| match &step.operation {
            Operation::Kill(service, _) => Some(service),
            _ => None,
        })
    }

    /// The steps in an order in which they can be carried out.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = (StepId, &Step)> {
        self.graph.node_indices().map(|node| (node.index(), &self.graph[node]))
    }

    /// One step.
    ///
    /// # Panics
    /// When the id is not of this plan.
    pub fn step(&self, id: StepId) -> &Step {
        &self.graph[NodeIndex::new(id)]
    }

    /// What `id` waits for.
    pub fn before(&self, id: StepId) -> impl Iterator<Item = StepId> {
        self.neighbours(id, Direction::Incoming)
    }

    /// What waits for `id`.
    pub fn after(&self, id: StepId) -> impl Iterator<Item = StepId> {
        self.neighbours(id, Direction::Outgoing)
    }

    fn neighbours(&self, id: StepId, direction: Direction) -> impl Iterator<Item = StepId> {
        let mut found: Vec<StepId> = self
            .graph
            .edges_directed(NodeIndex::new(id), direction)
            .map(|edge| match direction {
                Direction::Incoming => edge.source().index(),
                Direction::Outgoing => edge.target().index(),
            })
            .collect();
        found.sort_unstable();
        found.into_iter()
    }
}

impl fmt::Display for Plan {
    /// A line per step: `4 start web  after 2, 3  because it is new`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, step) in self.steps() {
            write!(f, "{} {}", id + 1, step.operation)?;
            let before: Vec<String> = self.before(id).map(|id| (id + 1).to_string()).collect();
            if !before.is_empty() {
                write!(f, "  after {}", before.join(", "))?;
            }
            writeln!(f, "  because {}", step.cause)?;
        }
        Ok(())
    }
}
