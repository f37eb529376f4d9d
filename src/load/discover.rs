//! Phase 1: which files a stack is made of.

use std::path::{Path, PathBuf};

use crate::diagnostics::{Diagnostic, Diagnostics};

/// Names looked for, the first that exists being taken, each with the names of its override files.
const NAMES: [(&str, &[&str]); 6] = [
    ("nscompose.yaml", &[]),
    ("stack.yaml", &[]),
    ("compose.yaml", &["compose.override.yaml", "compose.override.yml"]),
    ("compose.yml", &["compose.override.yml", "compose.override.yaml"]),
    ("docker-compose.yaml", &["docker-compose.override.yaml", "docker-compose.override.yml"]),
    ("docker-compose.yml", &["docker-compose.override.yml", "docker-compose.override.yaml"]),
];

/// The files of the nearest folder, from `directory` upwards, that has one: the file itself and its override file.
///
/// # Errors
/// When neither `directory` nor any folder above it has a Compose file.
pub fn discover(directory: &Path) -> Result<Vec<PathBuf>, Diagnostics> {
    for folder in directory.ancestors() {
        for (name, overrides) in NAMES {
            let file = folder.join(name);
            if file.is_file() {
                let more = overrides.iter().map(|name| folder.join(name)).find(|file| file.is_file());
                return Ok(std::iter::once(file).chain(more).collect());
            }
        }
    }
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    Err(Diagnostic::error(format!("there is no Compose file in {} or a folder above it", directory.display()))
        .hint(format!("looked for {}", names.join(", ")))
        .hint("name a file with `-f FILE`")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_wins_and_overrides_stand_beside_their_file() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).expect("folders");
        let touch = |name: &str| std::fs::write(root.path().join(name), "").expect("a file");
        touch("docker-compose.yml");
        touch("docker-compose.override.yml");
        touch("compose.override.yaml");
        let found = |directory: &Path| -> Vec<String> {
            let files = discover(directory).expect("found");
            files.iter().map(|f| f.strip_prefix(root.path()).expect("below").display().to_string()).collect()
        };
        assert_eq!(found(&inner), ["docker-compose.yml", "docker-compose.override.yml"]);
        touch("compose.yml");
        assert_eq!(found(&inner), ["compose.yml", "compose.override.yaml"]);
        touch("a/stack.yaml");
        assert_eq!(found(&inner), ["a/stack.yaml"]);
    }
}
