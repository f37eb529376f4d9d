//! Golden plans: a folder per case in `tests/plans`, with the file, what runs already, and the plan as text.
//!
//! What runs already is described by another file: `before.yaml` is what has been brought up, step by step, as an
//! executor would report it. `host.json`, if there is one, is the machine. `services` names those that are asked for, `flags`
//! has flags of `up`, `images` a line `SERVICE NAME CONTENTS` for each image; `before-flags` and `before-images` are the same for
//! what is there, and `before-files` names further files that it came from. `UPDATE_GOLDEN=1` writes what is expected anew.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use nscompose::{
    load::{LoadOptions, load},
    model::{
        Container, ContainerState, Digest, Effective, Health, Host, Image, ImageConfig, Observed, ObservedNetwork,
        Project, Rootfs,
    },
    plan::{self, Intent, Operation, Plan, Recreate, Until},
};

/// The words of a file of the case; none if there is no such file.
fn words(case: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(case.join(name)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// What these words ask for on the command line of `up`.
fn intent(services: Vec<String>, flags: &[String]) -> Intent {
    let services = services.iter().map(|name| name.parse().expect("a service name")).collect();
    let mut intent = Intent { services, ..Intent::default() };
    for flag in flags {
        match flag.as_str() {
            "--force-recreate" => intent.recreate = Recreate::Always,
            "--always-recreate-deps" => intent.recreate_dependencies = Recreate::Always,
            "--no-recreate" => (intent.recreate, intent.recreate_dependencies) = (Recreate::Never, Recreate::Never),
            "--no-deps" => intent.no_dependencies = true,
            "--no-start" => intent.no_start = true,
            "--remove-orphans" => intent.remove_orphans = true,
            "--renew-anon-volumes" => intent.renew_volumes = true,
            "--timeout=3" => intent.grace_ms = Some(3000),
            other => panic!("{other}"),
        }
    }
    intent
}

/// The project with images as the case describes them.
fn on_images(project: Project, case: &Path, name: &str) -> Project {
    let text = fs::read_to_string(case.join(name)).unwrap_or_default();
    let images: BTreeMap<_, _> = text
        .lines()
        .map(|line| {
            let [service, name, contents] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let environment = [("CONTENTS".to_owned(), contents.to_owned())].into();
            let config = ImageConfig { environment, ..ImageConfig::default() };
            let image =
                Image { name: name.to_owned(), id: Digest::of(contents.as_bytes()), layers: Vec::new(), config };
            (service.parse().expect("a service name"), image)
        })
        .collect();
    project.on_images(&images).expect("something to run")
}

fn project(file: &Path) -> Project {
    let options = LoadOptions {
        files: vec![file.to_owned()],
        project_name: Some("case".into()),
        directory: file.parent().expect("a folder").to_owned(),
        ..LoadOptions::default()
    };
    match load(&options) {
        Ok(loaded) => loaded.project,
        Err(diagnostics) => panic!("{}", diagnostics.render(false)),
    }
}

/// What there is after a plan has been carried out.
fn carried_out(plan: &Plan, mut observed: Observed) -> Observed {
    for (_, step) in plan.steps() {
        match &step.operation {
            Operation::CreateNetwork(bridge) => {
                let subnets = bridge.gateways.iter().map(|gateway| gateway.trunc()).collect();
                let (config, record, shared) = (bridge.config.clone(), bridge.record.clone(), bridge.shared.clone());
                let there = ObservedNetwork { subnets, interface: bridge.interface.clone(), config, record, shared };
                observed.networks.insert(bridge.network.clone(), there);
            }
            Operation::CreateNamespaces(set) => {
                observed.namespaces.insert(set.service.clone(), set.fingerprint.clone());
            }
            Operation::Attach(link) => {
                let addresses = observed.addresses.entry(link.service.clone()).or_default();
                addresses.insert(link.network.clone(), link.addresses.iter().map(|net| net.addr()).collect());
            }
            Operation::Create(spec) | Operation::Start(spec) => {
                let is_started = matches!(step.operation, Operation::Start(_));
                let container = Container {
                    name: spec.name.clone(),
                    state: if is_started { ContainerState::Running } else { ContainerState::Created },
                    health: None,
                    probes: Default::default(),
                    restarts: 0,
                    pid: is_started.then_some(1),
                    image: match &spec.files.rootfs {
                        Rootfs::Layers(image) => Some(image.id.clone()),
                        _ => None,
                    },
                    config: spec.config.clone(),
                    origin: spec.origin.clone(),
                    dependencies: spec.dependencies.clone(),
                    depends_on: spec.depends_on.clone(),
                    private_ipc: spec.files.private_ipc,
                    command: spec.argv.clone(),
                    ports: Vec::new(),
                    stop_signal: spec.stop_signal,
                    stop_grace_ms: spec.stop_grace_ms,
                    started_ms: 0,
                    limits: Effective::default(),
                    oom_kills: 0,
                };
                observed.containers.insert(spec.service.clone(), container);
            }
            Operation::WaitFor(wait) => {
                let container = observed.containers.get_mut(&wait.service).expect("it has been started");
                match wait.until {
                    Until::Completed => container.state = ContainerState::Exited(0),
                    Until::Healthy => container.health = Some(Health::Healthy),
                    Until::Up => {}
                }
            }
            Operation::AskForGroup => observed.host.cgroups.ask = false,
            Operation::Connect(uplink) => observed.uplink = Some(uplink.fingerprint.clone()),
            Operation::Detach(cable) => {
                observed.addresses.get_mut(&cable.service).and_then(|networks| networks.remove(&cable.network));
            }
            Operation::RemoveNetwork(removal) => {
                observed.networks.remove(&removal.network);
            }
            Operation::Stop(_)
            | Operation::StopWithin(..)
            | Operation::StartAgain(_)
            | Operation::StartAlone(_)
            | Operation::Kill(..)
            | Operation::Pause(_)
            | Operation::Unpause(_)
            | Operation::CreateVolume(..)
            | Operation::SetNames(_)
            | Operation::RemoveVolume(..) => {}
            Operation::Remove(service) | Operation::RemoveButVolumes(service) => {
                observed.containers.remove(service);
            }
            Operation::RemoveNamespaces(service) => {
                observed.namespaces.remove(service);
                observed.addresses.remove(service);
            }
        }
    }
    observed
}

/// The plan as text, and what it says of names.
fn text(plan: &Plan) -> String {
    let mut text = plan.to_string();
    for line in plan.summary().lines() {
        text += &format!("--- {line}\n");
    }
    for (_, step) in plan.steps() {
        if let Operation::SetNames(names) = &step.operation {
            for named in &names.services {
                let names = named.names.join(" ");
                let addresses: Vec<String> = named.addresses.iter().map(ToString::to_string).collect();
                let at = addresses.join(" ");
                text += &format!("--- {} on {} {at}: {names}\n", named.service, named.network);
            }
            for client in &names.clients {
                text += &format!("--- hosts of {}\n{}", client.service, client.hosts_file);
                text += &format!("--- resolver of {}\n{}", client.service, client.resolver_file);
            }
        }
    }
    text
}

fn run(case: &Path) -> String {
    let host: Host = match fs::read(case.join("host.json")) {
        Ok(json) => serde_json::from_slice(&json).expect("host.json"),
        Err(_) => Host::default(),
    };
    let mut observed = Observed { host, ..Observed::default() };
    let before = case.join("before.yaml");
    if before.exists() {
        let mut project = on_images(project(&before), case, "before-images");
        let more = words(case, "before-files").into_iter().map(|name| case.join(name));
        project.files = [case.join("compose.yaml")].into_iter().chain(more).collect();
        let intent = intent(Vec::new(), &words(case, "before-flags"));
        let plan = plan::up(&project, &observed, &intent).expect("a plan for before.yaml");
        observed = carried_out(&plan, observed);
    }
    if case.join("exited").exists() {
        for line in fs::read_to_string(case.join("exited")).expect("exited").lines() {
            let (service, code) = line.split_once(' ').expect("SERVICE CODE");
            let container =
                observed.containers.get_mut(&service.parse().expect("name")).expect("a service of before.yaml");
            container.state = ContainerState::Exited(code.parse().expect("a code"));
        }
    }
    for service in fs::read_to_string(case.join("restarting")).unwrap_or_default().split_whitespace() {
        let container = observed.containers.get_mut(&service.parse().expect("name")).expect("a service of before.yaml");
        (container.state, container.pid) = (ContainerState::Restarting(1), None);
    }
    let file = case.join("compose.yaml");
    if !file.exists() {
        return text(&plan::down(&observed, &std::collections::BTreeMap::new(), "down was asked for"));
    }
    let project = on_images(project(&file), case, "images");
    let mut intent = intent(words(case, "services"), &words(case, "flags"));
    intent.wait = case.join("wait").exists();
    intent.wait_timeout_ms = intent.wait.then_some(30_000);
    let mut orphans = String::new();
    let found = plan::orphans(&project, &observed, &intent);
    for name in &found.gone {
        orphans += &format!("--- {name} is not in the file any more\n");
    }
    for (name, files) in &found.elsewhere {
        let files: Vec<_> =
            files.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy()).collect();
        orphans += &format!("--- {name} comes from {}\n", files.join(" "));
    }
    match plan::up(&project, &observed, &intent) {
        Err(error) => format!("error: {error}\n"),
        Ok(plan) => {
            let after = carried_out(&plan, observed);
            // What is made anew in any case is made anew every time.
            let once = |policy| if policy == Recreate::Always { Recreate::Changed } else { policy };
            let (recreate, recreate_dependencies) = (once(intent.recreate), once(intent.recreate_dependencies));
            let again = plan::up(&project, &after, &Intent { recreate, recreate_dependencies, ..intent })
                .expect("a plan for what has just been brought up");
            assert!(again.is_empty(), "{}: carried out, and still there is something to do:\n{again}", case.display());
            text(&plan) + &orphans
        }
    }
}

#[test]
fn plans_are_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(&folder).expect("tests/plans").map(|e| e.expect("entry").path()).collect();
    cases.sort();
    assert!(cases.len() >= 8, "only {} cases in {}", cases.len(), folder.display());
    let mut wrong = Vec::new();
    for case in cases {
        let (got, golden) = (run(&case), case.join("expected.txt"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &got).expect("expected.txt");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if got != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- got\n{got}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The plan of one of the cases.
fn plan_of(case: &str) -> Plan {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(case);
    let before =
        plan::up(&project(&case.join("before.yaml")), &Observed::default(), &Intent::default()).expect("a plan");
    let observed = carried_out(&before, Observed::default());
    plan::up(&project(&case.join("compose.yaml")), &observed, &Intent::default()).expect("a plan")
}

#[test]
fn a_plan_for_programs_has_keys_and_values() {
    let json = plan_of("keys-that-differ-are-named").json();
    assert_eq!(json["changes"], true);
    let web = &json["services"]["web"];
    assert_eq!(web["action"], "recreate");
    let differences = web["differences"].as_array().expect("a list");
    let of = |key: &str| differences.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("{key}: {web:#}"));
    let debug = of("services.web.environment.DEBUG");
    assert_eq!((&debug["was"], &debug["is"]), (&"0".into(), &"1".into()));
    let password = of("services.web.environment.DB_PASSWORD");
    assert_eq!((&password["was"], &password["hidden"]), (&serde_json::Value::Null, &true.into()));
    // No value of it is anywhere.
    assert!(!json.to_string().contains("hunter"), "{json:#}");
    let steps = json["steps"].as_array().expect("a list");
    assert_eq!(steps[0]["kind"], "stop");
    assert_eq!(steps[0]["service"], "web");
    assert_eq!(steps[1]["after"], serde_json::json!([1]));
}

#[test]
fn a_plan_as_a_picture_is_a_graph_of_dot() {
    let dot = plan_of("a-changed-service-is-replaced").dot();
    assert!(dot.starts_with("digraph {\n"), "{dot}");
    assert!(dot.contains(r#"0 [ label = "1 stop web\lservices.web.environment.DEBUG \"0\" → \"1\"" ]"#), "{dot}");
    assert!(dot.contains("0 -> 1 [ ]"), "{dot}");
}
