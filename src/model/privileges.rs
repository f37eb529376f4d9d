//! What the programs of a service may do.

use serde::{Deserialize, Serialize};

/// What a service may do beyond, or short of, what any container may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {}
