//! How it is known that a service is healthy, and what follows from that.

use nscompose::{
    model::{HealthSettings, ImageHealthcheck, Observed, Rootfs, ServiceName},
    plan::{self, Intent},
};

use crate::support::{
    Container, Need, Stack,
    image::{ImageBuilder, KEEP, project, up_on},
    needs, wait_for,
};

#[track_caller]
fn with_health(stack: &Stack, service: &str, health: &str) -> Container {
    wait_for(&format!("`{service}` to be {health}"), || {
        Some(stack.container(service)).filter(|container| container.health.as_deref() == Some(health))
    })
}

/// So many probes of a service.
#[track_caller]
fn after_probes(stack: &Stack, service: &str, results: usize) -> Container {
    wait_for(&format!("{results} probes of `{service}`"), || {
        let container = stack.container(service);
        let probes = container.probes.as_ref().map_or(0, |probes| probes.log.len());
        (probes >= results).then_some(container)
    })
}

#[test]
fn each_form_of_a_test_is_run_in_the_container() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
x-service: &service {rootfs: host, command: [sleep, infinity], environment: {WHO: me}, volumes: ['./share:/share']}
services:
  program: {<<: *service, healthcheck: {interval: 20ms, test: [CMD, test, -e, /share/x]}}
  shell: {<<: *service, healthcheck: {interval: 20ms, test: [CMD-SHELL, 'test "$$WHO" = me && test -e /share/x']}}
  line: {<<: *service, healthcheck: {interval: 20ms, test: 'test "$$WHO" = me || exit 1'}}
  none: {<<: *service, healthcheck: {interval: 20ms, test: [NONE]}}
  disabled: {<<: *service, healthcheck: {interval: 20ms, disable: true, test: 'false'}}
  plain: *service
"#,
    );
    stack.file("share/x", "");
    stack.up();
    for name in ["program", "shell", "line"] {
        let container = with_health(&stack, name, "healthy");
        assert_eq!(container.state, "running");
        let probes = container.probes.expect("probes");
        assert_eq!((probes.status.as_str(), probes.failing_streak), ("healthy", 0));
        let last = probes.log.last().expect("a probe");
        assert_eq!((last.exit_code, last.output.as_str()), (0, ""));
        assert!(last.start <= last.end);
    }
    for name in ["none", "disabled", "plain"] {
        let container = stack.container(name);
        assert!(container.health.is_none() && container.probes.is_none(), "{name}");
    }
    let table = stack.run(&["-p", stack.project(), "ps"]).success().stdout;
    assert_eq!(table.matches("running (healthy)").count(), 3, "{table}");
}

#[test]
fn failures_in_a_row_make_it_unhealthy_and_what_they_wrote_is_kept() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    volumes: ['./share:/share']
    healthcheck: {test: 'echo out; echo err >&2; test -e /share/well || exit 3', interval: 20ms, retries: 2}
  talks:
    rootfs: host
    command: [sleep, infinity]
    healthcheck: {test: 'head -c 100000 /dev/zero | tr "\0" x; exit 1', interval: 20ms, retries: 1}
  lacks:
    rootfs: host
    command: [sleep, infinity]
    healthcheck: {test: [CMD, /no/such/program], interval: 20ms, retries: 1}
"#,
    );
    stack.file("share/x", "");
    stack.up();
    with_health(&stack, "web", "unhealthy");
    let probes = after_probes(&stack, "web", 5).probes.expect("probes");
    assert!(probes.failing_streak >= 2 && probes.log.len() == 5, "{probes:?}");
    assert!(probes.log.iter().all(|probe| probe.exit_code == 3 && probe.output == "out\nerr\n"), "{probes:?}");
    stack.file("share/well", "");
    let probes = with_health(&stack, "web", "healthy").probes.expect("probes");
    assert_eq!(probes.failing_streak, 0);

    let probes = with_health(&stack, "talks", "unhealthy").probes.expect("probes");
    assert_eq!(probes.log.last().expect("a probe").output, "x".repeat(4096));
    let probes = with_health(&stack, "lacks", "unhealthy").probes.expect("probes");
    let last = probes.log.last().expect("a probe");
    assert_eq!(last.exit_code, 127, "{last:?}");
    assert!(last.output.contains("/no/such/program"), "{last:?}");
}

/// Processes of the host that sleep for this time.
fn sleepers(time: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let commands = all.map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default());
    commands.filter(|command| *command == format!("sleep\0{time}\0")).count()
}

#[test]
fn a_probe_that_takes_too_long_is_ended_with_all_it_has_begun() {
    needs!(Need::Namespaces);
    let time = |offset: u32| format!("{}", 3_000_000 + u64::from(std::process::id()) * 10 + u64::from(offset));
    let (begun, itself, left) = (time(1), time(2), time(3));
    let stack = Stack::new(&format!(
        "
services:
  keep: {{rootfs: host, command: [sleep, infinity]}}
  late:
    rootfs: host
    command: [sleep, infinity]
    pid: service:keep
    healthcheck: {{test: 'echo waits; sleep {begun} & sleep {itself}', interval: 300ms, timeout: 100ms, retries: 2}}
  leaves:
    rootfs: host
    command: [sleep, infinity]
    pid: service:keep
    healthcheck: {{test: 'sleep {left} & exit 0', interval: 300ms}}
"
    ));
    stack.up();
    let probes = with_health(&stack, "late", "unhealthy").probes.expect("probes");
    let last = probes.log.last().expect("a probe");
    assert_eq!(last.exit_code, -1);
    assert_eq!(last.output, "waits\nthe health check took longer than 0.1 s and was ended");
    after_probes(&stack, "late", 3);
    after_probes(&stack, "leaves", 3);
    assert!(sleepers(&begun) <= 1 && sleepers(&itself) <= 1 && sleepers(&left) <= 1);
    wait_for("a moment without any", || (sleepers(&begun) + sleepers(&itself) == 0).then_some(()));
    wait_for("a moment without any", || (sleepers(&left) == 0).then_some(()));
    stack.down();
    assert_eq!(sleepers(&begun) + sleepers(&itself) + sleepers(&left), 0);
}

#[test]
fn it_is_ready_when_the_kernel_shows_that_it_listens() {
    needs!(Need::Program("python3"), Need::Program("nc"));
    let stack = Stack::new(
        r#"
services:
  http:
    rootfs: host
    command: [sh, -c, "while [ ! -e /share/go ]; do sleep 0.02; done; cd /share; exec python3 -m http.server 8000"]
    volumes: ['./share:/share']
    x-nscompose: {ready: {listen: 8000}}
  both:
    rootfs: host
    command: [sh, -c, "nc -lk 9000 & nc -luk 9001 & server=$$!; while [ ! -e /share/go ]; do sleep 0.02; done; kill $$server; wait $$server; sleep infinity"]
    volumes: ['./share:/share']
    healthcheck: {interval: 50ms, retries: 2}
    x-nscompose: {ready: {listen: [9000, 9001/udp]}}
  beside: {rootfs: host, command: [sleep, infinity], network_mode: 'service:both', x-nscompose: {ready: {listen: 9000}}}
  resolver: {rootfs: host, command: [sleep, infinity], x-nscompose: {ready: {listen: 53}}}
"#,
    );
    stack.file("share/x", "");
    stack.up();
    with_health(&stack, "both", "healthy");
    with_health(&stack, "beside", "healthy");
    for name in ["http", "resolver"] {
        let container = after_probes(&stack, name, 3);
        assert_eq!(container.health.as_deref(), Some("starting"), "{name}");
    }
    let probes = stack.container("http").probes.expect("probes");
    assert_eq!(probes.log.last().expect("a probe").output, "nobody listens on port 8000/tcp");
    stack.file("share/go", "");
    with_health(&stack, "http", "healthy");
    let probes = with_health(&stack, "both", "unhealthy").probes.expect("probes");
    assert_eq!(probes.log.last().expect("a probe").output, "nobody listens on port 9001/udp");
}

#[test]
fn one_that_is_unhealthy_is_started_again_if_the_file_says_so() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
x-service: &service
  rootfs: host
  command: [sh, -c, "rm -f /share/$$HOSTNAME; echo begun; trap 'echo asked; exit 0' TERM; while :; do sleep 0.02; done"]
  volumes: ['./share:/share']
  healthcheck: {test: 'test ! -e /share/$$HOSTNAME', interval: 20ms, retries: 1}
services:
  again: {<<: *service, hostname: again, x-nscompose: {restart_unhealthy: true}}
  stays: {<<: *service, hostname: stays, restart: always}
"#,
    );
    stack.file("share/x", "");
    stack.up();
    for name in ["again", "stays"] {
        with_health(&stack, name, "healthy");
        stack.file(&format!("share/{name}"), "");
    }
    with_health(&stack, "stays", "unhealthy");
    wait_for("the restart", || (stack.container("again").restarts == 1).then_some(()));
    with_health(&stack, "again", "healthy");
    assert_eq!(stack.log("again"), "begun\nasked\nbegun\n");
    let stays = stack.container("stays");
    assert_eq!((stays.restarts, stays.state.as_str()), (0, "running"));
}

#[test]
fn an_image_says_it_and_the_file_changes_single_fields() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(&format!(
        "
services:
  {KEEP}
  own: {{rootfs: ./image, command: [sleep, infinity]}}
  mended: {{rootfs: ./image, command: [sleep, infinity], x-nscompose: {{ready: {{listen: 1}}}}}}
  off: {{rootfs: ./image, command: [sleep, infinity], healthcheck: {{disable: true}}}}
"
    ));
    let _ = stack.run(&["up", "-d", "keep"]).success();
    let mut image = ImageBuilder::new(&stack).busybox().build();
    let ms = std::time::Duration::from_millis;
    image.config.healthcheck = Some(ImageHealthcheck {
        test: vec!["CMD-SHELL".into(), "cat /etc/marker".into()],
        interval: Some(ms(20)),
        timeout: None,
        start_period: None,
        start_interval: None,
        retries: None,
    });
    image.config.shell = vec!["/bin/sh".into(), "-ec".into()];
    up_on(&stack, &Rootfs::Layers(Box::new(image)), &["own", "mended", "off"]).unwrap_or_else(|e| panic!("{e:?}"));
    let probes = with_health(&stack, "own", "healthy").probes.expect("probes");
    assert_eq!(probes.log.last().expect("a probe").output, "from the root\n");
    let probes = after_probes(&stack, "mended", 1).probes.expect("probes");
    assert_eq!(probes.log.last().expect("a probe").output, "nobody listens on port 1/tcp");
    assert!(stack.container("off").probes.is_none());
}

#[test]
fn an_image_without_a_health_check_is_no_answer_to_one_that_is_asked_for() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(&format!(
        "services: {{{KEEP}, web: {{image: x, rootfs: ./image, command: [sleep, infinity], healthcheck: {{test: 'true'}}}}}}"
    ));
    let _ = stack.run(&["up", "-d", "keep"]).success();
    let image = ImageBuilder::new(&stack).busybox().build();
    let mut wanted = project(&stack);
    let service = wanted.services.get_mut(&"web".parse::<ServiceName>().expect("a name")).expect("a service");
    service.life.health = HealthSettings { retries: Some(2), ..HealthSettings::default() };
    let wanted = wanted.on_images(&[("web".parse().expect("a name"), image)].into()).expect("a command");
    let planned = plan::up(&wanted, &Observed::default(), &Intent::default());
    let error = planned.expect_err("nothing to look at").to_string();
    assert!(error.contains("`web` has no health check") && error.contains("`image:test`"), "{error}");
}
