//! Taking images away, and what stays.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    archive::Archive,
    made::{Made, assert_nothing_kept, assert_whole, listed, names, rows},
    server::Server,
};
use crate::support::{Need, Stack, needs};

#[test]
fn an_image_in_use_is_not_removed_and_shared_layers_stay() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let app = Made::busybox().layer(Archive::new().file("app", "app")).write();
    let other = Made::busybox().layer(Archive::new().file("other", "other")).write();
    server.put(app.path(), "app", None);
    server.put(other.path(), "other", None);
    let (name, other_name) = (format!("{}/app", server.host()), format!("{}/other", server.host()));
    let stack =
        Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n  done: {{image: '{name}', command: ['true']}}\n"));
    let _ = stack.run(&["pull", &other_name]).success();
    stack.up();
    let user = format!("{}/web", stack.project());
    let usage = |kind: &str| -> Value {
        let rows = stack.run(&["system", "df", "--format", "json"]).success().stdout;
        let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
        rows.into_iter().find(|row| row["Type"] == kind).unwrap()
    };
    let images = usage("Images");
    assert_eq!((images["Total"].as_u64(), images["Active"].as_u64()), (Some(2), Some(1)), "{images}");
    // Busybox is shared, and in use.
    assert!(images["Size"].as_u64().unwrap() > 2 * images["Reclaimable"].as_u64().unwrap(), "{images}");
    assert_eq!(usage("Containers")["Total"].as_u64(), Some(2));
    let table = stack.run(&["system", "df"]).success().stdout;
    assert!(table.starts_with("TYPE") && table.lines().count() == 4, "{table}");

    for word in [&name, &rows(&stack)[0].id] {
        let refused = stack.run(&["rmi", word]).failure().stderr_has("is in use");
        let _ = refused.stderr_has(&user).stderr_has("take the stack down first");
    }
    // All or nothing.
    let _ = stack.run(&["rmi", &other_name, &name]).failure();
    assert_eq!(names(&stack).len(), 2);
    // A further name may go.
    let _ = stack.run(&["tag", &name, "mine:1"]).success();
    let _ = stack.run(&["rmi", "mine:1"]).success().stderr_has("untagged");
    let _ = stack.run(&["image", "prune", "--all"]).success().stderr_has(&other_name);
    assert_eq!(names(&stack), [format!("{name}:latest")]);
    assert_eq!(stack.sh("web", "cat /app"), "app");
    let _ = stack.run(&["pull", &other_name]).success();
    stack.down();

    let removed = stack.run(&["rmi", &name]).success().stderr_has("untagged").stderr_has("removed");
    let layers: BTreeSet<String> = listed(&stack, "layers").into_iter().collect();
    assert_eq!(layers, other.diff_ids.iter().map(|id| id.hex().to_owned()).collect(), "{removed}");
    assert_eq!(listed(&stack, "blobs").len(), 4);
    assert_whole(&stack);
    let _ = stack.run(&["rmi", &name]).failure().stderr_has("there is no image");
    let _ = stack.run(&["image", "rm", &other_name]).success();
    assert_nothing_kept(&stack);
}

#[test]
fn prune_takes_what_has_lost_its_name_and_no_more() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let version = |text: &str| Made::busybox().layer(Archive::new().file("version", text)).write();
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n"));
    let [one, two, three] = ["1", "2", "3"].map(version);
    server.put(one.path(), "app", None);
    stack.up();
    for image in [&two, &three] {
        server.put(image.path(), "app", None);
        let _ = stack.run(&["pull", &name]).success();
    }
    assert_eq!(rows(&stack).len(), 3);
    assert_eq!(stack.run(&["images", "-q"]).success().stdout.lines().count(), 1);
    let pruned = stack.run(&["image", "prune", "-f"]).success().stderr_has("freed");
    let left: BTreeSet<String> = rows(&stack).into_iter().map(|row| row.id).collect();
    assert_eq!(left, [one.id.to_string(), three.id.to_string()].into(), "the first is in use: {pruned}");
    assert_eq!(listed(&stack, "layers").len(), 3);
    assert_eq!(stack.sh("web", "cat /version"), "1");
    stack.up();
    assert_eq!(stack.sh("web", "cat /version"), "3");
    let _ = stack.run(&["image", "prune"]).success();
    assert_eq!(rows(&stack).len(), 1);
    stack.down();
    let _ = stack.run(&["image", "prune", "-a"]).success().stderr_has("untagged");
    assert_nothing_kept(&stack);
}

#[test]
fn down_takes_images_along_that_nobody_else_runs() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let app = Made::busybox().layer(Archive::new().file("app", "app")).write();
    let other = Made::busybox().layer(Archive::new().file("other", "other")).write();
    server.put(app.path(), "app", None);
    server.put(other.path(), "other", None);
    let (name, other_name) = (format!("{}/app:latest", server.host()), format!("{}/other:latest", server.host()));
    let stack = Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n  two: {{image: '{other_name}'}}\n"));
    stack.up();
    let second = format!("{}-second", stack.project());
    let _ = stack.run(&["-p", &second, "up", "-d", "web"]).success();
    let _ = stack.run(&["down", "--rmi", "local"]).success();
    assert_eq!(names(&stack).len(), 2, "none is local");
    stack.up();
    let down = stack.run(&["down", "--rmi", "all"]).success().stderr_has(&format!("warning: image `{name}` is in use"));
    let _ = down.stderr_has(&format!("{second}/web"));
    assert_eq!(names(&stack), std::slice::from_ref(&name));
    // Of a service, its own; also when there is no container of it any more.
    let _ = stack.run(&["-p", &second, "down", "--rmi", "all", "two"]).success();
    assert_eq!(names(&stack), [name]);
    let _ = stack.run(&["-p", &second, "down"]).success();
    let _ = stack.run(&["-p", &second, "down", "--rmi", "all"]).success().stderr_has("untagged");
    assert_nothing_kept(&stack);
}
