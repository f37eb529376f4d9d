//! What containers use, as a table and as JSON.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::size;
use crate::model::{Container, ServiceName, Usage};

/// What one container uses, as `stats` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatsRow {
    name: String,
    service: String,
    /// Of one processor.
    cpu_percent: Option<f64>,
    memory: Option<u64>,
    memory_limit: Option<u64>,
    memory_percent: Option<f64>,
    received: Option<u64>,
    sent: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    #[serde(rename = "PIDs")]
    pids: Option<u64>,
    #[serde(rename = "PIDsLimit")]
    pids_limit: Option<u64>,
    throttled_us: Option<u64>,
}

impl StatsRow {
    /// The row of a container from what it uses now, and what it used `elapsed` ago, if it ran.
    pub fn new(
        service: &ServiceName,
        container: &Container,
        now: Usage,
        before: Option<&Usage>,
        elapsed: Duration,
    ) -> Self {
        let cpu = now.cpu_us.zip(before.and_then(|before| before.cpu_us));
        let percent = |part: f64, whole: f64| if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
        let memory_limit = now.memory_limit;
        Self {
            name: container.name.clone(),
            service: service.service().to_owned(),
            cpu_percent: cpu
                .map(|(now, before)| rounded(percent(now.saturating_sub(before) as f64, elapsed.as_micros() as f64))),
            memory: now.memory,
            memory_limit,
            memory_percent: now
                .memory
                .zip(memory_limit)
                .map(|(memory, limit)| rounded(percent(memory as f64, limit as f64))),
            received: now.received,
            sent: now.sent,
            read: now.read,
            written: now.written,
            pids: now.pids,
            pids_limit: now.pids_limit,
            throttled_us: now.throttled_us,
        }
    }
}

fn rounded(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

/// An amount of memory: powers of 1024, as limits are written.
pub fn memory_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

/// A table for people, without lines; `-` is what is not counted.
pub fn stats_table(rows: &[StatsRow]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]);
    let none = || "-".to_owned();
    for row in rows {
        let percent = |percent: Option<f64>| percent.map_or_else(none, |percent| format!("{percent:.2}%"));
        let both = |one: Option<u64>, other: Option<u64>, show: fn(u64) -> String| match (one, other) {
            (None, None) => none(),
            (one, other) => format!("{} / {}", one.map_or_else(none, show), other.map_or_else(none, show)),
        };
        table.add_row([
            row.name.clone(),
            percent(row.cpu_percent),
            both(row.memory, row.memory_limit, memory_size),
            percent(row.memory_percent),
            both(row.received, row.sent, size),
            both(row.read, row.written, size),
            row.pids.map_or_else(none, |pids| pids.to_string()),
        ]);
    }
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// An object a line for each container; `null` is what is not counted.
pub fn stats_json(rows: &[StatsRow]) -> String {
    let line = |row| serde_json::to_string(row).expect("plain data has a JSON form") + "\n";
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), ((1 << 30) - 1, "1 GiB")]
        {
            assert_eq!(memory_size(bytes), text);
        }
    }
}
