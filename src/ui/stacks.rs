//! Stacks as a table and as JSON.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::diagnostics::sanitize;

/// A stack, as `ls` shows it, with the fields that Docker Compose has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StackRow {
    /// Its name.
    pub name: String,
    /// How many of its containers do what, such as `exited(1), running(2)`.
    pub status: String,
    /// Its Compose files, with commas between them.
    pub config_files: String,
}

/// A table for people, without lines.
pub fn stacks_table(rows: &[StackRow]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["NAME", "STATUS", "CONFIG FILES"]);
    for row in rows {
        table.add_row([&row.name, &row.status, &sanitize(&row.config_files).into_owned()]);
    }
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// An array in one line, as of Docker Compose.
pub fn stacks_json(rows: &[StackRow]) -> String {
    serde_json::to_string(rows).expect("plain data has a JSON form") + "\n"
}
