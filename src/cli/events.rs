//! `nscompose events`.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    files::{project_name, tell_apart},
    settings::Settings,
    stack::{open_if_up, talk},
    when,
};
use crate::{
    diagnostics::{Failure, sanitize},
    model::ServiceName,
    state::Happening,
    supervisor::{Connection, Reply, Request},
};

/// Show what happens to the containers of the stack, until Ctrl-C
///
/// A stack that is not up is waited for. What has happened is known since the stack has been up, as far as it is among the
/// last thousands.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services whose events are shown
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Show each as a JSON object, one a line
    #[arg(long)]
    json: bool,
    /// Show those too that have happened since this time: RFC 3339, seconds since 1970, or a time ago such as `10m`
    #[arg(long, value_name = "TIME", value_parser = when::flag)]
    since: Option<Timestamp>,
    /// End at this time
    #[arg(long, value_name = "TIME", value_parser = when::flag)]
    until: Option<Timestamp>,
}

/// How often it is looked whether a stack has come up; nothing that happens meanwhile is lost.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let layout = settings.layout.stack(&project_name(&words, settings)?);
    let begun = Timestamp::now();
    let mut shown = Shown { args, services: &words.services, settings, last: None };
    // Of a stack that is up only what is asked for, of one that comes up later everything.
    let mut since = args.since;
    loop {
        if let Some(opened) = open_if_up(&layout)? {
            let over = opened.on_runtime(async |connection, _| shown.follow(connection, since).await)?;
            if over {
                return Ok(0);
            }
        }
        since = Some(shown.last.or(args.since).unwrap_or(begun));
        if args.until.is_some_and(|until| until <= Timestamp::now()) {
            return Ok(0);
        }
        std::thread::sleep(LOOK);
    }
}

struct Shown<'a> {
    args: &'a Args,
    services: &'a [String],
    settings: &'a Settings,
    /// When the latest of them happened.
    last: Option<Timestamp>,
}

impl Shown<'_> {
    /// Shows what a supervisor tells, until it ends; true if nothing more is wanted.
    async fn follow(&mut self, mut connection: Connection, since: Option<Timestamp>) -> Result<bool, Failure> {
        if connection.send(&Request::Events { since }, &[]).await.is_err() {
            return Ok(false);
        }
        // What is known already comes before the answer to this, so an end in the past is found without waiting.
        connection.send(&Request::Observe, &[]).await.map_err(|e| talk(&e))?;
        let mut caught_up = false;
        loop {
            let left = self.args.until.map(|until| until.duration_since(Timestamp::now()));
            let patience = left.map(|left| Duration::try_from(left).unwrap_or_default());
            let reply = tokio::select! {
                biased;
                reply = connection.next() => reply.map_err(|e| talk(&e))?,
                () = tokio::time::sleep(patience.unwrap_or_default()), if caught_up && patience.is_some() => return Ok(true),
            };
            match reply {
                Some(Reply::Happened(happening)) => {
                    if self.args.until.is_some_and(|until| happening.time > until) {
                        return Ok(true);
                    }
                    self.show(&happening)?;
                }
                Some(Reply::Snapshot(_)) => caught_up = true,
                Some(Reply::Failed(failure)) => return Err(failure),
                Some(_) => {}
                None => return Ok(false),
            }
        }
    }

    fn show(&mut self, happening: &Happening) -> Result<(), Failure> {
        // A supervisor that has taken over from one that was killed knows what that one has told.
        if self.last.is_some_and(|last| happening.time <= last) {
            return Ok(());
        }
        self.last = Some(happening.time);
        let is_meant = |word: &String| {
            let name = ServiceName::try_from(happening.service.clone());
            *word == happening.service || name.is_ok_and(|name| name.service() == word)
        };
        if !self.services.is_empty() && !self.services.iter().any(is_meant) {
            return Ok(());
        }
        let text = if self.args.json {
            serde_json::to_string(happening)
                .map_err(|e| Failure::internal("an event has no JSON form").caused_by(&e))?
        } else {
            line(happening)
        };
        self.settings.printer.data(&(text + "\n"))
    }
}

/// `2026-01-02 15:04:05.000000 container die shop-web-1 (exitCode=0, name=shop-web-1)`, as Docker Compose has it.
fn line(happening: &Happening) -> String {
    let time = happening.time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    let attributes: Vec<String> = happening.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let Happening { kind, action, id, .. } = happening;
    sanitize(&format!("{time} {kind} {action} {id} ({})", attributes.join(", "))).into_owned()
}
