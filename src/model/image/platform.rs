//! What machines an image is for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `OS/ARCHITECTURE[/VARIANT]` in the words of Go (OCI Image Index Specification, `platform`). The operating system is
/// always linux.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    architecture: String,
    variant: Option<String>,
}

/// A text that names no platform that containers can have here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: write `linux/amd64`, `linux/arm64` or the like")]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "loongarch64" => ("loong64", None),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self { architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// From the fields of an image's configuration or of an index; none if it is not for Linux.
    pub fn from_parts(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        (os == "linux").then(|| Self::normal(architecture, variant.filter(|variant| !variant.is_empty())))
    }

    /// Architecture such as `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Variant such as `v7`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// How well an image for `offered` serves who wants this platform: none if not at all, else the greater the better.
    /// An arm image runs on a later arm, and one without a variant is for all.
    pub fn rates(&self, offered: &Self) -> Option<u32> {
        if self.architecture != offered.architecture {
            return None;
        }
        let number = |variant: &Option<String>| variant.as_deref()?.strip_prefix('v')?.parse::<u32>().ok();
        match (&self.variant, &offered.variant) {
            (ours, theirs) if ours == theirs => Some(u32::MAX),
            (_, None) => Some(0),
            // A machine without a variant takes the first of them.
            (None, Some(_)) => Some(u32::MAX - 1 - number(&offered.variant).unwrap_or(0).min(1000)),
            (Some(_), Some(_)) if matches!(self.architecture.as_str(), "arm" | "arm64" | "amd64") => {
                let (ours, theirs) = (number(&self.variant)?, number(&offered.variant)?);
                (theirs <= ours).then_some(theirs)
            }
            _ => None,
        }
    }

    /// Other names of the same thing, and variants that say nothing (containerd/platforms, `database.go`).
    fn normal(architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|variant| *variant != "v1")),
            ("i386" | "i686" | "386", _) => ("386", None),
            ("aarch64" | "arm64", variant) => {
                ("arm64", Some(variant.map_or("v8", |variant| if variant == "8" { "v8" } else { variant })))
            }
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", variant) => ("arm", Some(variant.unwrap_or("v7"))),
            other => other,
        };
        Self { architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let word =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !parts.iter().all(word) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        match parts[..] {
            ["linux"] => Ok(Self::host()),
            ["linux", architecture] => Ok(Self::normal(architecture, None)),
            ["linux", architecture, variant] => Ok(Self::normal(architecture, Some(variant))),
            [architecture] if !matches!(architecture, "windows" | "darwin" | "freebsd") => {
                Ok(Self::normal(architecture, None))
            }
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = InvalidPlatform;

    fn try_from(text: String) -> Result<Self, InvalidPlatform> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture)?;
        match &self.variant {
            // That every arm64 is v8 is left unsaid, as Docker has it.
            Some(variant) if !(self.architecture == "arm64" && variant == "v8") => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_a_platform_are_the_same() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("LINUX/AMD64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().map(|platform| platform.to_string()), Ok(normal.to_owned()));
        }
        for wrong in ["", "windows", "windows/amd64", "linux//x", "linux/a/b/c", "linux/ü"] {
            assert_eq!(wrong.parse::<Platform>(), Err(InvalidPlatform(wrong.to_owned())));
        }
    }

    #[test]
    fn the_nearest_variant_is_the_best() {
        let rate =
            |ours: &str, theirs: &str| ours.parse::<Platform>().expect("ours").rates(&theirs.parse().expect("theirs"));
        assert!(rate("linux/arm/v7", "linux/arm/v7") > rate("linux/arm/v7", "linux/arm/v6"));
        assert_eq!(rate("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rate("linux/amd64", "linux/arm64"), None);
        assert!(rate("linux/amd64/v3", "linux/amd64").is_some());
        assert!(rate("linux/amd64", "linux/amd64") > rate("linux/amd64", "linux/amd64/v2"));
    }
}
