//! Logs of services on disk: who writes and who reads them meet here.
//!
//! ```text
//! DATA/v1/stacks/PROJECT/logs/SERVICE/1.jsonl.gz   rotated and compressed
//!                                    /2.jsonl      rotated
//!                                    /3.jsonl      the one that is written to: that of the largest number
//!                                    /none         instead of them: no log is kept
//! ```
//!
//! A file has a name for as long as it is there, so nothing that is read is ever moved away under its reader: rotating is
//! making the next one. docs/design/logs.md says what holds for them.

mod folder;
mod reader;
mod record;
mod tail;

pub use folder::{LogFile, LogFolder};
pub use reader::{LogLine, LogReader};
pub use record::{LogRecord, Stream, Times, write_record};
