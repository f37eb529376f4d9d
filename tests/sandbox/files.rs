//! What files a service has: the host's, a folder's, an archive's; volumes, memory.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use crate::support::{Need, Run, Stack, image::busybox_root, needs};

#[test]
fn the_hosts_files_are_seen_and_never_written_to() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    let name = format!("/etc/{}", stack.project());
    stack.sh("web", &format!("echo mine > {name} && cat {name}"));
    assert!(!Path::new(&name).exists());
    stack.run(&["exec", "db", "test", "-e", &name]).failure();
    let usr = format!("/usr/local/{}", stack.project());
    stack.sh("web", &format!("mkdir {usr} && touch {usr}/file"));
    assert!(!Path::new(&usr).exists());
    let passwd = fs::read("/etc/passwd").expect("there");
    assert_eq!(stack.exec("web", &["cat", "/etc/passwd"]).trim(), String::from_utf8_lossy(&passwd).trim());
}

#[test]
fn a_file_of_the_host_can_be_changed_and_removed_for_the_service_alone() {
    needs!(Need::Root);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    let before = fs::read("/etc/passwd").expect("there");
    stack.sh("web", "echo more >> /etc/passwd && tail -n 1 /etc/passwd && rm /etc/shadow /etc/os-release && ! test -e /etc/os-release");
    assert_eq!(fs::read("/etc/passwd").expect("there"), before);
    assert!(Path::new("/etc/os-release").exists() && Path::new("/etc/shadow").exists());
}

#[test]
fn peoples_files_are_hidden() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    for folder in ["/home", "/root", "/tmp", "/var/tmp", "/run"] {
        assert_eq!(stack.sh("web", &format!("ls -A {folder}")), "", "{folder}");
    }
    stack.sh("web", "touch /tmp/a /root/b /var/tmp/c");
    assert!(!Path::new("/tmp/a").exists());
}

#[test]
fn a_folder_can_be_the_root() {
    needs!(Need::StaticBusybox);
    let stack =
        Stack::new("services: {web: {command: [sh, -c, 'cat /etc/marker; exec sleep 100000'], rootfs: ./root}}");
    busybox_root(&stack.path("root"));
    stack.up();
    assert_eq!(stack.log_with("web", "\n"), "from the root\n");
    stack.sh("web", "touch /etc/written");
    assert!(!stack.path("root/etc/written").exists(), "the folder itself has been written to");
    stack.run(&["exec", "web", "ls", "/usr"]).failure();
}

#[test]
fn an_archive_can_be_the_root_packed_or_not() {
    needs!(Need::StaticBusybox, Need::Program("tar"), Need::Program("gzip"));
    let stack = Stack::new(
        "services: {plain: {command: [sleep, '100000'], rootfs: ./root.tar}, packed: {command: [sleep, '100000'], rootfs: ./root.tar.gz}}",
    );
    busybox_root(&stack.path("packme"));
    for (flags, name) in [("-cf", "root.tar"), ("-czf", "root.tar.gz")] {
        let _ = Run::new("tar")
            .args(["--owner=0", "--group=0", flags, name, "-C", "packme", "."])
            .dir(stack.path(""))
            .run()
            .success();
    }
    stack.up();
    for service in ["plain", "packed"] {
        assert_eq!(stack.exec(service, &["cat", "/etc/marker"]), "from the root");
        assert_eq!(stack.exec(service, &["stat", "-c", "%u:%g", "/bin/busybox"]), "0:0");
        stack.sh(service, "touch /bin/written");
    }
}

#[test]
fn a_user_of_the_roots_own_passwd_is_found() {
    needs!(Need::StaticBusybox, Need::Ids);
    let stack = Stack::new("services: {web: {command: [sleep, '100000'], rootfs: ./root, user: worker}}");
    busybox_root(&stack.path("root"));
    stack.up();
    assert_eq!(stack.sh("web", "id -u; echo $HOME"), "1000\n/tmp");
}

#[test]
fn a_root_that_is_not_there_is_named() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {command: [sh], rootfs: ./nothing}, db: {command: [sh], rootfs: ./nothing.tar}}");
    let output = stack.run(&["up", "-d"]).failure();
    let _ = output.stderr_has("nothing");
    stack.traces().assert_gone();
}

#[test]
fn a_read_only_root_takes_nothing_but_in_its_mounts() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], read_only: true, tmpfs: /scratch, volumes: ['data:/data']}}\nvolumes: {data: {}}",
    );
    stack.up();
    for path in ["/file", "/etc/file", "/usr/file", "/var/file", "/opt/file"] {
        let output = stack.run(&["exec", "web", "touch", path]).failure();
        let _ = output.stderr_has("Read-only");
    }
    stack.sh("web", "touch /scratch/file /data/file /dev/shm/file && echo x > /dev/null");
}

#[test]
fn memory_has_its_size_and_mode() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], tmpfs: ['/small:size=1m,mode=0750', '/fixed:ro', /plain]}}",
    );
    stack.up();
    assert_eq!(stack.sh("web", "stat -c %a /small; stat -c %a /plain; stat -f -c %T /small"), "750\n1777\ntmpfs");
    assert_eq!(stack.sh("web", "echo $(($(stat -f -c '%b * %S' /small)))"), "1048576");
    let full = stack.run(&["exec", "web", "dd", "if=/dev/zero", "of=/small/x", "bs=1024", "count=2000"]).failure();
    let _ = full.stderr_has("No space");
    stack.run(&["exec", "web", "touch", "/fixed/x"]).failure();
    stack.run(&["exec", "web", "sh", "-c", "rm /small/x && cp /bin/true /small/t && /small/t"]).success();
}

#[test]
fn what_root_of_a_service_writes_through_a_bind_is_the_invokers() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./there:/here', './fixed:/fixed:ro']}}",
    );
    stack.file("there/from-outside", "hello").file("fixed/file", "kept");
    stack.up();
    assert_eq!(stack.sh("web", "cat /here/from-outside"), "hello");
    stack.sh("web", "echo inside > /here/from-inside && mkdir /here/folder && echo x >> /here/from-outside");
    let me = nix::unistd::getuid().as_raw();
    for name in ["there/from-inside", "there/folder", "there/from-outside"] {
        let meta = fs::metadata(stack.path(name)).expect("written through");
        assert_eq!(meta.uid(), me, "{name}");
    }
    assert_eq!(stack.sh("web", "stat -c %u /here/from-outside"), "0");
    stack.run(&["exec", "web", "touch", "/fixed/x"]).failure().stderr_has("Read-only");
    stack.run(&["exec", "web", "sh", "-c", "echo x > /fixed/file"]).failure();
    assert_eq!(fs::read_to_string(stack.path("fixed/file")).expect("there"), "kept");
}

#[test]
fn a_single_file_can_be_bound() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./app.conf:/etc/app.conf:ro']}}",
    );
    stack.file("app.conf", "setting\n");
    stack.up();
    assert_eq!(stack.exec("web", &["cat", "/etc/app.conf"]), "setting");
}

#[test]
fn bind_paths_can_be_relative_or_of_the_home() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let yaml = "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['~/mine:/mine', '../beside:/beside', './made:/made']}}";
    stack.file("deep/stack.yaml", &format!("name: {}\n{yaml}", stack.project()));
    stack.file("beside/file", "beside");
    fs::create_dir(stack.user_home().join("mine")).expect("a folder");
    fs::write(stack.user_home().join("mine/file"), "mine").expect("a file");
    // Relative to the file, not to where the command runs.
    stack.run(&["-f", "deep/stack.yaml", "up", "-d"]).success();
    let cat = stack.run(&["-p", stack.project(), "exec", "web", "cat", "/mine/file", "/beside/file"]).success();
    assert_eq!(cat.stdout, "minebeside");
    assert!(stack.path("deep/made").is_dir());
}

#[test]
fn a_named_volume_stays_until_it_is_removed() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['data:/data']}, other: {rootfs: host, command: [sleep, infinity], volumes: ['data:/there:ro']}}\nvolumes: {data: {}}",
    );
    stack.up();
    stack.sh("web", "echo kept > /data/file");
    assert_eq!(stack.sh("other", "cat /there/file"), "kept");
    stack.run(&["exec", "other", "touch", "/there/x"]).failure();
    let traces = stack.traces();
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
    stack.up();
    assert_eq!(stack.sh("web", "cat /data/file"), "kept");
    stack.run(&["down", "-v"]).success();
    traces.assert_gone();
    stack.up();
    stack.run(&["exec", "web", "test", "-e", "/data/file"]).failure();
}

#[test]
fn a_users_files_in_a_volume_are_that_users_again() {
    needs!(Need::Ids);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['data:/data']}}\nvolumes: {data: {}}",
    );
    stack.up();
    stack.sh("web", "touch /data/file && chown 1000:1000 /data/file");
    stack.down();
    stack.up();
    assert_eq!(stack.sh("web", "stat -c %u:%g /data/file"), "1000:1000");
    stack.run(&["down", "-v"]).success();
}

#[test]
fn an_anonymous_volume_goes_with_its_container() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], volumes: [/data]}}");
    stack.up();
    stack.sh("web", "touch /data/file");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
    stack.up();
    stack.run(&["exec", "web", "test", "-e", "/data/file"]).failure();
}

#[test]
fn the_home_of_nscompose_is_hidden() {
    needs!(Need::Root);
    // A home outside of what is hidden anyway.
    let home = format!("/opt/{}", std::process::id());
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    let run = |args: &[&str]| stack.bare().arg("--home").arg(&home).args(args).run();
    let up = run(&["up", "-d"]);
    let seen = run(&["exec", "web", "find", &home]);
    let down = run(&["down"]);
    let _ = fs::remove_dir(&home);
    up.success();
    down.success();
    assert!(!seen.stdout.contains("journal") && !seen.stdout.contains("jsonl"), "{seen}");
}

#[test]
fn devices_are_the_least_there_can_be() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    let seen = stack.sh("web", "ls /dev | xargs");
    for name in ["null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "fd", "stdin", "stdout", "stderr"] {
        assert!(seen.split(' ').any(|seen| seen == name), "{name} is missing from {seen}");
    }
    for name in ["mem", "kmsg", "vda", "sda", "kvm", "fuse"] {
        assert!(!seen.split(' ').any(|seen| seen == name), "{name} is in {seen}");
    }
    assert_eq!(stack.sh("web", "head -c 3 /dev/zero | wc -c; echo x > /dev/null"), "3");
}

#[test]
fn set_user_id_programs_gain_nothing_outside() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./there:/there']}}");
    stack.up();
    stack.sh("web", "cp /bin/sleep /there/s && chmod 4755 /there/s");
    let meta = fs::metadata(stack.path("there/s")).expect("written through");
    let set = meta.permissions().mode() & 0o4000 != 0;
    assert!(!(set && meta.uid() == 0 && nix::unistd::getuid().as_raw() != 0), "a way to root");
}

#[test]
fn a_new_volume_belongs_to_whoever_the_service_runs_as() {
    needs!(Need::Ids);
    let stack = Stack::new(
        "services: {web: {rootfs: host, user: nobody, command: [sleep, infinity], volumes: ['data:/data', '/anonymous']}}\nvolumes: {data: {}}",
    );
    stack.up();
    stack.sh("web", "touch /data/kept /anonymous/x");
    stack.down();
    stack.up();
    // It is not new any more, and nobody's all the same.
    assert_eq!(stack.sh("web", "stat -c %U /data /data/kept | xargs"), "nobody nobody");
}

#[test]
fn a_new_volume_that_cannot_be_written_to_belongs_to_its_user_too() {
    needs!(Need::Ids);
    let stack = Stack::new(
        "services: {web: {rootfs: host, user: nobody, command: [sleep, infinity], volumes: ['data:/data:ro']}}\nvolumes: {data: {}}",
    );
    stack.up();
    assert_eq!(stack.sh("web", "stat -c %U /data; touch /data/x 2>/dev/null || echo refused"), "nobody\nrefused");
}

#[test]
fn a_bind_source_that_is_made_is_said_and_open_to_look_into() {
    needs!(Need::Program("sh"));
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./made/deep:/made']}}");
    let script =
        format!("umask 077 && exec {} --home {} up -d", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
    let output = Run::new("sh").args(["-c", &script]).dir(stack.path("")).env("HOME", stack.user_home()).run();
    let output = output.success().stderr_has("warning").stderr_has(&stack.path("made/deep").display().to_string());
    output.stderr_has("`web`");
    for folder in ["made", "made/deep"] {
        assert_eq!(fs::metadata(stack.path(folder)).expect("made").mode() & 0o7777, 0o755, "{folder}");
    }
    stack.down();
    stack.up().stderr_lacks("was not there");
}

#[test]
fn a_full_disk_loses_log_lines_and_nothing_else() {
    needs!(Need::Program("unshare"), Need::Program("mount"), Need::Program("seq"));
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "while ! test -e /ctl/full; do sleep 0.02; done; i=0; while test $$i -lt 20; do seq 1 10000; i=$$((i + 1)); done; touch /ctl/done; while ! test -e /ctl/room; do sleep 0.02; done; echo room again; exec sleep infinity"], volumes: ["./ctl:/ctl"]}}"#,
    );
    stack.file("ctl/x", "");
    let script = format!(
        r#"
set -e
mount -t tmpfs -o size=1m,mode=0700 none {home}
nscompose() {{ {binary} --home {home} "$@"; }}
nscompose up -d
head -c 4000000 /dev/zero > {home}/fill 2> /dev/null || echo full
touch ctl/full
while ! test -e ctl/done; do sleep 0.02; done
nscompose ps --format json
nscompose exec web echo it lives
rm {home}/fill
touch ctl/room
while ! nscompose logs --no-log-prefix | grep -x 'room again'; do sleep 0.02; done
nscompose logs --no-log-prefix | grep -o 'of the log were lost'
nscompose down
ls -A {home}
"#,
        binary = env!("CARGO_BIN_EXE_nscompose"),
        home = stack.home().display()
    );
    let namespaces = if crate::support::is_root() { "-m" } else { "-Urm" };
    let run = Run::new("unshare").args([namespaces, "sh", "-c", &script]).dir(stack.path(""));
    let output = run.env("HOME", stack.user_home()).run().success();
    let (before, after) = output.stdout.split_once("full\n").unwrap_or_else(|| panic!("{output}"));
    assert_eq!(before, "");
    assert!(after.contains(r#""State":"running""#) || after.contains(r#""State": "running""#), "{output}");
    assert!(after.ends_with("it lives\nroom again\nof the log were lost\n"), "{output}");
}
