//! Services with several containers: how many there are, how they are found, and what changes when their number does.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Need, Run, Stack, needs, wait_for};

/// Containers by name, with their processes.
fn pids(stack: &Stack) -> BTreeMap<String, Option<i32>> {
    let prefix = format!("{}-", stack.project());
    let short = |name: String| name.strip_prefix(&prefix).unwrap_or(&name).to_owned();
    stack.ps().into_iter().map(|container| (short(container.name), container.pid)).collect()
}

fn names(stack: &Stack) -> Vec<String> {
    pids(stack).into_keys().collect()
}

/// What dig(1) prints in a service, line by line.
fn dig(stack: &Stack, service: &str, args: &[&str]) -> Vec<String> {
    let command = [&["exec", service, "dig", "+tries=1", "+time=20", "+short"], args].concat();
    stack.run(&command).success().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn the_name_of_a_service_is_all_its_replicas_in_turn() {
    needs!(Need::Program("dig"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity], scale: 3, networks: {default: {aliases: [pages]}}}
  client: {rootfs: host, command: [sleep, infinity], links: ["web:site"]}
"#,
    );
    stack.up();
    let project = stack.project();
    assert_eq!(names(&stack), ["client-1", "web-1", "web-2", "web-3"]);
    let each: Vec<Vec<String>> =
        (1..=3).map(|number| dig(&stack, "client", &[&format!("{project}-web-{number}")])).collect();
    assert!(each.iter().all(|found| found.len() == 1), "{each:?}");
    let all: BTreeSet<String> = each.into_iter().flatten().collect();
    assert_eq!(all.len(), 3, "{all:?}");
    for name in ["web", "pages", "site", &format!("web.{project}_default")] {
        let found = dig(&stack, "client", &[name]);
        assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (3, all.clone()), "{name}");
    }
    // Each is the first of an answer at some time: clients take that one.
    let mut firsts = BTreeSet::new();
    wait_for("every replica to be the first", || {
        firsts.insert(dig(&stack, "client", &["web"]).remove(0));
        (firsts == all).then_some(())
    });
    for address in &all {
        let found = dig(&stack, "client", &["-x", address]);
        let number = (1..=3).find(|number| found == [format!("{project}-web-{number}.{project}_default.")]);
        let number = number.unwrap_or_else(|| panic!("{address} is {found:?}"));
        assert_eq!(dig(&stack, "client", &[&format!("{project}-web-{number}")]), std::slice::from_ref(address));
    }
    // A replica sees the others and itself.
    assert_eq!(dig(&stack, "web/2", &["web"]).len(), 3);
    // Who has ended is not found.
    let gone = dig(&stack, "client", &[&format!("{project}-web-2")]);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pids(&stack)["web-2"].expect("it runs")),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("it runs");
    let left: BTreeSet<String> = all.iter().filter(|address| !gone.contains(address)).cloned().collect();
    wait_for("the name to forget the replica", || {
        (dig(&stack, "client", &["web"]).into_iter().collect::<BTreeSet<_>>() == left).then_some(())
    });
}

#[test]
fn clients_are_spread_over_replicas() {
    needs!(Need::Program("python3"), Need::Program("curl"), Need::Program("dig"));
    let server = "import http.server, os\\nclass H(http.server.BaseHTTPRequestHandler):\\n def do_GET(self):\\n  self.send_response(200)\\n  self.end_headers()\\n  self.wfile.write(os.uname().nodename.encode() + b'\\\\n')\\nprint('ready', flush=True)\\nhttp.server.HTTPServer(('', 80), H).serve_forever()";
    let stack = Stack::new(&format!(
        "services:\n  web: {{rootfs: host, command: [python3, -c, \"{server}\"], deploy: {{replicas: 3, mode: replicated}}}}\n  client: {{rootfs: host, command: [sleep, infinity], depends_on: [web]}}\n"
    ));
    stack.up();
    let expected: BTreeSet<String> = (1..=3).map(|number| format!("{}-web-{number}", stack.project())).collect();
    let mut answered = BTreeSet::new();
    wait_for("an answer of each replica", || {
        // As nginx, HAProxy and Go do it. getaddrinfo(3) puts its own order (RFC 6724) in the place of that of the answer.
        let first = "curl -s --connect-to \"web:80:$(dig +short web | head -n 1):80\" http://web/";
        let asked = stack.run(&["exec", "client", "sh", "-c", first]);
        answered.extend(asked.stdout.lines().map(str::to_owned));
        (answered == expected).then_some(())
    });
}

#[test]
fn each_replica_has_files_and_volumes_of_its_own_and_shares_named_ones() {
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    scale: 2
    command: [sh, -c, "hostname >/srv/own; hostname >/anonymous/own; hostname >>/common/all; exec sleep infinity"]
    volumes: ["common:/common", "/anonymous"]
volumes: {common: {}}
"#,
    );
    stack.up();
    wait_for("both to have written", || (stack.sh("web", "cat /common/all").lines().count() == 2).then_some(()));
    for number in 1..=2 {
        let own = format!("{}-web-{number}", stack.project());
        let service = if number == 1 { "web".to_owned() } else { format!("web/{number}") };
        assert_eq!(stack.sh(&service, "cat /srv/own /anonymous/own; hostname"), [&*own; 3].join("\n"));
    }
    let down = stack.run(&["down", "-v"]).success();
    assert_eq!(down.stdout, "");
}

#[test]
fn the_number_goes_up_and_down_and_those_that_stay_run_on() {
    needs!(Need::Program("dig"));
    let file = |number: u32| {
        format!(
            "services:\n  web: {{rootfs: host, command: [sleep, infinity], scale: {number}}}\n  other: {{rootfs: host, command: [sleep, infinity], depends_on: [web]}}\n"
        )
    };
    let stack = Stack::new(&file(2));
    stack.up();
    let two = pids(&stack);
    assert_eq!(two.keys().collect::<Vec<_>>(), ["other-1", "web-1", "web-2"]);

    stack.run(&["up", "-d", "--scale", "web=4"]).success();
    let four = pids(&stack);
    assert_eq!(four.keys().collect::<Vec<_>>(), ["other-1", "web-1", "web-2", "web-3", "web-4"]);
    assert!(two.iter().all(|(name, pid)| four[name] == *pid), "{two:?} {four:?}");
    assert_eq!(dig(&stack, "other", &["web"]).len(), 4);

    // The file counts again, and the plan says why the others go.
    let plan = stack.run(&["plan"]).code(2);
    for gone in ["web/3", "web/4"] {
        let _ = plan.clone().stdout_has(&format!("stop {gone}  because services.web.scale 4 → 2"));
    }
    assert!(!plan.stdout.contains("start"), "{plan}");
    stack.up();
    assert_eq!(pids(&stack), two);
    assert_eq!(dig(&stack, "other", &["web"]).len(), 2);
    stack.run(&["plan"]).code(0);

    stack.run(&["up", "-d", "--scale", "web=0"]).success().stderr_lacks("not in the file");
    assert_eq!(pids(&stack), BTreeMap::from([("other-1".to_owned(), two["other-1"])]));
    stack.down();
}

#[test]
fn a_dependency_is_on_all_replicas_and_a_namespace_is_that_of_the_first() {
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sleep, infinity], scale: 2}
  app: {rootfs: host, command: [sleep, infinity], depends_on: [db], scale: 2}
  side: {rootfs: host, command: [sleep, infinity], network_mode: service:db, scale: 2}
"#,
    );
    let plan = stack.run(&["plan"]).code(2).stdout;
    let step = |what: &str| {
        let line = plan.lines().find(|line| line.split(' ').skip(1).collect::<Vec<_>>().join(" ").starts_with(what));
        line.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("{what}\n{plan}")).to_owned()
    };
    let both = [step("start db  "), step("start db/2  ")];
    for app in ["start app  ", "start app/2  "] {
        let line = plan.lines().find(|line| line.contains(app)).unwrap_or_else(|| panic!("{plan}"));
        let after = line.split("  ").find_map(|part| part.strip_prefix("after ")).unwrap_or_default();
        let after: Vec<&str> = after.split(", ").collect();
        assert!(both.iter().all(|step| after.contains(&step.as_str())), "{line}\n{plan}");
    }
    stack.up();
    for side in ["side", "side/2"] {
        assert_eq!(stack.sh(side, "readlink /proc/self/ns/net"), stack.sh("db", "readlink /proc/self/ns/net"));
    }
    assert_ne!(stack.sh("db/2", "readlink /proc/self/ns/net"), stack.sh("db", "readlink /proc/self/ns/net"));
}

#[test]
fn each_replica_gets_a_port_of_the_range() {
    needs!(Need::Program("curl"));
    // Three in a row that are free, as far as one can know.
    let first = crate::support::free_port();
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sleep, infinity], scale: 3, ports: ['127.0.0.1:{first}-{}:80']}}}}",
        first.saturating_add(40)
    ));
    stack.up();
    let ports: BTreeSet<String> = stack.ps().into_iter().flat_map(|container| container.ports).collect();
    assert_eq!(ports.len(), 3, "{ports:?}");
    let any = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], scale: 3, ports: ['80']}}");
    any.up();
    let ports: BTreeSet<String> = any.ps().into_iter().flat_map(|container| container.ports).collect();
    assert!(ports.len() >= 3, "{ports:?}");
    // What is said on the command line is looked at as what is in the file.
    let fixed = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], ports: ['8080:80']}}");
    let refused = fixed.run(&["up", "-d", "--scale", "web=2"]).code(3);
    let _ = refused.stderr_has("which cannot all have port 8080/tcp of the host").stderr_has("stack.yaml:2:");
    fixed.run(&["up", "-d", "--scale", "wbe=2"]).code(2).stderr_has("did you mean `web`?");
    fixed.run(&["up", "-d", "--scale", "web=-1"]).code(2);
}

#[test]
fn two_hundred_replicas_come_up_and_go() {
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], stop_signal: SIGKILL}}");
    let up = ["--home", &stack.home().display().to_string(), "up", "-d", "--scale", "web=200"].map(str::to_owned);
    Run::new(env!("CARGO_BIN_EXE_nscompose"))
        .dir(stack.path(""))
        .env("HOME", stack.user_home())
        .args(up)
        .run()
        .success();
    let all = pids(&stack);
    assert_eq!(all.len(), 200);
    assert!(all.values().all(Option::is_some));
    let found: BTreeSet<String> =
        stack.sh("web/200", "getent ahostsv4 web | awk '{print $1}'").lines().map(str::to_owned).collect();
    assert_eq!(found.len(), 200);
    stack.down();
}

#[test]
fn words_of_the_command_line_mean_all_replicas_or_one() {
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sh, -c, "echo here is $(hostname); exec sleep infinity"], scale: 2, ports: ["80"]}
  db: {rootfs: host, command: [sh, -c, "echo here is db; exec sleep infinity"]}
"#,
    );
    stack.up();
    let web = |number: u32| format!("{}-web-{number}", stack.project());
    for (args, number) in [
        (&["web"] as &[&str], 1),
        (&["--index", "1", "web"], 1),
        (&["--index", "2", "web"], 2),
        (&["web/2"], 2),
        (&[&web(2)], 2),
    ] {
        let said = stack.run(&[&["exec"], args, &["hostname"]].concat()).success().stdout;
        assert_eq!(said, format!("{}\n", web(number)), "{args:?}");
    }
    stack.run(&["exec", "--index", "3", "web", "true"]).code(1).stderr_has("service `web` has no container 3");
    stack.run(&["port", "--index", "3", "web", "80"]).code(1).stderr_has("service `web` has no container 3");
    stack.run(&["attach", "--index", "3", "web"]).code(1).stderr_has("service `web` has no container 3");
    stack.run(&["exec", "wbe", "true"]).code(2).stderr_has("did you mean `web`?");
    let ports = ["1", "2"].map(|index| stack.run(&["port", "--index", index, "web", "80"]).success().stdout);
    assert_ne!(ports[0], ports[1]);
    assert_eq!(stack.run(&["port", "web", "80"]).stdout, ports[0]);

    // The number is in front of lines where there are several, and nowhere else.
    stack.log_with("web/2", &web(2));
    stack.log_with("web", &web(1));
    stack.log_with("db", "here");
    let mut lines: Vec<String> = stack.run(&["logs"]).success().stdout.lines().map(str::to_owned).collect();
    lines.sort();
    let shown =
        ["db    | here is db".to_owned(), format!("web-1 | here is {}", web(1)), format!("web-2 | here is {}", web(2))];
    assert_eq!(lines, shown);
    assert_eq!(stack.run(&["logs", "web"]).success().stdout.lines().count(), 2);
    stack.run(&["logs", "--index", "2", "web"]).success().stdout_is(&format!("web-2 | here is {}\n", web(2)));
    stack.run(&["logs", "--index", "2"]).code(2);

    assert_eq!(stack.run(&["ps", "--services"]).success().stdout, "db\nweb\n");
    assert_eq!(stack.run(&["ps", "-q", "web"]).success().stdout, format!("{}\n{}\n", web(1), web(2)));
    assert!(stack.ps().iter().filter(|container| container.service == "web").count() == 2);
    let stats = stack.run(&["stats", "--no-stream", "--format", "json", "web"]).success().stdout;
    assert_eq!(stats.lines().count(), 2, "{stats}");
    let ns = stack.run(&["ns", "web"]).success().stdout;
    assert!(ns.contains("web/2") && !ns.contains("db"), "{ns}");
}

#[test]
fn who_follows_the_log_of_a_service_sees_its_later_replicas_and_who_follows_one_does_not() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'echo begun; exec sleep infinity']}, other: {rootfs: host, command: [echo, other]}}",
    );
    stack.up();
    let mut all = stack.nscompose().args(["logs", "-f", "web"]).start();
    let mut one = stack.nscompose().args(["logs", "-f", "--index", "1", "web"]).start();
    all.expect_stdout("begun");
    one.expect_stdout("begun");
    stack.run(&["scale", "web=2"]).success();
    wait_for("the new replica", || (all.stdout().matches("begun").count() == 2).then_some(()));
    stack.down();
    let all = all.wait().success();
    assert!(all.stdout.contains("web-2 | begun") && !all.stdout.contains("other"), "{all}");
    assert_eq!(one.wait().success().stdout.matches("begun").count(), 1);
}

#[test]
fn scale_changes_the_number_until_the_next_up() {
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sleep, infinity]}
  web: {rootfs: host, command: [sleep, infinity], depends_on: [db]}
"#,
    );
    stack.run(&["scale", "--no-deps", "web=2"]).success();
    let two = pids(&stack);
    assert_eq!(two.keys().collect::<Vec<_>>(), ["web-1", "web-2"]);
    stack.run(&["scale", "web=3", "db=2"]).success();
    let more = pids(&stack);
    assert_eq!(more.keys().collect::<Vec<_>>(), ["db-1", "db-2", "web-1", "web-2", "web-3"]);
    assert!(two.iter().all(|(name, pid)| more[name] == *pid), "{two:?} {more:?}");
    stack.run(&["scale", "--no-deps", "web=1"]).success();
    assert_eq!(names(&stack), ["db-1", "db-2", "web-1"]);
    stack.run(&["scale", "web=0"]).success();
    // What it depended on is nobody's business any more.
    assert_eq!(names(&stack), ["db-1", "db-2"]);
    stack.up();
    assert_eq!(names(&stack), ["db-1", "web-1"]);
    for (args, said) in [
        (&["scale", "web"] as &[&str], "as in `web=3`"),
        (&["scale", "web=x"], "as in `web=3`"),
        (&["scale", "wbe=1"], "did you mean `web`?"),
        (&["scale", "stack.yaml"], "needs a service and a number"),
    ] {
        stack.run(args).code(2).stderr_has(said);
    }
}

#[test]
fn who_has_a_namespace_of_a_replica_is_not_left_behind() {
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity]}
  side: {rootfs: host, command: [sleep, infinity], network_mode: service:web}
"#,
    );
    stack.up();
    let before = pids(&stack);
    let refused = stack.run(&["scale", "web=0"]).code(1);
    let _ = refused.stderr_has("`side` has a namespace or volumes of `web`").stderr_has("scale side=0 web=0");
    assert_eq!(pids(&stack), before);
    stack.run(&["scale", "side=0", "web=0"]).success();
    assert_eq!(names(&stack), [""; 0]);
}
