//! Links and published ports, on the real kernel, in namespaces of each test's own.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what went wrong by panicking")]

mod support;
mod uplink;

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nscompose::{
    model::Port,
    network::{
        netlink::{Bridge, Interface, Link, LinkIndex, Netlink},
        ports::{ClaimError, Claimed, Forwarder, PortOwner, claim, serve},
    },
    sys::Netns,
};
use support::{block_on, in_own_namespaces, skip};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
    sync::Barrier,
};

/// Long enough for anything that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs an asynchronous test in its own namespaces; gives up on it after a while.
fn kernel_test<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    in_own_namespaces(name, || {
        block_on(async {
            Netlink::open_here().unwrap().loopback_up().await.unwrap();
            tokio::time::timeout(PATIENCE, test()).await.expect("the test ends");
        });
    });
}

/// Waits for a condition, in turns with the rest of the runtime.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The namespace of a stack, with its netlink socket.
struct Stack {
    netns: Arc<Netns>,
    netlink: Netlink,
}

impl Stack {
    fn new() -> Self {
        let netns = Arc::new(Netns::create().unwrap());
        Self { netlink: Netlink::open(&netns).unwrap(), netns }
    }

    async fn bridge(&self, name: &str, addresses: &[&str]) -> LinkIndex {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.netlink.add_bridge(&Bridge { name: name.into(), addresses, mtu: None }).await.unwrap()
    }

    async fn container(&self, bridge: LinkIndex, host_name: &str, addresses: &[&str], gateways: &[&str]) -> Netns {
        let container = Netns::create().unwrap();
        let link = Link {
            bridge,
            host_name: host_name.into(),
            peer_name: "eth0".into(),
            mac: None,
            mtu: None,
            isolated: false,
        };
        self.netlink.add_link(&link, &container).await.unwrap();
        let interface = Interface {
            name: "eth0".into(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
            routes: Vec::new(),
        };
        Netlink::open(&container).unwrap().configure(&[interface]).await.unwrap();
        let bridge = self.netlink.links().await.unwrap().into_iter().find(|link| link.index == bridge).unwrap();
        self.netlink.settle(&[host_name, &bridge.name]).await.unwrap();
        container
    }

    async fn link_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.netlink.links().await.unwrap().into_iter().map(|link| link.name).collect();
        // The fallback devices of tunnels, where such modules are loaded.
        names.retain(|name| !name.ends_with('0') || name.starts_with("eth"));
        names
    }
}

/// Says hello over TCP from one namespace to a server in another.
fn hello(from: &Netns, to: &Netns, address: &str) -> io::Result<()> {
    let address: SocketAddr = address.parse().unwrap();
    let listener = to.run(|| TcpListener::bind(address))?;
    let client = thread::spawn({
        let connected = from.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)))?;
        move || (&connected).write_all(b"hello")
    });
    let mut heard = String::new();
    listener.accept()?.0.read_to_string(&mut heard)?;
    client.join().unwrap()?;
    assert_eq!(heard, "hello");
    Ok(())
}

#[test]
fn isolated_links_reach_the_bridge_and_nobody_else() {
    kernel_test("isolated_links_reach_the_bridge_and_nobody_else", async || {
        let stack = Stack::new();
        let bridge = stack.bridge("front", &["10.77.0.1/24"]).await;
        let open = stack.container(bridge, "open", &["10.77.0.9/24"], &[]).await;
        let mut apart = Vec::new();
        for (name, address) in [("a", "10.77.0.2/24"), ("b", "10.77.0.3/24")] {
            let container = Netns::create().unwrap();
            let link =
                Link { bridge, host_name: name.into(), peer_name: "eth0".into(), mac: None, mtu: None, isolated: true };
            stack.netlink.add_link(&link, &container).await.unwrap();
            let addresses = vec![address.parse().unwrap()];
            let interface = Interface { name: "eth0".into(), addresses, gateways: Vec::new(), routes: Vec::new() };
            Netlink::open(&container).unwrap().configure(&[interface]).await.unwrap();
            stack.netlink.settle(&[name, "front"]).await.unwrap();
            apart.push(container);
        }
        hello(&apart[0], &stack.netns, "10.77.0.1:80").unwrap();
        // The other end is not isolated, so this is as it always is.
        hello(&apart[0], &open, "10.77.0.9:80").unwrap();
        let refused = hello(&apart[0], &apart[1], "10.77.0.3:80").unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable), "{refused}");
    });
}

#[test]
fn containers_of_a_network_and_its_bridge_talk() {
    kernel_test("containers_of_a_network_and_its_bridge_talk", async || {
        let stack = Stack::new();
        let bridge = stack.bridge("front", &["10.77.0.1/24"]).await;
        let a = stack.container(bridge, "a", &["10.77.0.2/24"], &["10.77.0.1"]).await;
        let b = stack.container(bridge, "b", &["10.77.0.3/24"], &["10.77.0.1"]).await;
        hello(&a, &b, "10.77.0.3:80").unwrap();
        hello(&b, &a, "10.77.0.2:80").unwrap();
        hello(&a, &stack.netns, "10.77.0.1:80").unwrap();
        hello(&a, &a, "127.0.0.1:80").unwrap();
        let port = stack.netlink.links().await.unwrap().into_iter().find(|link| link.name == "a").unwrap();
        assert_eq!((port.bridge, port.up), (Some(bridge), true));
    });
}

#[test]
fn first_connections_do_not_wait_for_the_link() {
    const NAME: &str = "first_connections_do_not_wait_for_the_link";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut version = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    if (version.next(), version.next()) < (Some(6), Some(8)) {
        return skip(NAME, &format!("needs Linux 6.8, this is {release}"));
    }
    kernel_test(NAME, async || {
        for _ in 0..40 {
            let stack = Stack::new();
            let bridge = stack.bridge("front", &["10.77.0.1/24"]).await;
            let a = stack.container(bridge, "a", &["10.77.0.2/24"], &["10.77.0.1"]).await;
            let start = Instant::now();
            hello(&a, &stack.netns, "10.77.0.1:80").unwrap();
            // A lost packet is sent again after a second.
            assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        }
    });
}

#[test]
fn ipv6_addresses_are_usable_at_once() {
    const NAME: &str = "ipv6_addresses_are_usable_at_once";
    if !Path::new("/proc/net/if_inet6").exists() {
        return skip(NAME, "needs IPv6");
    }
    kernel_test(NAME, async || {
        let stack = Stack::new();
        let bridge = stack.bridge("front", &["10.77.0.1/24", "fd77::1/64"]).await;
        let addresses = |last| [format!("10.77.0.{last}/24"), format!("fd77::{last}/64")];
        let gateways = ["10.77.0.1", "fd77::1"];
        let [a4, a6] = addresses(2);
        let a = stack.container(bridge, "a", &[&a4, &a6], &gateways).await;
        let [b4, b6] = addresses(3);
        let b = stack.container(bridge, "b", &[&b4, &b6], &gateways).await;
        hello(&a, &b, "[fd77::3]:80").unwrap();
        hello(&a, &stack.netns, "[fd77::1]:80").unwrap();
    });
}

#[test]
fn networks_of_a_stack_are_apart() {
    kernel_test("networks_of_a_stack_are_apart", async || {
        let stack = Stack::new();
        // As inherited from a host that routes.
        stack.netns.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
        let front = stack.bridge("front", &["10.77.0.1/24"]).await;
        let back = stack.bridge("back", &["10.78.0.1/24"]).await;
        let a = stack.container(front, "a", &["10.77.0.2/24"], &["10.77.0.1"]).await;
        let b = stack.container(back, "b", &["10.78.0.2/24"], &["10.78.0.1"]).await;
        hello(&a, &stack.netns, "10.77.0.1:80").unwrap();
        let error = hello(&a, &b, "10.78.0.2:80").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::TimedOut), "{error}");
    });
}

#[test]
fn deleting_leaves_nothing() {
    kernel_test("deleting_leaves_nothing", async || {
        let stack = Stack::new();
        let before = stack.link_names().await;
        let bridge = stack.bridge("front", &["10.77.0.1/24"]).await;
        let a = stack.container(bridge, "a", &["10.77.0.2/24"], &["10.77.0.1"]).await;
        let b = stack.container(bridge, "b", &["10.77.0.3/24"], &["10.77.0.1"]).await;
        assert_eq!(stack.netlink.routes().await.unwrap(), ["10.77.0.0/24".parse().unwrap()]);

        stack.netlink.delete_link("a").await.unwrap();
        stack.netlink.delete_link("a").await.unwrap();
        let inside = Netlink::open(&a).unwrap().links().await.unwrap();
        assert!(!inside.iter().any(|link| link.name == "eth0"), "{inside:?}");

        drop(b);
        until("the end of a veth pair goes with its namespace", async || {
            !stack.link_names().await.contains(&"b".to_owned())
        })
        .await;
        stack.netlink.delete_link("front").await.unwrap();
        assert_eq!(stack.link_names().await, before);
        assert_eq!(stack.netlink.routes().await.unwrap(), []);
    });
}

#[test]
fn links_keep_the_address_and_mtu_they_are_given() {
    kernel_test("links_keep_the_address_and_mtu_they_are_given", async || {
        let stack = Stack::new();
        let bridge = Bridge { name: "front".into(), addresses: vec!["10.77.0.1/24".parse().unwrap()], mtu: Some(1400) };
        let bridge = stack.netlink.add_bridge(&bridge).await.unwrap();
        let a = Netns::create().unwrap();
        let mac = Some([0x02, 0x42, 1, 2, 3, 4]);
        let link =
            Link { bridge, host_name: "a".into(), peer_name: "eth0".into(), mac, mtu: Some(1400), isolated: false };
        stack.netlink.add_link(&link, &a).await.unwrap();
        let shown = a
            .run(|| Ok(Command::new("ip").args(["-o", "link", "show", "eth0"]).output()?.stdout))
            .map(|shown| String::from_utf8(shown).unwrap());
        let Ok(shown) = shown else {
            return skip("links_keep_the_address_and_mtu_they_are_given", "needs ip(8)");
        };
        assert!(shown.contains("mtu 1400") && shown.contains("02:42:01:02:03:04"), "{shown}");
    });
}

#[test]
fn errors_name_what_they_are_about() {
    kernel_test("errors_name_what_they_are_about", async || {
        fn chain(error: &dyn std::error::Error) -> String {
            format!("{error}: {}", error.source().unwrap())
        }
        let stack = Stack::new();
        let bridge = Bridge { name: "front".into(), addresses: vec!["10.77.0.1/24".parse().unwrap()], mtu: None };
        let index = stack.netlink.add_bridge(&bridge).await.unwrap();
        let error = stack.netlink.add_bridge(&bridge).await.unwrap_err();
        assert_eq!(chain(&error), "cannot add bridge `front`: File exists (os error 17)");

        let peer = Netns::create().unwrap();
        let link = |bridge| Link {
            bridge,
            host_name: "a".into(),
            peer_name: "eth0".into(),
            mac: None,
            mtu: None,
            isolated: false,
        };
        let error = stack.netlink.add_link(&link(LinkIndex(4711)), &peer).await.unwrap_err();
        assert!(error.to_string().contains("cannot add the veth pair `a` and `eth0`"), "{error}");
        stack.netlink.add_link(&link(index), &peer).await.unwrap();

        let inside = Netlink::open(&peer).unwrap();
        let interface = |name: &str, gateway: &str| Interface {
            name: name.into(),
            addresses: vec!["10.77.0.2/24".parse().unwrap()],
            gateways: vec![gateway.parse().unwrap()],
            routes: Vec::new(),
        };
        let error = inside.configure(&[interface("eth1", "10.77.0.1")]).await.unwrap_err();
        assert_eq!(chain(&error), "cannot find interface `eth1`: No such device (os error 19)");
        let error = inside.configure(&[interface("eth0", "10.99.0.1")]).await.unwrap_err();
        assert_eq!(
            chain(&error),
            "cannot add a default route by 10.99.0.1 through interface `eth0`: Network is unreachable (os error 101): \
             Nexthop has invalid gateway"
        );
    });
}

/// A stack with one container, and a port of it published on the host's side, which is the test's own namespace.
struct Published {
    stack: Stack,
    container: Netns,
    forwarder: Forwarder,
}

const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

impl Published {
    async fn new(port: &str) -> Self {
        let stack = Stack::new();
        let bridge = stack.bridge("front", &["10.77.0.1/24"]).await;
        let container = stack.container(bridge, "a", &["10.77.0.2/24"], &["10.77.0.1"]).await;
        let claimed = claim_one(port);
        let target = SocketAddr::new(CONTAINER.into(), claimed.port().target);
        let forwarder = serve(claimed, target, Arc::clone(&stack.netns)).unwrap();
        Self { stack, container, forwarder }
    }

    fn address(&self) -> SocketAddr {
        self.forwarder.addresses()[0]
    }

    /// Sends everything back, and after the client's end one more word.
    fn echo(&self) {
        let listener = self
            .container
            .run(|| {
                let listener = TcpListener::bind(self.forwarder.target())?;
                // More than the 128 that may wait otherwise.
                rustix::net::listen(&listener, 4096)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = connection.split();
                    tokio::io::copy(&mut read, &mut write).await?;
                    write.write_all(b"over").await
                });
            }
        });
    }
}

fn ports(texts: &[&str]) -> Vec<Port> {
    texts.iter().flat_map(|text| Port::parse_short(text).unwrap()).collect()
}

fn claim_one(text: &str) -> Claimed {
    claim(&ports(&[text]), &[]).unwrap().remove(0)
}

#[test]
fn a_megabyte_comes_back_after_half_close() {
    kernel_test("a_megabyte_comes_back_after_half_close", async || {
        let published = Published::new("127.0.0.1::80").await;
        published.echo();
        let client = tokio::net::TcpStream::connect(published.address()).await.unwrap();
        let (mut read, mut write) = client.into_split();
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        let sent = data.clone();
        let sending = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
            write
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        sending.await.unwrap();
        assert!(received == [data.as_slice(), b"over"].concat(), "{} bytes", received.len());
    });
}

#[test]
fn two_thousand_connections_at_once() {
    kernel_test("two_thousand_connections_at_once", async || {
        // Each takes four sockets and four ends of pipes of this one process.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let clients = usize::try_from(hard / 9).map_or(2000, |most| most.min(2000));
        let published = Published::new("127.0.0.1::80").await;
        published.echo();
        let everybody = Arc::new(Barrier::new(clients));
        let address = published.address();
        let clients: Vec<_> = (0..clients)
            .map(|number| {
                let everybody = Arc::clone(&everybody);
                tokio::spawn(async move {
                    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
                    client.write_all(format!("{number:04}").as_bytes()).await.unwrap();
                    let mut answer = [0; 4];
                    client.read_exact(&mut answer).await.unwrap();
                    everybody.wait().await;
                    client.shutdown().await.unwrap();
                    let mut rest = String::new();
                    client.read_to_string(&mut rest).await.unwrap();
                    assert_eq!((answer.as_slice(), rest.as_str()), (format!("{number:04}").as_bytes(), "over"));
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        published.forwarder.stop().await;
    });
}

#[test]
fn a_client_that_reads_slowly_slows_the_server_down() {
    kernel_test("a_client_that_reads_slowly_slows_the_server_down", async || {
        let published = Published::new("127.0.0.1::80").await;
        let listener = published
            .container
            .run(|| {
                let listener = TcpListener::bind(published.forwarder.target())?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut client = tokio::net::TcpStream::connect(published.address()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        // All that the sockets and the pipe on the way hold, and then no more: nothing is kept by the forwarder itself.
        let chunk = vec![7; 64 * 1024];
        let mut sent = 0_usize;
        while let Ok(ready) = tokio::time::timeout(Duration::from_millis(500), server.writable()).await {
            ready.unwrap();
            sent += server.try_write(&chunk).unwrap_or(0);
            assert!(sent < 64 * 1024 * 1024, "it swallows whatever comes");
        }
        server.set_zero_linger().unwrap();
        let mut received = 0;
        let mut buffer = vec![0; 256 * 1024];
        while received < sent {
            received += client.read(&mut buffer).await.unwrap();
        }
        drop(server);
        assert_eq!(client.read(&mut buffer).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_refused_connection_is_reset() {
    kernel_test("a_refused_connection_is_reset", async || {
        let published = Published::new("127.0.0.1::80").await;
        let mut client = tokio::net::TcpStream::connect(published.address()).await.unwrap();
        let error = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        // And once somebody listens, it works.
        published.echo();
        let mut client = tokio::net::TcpStream::connect(published.address()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "over");
    });
}

#[test]
fn stopping_closes_connections_and_frees_the_port() {
    kernel_test("stopping_closes_connections_and_frees_the_port", async || {
        let published = Published::new("127.0.0.1::80").await;
        published.echo();
        let address = published.address();
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        published.forwarder.stop().await;
        let again = format!("{address}:80");
        let claimed = claim_one(&again);
        assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
        drop(claimed);

        let target = SocketAddr::new(CONTAINER.into(), 80);
        let forwarder = serve(claim_one(&again), target, Arc::new(Netns::create().unwrap())).unwrap();
        claim(&ports(&[&again]), &[]).unwrap_err();
        drop(forwarder);
        until("a dropped forwarder frees its port", async || claim(&ports(&[&again]), &[]).is_ok()).await;
    });
}

#[test]
fn running_out_of_descriptors_only_makes_clients_wait() {
    kernel_test("running_out_of_descriptors_only_makes_clients_wait", async || {
        let published = Published::new("127.0.0.1::80").await;
        published.echo();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // The lowest free number is the client's, and then there is none.
        let free = std::os::fd::AsRawFd::as_raw_fd(&fs::File::open("/dev/null").unwrap()) as u64;
        setrlimit(Resource::RLIMIT_NOFILE, free + 1, hard).unwrap();
        let mut client = tokio::net::TcpStream::connect(published.address()).await.unwrap();
        assert!(fs::File::open("/dev/null").is_err());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "over");
    });
}

#[test]
fn connections_leave_descriptors_to_the_stack() {
    kernel_test("connections_leave_descriptors_to_the_stack", async || {
        let published = Published::new("127.0.0.1::80").await;
        // Nobody accepts: this process has the descriptors of the container, too.
        let _listener = published.container.run(|| {
            let listener = TcpListener::bind(published.forwarder.target())?;
            rustix::net::listen(&listener, 4096)?;
            Ok(listener)
        });
        let address = published.address();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let free = std::os::fd::AsRawFd::as_raw_fd(&fs::File::open("/dev/null").unwrap()) as u64;
        setrlimit(Resource::RLIMIT_NOFILE, (free + 80) * 4 / 3, hard).unwrap();
        // Another process, whose descriptors are not counted here; more clients than there is room for.
        let script = format!(
            "import socket, sys\nall = [socket.create_connection(('127.0.0.1', {})) for _ in range(100)]\n\
             print('ready', flush=True)\nsys.stdin.read()",
            address.port()
        );
        let Ok(mut clients) =
            Command::new("python3").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            return skip("connections_leave_descriptors_to_the_stack", "needs python3");
        };
        let mut ready = [0; 6];
        clients.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        let open = || fs::read_dir("/proc/self/fd").map(Iterator::count);
        let mut before = 0;
        until("no more is taken", async || {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            let now = open().unwrap_or_default();
            std::mem::replace(&mut before, now) == now && now > 60
        })
        .await;
        let ours: Result<Vec<_>, _> = (0..16).map(|_| fs::File::open("/dev/null")).collect();
        ours.expect("some are left");
        drop(clients.stdin.take());
        clients.wait().unwrap();
    });
}

/// Whether the kernel has a timer running for a silent connection of this port (proc_net_tcp.txt: 02 before the time).
fn is_asked_for(netns: Option<&Netns>, port: u16) -> bool {
    let read = || fs::read_to_string("/proc/thread-self/net/tcp");
    let table = netns.map_or_else(read, |netns| netns.run(read)).unwrap();
    let port = format!(":{port:04X}");
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (ends, state, timer) = (&fields[1..3], fields[3], fields[5]);
        state == "01" && ends.iter().any(|end| end.ends_with(&port)) && timer.starts_with("02:")
    })
}

#[test]
fn peers_that_have_gone_without_a_word_are_found_out() {
    kernel_test("peers_that_have_gone_without_a_word_are_found_out", async || {
        let published = Published::new("127.0.0.1::80").await;
        published.echo();
        let mut client = tokio::net::TcpStream::connect(published.address()).await.unwrap();
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        assert!(is_asked_for(None, published.address().port()), "a client that is switched off is never missed");
        assert!(is_asked_for(Some(&published.stack.netns), 80), "nor is a container");
    });
}

#[test]
fn what_a_client_has_left_is_not_kept_for_who_does_not_read() {
    kernel_test("what_a_client_has_left_is_not_kept_for_who_does_not_read", async || {
        let published = Published::new("127.0.0.1::80").await;
        let listener = published.container.run(|| {
            let listener = TcpListener::bind(published.forwarder.target())?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = tokio::net::TcpListener::from_std(listener.unwrap()).unwrap();
        let client = tokio::net::TcpStream::connect(published.address()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let chunk = vec![7; 64 * 1024];
        while let Ok(ready) = tokio::time::timeout(Duration::from_millis(500), client.writable()).await {
            ready.unwrap();
            let _ = client.try_write(&chunk);
        }
        client.set_zero_linger().unwrap();
        drop(client);
        // It hears of it without having read a byte.
        server.ready(tokio::io::Interest::ERROR).await.unwrap();
    });
}

#[test]
fn whoever_has_been_answered_stays_in_a_flood() {
    kernel_test("whoever_has_been_answered_stays_in_a_flood", async || {
        let published = Published::new("127.0.0.1::53/udp").await;
        let server = published.container.run(|| {
            let server = std::net::UdpSocket::bind(published.forwarder.target())?;
            server.set_nonblocking(true)?;
            Ok(server)
        });
        let server = UdpSocket::from_std(server.unwrap()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut buffer = [0; 100];
        client.send_to(b"first", published.address()).await.unwrap();
        let (_, session) = server.recv_from(&mut buffer).await.unwrap();
        server.send_to(b"answer", session).await.unwrap();
        client.recv_from(&mut buffer).await.unwrap();
        // As many as there is room for, and then some, who say one thing each and are not answered.
        for n in 0..1100_u16 {
            let from = Ipv4Addr::new(127, 1, (n >> 8) as u8, n as u8);
            UdpSocket::bind((from, 0)).await.unwrap().send_to(b"flood", published.address()).await.unwrap();
            server.recv_from(&mut buffer).await.unwrap();
        }
        client.send_to(b"second", published.address()).await.unwrap();
        assert_eq!(server.recv_from(&mut buffer).await.unwrap().1, session, "it has lost its place");
    });
}

#[test]
fn a_thousand_udp_ports_take_next_to_nothing() {
    kernel_test("a_thousand_udp_ports_take_next_to_nothing", async || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let resident = || {
            let pages = fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
        };
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let ports = ports(&["127.0.0.1:20000-20999:20000-20999/udp"]);
        let stack = Stack::new();
        let (memory, descriptors) = (resident(), open());
        let forward = |claimed: Claimed| {
            let target = SocketAddr::new(CONTAINER.into(), claimed.port().target);
            serve(claimed, target, Arc::clone(&stack.netns)).unwrap()
        };
        let forwarders: Vec<Forwarder> = claim(&ports, &[]).unwrap().into_iter().map(forward).collect();
        // Each of them is waited for.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"x", forwarders[999].addresses()[0]).await.unwrap();
        until("the last one works", async || open() > descriptors + 1000 + 8).await;
        let grown = resident() - memory;
        assert!(grown < 32 * 1024, "{grown} KiB for {} ports", forwarders.len());
        assert!(open() < descriptors + 1100, "each has its socket twice");
    });
}

#[test]
fn udp_answers_come_from_the_address_that_was_asked() {
    kernel_test("udp_answers_come_from_the_address_that_was_asked", async || {
        let published = Published::new("53/udp").await;
        let server = published
            .container
            .run(|| {
                let server = std::net::UdpSocket::bind(published.forwarder.target())?;
                server.set_nonblocking(true)?;
                Ok(server)
            })
            .unwrap();
        let server = UdpSocket::from_std(server).unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (length, client) = server.recv_from(&mut buffer).await.unwrap();
                server.send_to(&buffer[..length], client).await.unwrap();
            }
        });
        // A connected socket hears nobody but the address that it spoke to.
        let client = async |address: &str| {
            let client = UdpSocket::bind((address.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
            client.connect((address, published.address().port())).await.unwrap();
            client
        };
        let mut clients = vec![client("127.0.0.1").await, client("127.0.0.2").await];
        if published.forwarder.addresses().len() == 2 {
            clients.push(client("::1").await);
        }
        for round in 0..3 {
            for (number, client) in clients.iter().enumerate() {
                client.send(format!("{round} of {number}").as_bytes()).await.unwrap();
            }
            for (number, client) in clients.iter().enumerate() {
                let mut buffer = [0; 64];
                let length = client.recv(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..length], format!("{round} of {number}").as_bytes());
            }
        }
    });
}

fn owner(error: &ClaimError) -> &PortOwner {
    match error {
        ClaimError::Taken(conflict) => conflict.owner.as_ref().unwrap(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_taken_port_is_named_with_its_owner() {
    kernel_test("every_taken_port_is_named_with_its_owner", async || {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // A child holds its standard input, here a listening socket, and nobody else does.
        let theirs = TcpListener::bind("[::]:0").unwrap();
        let theirs_at = theirs.local_addr().unwrap().port();
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
        let (tcp_at, udp_at) = (ours.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let asked = ports(&[
            &format!("{tcp_at}:80"),
            "127.0.0.1::80",
            &format!("127.0.0.1:{udp_at}:53/udp"),
            &format!("127.0.0.1:{theirs_at}:81"),
        ]);
        until("the child runs sleep", async || {
            fs::read_to_string(format!("/proc/{}/comm", child.id())).is_ok_and(|comm| comm == "sleep\n")
        })
        .await;
        let errors = claim(&asked, &[]).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();

        let me = std::process::id() as i32;
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(matches!(owner(&errors[0]), PortOwner::Process { pid, .. } if *pid == me), "{}", errors[0]);
        assert!(matches!(owner(&errors[1]), PortOwner::Process { pid, .. } if *pid == me), "{}", errors[1]);
        assert_eq!(
            errors[2].to_string(),
            format!("port 127.0.0.1:{theirs_at}/tcp is taken by sleep (pid {})", child.id())
        );
        // With nobody in the way all of them are to be had.
        drop((ours, udp));
        assert_eq!(claim(&asked, &[]).unwrap().len(), 4);
    });
}

#[test]
fn a_port_that_nobody_chose_is_a_real_one() {
    kernel_test("a_port_that_nobody_chose_is_a_real_one", async || {
        for text in ["80", "80/udp", "127.0.0.1::80"] {
            let claimed = claim_one(text);
            assert_ne!(claimed.published(), 0);
            assert!(claimed.addresses().iter().all(|address| address.port() == claimed.published()));
        }
        let first = claim_one("80");
        let named = format!("{}:80", first.published());
        drop(first);
        // Those with a number are taken first, wherever they stand.
        let claimed = claim(&ports(&["80", &named]), &[]).unwrap();
        assert_eq!(claimed[1].port().published, Some(claimed[1].published()));
        assert_ne!(claimed[0].published(), claimed[1].published());
    });
}

#[test]
fn a_privileged_port_is_refused_with_its_remedy() {
    kernel_test("a_privileged_port_is_refused_with_its_remedy", async || {
        let errors = thread::spawn(|| {
            // Of this thread alone; within its own namespaces even an ordinary user's process has them all.
            let none = rustix::thread::CapabilitySet::empty();
            let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
            rustix::thread::set_capabilities(None, sets).unwrap();
            claim(&ports(&["80:80", "192.0.2.1:8080:80", "127.0.0.1::80"]), &[]).unwrap_err()
        })
        .join()
        .unwrap();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(matches!(errors[0], ClaimError::Privileged { start: 1024, .. }), "{}", errors[0]);
        assert!(errors[0].hint().unwrap().ends_with("sysctl net.ipv4.ip_unprivileged_port_start=80"));
        assert_eq!(
            errors[1].to_string(),
            "port 192.0.2.1:8080/tcp cannot be published: this host has no address 192.0.2.1"
        );
    });
}
