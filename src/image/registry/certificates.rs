//! Certificates that are trusted for one registry: `ca:` of the settings, and the folders of Docker and Podman.
//!
//! ```text
//! /etc/docker/certs.d/HOST[:PORT]/*.crt          who may sign the registry's certificate
//!                                /NAME.cert .key who we are, for registries that ask for it
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use reqwest::{Certificate, Identity};

use super::RegistryError;

/// What is known about the TLS of one registry.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// Trusted besides those of the system.
    pub(super) roots: Vec<Certificate>,
    /// Who we are.
    pub(super) identity: Option<Identity>,
}

impl Certificates {
    /// Of a host, from the file of the settings and the folders that are there.
    ///
    /// # Errors
    /// When a file cannot be read or has no certificates in it.
    pub(super) fn of(host: &str, ca: Option<&Path>, folders: &[PathBuf]) -> Result<Self, RegistryError> {
        let mut all = Self::default();
        if let Some(path) = ca {
            all.roots.extend(roots(path)?);
        }
        for folder in folders.iter().map(|folder| folder.join(host)) {
            // What is not there, or not for this account, says nothing.
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            for path in paths {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => all.roots.extend(roots(&path)?),
                    Some("cert") if all.identity.is_none() => all.identity = identity(&path)?,
                    _ => {}
                }
            }
        }
        Ok(all)
    }
}

fn wrong(path: &Path, why: impl ToString) -> RegistryError {
    RegistryError::Certificate { path: path.to_owned(), why: why.to_string() }
}

fn roots(path: &Path) -> Result<Vec<Certificate>, RegistryError> {
    let bytes = fs::read(path).map_err(|e| wrong(path, e))?;
    let found = Certificate::from_pem_bundle(&bytes).map_err(|_| wrong(path, "it is not a file of PEM"))?;
    if found.is_empty() { Err(wrong(path, "there is none in it")) } else { Ok(found) }
}

/// None where the key is not for this account.
fn identity(path: &Path) -> Result<Option<Identity>, RegistryError> {
    let key = path.with_extension("key");
    let mut bytes = match fs::read(&key) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => return Ok(None),
        Err(e) => return Err(wrong(&key, e)),
    };
    bytes.push(b'\n');
    bytes.extend(fs::read(path).map_err(|e| wrong(path, e))?);
    Identity::from_pem(&bytes).map(Some).map_err(|_| wrong(path, "they are no pair of certificate and key"))
}
