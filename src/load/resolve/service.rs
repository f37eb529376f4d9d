//! One service: the table of its keys.

use std::{collections::HashMap, path::PathBuf};

use super::{
    Context, Entry, command, depends_on, duration, environment, hostname,
    keys::{self, Key, instead, later, read as reads},
    mounts, namespaces, networks, ports, rootfs,
};
use crate::{
    diagnostics::{Diagnostic, Span},
    model::{Mount, NamespaceMode, NetworkAttachment, Rootfs, Service, ServiceName, StopSignal},
};

/// A service whose references are names that nobody has looked up yet.
pub(super) struct Draft {
    pub(super) name: ServiceName,
    pub(super) name_span: Span,
    pub(super) service: Service,
    /// Services it refers to, in file order.
    pub(super) links: Vec<Link>,
    /// Networks as they are listed; none if the key is not there.
    pub(super) networks: Option<Vec<Joined>>,
    /// Declared volumes it refers to.
    pub(super) volumes: Vec<(String, Span)>,
    /// Where a target was mounted first.
    pub(super) targets: HashMap<PathBuf, Span>,
    /// Keys that are there.
    pub(super) keys: HashMap<String, Span>,
    /// What it runs could not be read, which has been reported.
    pub(super) misread_command: bool,
}

/// A reference to another service.
pub(super) struct Link {
    /// The key that makes it.
    pub(super) key: &'static str,
    pub(super) target: String,
    pub(super) span: Span,
}

/// A reference to a network.
pub(super) struct Joined {
    pub(super) network: String,
    pub(super) span: Span,
    pub(super) aliases: Vec<String>,
}

const NO_IMAGE: &str = "set `rootfs: host`, a folder or a tar file";

const KEYS: [Key<Draft>; 94] = [
    reads("rootfs", rootfs::read),
    reads("command", command::command),
    reads("entrypoint", command::entrypoint),
    reads("environment", environment::read),
    reads("working_dir", working_dir),
    reads("user", user),
    reads("hostname", hostname::hostname),
    reads("domainname", hostname::domainname),
    reads("volumes", mounts::volumes),
    reads("tmpfs", mounts::tmpfs),
    reads("depends_on", depends_on::read),
    reads("networks", networks::read),
    reads("ports", ports::read),
    reads("network_mode", namespaces::network_mode),
    reads("ipc", namespaces::ipc),
    reads("pid", namespaces::pid),
    reads("uts", namespaces::uts),
    reads("init", init),
    reads("read_only", read_only),
    reads("stop_signal", stop_signal),
    reads("stop_grace_period", stop_grace_period),
    later("annotations"),
    later("attach"),
    later("blkio_config"),
    instead("build", NO_IMAGE),
    later("cap_add"),
    later("cap_drop"),
    later("cgroup"),
    later("cgroup_parent"),
    instead("configs", "mount a file with `volumes:`"),
    later("container_name"),
    later("cpu_count"),
    later("cpu_percent"),
    later("cpu_period"),
    later("cpu_quota"),
    later("cpu_rt_period"),
    later("cpu_rt_runtime"),
    later("cpu_shares"),
    later("cpus"),
    later("cpuset"),
    later("credential_spec"),
    later("deploy"),
    later("develop"),
    later("device_cgroup_rules"),
    later("devices"),
    later("dns"),
    later("dns_opt"),
    later("dns_search"),
    instead("env_file", "list the variables under `environment:`"),
    later("expose"),
    instead("extends", "share settings with a YAML anchor and `<<`"),
    later("external_links"),
    later("extra_hosts"),
    later("gpus"),
    later("group_add"),
    later("healthcheck"),
    instead("image", NO_IMAGE),
    later("isolation"),
    later("label_file"),
    later("labels"),
    instead("links", "services of one network find each other by name; use `depends_on` for the order"),
    later("logging"),
    later("mac_address"),
    later("mem_limit"),
    later("mem_reservation"),
    later("mem_swappiness"),
    later("memswap_limit"),
    later("models"),
    later("oom_kill_disable"),
    later("oom_score_adj"),
    later("pids_limit"),
    later("platform"),
    later("post_start"),
    later("pre_stop"),
    later("privileged"),
    later("profiles"),
    later("provider"),
    later("pull_policy"),
    later("pull_refresh_after"),
    later("restart"),
    later("runtime"),
    later("scale"),
    instead("secrets", "mount a file with `volumes:`"),
    later("security_opt"),
    later("shm_size"),
    later("stdin_open"),
    later("storage_opt"),
    later("sysctls"),
    later("tty"),
    later("ulimits"),
    later("use_api_socket"),
    later("userns_mode"),
    later("volumes_from"),
    later("pre_start"),
];

pub(super) fn read(cx: &mut Context<'_>, name: ServiceName, entry: &Entry) -> Draft {
    let service = Service {
        rootfs: Rootfs::Host,
        entrypoint: None,
        command: None,
        environment: Default::default(),
        working_dir: None,
        user: None,
        hostname: None,
        domainname: None,
        mounts: Vec::new(),
        depends_on: Vec::new(),
        networks: Vec::new(),
        ports: Vec::new(),
        network_mode: NamespaceMode::Private,
        ipc: NamespaceMode::Private,
        pid: NamespaceMode::Private,
        uts: NamespaceMode::Private,
        init: false,
        read_only: false,
        stop_signal: StopSignal::default(),
        stop_grace_period: Service::DEFAULT_STOP_GRACE_PERIOD,
    };
    let keys = entry.value.entries().unwrap_or_default();
    let mut draft = Draft {
        name_span: entry.key_span.clone(),
        service,
        links: Vec::new(),
        networks: None,
        volumes: Vec::new(),
        targets: HashMap::new(),
        keys: keys.iter().map(|key| (key.key.to_string(), key.key_span.clone())).collect(),
        misread_command: keys.is_empty() && !entry.value.is_null() && entry.value.entries().is_none(),
        name,
    };
    let what = format!("service `{}`", draft.name);
    keys::read_mapping(cx, &what, &entry.value, &KEYS, &mut draft);
    draft
}

impl Draft {
    /// Mounts something, unless something is mounted there already.
    pub(super) fn mount(&mut self, cx: &mut Context<'_>, mount: Mount, span: &Span) {
        if let Some(first) = self.targets.get(&mount.target) {
            cx.push(
                Diagnostic::error(format!("service `{}` mounts two things at `{}`", self.name, mount.target.display()))
                    .at(span)
                    .label(first, "the first one"),
            );
            return;
        }
        self.targets.insert(mount.target.clone(), span.clone());
        self.service.mounts.push(mount);
    }

    pub(super) fn link(&mut self, key: &'static str, target: &str, span: Span) {
        self.links.push(Link { key, target: target.to_owned(), span });
    }

    /// The networks it is on, once they are known to exist.
    pub(super) fn attach(&mut self, networks: Vec<NetworkAttachment>) {
        self.service.networks = networks;
    }
}

fn working_dir(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    if let Some(text) = cx.string("`working_dir`", &entry.value) {
        draft.service.working_dir = cx.container_path("the working directory", text, &entry.value.span);
    }
}

fn user(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    let Some(text) = cx.string("`user`", &entry.value) else { return };
    match text.parse() {
        Ok(user) => draft.service.user = Some(user),
        Err(error) => cx.push(Diagnostic::error(format!("{error}")).at(&entry.value.span)),
    }
}

fn init(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    draft.service.init = cx.boolean("`init`", &entry.value).unwrap_or_default();
}

fn read_only(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    draft.service.read_only = cx.boolean("`read_only`", &entry.value).unwrap_or_default();
}

fn stop_signal(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    let Some(text) = cx.string_or_number("`stop_signal`", &entry.value) else { return };
    match text.parse() {
        Ok(signal) => draft.service.stop_signal = signal,
        Err(error) => cx.push(Diagnostic::error(format!("{error}")).at(&entry.value.span)),
    }
}

fn stop_grace_period(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    if let Some(duration) = duration::read(cx, "`stop_grace_period`", &entry.value) {
        draft.service.stop_grace_period = duration;
    }
}
