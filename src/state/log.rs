//! A line of a log on disk, in the format of Docker's json-file driver:
//! `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}`.

use serde::{Deserialize, Serialize};

/// Which of the two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line, or a part of one that is very long or was not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The text, with its line break if it has one; what is not UTF-8 shows as U+FFFD.
    pub log: String,
    /// Which of the two streams it came from.
    pub stream: Stream,
    /// When it came.
    pub time: jiff::Timestamp,
}

impl LogLine {
    /// Longest line that is kept in one piece, in bytes, as in Docker.
    pub const MAX: usize = 16 * 1024;
}
