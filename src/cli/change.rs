//! What the verbs have in common that change containers of a stack that is up: whom they are for, and handing plans over.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    files::{Words, container, file_list, options, project_name, same_stack, services_or_containers, tell_apart},
    settings::Settings,
    stack::{Broken, DEATHS, Opened, broken, gone, look_again, open_if_up, reconnect, until_done, went_away},
};
use crate::{
    diagnostics::{Failure, suggest},
    load::{self, LoadOptions},
    model::{Container, ContainerState, Observed, ProjectName, ServiceName},
    plan::Plan,
    state::StackLayout,
    supervisor::{Connection, Event, Reply, Request, Snapshot},
    ui::{Printer, WaitProgress},
};

/// A stack that is up, and those of its services that are meant.
pub(super) struct Target {
    pub(super) opened: Opened,
    pub(super) project: ProjectName,
    /// The services with a container that the words name, or all that have one.
    pub(super) services: BTreeSet<ServiceName>,
    /// They have been named.
    pub(super) named: bool,
    /// Services of the file that have been named and have no container.
    pub(super) without: Vec<ServiceName>,
    /// Services of the file; none when there is no file that could be read.
    pub(super) declared: Option<Vec<String>>,
}

impl Target {
    /// Finds what the words mean; a stack that is not up has its name come back instead.
    pub(super) fn find(words: &[String], settings: &Settings) -> Result<Result<Self, ProjectName>, Failure> {
        let words = tell_apart(words, &settings.directory);
        let project = project_name(&words, settings)?;
        let declared = declared(&words, settings);
        let Some(opened) = open_if_up(&settings.layout.stack(&project))? else {
            for word in &words.services {
                if let Some(declared) = declared.as_ref().filter(|declared| !declared.contains(word)) {
                    return Err(unknown(word, declared.iter().map(String::as_str)));
                }
            }
            return Ok(Err(project));
        };
        if settings.project_name.is_none() {
            same_stack(&project, &file_list(&words, settings)?, &opened.snapshot)?;
        }
        let containers = &opened.snapshot.observed.containers;
        let (mut services, mut without) = (BTreeSet::new(), Vec::new());
        for word in &words.services {
            let is_there = |(name, container): (&ServiceName, &Container)| {
                name.service() == word && name.hook().is_none() || name.as_str() == word || container.name == *word
            };
            if containers.iter().any(is_there) {
                services.extend(services_or_containers(std::slice::from_ref(word), containers)?);
            } else if let Some(name) = word.parse().ok().filter(|_| declared.iter().flatten().any(|name| name == word))
            {
                without.push(name);
            } else {
                let known = containers.keys().map(ServiceName::as_str);
                return Err(unknown(word, known.chain(declared.iter().flatten().map(String::as_str))));
            }
        }
        let named = !words.services.is_empty();
        if !named {
            services.extend(containers.keys().filter(|name| name.hook().is_none()).cloned());
        }
        Ok(Ok(Self { opened, project, services, named, without, declared }))
    }

    /// The containers that are meant.
    pub(super) fn containers(&self) -> impl Iterator<Item = (&ServiceName, &Container)> {
        let containers = &self.opened.snapshot.observed.containers;
        containers.iter().filter(|(name, _)| self.services.contains(*name))
    }
}

fn unknown<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let failure = Failure::usage(format!("there is no service `{word}` in this stack"));
    match suggest(word, known) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure,
    }
}

/// The containers that words mean. A service of the file that has none is among them all the same: it is no mistake to ask for it.
pub(super) fn named(
    words: &Words,
    containers: &BTreeMap<ServiceName, Container>,
    settings: &Settings,
) -> Result<Vec<ServiceName>, Failure> {
    let mut found = Vec::new();
    for word in &words.services {
        match services_or_containers(std::slice::from_ref(word), containers) {
            Ok(those) => found.extend(those),
            Err(failure) => found.push(without_container(word, words, settings).ok_or(failure)?),
        }
    }
    Ok(found)
}

/// The one container that a word means, as [`container`] finds it; one that a service of the file does not have yet is no unknown one.
pub(super) fn one_container(
    (word, index): (&str, Option<u32>),
    words: &Words,
    containers: &BTreeMap<ServiceName, Container>,
    settings: &Settings,
) -> Result<ServiceName, Failure> {
    container(word, index, containers).map_err(|failure| {
        let is_there = containers.keys().any(|name| name.service() == word);
        match without_container(word, words, settings).filter(|_| !is_there) {
            Some(service) => Failure::operation(format!("service `{service}` has no container"))
                .hint(format!("`nscompose up -d {service}` brings it up")),
            None => failure,
        }
    })
}

/// The service that a word means, if the files have it.
fn without_container(word: &str, words: &Words, settings: &Settings) -> Option<ServiceName> {
    let name = word.parse::<ServiceName>().ok()?;
    declared(words, settings)?.iter().any(|declared| declared == word).then_some(name)
}

/// The services that the files have, whatever else may be wrong with them; none when they cannot be read.
pub(super) fn declared(words: &Words, settings: &Settings) -> Option<Vec<String>> {
    let all = Words { files: words.files.clone(), services: Vec::new() };
    let all = LoadOptions { profiles: vec!["*".to_owned()], ..options(&all, settings).ok()? };
    load::contents(&all).ok().map(|contents| contents.all_services)
}

/// What is said when there is nothing to be done since the stack is not up.
pub(super) fn not_up(project: &ProjectName, settings: &Settings) -> Result<u8, Failure> {
    settings.printer.progress(project.as_str(), "is not up, nothing to do");
    Ok(0)
}

/// Plans, and has the plan carried out; whoever changes the stack meanwhile has it made anew, and so has a supervisor that
/// dies: what it has not done is planned again from what there is. Whether there was anything to do comes back.
pub(super) async fn carry_out_plan(
    (connection, layout): (&mut Connection, &StackLayout),
    mut snapshot: Snapshot,
    plan: impl Fn(&Observed) -> Plan,
    mut show: impl FnMut(&Event),
) -> Result<bool, Failure> {
    for death in 0.. {
        match try_plan(connection, snapshot, &plan, &mut show).await {
            Ok(any) => return Ok(any || death > 0),
            Err(Broken::Failed(failure)) => return Err(failure),
            Err(Broken::Gone) if death == DEATHS => break,
            Err(Broken::Gone) => (*connection, snapshot) = reconnect(layout).await?.ok_or_else(|| went_away(layout))?,
        }
    }
    Err(gone())
}

async fn try_plan(
    connection: &mut Connection,
    mut snapshot: Snapshot,
    plan: impl Fn(&Observed) -> Plan,
    mut show: impl FnMut(&Event),
) -> Result<bool, Broken> {
    loop {
        let plan = plan(&snapshot.observed);
        if plan.is_empty() {
            return Ok(false);
        }
        let (generation, files) = (snapshot.generation, snapshot.files.clone());
        let request = Request::Apply { plan, generation, files, foreground: false };
        connection.send(&request, &[]).await.map_err(|e| broken(&e))?;
        let answer = loop {
            match connection.next().await.map_err(|e| broken(&e))? {
                // Another command is carried out first.
                Some(Reply::Event(event)) => show(&event),
                answer => break answer,
            }
        };
        match answer {
            Some(Reply::Accepted) => break,
            Some(Reply::Stale) => snapshot = look_again(connection).await?.ok_or(Broken::Gone)?,
            Some(Reply::Failed(failure)) => return Err(failure.into()),
            Some(_) => {
                return Err(Failure::internal("the supervisor answers something else than what was asked").into());
            }
            None => return Err(Broken::Gone),
        }
    }
    until_done(connection, |event| show(&event)).await.map(|()| true)
}

/// Says what happens.
pub(super) struct Said {
    printer: Printer,
    waits: WaitProgress,
}

impl Said {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, waits: WaitProgress::new(printer) }
    }

    /// Says this, too.
    pub(super) fn show(&mut self, event: &Event) {
        let printer = self.printer;
        match event {
            Event::Waiting(waiting) => self.waits.show(waiting),
            Event::Waited(service, until) => self.waits.ended(service, *until),
            event => self.waits.suspended(|| show(printer, event)),
        }
    }
}

fn show(printer: Printer, event: &Event) {
    match event {
        Event::Container(service, state) => match state {
            ContainerState::Running => printer.progress(service.as_str(), "started"),
            ContainerState::Stopping => printer.progress(service.as_str(), "stopping"),
            ContainerState::Paused => printer.progress(service.as_str(), "paused"),
            ContainerState::Exited(code) => printer.progress(service.as_str(), &format!("stopped with code {code}")),
            ContainerState::Created | ContainerState::Starting | ContainerState::Restarting(_) => {}
        },
        Event::Unpaused(service) => printer.progress(service.as_str(), "unpaused"),
        Event::Removed(service) => printer.progress(service.as_str(), "removed"),
        Event::Notice(text) => printer.progress("host", text),
        Event::Warning(text) => printer.warning(text),
        _ => {}
    }
}

/// Seconds on the command line as milliseconds.
pub(super) fn milliseconds(seconds: Option<u32>) -> Option<u64> {
    seconds.map(|seconds| u64::from(seconds) * 1000)
}
