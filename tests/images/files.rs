//! Images in folders and files, and the way to them and back.

use std::fs;

use nscompose::model::Digest;

use super::{
    archive::Archive,
    made::{Made, assert_whole, names, rows},
    server::{Server, skopeo},
};
use crate::support::{Need, Run, Stack, needs};

#[test]
fn images_in_folders_and_files_need_no_registry() {
    needs!(Need::StaticBusybox, Need::Program("skopeo"));
    let stack = Stack::empty();
    let image = |text: &str| Made::busybox().layer(Archive::new().file("from", text)).write();
    fs::create_dir(stack.path("images")).unwrap();
    let at = stack.path("images").display().to_string();
    image("a folder").copy_to(&format!("oci:{at}/folder"));
    image("an archive").copy_to(&format!("oci-archive:{at}/oci.tar"));
    image("docker").copy_to(&format!("docker-archive:{at}/docker.tar:app:1"));
    // Two in one folder.
    for tag in ["one", "two"] {
        image(tag).copy_to(&format!("oci:{at}/both:{tag}"));
    }
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices:\n  a: {{image: 'oci:images/folder'}}\n  b: {{image: 'oci-archive:./images/oci.tar'}}\n  \
             c: {{image: 'docker-archive:images/docker.tar'}}\n  d: {{image: 'docker-archive:images/docker.tar:app:1'}}\n  \
             e: {{image: 'oci:images/both:two'}}\n",
            stack.project()
        ),
    );
    // From elsewhere: paths are relative to the file.
    let file = stack.path("stack.yaml");
    let _ = stack.nscompose().dir("/").arg("-f").arg(&file).args(["up", "-d"]).run().success();
    for (service, text) in [("a", "a folder"), ("b", "an archive"), ("c", "docker"), ("d", "docker"), ("e", "two")] {
        assert_eq!(stack.sh(service, "cat /from"), text, "{service}");
    }
    assert_eq!(names(&stack), [""; 0], "they get no name");
    let _ = stack.up().stderr_has("nothing to do");
    // A plan does not look into them, and has nothing to do either.
    let _ = stack.run(&["plan"]).success();
    assert_whole(&stack);
    // What is in the file now is what counts.
    image("another").copy_to(&format!("docker-archive:{at}/new.tar:app:1"));
    fs::rename(stack.path("images/new.tar"), stack.path("images/docker.tar")).unwrap();
    let pid = stack.pid("a");
    stack.up();
    assert_eq!(stack.sh("c", "cat /from"), "another");
    assert_eq!(stack.pid("a"), pid);
    stack.file("none.yaml", "services: {a: {image: 'oci:images/none'}}");
    let _ = stack.run(&["-f", "none.yaml", "-p", "none", "up", "-d"]).failure().stderr_has("images/none");
    stack.file("none.yaml", "services: {a: {image: 'oci:images/both:three'}}");
    let _ = stack.run(&["-f", "none.yaml", "-p", "none", "up", "-d"]).failure().stderr_has("three");
}

#[test]
fn what_is_saved_is_loaded_with_its_names() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let image = Made::busybox().gzip(Archive::new().file("hello", "world")).write();
    server.put(image.path(), "app:1", None);
    let name = format!("{}/app:1", server.host());
    let stack = Stack::new("services:\n  web: {image: 'mine:2', pull_policy: never}\n");
    let _ = stack.run(&["pull", &name]).success();
    let _ = stack.run(&["tag", &name, "mine:2"]).success().stderr_has("tagged");
    let binary = env!("CARGO_BIN_EXE_nscompose");
    for format in ["docker-archive", "oci-archive"] {
        let file = format!("{format}.tar");
        let _ = stack.run(&["save", "-o", &file, "--format", format, &name, "mine:2"]).success();
        let other = Stack::new("services:\n  web: {image: 'mine:2', pull_policy: never}\n");
        let path = stack.path(&file).display().to_string();
        let _ = other.run(&["load", "-i", &path]).success().stderr_has("mine:2").stderr_has("loaded");
        assert_eq!(names(&other), [name.clone(), "mine:2".to_owned()]);
        assert!(rows(&other).iter().all(|row| row.id == image.id.as_str()));
        other.up();
        assert_eq!(other.sh("web", "cat /hello"), "world");
        assert_whole(&other);
        // The same through a pipe.
        let third = Stack::empty();
        let (from, to) = (stack.home(), third.home());
        let pipe = format!(
            "{binary} --home {} save --format {format} {name} mine:2 | {binary} --home {} load",
            from.display(),
            to.display()
        );
        let _ = Run::new("sh").args(["-c", &pipe]).env("HOME", third.user_home()).run().success();
        assert_eq!(names(&third), names(&other));
        let seen = skopeo()
            .args(["inspect", "--raw", "--config", &format!("{format}:{path}:{}", tag(format, "mine:2"))])
            .run();
        assert_eq!(Digest::of(seen.success().stdout.as_bytes()), image.id);
    }
    let _ = stack.run(&["save", "-o", "folder", "--format", "oci-dir", "mine:2"]).success();
    let folder = format!("oci:{}", stack.path("folder").display());
    let seen = skopeo().args(["inspect", "--raw", &folder]).run().success();
    assert_eq!(Digest::of(seen.stdout.as_bytes()), image.manifest, "the manifest is the registry's");
    // Whoever reads may have had enough.
    let head = format!(
        "{{ {binary} --home {} save mine:2; echo code $? >&2; }} | head -c 1000 | wc -c",
        stack.home().display()
    );
    let head = Run::new("sh").args(["-c", &head]).env("HOME", stack.user_home()).run().success();
    assert_eq!((head.stdout.trim(), head.stderr.trim()), ("1000", "code 0"));
    let _ = stack.run(&["save", "-o", "none.tar", "none:1"]).failure().stderr_has("there is no image `none:1`");
    assert!(!stack.path("none.tar").exists());
}

/// What skopeo has to be told: it knows no short names in layouts.
fn tag(format: &str, name: &str) -> String {
    if format == "oci-archive" { format!("docker.io/library/{name}") } else { name.to_owned() }
}

#[test]
fn what_is_no_archive_is_refused_and_leaves_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    stack.file("text", "hello");
    let _ = stack.run(&["load", "-i", "text"]).failure().stderr_has("cannot load").stderr_has("text");
    let _ = stack.run(&["load", "-i", "missing"]).failure().stderr_has("missing");
    let _ = stack.nscompose().arg("load").stdin("hello").run().failure().stderr_has("standard input");
    super::made::assert_nothing_kept(&stack);
}

#[test]
fn layers_whose_last_block_is_not_filled_up_are_taken() {
    needs!(Need::StaticBusybox, Need::Program("skopeo"), Need::Program("umoci"));
    let stack = Stack::new("services:\n  web: {image: 'oci:layout:it'}\n");
    Made::busybox().write().copy_to(&format!("oci:{}:it", stack.path("layout").display()));
    stack.file("hello", "world");
    let umoci = |args: &[&str]| Run::new("umoci").args(args).dir(stack.path("")).run().success();
    // It ends with the last byte of the last file.
    let _ = umoci(&["insert", "--rootless", "--image", "layout:it", "hello", "/hello"]);
    let _ = umoci(&["insert", "--rootless", "--image", "layout:it", "--opaque", "hello", "/other"]);
    stack.up();
    assert_eq!(stack.sh("web", "cat /hello /other"), "worldworld");
    assert_whole(&stack);
}
