//! Golden plans: a folder per case in `tests/plans`, with the file, what runs already, and the plan as text.
//!
//! What runs already is described by another file: `before.yaml` is what has been brought up, step by step, as an
//! executor would report it. `host.json`, if there is one, is the machine. `UPDATE_GOLDEN=1` writes what is expected anew.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use nscompose::{
    load::{LoadOptions, load},
    model::{Container, ContainerState, Effective, Host, Observed, ObservedNetwork, Project},
    plan::{self, Intent, Operation, Plan},
};

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
                let (config, shared) = (bridge.config.clone(), bridge.shared.clone());
                let there = ObservedNetwork { subnets, interface: bridge.interface.clone(), config, shared };
                observed.networks.insert(bridge.network.clone(), there);
            }
            Operation::CreateNamespaces(set) => {
                observed.namespaces.insert(set.service.clone(), set.fingerprint.clone());
            }
            Operation::Attach(link) => {
                let addresses = observed.addresses.entry(link.service.clone()).or_default();
                addresses.insert(link.network.clone(), link.addresses.iter().map(|net| net.addr()).collect());
            }
            Operation::Start(spec) => {
                let container = Container {
                    name: spec.name.clone(),
                    state: ContainerState::Running,
                    health: None,
                    probes: Default::default(),
                    restarts: 0,
                    pid: Some(1),
                    image: None,
                    config: spec.config.clone(),
                    dependencies: spec.dependencies.clone(),
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
            Operation::AskForGroup => observed.host.cgroups.ask = false,
            Operation::Connect(uplink) => observed.uplink = Some(uplink.fingerprint.clone()),
            Operation::Detach(cable) => {
                observed.addresses.get_mut(&cable.service).and_then(|networks| networks.remove(&cable.network));
            }
            Operation::RemoveNetwork(removal) => {
                observed.networks.remove(&removal.network);
            }
            Operation::Stop(_) | Operation::CreateVolume(..) | Operation::SetNames(_) | Operation::RemoveVolume(..) => {
            }
            Operation::Remove(service) => {
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
        let plan = plan::up(&project(&before), &observed, &Intent::default()).expect("a plan for before.yaml");
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
    let services: BTreeSet<_> = fs::read_to_string(case.join("services"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|name| name.parse().expect("a service name"))
        .collect();
    let project = project(&file);
    match plan::up(&project, &observed, &Intent { services: services.clone(), ..Intent::default() }) {
        Err(error) => format!("error: {error}\n"),
        Ok(plan) => {
            let after = carried_out(&plan, observed);
            let again = plan::up(&project, &after, &Intent { services, ..Intent::default() })
                .expect("a plan for what has just been brought up");
            assert!(again.is_empty(), "{}: carried out, and still there is something to do:\n{again}", case.display());
            text(&plan)
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
