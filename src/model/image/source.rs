//! Where an image comes from.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{ImageName, InvalidImageName};

/// What `image:` may say: the name of an image in a registry or, with a word in front as containers-transports(5) has it, a
/// folder or file that holds one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// From a registry, or from what was pulled or loaded under this name before.
    Registry(ImageName),
    /// `oci:FOLDER[:NAME]`, an OCI image layout.
    OciLayout(InArchive),
    /// `oci-archive:FILE[:NAME]`, the same in a tar archive.
    OciArchive(InArchive),
    /// `docker-archive:FILE[:NAME]`, what `docker save` writes.
    DockerArchive(InArchive),
}

/// An image among those of a folder or file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InArchive {
    /// The folder or file; relative to the folder of the project until it is resolved.
    pub path: PathBuf,
    /// Its name in there; none if there is only one.
    pub name: Option<String>,
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImageSource {
    /// Of a registry.
    #[error(transparent)]
    Name(#[from] InvalidImageName),
    /// Nothing behind `oci:` and the like.
    #[error("`{0}` says no path")]
    NoPath(String),
}

impl ImageSource {
    /// The name if it is one of a registry.
    pub fn registry(&self) -> Option<&ImageName> {
        match self {
            Self::Registry(name) => Some(name),
            Self::OciLayout(_) | Self::OciArchive(_) | Self::DockerArchive(_) => None,
        }
    }

    /// The folder or file, if it is in one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Registry(_) => None,
            Self::OciLayout(place) | Self::OciArchive(place) | Self::DockerArchive(place) => Some(&place.path),
        }
    }

    /// The same with the path that `resolve` makes of the one that is written.
    #[must_use]
    pub fn with_path(mut self, resolve: impl FnOnce(&Path) -> PathBuf) -> Self {
        match &mut self {
            Self::Registry(_) => {}
            Self::OciLayout(place) | Self::OciArchive(place) | Self::DockerArchive(place) => {
                place.path = resolve(&place.path);
            }
        }
        self
    }
}

impl FromStr for ImageSource {
    type Err = InvalidImageSource;

    fn from_str(text: &str) -> Result<Self, InvalidImageSource> {
        let place = |rest: &str| {
            // A name may have colons of its own; a path that has one is written with a name or not at all.
            let (path, name) = match rest.split_once(':') {
                None => (rest, None),
                Some((path, name)) => (path, Some(name.to_owned()).filter(|name| !name.is_empty())),
            };
            if path.is_empty() {
                return Err(InvalidImageSource::NoPath(text.to_owned()));
            }
            Ok(InArchive { path: PathBuf::from(path), name })
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            return Ok(Self::OciLayout(place(rest)?));
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return Ok(Self::OciArchive(place(rest)?));
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return Ok(Self::DockerArchive(place(rest)?));
        }
        Ok(Self::Registry(text.strip_prefix("docker://").unwrap_or(text).parse()?))
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, place) = match self {
            Self::Registry(name) => return name.fmt(f),
            Self::OciLayout(place) => ("oci", place),
            Self::OciArchive(place) => ("oci-archive", place),
            Self::DockerArchive(place) => ("docker-archive", place),
        };
        write!(f, "{word}:{}", place.path.display())?;
        place.name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_front_tells_where_it_is() {
        for (text, path) in [
            ("oci:layout", Some("layout")),
            ("oci:./a/b:name:1", Some("./a/b")),
            ("oci-archive:/x.tar", Some("/x.tar")),
            ("docker-archive:x.tar:app:2", Some("x.tar")),
            ("nginx:1", None),
        ] {
            let source: ImageSource = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(source.path(), path.map(Path::new));
            assert_eq!(source.to_string().parse(), Ok(source));
        }
        assert_eq!("oci:".parse::<ImageSource>(), Err(InvalidImageSource::NoPath("oci:".to_owned())));
    }
}
