//! What a service may use of the machine.

use serde::{Deserialize, Serialize};

/// What the processes of a container may use together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {}
