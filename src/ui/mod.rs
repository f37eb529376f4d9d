//! What people see while things go well: text on the two streams, log lines with their prefixes, tables, progress.
//!
//! Data goes to standard output, everything for people to standard error. Nothing else in the crate prints.

mod images;
mod logs;
mod namespaces;
mod printer;
mod processes;
mod pulls;
mod stacks;
mod stats;
mod table;
mod template;
mod waits;

pub use images::{ImageRow, UsageRow, images_json, images_table, json_lines, networks_table, size, usage_table};
pub use logs::{LogFollower, LogPrinter, LogRange, LogStyle};
pub use namespaces::NamespaceMatrix;
pub use printer::{FilterBrokenPipe, Messages, Printer};
pub use processes::{ProcessRow, processes_table};
pub use pulls::PullProgress;
pub use stacks::{StackRow, stacks_json, stacks_table};
pub use stats::{StatsRow, memory_size, stats_json, stats_table};
pub use table::{Row, container_rows, containers_by_template, containers_json, containers_table};
pub use template::{InvalidTemplate, Template};
pub use waits::WaitProgress;
