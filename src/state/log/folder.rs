//! The files of a service's log.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder with the log of a service; it need not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFolder(PathBuf);

/// One of the files, as far as it is there: while it is compressed it is so in both forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFile {
    /// They are counted from one.
    pub number: u64,
    /// It is there as it was written.
    pub plain: bool,
    /// It is there compressed.
    pub compressed: bool,
}

impl LogFolder {
    /// The one at this path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file as it is written.
    pub fn plain(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number}.jsonl"))
    }

    /// The same, compressed with gzip: complete as soon as it is there.
    pub fn compressed(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number}.jsonl.gz"))
    }

    /// The same while it is being made.
    pub fn unfinished(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number}.jsonl.gz.new"))
    }

    /// What says that no log is kept.
    pub fn none(&self) -> PathBuf {
        self.0.join("none")
    }

    /// The files that are there, the oldest first. None when there is no folder.
    ///
    /// # Errors
    /// What readdir(3) says.
    pub fn files(&self) -> io::Result<Vec<LogFile>> {
        let mut files = std::collections::BTreeMap::new();
        let entries = match fs::read_dir(&self.0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let Some((number, ending)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Ok(number) = number.parse() else { continue };
            let file = files.entry(number).or_insert(LogFile { number, plain: false, compressed: false });
            match ending {
                "jsonl" => file.plain = true,
                "jsonl.gz" => file.compressed = true,
                _ => {}
            }
        }
        Ok(files.into_values().filter(|file| file.plain || file.compressed).collect())
    }
}
