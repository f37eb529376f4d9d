//! What people say about nscompose itself: config.yaml.
//!
//! ```yaml
//! networks:
//!   default_address_pools: ["10.10.0.0/16:24", "fd00:10::/48:64"]   # BASE/PREFIX:SIZE of each subnet
//! registries: ...                                                     # image/registry/settings.rs
//! limits: ...
//! ```
//!
//! There is one for everybody (/etc/nscompose/config.yaml) and one for each account, which counts for more. Which files these
//! are, the caller knows: nothing here reads the environment. Each part of nscompose reads its own part of them.

use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};

use crate::{
    diagnostics::{Diagnostic, Diagnostics, SourceFile, suggest},
    model::AddressPool,
};

/// All keys, for who mistypes one.
const KEYS: [&str; 9] = [
    "registries",
    "limits",
    "mirrors",
    "insecure",
    "ca",
    "max_layer_size",
    "max_unpacked_size",
    "networks",
    "default_address_pools",
];

/// Settings are short; what is larger is another file.
const LARGEST: u64 = 1 << 20;

/// What is said of networks, of all files together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Where subnets come from that nobody has chosen; empty if nothing is said.
    pub default_address_pools: Vec<AddressPool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    networks: Networks,
    #[serde(default, rename = "registries")]
    _registries: Option<IgnoredAny>,
    #[serde(default, rename = "limits")]
    _limits: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Networks {
    default_address_pools: Option<Vec<AddressPool>>,
}

impl NetworkSettings {
    /// Reads the files that are there, the account's before that for everybody.
    ///
    /// # Errors
    /// All mistakes of all files, with their places.
    pub fn load(files: &[PathBuf]) -> Result<Self, Diagnostics> {
        let mut pools = None;
        let mut mistakes = Diagnostics::new();
        for (order, path) in files.iter().enumerate() {
            match read::<File>(order, path) {
                Ok(file) => pools = pools.or(file.networks.default_address_pools),
                Err(mistake) => mistakes.push(*mistake),
            }
        }
        let all = Self { default_address_pools: pools.unwrap_or_default() };
        if mistakes.is_empty() { Ok(all) } else { Err(mistakes) }
    }
}

/// Reads a part of a file; one that is not there says nothing.
///
/// # Errors
/// What is wrong with it, with its place.
pub(crate) fn read<T: DeserializeOwned + Default>(order: usize, path: &Path) -> Result<T, Box<Diagnostic>> {
    let fail = |why: &dyn fmt::Display| Box::new(Diagnostic::error(format!("cannot read {}: {why}", path.display())));
    match fs::metadata(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(T::default()),
        Ok(meta) if meta.len() > LARGEST => return Err(fail(&format!("it has more than {LARGEST} bytes"))),
        Ok(meta) if !meta.is_file() => return Err(fail(&"it is not a file")),
        _ => {}
    }
    let text = fs::read_to_string(path).map_err(|e| fail(&e))?;
    parse(&SourceFile::new(order, path.display().to_string(), text))
}

fn parse<T: DeserializeOwned + Default>(file: &SourceFile) -> Result<T, Box<Diagnostic>> {
    // A file with nothing but comments is an empty document, and that is null.
    let parsed = serde_saphyr::from_str::<Option<T>>(file.text());
    parsed.map(Option::unwrap_or_default).map_err(|error| {
        let error = error.without_snippet();
        let text = error.to_string();
        // The place is said by the diagnostic.
        let text = text.split(" at line ").next().unwrap_or_default();
        let text = text.rsplit_once(": at line ").map_or(text, |(text, _)| text);
        let mut mistake = Diagnostic::error(text.lines().next().unwrap_or_default());
        if let Some(place) = error.location() {
            let line = usize::try_from(place.line()).unwrap_or(1);
            let column = usize::try_from(place.column()).unwrap_or(1).saturating_sub(1);
            let whole = file.line(line);
            let at = whole.char_indices().nth(column).map_or(whole.len(), |(at, _)| at);
            let word = whole[at..].find([' ', ':', ',', ']', '}']).unwrap_or(whole.len() - at).max(1);
            let start = file.line_start(line) + at;
            mistake = mistake.at(&file.span(start..start + word));
        }
        if let Some(unknown) = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
            mistake = mistake.did_you_mean(suggest(unknown, KEYS));
        }
        Box::new(mistake)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(texts: &[&str]) -> Result<NetworkSettings, Diagnostics> {
        let dir = tempfile::tempdir().expect("folder");
        let paths: Vec<PathBuf> = (0..texts.len()).map(|i| dir.path().join(format!("{i}.yaml"))).collect();
        for (path, text) in paths.iter().zip(texts) {
            fs::write(path, text).expect("written");
        }
        NetworkSettings::load(&paths)
    }

    #[test]
    fn pools_of_the_account_count_for_more() {
        let ours =
            "networks: {default_address_pools: ['10.10.0.0/16:24', 'fd00:10::/48:64']}\nlimits: {max_layer_size: 5}";
        let everybodys = "networks: {default_address_pools: ['10.20.0.0/16:24']}\nregistries: {a.example: {}}";
        let pools = |texts: &[&str]| {
            let all = settings(texts).unwrap_or_else(|e| panic!("{e}"));
            all.default_address_pools.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(pools(&[ours, everybodys]), ["10.10.0.0/16:24", "fd00:10::/48:64"]);
        assert_eq!(pools(&["# nothing", everybodys]), ["10.20.0.0/16:24"]);
        assert!(pools(&[]).is_empty());
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        for (text, place, message) in [
            ("networks: {default_adress_pools: []}", "0.yaml:1:12", "did you mean `default_address_pools`?"),
            (
                "networks: {default_address_pools: ['10.0.0.0/8']}",
                "0.yaml:1:36",
                "`10.0.0.0/8` is not a pool of addresses",
            ),
        ] {
            let shown = settings(&[text]).expect_err(text).render(false);
            assert!(shown.contains(place) && shown.contains(message), "{shown}");
        }
    }
}
