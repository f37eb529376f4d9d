//! How this account reaches registries and unpacks layers, from what was typed and the environment.

use std::{error::Error, io, iter, path::PathBuf};

use super::store;
use crate::{
    cli::settings::Settings,
    diagnostics::{Failure, FailureKind},
    image::{
        InstallError, Installer, PullError,
        registry::{Access, CredentialSources, Proxies, RegistryError, RegistrySettings},
        store::Store,
        unpack::{Limits, OverlayAttributes, Ownership, UnpackOptions},
    },
    model::Ids,
    sandbox::{StackIds, in_initial_user_namespace},
};

/// What unpacks layers into the account's store. To be called as root of the containers' ids.
pub(super) fn installer(settings: &Settings) -> Result<Installer, Failure> {
    let limits = Limits { bytes: registry_settings(settings)?.max_unpacked_size(), ..Limits::default() };
    let options = UnpackOptions {
        ownership: match StackIds::of_caller().for_plan() {
            Ids::Single => Ownership::Single,
            Ids::Root | Ids::Range(_) => Ownership::Kept,
        },
        attributes: match in_initial_user_namespace() {
            true => OverlayAttributes::Trusted,
            false => OverlayAttributes::User,
        },
        limits,
    };
    Ok(Installer::new(store(settings), options))
}

fn registry_settings(settings: &Settings) -> Result<RegistrySettings, Failure> {
    Ok(RegistrySettings::load(&settings.config_files())?)
}

/// Files of credentials where Docker and Podman have them: theirs by environment variables first.
pub(super) fn access(settings: &Settings) -> Result<Access, Failure> {
    let variable = |name: &str| settings.environment.get(name).filter(|value| !value.is_empty()).cloned();
    let either = |name: &str| variable(&name.to_lowercase()).or_else(|| variable(name));
    let in_home = |path: &str| settings.absolute("HOME").map(|home| home.join(path));
    let files = [
        variable("REGISTRY_AUTH_FILE").map(PathBuf::from),
        variable("DOCKER_CONFIG").map(|folder| PathBuf::from(folder).join("config.json")),
        settings.absolute("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        settings.config_folder().map(|folder| folder.join("containers/auth.json")),
        in_home(".docker/config.json"),
    ];
    let certificates = [
        settings.config_folder().map(|folder| folder.join("containers/certs.d")),
        Some("/etc/containers/certs.d".into()),
        Some("/etc/docker/certs.d".into()),
    ];
    Ok(Access {
        settings: registry_settings(settings)?,
        credentials: CredentialSources {
            files: files.into_iter().flatten().map(|path| settings.directory.join(path)).collect(),
            search_path: settings.environment.get("PATH").map(Into::into).unwrap_or_default(),
        },
        certificates: certificates.into_iter().flatten().collect(),
        proxies: Proxies { http: either("HTTP_PROXY"), https: either("HTTPS_PROXY"), none: either("NO_PROXY") },
        ..Access::default()
    })
}

/// With what can be done when the disk is full that the store is on.
pub(super) fn with_room(failure: Failure, error: &(dyn Error + 'static), store: &Store) -> Failure {
    let mut causes = iter::successors(Some(error), |error| (*error).source());
    let full = causes.any(|error| {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    });
    if !full {
        return failure;
    }
    let folder = store.folder().display();
    failure.hint(format!("there is no room left for {folder}; `nscompose image prune` frees what nothing needs"))
}

/// Why an image was not pulled, with what to do about it.
pub(super) fn pull_failure(image: &str, error: &PullError) -> Failure {
    match error {
        PullError::Registry(error) => registry_failure(&format!("cannot pull `{image}`"), error),
        PullError::Document(error) => Failure::operation(format!("cannot pull `{image}`")).caused_by(error),
        PullError::Install(error) => install_failure(&format!("`{image}`"), error),
    }
}

pub(super) fn registry_failure(what: &str, error: &RegistryError) -> Failure {
    error.hints().into_iter().fold(Failure::operation(what).caused_by(error), Failure::hint)
}

/// Why an image that is here in some form cannot be made available.
pub(super) fn install_failure(what: &str, error: &InstallError) -> Failure {
    let kind = match error {
        InstallError::Store(_) => FailureKind::Host,
        _ => FailureKind::Operation,
    };
    Failure::new(kind, format!("cannot unpack {what}")).caused_by(error)
}
