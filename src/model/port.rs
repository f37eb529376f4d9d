//! Published ports.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// A transport protocol whose ports can be published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port of a container, reachable from the host. Ranges are expanded by [`Port::parse_short`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// The address of the host to listen on; none means every address, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    /// The port on the host; none lets the kernel choose a free one.
    pub published: Option<u16>,
    /// The last of the ports of the host of which the first that is free is taken, `published` being the first; none is that one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u16>,
    /// The port inside the container.
    pub target: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A port mapping that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a port mapping: {problem}")]
pub struct InvalidPort {
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Port {
    /// Reads Compose's short form, `[HOST_IP:][PUBLISHED:]TARGET[/PROTOCOL]`, where both ports may be ranges `a-b` of
    /// the same length, or of one target and of several published, and an IPv6 address stands in brackets. One entry per port comes back.
    ///
    /// # Errors
    /// When a port is not in 1..=65535, ranges differ in length or run backwards, the address or the protocol is unknown.
    pub fn parse_short(text: &str) -> Result<Vec<Self>, InvalidPort> {
        let err = |problem: String| InvalidPort { text: text.to_owned(), problem };
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => return Err(err(format!("the protocol `{other}` is neither tcp nor udp"))),
        };
        let (host, target) = match ports.rsplit_once(':') {
            None => (None, ports),
            Some((host, target)) => (Some(host), target),
        };
        let (host_ip, published) = match host {
            None => (None, None),
            Some(host) => {
                let (ip, published) = match host.rsplit_once(':') {
                    None => (None, host),
                    Some((ip, published)) => (Some(ip), published),
                };
                let ip = match ip {
                    None | Some("") => None,
                    Some(ip) => {
                        let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                        Some(bare.parse::<IpAddr>().map_err(|_| err(format!("`{bare}` is not an IP address")))?)
                    }
                };
                (ip, Some(published).filter(|p| !p.is_empty()))
            }
        };
        let targets = range(target, false).map_err(&err)?;
        let published = match published {
            None => vec![None; targets.len()],
            Some(text) => range(text, true).map_err(&err)?.into_iter().map(|p| Some(p).filter(|p| *p != 0)).collect(),
        };
        if let (&[target], [Some(first), .., Some(last)]) = (targets.as_slice(), published.as_slice()) {
            return Ok(vec![Self { host_ip, published: Some(*first), last: Some(*last), target, protocol }]);
        }
        if published.len() != targets.len() {
            return Err(err(format!(
                "{} published ports stand for {} container ports",
                published.len(),
                targets.len()
            )));
        }
        Ok(published
            .into_iter()
            .zip(targets)
            .map(|(published, target)| Self { host_ip, published, last: None, target, protocol })
            .collect())
    }
}

/// `80` or `80-90` as the list of its ports; 0 (any free port) only where a published port stands.
fn range(text: &str, zero_is_any: bool) -> Result<Vec<u16>, String> {
    let one = |text: &str| match text.parse::<u16>() {
        Ok(0) if !zero_is_any => Err("port 0 is not a port of a container".to_owned()),
        Ok(port) => Ok(port),
        Err(_) => Err(format!("`{text}` is not a port number from 1 to 65535")),
    };
    match text.split_once('-') {
        None => Ok(vec![one(text)?]),
        Some((first, last)) => {
            let (first, last) = (one(first)?, one(last)?);
            if first > last || first == 0 {
                return Err(format!("the range {first}-{last} runs backwards or begins at 0"));
            }
            Ok((first..=last).collect())
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(published) = self.published {
            match self.host_ip {
                Some(ip) => write!(f, "{}", SocketAddr::new(ip, published))?,
                None => write!(f, "{published}")?,
            }
            if let Some(last) = self.last {
                write!(f, "-{last}")?;
            }
            write!(f, "->")?;
        }
        write!(f, "{}/{}", self.target, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match Port::parse_short(text) {
            Ok(ports) => ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(e) => e.problem,
        }
    }

    #[test]
    fn short_forms() {
        assert_eq!(show("80"), "80/tcp");
        assert_eq!(show("8080:80"), "8080->80/tcp");
        assert_eq!(show("127.0.0.1:53:5353/udp"), "127.0.0.1:53->5353/udp");
        assert_eq!(show("[::1]:8080:80"), "[::1]:8080->80/tcp");
        assert_eq!(show("9000-9001:80-81"), "9000->80/tcp 9001->81/tcp");
        assert_eq!(show("8000-8010:80"), "8000-8010->80/tcp");
        assert_eq!(show("127.0.0.1::80"), "80/tcp");
        assert_eq!(show("0:80"), "80/tcp");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(show("8080:80/sctp"), "the protocol `sctp` is neither tcp nor udp");
        assert_eq!(show("70000:80"), "`70000` is not a port number from 1 to 65535");
        assert_eq!(show("8080:0"), "port 0 is not a port of a container");
        assert_eq!(show("1-3:80-81"), "3 published ports stand for 2 container ports");
        assert_eq!(show("x:1:2"), "`x` is not an IP address");
        assert_eq!(show("90-80:90-80"), "the range 90-80 runs backwards or begins at 0");
        assert_eq!(show(""), "`` is not a port number from 1 to 65535");
    }
}
