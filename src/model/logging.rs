//! What becomes of what a service writes.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Rootfs, Service};

/// How the log of a service is kept, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// It is kept at all.
    pub kept: bool,
    /// Bytes that a file of it has at most, unless a single record is larger; none is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// How many files there are at most once they have a size, with the one that is written to.
    pub max_files: u32,
    /// All but the one that is written to are compressed.
    pub compress: bool,
    /// Labels that each record has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels that each record has besides, if nscompose itself gives them to the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_labels: Vec<String>,
    /// Further ones, by a regular expression that is known to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_regex: Option<String>,
    /// Environment variables that each record has, if the service has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Further ones, by a regular expression that is known to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_regex: Option<String>,
    /// A text that each record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<LogTag>,
}

/// As Docker's json-file driver has it: one file without a bound.
impl Default for Logging {
    fn default() -> Self {
        Self {
            kept: true,
            max_size: None,
            max_files: 1,
            compress: false,
            labels: BTreeMap::new(),
            own_labels: Vec::new(),
            labels_regex: None,
            env: Vec::new(),
            env_regex: None,
            tag: None,
        }
    }
}

impl Logging {
    /// As Docker's local driver has it (moby, `daemon/logger/local`): five files of 20 MB, compressed.
    #[must_use]
    pub fn local() -> Self {
        Self { max_size: Some(20_000_000), max_files: 5, compress: true, ..Self::default() }
    }

    /// The same with all that is known of its container, which is called `name` and has these labels besides those of the
    /// file.
    pub fn settings(&self, service: &Service, name: &str, labels: BTreeMap<String, String>) -> LogSettings {
        let regex = |text: &Option<String>| text.as_deref().and_then(|regex| regex::Regex::new(regex).ok());
        let is_wanted = |names: &[String], regex: &Option<regex::Regex>, name: &String| {
            names.contains(name) || regex.as_ref().is_some_and(|regex| regex.is_match(name))
        };
        let mut attributes = self.labels.clone();
        let of_labels = regex(&self.labels_regex);
        attributes.extend(labels.into_iter().filter(|(name, _)| is_wanted(&self.own_labels, &of_labels, name)));
        let of_env = regex(&self.env_regex);
        let wanted = |name: &&String| is_wanted(&self.env, &of_env, name);
        for name in service.environment.keys().filter(wanted) {
            attributes.insert(name.clone(), service.environment[name].clone());
        }
        if let Some(tag) = &self.tag {
            let image = match &service.rootfs {
                Rootfs::Layers(image) => &image.name,
                _ => "",
            };
            attributes.insert("tag".to_owned(), tag.of(name, image));
        }
        let Self { kept, max_size, max_files, compress, .. } = *self;
        LogSettings { kept, max_size, max_files, compress, attributes }
    }
}

/// How the log of a container is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// It is kept at all.
    pub kept: bool,
    /// Bytes that a file of it has at most, unless a single record is larger; none is no bound.
    pub max_size: Option<u64>,
    /// How many files there are at most once they have a size, with the one that is written to.
    pub max_files: u32,
    /// All but the one that is written to are compressed.
    pub compress: bool,
    /// What each record has besides, as `attrs`.
    pub attributes: BTreeMap<String, String>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { kept: true, max_size: None, max_files: 1, compress: false, attributes: BTreeMap::new() }
    }
}

/// A text in which `{{.Name}}` stands for the name of the container, `{{.ImageName}}` for that of its image, and
/// `{{.DaemonName}}` for `nscompose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogTag(Vec<TagPart>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum TagPart {
    Text(String),
    Name,
    ImageName,
    DaemonName,
}

/// Something in braces that a tag cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not something that a tag can have")]
pub struct InvalidLogTag(pub String);

impl LogTag {
    fn of(&self, name: &str, image: &str) -> String {
        let parts = self.0.iter().map(|part| match part {
            TagPart::Text(text) => text.as_str(),
            TagPart::Name => name,
            TagPart::ImageName => image,
            TagPart::DaemonName => "nscompose",
        });
        parts.collect()
    }
}

impl FromStr for LogTag {
    type Err = InvalidLogTag;

    fn from_str(text: &str) -> Result<Self, InvalidLogTag> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or_else(|| InvalidLogTag(format!("{{{{{after}")))?;
            parts.push(TagPart::Text(before.to_owned()));
            // Go's templates take a `-` that eats blanks; what it is for needs more than one line.
            parts.push(match inside.trim() {
                ".Name" => TagPart::Name,
                ".ImageName" => TagPart::ImageName,
                ".DaemonName" => TagPart::DaemonName,
                _ => return Err(InvalidLogTag(format!("{{{{{inside}}}}}"))),
            });
            rest = after;
        }
        parts.push(TagPart::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, TagPart::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }
}

impl fmt::Display for LogTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| {
            f.write_str(match part {
                TagPart::Text(text) => text,
                TagPart::Name => "{{.Name}}",
                TagPart::ImageName => "{{.ImageName}}",
                TagPart::DaemonName => "{{.DaemonName}}",
            })
        })
    }
}

impl TryFrom<String> for LogTag {
    type Error = InvalidLogTag;

    fn try_from(text: String) -> Result<Self, InvalidLogTag> {
        text.parse()
    }
}

impl From<LogTag> for String {
    fn from(tag: LogTag) -> Self {
        tag.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{{.Name}}", "shop-web-1"),
            ("{{ .ImageName }}/{{.Name}} of {{.DaemonName}}}", "nginx:1/shop-web-1 of nscompose}"),
        ] {
            let tag: LogTag = text.parse().expect(text);
            assert_eq!(tag.of("shop-web-1", "nginx:1"), expected, "{text}");
            assert_eq!(tag.to_string().parse(), Ok(tag));
        }
        for (bad, what) in [("a{{.ID}}b", "{{.ID}}"), ("{{.Name", "{{.Name"), ("{{}}", "{{}}")] {
            assert_eq!(bad.parse::<LogTag>(), Err(InvalidLogTag(what.to_owned())), "{bad}");
        }
    }
}
