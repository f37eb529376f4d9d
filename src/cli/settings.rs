//! What was typed and what the environment says, resolved once into what it means.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::Global;
use crate::{
    diagnostics::Failure, model::AddressPool, settings::NetworkSettings, state::Layout, supervisor::is_root_of_machine,
    ui::Printer,
};

/// Everything that a verb needs to know about where it was called; nothing deeper reads the environment.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) printer: Printer,
    pub(super) directory: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
    /// Files given with `-f`.
    pub(super) files: Vec<PathBuf>,
    pub(super) project_name: Option<String>,
    pub(super) project_directory: Option<PathBuf>,
    pub(super) env_files: Vec<PathBuf>,
    pub(super) profiles: Vec<String>,
    pub(super) layout: Layout,
}

impl Settings {
    pub(super) fn resolve(global: &Global, printer: Printer) -> Result<Self, Failure> {
        let directory = env::current_dir()
            .map_err(|e| Failure::host("cannot tell which folder this is").caused_by(&e).hint("it may be gone: cd"))?;
        // Names and values that are not UTF-8 cannot be in a Compose file either.
        let environment: BTreeMap<String, String> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let layout = layout(global.home.as_deref(), &directory, &environment)?;
        Ok(Self {
            printer,
            directory,
            environment,
            files: global.files.clone(),
            project_name: global.project_name.clone(),
            project_directory: global.project_directory.clone(),
            env_files: global.env_files.clone(),
            profiles: global.profiles.clone(),
            layout,
        })
    }
}

impl Settings {
    /// A variable that has an absolute path.
    pub(super) fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// XDG Base Directory Specification.
    pub(super) fn config_folder(&self) -> Option<PathBuf> {
        self.absolute("XDG_CONFIG_HOME").or_else(|| Some(self.absolute("HOME")?.join(".config")))
    }

    /// The files config.yaml that are there: the account's, and that for everybody.
    pub(super) fn config_files(&self) -> Vec<PathBuf> {
        let own = self.config_folder().map(|folder| folder.join("nscompose/config.yaml"));
        let files = [own, Some("/etc/nscompose/config.yaml".into())];
        files.into_iter().flatten().filter(|path| path.exists()).collect()
    }

    /// Where subnets come from that nobody has chosen; empty if nobody has said anything of that either.
    pub(super) fn address_pools(&self) -> Result<Vec<AddressPool>, Failure> {
        let variable = self.environment.get("NSCOMPOSE_ADDRESS_POOLS").filter(|text| !text.trim().is_empty());
        let Some(text) = variable else {
            return Ok(NetworkSettings::load(&self.config_files())?.default_address_pools);
        };
        let pools = text.split(',').map(|pool| pool.trim().parse());
        pools
            .collect::<Result<_, _>>()
            .map_err(|e| Failure::usage(format!("NSCOMPOSE_ADDRESS_POOLS: {e}")).hint("several are separated by `,`"))
    }
}

/// A folder of the user's choice, else the places of the XDG Base Directory Specification, else those of root.
fn layout(home: Option<&Path>, directory: &Path, environment: &BTreeMap<String, String>) -> Result<Layout, Failure> {
    if let Some(home) = home {
        let home = directory.join(home);
        return Ok(Layout::new(&home.join("run"), &home.join("data")));
    }
    let uid = nix::unistd::geteuid();
    // Root of an inner user namespace is an ordinary user outside, whose places it can write to.
    if is_root_of_machine() {
        return Ok(Layout::new(Path::new("/run/nscompose"), Path::new("/var/lib/nscompose")));
    }
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| {
        Failure::host("there is no folder to keep data in: neither HOME nor XDG_DATA_HOME is set")
            .hint("name one with --home FOLDER or NSCOMPOSE_HOME")
    })?;
    // After `su` the variable is still the other account's.
    let own = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid.as_raw());
    let runtime = absolute("XDG_RUNTIME_DIR").into_iter().chain([PathBuf::from(format!("/run/user/{uid}"))]).find(own);
    let runtime = match runtime {
        Some(folder) => folder.join("nscompose"),
        None => PathBuf::from(format!("/tmp/nscompose-{uid}")),
    };
    Ok(Layout::new(&runtime, &data.join("nscompose")))
}
