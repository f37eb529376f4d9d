//! What it is called.

use super::super::{HostPath, Labels, OneOrMany, Pattern, PatternText, Set, Text, mapping::mapping};

/// Files with labels.
pub type LabelFiles = OneOrMany<Set<HostPath>>;

mapping! {
    /// What it is called.
    pub struct Naming {
        /// Name of its container, instead of one made of the project's and the service's.
        works container_name: PatternText<ContainerName>,
        /// Host name that the program sees.
        works hostname: Text,
        /// Domain that the program sees.
        works domainname: Text,
        /// Labels for people and tools.
        metadata labels: Labels,
        /// Files with such labels; `labels` counts for more.
        loaded label_file: LabelFiles,
        /// Notes for the runtime.
        metadata annotations: Labels,
    }
}

/// What a container may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerName;

impl Pattern for ContainerName {
    const PATTERN: &'static str = "[a-zA-Z0-9][a-zA-Z0-9_.-]+";
    const RULE: &'static str = "use at least two of letters, digits, `_`, `.` and `-`";
    fn matches(text: &str) -> bool {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        text.as_bytes().windows(2).any(|pair| pair[0].is_ascii_alphanumeric() && inner(pair[1]))
    }
}
