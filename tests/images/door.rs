//! A way to a server that counts what goes through, and that can be shut after so many bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// A door before a server, on a port of its own. Its threads end with the test.
pub(super) struct Door {
    pub(super) port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// To the server.
    sent: usize,
    /// From the server.
    come: usize,
    /// So many bytes of the server may come.
    most: Option<usize>,
    /// Somebody waits at the shut door.
    shut: bool,
}

impl Door {
    pub(super) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (there, back) = ((client.try_clone(), server.try_clone()), shared.clone());
                let (Ok(from), Ok(to)) = there else { continue };
                let counted = shared.clone();
                thread::spawn(move || pass(from, to, |count| counted.0.lock().unwrap().sent += count));
                thread::spawn(move || pass(server, client, |count| through(&back, count)));
            }
        });
        Self { port: own, state }
    }

    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets this many bytes of the server through from now on, and nothing more until it is opened.
    pub(super) fn shut_after(&self, most: usize) {
        let mut state = self.state.0.lock().unwrap();
        *state = State { most: Some(most), ..State::default() };
    }

    /// Lets everything through, and begins to count anew.
    pub(super) fn open(&self) {
        *self.state.0.lock().unwrap() = State::default();
        self.state.1.notify_all();
    }

    /// Whether something waits at the door.
    pub(super) fn is_shut(&self) -> bool {
        self.state.0.lock().unwrap().shut
    }

    pub(super) fn sent(&self) -> usize {
        self.state.0.lock().unwrap().sent
    }

    pub(super) fn come(&self) -> usize {
        self.state.0.lock().unwrap().come
    }
}

/// Waits until these bytes may go through.
fn through((state, changed): &(Mutex<State>, Condvar), count: usize) {
    let mut state = state.lock().unwrap();
    while state.most.is_some_and(|most| state.come + count > most) {
        state.shut = true;
        state = changed.wait(state).unwrap();
    }
    state.come += count;
}

fn pass(mut from: TcpStream, mut to: TcpStream, may: impl Fn(usize)) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        may(count);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
