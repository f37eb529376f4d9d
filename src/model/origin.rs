//! What a container was made from, in the words of its file.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Digest;

/// What a container was made from: a later plan says with it what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The files of its stack, absolute, in the order in which they were merged.
    pub files: Vec<PathBuf>,
    /// What they said of it.
    pub record: Record,
}

/// Keys of a file, such as `services.web.environment.DEBUG`, each with its value. What says nothing is not in it.
pub type Record = BTreeMap<String, Recorded>;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Recorded {
    /// As JSON.
    Shown(String),
    /// Of one that is not to be shown nothing but a digest is kept, which tells it from others.
    Hidden {
        /// The digest.
        digest: Digest,
    },
}
