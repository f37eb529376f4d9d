//! Volumes and mounts in full: how they propagate, what is below them, parts of them, what drivers and names make of them.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::support::{Need, Run, Stack, image::busybox_root, needs};

/// Runs a shell with mounts of its own in the project folder; `$nscompose` is the binary with its home.
fn with_mounts(stack: &Stack, script: &str) -> crate::support::Output {
    let namespaces = if crate::support::is_root() { "-m" } else { "-Urm" };
    let script = format!(
        "set -e\nnscompose() {{ {} --home {} \"$@\"; }}\n{script}",
        env!("CARGO_BIN_EXE_nscompose"),
        stack.home().display()
    );
    let run = Run::new("unshare").args([namespaces, "sh", "-c", &script]).dir(stack.path(""));
    run.env("HOME", stack.user_home()).run()
}

#[test]
fn mounts_of_the_host_appear_where_they_are_asked_for() {
    needs!(Need::Program("unshare"), Need::Program("mount"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./there:/slave:rslave', './there:/private']}}",
    );
    stack.file("there/x", "");
    let output = with_mounts(
        &stack,
        "mount -t tmpfs none there && mount --make-shared there && mkdir there/later
         nscompose up -d
         mount -t tmpfs none there/later && touch there/later/file
         nscompose exec web sh -c 'ls /slave/later; echo then; ls /private/later'
         umount there/later
         nscompose exec web ls /slave/later
         nscompose down",
    );
    assert_eq!(output.success().stdout, "file\nthen\n");
}

#[test]
fn a_mount_that_is_not_shared_cannot_propagate() {
    needs!(Need::Program("unshare"), Need::Program("mount"));
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./there:/slave:rslave']}}");
    stack.file("there/x", "");
    let script = "mount -t tmpfs none there && mount --make-private there
         nscompose up -d";
    let output = with_mounts(&stack, script).failure().stderr_has("not a shared mount");
    let _ = output.stderr_has("mount --make-rshared");
}

#[test]
fn mounts_of_a_service_are_seen_on_the_host_by_its_root_alone() {
    needs!(Need::Program("unshare"), Need::Program("mount"));
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./there:/shared:rshared']}}");
    stack.file("there/x", "");
    // Nothing in a container may mount; that it is one and the same group of mounts is seen in what the kernel says of them.
    let script = "mount -t tmpfs none there && mount --make-shared there
         nscompose up -d
         pid=$(nscompose ps --format json | sed -n 's/.*\"PID\": *\\([0-9]*\\).*/\\1/p;s/.*\"Pid\": *\\([0-9]*\\).*/\\1/p')
         here=$(sed -n 's|.*/there .*\\(shared:[0-9]*\\).*|\\1|p' /proc/self/mountinfo)
         theirs=$(sed -n 's|.* /shared .*\\(shared:[0-9]*\\).*|\\1|p' /proc/$pid/mountinfo)
         test -n \"$here\" && test \"$here\" = \"$theirs\" && echo same
         nscompose down";
    let output = with_mounts(&stack, script);
    if crate::support::is_root() {
        assert_eq!(output.success().stdout, "same\n");
    } else {
        let _ = output.failure().stderr_has("cannot be seen on the host").stderr_has("rslave");
    }
}

#[test]
fn what_is_mounted_below_a_read_only_mount_is_read_only_unless_it_is_to_stay() {
    needs!(Need::Program("unshare"), Need::Program("mount"));
    let stack = Stack::new(
        "
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    volumes:
      - ./there:/usual:ro
      - {type: bind, source: ./there, target: /forced, read_only: true, bind: {recursive: readonly}}
      - {type: bind, source: ./there, target: /open, read_only: true, bind: {recursive: writable}}
",
    );
    stack.file("there/x", "");
    let script = "mount -t tmpfs none there && mkdir there/below && mount -t tmpfs none there/below
         nscompose up -d
         for place in usual usual/below forced forced/below open open/below; do
             nscompose exec web touch /$place/new 2>/dev/null && echo $place
         done
         nscompose down";
    assert_eq!(with_mounts(&stack, script).success().stdout, "open/below\n");
}

#[test]
fn what_is_mounted_below_can_be_left_out() {
    needs!(Need::Root, Need::Program("unshare"), Need::Program("mount"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: [{type: bind, source: ./there, target: /there, bind: {recursive: disabled}}, './there:/all']}}",
    );
    stack.file("there/below/covered", "");
    let script = "mount -t tmpfs none there/below && touch there/below/over
         nscompose up -d
         nscompose exec web ls /there/below /all/below
         nscompose down";
    assert_eq!(with_mounts(&stack, script).success().stdout, "/all/below:\nover\n\n/there/below:\ncovered\n");
}

#[test]
fn a_part_of_a_volume_is_mounted_and_nothing_outside_of_it() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services:
  web: {rootfs: host, command: [sleep, infinity], volumes: ['data:/data']}
  part:
    rootfs: host
    command: [sleep, infinity]
    depends_on: [web]
    volumes: [{type: volume, source: data, target: /part, volume: {subpath: a/b}}]
volumes: {data: {}}
",
    );
    stack.run(&["up", "-d", "web"]).success();
    stack.run(&["up", "-d"]).failure().stderr_has("data/v1/volumes").stderr_has("a/b");
    stack.run(&["up", "-d", "web"]).success();
    stack.sh("web", "mkdir -p /data/a/b && echo inside > /data/a/b/file");
    stack.up();
    assert_eq!(stack.exec("part", &["cat", "/part/file"]), "inside");
    stack.sh("part", "touch /part/new");
    assert_eq!(stack.exec("web", &["ls", "/data/a/b"]), "file\nnew");

    // Links are looked up as if the volume were the root.
    for target in ["/etc", "../../../../../../../../etc", "/proc/self/root/etc"] {
        stack.run(&["down"]).success();
        stack.run(&["up", "-d", "web"]).success();
        stack.sh("web", &format!("rm -rf /data/a && mkdir /data/a && ln -s {target} /data/a/b"));
        let output = stack.run(&["up", "-d"]).failure();
        let _ = output.stderr_has("a/b");
        assert!(!stack.ps().iter().any(|container| container.service == "part"));
        // With an /etc in the volume it is that.
        stack.run(&["up", "-d", "web"]).success();
        stack.sh("web", "mkdir -p /data/etc && touch /data/etc/of-the-volume");
        if !target.starts_with("/proc") {
            stack.up();
            assert_eq!(stack.exec("part", &["ls", "/part"]), "of-the-volume", "{target}");
        }
        stack.sh("web", "rm -rf /data/etc");
    }
    stack.run(&["down", "-v"]).success();
}

#[test]
fn mounts_below_links_stay_in_the_root() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(
        "
services:
  web:
    rootfs: ./root
    command: [sleep, '100000']
    configs: [{source: c, target: /up/nsct-config}, {source: c, target: /absolute/nsct-config}, {source: c, target: /vol/link/nsct-config}]
    tmpfs: [/up/nsct-tmpfs, /proc-link/nsct-tmpfs]
    volumes: ['./vol:/vol', './there:/absolute/deep/nsct-bind']
configs: {c: {content: text}}
",
    );
    let root = stack.path("root");
    busybox_root(&root);
    symlink("../../../../../../../..", root.join("up")).expect("a link");
    symlink("/", root.join("absolute")).expect("a link");
    symlink("/elsewhere", root.join("proc-link")).expect("a link");
    // A volume that is mounted before, with a link out of it.
    fs::create_dir(stack.path("vol")).expect("a folder");
    symlink("../../../../../../../../var", stack.path("vol/link")).expect("a link");
    stack.file("there/x", "");
    stack.up();
    for path in ["/nsct-config", "/var/nsct-config", "/deep/nsct-bind/x"] {
        stack.exec("web", &["stat", path]);
    }
    for path in ["/nsct-config", "/nsct-tmpfs", "/deep", "/elsewhere", "/var/nsct-config"] {
        assert!(!Path::new(path).exists(), "{path} was made on the host");
    }
    assert_eq!(stack.sh("web", "stat -f -c %T /nsct-tmpfs /elsewhere/nsct-tmpfs"), "tmpfs\ntmpfs");
    // Mount points are made in the writable layer, and not in the folder that the root is.
    assert!(!root.join("nsct-config").exists() && !root.join("elsewhere").exists());
}

#[test]
fn a_mount_below_proc_stays_in_the_root() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(
        "services: {web: {rootfs: ./root, command: [sleep, '100000'], tmpfs: [/link/self/root/nsct-tmpfs]}}",
    );
    busybox_root(&stack.path("root"));
    symlink("/proc", stack.path("root/link")).expect("a link");
    // Magic links of /proc lead to the root of whoever looks: the host's, while the container comes up. They are not
    // followed but read.
    stack.up();
    assert_eq!(stack.exec("web", &["stat", "-f", "-c", "%T", "/nsct-tmpfs"]), "tmpfs");
    assert!(!Path::new("/nsct-tmpfs").exists());
}

#[test]
fn files_in_memory_have_all_options_that_docker_has() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], tmpfs: ['/noexec:noexec,nr_inodes=10', '/blocks:nr_blocks=3', '/suid:suid,noatime']}}",
    );
    stack.up();
    let refused = stack.run(&["exec", "web", "sh", "-c", "cp /bin/true /noexec/t && /noexec/t"]).failure();
    let _ = refused.stderr_has("Permission denied");
    let full = stack.run(&["exec", "web", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do : > /noexec/$i; done"]);
    full.failure().stderr_has("No space");
    assert_eq!(stack.sh("web", "stat -f -c %b /blocks"), "3");
    let options = stack.sh("web", "sed -n 's|^[^ ]* /suid [^ ]* ||p' /proc/mounts");
    assert!(options.contains("noatime") && options.contains("nodev") && !options.contains("nosuid"), "{options}");
}

#[test]
fn files_in_memory_belong_to_whom_the_options_say() {
    needs!(Need::Ids);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], tmpfs: ['/t:uid=33,gid=34,mode=0700']}}",
    );
    stack.up();
    assert_eq!(stack.sh("web", "stat -c %u:%g:%a /t"), "33:34:700");
}

#[test]
fn an_id_that_the_container_does_not_have_is_said_before_anything_starts() {
    needs!(Need::SingleId);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], tmpfs: ['/t:uid=33,mode=0700']}}");
    let output = stack.run(&["up", "-d"]).failure().stderr_has("`/t`").stderr_has("33");
    assert_eq!(output.stdout, "");
    stack.traces().assert_gone();
}

#[test]
fn a_local_volume_can_be_a_folder_of_the_host_or_memory() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services:
  web: {rootfs: host, command: [sleep, infinity], volumes: ['folder:/folder', 'memory:/memory']}
  db: {rootfs: host, command: [sleep, infinity], volumes: ['memory:/memory:ro']}
volumes:
  folder: {driver: local, driver_opts: {type: none, o: bind, device: ./there}}
  memory: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: 'size=1m,mode=0750'}}
",
    );
    stack.file("there/x", "here\n");
    stack.up();
    assert_eq!(stack.sh("web", "cat /folder/x; stat -f -c %T /memory; stat -c %a:%u /memory"), "here\ntmpfs\n750:0");
    stack.sh("web", "echo shared > /memory/file && touch /folder/new");
    assert_eq!(stack.exec("db", &["cat", "/memory/file"]), "shared");
    stack.run(&["exec", "db", "touch", "/memory/x"]).failure();
    let full = stack.run(&["exec", "web", "dd", "if=/dev/zero", "of=/memory/big", "bs=1024", "count=2000"]).failure();
    let _ = full.stderr_has("No space");
    let traces = stack.traces();
    stack.run(&["down", "-v"]).success();
    traces.assert_gone();
    assert!(stack.path("there/new").exists() && stack.path("there/x").exists(), "what is the host's stays");
}

#[test]
fn a_folder_of_a_local_volume_has_to_be_there() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['folder:/folder']}}\nvolumes: {folder: {driver: local, driver_opts: {type: none, o: bind, device: ./missing}}}",
    );
    let _ = stack.run(&["up", "-d"]).failure().stderr_has("missing");
    assert!(!stack.path("missing").exists());
}

#[test]
fn a_volume_with_a_name_is_shared_between_stacks() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let (first, second) = (stack.project().to_owned(), format!("{}-other", stack.project()));
    let volume = format!("{first}-common");
    let service = "rootfs: host, command: [sleep, infinity]";
    stack.file(
        "a.yaml",
        &format!(
            "name: {first}\nservices: {{web: {{{service}, volumes: ['common:/v']}}}}\nvolumes: {{common: {{name: {volume}}}}}"
        ),
    );
    stack.file("b.yaml", &format!("name: {second}\nservices: {{web: {{{service}, volumes: ['theirs:/w']}}}}\nvolumes: {{theirs: {{external: true, name: {volume}}}}}"));
    let run = |args: &[&str]| stack.run(args);
    let missing = run(&["-f", "b.yaml", "up", "-d"]).failure().stderr_has("external").stderr_has(&volume);
    let _ = missing.stderr_has("hint");
    run(&["-f", "a.yaml", "up", "-d"]).success();
    run(&["-f", "a.yaml", "exec", "web", "touch", "/v/file"]).success();
    run(&["-f", "b.yaml", "up", "-d"]).success();
    assert_eq!(run(&["-f", "b.yaml", "exec", "web", "ls", "/w"]).success().stdout, "file\n");
    let folder = stack.home().join("data/v1/volumes").join(&volume);
    // Somebody else has it.
    run(&["-f", "a.yaml", "down", "-v"]).success().stderr_has("another stack");
    assert!(folder.join("file").exists());
    // And it is not theirs.
    run(&["-f", "b.yaml", "down", "-v"]).success();
    assert!(folder.join("file").exists());
    run(&["-f", "a.yaml", "down", "-v"]).success();
    assert!(!folder.exists());
}

#[test]
fn a_service_has_the_mounts_of_another() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services:
  db: {rootfs: host, command: [sleep, infinity], volumes: ['data:/data', './there:/there', '/anonymous'], tmpfs: [/memory]}
  web: {rootfs: host, command: [sleep, infinity], volumes_from: ['db:ro'], volumes: ['./own:/there']}
  more: {rootfs: host, command: [sleep, infinity], volumes_from: [web]}
  all: {rootfs: host, command: [sleep, infinity], volumes_from: [db]}
volumes: {data: {}}
",
    );
    stack.file("there/x", "").file("own/y", "");
    stack.up();
    stack.sh("db", "echo 1 > /data/file && echo 2 > /anonymous/file");
    assert_eq!(
        stack.sh("web", "cat /data/file /anonymous/file; ls /there; test -e /memory || echo none"),
        "1\n2\ny\nnone"
    );
    for path in ["/data/new", "/anonymous/new"] {
        stack.run(&["exec", "web", "touch", path]).failure().stderr_has("Read-only");
        stack.run(&["exec", "more", "touch", path]).failure().stderr_has("Read-only");
        stack.exec("all", &["touch", path]);
    }
    stack.exec("web", &["touch", "/there/written"]);
    assert!(stack.path("own/written").exists());
    assert_eq!(stack.exec("db", &["ls", "/anonymous"]), "file\nnew");
    // With another container of `db` it stays, as those find it that have run on.
    let pid = stack.pid("all");
    let yaml = fs::read_to_string(stack.path("stack.yaml")).expect("there").replace("tmpfs: [/memory]", "tmpfs: [/m]");
    stack.file("stack.yaml", &yaml);
    stack.up();
    stack.exec("db", &["touch", "/anonymous/of-the-next"]);
    for service in ["db", "web", "more", "all"] {
        assert_eq!(stack.exec(service, &["ls", "/anonymous"]), "file\nnew\nof-the-next", "{service}");
    }
    assert_eq!(stack.pid("all"), pid);
    // Unless a new one is asked for, and then nobody is left with an old one.
    stack.file("stack.yaml", &yaml.replace("tmpfs: [/m]", "tmpfs: [/n]"));
    stack.run(&["up", "-d", "-V"]).success();
    stack.exec("db", &["touch", "/anonymous/of-the-new-one"]);
    for service in ["db", "web", "more", "all"] {
        assert_eq!(stack.exec(service, &["ls", "/anonymous"]), "of-the-new-one", "{service}");
    }
    stack.run(&["down", "-v"]).success();
}

#[test]
fn shared_memory_has_its_size_and_is_that_of_the_namespace() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services:
  db: {rootfs: host, command: [sleep, infinity], shm_size: 4m, ipc: shareable}
  web: {rootfs: host, command: [sleep, infinity], ipc: 'service:db'}
  usual: {rootfs: host, command: [sleep, infinity]}
",
    );
    stack.up();
    let size = |service: &str| stack.sh(service, "echo $(($(stat -f -c '%b * %S' /dev/shm)))");
    assert_eq!((size("db"), size("web"), size("usual")), ("4194304".into(), "4194304".into(), "67108864".into()));
    stack.sh("db", "touch /dev/shm/file");
    assert_eq!(stack.exec("web", &["ls", "/dev/shm"]), "file");
    // Another size is another /dev/shm.
    let yaml = fs::read_to_string(stack.path("stack.yaml")).expect("there").replace("4m", "8m");
    stack.file("stack.yaml", &yaml);
    stack.up();
    assert_eq!((size("db"), size("web")), ("8388608".into(), "8388608".into()));
}

#[test]
fn the_files_of_an_image_can_be_mounted() {
    needs!(Need::Namespaces, Need::Program("tar"));
    let stack = Stack::new(
        "
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    volumes:
      - {type: image, source: 'docker-archive:./image.tar', target: /all}
      - {type: image, source: 'docker-archive:./image.tar', target: /part, image: {subpath: a/b}}
      - {type: image, source: 'docker-archive:./image.tar', target: /file, image: {subpath: a/link}}
",
    );
    archive(&stack, "first");
    stack.up();
    assert_eq!(stack.sh("web", "cat /all/a/b/file /part/file /file"), "first\nfirst\nfirst");
    for path in ["/all/new", "/part/new"] {
        stack.run(&["exec", "web", "touch", path]).failure().stderr_has("Read-only");
    }
    // As long as it is mounted it is not removed.
    stack.run(&["image", "prune", "--all"]);
    assert_eq!(stack.sh("web", "cat /all/a/b/file"), "first");
    let pid = stack.pid("web");
    stack.up();
    assert_eq!(stack.pid("web"), pid);
    archive(&stack, "second");
    stack.up();
    assert_eq!(stack.sh("web", "cat /part/file"), "second");

    let missing = fs::read_to_string(stack.path("stack.yaml")).expect("there").replace("a/b}", "not/there}");
    stack.file("stack.yaml", &missing);
    let _ = stack.run(&["up", "-d"]).failure().stderr_has("not/there");
}

/// An image in an archive, with a file that says `text`, and a link to it that leads up from its root.
fn archive(stack: &Stack, text: &str) {
    let script = format!(
        "set -e; rm -rf make && mkdir -p make/a/b && cd make && echo {text} > a/b/file && ln -s ../../../../a/b/file a/link
         tar -cf ../layer.tar --owner=0 --group=0 a && cd ..
         sum=$(sha256sum layer.tar | cut -d' ' -f1)
         printf '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' $sum > config.json
         printf '[{{\"Config\":\"config.json\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"layer.tar\"]}}]' > manifest.json
         rm -f image.tar; tar -cf image.tar config.json manifest.json layer.tar"
    );
    let _ = Run::new("sh").args(["-c", &script]).dir(stack.path("")).run().success();
}

#[test]
fn a_start_that_is_taken_back_takes_its_new_anonymous_volumes_along() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  keep: {rootfs: host, command: [sleep, infinity]}
  db: {rootfs: host, command: [sleep, infinity], volumes: [/data], environment: {A: "$A"}}
  web: {rootfs: host, command: ["$PROGRAM", infinity], volumes: [/data], depends_on: [db]}
"#,
    );
    let up = |a: &str, program: &str| {
        let up = stack.nscompose().args(["up", "-d", "keep", "db", "web"]);
        up.env("A", a).env("PROGRAM", program).run()
    };
    stack.nscompose().args(["up", "-d", "keep"]).env("A", "").env("PROGRAM", "").run().success();
    let folder = stack.home().join(format!("data/v1/stacks/{}/containers", stack.project()));
    let left = |service: &str| std::fs::read_dir(folder.join(service)).map_or(0, Iterator::count);
    assert!(up("1", "/nowhere").code(1).stderr.contains("web"));
    assert_eq!((left("db"), left("web")), (0, 0), "new volumes go");
    let _ = up("1", "sleep").success();
    stack.sh("db", "echo here > /data/file");
    stack.sh("web", "echo here > /data/file");
    // Both are replaced, and neither comes up: what the ones before have written is not lost.
    let _ = up("2", "/nowhere").code(1);
    assert!(left("db") > 0 && left("web") > 0, "old volumes stay");
    let _ = up("2", "sleep").success();
    assert_eq!(stack.sh("db", "cat /data/file") + &stack.sh("web", "cat /data/file"), "herehere");
    stack.down();
    assert!(!folder.exists());
}
