//! Where the members of a tar archive are.
//!
//! By hand, header for header, and not with the library's iterator: that one reads names of any length into memory, and
//! an archive of a stranger may have names of gigabytes.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt};

use tar::{EntryType, Header, PaxExtensions};

use super::ArchiveError;

/// Members that an archive may have. An image has three for each layer at most.
const MAX_MEMBERS: u64 = 200_000;

/// Bytes that all names together may have.
const MAX_NAMES: u64 = 32 << 20;

/// Bytes of a name, or of the records of pax(1), before a member.
const MAX_EXTENSION: u64 = 1 << 20;

/// How many links may lead from one to another.
const MAX_LINKS: usize = 16;

const BLOCK: u64 = 512;

/// What a member is.
#[derive(Debug)]
enum Place {
    /// A file: its first byte and its size.
    File(u64, u64),
    /// A link to another member, by name.
    Link(String),
    /// Something else that has a name.
    Other,
}

/// The members of a tar archive by name. Names are keys and nothing else: none of them is ever a path of this machine.
#[derive(Debug, Default)]
pub(super) struct Index {
    members: HashMap<String, Place>,
}

/// What comes before a member and changes what is said about it.
#[derive(Default)]
struct Extension {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl Index {
    /// Reads all headers of a file.
    ///
    /// # Errors
    /// When it is not a tar archive, ends early, or has more members than is sane.
    pub(super) fn read(file: &File) -> Result<Self, ArchiveError> {
        let wrong = |offset: u64, why: &str| ArchiveError::Tar { offset, why: why.to_owned() };
        let unread = |offset: u64| move |e: io::Error| ArchiveError::Tar { offset, why: e.to_string() };
        let length = file.metadata().map_err(unread(0))?.len();
        let mut index = Self::default();
        let mut before = Extension::default();
        let (mut offset, mut count, mut names) = (0, 0, 0);
        // Many archives end without the two blocks of zeros that they should end with.
        while offset < length {
            let mut header = Header::new_old();
            if length - offset < BLOCK {
                return Err(wrong(offset, "it ends in the middle of a header"));
            }
            file.read_exact_at(header.as_mut_bytes(), offset).map_err(unread(offset))?;
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                break;
            }
            if !header.cksum().is_ok_and(|promised| promised == checksum(&header)) {
                return Err(wrong(offset, "there is no header of a member"));
            }
            count += 1;
            if count > MAX_MEMBERS {
                return Err(ArchiveError::TooMuch { what: "members", limit: MAX_MEMBERS });
            }
            let kind = header.entry_type();
            let extends = matches!(kind, EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink);
            let said = header.entry_size().map_err(unread(offset))?;
            let size = before.size.filter(|_| !extends).unwrap_or(said);
            // Links have sizes in some archives, and no content.
            let content = if kind.is_hard_link() || kind.is_symlink() { 0 } else { size };
            let begin = offset + BLOCK;
            let end = begin.checked_add(content).ok_or_else(|| wrong(offset, "a member is too large"))?;
            if extends {
                if size > MAX_EXTENSION {
                    return Err(wrong(offset, "a name is too long"));
                }
                let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
                file.read_exact_at(&mut bytes, begin).map_err(unread(begin))?;
                before.add(kind, &bytes).map_err(|why| wrong(begin, why))?;
            } else if kind != EntryType::XGlobalHeader {
                let before = std::mem::take(&mut before);
                let name = before.name.unwrap_or_else(|| text(&header.path_bytes()));
                if end > length {
                    return Err(ArchiveError::Truncated { member: name });
                }
                let key = normal(&name);
                let place = match kind {
                    EntryType::Regular | EntryType::Continuous => Some(Place::File(begin, size)),
                    EntryType::Link | EntryType::Symlink => {
                        let target = before.link.or_else(|| header.link_name_bytes().map(|bytes| text(&bytes)));
                        target.map(|target| Place::Link(leads_to(&key, &target, kind == EntryType::Symlink)))
                    }
                    EntryType::Directory => None,
                    _ => Some(Place::Other),
                };
                if let Some(place) = place {
                    names += key.len() as u64 + if let Place::Link(target) = &place { target.len() as u64 } else { 0 };
                    if names > MAX_NAMES {
                        return Err(ArchiveError::TooMuch { what: "bytes of names", limit: MAX_NAMES });
                    }
                    // Of several with one name the last counts, as it does when they are unpacked.
                    index.members.insert(key, place);
                }
            }
            offset = end.div_ceil(BLOCK).checked_mul(BLOCK).ok_or_else(|| wrong(offset, "a member is too large"))?;
        }
        Ok(index)
    }

    /// Whether there is a member of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.members.contains_key(&normal(name))
    }

    /// First byte and size of a member; links are followed.
    ///
    /// # Errors
    /// When it, or what it leads to, is not there or is no file.
    pub(super) fn find(&self, name: &str) -> Result<(u64, u64), ArchiveError> {
        let mut key = normal(name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&key) {
                Some(Place::File(begin, size)) => return Ok((*begin, *size)),
                Some(Place::Link(target)) => key.clone_from(target),
                Some(Place::Other) => return Err(ArchiveError::NotAFile { member: name.to_owned() }),
                None if key == normal(name) => return Err(ArchiveError::Missing { member: name.to_owned() }),
                None => return Err(ArchiveError::Missing { member: format!("{name} -> {key}") }),
            }
        }
        Err(ArchiveError::Loop { member: name.to_owned() })
    }
}

impl Extension {
    fn add(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), &'static str> {
        let zero = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        match kind {
            EntryType::GNULongName => self.name = Some(text(&bytes[..zero])),
            EntryType::GNULongLink => self.link = Some(text(&bytes[..zero])),
            _ => {
                for record in PaxExtensions::new(bytes) {
                    let record = record.map_err(|_| "a record of pax is broken")?;
                    match record.key_bytes() {
                        b"path" => self.name = Some(text(record.value_bytes())),
                        b"linkpath" => self.link = Some(text(record.value_bytes())),
                        b"size" => {
                            let size = record.value().ok().and_then(|text| text.parse().ok());
                            self.size = Some(size.ok_or("a size is not a number")?);
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// Sum of all bytes, those of the sum itself taken for blanks.
fn checksum(header: &Header) -> u32 {
    let bytes = header.as_bytes();
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Without what says nothing: `./a//b` is `a/b`. Whatever else is in a name, such as `..`, stays.
fn normal(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

/// The member that a link leads to: from its own folder if it is a symbolic one. A way out of the archive leads nowhere.
fn leads_to(link: &str, target: &str, symbolic: bool) -> String {
    let mut parts: Vec<&str> = match link.rsplit_once('/') {
        Some((folder, _)) if symbolic && !target.starts_with('/') => folder.split('/').collect(),
        _ => Vec::new(),
    };
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." || parts.pop().is_none() {
            parts.push(part);
        }
    }
    parts.join("/")
}
