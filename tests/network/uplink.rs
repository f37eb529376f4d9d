//! The way out of a stack, on a host that is a namespace of the test's own, with a network behind it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
};

use nscompose::network::uplink::{
    Outside, Uplink, UplinkError, Wish, find_program, forwarding, remove_table_now, rules::Bridge,
};

use super::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
const TABLE: &str = "nscompose-test-000000";
const LINK: &str = "nsc00000001";

/// A host between two networks, and a stack on it with a network that leads out, `front`, and one that does not, `back`.
struct World {
    nft: PathBuf,
    outside: Netns,
    lan: Netns,
    stack: Stack,
    front: Netns,
    back: Netns,
    uplink: Uplink,
}

impl World {
    async fn new(setting_up: &[&str]) -> Self {
        let nft = find_program("nft", None).unwrap();
        // A new namespace takes it over from the host, which may have stacks of its own just now.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let outside = neighbour("out0", "192.0.2.1/24", "192.0.2.2/24").await;
        let lan = neighbour("lan0", "198.51.100.1/24", "198.51.100.2/24").await;
        for rules in setting_up {
            load(rules);
        }
        let stack = Stack::new();
        let front = stack.bridge("front", &["172.18.0.1/16"]).await;
        let back = stack.bridge("back", &["172.19.0.1/16"]).await;
        let front = stack.container(front, "f", &["172.18.0.2/16"], &["172.18.0.1"]).await;
        let back = stack.container(back, "b", &["172.19.0.2/16"], &["172.19.0.1"]).await;
        let uplink = Self::connect(&nft, &stack, LINK).await.unwrap();
        Self { nft, outside, lan, stack, front, back, uplink }
    }

    async fn connect(nft: &std::path::Path, stack: &Stack, link: &str) -> Result<Uplink, UplinkError> {
        let outside = Outside::Veth { link: link.into(), table: TABLE.into(), alias: "a test".into() };
        let addresses = vec!["192.0.2.62/30".parse().unwrap(), "10.213.0.2/30".parse().unwrap()];
        let bridge = |name: &str, leads_out| Bridge { interface: name.into(), leads_out };
        let bridges = vec![bridge("front", true), bridge("back", false)];
        let wish = Wish { outside, nft: nft.to_owned(), addresses, host_gateway: GATEWAY, bridges };
        Uplink::connect(wish, Arc::clone(&stack.netns), &stack.netlink, |_| {}).await
    }
}

/// A namespace beyond an interface of the host.
async fn neighbour(link: &str, ours: &str, theirs: &str) -> Netns {
    let netns = Netns::create().unwrap();
    let host = Netlink::open_here().unwrap();
    let cable = nscompose::network::netlink::Cable {
        name: link.into(),
        alias: "a neighbour".into(),
        mac: None,
        peer_name: "eth0".into(),
    };
    host.add_cable(&cable, &netns).await.unwrap();
    let interface = |name: &str, address: &str, gateway: Option<&str>| Interface {
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        gateways: gateway.into_iter().map(|gateway| gateway.parse().unwrap()).collect(),
        routes: Vec::new(),
    };
    host.configure(&[interface(link, ours, None)]).await.unwrap();
    let gateway = ours.split('/').next();
    Netlink::open(&netns).unwrap().configure(&[interface("eth0", theirs, gateway)]).await.unwrap();
    host.settle(&[link]).await.unwrap();
    netns
}

fn load(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

/// Where a client in `from` that connects to `to` seems to come from, to a server at `at` in `server`.
fn seen_from(from: &Netns, to: &str, server: &Netns, at: &str) -> io::Result<IpAddr> {
    let listener = server.run(|| TcpListener::bind(at))?;
    let to: SocketAddr = to.parse().unwrap();
    let _client = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)))?;
    Ok(listener.accept()?.1.ip())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn lacks_nft(name: &str) -> bool {
    let lacks = find_program("nft", None).is_none();
    if lacks {
        skip(name, "needs nft");
    }
    lacks
}

fn forwards() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim() == "1"
}

#[test]
fn only_networks_that_lead_out_do_and_stay_apart() {
    const NAME: &str = "uplink::only_networks_that_lead_out_do_and_stay_apart";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let World { outside, front, back, stack, .. } = &world;
        assert!(forwarding::enable(&world.nft).unwrap());
        // As the host, since it is masqueraded.
        let seen = seen_from(front, "192.0.2.2:80", outside, "0.0.0.0:80");
        assert_eq!(seen.unwrap(), address("192.0.2.1"));
        seen_from(back, "192.0.2.2:80", outside, "0.0.0.0:80").unwrap_err();
        seen_from(front, "172.19.0.2:80", back, "0.0.0.0:80").unwrap_err();
        seen_from(back, "172.18.0.2:80", front, "0.0.0.0:80").unwrap_err();
        seen_from(back, "192.0.2.1:80", outside, "0.0.0.0:80").unwrap_err();
        // Even where the kernel would route it.
        stack.netns.run(|| fs::write("/proc/sys/net/ipv4/conf/back/forwarding", "1")).unwrap();
        seen_from(back, "192.0.2.2:80", outside, "0.0.0.0:80").unwrap_err();
        seen_from(back, "172.18.0.2:80", front, "0.0.0.0:80").unwrap_err();
        // And nobody gets in from the outside, whatever route he has.
        let route = ["route", "add", "172.18.0.0/16", "via", "10.213.0.2"];
        assert!(Command::new("ip").args(route).status().unwrap().success());
        seen_from(outside, "172.18.0.2:80", front, "0.0.0.0:80").unwrap_err();
    });
}

#[test]
fn addresses_that_the_host_has_a_route_for_are_left_alone() {
    const NAME: &str = "uplink::addresses_that_the_host_has_a_route_for_are_left_alone";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        // The first one lies in a network that the host is on.
        let routes = Netlink::open_here().unwrap().routes().await.unwrap();
        assert!(routes.contains(&"10.213.0.0/30".parse().unwrap()), "{routes:?}");
        // Its hardware address has been given to it with that: udev replaces those that are random, once the stack knows them.
        let show = Command::new("ip").args(["-br", "link", "show", LINK]).output().unwrap().stdout;
        assert!(String::from_utf8_lossy(&show).contains("02:6e:0a:d5:00:01"), "{}", String::from_utf8_lossy(&show));
        // For another stack the second one is taken, too, and nothing is left of what it began.
        let error = World::connect(&world.nft, &Stack::new(), "nsc00000002").await.err();
        assert!(matches!(error, Some(UplinkError::NoAddress)), "{error:?}");
        let links = Netlink::open_here().unwrap().links().await.unwrap();
        assert!(!links.iter().any(|link| link.name == "nsc00000002"), "{links:?}");
    });
}

#[test]
fn a_published_port_keeps_the_address_of_the_client() {
    const NAME: &str = "uplink::a_published_port_keeps_the_address_of_the_client";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let World { outside, lan, front, uplink, .. } = &world;
        forwarding::enable(&world.nft).unwrap();
        assert!(uplink.translates());
        let everywhere = vec!["0.0.0.0:8080".parse().unwrap()];
        let one = vec!["198.51.100.1:8081".parse().unwrap()];
        let target = "172.18.0.2:80".parse().unwrap();
        uplink.publish("web", vec![(everywhere, target, "tcp"), (one, target, "tcp")]).await.unwrap();
        let seen = |from: &Netns, to: &str| seen_from(from, to, front, "0.0.0.0:80");
        assert_eq!(seen(outside, "192.0.2.1:8080").unwrap(), address("192.0.2.2"));
        assert_eq!(seen(lan, "198.51.100.1:8081").unwrap(), address("198.51.100.2"));
        seen(outside, "192.0.2.1:8081").unwrap_err();
        uplink.publish("web", Vec::new()).await.unwrap();
        seen(outside, "192.0.2.1:8080").unwrap_err();
    });
}

#[test]
fn containers_reach_the_loopback_of_the_host_at_one_address() {
    const NAME: &str = "uplink::containers_reach_the_loopback_of_the_host_at_one_address";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let listener = TcpListener::bind("127.0.0.1:4711").unwrap();
        let to = SocketAddr::new(GATEWAY.into(), 4711);
        let _client = world.front.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), address("10.213.0.2"));
        world.back.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1))).unwrap_err();
        // The stack can name no address of loopback itself, which the link would let through.
        let _named = TcpListener::bind("127.9.9.9:4712").unwrap();
        let route = ["route", "add", "table", "local", "unicast", "127.9.9.9", "via", "10.213.0.1"];
        world
            .stack
            .netns
            .run(|| {
                fs::write("/proc/sys/net/ipv4/conf/nsc0/route_localnet", "1")?;
                assert!(Command::new("ip").args(route).status()?.success());
                Ok(())
            })
            .unwrap();
        let named = "127.9.9.9:4712".parse().unwrap();
        let name = || world.stack.netns.run(|| TcpStream::connect_timeout(&named, Duration::from_millis(500)));
        name().unwrap_err();
        load(&format!("flush chain inet {TABLE} raw\n"));
        name().expect("it was the rule that kept it out");
        let outer = "10.213.0.1:4711".parse().unwrap();
        let elsewhere = world.outside.run(|| TcpStream::connect_timeout(&outer, Duration::from_millis(500)));
        assert!(elsewhere.is_err());
    });
}

#[test]
fn the_host_becomes_no_router_for_others_and_forwards_no_longer_than_needed() {
    const NAME: &str = "uplink::the_host_becomes_no_router_for_others_and_forwards_no_longer_than_needed";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let nft = &world.nft;
        assert!(!forwards());
        assert!(forwarding::enable(nft).unwrap());
        assert!(forwards() && !forwarding::enable(nft).unwrap());
        let through = || seen_from(&world.outside, "198.51.100.2:80", &world.lan, "0.0.0.0:80");
        through().unwrap_err();
        // The stack is there.
        assert!(!forwarding::disable_if_last(nft).unwrap() && forwards());
        // Somebody else has begun to rely on it, as Docker would.
        remove_table_now(nft, TABLE).unwrap();
        let other = neighbour("docker0", "203.0.113.1/24", "203.0.113.2/24").await;
        assert!(!forwarding::disable_if_last(nft).unwrap() && forwards());
        let seen = seen_from(&other, "192.0.2.2:80", &world.outside, "0.0.0.0:80");
        assert_eq!(seen.unwrap(), address("203.0.113.2"));
        through().unwrap_err();
        Netlink::open_here().unwrap().delete_link("docker0").await.unwrap();
        assert!(forwarding::disable_if_last(nft).unwrap() && !forwards());
        let rules = Command::new(nft).args(["list", "ruleset"]).output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&rules), "");
        // Whoever forwards anyway goes on with it.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        assert!(!forwarding::enable(nft).unwrap());
        assert!(!forwarding::disable_if_last(nft).unwrap() && forwards());
        assert_eq!(through().unwrap(), address("192.0.2.2"));
    });
}

#[test]
fn clients_on_the_host_are_translated_whatever_others_drop() {
    const NAME: &str = "uplink::clients_on_the_host_are_translated_whatever_others_drop";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        const DROPS: &str =
            "table ip other {\n chain forward {\n  type filter hook forward priority filter; policy drop;\n }\n}\n";
        let world = World::new(&[DROPS]).await;
        let World { outside, front, uplink, .. } = &world;
        forwarding::enable(&world.nft).unwrap();
        assert!(!uplink.translates());
        let target = "172.18.0.2:80".parse().unwrap();
        let addresses = ["0.0.0.0:8080", "127.0.0.1:8081", "198.51.100.1:8082"];
        let ports = addresses.map(|address| (vec![address.parse().unwrap()], target, "tcp"));
        uplink.publish("web", ports.into()).await.unwrap();
        let here = Netns::from_fd(fs::File::open("/proc/thread-self/ns/net").unwrap().into());
        let seen = |from: &Netns, to: &str| seen_from(from, to, front, "0.0.0.0:80");
        assert_eq!(seen(&here, "192.0.2.1:8080").unwrap(), address("192.0.2.1"));
        assert_eq!(seen(&here, "198.51.100.1:8082").unwrap(), address("198.51.100.1"));
        // Loopback means something else inside, so it comes as the outer end of the uplink.
        assert_eq!(seen(&here, "127.0.0.1:8080").unwrap(), address("10.213.0.1"));
        assert_eq!(seen(&here, "127.0.0.1:8081").unwrap(), address("10.213.0.1"));
        // Other addresses are not published, and from elsewhere it is the forwarder's, which is not here.
        seen(&here, "192.0.2.1:8081").unwrap_err();
        seen(&here, "192.0.2.1:8082").unwrap_err();
        seen(outside, "192.0.2.1:8080").unwrap_err();
        uplink.publish("web", Vec::new()).await.unwrap();
        seen(&here, "127.0.0.1:8080").unwrap_err();
    });
}

#[test]
fn rules_that_drop_what_is_forwarded_are_named_with_the_way_through() {
    const NAME: &str = "uplink::rules_that_drop_what_is_forwarded_are_named_with_the_way_through";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        const DOCKER: &str = "table ip filter {\n chain DOCKER-USER { }\n chain FORWARD {\n  type filter hook forward \
                              priority filter; policy drop;\n  jump DOCKER-USER\n }\n}\n";
        let world = World::new(&[DOCKER]).await;
        forwarding::enable(&world.nft).unwrap();
        let obstacle = world.uplink.foreign().forward.clone().expect("found");
        assert_eq!(obstacle.what, "chain FORWARD of table ip filter");
        assert_eq!(
            obstacle.mend,
            "iptables -I DOCKER-USER -i nsc+ -j ACCEPT && iptables -I DOCKER-USER -o nsc+ -j ACCEPT"
        );
        assert!(!world.uplink.translates());
        seen_from(&world.front, "192.0.2.2:80", &world.outside, "0.0.0.0:80").unwrap_err();
        let mended = "add rule ip filter DOCKER-USER iifname \"nsc*\" accept\n\
                      add rule ip filter DOCKER-USER oifname \"nsc*\" accept\n";
        load(mended);
        let World { nft, stack, uplink, .. } = world;
        drop(uplink);
        stack.netlink.delete_link("nsc0").await.unwrap();
        let uplink = World::connect(&nft, &stack, LINK).await.unwrap();
        assert_eq!(uplink.foreign().forward, None);
        seen_from(&world.front, "192.0.2.2:80", &world.outside, "0.0.0.0:80").unwrap();
    });
}

#[test]
fn rules_that_drop_what_is_for_the_loopback_of_the_host_are_named_with_the_way_through() {
    const NAME: &str = "uplink::rules_that_drop_what_is_for_the_loopback_of_the_host_are_named_with_the_way_through";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        // As ufw and administrators have them; that FORWARD accepts uplinks is another matter.
        const RULES: &str = "table ip filter {\n chain FORWARD {\n  type filter hook forward priority filter; policy \
                             accept;\n  iifname \"nsc*\" accept\n }\n chain INPUT {\n  type filter hook input priority \
                             filter; policy drop;\n  iifname \"lo\" accept\n  ct state established,related accept\n }\n}\n\
                             table inet mine {\n chain in {\n  type filter hook input priority 10;\n  iifname \"lo\" \
                             accept\n  counter log reject\n }\n}\n";
        let World { nft, stack, front, uplink, .. } = World::new(&[RULES]).await;
        let _listener = TcpListener::bind("127.0.0.1:4711").unwrap();
        let to = SocketAddr::new(GATEWAY.into(), 4711);
        let reach = || front.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(500)));
        let foreign = uplink.foreign().clone();
        assert_eq!(foreign.forward, None);
        let obstacle = foreign.input.expect("found");
        assert_eq!(obstacle.what, "chain INPUT of table ip filter");
        assert_eq!(obstacle.mend, "iptables -I INPUT -i nsc+ -d 127.0.0.1 -j ACCEPT");
        reach().unwrap_err();
        let mut uplink = Some(uplink);
        let mut again = async || {
            drop(uplink.take());
            stack.netlink.delete_link("nsc0").await.unwrap();
            let made = World::connect(&nft, &stack, LINK).await.unwrap();
            uplink.insert(made).foreign().input.clone()
        };
        // What the command of iptables comes to.
        load("insert rule ip filter INPUT iifname \"nsc*\" ip daddr 127.0.0.1 accept\n");
        let obstacle = again().await.expect("the other one");
        assert_eq!(obstacle.what, "chain in of table inet mine");
        reach().unwrap_err();
        let words = obstacle.mend.split_once("nft ").expect("a command of nft").1.replace('\'', "");
        load(&format!("{words}\n"));
        assert_eq!(again().await, None);
        reach().unwrap();
        // Firewalld accepts what was translated, by whomever.
        load("flush chain inet mine in\nadd rule inet mine in ct status dnat accept\nadd rule inet mine in reject\n");
        assert_eq!(again().await, None);
        reach().unwrap();
    });
}

#[test]
fn rules_of_legacy_iptables_are_seen() {
    const NAME: &str = "uplink::rules_of_legacy_iptables_are_seen";
    if lacks_nft(NAME) || !nix::unistd::geteuid().is_root() {
        return;
    }
    kernel_test(NAME, async || {
        let iptables = |words: &str| Command::new("iptables-legacy").args(words.split(' ')).status();
        // Kernels go without it by now, and so do distributions. To ask makes the table, so it is not asked of the host.
        if !iptables("-S INPUT").is_ok_and(|status| status.success()) {
            return;
        }
        let iptables = |words: &str| assert!(iptables(words).unwrap().success(), "{words}");
        iptables("-P FORWARD DROP");
        iptables("-A INPUT -j DROP");
        let World { nft, stack, front, outside, uplink, .. } = World::new(&[]).await;
        forwarding::enable(&nft).unwrap();
        let foreign = uplink.foreign().clone();
        let (forward, input) = (foreign.forward.expect("found"), foreign.input.expect("found"));
        assert_eq!(forward.what, "chain FORWARD of iptables-legacy");
        assert_eq!(input.what, "chain INPUT of iptables-legacy");
        assert!(!uplink.translates());
        seen_from(&front, "192.0.2.2:80", &outside, "0.0.0.0:80").unwrap_err();
        for command in forward.mend.split(" && ").chain([input.mend.as_str()]) {
            iptables(command.strip_prefix("iptables-legacy ").expect("the program that has the rules"));
        }
        drop(uplink);
        stack.netlink.delete_link("nsc0").await.unwrap();
        let uplink = World::connect(&nft, &stack, LINK).await.unwrap();
        assert_eq!(*uplink.foreign(), Default::default());
        seen_from(&front, "192.0.2.2:80", &outside, "0.0.0.0:80").unwrap();
    });
}

#[test]
fn ufw_and_firewalld_are_told_of_uplinks_in_their_own_words() {
    const NAME: &str = "uplink::ufw_and_firewalld_are_told_of_uplinks_in_their_own_words";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        // What ufw 0.36 and firewalld 2.3 of Debian 13 make, as far as it matters here: before and after the command.
        let ufw = |routes: &str| {
            format!(
                "table ip filter {{\n chain ufw-user-forward {{\n{routes} }}\n chain ufw-before-forward {{\n  jump \
                 ufw-user-forward\n }}\n chain FORWARD {{\n  type filter hook forward priority filter; policy drop;\n  \
                 counter jump ufw-before-forward\n }}\n}}\n"
            )
        };
        let firewalld = |trusted: &str| {
            format!(
                "table inet firewalld {{\n chain filter_FWD_trusted {{\n  oifname \"nsc*\" accept\n  accept\n }}\n \
                 chain filter_FORWARD_POLICIES {{\n{trusted}  reject with icmpx admin-prohibited\n }}\n \
                 chain filter_FORWARD {{\n  type filter hook forward priority filter + 10; policy accept;\n  \
                 ct state {{ established, related }} accept\n  ct status dnat accept\n  jump filter_FORWARD_POLICIES\n  \
                 reject with icmpx admin-prohibited\n }}\n}}\n"
            )
        };
        let world = World::new(&[&ufw("")]).await;
        forwarding::enable(&world.nft).unwrap();
        let out = || seen_from(&world.front, "192.0.2.2:80", &world.outside, "0.0.0.0:80");
        let again = async |rules: String| {
            world.stack.netlink.delete_link("nsc0").await.unwrap();
            load(&rules);
            World::connect(&world.nft, &world.stack, LINK).await.unwrap().foreign().forward.clone()
        };
        out().unwrap_err();
        let mend = world.uplink.foreign().forward.as_ref().map(|obstacle| obstacle.mend.as_str());
        assert_eq!(mend, Some("ufw route allow in on nsc+ && ufw route allow out on nsc+"));
        let routes = "  iifname \"nsc*\" counter accept\n  oifname \"nsc*\" counter accept\n";
        assert_eq!(again(format!("delete table ip filter\n{}", ufw(routes))).await, None);
        out().unwrap();
        let found = again(format!("delete table ip filter\n{}", firewalld(""))).await.expect("found");
        assert_eq!(found.mend, "firewall-cmd --permanent --zone=trusted --add-interface=nsc+ && firewall-cmd --reload");
        out().unwrap_err();
        let trusted = "  iifname \"nsc*\" jump filter_FWD_trusted\n  iifname \"nsc*\" accept\n";
        assert_eq!(again(format!("delete table inet firewalld\n{}", firewalld(trusted))).await, None);
        out().unwrap();
    });
}
