//! The way out of a stack, on a host that is a namespace of the test's own, with a network behind it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
};

use nscompose::{
    model::Family,
    network::uplink::{
        Outside, Published, Uplink, UplinkError, Wish, find_program, forwarding, remove_table_of_stack, rules::Bridge,
    },
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
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
        let outside = neighbour("out0", "192.0.2.1/24", "192.0.2.2/24").await;
        let lan = neighbour("lan0", "198.51.100.1/24", "198.51.100.2/24").await;
        add_ipv6(&outside, "out0", "2001:db8:1::1/64", "2001:db8:1::2/64").await;
        add_ipv6(&lan, "lan0", "2001:db8:2::1/64", "2001:db8:2::2/64").await;
        for rules in setting_up {
            load(rules);
        }
        let stack = Stack::new();
        stack.netns.run(nobody_is_asked_for_addresses).unwrap();
        let front = stack.bridge("front", &["172.18.0.1/16", "fd00:f::1/64"]).await;
        let back = stack.bridge("back", &["172.19.0.1/16", "fd00:b::1/64"]).await;
        let (gateways, addresses) = (&["172.18.0.1", "fd00:f::1"], &["172.18.0.2/16", "fd00:f::2/64"]);
        let front = stack.container(front, "f", addresses, gateways).await;
        let (gateways, addresses) = (&["172.19.0.1", "fd00:b::1"], &["172.19.0.2/16", "fd00:b::2/64"]);
        let back = stack.container(back, "b", addresses, gateways).await;
        let uplink = Self::connect(&nft, &stack, LINK).await.unwrap();
        Self { nft, outside, lan, stack, front, back, uplink }
    }

    /// Has the uplink carry IPv6.
    async fn carry_ipv6(&self) {
        let taken = "fd6e:7363::2/126".parse().unwrap();
        let route = ["-6", "route", "add", "fd6e:7363::/120", "dev", "lan0"];
        assert!(Command::new("ip").args(route).status().unwrap().success());
        let addresses = [taken, "fd6e:7363:0:1::6/126".parse().unwrap()];
        assert!(self.uplink.carry_ipv6(&addresses, &self.stack.netlink).await.unwrap());
        assert!(!self.uplink.carry_ipv6(&addresses, &self.stack.netlink).await.unwrap(), "it does already");
        assert_eq!(
            Netlink::open_here()
                .unwrap()
                .routes_v6()
                .await
                .unwrap()
                .iter()
                .filter(|net| addresses[1].trunc() == **net)
                .count(),
            1
        );
    }

    async fn connect(nft: &std::path::Path, stack: &Stack, link: &str) -> Result<Uplink, UplinkError> {
        let outside = Outside::Veth { link: link.into(), table: TABLE.into(), alias: "a test".into() };
        let addresses = vec!["192.0.2.62/30".parse().unwrap(), "10.213.0.2/30".parse().unwrap()];
        let bridge = |name: &str, leads_out| Bridge { interface: name.into(), leads_out };
        let bridges = vec![bridge("front", true), bridge("back", false)];
        let wish =
            Wish { outside, nft: nft.to_owned(), addresses, addresses_v6: Vec::new(), host_gateway: GATEWAY, bridges };
        Uplink::connect(wish, Arc::clone(&stack.netns), &stack.netlink, |_| {}).await
    }
}

/// A namespace beyond an interface of the host.
async fn neighbour(link: &str, ours: &str, theirs: &str) -> Netns {
    let netns = Netns::create().unwrap();
    nobody_is_asked_for_addresses().unwrap();
    netns.run(nobody_is_asked_for_addresses).unwrap();
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

/// Puts IPv6 addresses on the way to a neighbour, who has the host as its router.
async fn add_ipv6(neighbour: &Netns, link: &str, ours: &str, theirs: &str) {
    let interface = |name: &str, address: &str, gateway: Option<&str>| Interface {
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        gateways: gateway.into_iter().map(|gateway| gateway.parse().unwrap()).collect(),
        routes: Vec::new(),
    };
    Netlink::open_here().unwrap().configure(&[interface(link, ours, None)]).await.unwrap();
    let gateway = ours.split('/').next();
    Netlink::open(neighbour).unwrap().configure(&[interface("eth0", theirs, gateway)]).await.unwrap();
}

/// Or the first packets would wait for a second until the kernel knows that nobody has its link-local address.
fn nobody_is_asked_for_addresses() -> io::Result<()> {
    fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")
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

/// Counts a test that no package brings here; it is not required of whoever requires everything.
fn not_here(name: &str, why: &str) {
    eprintln!("SKIP {name}: {why}");
    if let Some(path) = std::env::var_os("NSCOMPOSE_TEST_SKIPS") {
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{name}: {why}\n").as_bytes())).expect("the list of skips");
    }
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
        assert!(forwarding::enable(&world.nft, Family::V4).unwrap().is_some());
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
        forwarding::enable(&world.nft, Family::V4).unwrap();
        assert!(uplink.translates(Family::V4).await && !uplink.translates(Family::V6).await);
        let everywhere = vec!["0.0.0.0:8080".parse().unwrap()];
        let one = vec!["198.51.100.1:8081".parse().unwrap()];
        let port = |addresses: Vec<SocketAddr>| Published {
            addresses,
            targets: vec!["172.18.0.2:80".parse().unwrap()],
            protocol: "tcp",
        };
        uplink.publish("web", vec![port(everywhere), port(one)]).await.unwrap();
        let seen = |from: &Netns, to: &str| seen_from(from, to, front, "0.0.0.0:80");
        assert_eq!(seen(outside, "192.0.2.1:8080").unwrap(), address("192.0.2.2"));
        assert_eq!(seen(lan, "198.51.100.1:8081").unwrap(), address("198.51.100.2"));
        seen(outside, "192.0.2.1:8081").unwrap_err();
        uplink.publish("web", Vec::new()).await.unwrap();
        seen(outside, "192.0.2.1:8080").unwrap_err();
    });
}

#[test]
fn ports_come_and_go_in_whatever_order() {
    const NAME: &str = "uplink::ports_come_and_go_in_whatever_order";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let World { nft, outside, front, uplink, .. } = &world;
        forwarding::enable(nft, Family::V4).unwrap();
        let publish = async |owner: &str, port: Option<u16>| {
            let port = port.map(|port| Published {
                addresses: vec![SocketAddr::from(([0, 0, 0, 0], port))],
                targets: vec!["172.18.0.2:80".parse().unwrap()],
                protocol: "tcp",
            });
            uplink.publish(owner, port.into_iter().collect()).await
        };
        let led = |port: u16| seen_from(outside, &format!("192.0.2.1:{port}"), front, "0.0.0.0:80").is_ok();
        let all_led = |ports: &[u16]| ports.iter().map(|port| led(*port)).collect::<Vec<_>>();
        // At once, so that some are loaded along with others.
        let (one, two, three) =
            tokio::join!(publish("one", Some(8001)), publish("two", Some(8002)), publish("three", Some(8003)));
        one.and(two).and(three).unwrap();
        assert_eq!(all_led(&[8001, 8002, 8003]), [true, true, true]);
        publish("two", None).await.unwrap();
        assert_eq!(all_led(&[8001, 8002, 8003]), [true, false, true]);
        publish("two", Some(8004)).await.unwrap();
        assert_eq!(all_led(&[8001, 8002, 8004]), [true, false, true]);
        // What somebody else has removed comes back with the next one.
        load("flush ruleset");
        assert_eq!(all_led(&[8001]), [false]);
        publish("five", Some(8005)).await.unwrap();
        assert_eq!(all_led(&[8001, 8003, 8004, 8005]), [true, true, true, true]);
        // Those of a stack that goes are left for who removes the table, unless it stays after all.
        uplink.leaves(true).await.unwrap();
        publish("one", None).await.unwrap();
        assert_eq!(all_led(&[8001, 8003]), [true, true]);
        uplink.leaves(false).await.unwrap();
        assert_eq!(all_led(&[8001, 8003]), [false, true]);
        assert!(remove_table_of_stack(nft, TABLE).unwrap().is_empty(), "the guard was flushed, too");
        assert_eq!(all_led(&[8003]), [false]);
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

/// What the end of one more stack turns off.
fn disabled(nft: &Path) -> Vec<Family> {
    let others = remove_table_of_stack(nft, "nscompose-gone").unwrap();
    forwarding::disable_if_last(nft, &others).unwrap()
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
        assert!(forwarding::enable(nft, Family::V4).unwrap().is_some());
        assert!(forwards() && forwarding::enable(nft, Family::V4).unwrap().is_none());
        let through = || seen_from(&world.outside, "198.51.100.2:80", &world.lan, "0.0.0.0:80");
        through().unwrap_err();
        // The stack is there.
        assert!(disabled(nft).is_empty() && forwards());
        // Somebody else has begun to rely on it, as Docker would.
        remove_table_of_stack(nft, TABLE).unwrap();
        let other = neighbour("docker0", "203.0.113.1/24", "203.0.113.2/24").await;
        assert!(disabled(nft).is_empty() && forwards());
        let seen = seen_from(&other, "192.0.2.2:80", &world.outside, "0.0.0.0:80");
        assert_eq!(seen.unwrap(), address("203.0.113.2"));
        through().unwrap_err();
        Netlink::open_here().unwrap().delete_link("docker0").await.unwrap();
        assert_eq!(disabled(nft), [Family::V4]);
        assert!(!forwards());
        let rules = Command::new(nft).args(["list", "ruleset"]).output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&rules), "");
        // Whoever forwards anyway goes on with it.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        assert!(forwarding::enable(nft, Family::V4).unwrap().is_none());
        assert!(disabled(nft).is_empty() && forwards());
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
        forwarding::enable(&world.nft, Family::V4).unwrap();
        assert!(!uplink.translates(Family::V4).await);
        let addresses = ["0.0.0.0:8080", "127.0.0.1:8081", "198.51.100.1:8082"];
        let ports = addresses.map(|address| Published {
            addresses: vec![address.parse().unwrap()],
            targets: vec!["172.18.0.2:80".parse().unwrap()],
            protocol: "tcp",
        });
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
        forwarding::enable(&world.nft, Family::V4).unwrap();
        let obstacle = world.uplink.foreign(Family::V4).await.forward.expect("found");
        assert_eq!(obstacle.what, "chain FORWARD of table ip filter");
        assert_eq!(
            obstacle.mend,
            "iptables -I DOCKER-USER -i nsc+ -j ACCEPT && iptables -I DOCKER-USER -o nsc+ -j ACCEPT"
        );
        assert!(!world.uplink.translates(Family::V4).await);
        seen_from(&world.front, "192.0.2.2:80", &world.outside, "0.0.0.0:80").unwrap_err();
        let mended = "add rule ip filter DOCKER-USER iifname \"nsc*\" accept\n\
                      add rule ip filter DOCKER-USER oifname \"nsc*\" accept\n";
        load(mended);
        let World { nft, stack, uplink, .. } = world;
        drop(uplink);
        stack.netlink.delete_link("nsc0").await.unwrap();
        let uplink = World::connect(&nft, &stack, LINK).await.unwrap();
        assert_eq!(uplink.foreign(Family::V4).await.forward, None);
        seen_from(&world.front, "192.0.2.2:80", &world.outside, "0.0.0.0:80").unwrap();
    });
}

#[test]
fn ipv6_leads_out_of_the_same_networks_and_keeps_them_apart() {
    const NAME: &str = "uplink::ipv6_leads_out_of_the_same_networks_and_keeps_them_apart";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let World { outside, front, back, stack, .. } = &world;
        let out = |from: &Netns| seen_from(from, "[2001:db8:1::2]:80", outside, "[::]:80");
        out(front).unwrap_err();
        world.carry_ipv6().await;
        assert!(forwarding::enable(&world.nft, Family::V6).unwrap().is_some());
        assert!(!forwards(), "IPv4 has a switch of its own");
        // As the host, since it is masqueraded.
        assert_eq!(out(front).unwrap(), address("2001:db8:1::1"));
        out(back).unwrap_err();
        seen_from(front, "[fd00:b::2]:80", back, "[::]:80").unwrap_err();
        seen_from(back, "[fd00:f::2]:80", front, "[::]:80").unwrap_err();
        seen_from(back, "[2001:db8:1::1]:80", outside, "[::]:80").unwrap_err();
        // And nobody gets in from the outside, whatever route he has.
        for at in ["fd00:f::/64", "fd00:b::/64"] {
            let route = ["-6", "route", "add", at, "via", "fd6e:7363:0:1::6"];
            assert!(Command::new("ip").args(route).status().unwrap().success());
        }
        seen_from(outside, "[fd00:f::2]:80", front, "[::]:80").unwrap_err();
        seen_from(outside, "[fd00:b::2]:80", back, "[::]:80").unwrap_err();
        let open = "flush chain inet nscompose forward\nadd chain inet nscompose forward { policy accept; }\n";
        let opened = stack.netns.run(|| {
            load(open);
            Ok(())
        });
        opened.unwrap();
        seen_from(front, "[fd00:b::2]:80", back, "[::]:80").expect("it was the rules that kept it out");
    });
}

#[test]
fn a_port_published_for_ipv6_keeps_the_address_of_the_client() {
    const NAME: &str = "uplink::a_port_published_for_ipv6_keeps_the_address_of_the_client";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let World { outside, lan, front, uplink, .. } = &world;
        let port = |at: &str, targets: &[&str]| Published {
            addresses: vec![at.parse().unwrap()],
            targets: targets.iter().map(|target| target.parse().unwrap()).collect(),
            protocol: "tcp",
        };
        let both = ["172.18.0.2:80", "[fd00:f::2]:80"];
        // Without IPv6 on the uplink it is not translated, and is the forwarder's.
        uplink.publish("web", vec![port("[::]:8080", &both)]).await.unwrap();
        world.carry_ipv6().await;
        forwarding::enable(&world.nft, Family::V6).unwrap();
        forwarding::enable(&world.nft, Family::V4).unwrap();
        assert!(uplink.translates(Family::V6).await);
        let seen = |from: &Netns, to: &str| seen_from(from, to, front, "[::]:80");
        seen(outside, "[2001:db8:1::1]:8080").unwrap_err();
        let ports = vec![
            port("[::]:8080", &both),
            port("0.0.0.0:8080", &both),
            port("[2001:db8:2::1]:8081", &both),
            port("[2001:db8:1::1]:8082", &both[..1]),
        ];
        uplink.publish("web", ports).await.unwrap();
        assert_eq!(seen(outside, "[2001:db8:1::1]:8080").unwrap(), address("2001:db8:1::2"));
        assert_eq!(seen(outside, "192.0.2.1:8080").unwrap(), address("::ffff:192.0.2.2"));
        assert_eq!(seen(lan, "[2001:db8:2::1]:8081").unwrap(), address("2001:db8:2::2"));
        seen(outside, "[2001:db8:1::1]:8081").unwrap_err();
        // So do clients on the host, but for those at its loopback, which are the forwarder's.
        let here = Netns::from_fd(fs::File::open("/proc/thread-self/ns/net").unwrap().into());
        assert_eq!(seen(&here, "[2001:db8:1::1]:8080").unwrap(), address("2001:db8:1::1"));
        seen(&here, "[::1]:8080").unwrap_err();
        // There is no IPv6 at the other end: for the forwarder.
        seen(outside, "[2001:db8:1::1]:8082").unwrap_err();
        uplink.publish("web", Vec::new()).await.unwrap();
        seen(outside, "[2001:db8:1::1]:8080").unwrap_err();
    });
}

/// Has a neighbour tell that it is a router for so many seconds.
fn advertise(router: &Netns, seconds: u16) {
    let script = format!(
        "import socket, struct\n\
         s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n\
         s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)\n\
         s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, {seconds}, 0, 0), ('ff02::1', 0, 0, socket.if_nametoindex('eth0')))"
    );
    let sent = router.run(|| Command::new("python3").args(["-c", &script]).status()).unwrap();
    assert!(sent.success());
}

/// Whether the host has a default route from a router.
fn has_router() -> bool {
    let shown = Command::new("ip").args(["-6", "route", "show", "default", "proto", "ra"]).output().unwrap();
    !shown.stdout.is_empty()
}

#[test]
fn a_host_that_forwards_ipv6_is_no_router_for_others_and_heeds_its_own() {
    const NAME: &str = "uplink::a_host_that_forwards_ipv6_is_no_router_for_others_and_heeds_its_own";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        let world = World::new(&[]).await;
        let nft = &world.nft;
        let read =
            |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}")).unwrap().trim().to_owned();
        // Interfaces of a host; that of the uplink is none.
        for name in ["default", "lan0", "out0"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "1").unwrap();
        }
        fs::write("/proc/sys/net/ipv6/conf/lan0/accept_ra", "0").unwrap();
        until("the router", async || {
            advertise(&world.outside, 1800);
            has_router()
        })
        .await;
        world.carry_ipv6().await;
        let listening = forwarding::enable(nft, Family::V6).unwrap().expect("it was off");
        assert!(["default", "out0"].iter().all(|name| listening.iter().any(|there| there == name)), "{listening:?}");
        assert!(!listening.iter().any(|name| name == "lan0" || name == LINK), "{listening:?}");
        assert_eq!((read("all/forwarding"), read("lan0/accept_ra")), ("1".to_owned(), "0".to_owned()));
        assert_eq!(read(&format!("{LINK}/accept_ra")), "0");
        assert!(has_router(), "the host has lost its way out");
        until("the end of the router", async || {
            advertise(&world.outside, 0);
            !has_router()
        })
        .await;
        let through = || seen_from(&world.outside, "[2001:db8:2::2]:80", &world.lan, "[::]:80");
        through().unwrap_err();
        // IPv4 is forwarded or not as it was.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let seen = seen_from(&world.outside, "198.51.100.2:80", &world.lan, "0.0.0.0:80");
        assert_eq!(seen.unwrap(), address("192.0.2.2"));
        assert!(disabled(nft).is_empty(), "the stack is there");
        remove_table_of_stack(nft, TABLE).unwrap();
        assert_eq!(disabled(nft), [Family::V6]);
        assert!(forwards(), "somebody else has turned that on");
        assert_eq!((read("all/forwarding"), read("out0/accept_ra")), ("0".to_owned(), "1".to_owned()));
        assert_eq!(read("default/accept_ra"), "1");
        let rules = Command::new(nft).args(["list", "ruleset"]).output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&rules), "");
        // Whoever forwards IPv6 anyway goes on with it, also when IPv4 is turned on.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        assert!(forwarding::enable(nft, Family::V6).unwrap().is_none());
        assert!(forwarding::enable(nft, Family::V4).unwrap().is_some());
        assert_eq!(through().unwrap(), address("2001:db8:1::2"));
    });
}

#[test]
fn rules_that_drop_ipv6_alone_concern_ipv6_alone() {
    const NAME: &str = "uplink::rules_that_drop_ipv6_alone_concern_ipv6_alone";
    if lacks_nft(NAME) {
        return;
    }
    kernel_test(NAME, async || {
        const DOCKER: &str = "table ip filter {\n chain DOCKER-USER { }\n}\ntable ip6 filter {\n chain FORWARD {\n  type \
                              filter hook forward priority filter; policy drop;\n }\n}\n";
        let world = World::new(&[DOCKER]).await;
        world.carry_ipv6().await;
        assert!(world.uplink.translates(Family::V4).await && !world.uplink.translates(Family::V6).await);
        assert_eq!(world.uplink.foreign(Family::V4).await.forward, None);
        let obstacle = world.uplink.foreign(Family::V6).await.forward.expect("found");
        assert_eq!(obstacle.what, "chain FORWARD of table ip6 filter");
        assert_eq!(obstacle.mend, "ip6tables -I FORWARD -i nsc+ -j ACCEPT && ip6tables -I FORWARD -o nsc+ -j ACCEPT");
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
        let foreign = uplink.foreign(Family::V4).await;
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
            uplink.insert(made).foreign(Family::V4).await.input
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
    if lacks_nft(NAME) {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return not_here(NAME, "it is for root");
    }
    kernel_test(NAME, async || {
        let iptables = |words: &str| Command::new("iptables-legacy").args(words.split(' ')).status();
        // To ask makes the table, so it is not asked of the host.
        if !iptables("-S INPUT").is_ok_and(|status| status.success()) {
            return not_here(NAME, "kernels go without iptables-legacy by now, and so do distributions");
        }
        let iptables = |words: &str| assert!(iptables(words).unwrap().success(), "{words}");
        iptables("-P FORWARD DROP");
        iptables("-A INPUT -j DROP");
        let World { nft, stack, front, outside, uplink, .. } = World::new(&[]).await;
        forwarding::enable(&nft, Family::V4).unwrap();
        let foreign = uplink.foreign(Family::V4).await;
        let (forward, input) = (foreign.forward.expect("found"), foreign.input.expect("found"));
        assert_eq!(forward.what, "chain FORWARD of iptables-legacy");
        assert_eq!(input.what, "chain INPUT of iptables-legacy");
        assert!(!uplink.translates(Family::V4).await);
        seen_from(&front, "192.0.2.2:80", &outside, "0.0.0.0:80").unwrap_err();
        for command in forward.mend.split(" && ").chain([input.mend.as_str()]) {
            iptables(command.strip_prefix("iptables-legacy ").expect("the program that has the rules"));
        }
        drop(uplink);
        stack.netlink.delete_link("nsc0").await.unwrap();
        let uplink = World::connect(&nft, &stack, LINK).await.unwrap();
        assert_eq!(uplink.foreign(Family::V4).await, Default::default());
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
        forwarding::enable(&world.nft, Family::V4).unwrap();
        let out = || seen_from(&world.front, "192.0.2.2:80", &world.outside, "0.0.0.0:80");
        let again = async |rules: String| {
            world.stack.netlink.delete_link("nsc0").await.unwrap();
            load(&rules);
            World::connect(&world.nft, &world.stack, LINK).await.unwrap().foreign(Family::V4).await.forward
        };
        out().unwrap_err();
        let mend = world.uplink.foreign(Family::V4).await.forward.map(|obstacle| obstacle.mend);
        assert_eq!(mend.as_deref(), Some("ufw route allow in on nsc+ && ufw route allow out on nsc+"));
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
