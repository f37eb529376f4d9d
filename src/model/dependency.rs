//! What a service needs of another one before it is started.

use serde::{Deserialize, Serialize};

use super::ServiceName;

/// One entry of `depends_on`, or what a link or the volumes of another service imply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The other service.
    pub service: ServiceName,
    /// How far it has to be.
    pub condition: Condition,
    /// Whether this one is not started when that one does not get so far; otherwise that is a warning.
    pub required: bool,
    /// This one is started again when that one is.
    pub restart: bool,
}

impl Dependency {
    /// What the short form means: it has been started.
    pub fn started(service: ServiceName) -> Self {
        Self { service, condition: Condition::Started, required: true, restart: false }
    }
}

/// How far a service has to be (Compose Specification, `depends_on`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its program runs.
    #[default]
    Started,
    /// Its probe has passed.
    Healthy,
    /// It has ended with code 0.
    Completed,
}
