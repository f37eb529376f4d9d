//! The rules of a stack as text for nft(8): one table inside, and as root one on the host.
//!
//! A table is made, deleted and made anew in one transaction, so that nobody ever sees half of it and what there was before
//! does not matter.

use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::INNER;

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
    /// Where on the host; an unspecified address is every one of it.
    pub address: SocketAddrV4,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The port of the uplink's inner end that it goes through: that of the host, unless another address of the host has the
    /// same one published.
    pub inner: u16,
    /// Where it leads.
    pub target: SocketAddrV4,
}

/// A port of the inner end that no publication goes through yet: the wanted one, or the highest.
pub(super) fn free_port<'a>(publications: impl Iterator<Item = &'a Publication>, protocol: &str, wanted: u16) -> u16 {
    let taken: Vec<u16> = publications.filter(|p| p.protocol == protocol).map(|p| p.inner).collect();
    let all = std::iter::once(wanted).chain((1..=u16::MAX).rev());
    all.into_iter().find(|port| !taken.contains(port)).unwrap_or(wanted)
}

/// The table of the stack's own namespace.
///
/// Nothing passes from one network to another, and nothing out that is not on a bridge that leads out. What stays on one
/// bridge comes by here only where br_netfilter leads it here all the same. A refusal says so at once, or clients would wait.
pub fn inside(bridges: &[Bridge], host_gateway: Ipv4Addr, outer: Ipv4Addr, publications: &[&Publication]) -> String {
    let mut text = begun("nscompose");
    text.push_str(
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
    for Publication { protocol, inner, target, .. } in publications {
        let _ = writeln!(text, "\t\tiifname \"{INNER}\" {protocol} dport {inner} dnat ip to {target}");
    }
    text.push_str("\t}\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat;\n");
    let _ = writeln!(text, "\t\toifname \"{INNER}\" masquerade\n\t}}\n}}");
    text
}

/// The table of the host for one stack, whose outer end is `link`.
///
/// What comes from the stack for the outer address is for the host's loopback: `link` has route_localnet set for it
/// (ip-sysctl), and since that would let the stack name any address of loopback, what already does is dropped first.
/// Connections of the stack itself are not translated, since they would come back to where they came from: the built-in forwarder has
/// them. It also has those from elsewhere unless `routed`, which says that nobody else drops what the host forwards.
pub fn outside(
    table: &str,
    link: &str,
    outer: Ipv4Addr,
    inner: Ipv4Addr,
    publications: &[&Publication],
    routed: bool,
) -> String {
    let mut text = begun(table);
    let _ = write!(
        text,
        "\tchain raw {{\n\
         \t\ttype filter hook prerouting priority raw;\n\
         \t\tiifname \"{link}\" ip daddr 127.0.0.0/8 drop\n\
         \t\tiifname \"{link}\" ip saddr != {inner} drop\n\
         \t}}\n\
         \tchain prerouting {{\n\
         \t\ttype nat hook prerouting priority dstnat;\n\
         \t\tiifname \"{link}\" ip daddr {outer} dnat ip to 127.0.0.1\n\
         \t\tiifname {{ \"{link}\", \"lo\" }} accept\n"
    );
    for publication in publications.iter().filter(|p| routed && !p.address.ip().is_loopback()) {
        let _ = writeln!(text, "\t\t{}", translation(publication, inner));
    }
    // What begins on the host itself does not come by prerouting, nor by anybody's forward chain. nft knows `dstnat` in prerouting only.
    text.push_str("\t}\n\tchain output {\n\t\ttype nat hook output priority -100;\n");
    for publication in publications {
        let _ = writeln!(text, "\t\t{}", translation(publication, inner));
    }
    // From an address of loopback nothing comes back.
    let _ = write!(
        text,
        "\t}}\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat;\n\
         \t\toifname \"{link}\" ip saddr 127.0.0.0/8 masquerade\n\
         \t\toifname != \"{link}\" ip saddr {inner} masquerade\n\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter;\n\
         \t\toifname \"{link}\" ct state established,related accept\n\
         \t\toifname \"{link}\" ct status dnat accept\n\
         \t\toifname \"{link}\" drop\n\
         \t}}\n\
         }}\n"
    );
    text
}

/// The rule that leads a published port of the host to the stack, whose inner end is `inner`.
fn translation(publication: &Publication, inner: Ipv4Addr) -> String {
    let Publication { address, protocol, inner: port, .. } = publication;
    let to = if address.ip().is_unspecified() {
        "fib daddr type local".to_owned()
    } else {
        format!("ip daddr {}", address.ip())
    };
    format!("{to} {protocol} dport {} dnat ip to {inner}:{port}", address.port())
}

/// A table with nothing in it yet.
pub(super) fn begun(table: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(address: &str, protocol: &'static str, inner: u16) -> Publication {
        let target = "172.18.0.2:80".parse().expect("an address");
        Publication { address: address.parse().expect("an address"), protocol, inner, target }
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
        assert_eq!(free_port([&first].into_iter(), "tcp", 80), 65535);
        assert_eq!(free_port([&first].into_iter(), "udp", 80), 80);
    }

    #[test]
    fn an_address_of_the_host_is_the_only_one_that_is_translated() {
        let (outer, inner) = (Ipv4Addr::new(10, 213, 0, 1), Ipv4Addr::new(10, 213, 0, 2));
        let text = outside("t", "nsc1", outer, inner, &[&publication("192.0.2.1:81", "tcp", 81)], true);
        assert_eq!(text.matches("ip daddr 192.0.2.1 tcp dport 81 dnat ip to 10.213.0.2:81").count(), 2, "{text}");
        assert!(!text.contains("fib"), "{text}");
    }

    #[test]
    fn what_others_would_drop_and_loopback_are_translated_for_the_host_only() {
        let (outer, inner) = (Ipv4Addr::new(10, 213, 0, 1), Ipv4Addr::new(10, 213, 0, 2));
        let all = |address, routed| outside("t", "nsc1", outer, inner, &[&publication(address, "tcp", 80)], routed);
        assert_eq!(all("0.0.0.0:80", true).matches("tcp dport 80 dnat").count(), 2);
        for text in [all("0.0.0.0:80", false), all("127.0.0.1:80", true)] {
            let (before, after) = text.split_once("chain output").expect("a chain");
            assert!(!before.contains("dport") && after.contains("tcp dport 80 dnat ip to 10.213.0.2:80"), "{text}");
        }
    }
}
