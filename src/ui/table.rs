//! Containers as a table and as JSON.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{InvalidTemplate, Template, memory_size};
use crate::{
    diagnostics::sanitize,
    model::{
        Container, ContainerState, Effective, Health, Observed, Port, ProbeLog, ProbeResult, ProjectName, Protocol,
        Recorded, ServiceName,
    },
};

/// One container, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    name: String,
    /// The name once more: scripts for Docker ask for it in both ways, and there is no other id.
    names: String,
    #[serde(rename = "ID")]
    id: String,
    project: String,
    service: String,
    /// Empty if it runs none.
    image: String,
    state: String,
    /// State, health and age in the words of `docker ps`.
    status: String,
    /// What its probes say while it runs, as `docker compose ps` has it; empty without any.
    health: &'static str,
    /// The same with the latest of them, as `docker inspect` has it (`State.Health`).
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<Probes>,
    /// How often it has been started again by itself.
    #[serde(skip_serializing_if = "is_none")]
    restarts: u32,
    /// 0 of one that has not ended, as in Docker.
    exit_code: i32,
    #[serde(skip)]
    ended: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    command: String,
    ports: String,
    publishers: Vec<Publisher>,
    /// The same with those that follow one another as one.
    #[serde(skip)]
    port_ranges: Vec<String>,
    /// As the kernel has them.
    #[serde(skip_serializing_if = "Effective::is_empty")]
    limits: Effective,
    /// Processes that the kernel has killed for want of memory.
    #[serde(rename = "OOMKills", skip_serializing_if = "is_zero")]
    oom_kills: u64,
    #[serde(rename = "StartedAt")]
    started: String,
    #[serde(skip)]
    age: String,
}

/// Keys of [`Row`], which templates can name.
const KEYS: [&str; 19] = [
    "Name",
    "Names",
    "ID",
    "Project",
    "Service",
    "Image",
    "State",
    "Status",
    "Health",
    "Probes",
    "Restarts",
    "ExitCode",
    "Pid",
    "Command",
    "Ports",
    "Publishers",
    "Limits",
    "OOMKills",
    "StartedAt",
];

/// An address of the host that leads to a port of a container, as `docker compose ps` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Publisher {
    #[serde(rename = "URL")]
    url: IpAddr,
    target_port: u16,
    published_port: u16,
    protocol: String,
}

/// The rows for the containers of a stack, by service.
pub fn container_rows(project: &ProjectName, observed: &Observed, now: jiff::Timestamp) -> Vec<Row> {
    let rows = observed.containers.iter().map(|(service, container)| {
        let started = jiff::Timestamp::from_millisecond(container.started_ms).unwrap_or(now);
        Row {
            name: container.name.clone(),
            names: container.name.clone(),
            id: container.name.clone(),
            project: project.to_string(),
            service: service.service().to_owned(),
            image: image(service, container),
            state: container.state.name().to_owned(),
            status: status(container, now.as_second() - started.as_second()),
            health: health(container).map_or("", Health::name),
            probes: container.health.map(|health| Probes::of(health, &container.probes)),
            restarts: container.restarts,
            exit_code: container.state.exit_code().unwrap_or(0),
            ended: container.state.exit_code(),
            pid: container.pid,
            command: container.command.join(" "),
            ports: ports(container).join(", "),
            publishers: publishers(container),
            port_ranges: port_ranges(container),
            limits: container.limits.clone(),
            oom_kills: container.oom_kills,
            // With as many digits every time, so that programs can compare them as text.
            started: format!("{started:.3}"),
            age: age(now.as_second() - started.as_second()),
        }
    });
    rows.collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_none(number: &u32) -> bool {
    *number == 0
}

/// What its probes say, if it runs.
fn health(container: &Container) -> Option<Health> {
    container.health.filter(|_| matches!(container.state, ContainerState::Running | ContainerState::Paused))
}

/// The latest looks at the health of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Probes {
    status: &'static str,
    failing_streak: u32,
    log: Vec<Probe>,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Probe {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

impl Probes {
    fn of(health: Health, log: &ProbeLog) -> Self {
        let time = |ms| jiff::Timestamp::from_millisecond(ms).map_or(String::new(), |time| format!("{time:.3}"));
        let probe = |result: &ProbeResult| Probe {
            start: time(result.start_ms),
            end: time(result.end_ms),
            exit_code: result.exit_code,
            output: result.output.clone(),
        };
        Self { status: health.name(), failing_streak: log.failing, log: log.results.iter().map(probe).collect() }
    }
}

/// Limits in few words.
fn limits(limits: &Effective) -> String {
    let Effective { cpu, cpu_weight, cpuset, memory, memory_reservation, swap: _, pids } = limits;
    let processors = cpu.and_then(|cpu| Some(cpu.quota_us? as f64 / cpu.period_us as f64));
    let all = [
        // Three digits are as fine as the kernel can have it.
        processors.map(|number| format!("cpus {}", (number * 1000.0).round() / 1000.0)),
        cpu_weight.map(|weight| format!("cpu weight {weight}")),
        cpuset.as_ref().map(|list| format!("cpuset {list}")),
        memory.map(|bytes| format!("memory {}", memory_size(bytes))),
        memory_reservation.map(|bytes| format!("memory kept {}", memory_size(bytes))),
        pids.map(|number| format!("pids {number}")),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn ports(container: &Container) -> Vec<String> {
    let shown = container.ports.iter().flat_map(|published| {
        let target = format!("{}/{}", published.port.target, published.port.protocol);
        published.listens_on.iter().map(move |address| format!("{address}->{target}"))
    });
    shown.collect()
}

fn publishers(container: &Container) -> Vec<Publisher> {
    let all = container.ports.iter().flat_map(|published| {
        published.listens_on.iter().map(|address| Publisher {
            url: address.ip(),
            target_port: published.port.target,
            published_port: address.port(),
            protocol: published.port.protocol.to_string(),
        })
    });
    all.collect()
}

/// The name of its image, as its file has it. The record has that with the image that was found by it.
fn image(service: &ServiceName, container: &Container) -> String {
    let recorded = container.origin.record.get(&format!("services.{}.image", service.service()));
    let Some(Recorded::Shown(json)) = recorded else { return String::new() };
    let name: String = serde_json::from_str(json).unwrap_or_default();
    name.rsplit_once("@sha256:").map_or(name.as_str(), |(name, _)| name).to_owned()
}

/// State, health and age in the words of `docker ps`. How long ago one has ended is not known.
fn status(container: &Container, seconds: i64) -> String {
    let health = match health(container) {
        Some(Health::Starting) => " (health: starting)",
        Some(Health::Healthy) => " (healthy)",
        Some(Health::Unhealthy) => " (unhealthy)",
        None => "",
    };
    match container.state {
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Starting | ContainerState::Running | ContainerState::Stopping => {
            format!("Up {}{health}", long_age(seconds))
        }
        ContainerState::Paused => format!("Up {} (Paused)", long_age(seconds)),
        ContainerState::Restarting(code) => format!("Restarting ({code})"),
        ContainerState::Exited(code) => format!("Exited ({code})"),
    }
}

/// How long ago, in the words of `docker ps`.
fn long_age(seconds: i64) -> String {
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        3600..7200 => "About an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A range of ports can have thousands, which a line of a table is not for: as in Docker, what follows one another on an
/// address is one.
fn port_ranges(container: &Container) -> Vec<String> {
    let mut ranges: Vec<(SocketAddr, u16, Protocol, u16)> = Vec::new();
    let mut latest: HashMap<(IpAddr, Protocol), usize> = HashMap::new();
    for published in &container.ports {
        let Port { target, protocol, .. } = published.port;
        for address in &published.listens_on {
            let range = latest.get(&(address.ip(), protocol)).and_then(|at| ranges.get_mut(*at));
            match range {
                Some((first, to, _, more))
                    if more.checked_add(1).is_some_and(|next| {
                        first.port().checked_add(next) == Some(address.port()) && to.checked_add(next) == Some(target)
                    }) =>
                {
                    *more += 1;
                }
                _ => {
                    latest.insert((address.ip(), protocol), ranges.len());
                    ranges.push((*address, target, protocol, 0));
                }
            }
        }
    }
    let shown = ranges.into_iter().map(|(first, target, protocol, more)| match more {
        0 => format!("{first}->{target}/{protocol}"),
        _ => format!("{first}-{}->{target}-{}/{protocol}", first.port() + more, target + more),
    });
    shown.collect()
}

/// How long ago, for people.
pub(super) fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A table for people, without lines. Commands are cut off, unless the `whole` of them is wanted.
pub fn containers_table(rows: &[Row], whole: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    // A column that nobody has anything in is none.
    let any_limits = rows.iter().any(|row| !row.limits.is_empty());
    let mut header = vec!["NAME", "SERVICE", "STATE", "AGE", "PID", "PORTS", "COMMAND"];
    if any_limits {
        header.insert(6, "LIMITS");
    }
    table.set_header(header);
    for row in rows {
        let mut more: Vec<String> =
            Some(row.health).filter(|health| !health.is_empty()).map(str::to_owned).into_iter().collect();
        more.extend(row.ended.map(|code| code.to_string()));
        if row.ended.is_some() && row.oom_kills > 0 {
            more.push("out of memory".to_owned());
        }
        match row.restarts {
            0 => {}
            1 => more.push("1 restart".to_owned()),
            number => more.push(format!("{number} restarts")),
        }
        let state = match &more[..] {
            [] => row.state.clone(),
            more => format!("{} ({})", row.state, more.join(", ")),
        };
        let mut command: String = sanitize(&row.command).into_owned();
        if !whole && command.chars().count() > 40 {
            command = command.chars().take(39).chain(['…']).collect();
        }
        let pid = row.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let mut cells = vec![
            row.name.clone(),
            row.service.clone(),
            state,
            row.age.clone(),
            pid,
            row.port_ranges.join(", "),
            command,
        ];
        if any_limits {
            cells.insert(6, limits(&row.limits));
        }
        table.add_row(cells);
    }
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// One object a line for each container, as Docker Compose has it since 2.21.
pub fn containers_json(rows: &[Row]) -> String {
    rows.iter().map(|row| serde_json::to_string(row).expect("plain data has a JSON form") + "\n").collect()
}

/// How they are listed that a template asks for.
///
/// # Errors
/// When it is none.
pub fn containers_by_template(text: &str) -> Result<Template, InvalidTemplate> {
    Template::parse(text, &KEYS)
}

impl Row {
    /// By its keys.
    pub fn into_map(self) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map,
            other => unreachable!("a struct is an object: {other:?}"),
        }
    }
}
