//! What happens on the way that people want to know although it is no failure.

use std::{fmt, time::Duration};

/// Something that was got over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryEvent {
    /// A mirror is asked no more; the next one is, or the registry itself.
    MirrorFailed {
        /// The mirror.
        mirror: String,
        /// The registry that it is a mirror of.
        registry: String,
        /// What went wrong.
        why: String,
    },
    /// A request is made again in a moment.
    Retry {
        /// What is being fetched.
        what: String,
        /// What went wrong.
        why: String,
        /// How long it is waited before.
        after: Duration,
        /// Which attempt comes next, the first being 1.
        attempt: u32,
        /// How many there are at most.
        of: u32,
    },
}

impl fmt::Display for RegistryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MirrorFailed { mirror, registry, why } => {
                write!(f, "mirror {mirror} of {registry} is left out: {why}")
            }
            Self::Retry { what, why, after, attempt, of } => {
                let after = after.as_secs_f64();
                write!(f, "{what}: {why}; again in {after:.1} s (attempt {attempt} of {of})")
            }
        }
    }
}
