//! `nscompose port`.

use std::str::FromStr;

use clap::ValueEnum;

use super::{
    files::{no_container, project_name, tell_apart},
    settings::Settings,
    stack::open_if_up,
};
use crate::{
    diagnostics::Failure,
    model::{Protocol, ServiceName},
};

/// Show where on the host a port of a service is
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Service whose port it is
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Port of the container, with `/udp` for one of UDP
    #[arg(value_name = "PORT", value_parser = Wanted::from_str)]
    port: Wanted,
    /// What is spoken there [default: tcp]
    #[arg(long, value_enum)]
    protocol: Option<Spoken>,
    /// Which container of the service, by its number [default: the first]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    index: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spoken {
    Tcp,
    Udp,
}

/// A port as `docker port` takes it: `80`, `80/tcp` or `80/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    number: u16,
    protocol: Option<Spoken>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a port is a number from 1 to 65535, with `/tcp` or `/udp` behind it if need be".to_owned();
        let (number, protocol) = match text.split_once('/') {
            Some((number, protocol)) => (number, Some(Spoken::from_str(protocol, false).map_err(|_| wrong())?)),
            None => (text, None),
        };
        match number.parse() {
            Ok(number) if number > 0 => Ok(Self { number, protocol }),
            _ => Err(wrong()),
        }
    }
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let name = project_name(&tell_apart(&[], &settings.directory), settings)?;
    let layout = settings.layout.stack(&name);
    let Some(opened) = open_if_up(&layout)? else {
        return Err(Failure::operation(format!("stack `{name}` is not up")));
    };
    let containers = opened.snapshot.observed.containers;
    let is_it = |name: &ServiceName| {
        (name.service() == args.service || name.as_str() == args.service)
            && args.index.is_none_or(|index| name.number() == index)
    };
    let Some((_, container)) = containers.iter().find(|(name, _)| is_it(name)) else {
        return Err(no_container(&args.service, args.index));
    };
    let Wanted { number, protocol } = args.port;
    if let (Some(one), Some(other)) = (protocol, args.protocol)
        && one != other
    {
        return Err(Failure::usage("two different protocols are named").hint("leave `--protocol` out"));
    }
    let protocol = match args.protocol.or(protocol).unwrap_or(Spoken::Tcp) {
        Spoken::Tcp => Protocol::Tcp,
        Spoken::Udp => Protocol::Udp,
    };
    let published = container.ports.iter().find(|p| p.port.target == number && p.port.protocol == protocol);
    // One line, as of a port that is published for both IPv4 and IPv6 only the first is shown elsewhere, too.
    let Some(address) = published.and_then(|published| published.listens_on.first()) else {
        let what = format!("port {number}/{protocol} of service `{}` is not published", args.service);
        return Err(Failure::operation(what).hint("`nscompose ps` shows those that are"));
    };
    settings.printer.data(&format!("{address}\n"))?;
    Ok(0)
}
