//! A plan says what differs and touches nothing; `up` touches what differs and nothing else, unless it is asked for.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Need, Stack, needs, wait_for};

const SLEEP: &str = "rootfs: host, command: [sleep, infinity]";

/// Everything below a folder.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut next = vec![folder.to_owned()];
    while let Some(path) = next.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            found.insert(entry.path());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
        }
    }
    found
}

/// Writes the file of the stack anew.
fn rewrite(stack: &Stack, yaml: &str) {
    stack.file("stack.yaml", &format!("name: {}\n{yaml}", stack.project()));
}

/// Three services, `web` needs `db`, each with a variable.
fn three([db, other, web]: [&str; 3]) -> String {
    format!(
        "services:
  db: {{{SLEEP}, environment: {{WHICH: {db}}}}}
  other: {{{SLEEP}, environment: {{WHICH: {other}}}}}
  web: {{{SLEEP}, environment: {{WHICH: {web}}}, depends_on: [db]}}
"
    )
}

fn pids(stack: &Stack) -> [i32; 3] {
    ["db", "other", "web"].map(|service| stack.pid(service))
}

#[test]
fn only_what_differs_is_made_anew_and_its_key_is_named() {
    needs!(Need::Namespaces);
    let yaml = |debug: &str, password: &str| {
        format!(
            "services:
  db: {{{SLEEP}}}
  web: {{{SLEEP}, depends_on: [db], environment: {{DEBUG: '{debug}', DB_PASSWORD: {password}}}}}
"
        )
    };
    let stack = Stack::new(&yaml("0", "hunter2"));
    stack.up();
    stack.run(&["plan"]).code(0).stdout_is("");
    let (db, web) = (stack.pid("db"), stack.pid("web"));
    rewrite(&stack, &yaml("1", "hunter2"));
    let cause = r#"services.web.environment.DEBUG "0" → "1""#;
    let plan =
        stack.run(&["plan"]).code(2).stdout_has(&format!("recreate web: {cause}\n\n1 stop web  because {cause}\n"));
    assert!(!plan.stdout.contains("db:"), "{plan}");
    let json = stack.run(&["plan", "--format", "json"]).code(2);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["services"]["web"]["differences"][0]["key"], "services.web.environment.DEBUG");
    stack.run(&["plan", "--format", "dot"]).code(2).stdout_has("digraph {\n").stdout_has(" -> ");
    stack.up().stderr_has(&format!("web is made anew: {cause}\n"));
    assert_eq!(stack.pid("db"), db);
    assert_ne!(stack.pid("web"), web);
    for format in ["text", "json", "dot"] {
        stack.run(&["plan", "--format", format]).code(0);
    }
    // What looks secret is not shown, neither as it was nor as it is.
    rewrite(&stack, &yaml("1", "hunter3"));
    for format in ["text", "json", "dot"] {
        let plan = stack.run(&["plan", "--format", format]).code(2).stdout_has("services.web.environment.DB_PASSWORD");
        assert!(!plan.stdout.contains("hunter"), "{plan}");
    }
}

#[test]
fn a_plan_touches_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "services: {{web: {{{SLEEP}, volumes: ['data:/data', /anonymous]}}}}\nvolumes: {{data: {{}}}}"
    ));
    let all = || [stack.home(), stack.user_home(), stack.path("")].map(|folder| tree(&folder));
    let before = all();
    for format in ["text", "json", "dot"] {
        stack.run(&["plan", "--format", format]).code(2);
    }
    assert_eq!(all(), before);
    assert!(!stack.home().join("run").exists() && stack.supervisor().is_none());
    // The flags of `up` are taken, whether they make a difference or not.
    let flags =
        ["-d", "-y", "--no-build", "--quiet-pull", "--force-recreate", "--no-deps", "-V", "-t", "5", "--no-start"];
    stack.nscompose().arg("plan").args(flags).run().code(2).stdout_has("create web");
    let flags = ["--abort-on-container-exit", "--exit-code-from", "web", "--no-attach", "web"];
    let plan = stack.nscompose().arg("plan").args(flags).run().code(2).stdout_has("start web");
    assert!(!plan.stdout.contains("wait for"), "{plan}");
    stack.run(&["plan", "--wait", "--wait-timeout", "5"]).code(2).stdout_has("wait for web to be up");
    assert_eq!(all(), before);
    stack.up();
    let (pid, before) = (stack.pid("web"), all());
    stack
        .run(&["plan", "--force-recreate", "--remove-orphans"])
        .code(2)
        .stdout_has("recreate web: `--force-recreate` asks for it");
    assert_eq!((all(), stack.pid("web")), (before, pid));
    // Whoever looks is not left with nothing.
    stack.run(&["plan"]).success().stdout_is("").stderr_has("is up already, nothing to do");
    let quiet = stack.run(&["-q", "plan"]).success().stdout_is("");
    assert_eq!(quiet.stderr, "");
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let stack = Stack::new(&format!("services: {{web: {{{SLEEP}}}}}"));
    // 2 of `plan` is that there is something to do.
    for (verb, code) in [("up", 2), ("create", 2), ("plan", 1)] {
        for other in ["--force-recreate", "--always-recreate-deps", "-V"] {
            stack.run(&[verb, "--no-recreate", other]).code(code).stderr_has("cannot be used with");
        }
        stack.run(&[verb, "-t", "soon"]).code(code).stderr_has("--timeout");
        stack.run(&[verb, "nobody"]).code(code).stderr_has("there is no service `nobody`");
        stack.run(&[verb, "--dry-run"]).code(code).stderr_has("`--dry-run` is not supported yet");
    }
    stack.run(&["plan", "--exit-code-from", "nobody"]).code(1).stderr_has("there is no service `nobody`");
    stack.run(&["plan", "--wait", "--abort-on-container-exit"]).code(1).stderr_has("cannot be used with");
    assert!(!stack.home().join("run").exists());
}

#[test]
fn what_is_made_anew_is_for_who_asks_to_say() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&three(["1", "1", "1"]));
    stack.up();
    let mut before = pids(&stack);
    let mut after = |args: &[&str]| {
        let mut all = vec!["up", "-d"];
        all.extend(args);
        stack.run(&all).success();
        let now = pids(&stack);
        std::mem::replace(&mut before, now).iter().zip(now).map(|(then, now)| *then != now).collect::<Vec<_>>()
    };
    assert_eq!(after(&["--force-recreate", "web"]), [false, false, true]);
    assert_eq!(after(&["--always-recreate-deps", "web"]), [true, false, false]);
    assert_eq!(after(&["--force-recreate"]), [true, true, true]);
    assert_eq!(after(&[]), [false, false, false]);
    rewrite(&stack, &three(["2", "2", "2"]));
    assert_eq!(after(&["--no-recreate"]), [false, false, false]);
    assert_eq!(after(&["--no-deps", "web"]), [false, false, true]);
    assert_eq!(after(&[]), [true, true, false]);
    assert_eq!(stack.sh("web", "echo $WHICH"), "2");
}

#[test]
fn without_dependencies_only_what_is_named_is_brought_up() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "services:
  db: {{{SLEEP}}}
  web: {{{SLEEP}, depends_on: [db]}}
  a: {{{SLEEP}, network_mode: 'service:z'}}
  z: {{{SLEEP}}}
"
    ));
    stack.run(&["up", "-d", "--no-deps", "web"]).success();
    stack.run(&["ps", "--services"]).success().stdout_is("web\n");
    // Namespaces are there without those whose they are, who find themselves in them.
    stack.run(&["up", "-d", "--no-deps", "a"]).success();
    let net = stack.namespace("a", "net");
    let pid = stack.pid("a");
    stack.up();
    assert_eq!((stack.namespace("z", "net"), stack.pid("a")), (net, pid));
}

#[test]
fn orphans_are_named_and_removed_only_when_asked_for_and_only_those_of_the_same_files() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&three(["1", "1", "1"]));
    stack.file("dev.yaml", &format!("services: {{tool: {{{SLEEP}}}}}"));
    let both = ["-f", "stack.yaml", "-f", "dev.yaml"];
    let run = |files: &[&str], args: &[&str]| stack.nscompose().args(files).args(args).run();
    stack.up();
    run(&both, &["up", "-d", "tool"]).success().stderr_lacks("tool has");
    let (tool, web) = (stack.pid("tool"), stack.pid("web"));
    // Its service is in a file that is not named.
    let other = run(&["-f", "stack.yaml"], &["up", "-d", "--remove-orphans"]).success();
    let dev = stack.path("dev.yaml").display().to_string();
    other.stderr_has(&format!("service `tool` has a container that comes from {dev}, and is left alone"));
    assert_eq!(stack.pid("tool"), tool);
    // And in this one it is not any more.
    stack.file("dev.yaml", &format!("services: {{another: {{{SLEEP}}}}}"));
    run(&both, &["up", "-d"]).success().stderr_has("service `tool` has a container and is not in the file any more");
    assert_eq!(stack.pid("tool"), tool);
    run(&both, &["plan", "--remove-orphans"])
        .code(2)
        .stdout_has("remove tool: its service is not in the file any more\n");
    run(&both, &["up", "-d", "--remove-orphans"]).success().stderr_has("tool removed").stderr_lacks("warning");
    assert!(stack.ps().iter().all(|container| container.service != "tool"));
    assert_eq!(stack.pid("web"), web);
    run(&both, &["plan", "--remove-orphans"]).code(0);
}

#[test]
fn variables_say_what_becomes_of_orphans_and_ps_leaves_them_out() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&three(["1", "1", "1"]));
    stack.up();
    let yaml = std::fs::read_to_string(stack.path("stack.yaml")).expect("the file");
    stack.file("stack.yaml", &format!("name: {}\nservices: {{only: {{{SLEEP}}}}}\n", stack.project()));
    let up = |name: &str, value: &str| stack.nscompose().args(["up", "-d"]).env(name, value).run();
    up("COMPOSE_IGNORE_ORPHANS", "false").success().stderr_has("is not in the file any more");
    up("COMPOSE_IGNORE_ORPHANS", "True").success().stderr_lacks("is not in the file any more");
    stack.file(".env", "COMPOSE_IGNORE_ORPHANS=1\n");
    stack.run(&["up", "-d"]).success().stderr_lacks("is not in the file any more");
    stack.run(&["up", "-d", "--remove-orphans"]).code(2).stderr_has("COMPOSE_IGNORE_ORPHANS");
    let services = |args: &[&str]| {
        let shown = stack.run(&[&["ps", "--services"], args].concat()).success().stdout;
        shown.split_whitespace().count()
    };
    assert_eq!((services(&[]), services(&["--orphans"]), services(&["--orphans=false"])), (4, 4, 1));
    stack
        .nscompose()
        .dir("/")
        .args(["-p", stack.project(), "ps", "--orphans=false"])
        .run()
        .code(1)
        .stderr_has("without the file of the stack");
    stack.file(".env", "COMPOSE_REMOVE_ORPHANS=1\n");
    up("COMPOSE_REMOVE_ORPHANS", "0").success().stderr_has("is not in the file any more");
    assert_eq!(services(&[]), 4);
    stack.run(&["up", "-d"]).success().stderr_has("removed");
    assert_eq!(services(&[]), 1);
    stack.file("stack.yaml", &yaml);
    stack.down();
}

#[test]
fn what_is_made_and_not_started_waits_for_its_start() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "services:
  web: {{{SLEEP}, volumes: ['data:/data', /anonymous]}}
  db: {{{SLEEP}}}
volumes: {{data: {{}}}}
"
    ));
    stack.run(&["create", "web"]).success().stderr_has("web created");
    let made = stack.container("web");
    assert_eq!((made.state.as_str(), made.pid, made.exit_code), ("created", None, None));
    assert_eq!(stack.ps().len(), 1);
    assert!(stack.volume("data").is_dir());
    let folder = stack.home().join(format!("data/v1/stacks/{}/containers/web", stack.project()));
    assert_eq!(fs::read_dir(&folder).expect("its folder").count(), 1, "the anonymous volume");
    // Its namespaces are there, and its address is its own.
    stack.run(&["ns"]).success().stdout_has("web");
    stack.run(&["create", "web"]).success().stderr_has("nothing to do");
    stack.run(&["exec", "web", "true"]).failure().stderr_has("does not run");
    stack.run(&["up", "-d", "--no-start"]).success().stderr_has("db created");
    stack.run(&["plan"]).code(2).stdout_has("start web: it has been made and not started");
    stack.up();
    assert_eq!(stack.container("web").state, "running");
    stack.sh("web", "touch /anonymous/x /data/y");
    let pid = stack.pid("web");
    stack.run(&["create"]).success();
    stack.run(&["up", "--no-start"]).success();
    assert_eq!(stack.pid("web"), pid);
    // One that is made anew has what the one before had in its volumes, and is not started.
    stack.run(&["create", "--force-recreate", "web"]).success();
    assert_eq!(stack.container("web").state, "created");
    stack.up();
    assert_eq!(stack.exec("web", &["ls", "/anonymous", "/data"]), "/anonymous:\nx\n\n/data:\ny");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
    // Nothing is left of one that was never started either.
    stack.run(&["create"]).success();
    let traces = stack.traces();
    stack.run(&["down", "-v"]).success();
    traces.assert_gone();
    assert!(!folder.exists());
}

#[test]
fn only_containers_that_do_not_run_are_removed() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "services:
  job: {{rootfs: host, command: [sh, -c, 'touch /anonymous/x; exit 3'], volumes: [/anonymous]}}
  made: {{{SLEEP}}}
  side: {{{SLEEP}, network_mode: 'service:web'}}
  web: {{{SLEEP}}}
"
    ));
    stack.run(&["rm", "-f"]).success().stderr_has("has no container to remove");
    stack.run(&["create", "made"]).success();
    stack.run(&["up", "-d", "job", "side"]).success();
    stack.exit_code("job");
    let services = || stack.run(&["ps", "-a", "--services"]).success().stdout;
    // Nobody is there to answer, or does not want to.
    stack.run(&["rm"]).code(2).stderr_has("remove job, made? [y/N]").stderr_has("hint: `--force`");
    stack.nscompose().args(["rm"]).stdin("n\n").run().success();
    assert_eq!(services(), "job\nmade\nside\nweb\n");
    stack.run(&["rm", "-f", "web"]).success().stderr_has("no container to remove that does not run; `--stop`");
    stack.run(&["rm", "-f", "nobody"]).code(2).stderr_has("there is no service `nobody`");
    stack.nscompose().args(["rm", "job"]).stdin("yes\n").run().success().stderr_has("job removed");
    assert_eq!(services(), "made\nside\nweb\n");
    // Its anonymous volume has stayed.
    let kept = |service: &str| {
        let folder = stack.home().join(format!("data/v1/stacks/{}/containers/{service}", stack.project()));
        fs::read_dir(folder).into_iter().flatten().count()
    };
    assert_eq!(kept("job"), 1);
    stack.run(&["up", "-d", "job"]).success();
    stack.exit_code("job");
    stack.run(&["rm", "-fv"]).success().stderr_has("made removed");
    assert_eq!((kept("job"), services().as_str()), (0, "side\nweb\n"));
    // Whoever shares its network has it still, and so has the next one.
    let net = stack.namespace("side", "net");
    stack.run(&["rm", "-fs", "web"]).success().stderr_has("web removed");
    assert_eq!(stack.namespace("side", "net"), net);
    stack.run(&["up", "-d", "web"]).success();
    assert_eq!(stack.namespace("web", "net"), net);
    // With the last one all goes.
    let traces = stack.traces();
    stack.run(&["rm", "--stop", "--force"]).success();
    traces.assert_gone();
    stack.run(&["rm", "-f"]).success().stderr_has("has no container to remove");
}

#[test]
fn what_is_replaced_has_as_long_to_stop_as_somebody_says() {
    needs!(Need::Namespaces);
    let yaml = |debug: u8| {
        format!(
            r#"services:
  web: {{rootfs: host, environment: {{DEBUG: '{debug}'}}, stop_grace_period: 1h, command: [sh, -c, "trap '' TERM; echo ready; while :; do sleep 0.05; done"]}}
"#
        )
    };
    let stack = Stack::new(&yaml(0));
    stack.up();
    stack.log_with("web", "ready");
    let pid = stack.pid("web");
    rewrite(&stack, &yaml(1));
    stack.run(&["plan", "-t", "0"]).code(2).stdout_has("stop web within 0 ms");
    // It would take an hour otherwise.
    stack.run(&["up", "-d", "-t", "0"]).success();
    assert_ne!(stack.pid("web"), pid);
    stack.run(&["down", "-t", "0"]).success();
    // In the foreground it is how long each may take in the end, too.
    let mut up = stack.up_in_foreground(&["-t", "0"]);
    up.expect_stdout("ready");
    up.signal(nix::sys::signal::Signal::SIGINT);
    up.wait().code(130);
}

#[test]
fn anonymous_volumes_go_over_to_the_next_container_unless_new_ones_are_asked_for() {
    needs!(Need::Namespaces);
    let yaml = |debug: u8, volumes: &str| {
        format!("services: {{web: {{{SLEEP}, environment: {{DEBUG: '{debug}'}}, volumes: [{volumes}]}}}}")
    };
    let stack = Stack::new(&yaml(0, "/one, /two"));
    stack.up();
    stack.sh("web", "touch /one/a /two/b");
    let list = || stack.sh("web", "ls /one /two 2>/dev/null | tr '\\n' ' '");
    rewrite(&stack, &yaml(1, "/one, /two"));
    stack.up();
    assert_eq!(list(), "/one: a  /two: b ");
    // What the next one does not have any more is not kept for later.
    rewrite(&stack, &yaml(1, "/one"));
    stack.up();
    rewrite(&stack, &yaml(1, "/one, /two"));
    stack.up();
    assert_eq!(list(), "/one: a  /two: ");
    rewrite(&stack, &yaml(2, "/one, /two"));
    stack.run(&["up", "-d", "-V"]).success();
    assert_eq!(list(), "/one:  /two: ");
    wait_for("the stack to be as its file says", || (stack.run(&["plan"]).code == 0).then_some(()));
}
