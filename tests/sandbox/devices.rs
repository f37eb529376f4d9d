//! Devices of the host.

use crate::support::{Need, Run, Stack, needs};

#[test]
fn a_device_that_everybody_may_open_is_there() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], devices: ['/dev/zero:/dev/nothing:r', /dev/null:/opt/null]}}",
    );
    stack.up();
    assert_eq!(
        stack.sh("web", "head -c 3 /dev/nothing | wc -c; echo x > /opt/null; stat -c %F /opt/null"),
        "3\ncharacter special file"
    );
    // What is not named is not there.
    stack.run(&["exec", "web", "test", "-e", "/dev/kmsg"]).failure();
}

/// Makes a node in the project folder, whatever the file system of that.
fn node(stack: &Stack, owner: &str, mode: &str) {
    let script = format!("mknod node c 1 5 && chown {owner} node && chmod {mode} node");
    let _ = Run::new("sh").args(["-c", &script]).dir(stack.path("")).run().success();
}

#[test]
fn root_of_a_container_may_open_what_root_of_the_host_may() {
    needs!(Need::Root);
    let stack = Stack::empty();
    let node_path = stack.path("node").display().to_string();
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices: {{web: {{rootfs: host, command: [sleep, infinity], devices: ['{node_path}:/dev/mine']}}, other: {{rootfs: host, user: '33:34', command: [sleep, infinity], devices: ['{node_path}:/dev/mine:rw']}}}}",
            stack.project()
        ),
    );
    node(&stack, "0:34", "660");
    stack.up();
    assert_eq!(stack.sh("web", "stat -c %u:%g:%a /dev/mine; head -c 3 /dev/mine | wc -c"), "0:34:660\n3");
    // By its group, as on the host; and not by anybody else.
    assert_eq!(stack.sh("other", "head -c 3 /dev/mine | wc -c"), "3");
    stack.run(&["exec", "-u", "33:33", "other", "head", "-c", "3", "/dev/mine"]).failure();
    // Nobody else's business: neither the node of the host nor its folder has changed.
    let stat = Run::new("stat").args(["-c", "%u:%g:%a", &node_path]).run().success();
    assert_eq!(stat.stdout, "0:34:660\n");
}

#[test]
fn a_folder_stands_for_the_devices_below_it() {
    needs!(Need::Root);
    let stack = Stack::empty();
    let folder = stack.path("nodes");
    std::fs::create_dir_all(folder.join("deep")).expect("folders");
    let script = "mknod a c 1 5 && mknod deep/b c 1 3 && echo text > file && ln -s a link";
    let _ = Run::new("sh").args(["-c", script]).dir(&folder).run().success();
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices: {{web: {{rootfs: host, command: [sleep, infinity], devices: ['{}:/dev/all']}}}}",
            stack.project(),
            folder.display()
        ),
    );
    stack.up();
    assert_eq!(
        stack.sh("web", "cd /dev/all && stat -c %F a deep/b; ls | xargs"),
        "character special file\ncharacter special file\na deep"
    );
}

#[test]
fn a_device_that_is_not_the_users_to_give_is_refused() {
    needs!(Need::OrdinaryUser);
    // Nobody but root may write to it.
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], devices: [/dev/kmsg]}}");
    let output = stack.run(&["up", "-d"]).failure();
    let _ = output.stderr_has("open the device").stderr_has("hint");
    stack.traces().assert_gone();
}

#[test]
fn what_is_no_device_is_said() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], devices: [/etc/passwd]}}");
    let _ = stack.run(&["up", "-d"]).failure().stderr_has("/etc/passwd is not a device");
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], devices: [/dev/nsct-none]}}");
    let _ = stack.run(&["up", "-d"]).failure().stderr_has("/dev/nsct-none");
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], devices: [vendor.com/gpu=all]}}");
    let output = stack.run(&["up", "-d"]).failure();
    let _ = output.stderr_has("Container Device Interface");
}
