//! `ports:`: the short form `[HOST_IP:][PUBLISHED:]TARGET[/PROTOCOL]`, a number, or a mapping.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Context, Entry, Node, Value,
    keys::{self, Key, no_effect, read as reads},
    service::Draft,
};
use crate::{
    diagnostics::{Diagnostic, Span},
    model::{Port, Protocol},
};

/// Ports of a whole file, ranges expanded.
const MOST_PORTS: usize = 1 << 17;

pub(super) fn read(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    // Said once; expanding further ranges would only cost time.
    if cx.published.total > MOST_PORTS {
        return;
    }
    for node in cx.list("`ports`", &entry.value) {
        let ports = match &node.value {
            Value::Mapping(_) => long(cx, node),
            _ => cx.string_or_number("a port", node).and_then(|text| short(cx, text, &node.span)),
        };
        let Some(ports) = ports else { continue };
        cx.published.total += ports.len();
        if cx.published.total > MOST_PORTS {
            cx.push(Diagnostic::error(format!("more than {MOST_PORTS} ports are listed")).at(&node.span));
            return;
        }
        let taken = ports.iter().find_map(|port| {
            let first = cx.published.take(port, draft.name.as_str(), &node.span)?;
            Some((port.clone(), first))
        });
        if let Some((port, (service, span))) = taken {
            let published = port.published.unwrap_or_default();
            let twice = if service == draft.name.as_str() {
                format!("service `{service}` publishes port {published}/{} twice", port.protocol)
            } else {
                let (name, protocol) = (&draft.name, port.protocol);
                format!("services `{service}` and `{name}` both publish port {published}/{protocol}")
            };
            cx.push(Diagnostic::error(twice).at(&node.span).label(&span, "taken here"));
        }
        draft.service.ports.extend(ports);
    }
}

fn short(cx: &mut Context<'_>, text: &str, span: &Span) -> Option<Vec<Port>> {
    Port::parse_short(text).map_err(|error| cx.push(Diagnostic::error(format!("{error}")).at(span))).ok()
}

#[derive(Default)]
struct Long {
    target: Option<String>,
    published: Option<String>,
    host_ip: Option<String>,
    protocol: Option<String>,
    /// Something in it was wrong and has been reported.
    wrong: bool,
}

const KEYS: [Key<Long>; 7] = [
    reads("target", |cx, entry, long| long.target = text(cx, "`target`", entry, &mut long.wrong)),
    reads("published", |cx, entry, long| long.published = text(cx, "`published`", entry, &mut long.wrong)),
    reads("host_ip", |cx, entry, long| long.host_ip = text(cx, "`host_ip`", entry, &mut long.wrong)),
    reads("protocol", |cx, entry, long| long.protocol = text(cx, "`protocol`", entry, &mut long.wrong)),
    reads("mode", mode),
    no_effect("name"),
    no_effect("app_protocol"),
];

fn text(cx: &mut Context<'_>, what: &str, entry: &Entry, wrong: &mut bool) -> Option<String> {
    let text = cx.string_or_number(what, &entry.value).map(str::to_owned);
    *wrong |= text.is_none();
    text
}

fn mode(cx: &mut Context<'_>, entry: &Entry, _: &mut Long) {
    if let Some(text) = cx.string("`mode`", &entry.value)
        && !matches!(text, "host" | "ingress")
    {
        cx.push(
            Diagnostic::error(format!("`{text}` is not a mode of a port"))
                .at(&entry.value.span)
                .hint("use `host` or `ingress`, which are the same on one machine"),
        );
    }
}

/// The long form is the short form in pieces.
fn long(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Port>> {
    let mut long = Long::default();
    keys::read_mapping(cx, "a port", node, &KEYS, &mut long);
    if long.wrong {
        return None;
    }
    let Some(target) = long.target else {
        cx.push(Diagnostic::error("the port has no `target`").at(&node.span).hint("name the port of the container"));
        return None;
    };
    let mut short_form = target;
    if long.published.is_some() || long.host_ip.is_some() {
        short_form = format!("{}:{short_form}", long.published.unwrap_or_default());
    }
    if let Some(ip) = long.host_ip {
        short_form = if ip.contains(':') { format!("[{ip}]:{short_form}") } else { format!("{ip}:{short_form}") };
    }
    if let Some(protocol) = long.protocol {
        short_form = format!("{short_form}/{protocol}");
    }
    short(cx, &short_form, &node.span)
}

/// Which ports of the host are taken, and by whom.
#[derive(Default)]
pub(super) struct PublishedPorts {
    total: usize,
    /// For each address, and under none for whichever came first on each port.
    taken: HashMap<(Protocol, u16, Reach), (String, Span)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Reach {
    /// Every address.
    Any,
    /// Every address of IPv4, or of IPv6.
    Family(bool),
    One(IpAddr),
    /// Some address of IPv4, or of IPv6: what a wider claim would run into.
    Some(bool),
}

impl PublishedPorts {
    /// Takes a port; gives back who has it if somebody does.
    fn take(&mut self, port: &Port, service: &str, span: &Span) -> Option<(String, Span)> {
        let published = port.published?;
        let (own, conflicts): (Reach, Vec<Reach>) = match port.host_ip {
            None => (Reach::Any, vec![Reach::Some(true), Reach::Some(false)]),
            Some(ip) if ip.is_unspecified() => (Reach::Family(ip.is_ipv4()), vec![Reach::Some(ip.is_ipv4())]),
            Some(ip) => (Reach::One(ip), vec![Reach::One(ip), Reach::Family(ip.is_ipv4()), Reach::Any]),
        };
        let key = |reach| (port.protocol, published, reach);
        if let Some(first) = conflicts.into_iter().find_map(|reach| self.taken.get(&key(reach))) {
            return Some(first.clone());
        }
        let families: &[bool] = match port.host_ip {
            None => &[true, false],
            Some(IpAddr::V4(_)) => &[true],
            Some(IpAddr::V6(_)) => &[false],
        };
        let claim = (service.to_owned(), span.clone());
        for family in families {
            self.taken.entry(key(Reach::Some(*family))).or_insert_with(|| claim.clone());
        }
        self.taken.insert(key(own), claim);
        None
    }
}
