//! `ports:`: `[HOST_IP:][PUBLISHED:]TARGET[/PROTOCOL]`, a number, or a mapping.

use crate::compose::inherit::inherit;
use std::net::IpAddr;

use serde_json::{Value as Json, json};

use super::{
    Format, Int, Reader, Set, Text, TextOrWhole,
    collections::no_list,
    mapping::{made_of, mapping},
};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, Scalar, ScalarKind, Value},
};

/// Ports of a whole file, ranges expanded.
const MOST_PORTS: usize = 1 << 17;

mapping! {
    /// A port of a service that others can reach from outside.
    pub struct Port {
        /// A name for people.
        metadata name: Text,
        /// `host` or `ingress`, which are the same on one machine.
        works mode: Text,
        /// Address of the host to listen at; all of them unless it is given.
        works host_ip: Text,
        /// Port of the container.
        works target: Int<1, 65535>,
        /// Port of the host, or a range of which one is taken; any free one unless it is given.
        works published: TextOrWhole,
        /// `tcp` or `udp`.
        works protocol: Text,
        /// What is spoken there, for people.
        metadata app_protocol: Text,
    }
    rules {
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": ["integer", "string"]})]
        }
        const EXPECTED: &'static str = "a number, a string or a mapping";
        fn identity(node: &Node) -> Option<String> {
            let text = |key: &str| node.entry(key)?.value.scalar().map(|scalar| scalar.text.to_string());
            let target = text("target")?;
            let host = text("host_ip").unwrap_or_else(|| "0.0.0.0".to_owned());
            let protocol = text("protocol").unwrap_or_else(|| "tcp".to_owned());
            Some(format!("{host}:{}:{target}/{protocol}", text("published").unwrap_or_default()))
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            if node.entry("target").is_none() {
                cx.report(Diagnostic::error("the port has no `target`").hint("name the port of the container"), node);
            }
            if let (Some(ip), Some(entry)) = (&self.host_ip, node.entry("host_ip"))
                && ip.0.parse::<IpAddr>().is_err()
            {
                let diagnostic = Diagnostic::error(format!("`{}` is not an IP address", ip.0));
                cx.report(diagnostic.hint("write the address of the host, such as `127.0.0.1`"), &entry.value);
            }
        }
    }
}

/// The ports of a service.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Ports(pub Set<Port>);

impl Format for Ports {
    inherit!(Set<Port>: merge settle omitted schema keys visit);
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Sequence(_)) {
            no_list::<Self>(node, cx);
            return None;
        }
        Set::read(node, cx).map(Self)
    }
    fn canonical(mut node: Node, cx: &mut Reader<'_>) -> Node {
        if cx.ports > MOST_PORTS {
            // Said once; expanding further ranges would only cost time.
            return node.with_value(Value::Broken);
        }
        if let Value::Sequence(items) = &mut node.value {
            let mut ports = Vec::with_capacity(items.len());
            for item in std::mem::take(items) {
                match item.scalar() {
                    Some(_) if cx.undecided(&item) => ports.push(item),
                    Some(scalar) if scalar.kind != ScalarKind::Bool => match short(scalar, &item) {
                        Ok(more) if cx.ports + more.len() > MOST_PORTS => {
                            cx.report(Diagnostic::error(format!("more than {MOST_PORTS} ports are listed")), &item);
                            cx.ports += more.len();
                            break;
                        }
                        Ok(more) => {
                            cx.ports += more.len();
                            ports.extend(more);
                        }
                        Err(problem) => {
                            cx.report(
                                Diagnostic::error(format!("`{}` is not a port mapping: {problem}", scalar.text)),
                                &item,
                            );
                        }
                    },
                    _ => ports.push(with_defaults(item)),
                }
            }
            *items = ports;
        }
        Set::<Port>::canonical(node, cx)
    }
}

fn text(item: &Node, text: &str) -> Node {
    Node { via: item.via.clone(), ..Node::string(text, item.span.clone()) }
}

fn number(item: &Node, number: u16) -> Node {
    let scalar = Scalar { text: number.to_string().into(), kind: ScalarKind::Int, interpolated: false };
    item.with_value(Value::Scalar(scalar))
}

/// What a mapping leaves out.
fn with_defaults(mut item: Node) -> Node {
    for (key, value) in [("mode", "ingress"), ("protocol", "tcp")] {
        let value = item.text(value);
        item.put_unless_said(key, value);
    }
    item
}

/// The ports that a short form stands for.
fn short(scalar: &Scalar, item: &Node) -> Result<Vec<Node>, String> {
    let written = super::untyped::text(scalar);
    let (ports, protocol) = match written.rsplit_once('/') {
        None => (&*written, "tcp".to_owned()),
        Some((ports, "")) => (ports, "tcp".to_owned()),
        Some((ports, protocol)) => (ports, protocol.to_ascii_lowercase()),
    };
    if !matches!(&*protocol, "tcp" | "udp" | "sctp") {
        return Err(format!("the protocol `{protocol}` is neither tcp nor udp"));
    }
    let (host, target) = match ports.rsplit_once(':') {
        None => (None, ports),
        Some((host, target)) => (Some(host), target),
    };
    let (ip, published) =
        match host.map(|host| host.rsplit_once(':').map_or((None, host), |(ip, port)| (Some(ip), port))) {
            None => (None, ""),
            Some((ip, published)) => (ip.filter(|ip| !ip.is_empty()), published),
        };
    let ip = match ip {
        None => None,
        Some(ip) => {
            if ip.parse::<std::net::Ipv6Addr>().is_ok() {
                return Err(format!("the IPv6 address `{ip}` stands without brackets: write `[{ip}]`"));
            }
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
            bare.parse::<IpAddr>().map_err(|_| format!("`{bare}` is not an IP address"))?;
            Some(bare)
        }
    };
    let targets = range(target)?;
    if targets.contains(&0) {
        return Err("no port of a container is 0".to_owned());
    }
    let published: Vec<String> = if published.is_empty() {
        vec![String::new(); targets.len()]
    } else {
        let all = range(published)?;
        if all.len() == targets.len() {
            all.iter().map(u16::to_string).collect()
        } else if targets.len() == 1 {
            // One of the range is taken.
            vec![published.to_owned()]
        } else {
            return Err(format!("{} published ports stand for {} container ports", all.len(), targets.len()));
        }
    };
    Ok(targets
        .into_iter()
        .zip(published)
        .map(|(target, published)| {
            let mut entries = vec![("mode", item.text("ingress"))];
            entries.extend(ip.map(|ip| ("host_ip", text(item, ip))));
            entries.push(("target", number(item, target)));
            if !published.is_empty() {
                entries.push(("published", text(item, &published)));
            }
            let named = written.contains('/');
            entries.push(("protocol", if named { text(item, &protocol) } else { item.text(&protocol) }));
            made_of(item, entries)
        })
        .collect())
}

/// `FIRST[-LAST]`
fn range(text: &str) -> Result<Vec<u16>, String> {
    let one = |text: &str| {
        let number = text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
        number.ok_or_else(|| format!("`{text}` is not a port number from 0 to 65535"))
    };
    match text.split_once('-') {
        None => Ok(vec![one(text)?]),
        Some((first, last)) => {
            let (first, last) = (one(first)?, one(last)?);
            if first > last {
                return Err(format!("the range {first}-{last} runs backwards"));
            }
            Ok((first..=last).collect())
        }
    }
}
