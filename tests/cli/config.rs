//! `config` and `schema`.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};

use crate::support::{Output, Run, Stack};

const FILE: &str = r#"name: demo
services:
  web:
    image: "nginx:${TAG:-1.0}"
    depends_on: [db, api]
    ports: ["80:80", "${PORT:-8000}:81"]
    environment: {A: "yes", B: "a$$b", C: "${HOME}", D: }
    env_file: [web.env]
    profiles: [front]
    volumes: ["./x:/y", "data:/d"]
    networks: [front]
    cpus: ${CPUS:-1.5}
    init: ${INIT:-true}
  api:
    build: ./api
    depends_on: {db: {condition: service_healthy}}
    command: echo $$HOME
  db:
    image: postgres:${PG:?say which}
    healthcheck: {test: "true"}
    models: [llm]
  lone: {build: ., profiles: [z, a]}
volumes: {data: , unused: {}}
networks: {front: , back: {}}
models: {llm: {model: ai/x, context_size: 10}}
"#;

fn demo() -> Stack {
    let stack = Stack::empty();
    stack.file("compose.yaml", FILE).file("web.env", "FROM_FILE=1\n").file(".env", "PG=14\nEXTRA=\"a b\"\n");
    stack
}

fn config(stack: &Stack, args: &[&str]) -> Output {
    stack.nscompose().arg("config").args(args).run()
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn yaml_has_the_order_of_docker_compose() {
    let stack = demo();
    let text = config(&stack, &["web"]).success().stdout;
    assert_eq!(
        stack.normalised(&text),
        r#"name: demo
services:
  api:
    build:
      context: <project folder>/api
      dockerfile: Dockerfile
    command:
      - echo
      - $$HOME
    depends_on:
      db:
        condition: service_healthy
        required: true
    networks:
      default: null
  db:
    healthcheck:
      test:
        - CMD-SHELL
        - "true"
    image: postgres:14
    models:
      llm: null
    networks:
      default: null
  web:
    profiles:
      - front
    cpus: 1.5
    depends_on:
      api:
        condition: service_started
        required: true
      db:
        condition: service_started
        required: true
    environment:
      A: "yes"
      B: a$$b
      C: USER_HOME
      D: null
      FROM_FILE: "1"
    image: nginx:1.0
    init: true
    networks:
      front: null
    ports:
      - mode: ingress
        target: 80
        published: "80"
        protocol: tcp
      - mode: ingress
        target: 81
        published: "8000"
        protocol: tcp
    volumes:
      - type: bind
        source: <project folder>/x
        target: /y
        bind:
          create_host_path: true
      - type: volume
        source: data
        target: /d
        volume: {}
networks:
  default:
    name: demo_default
  front:
    name: demo_front
volumes:
  data:
    name: demo_data
models:
  llm:
    model: ai/x
    context_size: 10
"#
        .replace("USER_HOME", &stack.normalised(&stack.user_home().display().to_string()))
    );
}

#[test]
fn services_that_are_named_are_shown_with_what_they_need() {
    let stack = demo();
    let shown = json(&config(&stack, &["db", "--format", "json"]).success().stdout);
    assert_eq!(
        shown["services"].as_object().map(|services| services.keys().collect::<Vec<_>>()),
        Some(vec![&"db".to_owned()])
    );
    assert_eq!(shown["volumes"], Json::Null);
    config(&stack, &["web", "--services"]).success().stdout_is("db\napi\nweb\n");
    config(&stack, &["web", "--volumes"]).success().stdout_is("data\n");
    config(&stack, &["web", "--networks"]).success().stdout_is("default\nfront\n");
    config(&stack, &["api", "--images"]).success().stdout_is("demo-api\npostgres:14\n");
    config(&stack, &["wbe"]).code(2).stdout_is("").stderr_has("did you mean `web`?");
}

#[test]
fn lists() {
    let stack = demo();
    config(&stack, &["--services"]).success().stdout_is("db\napi\n");
    config(&stack, &["--volumes"]).success().stdout_is("");
    config(&stack, &["--networks"]).success().stdout_is("default\n");
    config(&stack, &["--images"]).success().stdout_is("demo-api\npostgres:14\n");
    config(&stack, &["--models"]).success().stdout_is("ai/x\n");
    config(&stack, &["--profiles"]).success().stdout_is("a\nfront\nz\n");
    stack.run(&["--profile", "*", "config", "--services"]).success().stdout_is("db\napi\nlone\nweb\n");
    config(&stack, &["--services", "--volumes"]).code(2).stderr_has("cannot be used with");
}

#[test]
fn the_environment_is_that_of_interpolation() {
    let stack = demo();
    let output = Run::new(env!("CARGO_BIN_EXE_nscompose")).dir(stack.path("")).env("X", "$y").args(["--home", "h"]);
    let text = output.args(["config", "--environment"]).run().success().stdout;
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("PATH=") && !line.starts_with("PWD=")).collect();
    assert_eq!(lines, ["COMPOSE_PROJECT_NAME=demo", "EXTRA=a b", "PG=14", "X=$y"]);
}

#[test]
fn variables_are_listed_whether_they_are_set_or_not() {
    let stack = demo();
    stack.file(".env", "");
    config(&stack, &["--variables"]).success().stdout_is(
        "NAME                REQUIRED            DEFAULT VALUE       ALTERNATE VALUE\n\
         CPUS                false               1.5                 \n\
         HOME                false                                   \n\
         INIT                false               true                \n\
         PG                  true                                    \n\
         PORT                false               8000                \n\
         TAG                 false               1.0                 \n",
    );
    let variables = json(&config(&stack, &["--variables", "--format", "json"]).success().stdout);
    assert_eq!(variables["PG"], json!({"Name": "PG", "DefaultValue": "", "PresenceValue": "", "Required": true}));
}

#[test]
fn a_hash_is_of_what_is_meant() {
    let one = "services: {web: {image: a, environment: {A: 1, B: 2}, ports: [80]}, db: {image: b}}";
    let same = "# a comment\nservices:\n  db: {image: c}\n  web:\n    ports: ['80']\n    environment: [B=2, A=1]\n    image: a\n";
    let other = "services: {web: {image: a, environment: {A: 1, B: 3}, ports: [80]}}";
    let hash = |text: &str, which: &str| {
        let stack = Stack::empty();
        stack.file("compose.yaml", text);
        stack.nscompose().args(["-p", "x", "config", "--hash", which]).run()
    };
    let of_one = hash(one, "web").success().stdout;
    assert!(of_one.starts_with("web ") && of_one.trim_end().len() == 4 + 64, "{of_one}");
    hash(same, "web").success().stdout_is(&of_one);
    assert_ne!(hash(other, "web").success().stdout, of_one);
    assert_eq!(hash(one, "*").success().stdout.lines().count(), 2);
    assert_eq!(hash(one, "web,db").success().stdout.lines().count(), 2);
    hash(one, "bd").code(2).stderr_has("did you mean `db`?").stdout_is("");
}

#[test]
fn variables_can_stay_as_they_are() {
    let stack = demo();
    stack.file(".env", "");
    let shown = json(&config(&stack, &["--no-interpolate", "--format", "json"]).success().stdout);
    let web = &shown["services"]["web"];
    assert_eq!(web["image"], "nginx:${TAG:-1.0}");
    assert_eq!((&web["cpus"], &web["init"]), (&json!("${CPUS:-1.5}"), &json!("${INIT:-true}")));
    assert_eq!(web["ports"][1], "${PORT:-8000}:81");
    assert_eq!(web["environment"], json!({"A": "yes", "B": "a$$b", "C": "${HOME}", "D": null}));
    assert_eq!(shown["services"]["api"]["command"], "echo $$HOME");
    // What is printed comes to the same as what is written.
    stack.file(".env", "PG=14\n");
    let text = config(&stack, &["--no-interpolate"]).success().stdout;
    let again = stack.nscompose().args(["-f", "-", "config", "--format", "json"]).stdin(text).run().success().stdout;
    assert_eq!(json(&again), json(&config(&stack, &["--format", "json"]).success().stdout));
}

#[test]
fn steps_can_be_left_out() {
    let stack = demo();
    let shown = |option: &str| json(&config(&stack, &["web", option, "--format", "json"]).success().stdout);
    let plain = shown("--no-normalize");
    assert_eq!((&plain["networks"]["default"], &plain["services"]["db"]["networks"]), (&Json::Null, &Json::Null));
    assert_eq!(shown("--no-path-resolution")["services"]["web"]["volumes"][0]["source"], "./x");
    assert_eq!(shown("--no-path-resolution")["services"]["web"]["environment"]["FROM_FILE"], "1");
    let unread = shown("--no-env-resolution");
    assert_eq!(unread["services"]["web"]["environment"]["FROM_FILE"], Json::Null);
    assert!(unread["services"]["web"]["env_file"].to_string().contains("web.env"), "{unread}");
    stack.file("compose.yaml", "services: {web: {image: a, networks: [missing]}}");
    config(&stack, &[]).code(3).stderr_has("missing");
    config(&stack, &["--no-consistency"]).success().stdout_has("missing");
}

#[test]
fn quiet_only_checks() {
    let stack = demo();
    config(&stack, &["-q"]).success().stdout_is("");
    config(&stack, &["-q", "--services"]).success().stdout_is("db\napi\n");
    stack.file("compose.yaml", "services: {web: {}}");
    config(&stack, &["-q"]).code(3).stdout_is("").stderr_has("neither an image");
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let stack = demo();
    config(&stack, &["-o", "out.yaml"]).success().stdout_is("");
    let text = fs::read_to_string(stack.path("out.yaml")).expect("written");
    config(&stack, &[]).success().stdout_is(&text);
    stack.file("compose.yaml", "services: [");
    config(&stack, &["-o", "out.yaml"]).failure();
    assert_eq!(fs::read_to_string(stack.path("out.yaml")).expect("still there"), text);
    stack.file("compose.yaml", "services: {web: {image: a}}");
    config(&stack, &["-o", "missing/out.yaml"]).code(1).stderr_has("cannot write missing/out.yaml");
}

#[test]
fn digests_are_not_resolved_yet() {
    for option in ["--resolve-image-digests", "--lock-image-digests"] {
        config(&demo(), &[option]).code(2).stderr_has("not supported yet");
    }
}

/// Texts that a reader of YAML may take for something else.
const ODD: [&str; 52] = [
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "true",
    "False",
    "null",
    "Null",
    "~",
    "",
    " ",
    "1.0",
    "1",
    "-1",
    "+1",
    "0o17",
    "0x1F",
    "0777",
    "1_000",
    "1e3",
    ".5",
    ".inf",
    "-.Inf",
    ".nan",
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "12:30",
    "1:30:00",
    "<<",
    "=",
    " #x",
    "x # y",
    "#x",
    "a: b",
    "- x",
    "-",
    "---",
    "...",
    "? x",
    "@a",
    "`a",
    "!tag",
    "*a",
    "&a",
    "%x",
    "{a}",
    "[a]",
    "a\\b",
    "'",
    "\"",
];

/// Texts of several lines, and with characters that are not printed.
const LONG: [&str; 18] = [
    "one\ntwo\n",
    "one\ntwo",
    "x\n\n\n",
    "\nlead",
    "\n",
    "\n\n",
    "  indented\nx",
    "x\n  y\n",
    "tab\tx",
    "\t",
    "\r\n",
    "a\rb",
    "trail ",
    "trail \nx ",
    "\u{7}bell\u{1b}",
    "\u{2028}x\u{85}y\u{feff}",
    "ümläut 😀\u{301}",
    "x\n#y\n",
];

#[test]
fn odd_texts_stay_what_they_are() {
    let words: String = std::iter::repeat_n("word ", 100).collect();
    let texts: Vec<&str> = ODD.into_iter().chain(LONG).chain([words.as_str(), "$X ${Y} $$"]).collect();
    // JSON is YAML.
    let labels: serde_json::Map<String, Json> = texts
        .iter()
        .enumerate()
        .flat_map(|(index, text)| {
            let text = text.replace('$', "$$");
            // A key is not filled in, and not empty.
            let key = match &*text {
                text if text.contains('$') => "dollar".to_owned(),
                text if text.trim().is_empty() => format!("blank{index}"),
                text => text.to_owned(),
            };
            [(format!("k{index}"), json!(text)), (key, json!(format!("v{index}")))]
        })
        .collect();
    let stack = Stack::empty();
    stack.file("compose.yaml", &json!({"name": "x", "services": {"a": {"image": "a", "labels": labels}}}).to_string());
    let yaml = config(&stack, &[]).success().stdout;
    let first = config(&stack, &["--format", "json"]).success().stdout;
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(json(&first)["services"]["a"]["labels"][format!("k{index}")], text.replace('$', "$$"), "{text:?}");
    }
    let again = stack.nscompose().args(["-f", "-", "config", "--format", "json"]).stdin(yaml.clone()).run().success();
    assert_eq!(json(&again.stdout), json(&first), "{yaml}");
    // Another reader has the same opinion.
    let theirs: Json = serde_yaml::from_str(&yaml).expect("YAML");
    assert_eq!(theirs["services"]["a"]["labels"], json(&first)["services"]["a"]["labels"], "{yaml}");
}

#[test]
fn what_is_printed_comes_to_the_same_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose-files/valid");
    let stack = Stack::empty();
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let run = |file: &str| {
            let folder = folder.to_str().expect("text");
            stack.nscompose().args(["--project-directory", folder, "--profile", "*", "-f", file, "config"])
        };
        let file = path.to_str().expect("text");
        let first = run(file).args(["--format", "json"]).run().success().stdout;
        let yaml = run(file).run().success().stdout;
        let second = run("-").args(["--format", "json"]).stdin(yaml).run().success().stdout;
        assert_eq!(json(&first), json(&second), "{file}");
        count += 1;
    }
    assert!(count > 25, "{count}");
}

/// The golden files of tests/explain: `UPDATE_GOLDEN=1` writes them.
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{name} is\n{actual}\nand should be\n{expected}");
}

fn explain(args: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain");
    Run::new(env!("CARGO_BIN_EXE_nscompose"))
        .dir(folder)
        .env("HOME", "/home/me")
        .args(["-f", "compose.yaml", "-f", "override.yaml", "config"])
        .args(args)
        .run()
}

#[test]
fn values_tell_where_they_come_from() {
    golden("expected.txt", &explain(&["--explain", "."]).success().stdout);
    let some = ["--explain", "services.web.image", "--explain", "services.web.environment.TAG", "--format", "json"];
    golden("expected.json", &explain(&some).success().stdout);
}

#[test]
fn paths_that_lead_nowhere_say_so() {
    for (path, message, hint) in [
        ("services.wbe", "`services` has no `wbe`", "did you mean `web`?"),
        ("services.web.prots", "`services.web` has no `prots`", "did you mean `ports`?"),
        (
            "services.web.ports[4]",
            "`services.web.ports` has 1 item, and no [4]",
            "the last one is `services.web.ports[0]`",
        ),
        ("services.web.ports.x", "`services.web.ports` is a list", "write `services.web.ports[0]`"),
        ("services.web.image.x", "`services.web.image` is a string", ""),
        ("services.web.labels[\"a.c\"]", "has no `a.c`", "did you mean `a.b`?"),
        ("services..web", "`services..web` is no path", "services.web.ports[0]"),
    ] {
        explain(&["--explain", path]).code(2).stdout_is("").stderr_has(message).stderr_has(hint);
    }
}

#[test]
fn paths_of_what_is_gone_say_why() {
    let stack = Stack::empty();
    stack.file("compose.yaml", "services: {a: {profiles: [x, y], image: b}, b: {image: b, env_file: web.env}}\n");
    stack.file("web.env", "A=1\n");
    for (path, message, hint) in [
        ("services.a", "`services.a` is left out: its profiles are not asked for", "`--profile x` or `--profile y`"),
        ("services.a.image", "`services.a` is left out", "`--profile x`"),
        ("services.b.env_file", "`env_file` does its work while files are loaded", "`services.b.environment`"),
        ("services.b.env_file[0]", "`env_file` does its work while files are loaded", "`services.b.environment`"),
        ("include", "`include` does its work", "on their way"),
    ] {
        config(&stack, &["--explain", path]).code(2).stdout_is("").stderr_has(message).stderr_has(hint);
    }
}

#[test]
fn a_profile_that_no_service_has_is_a_warning() {
    let stack = Stack::empty();
    stack.file("compose.yaml", "services: {a: {profiles: [debug], image: b}, b: {image: b}}\n");
    let output = config(&stack, &["--profile", "debgu", "--services"]).success().stdout_is("b\n");
    output.stderr_has("warning: no service has the profile `debgu`").stderr_has("did you mean `debug`?");
    config(&stack, &["--profile", "debug", "--profile", "*", "--services"]).success().stdout_is("a\nb\n");
}

#[test]
fn messages_are_json_for_programs() {
    let stack = Stack::empty();
    stack.file("compose.yaml", "services:\n  web:\n    rootfs: host\n    comand: x\n    ports: [x]\n");
    let output = config(&stack, &["--format", "json"]).code(3).stdout_is("");
    let lines: Vec<Json> = output.stderr.lines().map(json).collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert_eq!(
        lines[0],
        json!({
            "severity": "error", "message": "service `web` has no key `comand`", "file": "compose.yaml",
            "line": 4, "column": 5, "end_line": 4, "end_column": 11, "hints": ["did you mean `command`?"],
        })
    );
    // So are those of every verb that is told so, and those of no file.
    let output = stack.run(&["--message-format", "json", "plan"]).code(3);
    assert_eq!(json(output.stderr.lines().next().expect("a line")), lines[0]);
    let output = stack.run(&["--message-format", "json", "build"]).code(2);
    assert_eq!(json(&output.stderr)["severity"], "error");
    stack.run(&["--message-format", "human", "config", "--format", "json"]).code(3).stderr_has("--> compose.yaml:4:5");
}

#[test]
fn the_schema_is_printed() {
    let text = Stack::empty().run(&["schema"]).success().stdout;
    let golden =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/compose.json")).expect("a file");
    assert_eq!(text, golden);
}

#[test]
fn a_misspelt_rootfs_is_refused_by_config_too() {
    let stack = Stack::empty();
    stack.file("compose.yaml", "name: q\nservices: {a: {rootfs: hosst}, b: {rootfs: ''}, c: {rootfs: './${X:-x}'}}\n");
    let refused = config(&stack, &[]).code(3).stderr_has("error: `hosst` is neither `host` nor a path\n");
    refused
        .stderr_has("compose.yaml:2:24")
        .stderr_has("hint: did you mean `host`?")
        .stderr_has("service `b` has neither");
    stack.file("compose.yaml", "name: q\nservices: {a: {rootfs: '${ROOT:-host}'}}\n");
    config(&stack, &["--no-interpolate"]).success().stdout_has("rootfs: ${ROOT:-host}");
}

#[test]
fn what_is_declared_with_nothing_to_say_is_kept_without_normalization() {
    let stack = Stack::empty();
    let file = "name: q\nservices: {a: {rootfs: host, volumes: ['data:/d'], networks: [n]}}\nvolumes: {data: }\nnetworks: {n: }\n";
    stack.file("compose.yaml", file);
    let text = config(&stack, &["--no-normalize"]).success().stdout;
    assert!(text.ends_with("networks:\n  \"n\": {}\nvolumes:\n  data: {}\n"), "{text}");
    config(&stack, &["--no-normalize", "--explain", "volumes"]).success().stdout_has("volumes.data  {}");
}

#[test]
fn the_name_of_the_project_tells_where_it_comes_from() {
    let name = |stack: &Stack, before: &[&str]| {
        let output = stack.nscompose().args(before).args(["config", "--explain", "name"]).run().success().stdout;
        output.lines().last().unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let stack = Stack::empty();
    stack.file("compose.yaml", "services: {a: {rootfs: host}}\n");
    assert!(name(&stack, &[]).ends_with(" - from the folder"));
    stack.file("compose.yaml", "name: Written\nservices: {a: {rootfs: host}}\n");
    assert_eq!(name(&stack, &[]), "written compose.yaml:1:7");
    stack.file(".env", "A=1\n\nCOMPOSE_PROJECT_NAME=dotenv\n");
    assert_eq!(
        name(&stack, &[]),
        "dotenv - instead of Written at compose.yaml:1:7, variable COMPOSE_PROJECT_NAME from .env:3:22"
    );
    assert_eq!(name(&stack, &["-p", "given"]), "given - instead of Written at compose.yaml:1:7, from -p");
    let environment = stack.nscompose().env("COMPOSE_PROJECT_NAME", "env").args(["config", "--explain", "name"]).run();
    environment.success().stdout_has("variable COMPOSE_PROJECT_NAME from environment");
}

#[test]
fn values_are_explained_as_they_are_printed() {
    let stack = Stack::empty();
    stack.file(
        "compose.yaml",
        "services:\n  a:\n    extends: {service: b}\n    env_file: x.env\n    mem_limit: 1g\n    cpus: '1.5'\n    stop_grace_period: 90s\n    extra_hosts: ['q:1.2.3.4']\n    volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m}}]\n  b: {rootfs: host}\ninclude: [other.yaml]\n",
    );
    stack.file("other.yaml", "services: {c: {rootfs: host}}\n").file("x.env", "A=1\n");
    let text = config(&stack, &["--explain", "services.a"]).success().stdout;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for (key, value, place) in [
        ("mem_limit", "1073741824", "compose.yaml:5:16"),
        ("cpus", "1.5", "compose.yaml:6:11"),
        ("stop_grace_period", "1m30s", "compose.yaml:7:24"),
        ("extra_hosts.q[0]", "1.2.3.4", "compose.yaml:8:19"),
        ("volumes[0].tmpfs.size", "1048576", "compose.yaml:9:55"),
    ] {
        let path = format!("services.a.{key}");
        assert!(rows.iter().any(|row| row[..] == [path.as_str(), value, place]), "{path}: {text}");
    }
    for (path, place) in [
        ("services.a.env_file", "compose.yaml:4:15"),
        ("services.a.extends.service", "compose.yaml:3:"),
        ("include[0]", "compose.yaml:11:"),
    ] {
        config(&stack, &["--explain", path]).code(2).stderr_has("does its work while").stderr_has(place);
    }
    // What was never there is missed as anything else is.
    config(&stack, &["--explain", "services.b.env_file"]).code(2).stderr_has("`services.b` has no `env_file`");
}
