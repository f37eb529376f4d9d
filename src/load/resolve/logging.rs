//! `logging:` of a service.

use std::collections::BTreeMap;

use regex::Regex;

use super::{Context, Cursor, said};
use crate::{
    compose::{self, REFUSED_LOG_DRIVERS, REFUSED_LOG_MODES},
    diagnostics::{Diagnostic, suggest},
    model::{LogTag, Logging, ServiceName},
};

/// What may be named as a driver.
const DRIVERS: [&str; 3] = ["json-file", "local", "none"];

/// Options of either driver that keeps a log.
const OPTIONS: [&str; 3] = ["max-size", "max-file", "compress"];

/// What the names of labels begin with that Docker Compose itself gives to its containers.
const OWN_LABELS: &str = "com.docker.compose.";

/// Further ones of json-file (moby, `daemon/logger/jsonfilelog`), and of all drivers.
const OF_JSON_FILE: [&str; 7] = ["labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"];

pub(super) fn lower(cx: &mut Context<'_>, name: &ServiceName, service: &compose::Service, at: Cursor<'_>) -> Logging {
    let (Some(logging), Some(at)) = (&service.lifecycle.logging, at.get("logging")) else { return Logging::default() };
    let driver = said(logging.driver.as_ref()).unwrap_or("json-file");
    let mut lowered = match driver {
        "json-file" => Logging::default(),
        "local" => Logging::local(),
        "none" => Logging { kept: false, ..Logging::default() },
        // That has been said, and its options are nothing to us.
        _ if REFUSED_LOG_DRIVERS.takes(driver) => return Logging::default(),
        _ => {
            let unknown = Diagnostic::error(format!("there is no logging driver `{driver}`"));
            let unknown = at.at("driver").here(unknown).did_you_mean(suggest(driver, DRIVERS));
            cx.push(unknown.hint("there are `json-file`, `local` and `none`"));
            return Logging::default();
        }
    };
    let Some(options) = at.get("options") else { return lowered };
    let mut sizes = Sizes::default();
    for (key, at) in options.entries() {
        let Some(text) = at.node.scalar().map(|scalar| &*scalar.text) else { continue };
        if !lowered.kept {
            let none = Diagnostic::warning(format!("`{key}` has no effect: service `{name}` keeps no log"));
            cx.push(at.at_key(none));
            continue;
        }
        let of_json_file = driver == "json-file" && OF_JSON_FILE.contains(&key);
        if !(of_json_file || OPTIONS.contains(&key) || matches!(key, "mode" | "max-buffer-size")) {
            let unknown = Diagnostic::error(format!("logging driver `{driver}` has no option `{key}`"));
            let all = OPTIONS.into_iter().chain(OF_JSON_FILE.into_iter().filter(|_| driver == "json-file"));
            cx.push(at.at_key(unknown).did_you_mean(suggest(key, all)));
            continue;
        }
        set(cx, &mut lowered, &mut sizes, (key, text), service, at);
    }
    check(cx, &lowered, driver, &sizes, options);
    lowered
}

/// Where sizes and the like are said.
#[derive(Default)]
struct Sizes<'a> {
    max_size: Option<Cursor<'a>>,
    max_file: Option<Cursor<'a>>,
    compress: Option<Cursor<'a>>,
}

fn set<'a>(
    cx: &mut Context<'_>,
    lowered: &mut Logging,
    sizes: &mut Sizes<'a>,
    (key, text): (&str, &str),
    service: &compose::Service,
    at: Cursor<'a>,
) {
    let mut wrong = |message: String, hint: &str| cx.push(at.here(Diagnostic::error(message)).hint(hint));
    match key {
        "max-size" => match (size(text), text) {
            (Some(bytes), _) => {
                lowered.max_size = Some(bytes);
                sizes.max_size = Some(at);
            }
            // No bound, as it is without.
            (None, "-1") => lowered.max_size = None,
            _ => wrong(
                format!("`{text}` is not a size of a log"),
                "write a number of bytes, or one with k, m or g, such as `10m`",
            ),
        },
        "max-file" => match text.parse() {
            Ok(files) if files > 0 => {
                lowered.max_files = files;
                sizes.max_file = Some(at);
            }
            _ => wrong(format!("`{text}` is not a number of files"), "write a whole number from 1 on"),
        },
        // What Go's strconv.ParseBool takes, as in Docker.
        "compress" => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => {
                lowered.compress = true;
                sizes.compress = Some(at);
            }
            "0" | "f" | "F" | "false" | "FALSE" | "False" => lowered.compress = false,
            _ => wrong(format!("`{text}` is neither true nor false"), "write `\"true\"` or `\"false\"`"),
        },
        "labels" => {
            lowered.labels.extend(labels(service, |label| text.split(',').any(|one| one == label)));
            let own = text.split(',').filter(|label| label.starts_with(OWN_LABELS));
            lowered.own_labels.extend(own.map(str::to_owned));
        }
        "env" => lowered.env.extend(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
        "labels-regex" | "env-regex" if text.is_empty() => {}
        "labels-regex" | "env-regex" => match Regex::new(text) {
            Ok(regex) if key == "labels-regex" => {
                lowered.labels.extend(labels(service, |label| regex.is_match(label)));
                lowered.labels_regex = Some(text.to_owned());
            }
            Ok(_) => lowered.env_regex = Some(text.to_owned()),
            Err(_) => wrong(format!("`{text}` is not a regular expression"), "the syntax is that of RE2, as in Docker"),
        },
        "tag" => match text.parse::<LogTag>() {
            Ok(tag) => lowered.tag = (!text.is_empty()).then_some(tag),
            Err(error) => wrong(error.to_string(), "there are `{{.Name}}`, `{{.ImageName}}` and `{{.DaemonName}}`"),
        },
        // A service waits for its own log alone, which is written as fast as the disk is.
        "mode" if matches!(text, "" | "blocking") => {}
        "mode" if REFUSED_LOG_MODES.takes(text) => {
            let what = format!("logging.options.mode: {text}");
            cx.refusals.value(&REFUSED_LOG_MODES, &what, |diagnostic| at.here(diagnostic));
        }
        "mode" => wrong(format!("`{text}` is not a mode of logging"), "it may be `blocking`"),
        // It is of that mode.
        "max-buffer-size" => {
            cx.refusals
                .value(&REFUSED_LOG_MODES, "logging.options.max-buffer-size", |diagnostic| at.at_key(diagnostic));
        }
        _ => {}
    }
}

fn labels(service: &compose::Service, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let labels = service.naming.labels.as_ref();
    let wanted = labels.into_iter().flat_map(|labels| &labels.0).filter(|(name, _)| wanted(name));
    wanted.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What does not go together.
fn check(cx: &mut Context<'_>, lowered: &Logging, driver: &str, sizes: &Sizes<'_>, options: Cursor<'_>) {
    if let (true, None, Some(at)) = (lowered.max_size.is_none(), sizes.max_size, sizes.max_file) {
        let none = Diagnostic::warning("`max-file` has no effect without `max-size`: there is one file that grows");
        cx.push(at.at_key(none));
    }
    if lowered.compress && (lowered.max_files < 2 || lowered.max_size.is_none()) {
        let place = sizes.compress.or(sizes.max_file).unwrap_or(options);
        let wrong = Diagnostic::error("the file that is written to is not compressed, and there is no other");
        let hint = match (sizes.compress, driver) {
            (None, "local") => "set `compress: \"false\"` beside it, or a `max-file` of 2 or more",
            _ => "set `max-size`, and a `max-file` of 2 or more, or leave out `compress`",
        };
        cx.push(place.here(wrong).hint(hint));
    }
}

/// Bytes. Units are powers of 1000, as Docker has them here (go-units, `FromHumanSize`), and a bound of nothing is none.
fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        _ if unit.len() > 3 => return None,
        "" if unit.is_empty() || unit == "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1000_u64.pow(power);
    let bytes = match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(factor)?,
        Some(_) => (number.parse::<f64>().ok()? * factor as f64) as u64,
    };
    (bytes > 0 && i64::try_from(bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_a_thousand() {
        for (text, bytes) in
            [("10m", 10_000_000), ("1", 1), ("5 kB", 5000), ("1.5g", 1_500_000_000), ("2KiB", 2000), ("3b", 3)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "0", "-1", "x", "10x", "1bb", "1i", "1mm", "99999999999g", "1.2.3m", " 1", "1e3"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
