//! Which files are loaded, under which name, and against what.

#![expect(clippy::expect_used, reason = "a test")]

use std::{collections::BTreeMap, path::Path};

use nscompose::load::{LoadOptions, load};
use tempfile::TempDir;

const MINIMAL: &str = "services: {web: {rootfs: host, command: run}}\n";

struct Case {
    root: TempDir,
    options: LoadOptions,
}

impl Case {
    fn new(folder: &str) -> Self {
        let root = TempDir::new().expect("a folder");
        let directory = root.path().join(folder);
        std::fs::create_dir_all(&directory).expect("folders");
        Self { root, options: LoadOptions { directory, ..LoadOptions::default() } }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, text).expect("written");
        self
    }

    fn named(mut self, file: &str) -> Self {
        self.options.files.push(file.into());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.options.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn name(self) -> String {
        load(&self.options).expect("loads").project.name.to_string()
    }

    fn error(self) -> String {
        let text = load(&self.options).expect_err("refused").render(false);
        text.replace(&self.root.path().display().to_string(), "ROOT")
    }
}

#[test]
fn the_folder_names_the_project_if_nothing_else_does() {
    assert_eq!(Case::new("My App.v2").file("My App.v2/compose.yaml", MINIMAL).name(), "myappv2");
    let named = format!("name: from-file\n{MINIMAL}");
    assert_eq!(Case::new("x").file("x/compose.yaml", &named).name(), "from-file");
    assert_eq!(
        Case::new("x").file("x/compose.yaml", &named).env("COMPOSE_PROJECT_NAME", "from-env").name(),
        "from-env"
    );
    let mut case = Case::new("x").file("x/compose.yaml", &named).env("COMPOSE_PROJECT_NAME", "from-env");
    case.options.project_name = Some("given".to_owned());
    assert_eq!(case.name(), "given");
    let overridden = Case::new("x").file("x/a.yaml", &named).file("x/b.yaml", "name: later\n");
    assert_eq!(overridden.named("a.yaml").named("b.yaml").name(), "later");
    assert!(Case::new("...").file(".../compose.yaml", MINIMAL).error().contains("no project name can be made"));
}

#[test]
fn a_file_is_found_from_below_and_paths_start_from_its_folder() {
    let case = Case::new("app/src/deep")
        .file("app/compose.yml", "services: {web: {command: run, rootfs: ./root, environment: [FROM]}}\n")
        .file("app/.env", "FROM=dotenv\n");
    let loaded = load(&case.options).expect("loads");
    let web = loaded.project.services.values().next().expect("a service");
    assert_eq!(loaded.project.directory, case.root.path().join("app"));
    assert_eq!(web.rootfs, nscompose::model::Rootfs::Directory(case.root.path().join("app/root")));
    assert_eq!(web.environment, BTreeMap::from([("FROM".to_owned(), "dotenv".to_owned())]));
    assert_eq!(case.env("FROM", "caller").options.environment.len(), 1);
}

#[test]
fn what_cannot_be_read_is_named() {
    assert_eq!(
        Case::new("x").named("gone.yaml").error(),
        "error: `gone.yaml` does not exist\nhint: looked for ROOT/x/gone.yaml\n"
    );
    assert!(Case::new("x").named(".").error().starts_with("error: `.` is a folder, not a file\n"));
    let error = Case::new("x").error();
    assert!(error.starts_with("error: there is no Compose file in ROOT/x or a folder above it\n"), "{error}");
    assert!(error.contains("nscompose.yaml, stack.yaml, compose.yaml"), "{error}");
}

#[test]
fn mistakes_of_several_files_come_in_the_order_of_the_files() {
    let error = Case::new("x")
        .file("x/a.yaml", "services: {web: {rootfs: host, command: run, usr: a}}\n")
        .file("x/b.yaml", "services: {web: {usr2: b}}\nservces: {}\n")
        .named("a.yaml")
        .named("b.yaml")
        .error();
    let places: Vec<&str> = error.lines().filter_map(|line| line.trim_start().strip_prefix("--> ")).collect();
    assert_eq!(places, ["a.yaml:1:46", "b.yaml:1:18", "b.yaml:2:1"]);
}

#[test]
fn project_paths_are_absolute_whatever_the_spelling() {
    let case = Case::new("x/y").file("x/compose.yaml", MINIMAL).named("../y/.././compose.yaml");
    let project = load(&case.options).expect("loads").project;
    assert_eq!(project.files, [case.root.path().join("x/compose.yaml")]);
    assert!(
        project.directory.is_absolute()
            && Path::new("x") == project.directory.strip_prefix(case.root.path()).expect("below")
    );
}

#[test]
fn what_nobody_asked_for_need_not_be_supported() {
    let file = "\
services:
  a: {rootfs: host, command: run, depends_on: [b]}
  b: {rootfs: host, command: run}
  c: {build: ., networks: [far], healthcheck: {test: run}, ports: ['80:80']}
  d: {rootfs: host, command: run, network_mode: 'service:c'}
  e: {rootfs: host, command: run, ports: ['80:80']}
networks: {far: {driver: overlay}}
";
    let asking = |services: &[&str]| {
        let mut case = Case::new("x").file("x/compose.yaml", file);
        case.options.services = services.iter().map(ToString::to_string).collect();
        case
    };
    for services in [["a"], ["e"]] {
        let case = asking(&services);
        let loaded = load(&case.options).expect("loads");
        // Those that could be run have their addresses and ids among the others.
        let names: Vec<&str> = loaded.project.services.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "e"]);
        assert!(loaded.warnings.is_empty());
    }
    for services in [&["c"] as &[&str], &["d"], &["a", "c"], &[]] {
        let error = asking(services).error();
        assert!(error.contains("`build` is not supported yet"), "{error}");
        assert!(error.contains("`driver: overlay` is not supported yet"), "{error}");
    }
}

#[test]
fn what_is_remote_is_not_fetched_and_said_so() {
    let git = "https://github.com/a/b.git";
    let included = Case::new("x").file("x/compose.yaml", &format!("include:\n  - {git}\nservices: {{}}\n")).error();
    let message = format!("error: `{git}` is remote, and nothing is fetched from elsewhere\n --> compose.yaml:2:5\n");
    assert!(included.starts_with(&message), "{included}");
    let file = "services: {a: {extends: {file: 'git@github.com:a/b.git', service: x}, rootfs: host, command: run}}\n";
    let extended = Case::new("x").file("x/compose.yaml", file).error();
    assert!(extended.contains("`git@github.com:a/b.git` is remote"), "{extended}");
    assert!(extended.contains("--> compose.yaml:1:32"), "{extended}");
    let named = Case::new("x").named("oci://registry/x").error();
    assert!(named.starts_with("error: `oci://registry/x` is remote"), "{named}");
}

#[test]
fn no_number_of_warnings_keeps_errors_out() {
    let many: String =
        (0..1_500).map(|n| format!("  s{n}: {{rootfs: host, command: run, use_api_socket: true}}\n")).collect();
    let file = format!("services:\n{many}  last: {{rootfs: host, command: run, usr: a, prots: []}}\n");
    let mut case = Case::new("x").file("x/compose.yaml", &file);
    case.options.allow_unsupported = true;
    let error = case.error();
    assert!(error.contains("has no key `usr`") && error.contains("has no key `prots`"), "{}", error.len());
    assert!(error.find("error: ") > error.rfind("warning: "));
}
