//! Images and the disk they take, as tables and as JSON.

use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use super::table::age;
use crate::image::store::Stored;

/// One image, as `images` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageRow {
    repository: Option<String>,
    tag: Option<String>,
    #[serde(rename = "ID")]
    id: String,
    digest: Option<String>,
    platform: Option<String>,
    created: Option<String>,
    size: u64,
    layers: usize,
    used_by: Vec<String>,
}

impl ImageRow {
    /// An image, and who runs it.
    pub fn new(stored: &Stored, users: &[String]) -> Self {
        let name = stored.entry.name.as_ref();
        Self {
            repository: name.map(|name| name.familiar_repository()),
            tag: name.and_then(|name| name.tag()).map(str::to_owned),
            id: stored.image.id.to_string(),
            digest: stored.entry.registry_digest.as_ref().map(ToString::to_string),
            platform: stored.platform.as_ref().map(ToString::to_string),
            created: stored.created.clone(),
            size: stored.entry.unpacked,
            layers: stored.layers.len(),
            used_by: users.to_vec(),
        }
    }
}

/// A table for people, without lines.
pub fn images_table(rows: &[ImageRow], now: jiff::Timestamp) -> String {
    let mut table = plain();
    table.set_header(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "USED BY"]);
    for row in rows {
        let created = row.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        // Reproducible builds say 1970 or 1980, which nobody needs to know.
        let created = created.filter(|created| created.as_second() > 0);
        let id = row.id.trim_start_matches("sha256:");
        table.add_row([
            row.repository.as_deref().unwrap_or("<none>"),
            row.tag.as_deref().unwrap_or("<none>"),
            &id[..id.len().min(12)],
            &created.map(|created| format!("{} ago", age(now.as_second() - created.as_second()))).unwrap_or_default(),
            &size(row.size),
            &row.used_by.join(", "),
        ]);
    }
    lines(&table)
}

/// An array, one object per image.
pub fn images_json(rows: &[ImageRow]) -> String {
    json_lines(rows)
}

/// What one kind of thing takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsageRow {
    /// Images, containers, volumes.
    #[serde(rename = "Type")]
    pub kind: String,
    /// How many there are.
    pub total: usize,
    /// How many are in use.
    pub active: usize,
    /// Bytes.
    pub size: u64,
    /// Bytes that nobody uses.
    pub reclaimable: u64,
}

/// A table for people, without lines.
pub fn usage_table(rows: &[UsageRow]) -> String {
    let mut table = plain();
    table.set_header(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for row in rows {
        table.add_row([
            row.kind.clone(),
            row.total.to_string(),
            row.active.to_string(),
            size(row.size),
            size(row.reclaimable),
        ]);
    }
    lines(&table)
}

/// Networks that stacks share: name, driver, subnets, stacks.
pub fn networks_table(rows: impl Iterator<Item = [String; 4]>) -> String {
    let mut table = plain();
    table.set_header(["NAME", "DRIVER", "SUBNETS", "STACKS"]);
    rows.for_each(|row| {
        table.add_row(row);
    });
    lines(&table)
}

/// An array of objects.
pub fn json_lines(rows: &[impl Serialize]) -> String {
    let mut text = serde_json::to_string_pretty(rows).expect("plain data has a JSON form");
    text.push('\n');
    text
}

/// Bytes for people, as Docker shows them: powers of a thousand, three digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_999, "10.0 kB"),
            (123_456_789, "123 MB"),
            (999_600, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
