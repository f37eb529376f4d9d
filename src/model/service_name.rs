//! Which container of a stack is meant: a service, which of its replicas, and which of the commands that run before it.

use std::{cmp::Ordering, fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    InvalidName,
    name::{MAX_LEN, word},
};

/// The name of a service, which is also the host name that other services find it under, or that of one of its replicas.
///
/// A name of a file is letters, digits, `.`, `_` and `-`, beginning with a letter, a digit or `_`. Its first replica is called as the
/// service itself, the others `web/2`, `web/3` and so on: the `/` is in no name of a file. The container of a command of `pre_start`
/// is called after the one that it runs before, with its place in the list: `web/pre_start.0`, `web/2/pre_start.1`. [`FromStr`] reads
/// names of a file only, serde all of them. Replicas are in the order of their numbers, each with its hooks after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    whole: String,
    number: u32,
    /// The place of the hook, counted from 1 on: so the name takes no more room.
    hook: Option<NonZeroU32>,
}

/// Between the service and the number of a replica.
const SEPARATOR: char = '/';

/// What the place of a hook in its list stands behind.
const HOOK: &str = "pre_start.";

impl ServiceName {
    /// The name as text: `web`, or `web/2`.
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// The service: what the file calls it.
    pub fn service(&self) -> &str {
        self.whole.split(SEPARATOR).next().unwrap_or(&self.whole)
    }

    /// Which of its containers it is, from 1 on.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The replica with this number of the same service; 1, and what cannot be, is the first.
    #[must_use]
    pub fn replica(&self, number: u32) -> Self {
        let service = self.service();
        match number {
            0 | 1 => Self { whole: service.to_owned(), number: 1, hook: None },
            _ => Self { whole: format!("{service}{SEPARATOR}{number}"), number, hook: None },
        }
    }

    /// Which command of `pre_start` it is the container of, by its place in the list from 0 on; none is a container of the service
    /// itself.
    pub fn hook(&self) -> Option<u32> {
        self.hook.map(|place| place.get() - 1)
    }

    /// The container of a command of `pre_start` that runs before this one.
    #[must_use]
    pub fn with_hook(&self, index: u32) -> Self {
        let before = self.replica(self.number);
        Self {
            whole: format!("{before}{SEPARATOR}{HOOK}{index}"),
            number: self.number,
            hook: NonZeroU32::new(index.saturating_add(1)),
        }
    }

    /// Whether both are containers of one service.
    pub fn is_replica_of(&self, other: &Self) -> bool {
        self.service() == other.service()
    }

    /// The name as one of a file or folder: `web`, or `web@2`, which no service is called.
    pub fn file_name(&self) -> String {
        self.whole.replace(SEPARATOR, "@")
    }

    /// What [`ServiceName::file_name`] has made of a name; none if it is of something else.
    pub fn from_file_name(file: &str) -> Option<Self> {
        file.replace('@', "/").try_into().ok()
    }
}

impl PartialOrd for ServiceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ServiceName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.service().cmp(other.service()).then(self.number.cmp(&other.number)).then(self.hook.cmp(&other.hook))
    }
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        if word(name) && name.len() <= MAX_LEN {
            return Ok(Self { whole: name.to_owned(), number: 1, hook: None });
        }
        Err(InvalidName {
            what: "service",
            name: name.to_owned(),
            rule: "use letters, digits, `.`, `_` and `-`, beginning with a letter, a digit or `_`, at most 100 in all",
        })
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        let (service, more) = match name.split_once(SEPARATOR) {
            Some((service, more)) => (service, Some(more)),
            None => (&*name, None),
        };
        let container = more.and_then(|more| {
            let service = service.parse::<Self>().ok()?;
            let (number, hook) = match more.split_once(SEPARATOR) {
                Some((number, hook)) => (Some(number), Some(hook)),
                None if more.starts_with(HOOK) => (None, Some(more)),
                None => (Some(more), None),
            };
            let replica = service.replica(number.map_or(Ok(1), str::parse).ok()?);
            let container = match hook {
                Some(hook) => {
                    let index = hook.strip_prefix(HOOK)?.parse().ok()?;
                    Some(replica.with_hook(index)).filter(|container| container.hook() == Some(index))?
                }
                None => replica,
            };
            // One name has one spelling.
            (container.whole == name).then_some(container)
        });
        container.map_or_else(|| name.parse(), Ok)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.whole
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::try_from(text.to_owned()).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn replicas_have_one_spelling_and_are_not_names_of_a_file() {
        let second = name("web").replica(2);
        assert_eq!((second.as_str(), second.service(), second.number()), ("web/2", "web", 2));
        assert_eq!((second.replica(1), second.replica(10).to_string()), (name("web"), "web/10".to_owned()));
        assert_eq!(name("web/2"), second);
        assert!("web/2".parse::<ServiceName>().is_err());
        for bad in ["web/1", "web/0", "web/02", "web/+2", "web/", "web/x", "/2", "web/2/3", "web@2", "../2", "web/-2"] {
            assert!(ServiceName::try_from(bad.to_owned()).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn files_of_replicas_are_told_from_those_of_services() {
        for text in ["web", "web/2", "a.b-c_d/4294967295", "web/pre_start.0", "web/2/pre_start.10"] {
            let file = name(text).file_name();
            assert!(!file.contains('/') && (file == text || file.parse::<ServiceName>().is_err()), "{file}");
            assert_eq!(ServiceName::from_file_name(&file), Some(name(text)));
        }
        assert_eq!(ServiceName::from_file_name("web@1"), None);
    }

    #[test]
    fn hooks_are_called_after_what_they_run_before() {
        assert_eq!(size_of::<ServiceName>(), size_of::<String>() + 8);
        let hook = name("web/2").with_hook(1);
        assert_eq!(
            (hook.as_str(), hook.service(), hook.number(), hook.hook()),
            ("web/2/pre_start.1", "web", 2, Some(1))
        );
        assert_eq!((name("web").with_hook(0), hook.replica(2)), (name("web/pre_start.0"), name("web/2")));
        assert_eq!(hook.with_hook(0), name("web/2/pre_start.0"));
        assert!(hook.is_replica_of(&name("web")) && name("web").hook().is_none());
        for bad in [
            "web/1/pre_start.0",
            "web/pre_start.",
            "web/pre_start.00",
            "web/pre_start.0/2",
            "pre_start.0/",
            "web/pre_start.4294967295",
            "web/post.0",
        ] {
            assert!(ServiceName::try_from(bad.to_owned()).is_err(), "{bad:?} was taken");
        }
        let mut names = ["web/2", "web/pre_start.10", "web", "web/2/pre_start.0", "web/pre_start.2"].map(name);
        names.sort();
        let sorted = ["web", "web/pre_start.2", "web/pre_start.10", "web/2", "web/2/pre_start.0"];
        assert_eq!(names.map(String::from), sorted);
    }

    #[test]
    fn replicas_are_ordered_by_number_and_stand_with_their_service() {
        let mut names = ["web/10", "web-x", "web/2", "web", "app"].map(name);
        names.sort();
        assert_eq!(names.map(String::from), ["app", "web", "web/2", "web/10", "web-x"]);
    }
}
