//! Published ports, with clients on the host.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use crate::support::{Need, Run, Stack, free_port, free_udp_port, needs, wait_for};

/// What a server says to whoever connects.
fn greeting(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

const GREETER: &str = "import socket, sys\\ns = socket.create_server(('', 80))\\nprint('ready', flush=True)\\nwhile True:\\n c, a = s.accept()\\n c.sendall(b'hello from ' + socket.gethostname().encode())\\n c.close()";

fn greeter(ports: &str) -> Stack {
    Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{GREETER}\"], hostname: the-web, ports: {ports}}}}}"
    ))
}

#[test]
fn a_tcp_port_leads_to_the_service() {
    needs!(Need::Program("python3"));
    let port = free_port();
    let stack = greeter(&format!("['{port}:80']"));
    stack.up();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(wait_for("a greeting", || greeting(address)), "hello from the-web");
    stack.down();
    assert!(TcpStream::connect(address).is_err());
    TcpListener::bind(address).expect("the port is free again");
}

#[test]
fn an_address_of_the_host_can_be_chosen() {
    needs!(Need::Program("python3"));
    let port = free_port();
    let stack = greeter(&format!("['127.0.0.2:{port}:80']"));
    stack.up();
    assert_eq!(wait_for("a greeting", || greeting(([127, 0, 0, 2], port).into())), "hello from the-web");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(stack.container("web").ports, [format!("127.0.0.2:{port}->80/tcp")]);
}

#[test]
fn a_large_answer_and_half_closed_connections_come_through() {
    needs!(Need::Program("python3"));
    let port = free_port();
    let script = "import socket\\ns = socket.create_server(('', 80))\\nwhile True:\\n c, a = s.accept()\\n d = b''\\n while True:\\n  b = c.recv(65536)\\n  if not b: break\\n  d += b\\n c.sendall(d[::-1])\\n c.close()";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{script}\"], ports: ['127.0.0.1:{port}:80']}}}}"
    ));
    stack.up();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let received = wait_for("the answer", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        stream.write_all(&sent).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).ok()?;
        (!received.is_empty()).then_some(received)
    });
    assert!(received.iter().rev().eq(&sent), "{} of {} bytes", received.len(), sent.len());
}

#[test]
fn a_udp_port_leads_to_the_service_and_back() {
    needs!(Need::Program("python3"));
    let port = free_udp_port();
    let script = "import socket\\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\\ns.bind(('', 53))\\nwhile True:\\n d, a = s.recvfrom(65536)\\n s.sendto(b're: ' + d, a)";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{script}\"], ports: ['127.0.0.1:{port}:53/udp']}}}}"
    ));
    stack.up();
    let clients: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect();
    for (i, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
        let answer = wait_for("an answer", || {
            client.send_to(format!("question {i}").as_bytes(), ("127.0.0.1", port)).ok()?;
            let mut buffer = [0; 100];
            let (n, _) = client.recv_from(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
        });
        assert_eq!(answer, format!("re: question {i}"));
    }
    stack.down();
    UdpSocket::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn a_taken_port_is_refused_before_anything_starts() {
    needs!(Need::Namespaces);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let stack = Stack::new(&format!(
        "services: {{db: {{rootfs: host, command: [sleep, infinity]}}, web: {{rootfs: host, command: [sleep, infinity], depends_on: [db], ports: ['127.0.0.1:{port}:80']}}}}"
    ));
    let watch = stack.watch();
    let output = stack.run(&["up", "-d"]).failure();
    let output = output.stderr_has(&port.to_string()).stderr_has(&format!("{}", std::process::id()));
    let _ = output.stderr_lacks("db started").stderr_has("hint");
    watch.finish().assert_gone();
    drop(listener);
    stack.up();
}

#[test]
fn a_port_that_another_stack_has_names_it() {
    needs!(Need::Namespaces);
    let port = free_port();
    let yaml =
        format!("services: {{web: {{rootfs: host, command: [sleep, infinity], ports: ['127.0.0.1:{port}:80']}}}}");
    let (first, second) = (Stack::new(&yaml), Stack::new(&yaml));
    first.up();
    let holder = format!("stack `{}` (nscompose, pid", first.project());
    second.run(&["up", "-d"]).failure().stderr_has(&port.to_string()).stderr_has(&holder);
    first.down();
    second.up();
}

#[test]
fn a_stack_that_is_flooded_with_connections_still_obeys() {
    needs!(Need::Program("python3"), Need::Program("prlimit"));
    let port = free_port();
    let script = "import socket, threading\\ns = socket.create_server(('', 80), backlog=1000)\\nprint('ready', flush=True)\\nthreading.Event().wait()";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{script}\"], ports: ['127.0.0.1:{port}:80']}}}}\nx-nscompose: {{uplink: none}}"
    ));
    // Few descriptors, so that few clients have the same effect as ten thousand.
    let limited = Run::new("prlimit").args(["--nofile=256", env!("CARGO_BIN_EXE_nscompose"), "--home"]);
    let limited = limited.arg(stack.home()).dir(stack.path("")).env("HOME", stack.user_home());
    limited.args(["up", "-d"]).run().success();
    wait_for("the server", || stack.run(&["logs", "web"]).stdout.contains("ready").then_some(()));
    let clients: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).expect("a place in the queue");
            // For most there is no room, and they wait.
            let _ = client.write_all(b"x");
            client
        })
        .collect();
    let log = stack.home().join(format!("run/v1/{}/supervisor.log", stack.project()));
    wait_for("no room for more", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("have no place for more connections").then_some(())
    });
    assert_eq!(stack.container("web").state, "running");
    stack.run(&["exec", "web", "true"]).success();
    stack.down();
    drop(clients);
}

#[test]
fn ports_that_follow_one_another_are_one_in_a_table() {
    needs!(Need::Namespaces);
    let first = free_udp_port();
    let last = first + 2;
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sleep, infinity], ports: ['127.0.0.1:{first}-{last}:80-82/udp']}}}}"
    ));
    stack.up();
    let shown = stack.run(&["ps"]).success().stdout;
    assert!(shown.contains(&format!(" 127.0.0.1:{first}-{last}->80-82/udp ")), "{shown}");
    // For programs each is by itself.
    assert_eq!(stack.container("web").ports[1], format!("127.0.0.1:{}->81/udp", first + 1));
}

#[test]
fn the_same_port_twice_in_a_stack_is_refused() {
    needs!(Need::Namespaces);
    let port = free_port();
    let stack = Stack::new(&format!(
        "services: {{a: {{rootfs: host, command: [sleep, infinity], ports: ['127.0.0.1:{port}:80']}}, b: {{rootfs: host, command: [sleep, infinity], ports: ['127.0.0.1:{port}:81']}}}}"
    ));
    stack.run(&["up", "-d"]).failure().stderr_has(&port.to_string());
    stack.traces().assert_gone();
}

#[test]
fn a_port_left_to_the_kernel_is_shown() {
    needs!(Need::Program("python3"));
    let stack = greeter("['127.0.0.1::80']");
    stack.up();
    let ports = stack.container("web").ports;
    assert_eq!(ports.len(), 1, "{ports:?}");
    let address: SocketAddr = ports[0]
        .strip_suffix("->80/tcp")
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("{ports:?}"));
    assert_ne!(address.port(), 0);
    assert_eq!(wait_for("a greeting", || greeting(address)), "hello from the-web");
    for port in ["80", "80/tcp"] {
        assert_eq!(stack.run(&["port", "web", port]).success().stdout, format!("{address}\n"));
    }
    let other = stack.run(&["port", "web", "80/udp"]);
    assert!(other.stderr.contains("port 80/udp of service `web` is not published"), "{other}");
}

#[test]
fn a_service_that_does_not_listen_closes_the_connection() {
    needs!(Need::Namespaces);
    let port = free_port();
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sleep, infinity], ports: ['127.0.0.1:{port}:80']}}}}"
    ));
    stack.up();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let mut buffer = [0; 1];
        let end = stream.read(&mut buffer);
        let closed = match &end {
            Ok(n) => *n == 0,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        };
        assert!(closed, "{end:?}");
    }
}

#[test]
fn a_service_listening_on_ipv6_and_v4_is_reached_from_both() {
    needs!(Need::Program("python3"));
    let port = free_port();
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let stack = greeter(&format!("['[::1]:{port}:80']"));
    stack.up();
    let address: SocketAddr = format!("[::1]:{port}").parse().expect("an address");
    assert_eq!(wait_for("a greeting", || greeting(address)), "hello from the-web");
}

#[test]
fn a_port_can_lead_elsewhere_and_to_another_service_while_the_stack_runs() {
    needs!(Need::Program("python3"));
    let port = free_port();
    let script = "import socket, threading\\ndef serve(s):\\n while True:\\n  c, a = s.accept()\\n  c.sendall(('%s %s' % (socket.gethostname(), s.getsockname()[1])).encode())\\n  c.close()\\nfor p in (80, 81):\\n threading.Thread(target=serve, args=(socket.create_server(('', p)),)).start()";
    let yaml = |a: &str, b: &str| {
        let service = |name: &str, ports: &str| {
            format!(
                "  {name}: {{rootfs: host, command: [python3, -c, \"{script}\"], hostname: {name}, ports: [{ports}]}}\n"
            )
        };
        format!("services:\n{}{}", service("a", a), service("b", b))
    };
    let stack = Stack::new(&yaml(&format!("'127.0.0.1:{port}:80'"), ""));
    stack.up();
    let expect = |text: &str| {
        wait_for(text, || greeting(([127, 0, 0, 1], port).into()).filter(|greeting| greeting == text));
    };
    expect("a 80");
    let to = |target: u16| format!("'127.0.0.1:{port}:{target}'");
    for (a, b, text) in
        [(to(81), String::new(), "a 81"), (String::new(), to(81), "b 81"), (to(80), String::new(), "a 80")]
    {
        stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), yaml(&a, &b)));
        stack.up();
        expect(text);
    }
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
    TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn a_service_that_is_not_root_can_listen_where_it_likes() {
    needs!(Need::Ids, Need::Program("python3"));
    let port = free_port();
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{GREETER}\"], user: '1000:1000', hostname: the-web, ports: ['127.0.0.1:{port}:80']}}}}"
    ));
    stack.up();
    assert_eq!(stack.sh("web", "id -u"), "1000");
    stack.log_with("web", "ready");
    assert_eq!(wait_for("a greeting", || greeting(([127, 0, 0, 1], port).into())), "hello from the-web");
}

#[test]
fn of_a_range_the_first_free_port_is_taken_and_shown() {
    // Two that are free side by side, most likely.
    let first = free_port().min(65_500);
    let last = first + 20;
    let yaml = format!(
        "services: {{web: {{rootfs: host, command: [sleep, infinity], ports: ['127.0.0.1:{first}-{last}:80', '127.0.0.1::81', '53/udp']}}}}"
    );
    let (one, two) = (Stack::new(&yaml), Stack::new(&yaml));
    let port = |stack: &Stack, words: &[&str]| -> SocketAddr {
        let shown = stack.nscompose().args(["port", "web"]).args(words).run().success().stdout;
        shown.trim().parse().unwrap_or_else(|e| panic!("{e}: {shown}"))
    };
    one.up();
    two.up();
    let (a, b) = (port(&one, &["80"]), port(&two, &["80"]));
    assert!(a != b && [a, b].iter().all(|at| (first..=last).contains(&at.port())), "{a} {b}");
    assert_ne!(port(&one, &["81"]).port(), 0);
    assert_ne!(port(&one, &["--protocol", "udp", "53"]).port(), 0);
    assert!(one.container("web").ports.contains(&format!("{a}->80/tcp")), "{:?}", one.container("web").ports);
    let none = one.nscompose().args(["port", "web", "82"]).run();
    assert!(none.code == 1 && none.stderr.contains("port 82/tcp of service `web` is not published"), "{none}");
}
