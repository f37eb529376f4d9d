//! The rules of a stack as text for nft(8): one table inside, and as root one on the host.
//!
//! Each text is one transaction, so that nobody ever sees half of it. A table is made where there is none, and made anew
//! where there may be one, and ports that come are [added](additions_inside): whoever deletes rules waits some 10 ms at the end of nft(8), for
//! the kernel to free them (`nft_rcv_nl_event`, net/netfilter/nf_tables_api.c).

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::INNER;
use crate::model::Family;

/// A bridge of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The name of the device.
    pub interface: String,
    /// Whether what is on it may go out.
    pub leads_out: bool,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where on the host; an unspecified address is every one of its family.
    pub address: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The port of the uplink's inner end that it goes through: that of the host, unless another address of the host has the
    /// same one published.
    pub inner: u16,
    /// Where it leads: an address of the same family.
    pub target: SocketAddr,
}

/// A port of the inner end that no publication of the family goes through yet: the wanted one, or the highest.
pub(super) fn free_port<'a>(
    publications: impl Iterator<Item = &'a Publication>,
    protocol: &str,
    wanted: SocketAddr,
) -> u16 {
    let same = |p: &&Publication| p.protocol == protocol && p.address.is_ipv4() == wanted.is_ipv4();
    let (taken, wanted): (Vec<u16>, u16) = (publications.filter(same).map(|p| p.inner).collect(), wanted.port());
    let all = std::iter::once(wanted).chain((1..=u16::MAX).rev());
    all.into_iter().find(|port| !taken.contains(port)).unwrap_or(wanted)
}

/// The name of the table of the stack's own namespace.
pub const INSIDE: &str = "nscompose";

/// What is in the table of the stack's own namespace.
///
/// Nothing passes from one network to another, and nothing out that is not on a bridge that leads out. What stays on one
/// bridge comes by here only where br_netfilter leads it here all the same. A refusal says so at once, or clients would wait.
pub fn inside(bridges: &[Bridge], host_gateway: Ipv4Addr, outer: Ipv4Addr, publications: &[&Publication]) -> String {
    let mut text = String::from(
        "\tchain forward {\n\
         \t\ttype filter hook forward priority filter; policy drop;\n\
         \t\tct state established,related accept\n",
    );
    let _ = writeln!(text, "\t\tiifname \"{INNER}\" ct status dnat accept");
    for bridge in bridges {
        let name = &bridge.interface;
        if bridge.leads_out {
            let _ = writeln!(text, "\t\tiifname \"{name}\" oifname \"{INNER}\" accept");
        }
        let _ = writeln!(text, "\t\tiifname \"{name}\" oifname \"{name}\" accept");
    }
    text.push_str("\t\treject with icmpx no-route\n\t}\n");
    // Nobody out there speaks to the stack's own namespace. What connection tracking takes for invalid is not translated back, ends here, and
    // would be answered with a reset that ends a good connection: older pasta sends such segments, networks that reorder do, too.
    let _ = write!(
        text,
        "\tchain input {{\n\
         \t\ttype filter hook input priority filter;\n\
         \t\tiifname \"{INNER}\" ct state established,related accept\n\
         \t\tiifname \"{INNER}\" meta l4proto icmpv6 accept\n\
         \t\tiifname \"{INNER}\" drop\n\
         \t}}\n"
    );
    text.push_str("\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat;\n");
    let _ = writeln!(text, "\t\tiifname != \"{INNER}\" ip daddr {host_gateway} dnat ip to {outer}");
    for publication in publications {
        let _ = writeln!(text, "\t\t{}", arrival(publication));
    }
    text.push_str("\t}\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat;\n");
    let _ = writeln!(text, "\t\toifname \"{INNER}\" masquerade\n\t}}");
    text
}

/// The rule that leads what comes in by the uplink to a container.
fn arrival(publication: &Publication) -> String {
    let Publication { protocol, inner, target, .. } = publication;
    let (nfproto, family) = (nfproto(*target), keyword(*target));
    format!("iifname \"{INNER}\" meta nfproto {nfproto} {protocol} dport {inner} dnat {family} to {target}")
}

/// What adds these ports to the table of the stack's own namespace.
pub fn additions_inside(publications: &[&Publication]) -> String {
    publications
        .iter()
        .map(|publication| format!("add rule inet {INSIDE} prerouting {}\n", arrival(publication)))
        .collect()
}

/// What is in the table of the host for one stack, whose outer end is `link`.
///
/// What comes from the stack for the outer address is for the host's loopback: `link` has route_localnet set for it
/// (ip-sysctl), and since that would let the stack name any address of loopback, what already does is dropped first.
/// The built-in forwarder has the connections that are not translated: those of the stack itself, which would come back to where they came
/// from; those to and from link-local addresses of IPv6, which nobody forwards (RFC 4291, 2.5.6), and to its loopback; and those from elsewhere, unless their
/// family is in `routed`, which says that nobody else drops what the host forwards.
///
/// `inner` are the addresses of the inner end; it may have none of IPv6. The two ends have link-local ones, too, by which they find each other; with
/// none of ours the link carries no IPv6.
pub fn outside(
    link: &str,
    outer: Ipv4Addr,
    (inner, inner_v6): (Ipv4Addr, Option<Ipv6Addr>),
    publications: &[&Publication],
    routed: &[Family],
) -> String {
    let own_v6 = match inner_v6 {
        Some(inner) => format!("ip6 saddr != {{ {inner}, fe80::/10, :: }}"),
        None => "meta nfproto ipv6".to_owned(),
    };
    let translations = |publication: &&Publication| translation(publication, inner, inner_v6);
    let mut text = String::new();
    let _ = write!(
        text,
        "\tchain raw {{\n\
         \t\ttype filter hook prerouting priority raw;\n\
         \t\tiifname \"{link}\" ip daddr 127.0.0.0/8 drop\n\
         \t\tiifname \"{link}\" ip saddr != {inner} drop\n\
         \t\tiifname \"{link}\" {own_v6} drop\n\
         \t}}\n\
         \tchain prerouting {{\n\
         \t\ttype nat hook prerouting priority dstnat;\n\
         \t\tiifname \"{link}\" ip daddr {outer} dnat ip to 127.0.0.1\n\
         \t\tiifname {{ \"{link}\", \"lo\" }} accept\n\
         \t\tip6 saddr fe80::/10 accept\n"
    );
    for rule in publications.iter().filter(|one| comes_from_elsewhere(one, routed)).filter_map(translations) {
        let _ = writeln!(text, "\t\t{rule}");
    }
    // What begins on the host itself does not come by prerouting, nor by anybody's forward chain. nft knows `dstnat` in prerouting only.
    text.push_str("\t}\n\tchain output {\n\t\ttype nat hook output priority -100;\n");
    text.push_str("\t\tip6 daddr { ::1, fe80::/10 } accept\n");
    for rule in publications.iter().filter_map(translations) {
        let _ = writeln!(text, "\t\t{rule}");
    }
    let masquerade_v6 = match inner_v6 {
        Some(inner) => format!("\t\toifname != \"{link}\" ip6 saddr {inner} masquerade\n"),
        None => String::new(),
    };
    // From an address of loopback nothing comes back.
    let _ = write!(
        text,
        "\t}}\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat;\n\
         \t\toifname \"{link}\" ip saddr 127.0.0.0/8 masquerade\n\
         \t\toifname != \"{link}\" ip saddr {inner} masquerade\n\
         {masquerade_v6}\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter;\n\
         \t\toifname \"{link}\" ct state established,related accept\n\
         \t\toifname \"{link}\" ct status dnat accept\n\
         \t\toifname \"{link}\" drop\n\
         \t}}\n"
    );
    text
}

/// What adds these ports to the table of the host for one stack, with the rest as for [`outside`].
pub fn additions_outside(
    table: &str,
    (inner, inner_v6): (Ipv4Addr, Option<Ipv6Addr>),
    publications: &[&Publication],
    routed: &[Family],
) -> String {
    let mut text = String::new();
    for publication in publications {
        let Some(rule) = translation(publication, inner, inner_v6) else { continue };
        if comes_from_elsewhere(publication, routed) {
            let _ = writeln!(text, "add rule inet {table} prerouting {rule}");
        }
        let _ = writeln!(text, "add rule inet {table} output {rule}");
    }
    text
}

/// Whether connections of others than the host itself are translated.
fn comes_from_elsewhere(publication: &Publication, routed: &[Family]) -> bool {
    let address = publication.address.ip();
    routed.contains(&Family::of(address)) && !address.is_loopback()
}

/// The rule that leads a published port of the host to the stack, whose inner ends are these; none where it has none of that family.
fn translation(publication: &Publication, inner: Ipv4Addr, inner_v6: Option<Ipv6Addr>) -> Option<String> {
    let Publication { address, protocol, inner: port, .. } = publication;
    let inner = match address {
        SocketAddr::V4(_) => SocketAddr::new(inner.into(), *port),
        SocketAddr::V6(_) => SocketAddr::new(inner_v6?.into(), *port),
    };
    let family = keyword(inner);
    let to = if address.ip().is_unspecified() {
        format!("meta nfproto {} fib daddr type local", nfproto(inner))
    } else {
        format!("{family} daddr {}", address.ip())
    };
    Some(format!("{to} {protocol} dport {} dnat {family} to {inner}", address.port()))
}

/// What nft(8) calls the family of an address.
fn keyword(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

/// The same in `meta nfproto`.
fn nfproto(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// A table with this in it, where there is none.
pub(super) fn made(table: &str, body: &str) -> String {
    format!("create table inet {table}\ntable inet {table} {{\n{body}}}\n")
}

/// A table with this in it, instead of the one that there may be.
pub(super) fn anew(table: &str, body: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{body}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(address: &str, protocol: &'static str, inner: u16) -> Publication {
        let address: SocketAddr = address.parse().expect("an address");
        let target = if address.is_ipv4() { "172.18.0.2:80" } else { "[fd00:9::2]:80" };
        Publication { address, protocol, inner, target: target.parse().expect("an address") }
    }

    #[test]
    fn only_bridges_that_lead_out_do() {
        let bridge = |name: &str, leads_out| Bridge { interface: name.to_owned(), leads_out };
        let bridges = [bridge("front", true), bridge("back", false)];
        let text = inside(&bridges, Ipv4Addr::new(169, 254, 1, 2), Ipv4Addr::new(10, 213, 0, 1), &[]);
        assert!(text.contains("iifname \"front\" oifname \"nsc0\" accept"), "{text}");
        assert!(!text.contains("iifname \"back\" oifname \"nsc0\""), "{text}");
        assert!(!text.contains("iifname \"front\" oifname \"back\""), "{text}");
    }

    #[test]
    fn the_same_port_of_two_addresses_goes_through_two_ports() {
        let first = publication("192.0.2.1:80", "tcp", 80);
        let wanted = |text: &str| text.parse().expect("an address");
        assert_eq!(free_port([&first].into_iter(), "tcp", wanted("192.0.2.2:80")), 65535);
        assert_eq!(free_port([&first].into_iter(), "udp", wanted("192.0.2.2:80")), 80);
        assert_eq!(free_port([&first].into_iter(), "tcp", wanted("[::]:80")), 80);
    }

    #[test]
    fn an_address_of_the_host_is_the_only_one_that_is_translated() {
        let (outer, inner) = (Ipv4Addr::new(10, 213, 0, 1), Ipv4Addr::new(10, 213, 0, 2));
        let (four, six) = (publication("192.0.2.1:81", "tcp", 81), publication("[2001:db8::1]:82", "udp", 82));
        let both = [Family::V4, Family::V6];
        let text = outside("nsc1", outer, (inner, Some(Ipv6Addr::LOCALHOST)), &[&four, &six], &both);
        assert_eq!(text.matches("ip daddr 192.0.2.1 tcp dport 81 dnat ip to 10.213.0.2:81\n").count(), 2, "{text}");
        assert_eq!(text.matches("ip6 daddr 2001:db8::1 udp dport 82 dnat ip6 to [::1]:82\n").count(), 2, "{text}");
        assert!(!text.contains("fib"), "{text}");
        let text = outside("nsc1", outer, (inner, None), &[&four, &six], &both);
        assert!(!text.contains("dnat ip6") && text.contains("meta nfproto ipv6 drop"), "{text}");
    }

    #[test]
    fn what_others_would_drop_and_loopback_are_translated_for_the_host_only() {
        let (outer, inner) = (Ipv4Addr::new(10, 213, 0, 1), Ipv4Addr::new(10, 213, 0, 2));
        let all = |address, routed: &[Family]| {
            outside("nsc1", outer, (inner, None), &[&publication(address, "tcp", 80)], routed)
        };
        assert_eq!(all("0.0.0.0:80", &[Family::V4]).matches("tcp dport 80 dnat").count(), 2);
        for text in [all("0.0.0.0:80", &[]), all("127.0.0.1:80", &[Family::V4])] {
            let (before, after) = text.split_once("chain output").expect("a chain");
            assert!(!before.contains("dport") && after.contains("tcp dport 80 dnat ip to 10.213.0.2:80"), "{text}");
        }
    }
}
