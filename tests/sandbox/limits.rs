//! Limits: what a service may use, seen from within, in the files of its control groups, and in `ps` and `stats`.
//!
//! As root all of them are tried with whatever hierarchies the host has. An ordinary user has them only where a control group
//! has been handed to it; where none has been, that is said before anything is started.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Need, Run, Stack, needs, wait_for};

/// The folder that a process is in, in the hierarchy of this controller, whichever version has it.
fn group(pid: i32, controller: &str) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let one = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        names.split(',').any(|name| name == controller).then(|| path.trim_start_matches('/').to_owned())
    });
    let mount = |wanted: &dyn Fn(&str) -> bool| {
        let line = mounts.lines().find(|line| line.split_once(" - ").is_some_and(|(_, after)| wanted(after)));
        PathBuf::from(line.expect("it is mounted").split(' ').nth(4).expect("a place"))
    };
    match one {
        Some(path) => {
            let of_controller = |after: &str| {
                after.starts_with("cgroup ")
                    && after.rsplit(' ').next().is_some_and(|o| o.split(',').any(|o| o == controller))
            };
            mount(&of_controller).join(path)
        }
        None => {
            let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).expect("version 2");
            mount(&|after: &str| after.starts_with("cgroup2 ")).join(own)
        }
    }
}

/// What the first of these files says that is there: of version 2, and of version 1.
fn value(folder: &Path, names: &[&str]) -> String {
    let found = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
    found.unwrap_or_else(|| panic!("none of {names:?} in {}", folder.display())).trim().to_owned()
}

fn is_v2(folder: &Path) -> bool {
    folder.join("cgroup.controllers").exists()
}

#[test]
fn limits_are_those_of_the_file() {
    needs!(Need::Cgroups);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], cpus: 0.5, cpu_shares: 512, cpuset: '0', \
         mem_limit: 64m, memswap_limit: 96m, mem_reservation: 32m, pids_limit: 20}}",
    );
    stack.up();
    let pid = stack.pid("web");
    let (cpu, memory) = (group(pid, "cpu"), group(pid, "memory"));
    if is_v2(&cpu) {
        assert_eq!(value(&cpu, &["cpu.max"]), "50000 100000");
        assert_eq!(value(&cpu, &["cpu.weight"]), "59");
        assert_eq!(value(&memory, &["memory.low"]), (32 << 20).to_string());
    } else {
        assert_eq!(value(&cpu, &["cpu.cfs_quota_us"]), "50000");
        assert_eq!(value(&cpu, &["cpu.cfs_period_us"]), "100000");
        assert_eq!(value(&cpu, &["cpu.shares"]), "512");
        assert_eq!(value(&memory, &["memory.soft_limit_in_bytes"]), (32 << 20).to_string());
        assert_eq!(value(&memory, &["memory.memsw.limit_in_bytes"]), (96 << 20).to_string());
    }
    assert_eq!(value(&memory, &["memory.max", "memory.limit_in_bytes"]), (64 << 20).to_string());
    assert_eq!(value(&group(pid, "pids"), &["pids.max"]), "20");
    assert_eq!(stack.sh("web", "grep Cpus_allowed_list /proc/self/status"), "Cpus_allowed_list:\t0");
    let shown = stack.container("web").limits;
    assert_eq!(shown["cpu"]["quota_us"], 50_000);
    assert_eq!((shown["memory"].as_u64(), shown["pids"].as_u64()), (Some(64 << 20), Some(20)));
    assert_eq!(shown["swap"], 32 << 20);
    let table = stack.run(&["ps", "stack.yaml"]).success().stdout;
    assert!(table.contains("cpus 0.5") && table.contains("memory 64 MiB") && table.contains("pids 20"), "{table}");
    let traces = stack.traces();
    assert!(traces.cgroups.len() > 1, "{:?}", traces.cgroups);
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_program_that_is_executed_in_it_is_limited_too() {
    needs!(Need::Cgroups);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], pids_limit: 20, mem_limit: 64m}}");
    stack.up();
    let pid = stack.pid("web");
    let own = stack.nscompose().args(["exec", "web", "sleep", "infinity"]).start();
    let other = wait_for("the program", || {
        let pids = value(&group(pid, "memory"), &["cgroup.procs"]);
        // The helper that starts it is in there for a moment, too.
        let is_it = |other: &i32| {
            *other != pid && fs::read_to_string(format!("/proc/{other}/comm")).is_ok_and(|name| name.trim() == "sleep")
        };
        pids.lines().filter_map(|line| line.parse::<i32>().ok()).find(is_it)
    });
    for controller in ["memory", "pids"] {
        assert_eq!(group(other, controller), group(pid, controller));
    }
    drop(own);
}

#[test]
fn processes_beyond_the_limit_are_not_made() {
    needs!(Need::Cgroups);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], pids_limit: 8}}");
    stack.up();
    let script = "i=0; while [ $i -lt 20 ]; do sleep 60 >/dev/null 2>&1 & i=$((i+1)); done 2>/dev/null; jobs | wc -l";
    let made = stack.nscompose().args(["exec", "web", "sh", "-c", script]).run();
    assert!(!made.stdout.trim().parse::<u32>().is_ok_and(|made| made > 8), "{made}");
    let pids = group(stack.pid("web"), "pids");
    let refused = value(&pids, &["pids.events"]);
    assert!(refused.lines().any(|line| line.starts_with("max ") && line != "max 0"), "{refused}");
}

#[test]
fn processor_time_beyond_the_limit_is_waited_for() {
    needs!(Need::Cgroups);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'while :; do :; done'], cpus: 0.1}}");
    stack.up();
    let file = group(stack.pid("web"), "cpu").join("cpu.stat");
    wait_for("a period in which it had no more", || {
        let text = fs::read_to_string(&file).expect("statistics");
        let throttled = text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.parse::<u64>().ok()?;
        (throttled > 0).then_some(())
    });
}

#[test]
fn a_kill_for_want_of_memory_is_said_with_the_limit() {
    needs!(Need::Cgroups);
    let hog = "head -c 200m /dev/zero | tail";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, '{hog}; exit 3'], mem_limit: 32m, memswap_limit: 32m}}}}"
    ));
    let up = stack.nscompose().arg("up").run();
    let said = "service `web` has used up its limit of memory, 32 MiB: the kernel killed a process of it";
    assert!(up.stderr.contains(said), "{up}");
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, 'exec {hog}'], mem_limit: 32m, memswap_limit: 32m}}, \
         other: {{rootfs: host, command: [sleep, infinity]}}}}"
    ));
    stack.up();
    stack.exit_code("web");
    assert!(stack.container("web").oom_kills > 0);
    let table = stack.run(&["ps", "-a", "stack.yaml"]).success().stdout;
    assert!(table.contains("out of memory"), "{table}");
}

#[test]
fn a_kill_is_said_while_its_container_goes_on() {
    needs!(Need::Cgroups);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'head -c 200m /dev/zero | tail; sleep infinity'], \
         mem_limit: 32m, memswap_limit: 32m}}",
    );
    stack.up();
    wait_for("the news", || (stack.container("web").oom_kills > 0).then_some(()));
    assert_eq!(stack.container("web").state, "running");
}

#[test]
fn speed_of_a_device_is_set_for_the_device_that_the_path_leads_to() {
    needs!(Need::Cgroups);
    // A partition would be refused, hence one that is a whole device.
    let disk = fs::read_dir("/sys/block").expect("devices").flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let there = !name.starts_with("loop") && Path::new("/dev").join(&name).exists();
        there.then(|| (name, fs::read_to_string(entry.path().join("dev")).expect("numbers").trim().to_owned()))
    });
    let Some((name, numbers)) = disk else { return };
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sleep, infinity], blkio_config: {{device_write_bps: \
         [{{path: /dev/{name}, rate: 1mb}}], device_read_iops: [{{path: /dev/{name}, rate: 100}}]}}}}}}"
    ));
    stack.up();
    let pid = stack.pid("web");
    let folder = [group(pid, "blkio"), group(pid, "io")]
        .into_iter()
        .find(|folder| folder.join("io.max").exists() || folder.join("blkio.throttle.write_bps_device").exists());
    let folder = folder.expect("a group");
    let text = value(&folder, &["io.max", "blkio.throttle.write_bps_device"]);
    assert!(text.starts_with(&numbers) && text.contains("1048576"), "{text}");
    let text = value(&folder, &["io.max", "blkio.throttle.read_iops_device"]);
    assert!(text.contains("100"), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_said_before_anything_is_started() {
    needs!(Need::Cgroups);
    let stack = Stack::new(
        "services: {a: {rootfs: host, command: [sleep, infinity]}, b: {rootfs: host, command: [sleep, infinity], \
         blkio_config: {device_read_bps: [{path: /dev/null, rate: 1m}]}}}",
    );
    let up = stack.run(&["up", "-d"]);
    assert_eq!(up.code, 1, "{up}");
    assert!(up.stderr.contains("/dev/null is not a block device") && !up.stderr.contains("started"), "{up}");
}

#[test]
fn devices_that_no_rule_allows_cannot_be_opened() {
    needs!(Need::Cgroups, Need::Root);
    let stack = Stack::new(
        "services: {usual: {rootfs: host, command: [sleep, infinity]}, more: {rootfs: host, \
         command: [sleep, infinity], device_cgroup_rules: ['c 1:11 r']}}",
    );
    stack.up();
    // No node of a container leads anywhere but to the usual ones, so that a process of the host's takes its place: what its
    // group says holds whatever else it may do.
    let open = |service: &str, device: &str| -> String {
        let pid = stack.pid(service);
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
        let own = groups.lines().find(|line| line.starts_with("0::/") && line.contains("nscompose"));
        let folder = group(pid, if own.is_some() { "no controller" } else { "devices" });
        let script =
            format!("echo $$ > {}/cgroup.procs && exec dd if={device} of=/dev/null bs=1 count=0", folder.display());
        Run::new("sh").args(["-c", &script]).run().stderr
    };
    assert!(!open("usual", "/dev/full").contains("failed"), "{}", open("usual", "/dev/full"));
    assert!(open("usual", "/dev/kmsg").contains("Operation not permitted"), "{}", open("usual", "/dev/kmsg"));
    assert!(!open("more", "/dev/kmsg").contains("failed"), "{}", open("more", "/dev/kmsg"));
    assert!(stack.sh("usual", "echo x > /dev/null; head -c 1 /dev/urandom | wc -c").starts_with('1'));
}

#[test]
fn a_parent_is_made_and_removed() {
    needs!(Need::Cgroups);
    let stack = Stack::empty();
    let parent = format!("nscompose-{}", stack.project());
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices: {{web: {{rootfs: host, command: [sleep, infinity], pids_limit: 9, \
             cgroup_parent: {parent}/deep}}}}",
            stack.project()
        ),
    );
    stack.up();
    let group = group(stack.pid("web"), "pids");
    let above = group.parent().and_then(Path::parent).expect("a parent").to_owned();
    assert!(above.ends_with(&parent) && value(&group, &["pids.max"]) == "9", "{}", group.display());
    stack.down();
    wait_for("its removal", || (!above.exists()).then_some(()));
}

#[test]
fn others_in_a_parent_are_left_alone_when_the_supervisor_that_made_it_is_killed() {
    needs!(Need::Cgroups);
    let (first, second) = (Stack::empty(), Stack::empty());
    let parent = format!("nscompose-{}", first.project());
    for stack in [&first, &second] {
        let yaml = format!(
            "name: {}\nservices: {{web: {{rootfs: host, command: [sleep, infinity], cgroup_parent: {parent}}}}}",
            stack.project()
        );
        stack.file("stack.yaml", &yaml).up();
    }
    let supervisor = first.supervisor().expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).expect("killed");
    first.down();
    assert_eq!(second.container("web").state, "running");
    assert!(second.exec("web", &["cat", "/proc/1/comm"]).starts_with("sleep"));
    // It goes with the last one in it, whoever made it.
    let pid = second.pid("web");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let own =
        if groups.lines().any(|line| line.starts_with(&format!("0::/{parent}"))) { "no controller" } else { "pids" };
    let above = group(pid, own).parent().expect("a parent").to_owned();
    assert!(above.ends_with(&parent), "{}", above.display());
    second.down();
    wait_for("its removal", || (!above.exists()).then_some(()));
}

#[test]
fn groups_go_when_the_supervisor_is_killed() {
    needs!(Need::Cgroups);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], mem_limit: 64m, pids_limit: 9}}");
    stack.up();
    let traces = stack.traces();
    let supervisor = stack.supervisor().expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).expect("killed");
    stack.down();
    traces.assert_gone();
}

#[test]
fn stats_show_what_is_used() {
    needs!(Need::Cgroups);
    let stack = Stack::new(
        "services: {busy: {rootfs: host, command: [sh, -c, 'while :; do :; done'], mem_limit: 64m, pids_limit: 9}, \
         idle: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    let stats = |service: &str| -> serde_json::Value {
        let output = stack.run(&["-p", stack.project(), "stats", "--no-stream", "--format", "json", service]).success();
        serde_json::from_str(output.stdout.trim()).unwrap_or_else(|e| panic!("{e}\n{output}"))
    };
    wait_for("processor time", || {
        (stats("busy")["CpuPercent"].as_f64().is_some_and(|percent| percent > 0.0)).then_some(())
    });
    let busy = stats("busy");
    assert_eq!((busy["MemoryLimit"].as_u64(), busy["PIDsLimit"].as_u64()), (Some(64 << 20), Some(9)));
    assert!(busy["Memory"].as_u64().is_some_and(|memory| memory > 0 && memory < 64 << 20), "{busy}");
    assert_eq!(busy["PIDs"], 1);
    assert!(busy["Received"].is_u64() && busy["Sent"].is_u64(), "{busy}");
    let idle = stats("idle");
    assert_eq!((idle["PIDs"].as_u64(), idle["MemoryLimit"].as_u64()), (Some(1), None), "{idle}");
    assert!(idle["CpuPercent"].is_f64(), "{idle}");
    let table = stack.run(&["-p", stack.project(), "stats", "--no-stream"]).success().stdout;
    assert!(table.starts_with("NAME") && table.contains("/ 64 MiB") && table.lines().count() == 3, "{table}");
}

#[test]
fn what_cannot_be_had_is_said_at_its_key_before_anything_is_started() {
    needs!(Need::OrdinaryUser);
    let yaml =
        "services:\n  web:\n    rootfs: host\n    command: [sleep, infinity]\n    device_cgroup_rules: ['c 1:3 r']\n";
    let stack = Stack::new(yaml);
    let up = stack.run(&["up", "-d"]);
    assert_eq!(up.code, 4, "{up}");
    assert!(up.stderr.contains("`device_cgroup_rules` of service `web` cannot be had here"), "{up}");
    assert!(up.stderr.contains("stack.yaml:6:5") && up.stderr.contains("hint: remove the key"), "{up}");
    let plan = stack.run(&["plan"]);
    assert_eq!(plan.code, 4, "{plan}");
    let up = stack.run(&["up", "-d", "--allow-unsupported"]).success();
    assert!(up.stderr.contains("it is left out"), "{up}");
    assert_eq!(stack.container("web").state, "running");
}

#[test]
fn an_ordinary_user_has_limits_or_hears_why_not() {
    needs!(Need::OrdinaryUser);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], mem_limit: 64m, pids_limit: 9}}");
    let up = stack.run(&["up", "-d"]);
    if up.code == 0 {
        let pid = stack.pid("web");
        assert_eq!(value(&group(pid, "memory"), &["memory.max"]), (64 << 20).to_string());
        assert_eq!(value(&group(pid, "pids"), &["pids.max"]), "9");
        return;
    }
    assert_eq!(up.code, 4, "{up}");
    assert!(up.stderr.contains("`mem_limit` of service `web` cannot be had here"), "{up}");
    assert!(up.stderr.contains("`pids_limit` of service `web` cannot be had here"), "{up}");
    assert!(up.stderr.contains("hint: "), "{up}");
    let up = stack.run(&["up", "-d", "--allow-unsupported"]).success();
    assert!(up.stderr.contains("it is left out"), "{up}");
    let stats = stack.run(&["-p", stack.project(), "stats", "--no-stream"]).success();
    assert!(stats.stderr.contains("what containers use is not counted"), "{stats}");
    assert!(stats.stdout.lines().count() == 2 && stats.stdout.contains(" - "), "{stats}");
}

#[test]
fn an_init_is_not_what_is_killed_for_want_of_memory() {
    needs!(Need::Cgroups);
    let stack = Stack::new(
        "services:
  web:
    rootfs: host
    init: true
    mem_limit: 18m
    memswap_limit: 18m
    command: [sh, -c, 'tail /dev/zero; echo rest $$?; exec sleep infinity']
",
    );
    stack.up();
    stack.log_with("web", "rest 137");
}
