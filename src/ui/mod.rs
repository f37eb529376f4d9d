//! What people see while things go well: text on the two streams, log lines with their prefixes, tables.
//!
//! Data goes to standard output, everything for people to standard error. Nothing else in the crate prints.

mod logs;
mod printer;
mod table;

pub use logs::{LogFollower, LogPrinter, LogStyle};
pub use printer::{FilterBrokenPipe, Messages, Printer};
pub use table::{Row, container_rows, containers_json, containers_table};
