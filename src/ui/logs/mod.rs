//! Log lines of several services as one stream.
//!
//! ```text
//! logs/SERVICE/N.jsonl ──LogReader──▶ lines of one service ─┐
//! logs/OTHER/…         ──LogReader──▶ lines of another     ─┴─LogFollower, by time──▶ LogPrinter
//! ```

mod follower;
mod printer;

pub use follower::{LogFollower, LogRange};
pub use printer::{LogPrinter, LogStyle};
