//! Services on the layers of an image, and volumes that get what the image has.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nscompose::model::{Image, ImageRequest, PullPolicy, Rootfs};

use crate::support::{
    Need, Stack,
    image::{ImageBuilder, KEEP, busybox_root, opaque, up_on, whiteout},
    needs, wait_for,
};

/// A stack with [`KEEP`] in it, which runs, and these services.
fn stack(services: &str, rest: &str) -> Stack {
    let stack = Stack::new(&format!("services:\n  {KEEP}\n{services}\n{rest}\n"));
    let _ = stack.run(&["up", "-d", "keep"]).success();
    stack
}

#[track_caller]
fn up(stack: &Stack, image: &Image, services: &[&str]) {
    up_on(stack, &Rootfs::Layers(Box::new(image.clone())), services).unwrap_or_else(|e| panic!("{}", e.render(false)));
}

/// What is on disk, by the ids of the machine.
fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid())
}

#[test]
fn upper_layers_replace_and_delete_what_lower_ones_have() {
    needs!(Need::StaticBusybox);
    let stack = stack("  web: {rootfs: ./image, command: [sleep, '100000']}", "");
    let image = ImageBuilder::new(&stack)
        .busybox()
        .layer(|folder| {
            for name in ["etc", "gone", "hidden", "merged"] {
                fs::create_dir(folder.join(name)).expect("a folder");
                fs::write(folder.join(name).join("low"), "low").expect("a file");
            }
            fs::write(folder.join("etc/marker"), "from the middle").expect("a file");
        })
        .layer(|folder| {
            for name in ["hidden", "merged"] {
                fs::create_dir(folder.join(name)).expect("a folder");
                fs::write(folder.join(name).join("high"), "high").expect("a file");
            }
            opaque(&folder.join("hidden"));
            whiteout(&folder.join("gone"));
        });
    up(&stack, &image.build(), &["web"]);
    assert_eq!(stack.sh("web", "cat /etc/marker"), "from the middle");
    assert_eq!(
        stack.sh("web", "cat /etc/passwd | head -n 1 2>/dev/null || cat /etc/passwd").lines().next(),
        Some("root:x:0:0::/:/bin/sh")
    );
    assert_eq!(stack.sh("web", "ls /hidden /merged"), "/hidden:\nhigh\n\n/merged:\nhigh\nlow");
    stack.run(&["exec", "web", "ls", "/gone"]).failure();
    assert!(image.folder(1).join("gone/low").exists());
}

#[test]
fn services_share_layers_and_write_for_themselves() {
    needs!(Need::StaticBusybox);
    let stack = stack(
        "  one: {rootfs: ./image, command: [sleep, '100000']}\n  two: {rootfs: ./image, command: [sleep, '100000']}",
        "",
    );
    let mut image = ImageBuilder::new(&stack).busybox();
    for i in 1..135 {
        image = image.layer(|folder| {
            fs::write(folder.join("who"), i.to_string()).expect("a file");
            fs::write(folder.join(format!("only-{i}")), "").expect("a file");
        });
    }
    up(&stack, &image.build(), &["one", "two"]);
    assert_eq!(stack.sh("one", "cat /who; ls /only-1 /only-134"), "134/only-1\n/only-134");
    stack.sh("one", "echo mine > /who; touch /mine; rm /only-7");
    assert_eq!(stack.sh("two", "cat /who; ls /only-7"), "134/only-7");
    stack.run(&["exec", "two", "ls", "/mine"]).failure();
    assert_eq!(fs::read_to_string(image.folder(134).join("who")).expect("there"), "134");
    assert!(image.folder(7).join("only-7").exists());
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
    assert!(image.folder(0).exists(), "images stay");
}

#[test]
fn an_image_is_in_use_as_long_as_there_is_a_container_of_it() {
    needs!(Need::StaticBusybox);
    let stack = stack("  web: {rootfs: ./image, command: [sh, -c, 'exit 3']}", "");
    let image = ImageBuilder::new(&stack).busybox();
    let built = image.build();
    assert!(!image.store().is_in_use(&built.id));
    up(&stack, &built, &["web"]);
    assert_eq!(stack.exit_code("web"), 3);
    assert!(image.store().is_in_use(&built.id));
    stack.down();
    assert!(!image.store().is_in_use(&built.id));
}

#[test]
fn an_image_that_is_not_there_is_said_by_name() {
    needs!(Need::StaticBusybox);
    let stack = stack("  web: {rootfs: ./image, command: [sleep, '100000']}", "");
    let image = ImageBuilder::new(&stack).busybox().build();
    fs::remove_file(stack.home().join("data/v1/images/blobs").join(image.id.hex())).expect("there");
    let failure = up_on(&stack, &Rootfs::Layers(Box::new(image)), &["web"]).expect_err("no image");
    assert!(failure.render(false).contains("`image:test`"), "{}", failure.render(false));
    let request =
        ImageRequest { source: "nginx:1".parse().expect("a name"), platform: None, pull_policy: PullPolicy::default() };
    let failure = up_on(&stack, &Rootfs::Image(request), &["web"]).expect_err("not looked for");
    assert!(failure.render(false).contains("nginx"), "{}", failure.render(false));
}

#[test]
fn owners_are_those_that_the_image_has() {
    needs!(Need::StaticBusybox, Need::Ids);
    let stack = Stack::empty();
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        fs::create_dir(folder.join("www")).expect("a folder");
        for name in ["www/theirs", "www/roots"] {
            fs::write(folder.join(name), "").expect("a file");
        }
    });
    let layers = image.store().layers();
    stack.file(
        "stack.yaml",
        &format!(
            "services:\n  keep: {{rootfs: host, command: [sleep, infinity], volumes: ['{}:/layers']}}\n  web: {{rootfs: ./image, command: [sleep, '100000']}}",
            layers.display()
        ),
    );
    let _ = stack.run(&["-p", stack.project(), "up", "-d", "keep"]).success();
    // With the ids of containers, as an unpacker has them.
    let folder = image.folder(1).file_name().expect("a name").to_string_lossy().into_owned();
    let script = format!("cd /layers/{folder}/www && chown 33:34 . theirs");
    let _ = stack.run(&["-p", stack.project(), "exec", "keep", "sh", "-c", &script]).success();
    up(&stack, &image.build(), &["web"]);
    let _ = stack
        .run(&[
            "-p",
            stack.project(),
            "exec",
            "web",
            "stat",
            "-c",
            "%u %g %n",
            "/",
            "/www",
            "/www/theirs",
            "/www/roots",
        ])
        .success()
        .stdout_is("0 0 /\n33 34 /www\n33 34 /www/theirs\n0 0 /www/roots\n");
    // Or the account could not remove them.
    let _ = stack.run(&["-p", stack.project(), "exec", "keep", "chown", "-R", "0:0", "/layers"]).success();
}

#[test]
fn a_root_that_cannot_be_written_to_has_volumes_that_can() {
    needs!(Need::StaticBusybox);
    let stack = stack(
        "  web: {rootfs: ./image, read_only: true, command: [sleep, '100000'], volumes: ['data:/data', 'locked:/locked:ro']}",
        "volumes: {data: {}, locked: {}}",
    );
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        for name in ["data", "locked"] {
            fs::create_dir(folder.join(name)).expect("a folder");
            fs::write(folder.join(name).join("first"), name).expect("a file");
        }
    });
    up(&stack, &image.build(), &["web"]);
    assert_eq!(stack.sh("web", "touch /data/x && cat /data/first /locked/first"), "datalocked");
    stack.run(&["exec", "web", "touch", "/y"]).failure().stderr_has("Read-only");
    stack.run(&["exec", "web", "touch", "/locked/y"]).failure().stderr_has("Read-only");
}

#[test]
fn a_new_volume_gets_what_the_image_has_and_only_once() {
    needs!(Need::StaticBusybox);
    let stack = stack(
        "  web: {rootfs: ./image, command: [sleep, '100000'], volumes: ['data:/srv/data', /srv/anonymous, {type: volume, source: bare, target: /srv/bare, volume: {nocopy: true}}]}",
        "volumes: {data: {}, bare: {}}",
    );
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        for name in ["data", "anonymous", "bare"] {
            let folder = folder.join("srv").join(name);
            fs::create_dir_all(folder.join("deep")).expect("folders");
            fs::write(folder.join("deep/file"), name).expect("a file");
            std::os::unix::fs::symlink("/etc/marker", folder.join("link")).expect("a link");
            fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o1733)).expect("a mode");
        }
    });
    let image = image.build();
    up(&stack, &image, &["web"]);
    let look = "stat -c %a /srv/data /srv/anonymous /srv/bare; cat /srv/data/deep/file /srv/anonymous/deep/file /srv/data/link; ls /srv/bare";
    assert_eq!(stack.sh("web", look), "1733\n1733\n755\ndataanonymousfrom the root");
    stack.sh("web", "echo changed > /srv/data/deep/file; rm /srv/data/link");
    stack.down();
    let _ = stack.run(&["up", "-d", "keep"]).success();
    up(&stack, &image, &["web"]);
    assert_eq!(stack.sh("web", "cat /srv/data/deep/file; ls /srv/data"), "changed\ndeep");
    let volumes = stack.home().join("data/v1/volumes");
    assert_eq!(fs::read_dir(&volumes).expect("volumes").count(), 2, "no marker is left");
    let _ = stack.run(&["down", "-v"]).success();
    assert!(!volumes.exists());
}

#[test]
fn a_volume_keeps_the_owner_that_the_image_says_or_gets_its_user() {
    needs!(Need::StaticBusybox, Need::Ids);
    let stack = stack(
        "  web: {rootfs: ./image, user: worker, command: [sleep, '100000'], volumes: ['there:/there', 'missing:/missing']}\n  plain: {rootfs: ./image, command: [sleep, '100000'], volumes: ['plain:/theirs']}",
        "volumes: {there: {}, missing: {}, plain: {}}",
    );
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        fs::create_dir(folder.join("there")).expect("a folder");
    });
    up(&stack, &image.build(), &["web", "plain"]);
    let _ = stack.run(&["exec", "web", "stat", "-c", "%u", "/there", "/missing"]).success().stdout_is("0\n1000\n");
    // On disk, root of the container is whoever root of a container is there.
    assert_eq!(owner(&stack.volume("there")), owner(&stack.volume("plain")));
    assert_eq!(owner(&stack.volume("there")).0, nix::unistd::geteuid().as_raw());
}

#[test]
fn a_copy_that_was_cut_off_begins_anew() {
    needs!(Need::StaticBusybox);
    let stack =
        stack("  web: {rootfs: ./image, command: [sleep, '100000'], volumes: ['data:/data']}", "volumes: {data: {}}");
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        fs::create_dir(folder.join("data")).expect("a folder");
        fs::write(folder.join("data/file"), "whole").expect("a file");
    });
    let folder = stack.volume("data");
    fs::create_dir_all(&folder).expect("a volume");
    fs::write(folder.join("file"), "ha").expect("half a file");
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    fs::write(folder.with_file_name(format!(".{name}.new")), "").expect("a marker");
    up(&stack, &image.build(), &["web"]);
    assert_eq!(stack.sh("web", "cat /data/file"), "whole");
    assert!(!folder.with_file_name(format!(".{name}.new")).exists());
}

#[test]
fn a_copy_that_is_killed_begins_anew() {
    needs!(Need::StaticBusybox);
    let stack =
        stack("  web: {rootfs: ./image, command: [sleep, '100000'], volumes: ['data:/data']}", "volumes: {data: {}}");
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        fs::create_dir(folder.join("data")).expect("a folder");
        for i in 0..600 {
            fs::write(folder.join(format!("data/{i}")), i.to_string()).expect("a file");
        }
    });
    let image = image.build();
    let supervisor = stack.supervisor().expect("it runs");
    let folder = stack.volume("data");
    let up_to_its_end = |image: &Image| up_on(&stack, &Rootfs::Layers(Box::new(image.clone())), &["web"]);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| up_to_its_end(&image));
        wait_for("the copy", || fs::read_dir(&folder).ok()?.nth(10).map(drop));
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("ours");
        let result = running.join().expect("no panic");
        let copied = fs::read_dir(&folder).expect("a volume").count();
        assert!(result.is_err() || copied == 600, "{copied}");
    });
    let _ = stack.run(&["up", "-d", "keep"]).success();
    up(&stack, &image, &["web"]);
    assert_eq!(stack.sh("web", "ls /data").lines().count(), 600);
    assert_eq!(stack.sh("web", "cat /data/599"), "599");
}

#[test]
fn a_volume_of_several_services_is_filled_by_one() {
    needs!(Need::StaticBusybox);
    let services: Vec<String> = (0..6)
        .map(|i| {
            format!("  s{i}: {{rootfs: ./image, command: [sh, -c, 'ls /data/* > /tmp/seen; exec sleep 100000'], volumes: ['data:/data', 'data:/again']}}")
        })
        .collect();
    let stack = stack(&services.join("\n"), "volumes: {data: {}}");
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        fs::create_dir(folder.join("data")).expect("a folder");
        for i in 0..300 {
            fs::write(folder.join(format!("data/{i}")), vec![b'x'; 5000]).expect("a file");
        }
    });
    let names = ["s0", "s1", "s2", "s3", "s4", "s5"];
    up(&stack, &image.build(), &names);
    for name in names {
        let seen = wait_for("what it saw", || {
            let seen = stack.sh(name, "cat /tmp/seen 2>/dev/null; true");
            (!seen.is_empty()).then_some(seen)
        });
        assert_eq!(seen.lines().count(), 300, "{name} began before the volume was complete");
    }
}

#[test]
fn links_of_an_image_do_not_lead_out_of_it() {
    needs!(Need::StaticBusybox);
    let stack = stack(
        "  web: {rootfs: ./image, command: [sleep, '100000'], volumes: ['up:/up', 'away:/away', 'deep:/deep']}",
        "volumes: {up: {}, away: {}, deep: {}}",
    );
    for folder in ["outside", "beyond"] {
        fs::create_dir(stack.path(folder)).expect("a folder");
        fs::write(stack.path(folder).join("secret"), "secret").expect("a file");
    }
    let (outside, beyond) = (stack.path("outside"), stack.path("beyond"));
    let image = ImageBuilder::new(&stack).busybox().layer(|folder| {
        let up = format!("{}{}", "../".repeat(40), outside.display());
        std::os::unix::fs::symlink(up, folder.join("up")).expect("a link");
        std::os::unix::fs::symlink(&beyond, folder.join("away")).expect("a link");
        fs::create_dir(folder.join("deep")).expect("a folder");
        std::os::unix::fs::symlink(outside.join("secret"), folder.join("deep/link")).expect("a link");
    });
    up(&stack, &image.build(), &["web"]);
    for volume in ["up", "away"] {
        assert_eq!(fs::read_dir(stack.volume(volume)).expect("a volume").count(), 0, "{volume}");
    }
    assert!(fs::symlink_metadata(stack.volume("deep").join("link")).expect("copied").is_symlink());
    stack.run(&["exec", "web", "cat", "/deep/link"]).failure();
    assert!(outside.join("secret").exists() && beyond.join("secret").exists());
}

#[test]
fn a_folder_as_the_root_fills_volumes_too_and_the_host_does_not() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(
        "services:\n  web: {rootfs: ./root, command: [sleep, '100000'], volumes: ['data:/etc']}\n  host: {rootfs: host, command: [sleep, infinity], volumes: ['/var/lib']}",
    );
    stack.file(
        "stack.yaml",
        &fs::read_to_string(stack.path("stack.yaml"))
            .expect("there")
            .replace("services:", "volumes: {data: {}}\nservices:"),
    );
    busybox_root(&stack.path("root"));
    stack.up();
    assert_eq!(stack.sh("web", "cat /etc/marker"), "from the root");
    assert_eq!(stack.sh("host", "ls -A /var/lib"), "");
}

#[test]
fn a_variable_without_a_value_takes_that_of_the_image_away() {
    needs!(Need::StaticBusybox);
    let command = "command: [sleep, '100000']";
    let stack = stack(
        &format!(
            "  list: {{rootfs: ./image, environment: [GONE, HOSTNAME, 'EMPTY='], {command}}}\n  map: {{rootfs: ./image, environment: {{GONE: , OTHER: own}}, {command}}}"
        ),
        "",
    );
    let mut image = ImageBuilder::new(&stack).busybox().build();
    for name in ["GONE", "EMPTY", "OTHER"] {
        image.config.environment.insert(name.to_owned(), "of the image".to_owned());
    }
    up(&stack, &image, &["list", "map"]);
    // A shell gives itself some.
    let has = |service: &str, name: &str| {
        let all = stack.exec(service, &["cat", "/proc/self/environ"]);
        all.split('\0').find_map(|variable| variable.strip_prefix(&format!("{name}=")).map(str::to_owned))
    };
    for (name, list, map) in [
        ("GONE", None, None),
        ("EMPTY", Some(""), Some("of the image")),
        ("OTHER", Some("of the image"), Some("own")),
        ("HOSTNAME", None, Some(format!("{}-map-1", stack.project()).as_str())),
    ] {
        assert_eq!((has("list", name).as_deref(), has("map", name).as_deref()), (list, map), "{name}");
    }
}
