//! What `events` tells.

use serde_json::Value;

use crate::support::{Need, Stack, needs, wait_for};

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The actions of a service, in order.
fn actions(events: &[Value], service: &str) -> String {
    let of_it = events.iter().filter(|event| event["service"] == service);
    let named = of_it.map(|event| {
        let attributes = &event["attributes"];
        let more = attributes["exitCode"].as_str().or(attributes["signal"].as_str());
        format!("{}{}", event["action"].as_str().expect("text"), more.map(|it| format!(":{it}")).unwrap_or_default())
    });
    named.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_life_is_told_in_the_words_of_docker() {
    needs!(Need::Namespaces);
    let script = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, {script:?}]}}, job: {{rootfs: host, command: [sh, -c, 'exit 3']}}}}"
    ));
    // Before there is a stack: it is waited for, and nothing is lost.
    let all = stack.nscompose().args(["events", "--json"]).start();
    let of_web = stack.nscompose().args(["events", "web"]).start();
    stack.up();
    stack.exit_code("job");
    stack.log_with("web", "ready");
    for verb in ["pause", "unpause", "stop", "start"] {
        stack.run(&[verb, "web"]).success();
    }
    wait_for("the trap", || (stack.log("web").matches("ready").count() == 2).then_some(()));
    stack.run(&["kill", "web"]).success();
    stack.exit_code("web");
    // What is there is not made anew.
    stack.up();
    let since = stack.run(&["events", "--json", "--since", "1h", "--until", "0s"]).success();
    stack.run(&["down", "-t", "0"]).success();
    let life = "create start pause unpause kill:15 die:4 stop start kill:9 die:137 start";
    wait_for("the last of the events", || {
        all.stdout().contains("\"destroy\",\"attributes\":{\"name\":\"").then_some(())
    });
    wait_for("both removals", || (all.stdout().matches("\"destroy\"").count() == 2).then_some(()));
    let events = parsed(&all.stdout());
    let told = actions(&events, "web");
    assert!(told.starts_with(life) && told.ends_with("die:137 stop destroy"), "{told}");
    assert_eq!(actions(&events, "job").split(" start").next(), Some("create"), "{}", actions(&events, "job"));
    assert!(actions(&events, "job").starts_with("create start die:3"), "{}", actions(&events, "job"));
    assert_eq!(actions(&parsed(&since.stdout), "web"), life);
    let name = format!("{}-web-1", stack.project());
    let first = events.iter().find(|event| event["service"] == "web").expect("an event");
    assert_eq!((&first["id"], &first["type"]), (&Value::from(name.clone()), &Value::from("container")));
    assert_eq!(first["attributes"]["name"], name);
    let keys: Vec<&String> = first.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["action", "attributes", "id", "service", "time", "type"]);
    wait_for("the text of the last", || of_web.stdout().contains("container destroy").then_some(()));
    let text = of_web.stdout();
    assert!(text.lines().all(|line| line.contains(&name)), "{text}");
    assert!(text.contains(&format!("container die {name} (exitCode=4, name={name})\n")), "{text}");
    // It goes on with the next one.
    stack.up();
    wait_for("another life", || (of_web.stdout().matches("container create").count() == 2).then_some(()));
}

#[test]
fn the_end_of_one_that_restarts_with_what_it_needs_is_told() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services:
  db: {rootfs: host, init: true, command: [sleep, infinity]}
  web: {rootfs: host, init: true, command: [sleep, infinity], depends_on: {db: {condition: service_started, restart: true}}}
",
    );
    stack.up();
    let first = stack.pid("web");
    let waits = stack.nscompose().args(["wait", "web"]).start();
    stack.run(&["restart", "--no-deps", "db"]).success();
    assert_eq!(stack.pid("web"), first, "it is left alone");
    stack.run(&["stop", "db"]).success();
    stack.run(&["start", "db"]).success();
    let of_web = || {
        let known = stack.run(&["events", "--json", "--since", "0", "--until", "0s"]).success();
        actions(&parsed(&known.stdout), "web")
    };
    wait_for("its second start", || (of_web().matches("start").count() == 2).then_some(()));
    assert_eq!(of_web(), "create start kill:15 die:143 start");
    let web = stack.container("web");
    assert_eq!((web.state.as_str(), web.restarts), ("running", 0), "it has not failed");
    let _ = waits.wait().code(143);
}

#[test]
fn events_of_a_time_come_to_an_end() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["events", "--until", "0s"]).success().stdout_is("");
    stack.up();
    stack.run(&["events", "--since", "2001-01-01", "--until", "2002-01-01"]).success().stdout_is("");
    let until = jiff_free_future();
    let known = stack.run(&["events", "--json", "--since", "0", "--until", &until]).success();
    assert_eq!(actions(&parsed(&known.stdout), "web"), "create start");
    stack.run(&["events", "--since", "yesterday"]).code(2).stderr_has("2026-01-02T15:04:05Z");
    // Without it only what is still to come.
    let live = stack.nscompose().args(["events", "--json"]).start();
    wait_for("the listener", || {
        stack.run(&["pause"]).success();
        stack.run(&["unpause"]).success();
        live.stdout().contains("unpause").then_some(())
    });
    assert!(!actions(&parsed(&live.stdout()), "web").contains("create"));
}

/// A second from now, in seconds since 1970.
fn jiff_free_future() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    (now.as_secs() + 1).to_string()
}
