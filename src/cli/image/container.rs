//! A container of the stack that the command line means.

use crate::{
    cli::{
        files::{Words, is_file, project_name, services_or_containers},
        settings::Settings,
        stack::open_if_up,
    },
    diagnostics::Failure,
    model::{Container, ServiceName},
    state::StackLayout,
};

/// A service with its container, and where its files are.
pub(super) struct Found {
    pub(super) service: ServiceName,
    pub(super) container: Container,
    pub(super) layout: StackLayout,
}

impl Found {
    /// Its first process.
    pub(super) fn pid(&self) -> Result<i32, Failure> {
        self.container
            .pid
            .filter(|_| self.container.state.is_alive())
            .ok_or_else(|| Failure::operation(format!("service `{}` does not run", self.service)))
    }
}

/// Takes `[FILE] SERVICE` off the words.
pub(super) fn find(words: &mut Vec<String>, settings: &Settings) -> Result<Found, Failure> {
    let mut files = Vec::new();
    if words.len() > 1 && is_file(&words[0], &settings.directory) {
        files.push(words.remove(0).into());
    }
    let word = words.remove(0);
    let name = project_name(&Words { files, services: Vec::new() }, settings)?;
    let layout = settings.layout.stack(&name);
    let Some(opened) = open_if_up(&layout)? else {
        return Err(Failure::operation(format!("stack `{name}` is not up")).hint("`nscompose up -d` brings it up"));
    };
    let mut containers = opened.snapshot.observed.containers;
    let service = services_or_containers(&[word], &containers)?.remove(0);
    let absent = || Failure::operation(format!("service `{service}` has no container"));
    let container = containers.remove(&service).ok_or_else(absent)?;
    Ok(Found { service, container, layout })
}
