//! More clients of a published port than there is room for, and what they cost. The built-in forwarder serves them all, since there is
//! no uplink.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::support::{Need, Run, Stack, free_port, needs, wait_for};

/// Repeats what each client says, any number of them at a time.
const ECHO: &str = "import selectors, socket\\nsel = selectors.DefaultSelector()\\nl = socket.create_server(('', 80), backlog=1024)\\nsel.register(l, 1)\\nprint('ready', flush=True)\\nwhile True:\\n for k, _ in sel.select():\\n  if k.fileobj is l:\\n   c, _ = l.accept()\\n   sel.register(c, 1)\\n   continue\\n  try: d = k.fileobj.recv(65536)\\n  except OSError: d = b''\\n  if d: k.fileobj.sendall(d)\\n  else:\\n   sel.unregister(k.fileobj)\\n   k.fileobj.close()";

fn echo(port: u16) -> Stack {
    Stack::new(&format!(
        "x-nscompose: {{uplink: none}}\nservices: {{web: {{rootfs: host, command: [python3, -c, \"{ECHO}\"], ports: ['127.0.0.1:{port}:80']}}}}"
    ))
}

fn client(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("there is room in the queue");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream
}

fn say(stream: &mut TcpStream, byte: u8) -> u8 {
    stream.write_all(&[byte]).expect("a connection");
    let mut heard = [0];
    stream.read_exact(&mut heard).expect("an answer");
    heard[0]
}

#[test]
fn clients_beyond_the_limit_of_descriptors_wait_and_the_stack_can_be_used_meanwhile() {
    needs!(Need::Namespaces, Need::Program("python3"));
    let port = free_port();
    let stack = echo(port);
    let home = stack.home().display().to_string();
    let up = ["-c", "ulimit -n 256 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_nscompose"), "--home", &home, "up", "-d"];
    Run::new("sh").dir(stack.path("")).env("HOME", stack.user_home()).args(up).run().success();
    stack.log_with("web", "ready");
    // Each is a pair of descriptors, and each has something to say.
    let mut clients: Vec<TcpStream> = (0..200).map(|_| client(port)).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.write_all(&[i as u8]).expect("a connection");
    }
    let mut first = [0];
    clients[0].read_exact(&mut first).expect("an answer");
    for _ in 0..3 {
        assert_eq!(stack.sh("web", "echo here"), "here");
    }
    // Nobody was turned away: as some go, others are served, in whatever order the kernel has them.
    let mut heard = vec![first[0]];
    drop(clients.remove(0));
    for mut client in clients {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an answer");
        heard.push(byte[0]);
    }
    assert!((0..200).eq(heard.iter().map(|byte| usize::from(*byte))), "{heard:?}");
}

#[test]
fn a_silent_connection_is_two_descriptors_and_no_pipe() {
    needs!(Need::Root, Need::Program("python3"));
    let port = free_port();
    let stack = echo(port);
    stack.up();
    stack.log_with("web", "ready");
    let mut clients: Vec<TcpStream> = (0..300).map(|_| client(port)).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        assert_eq!(say(client, i as u8), i as u8);
    }
    let supervisor = stack.supervisor().expect("it runs");
    let open = |of: &str| {
        let folder = fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it runs");
        folder
            .flatten()
            .filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with(of)))
            .count()
    };
    assert!(open("socket:") >= 600);
    wait_for("pipes to be given back", || (open("pipe:") < 100).then_some(()));
    drop(clients);
    wait_for("connections to be closed", || (open("socket:") < 100).then_some(()));
}

#[test]
fn who_does_not_read_is_waited_for_and_keeps_nobody_else_waiting() {
    needs!(Need::Namespaces, Need::Program("python3"));
    let port = free_port();
    let stack = echo(port);
    stack.up();
    stack.log_with("web", "ready");
    // Until nothing more is taken: what is on its way is bounded, also by the service, which waits for its answers to be read.
    let mut greedy = client(port);
    greedy.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
    let block = vec![7; 1 << 20];
    let mut sent = 0;
    while let Ok(length) = greedy.write(&block) {
        sent += length;
        assert!(sent < 256 << 20, "somebody keeps {sent} bytes");
    }
    let mut reader = greedy.try_clone().expect("a socket");
    let mut heard = 0;
    let mut buffer = vec![0; 1 << 20];
    while heard < sent {
        let length = reader.read(&mut buffer).expect("an answer");
        assert!(length > 0 && buffer[..length].iter().all(|byte| *byte == 7), "after {heard} of {sent} bytes");
        heard += length;
    }
    assert_eq!(say(&mut greedy, 8), 8);
}
