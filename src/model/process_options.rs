//! What the first process of a container, and whatever is run beside it, starts with.

use serde::{Deserialize, Serialize};

/// What a process starts with besides its command line, environment and user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessOptions {}
