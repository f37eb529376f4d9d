//! Reading and writing the files of a control group.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::CgroupError;

/// Writes one value with one write(2), as the files of a control group want it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written = || -> io::Result<()> {
        use std::io::Write;
        // Never made: a file that is not there is a setting that is not.
        fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
    };
    written().map_err(|source| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source })
}

/// The whole text of a file, without blanks around it; none if it cannot be read.
pub(super) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The number in a file; none for `max` too.
pub(super) fn number(path: &Path) -> Option<u64> {
    read(path)?.parse().ok()
}

/// The number behind a word that begins a line, such as `oom_kill 3`.
pub(super) fn field(path: &Path, name: &str) -> Option<u64> {
    let text = read(path)?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Where the files of one controller are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    V1(PathBuf),
    V2(PathBuf),
}

impl At {
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::V1(folder) | Self::V2(folder) => folder,
        }
    }
}
