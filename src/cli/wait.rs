//! `nscompose wait`.

use std::collections::BTreeMap;

use super::{
    change::{Said, Target},
    settings::Settings,
    stack::{carry_out, reconnect, wait_for_end, went_away},
};
use crate::{
    diagnostics::Failure,
    supervisor::{Connection, Reply, Request},
};

/// Wait until all of these services have ended
///
/// The exit code is that of the one that has ended last.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, and services to wait for
    #[arg(value_name = "FILE|SERVICE", required = true)]
    words: Vec<String>,
    /// Take the stack down then
    #[arg(long)]
    down_project: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let target = match Target::find(&args.words, settings)? {
        Ok(target) => target,
        Err(project) => {
            return Err(Failure::operation(format!("stack `{project}` is not up: there is nothing to wait for")));
        }
    };
    if !target.named {
        return Err(Failure::usage("`wait` needs a service").hint("nscompose wait SERVICE..."));
    }
    if let Some(service) = target.without.first() {
        return Err(Failure::operation(format!("service `{service}` has no container to wait for")));
    }
    let services = target.services;
    let layout = settings.layout.stack(&target.project);
    target.opened.on_runtime(async |mut connection, _| {
        listen(&mut connection).await;
        let mut ended: BTreeMap<String, i32> = BTreeMap::new();
        let mut last = 0;
        while ended.len() < services.len() {
            let mut more = Vec::new();
            match connection.next().await.unwrap_or(None) {
                Some(Reply::Snapshot(snapshot)) => {
                    for service in &services {
                        let Some(container) = snapshot.observed.containers.get(service) else {
                            return Err(removed(service.as_str()));
                        };
                        more.extend(
                            container.state.exit_code().map(|code| (service.to_string(), container.name.clone(), code)),
                        );
                    }
                }
                Some(Reply::Happened(happening)) if services.iter().any(|name| name.as_str() == happening.service) => {
                    if let Some(code) = happening.exit_code() {
                        more.push((happening.service, happening.id, code));
                    } else if happening.action == "destroy" && !ended.contains_key(&happening.service) {
                        return Err(removed(&happening.service));
                    }
                }
                Some(Reply::Failed(failure)) => return Err(failure),
                Some(_) => {}
                // The next one knows how those have ended that have ended meanwhile.
                None => {
                    connection = reconnect(&layout).await?.ok_or_else(|| went_away(&layout))?.0;
                    listen(&mut connection).await;
                }
            }
            for (service, container, code) in more {
                if ended.insert(service, code).is_none() {
                    settings.printer.data(&format!("container \"{container}\" exited with status code {code}\n"))?;
                    last = code;
                }
            }
        }
        if args.down_project {
            let request = Request::Down { timeout_ms: None, volumes: BTreeMap::new(), tenure: None };
            let mut said = Said::new(settings.printer);
            carry_out(&mut connection, &request, |event| said.show(&event)).await?;
            wait_for_end(&mut connection).await;
            settings.printer.progress(target.project.as_str(), "is down");
        }
        Ok(u8::try_from(last).unwrap_or(u8::MAX))
    })
}

/// Whoever ends between the two is in both.
async fn listen(connection: &mut Connection) {
    for request in [Request::Events { since: None }, Request::Observe] {
        // One that has gone is noticed when it does not answer.
        let _ = connection.send(&request, &[]).await;
    }
}

fn removed(service: &str) -> Failure {
    Failure::operation(format!("the container of service `{service}` was removed: how it ended is not known"))
}
