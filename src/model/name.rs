//! Names that people give to things, checked once and then trusted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name that does not follow the rules of what it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a valid {what} name: {rule}")]
pub struct InvalidName {
    /// What the name was meant for, such as `service`.
    pub what: &'static str,
    /// The text as it was given.
    pub name: String,
    /// The rule it breaks, as a sentence for people.
    pub rule: &'static str,
}

/// Longest name accepted: it becomes part of a file name (255 bytes on every common file system) beside a project name.
pub(super) const MAX_LEN: usize = 100;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $valid:expr) => {
        name!($(#[$doc])* $type, $what, $rule, MAX_LEN, $valid);
    };
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $max:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(name) && name.len() <= $max && name != "." && name != ".." {
                    Ok(Self(name.to_owned()))
                } else {
                    Err(InvalidName { what: $what, name: name.to_owned(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(super) fn word(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

name!(
    /// The name of a project (a stack): it names folders, control groups and the prefix of volumes.
    ///
    /// Lower-case letters, digits, `_` and `-`, beginning with a letter or digit (Compose Specification, "name").
    ProjectName,
    "project",
    "use lower-case letters, digits, `_` and `-`, beginning with a letter or a digit, at most 100 in all",
    |name| {
        name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    }
);

name!(
    /// The name that a file gives to a container; it is also a host name that others find it under.
    ///
    /// As Docker has it: letters, digits, `_`, `.` and `-`, at least two, beginning with a letter or digit.
    ContainerName,
    "container",
    "use letters, digits, `.`, `_` and `-`, beginning with a letter or a digit, two at least and 255 at most",
    255,
    |name| word(name) && !name.starts_with('_') && name.len() >= 2
);

name!(
    /// The name of a network of the file.
    NetworkName,
    "network",
    "use letters, digits, `.`, `_` and `-`, beginning with a letter, a digit or `_`, at most 100 in all",
    word
);

name!(
    /// The name of a volume of the file.
    VolumeName,
    "volume",
    "use letters, digits, `.`, `_` and `-`, beginning with a letter, a digit or `_`, at most 100 in all",
    word
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceName;

    #[test]
    fn names_that_would_leave_their_folder_do_not_exist() {
        for bad in ["", ".", "..", "../x", "a/b", "a\0b", "-x", ".x", "a b", "ü"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was taken");
            assert!(bad.parse::<ProjectName>().is_err(), "{bad:?} was taken");
        }
        assert!("x".repeat(101).parse::<VolumeName>().is_err());
    }

    #[test]
    fn names_of_containers_are_those_of_docker() {
        for good in ["db", "a-very-long-project-name-db-1", "9.x_y", &"x".repeat(203)] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good:?} was refused");
        }
        for bad in ["d", "_db", ".db", "-db", "d b", "db/1", "/db", ""] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn project_names_are_lower_case() {
        assert!("Stack".parse::<ProjectName>().is_err());
        assert_eq!("my_stack-2".parse::<ProjectName>().expect("valid").as_str(), "my_stack-2");
    }
}
