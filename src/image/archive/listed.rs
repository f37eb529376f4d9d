//! The images of an archive, and finding one by name.

use oci_spec::image::Descriptor;

use super::{ArchiveError, docker::Item};
use crate::model::ImageName;

/// An image of an archive, for one platform or for several.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Names that it is loaded under; none if the archive has none, or only a tag without a repository.
    pub names: Vec<ImageName>,
    /// What the archive itself calls it, as it is written there.
    pub references: Vec<String>,
    /// Where it is.
    pub(super) origin: Origin,
}

/// Where an image of an archive is.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// What index.json of a layout has: one manifest or index, or a manifest for each platform.
    Layout(Vec<Descriptor>),
    /// What manifest.json has.
    Docker(Item),
}

impl Listed {
    /// Whether `wanted` is one of its names: as it is written in the archive or, if `loosely`, another way to write it.
    fn is(&self, wanted: &str, loosely: bool) -> bool {
        if !loosely {
            return self.references.iter().any(|reference| reference == wanted);
        }
        wanted.parse::<ImageName>().is_ok_and(|wanted| self.names.contains(&wanted))
    }

    /// As it is told in a list.
    fn told(&self) -> String {
        if self.references.is_empty() {
            "one without a name".to_owned()
        } else {
            format!("`{}`", self.references.join("`, `"))
        }
    }
}

/// The image of this name, or the only one. `@N` is the N-th, the first being 0, as containers-transports(5) has it.
pub(super) fn find<'a>(images: &'a [Listed], wanted: Option<&str>) -> Result<&'a Listed, ArchiveError> {
    let Some(wanted) = wanted else {
        return match images {
            [] => Err(ArchiveError::Empty),
            [only] => Ok(only),
            _ => Err(ArchiveError::Several { there: told(images.iter()) }),
        };
    };
    for loosely in [false, true] {
        let mut named = images.iter().filter(|image| image.is(wanted, loosely));
        if let Some(first) = named.next() {
            // A tag may be that of several repositories.
            return match named.next() {
                None => Ok(first),
                Some(_) => {
                    Err(ArchiveError::Several { there: told(images.iter().filter(|image| image.is(wanted, loosely))) })
                }
            };
        }
    }
    let numbered = || images.get(wanted.strip_prefix('@')?.parse::<usize>().ok()?);
    numbered().ok_or_else(|| match images {
        [] => ArchiveError::Empty,
        _ => ArchiveError::NoSuchImage { wanted: wanted.to_owned(), there: told(images.iter()) },
    })
}

/// A list of images for people, no longer than a screen takes.
fn told<'a>(images: impl Iterator<Item = &'a Listed>) -> String {
    const SHOWN: usize = 20;
    let mut all: Vec<String> = images.map(Listed::told).collect();
    if all.len() > SHOWN {
        let more = all.len() - SHOWN;
        all.truncate(SHOWN);
        all.push(format!("{more} more"));
    }
    all.join(", ")
}

/// The name that a text of an archive is, if it is one that says a repository: `latest` alone is a tag. A digest in it is
/// left out, and what has no tag then is no name: only a registry's content is known by its digest, and `image:` with one
/// would run whatever an archive of a stranger calls so.
pub(super) fn full_name(text: &str) -> Option<ImageName> {
    let name = match text.split_once('@') {
        None => text,
        Some((name, _)) => name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map(|_| name)?,
    };
    name.contains(['/', ':']).then(|| name.parse().ok()).flatten()
}
