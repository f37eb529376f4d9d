//! Where values come from, as a table and as JSON.

use comfy_table::{ContentArrangement, Table, presets};

use crate::{
    compose::Untyped,
    diagnostics::{Failure, sanitize},
    load::{Contents, Explained},
};

/// Explains the values at these paths.
pub(super) fn text(paths: &[String], contents: &Contents, json: bool) -> Result<String, Failure> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(contents.explain(path).map_err(|error| {
            let failure = Failure::usage(error.to_string());
            match error.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?);
    }
    if json {
        let text =
            serde_json::to_string_pretty(&all).map_err(|e| Failure::internal("cannot write it").caused_by(&e))?;
        return Ok(text + "\n");
    }
    Ok(table(&all))
}

fn table(all: &[Explained]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["PATH", "VALUE", "WRITTEN AT", "WAY"]);
    for explained in all {
        let place = match &explained.place {
            Some(place) if explained.implied => format!("implied by {place}"),
            Some(place) => place.to_string(),
            None => "-".to_owned(),
        };
        let way: Vec<String> = explained.way.iter().map(ToString::to_string).collect();
        let row = [explained.path.clone(), value(&explained.value), place, way.join(", ")];
        table.add_row(row.map(|text| sanitize(&text).into_owned()));
    }
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn value(value: &Untyped) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Untyped::Text(text) if !text.is_empty() => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    if text.chars().count() > LONGEST { text.chars().take(LONGEST - 1).chain(['…']).collect() } else { text }
}
