//! Which ports of the host are taken, and by whom.

use std::{collections::HashMap, net::IpAddr};

use crate::{
    diagnostics::Span,
    model::{Port, Protocol},
};

#[derive(Default)]
pub(super) struct Published {
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

impl Published {
    /// Takes a port; gives back who has it if somebody does.
    pub(super) fn take(&mut self, port: &Port, service: &str, span: &Span) -> Option<(String, Span)> {
        // Of a range a free one is taken, if there is one.
        let published = port.published.filter(|_| port.last.is_none())?;
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
