//! Who files belong to, inside and on the host.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
};

use crate::support::{
    Need, Run, Stack,
    image::{ImageBuilder, KEEP, up_on},
    is_root, needs,
};

fn me() -> (u32, u32) {
    (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
}

fn owner(stack: &Stack, path: &str) -> (u32, u32) {
    let meta = fs::symlink_metadata(stack.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    (meta.uid(), meta.gid())
}

#[test]
fn what_the_users_own_number_writes_is_the_users() {
    needs!(Need::OrdinaryUser);
    let (uid, gid) = me();
    let stack = Stack::new(&format!(
        "
services:
  both: {{rootfs: host, command: [sh, -c, 'touch /there/both; exec sleep infinity'], user: '{uid}:{gid}', volumes: ['./there:/there', 'data:/data'], tmpfs: ['/own:uid={uid},gid={gid},mode=700']}}
  alone: {{rootfs: host, command: [sh, -c, 'touch /there/alone; exec sleep infinity'], user: '{uid}', volumes: ['./there:/there']}}
  root: {{rootfs: host, command: [sleep, infinity], volumes: ['./there:/there', 'data:/data']}}
volumes: {{data: {{}}}}
"
    ));
    stack.file("there/mine", "mine");
    stack.up();
    assert_eq!(stack.sh("both", "id -u; id -g; stat -c %u:%g /there/mine"), format!("{uid}\n{gid}\n{uid}:{gid}"));
    stack.sh("both", "echo more >> /there/mine; touch /there/exec /data/both");
    stack.sh("alone", "touch /there/exec-alone");
    stack.sh("root", "touch /there/root /data/root");
    for file in ["both", "alone", "exec", "exec-alone", "root", "mine"] {
        assert_eq!(owner(&stack, &format!("there/{file}")), (uid, gid), "{file}");
    }
    // Nobody has rights that the others do not: who is not root has none.
    assert_eq!(
        stack.sh("both", "sed -n 's/^CapEff:\\t*//p;s/^CapBnd:\\t*//p' /proc/self/status | head -n 1"),
        "0000000000000000"
    );
    assert_eq!(stack.sh("both", "stat -c %u:%g:%a /own; touch /own/x"), format!("{uid}:{gid}:700"));
    // What one of them makes in a volume is the same person's for the others.
    assert_eq!(stack.sh("both", "stat -c %u:%g /data/root"), format!("{uid}:{gid}"));
    assert_eq!(stack.sh("root", "stat -c %u:%g /data/both"), "0:0");
    // Its own processes can be looked into, and its log can be written to again.
    stack.sh("both", "cat /proc/1/environ > /dev/null; readlink /proc/1/exe");
    assert_eq!(fs::metadata(stack.volume("data")).expect("there").uid(), uid);
}

#[test]
fn services_that_share_namespaces_each_have_their_own_user() {
    needs!(Need::OrdinaryUser);
    let (uid, gid) = me();
    let stack = Stack::new(&format!(
        "
services:
  root: {{rootfs: host, command: [sleep, infinity], volumes: ['./there:/there']}}
  mine: {{rootfs: host, command: [sleep, infinity], user: '{uid}:{gid}', network_mode: 'service:root', ipc: 'service:root', pid: 'service:root', volumes: ['./there:/there']}}
"
    ));
    stack.file("there/x", "");
    stack.up();
    assert_eq!(stack.sh("root", "touch /there/root; id -u; stat -c %u /there/x"), "0\n0");
    assert_eq!(stack.sh("mine", "touch /there/mine; id -u; stat -c %u /there/x"), format!("{uid}\n{uid}"));
    assert_eq!((owner(&stack, "there/root"), owner(&stack, "there/mine")), ((uid, gid), (uid, gid)));
    assert_eq!(stack.namespace("root", "net"), stack.namespace("mine", "net"));
}

#[test]
fn the_number_can_be_all_that_there_is() {
    needs!(Need::SingleId);
    let (uid, gid) = me();
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sleep, infinity], user: '{uid}', init: true, volumes: ['./there:/there', 'data:/data']}}}}\nvolumes: {{data: {{}}}}"
    ));
    stack.file("there/x", "");
    stack.up();
    assert_eq!(
        stack.sh("web", "touch /there/y /data/y; id -u; stat -c %u /there/x /data"),
        format!("{uid}\n{uid}\n{uid}")
    );
    assert_eq!(owner(&stack, "there/y"), (uid, gid));
    // Any other is somebody who does not exist.
    let other = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], user: '77'}}");
    let _ = other.run(&["up", "-d"]).failure().stderr_has("single id");
}

#[test]
fn files_that_an_image_has_for_the_number_are_its_programs() {
    needs!(Need::OrdinaryUser, Need::Ids, Need::StaticBusybox, Need::Program("unshare"));
    let (uid, gid) = me();
    let stack = Stack::new(&format!(
        "services: {{{KEEP}, web: {{rootfs: host, command: [sleep, '100000'], user: '{uid}:{gid}', volumes: ['data:/home/app/data', './there:/there']}}}}\nvolumes: {{data: {{}}}}"
    ));
    stack.file("there/x", "");
    stack.run(&["up", "-d", "keep"]).success();
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        fs::create_dir_all(folder.join("home/app/data/deep")).expect("folders");
        fs::create_dir_all(folder.join("srv/roots")).expect("folders");
        fs::write(folder.join("home/app/file"), "text").expect("a file");
        fs::write(folder.join("home/app/data/deep/file"), "text").expect("a file");
        // The ids of the range, as unpacking gives them.
        let give = format!(
            "chown -R {uid}:{gid} home && chown {uid}:{gid} home/app/file && chmod 4755 home/app/file && chown 0:0 home"
        );
        let enter = ["--map-root-user", "--map-auto", "sh", "-c", &give];
        let _ = Run::new("unshare").args(enter).dir(folder).run().success();
    });
    let rootfs = nscompose::model::Rootfs::Layers(Box::new(image.build()));
    up_on(&stack, &rootfs, &["web"]).unwrap_or_else(|e| panic!("{}", e.render(false)));
    assert_eq!(stack.sh("web", "stat -c %u:%g:%a /home/app/file"), format!("{uid}:{gid}:4755"));
    stack.sh(
        "web",
        "echo more >> /home/app/file && touch /home/app/new /home/app/data/deep/new && rm /home/app/data/deep/file",
    );
    assert_eq!(
        stack.sh("web", "stat -c %u:%g /home/app/data /home/app/data/deep"),
        format!("{uid}:{gid}\n{uid}:{gid}")
    );
    // In the volume they are the user's, who can remove them.
    let file = fs::metadata(stack.volume("data").join("deep/new")).expect("there");
    assert_eq!((file.uid(), file.gid()), (uid, gid));
    assert!(image.folder(1).join("home/app/file").exists(), "the layer itself is as it was");
}

#[test]
fn as_root_owners_are_the_same_inside_and_outside() {
    needs!(Need::Root);
    let stack = Stack::new(
        "
services:
  user: {rootfs: host, command: [sleep, infinity], user: '1000:1001', volumes: ['./there:/there', 'data:/data']}
  root: {rootfs: host, command: [sleep, infinity], volumes: ['./there:/there', 'data:/data']}
volumes: {data: {}}
",
    );
    stack.file("there/hosts", "");
    chown(stack.path("there/hosts"), Some(1000), Some(33)).expect("root may");
    fs::set_permissions(stack.path("there"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("ours");
    stack.up();
    assert_eq!(
        stack.sh("user", "stat -c %u:%g /there/hosts && echo x >> /there/hosts && touch /there/user"),
        "1000:33"
    );
    stack.sh("root", "touch /there/root && chmod 1777 /data && touch /data/root && chown 5:6 /data/root");
    stack.sh("user", "touch /data/user");
    assert_eq!((owner(&stack, "there/user"), owner(&stack, "there/root")), ((1000, 1001), (0, 0)));
    // Two groups with different ranges see one volume alike, and so does the disk.
    let map = |service: &str| fs::read_to_string(format!("/proc/{}/uid_map", stack.pid(service))).expect("there");
    assert_ne!(map("user"), map("root"));
    assert_eq!(stack.sh("user", "stat -c %u:%g /data/root /data/user"), "5:6\n1000:1001");
    assert_eq!(stack.sh("root", "stat -c %u:%g /data/root /data/user"), "5:6\n1000:1001");
    let on_disk = |name: &str| fs::metadata(stack.volume("data").join(name)).map(|meta| (meta.uid(), meta.gid()));
    assert_eq!((on_disk("root").expect("there"), on_disk("user").expect("there")), ((5, 6), (1000, 1001)));
    assert!(is_root());
}
