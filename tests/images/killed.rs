//! Pulls that are killed on the way.

use std::fs;

use nix::sys::signal::Signal;

use super::{
    archive::Archive,
    door::Door,
    made::{Layout, Made, assert_whole, listed, rows, store},
    server::Server,
};
use crate::support::{Need, Stack, Started, needs, program, wait_for};

/// Something that comes in many pieces, and unpacks to many files.
fn image() -> Layout {
    let mut many = Archive::new();
    for i in 0..300 {
        many = many.file(&format!("many/{i}"), [i as u8; 3000]);
    }
    Made::busybox().layer(many).gzip(Archive::new().file("last", "last")).write()
}

/// The processes that work for a command: those whose parent it is.
fn children(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// Kills a command, or only the process that works for it.
fn kill(command: Started, worker: bool) {
    let workers = children(command.pid());
    if worker {
        for pid in workers {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = command.wait().failure();
    } else {
        command.signal(Signal::SIGKILL);
        assert_eq!(command.wait().code, 137);
        for pid in workers {
            wait_for("the end of the process that works", || ended(pid).then_some(()));
        }
    }
}

/// The image comes after all, and nothing is left of what was before.
#[track_caller]
fn comes_after_all(stack: &Stack, name: &str, image: &Layout) {
    let _ = stack.run(&["pull", name]).success();
    assert_whole(stack);
    assert_eq!(rows(stack).len(), 1);
    let _ = stack.run(&["image", "prune"]).success();
    for folder in ["partial", "unpacking"] {
        assert_eq!(listed(stack, folder), [""; 0], "{folder}");
    }
    assert_eq!(listed(stack, "layers").len(), image.diff_ids.len());
    assert_eq!(listed(stack, "blobs").len(), image.layers.len() + 2);
    assert_eq!(listed(stack, "names").len(), 1, "{:?}", listed(stack, "names"));
}

#[test]
fn a_pull_killed_anywhere_leaves_nothing_that_is_in_the_way() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let image = image();
    server.put(image.path(), "app", None);
    let busybox = fs::metadata(program("busybox").unwrap()).unwrap().len() as usize;
    let most = busybox + 300 * 3584;
    let door = Door::to(server.port);
    let name = format!("{}/app", door.host());
    // From before the first byte to beyond the last layer.
    let moments = [0, 500, 1500, 3000, 5000, 20_000, most / 4, most / 2, most / 4 * 3, most - 300_000, most];
    for (number, moment) in moments.into_iter().enumerate() {
        let stack = Stack::empty();
        door.shut_after(moment);
        let mut pull = stack.nscompose().args(["pull", &name]).start();
        wait_for("the shut door", || (door.is_shut() || !pull.is_running()).then_some(()));
        if pull.is_running() {
            kill(pull, number % 3 == 2);
        }
        door.open();
        let _ = stack.run(&["images"]).success();
        // As one that is killed while it writes a name leaves it.
        fs::write(store(&stack, "names/half.1.new"), "{").unwrap();
        comes_after_all(&stack, &name, &image);
    }
}

#[test]
fn what_had_come_before_the_kill_is_not_asked_for_again() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let image = image();
    server.put(image.path(), "app", None);
    let door = Door::to(server.port);
    let name = format!("{}/app", door.host());
    let stack = Stack::empty();
    door.shut_after(2_000_000);
    let pull = stack.nscompose().args(["pull", &name]).start();
    wait_for("the shut door", || door.is_shut().then_some(()));
    let kept = || -> u64 {
        let files =
            ["partial", "blobs"].map(|folder| fs::read_dir(store(&stack, folder)).into_iter().flatten().flatten());
        files.into_iter().flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    };
    wait_for("what has come", || (kept() > 1_900_000).then_some(()));
    kill(pull, false);
    door.open();
    let all: u64 = image
        .layers
        .iter()
        .map(|layer| fs::metadata(image.path().join("blobs/sha256").join(layer.hex())).unwrap().len())
        .sum();
    comes_after_all(&stack, &name, &image);
    assert!((door.come() as u64) < all - 1_700_000, "{} of {all} have come again", door.come());
}

#[test]
fn up_killed_while_it_pulls_can_be_done_again() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let image = image();
    server.put(image.path(), "app", None);
    let door = Door::to(server.port);
    let stack = Stack::new(&format!("services:\n  web: {{image: '{}/app'}}\n", door.host()));
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        door.shut_after(1_000_000);
        let up = stack.nscompose().args(["up", "-d"]).start();
        wait_for("the shut door", || door.is_shut().then_some(()));
        // As Ctrl-C and `kill` do, and only to the command that people see.
        let workers = children(up.pid());
        up.signal(signal);
        assert_eq!(up.wait().code, 128 + signal as i32);
        for pid in workers {
            wait_for("the end of the process that works", || ended(pid).then_some(()));
        }
        door.open();
        // Nobody keeps the store.
        let _ = stack.run(&["image", "prune"]).success();
        assert!(stack.supervisor().is_none());
    }
    stack.up();
    assert_eq!(stack.sh("web", "cat /last"), "last");
    assert_whole(&stack);
}

#[test]
fn a_load_killed_while_it_unpacks_leaves_nothing_that_is_in_the_way() {
    needs!(Need::StaticBusybox, Need::Program("skopeo"));
    let mut large = Archive::new();
    for i in 0..2500 {
        large = large.file(&format!("many/{i}"), "x");
    }
    let image = Made::busybox().layer(large).write();
    for (number, moment) in [1, 50, 1000].into_iter().enumerate() {
        let stack = Stack::empty();
        image.copy_to(&format!("docker-archive:{}:app:1", stack.path("image.tar").display()));
        let mut load = stack.nscompose().args(["load", "-i", "image.tar"]).start();
        let folder = store(&stack, "unpacking").join(image.diff_ids[1].hex()).join("many");
        wait_for("files", || {
            let files = fs::read_dir(&folder).map_or(0, Iterator::count);
            (files >= moment || !load.is_running()).then_some(())
        });
        if load.is_running() {
            kill(load, number % 2 == 1);
        }
        let _ = stack.run(&["load", "-i", "image.tar"]).success();
        assert_whole(&stack);
        let _ = stack.run(&["image", "prune"]).success();
        for (folder, count) in [("partial", 0), ("unpacking", 0), ("layers", 2), ("blobs", 4), ("names", 1)] {
            assert_eq!(listed(&stack, folder).len(), count, "{folder}");
        }
    }
}
