//! Pid 1 of a container that asks for one, and of a pid namespace that several containers share.

use std::os::fd::AsFd;

use crate::sys::{
    memory,
    process::{self, Child},
};

/// Waits for the end of `main`, reaps whatever else ends meanwhile, passes signals on, and ends as `main` did. When pid 1
/// ends the kernel ends everything else in the pid namespace (pid_namespaces(7)).
///
/// Signals are blocked and taken one by one: a blocked signal waits even for pid 1, which otherwise gets none that it does
/// not handle.
pub(super) fn supervise(main: &Child) -> ! {
    // The log pipes have to close when the last program does, not when init does.
    let _ = process::close_all_but(0, &[main.pidfd.as_fd()]);
    let _ = rustix::thread::set_name(c"init");
    process::block_signals();
    loop {
        // Before the first wait too: a child that ended before the signals were blocked has left no signal.
        while let Ok(Some((pid, status))) = process::reap_any() {
            if pid == main.pid {
                process::exit_now(status.shell_code());
            }
        }
        match process::next_signal() {
            libc::SIGCHLD => {}
            number => {
                // A filter of system calls may be older than this one; until it is collected the number is its own.
                if main.pidfd.signal(number).is_err() {
                    let _ = process::signal(main.pid, number);
                }
            }
        }
    }
}

/// Holds a pid namespace until it is killed, reaping whatever ends.
pub(super) fn hold() -> ! {
    let _ = process::close_all_but(0, &[]);
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"nsc-init");
    // Without the keeper nobody knows of it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    process::block_signals();
    memory::give_back_program();
    loop {
        while let Ok(Some(_)) = process::reap_any() {}
        process::next_signal();
    }
}
