//! What a container, a volume or a network is made from, in the words of the file.
//!
//! Of a service most fields of the model are called as their keys; the rest are listed here. What is recorded decides nothing:
//! whether something has to be made anew fingerprints say, and records say why.

use serde::Serialize;
use serde_json::Value;

use super::Bridge;
use crate::model::{
    Capabilities, Capability, Digest, Files, Grant, GrantSource, Hook, HostAddress, ImageConfig, ImageMount, IoLimits,
    LifeSettings, Limits, Logging, Mount, MountSource, MountedImage, NameSettings, NamespaceMode, NetworkAttachment,
    PreStart, Privileges, ProcessOptions, Propagation, Record, Recorded, RestartPolicy, Rootfs, Seccomp, Service,
    ServiceName, Submounts, Volume, VolumeName, VolumeSource, limit_text,
};

/// Fields of the model that are not called as the keys of the file are, or hold something that is not to be shown.
const APART: [&str; 28] = [
    "rootfs",
    "entrypoint",
    "command",
    "environment",
    "unset",
    "working_dir",
    "user",
    "mounts",
    "networks",
    "names",
    "ports",
    "network_mode",
    "ipc",
    "private_ipc",
    "pid",
    "uts",
    "userns_mode",
    "cgroup",
    "files",
    "process",
    "privileges",
    "limits",
    "stop_signal",
    "logging",
    "hooks",
    "pre_start",
    "life",
    // Who is started before it makes it no other container.
    "depends_on",
];

/// Notes keys below a prefix.
struct Notes<'r> {
    record: &'r mut Record,
    prefix: String,
}

impl Notes<'_> {
    fn note(&mut self, key: &str, value: Recorded) {
        self.record.insert(format!("{}.{key}", self.prefix), value);
    }

    /// A value, whatever it is.
    fn leaf(&mut self, key: &str, value: impl Serialize) {
        if let Ok(json) = serde_json::to_string(&value) {
            self.note(key, Recorded::Shown(json));
        }
    }

    fn some(&mut self, key: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.leaf(key, value);
        }
    }

    fn list(&mut self, key: &str, values: Vec<impl Serialize>) {
        if !values.is_empty() {
            self.leaf(key, values);
        }
    }

    fn flag(&mut self, key: &str, set: bool) {
        if set {
            self.leaf(key, true);
        }
    }

    fn hidden(&mut self, key: &str, digest: Digest) {
        self.note(key, Recorded::Hidden { digest });
    }

    /// All that a value says; what is nothing, false or empty says nothing.
    fn tree(&mut self, key: &str, value: &Value) {
        match value {
            Value::Null | Value::Bool(false) => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Object(entries) => match span(value) {
                Some(text) => self.leaf(key, text),
                None => entries.iter().for_each(|(name, value)| self.tree(&format!("{key}.{name}"), value)),
            },
            other => self.leaf(key, other),
        }
    }

    fn tree_of(&mut self, key: &str, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_value(value) {
            self.tree(key, &value);
        }
    }
}

/// A span of time, as serde has it.
fn span(value: &Value) -> Option<String> {
    let entries = value.as_object()?;
    let (secs, nanos) = (entries.get("secs")?.as_u64()?, entries.get("nanos")?.as_u64()?);
    let only = entries.len() == 2;
    only.then(|| if nanos == 0 { format!("{secs}s") } else { format!("{}s", secs as f64 + nanos as f64 / 1e9) })
}

/// What a service says, and not its image.
pub(super) fn service(record: &mut Record, name: &ServiceName, service: &Service) {
    let notes = &mut Notes { record, prefix: format!("services.{}", name.service()) };
    let image = match &service.rootfs {
        Rootfs::Layers(image) => Some(&image.config),
        Rootfs::Host | Rootfs::Directory(_) | Rootfs::Tar(_) | Rootfs::Image(_) => None,
    };
    rootfs(notes, &service.rootfs);
    program(notes, service, image);
    for mount in &service.mounts {
        let is_of_image = |image: &ImageConfig| image.volumes.contains(&mount.target);
        let anonymous = matches!(&mount.source, MountSource::Volume(volume) if volume.volume.is_none());
        if !(anonymous && image.is_some_and(is_of_image)) {
            self::mount(notes, mount);
        }
    }
    notes.list("networks", service.networks.iter().map(|attachment| attachment.network.as_str()).collect());
    service.networks.iter().for_each(|attachment| self::attachment(notes, attachment));
    names(notes, &service.names);
    notes.list("ports", service.ports.iter().map(ToString::to_string).collect());
    let modes = [
        ("network_mode", &service.network_mode),
        ("ipc", &service.ipc),
        ("pid", &service.pid),
        ("uts", &service.uts),
        ("userns_mode", &service.userns_mode),
        ("cgroup", &service.cgroup),
    ];
    for (key, mode) in modes {
        notes.some(key, self::mode(mode, key == "ipc" && service.private_ipc));
    }
    files(notes, &service.files);
    process(notes, &service.process);
    privileges(notes, &service.privileges);
    limits(notes, &service.limits);
    logging(notes, &service.logging);
    life(notes, &service.life);
    before_start(notes, service);
    hooks(notes, "post_start", &service.hooks.post_start);
    hooks(notes, "pre_stop", &service.hooks.pre_stop);
    if let Ok(Value::Object(rest)) = serde_json::to_value(service) {
        for (field, value) in rest.iter().filter(|(field, _)| !APART.contains(&field.as_str())) {
            notes.tree(field, value);
        }
    }
}

fn rootfs(notes: &mut Notes<'_>, rootfs: &Rootfs) {
    match rootfs {
        Rootfs::Host => notes.leaf("rootfs", "host"),
        Rootfs::Directory(path) | Rootfs::Tar(path) => notes.leaf("rootfs", path),
        Rootfs::Image(wanted) => notes.leaf("image", wanted.source.to_string()),
        // The name alone does not say which one it was.
        Rootfs::Layers(image) => notes.leaf("image", format!("{}@sha256:{}", image.name, image.id.short())),
    }
}

fn program(notes: &mut Notes<'_>, service: &Service, image: Option<&ImageConfig>) {
    let own = |words: &Option<Vec<String>>, of_image: fn(&ImageConfig) -> &Vec<String>| {
        words.clone().filter(|words| image.is_none_or(|image| of_image(image) != words))
    };
    notes.some("entrypoint", own(&service.entrypoint, |image| &image.entrypoint));
    notes.some("command", own(&service.command, |image| &image.command));
    for (name, value) in &service.environment {
        if image.is_some_and(|image| image.environment.get(name) == Some(value)) {
            continue;
        }
        variable(notes, "environment", name, value);
    }
    service.unset.iter().for_each(|name| notes.leaf(&format!("environment.{name}"), Value::Null));
    let of_image = |is_same: bool| image.is_some() && is_same;
    if !of_image(image.and_then(|image| image.working_dir.as_ref()) == service.working_dir.as_ref()) {
        notes.some("working_dir", service.working_dir.as_ref());
    }
    if !of_image(image.and_then(|image| image.user.as_ref()) == service.user.as_ref()) {
        notes.some("user", service.user.as_ref());
    }
    if !of_image(image.and_then(|image| image.stop_signal) == service.stop_signal) {
        notes.some("stop_signal", service.stop_signal.map(|signal| signal.to_string()));
    }
}

fn variable(notes: &mut Notes<'_>, list: &str, name: &str, value: &str) {
    let key = format!("{list}.{name}");
    if is_secret(name, value) {
        notes.hidden(&key, Digest::of(value.as_bytes()));
    } else {
        notes.leaf(&key, value);
    }
}

/// What the commands themselves say; the rest is the service's.
fn before_start(notes: &mut Notes<'_>, service: &Service) {
    for (index, hook) in service.pre_start.iter().enumerate() {
        let PreStart { run, entrypoint: _, rootfs, per_replica } = hook;
        let (key, own) = (format!("pre_start[{index}]"), *rootfs != service.rootfs);
        notes.leaf(&key, &run.command);
        match rootfs {
            Rootfs::Layers(image) if own => {
                notes.leaf(&format!("{key}.image"), format!("{}@sha256:{}", image.name, image.id.short()));
            }
            Rootfs::Image(wanted) if own => notes.leaf(&format!("{key}.image"), wanted.source.to_string()),
            _ => {}
        }
        notes.some(&format!("{key}.user"), run.user.as_ref().filter(|user| service.user.as_ref() != Some(user)));
        notes.flag(&format!("{key}.privileged"), run.privileged);
        let folder = run.working_dir.as_ref().filter(|folder| service.working_dir.as_ref() != Some(folder));
        notes.some(&format!("{key}.working_dir"), folder);
        let image = match rootfs {
            Rootfs::Layers(image) => Some(&image.config),
            _ => None,
        };
        for (name, value) in &run.environment {
            let of_image = image.is_some_and(|image| image.environment.iter().any(|said| said == (name, value)));
            if service.environment.get(name) != Some(value) && !of_image {
                variable(notes, &format!("{key}.environment"), name, value);
            }
        }
        notes.flag(&format!("{key}.per_replica"), *per_replica);
    }
}

fn hooks(notes: &mut Notes<'_>, key: &str, hooks: &[Hook]) {
    for (index, hook) in hooks.iter().enumerate() {
        let Hook { command, user, privileged, working_dir, environment } = hook;
        let key = format!("{key}[{index}]");
        notes.leaf(&key, command);
        notes.some(&format!("{key}.user"), user.as_ref());
        notes.flag(&format!("{key}.privileged"), *privileged);
        notes.some(&format!("{key}.working_dir"), working_dir.as_ref());
        for (name, value) in environment {
            variable(notes, &format!("{key}.environment"), name, value);
        }
    }
}

fn life(notes: &mut Notes<'_>, life: &LifeSettings) {
    let LifeSettings { restart, health, restart_unhealthy, shell: _ } = life;
    if *restart != RestartPolicy::default() {
        notes.tree_of("restart", restart);
    }
    notes.tree_of("healthcheck", health);
    notes.flag("x-nscompose.restart_unhealthy", *restart_unhealthy);
}

fn logging(notes: &mut Notes<'_>, logging: &Logging) {
    let Logging { kept, max_size, max_files, compress, labels, own_labels, labels_regex, env, env_regex, tag } =
        logging;
    let key = |option: &str| format!("logging.options.{option}");
    if !kept {
        notes.leaf("logging.driver", "none");
    }
    notes.some(&key("max-size"), *max_size);
    notes.leaf(&key("max-file"), max_files);
    notes.flag(&key("compress"), *compress);
    labels.iter().for_each(|(name, value)| notes.leaf(&key(&format!("labels.{name}")), value));
    notes.list(&key("labels"), own_labels.clone());
    notes.some(&key("labels-regex"), labels_regex.as_ref());
    notes.list(&key("env"), env.clone());
    notes.some(&key("env-regex"), env_regex.as_ref());
    notes.some(&key("tag"), tag.as_ref());
}

/// Parts of the names of variables whose values are not for screens and logs.
const SECRET_WORDS: [&str; 12] =
    ["PASS", "PWD", "KEY", "APIKEY", "AUTH", "CREDENTIAL", "CREDENTIALS", "PRIVATE", "SALT", "PIN", "DSN", "COOKIE"];

/// The same, wherever they stand in a word.
const SECRET_PARTS: [&str; 5] = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN"];

/// Whether a variable looks as if its value were not for everybody: by its name, or because it is an address with a password.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = || name.split(|c: char| !c.is_ascii_alphanumeric());
    let has_password = || {
        let authority = value.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let user = authority.and_then(|authority| authority.rsplit_once('@'));
        user.is_some_and(|(user, _)| user.contains(':'))
    };
    SECRET_PARTS.iter().any(|part| name.contains(part))
        || words().any(|word| SECRET_WORDS.contains(&word))
        || has_password()
}

/// A mount, in the list that it is in; what it is and, one by one, how.
fn mount(notes: &mut Notes<'_>, mount: &Mount) {
    let target = mount.target.display();
    let key = format!("volumes[{target}]");
    match &mount.source {
        MountSource::Bind(bind) => {
            notes.leaf(&key, format!("bind {}", bind.source.display()));
            notes.flag(&format!("{key}.read_only"), bind.read_only);
            if !bind.create_host_path {
                notes.leaf(&format!("{key}.bind.create_host_path"), false);
            }
            if bind.propagation != Propagation::Private {
                notes.leaf(&format!("{key}.bind.propagation"), bind.propagation);
            }
            if bind.submounts != Submounts::Follow {
                notes.leaf(&format!("{key}.bind.recursive"), bind.submounts);
            }
        }
        MountSource::Volume(volume) => {
            let name = volume.volume.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            notes.leaf(&key, format!("volume{name}"));
            notes.flag(&format!("{key}.read_only"), volume.read_only);
            notes.flag(&format!("{key}.volume.nocopy"), volume.nocopy);
            notes.some(&format!("{key}.volume.subpath"), volume.subpath.as_ref());
        }
        MountSource::Tmpfs(tmpfs) => {
            notes.leaf(&key, "tmpfs");
            notes.tree_of(&key, tmpfs);
        }
        MountSource::Image(ImageMount { image, subpath }) => {
            let image = match image {
                MountedImage::Wanted(wanted) => wanted.source.to_string(),
                MountedImage::Here(image) => format!("{}@sha256:{}", image.name, image.id.short()),
            };
            notes.leaf(&key, format!("image {image}"));
            notes.some(&format!("{key}.image.subpath"), subpath.as_ref());
        }
        MountSource::Grant(Grant { name, source, digest }) => {
            let (kind, name) = name.split_once(' ').unwrap_or(("secret", name));
            let key = format!("{kind}s[{name}]");
            notes.hidden(&key, digest.clone());
            notes.leaf(&format!("{key}.target"), &mount.target);
            match source {
                GrantSource::File(path) => notes.leaf(&format!("{key}.file"), path),
                GrantSource::Copy { contents: _, uid, gid, mode } => {
                    notes.some(&format!("{key}.uid"), *uid);
                    notes.some(&format!("{key}.gid"), *gid);
                    notes.leaf(&format!("{key}.mode"), format!("{mode:04o}"));
                }
            }
        }
    }
}

fn attachment(notes: &mut Notes<'_>, attachment: &NetworkAttachment) {
    let key = |key: &str| format!("networks.{}.{key}", attachment.network);
    notes.list(&key("aliases"), attachment.aliases.clone());
    notes.some(&key("ipv4_address"), attachment.ipv4);
    notes.some(&key("ipv6_address"), attachment.ipv6);
    notes.list(&key("link_local_ips"), attachment.link_local.clone());
    notes.some(&key("mac_address"), attachment.mac.map(|mac| mac.to_string()));
    notes.some(&key("interface_name"), attachment.interface.as_ref());
    notes.some(&key("gw_priority"), Some(attachment.gateway_priority).filter(|priority| *priority != 0));
    for (name, value) in &attachment.sysctls {
        notes.leaf(&key(&format!("driver_opts.com.docker.network.endpoint.sysctls.{name}")), value);
    }
}

fn names(notes: &mut Notes<'_>, names: &NameSettings) {
    notes.list("dns", names.servers.clone());
    notes.list("dns_search", names.search.clone());
    notes.list("dns_opt", names.options.clone());
    for (name, addresses) in &names.hosts {
        let addresses = addresses.iter().map(|address| match address {
            HostAddress::Address(address) => address.to_string(),
            HostAddress::Gateway => "host-gateway".to_owned(),
        });
        notes.list(&format!("extra_hosts.{name}"), addresses.collect());
    }
    names.links.iter().for_each(|(name, service)| notes.leaf(&format!("links.{name}"), service));
}

fn mode(mode: &NamespaceMode, said: bool) -> Option<String> {
    match mode {
        NamespaceMode::Private => said.then(|| "private".to_owned()),
        NamespaceMode::None => Some("none".to_owned()),
        NamespaceMode::Host => Some("host".to_owned()),
        NamespaceMode::Service(name) => Some(format!("service:{name}")),
        NamespaceMode::Container(name) => Some(format!("container:{name}")),
    }
}

fn files(notes: &mut Notes<'_>, files: &Files) {
    notes.some("shm_size", files.shm_size);
    for device in &files.devices {
        let rights = [(device.access.read, 'r'), (device.access.write, 'w'), (device.access.mknod, 'm')];
        let rights: String = rights.iter().filter(|(has, _)| *has).map(|(_, letter)| letter).collect();
        let (source, target) = (device.source.display(), device.target.display());
        notes.leaf(&format!("devices[{target}]"), format!("{source}:{target}:{rights}"));
    }
    let others = files.volumes_from.iter();
    let others = others.map(|from| format!("{}:{}", from.service, if from.read_only { "ro" } else { "rw" }));
    notes.list("volumes_from", others.collect());
}

fn process(notes: &mut Notes<'_>, process: &ProcessOptions) {
    notes.list("group_add", process.groups.clone());
    for (resource, limit) in &process.limits {
        let (soft, hard) = (limit_text(limit.soft), limit_text(limit.hard));
        notes.leaf(&format!("ulimits.{resource}"), format!("{soft}:{hard}"));
    }
    notes.some("oom_score_adj", process.oom_score_adj);
    for (name, value) in &process.sysctls {
        notes.leaf(&format!("sysctls.{}", name.replace('/', ".")), value);
    }
    notes.flag("tty", process.terminal);
    notes.flag("stdin_open", process.stdin_open);
}

fn privileges(notes: &mut Notes<'_>, privileges: &Privileges) {
    let listed = |set: Capabilities| {
        let all = Capability::names().filter_map(|name| name.parse::<Capability>().ok());
        all.filter(|one| set.bits() >> one.number() & 1 == 1).map(|one| one.to_string()).collect::<Vec<_>>()
    };
    notes.flag("privileged", privileges.host_devices);
    notes.list("cap_add", listed(privileges.capabilities.without(Capabilities::usual())));
    notes.list("cap_drop", listed(Capabilities::usual().without(privileges.capabilities)));
    notes.flag("security_opt.no-new-privileges", privileges.no_new_privileges);
    match &privileges.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => notes.leaf("security_opt.seccomp", "unconfined"),
        Seccomp::Profile(profile) => {
            let digest = Digest::of(&serde_json::to_vec(profile).unwrap_or_default());
            notes.leaf("security_opt.seccomp", format!("sha256:{}", digest.short()));
        }
    }
    notes.some("security_opt.apparmor", privileges.apparmor.as_ref());
    notes.tree_of("security_opt.label", &privileges.label);
    if !privileges.hide_kernel_files {
        notes.leaf("security_opt.systempaths", "unconfined");
    }
}

fn limits(notes: &mut Notes<'_>, limits: &Limits) {
    let Limits { cpu, memory, pids, io, parent, devices } = limits;
    if let Some(bandwidth) = cpu.bandwidth {
        match bandwidth.quota_us {
            Some(quota) => notes.leaf("cpus", quota as f64 / bandwidth.period_us as f64),
            None => notes.leaf("cpu_period", bandwidth.period_us),
        }
    }
    notes.some("cpu_shares", cpu.shares);
    notes.some("cpuset", cpu.cpus.as_ref());
    notes.some("cpu_rt_period", cpu.realtime.period_us);
    notes.some("cpu_rt_runtime", cpu.realtime.runtime_us);
    notes.some("mem_limit", memory.max);
    notes.some("mem_reservation", memory.reservation);
    notes.some("memswap_limit", memory.swap);
    notes.some("mem_swappiness", memory.swappiness);
    notes.flag("oom_kill_disable", memory.oom_kill_disable);
    notes.some("pids_limit", *pids);
    notes.some("blkio_config.weight", io.weight);
    let IoLimits { weight: _, device_weights, read_bps, read_iops, write_bps, write_iops } = io;
    let of_devices = [
        ("weight_device", device_weights),
        ("device_read_bps", read_bps),
        ("device_read_iops", read_iops),
        ("device_write_bps", write_bps),
        ("device_write_iops", write_iops),
    ];
    for (key, values) in of_devices {
        for one in values {
            notes.leaf(&format!("blkio_config.{key}[{}]", one.path.display()), one.value);
        }
    }
    notes.some("cgroup_parent", parent.as_ref());
    notes.list("device_cgroup_rules", devices.iter().map(ToString::to_string).collect());
}

/// What a service has mounted of another one.
pub(super) fn mount_of(record: &mut Record, service: &ServiceName, mount: &Mount) {
    let notes = &mut Notes { record, prefix: format!("services.{}", service.service()) };
    self::mount(notes, mount);
}

/// What the file says of a volume.
pub(super) fn volume(record: &mut Record, name: &VolumeName, volume: &Volume) {
    let notes = &mut Notes { record, prefix: format!("volumes.{name}") };
    notes.some("name", volume.name.as_ref());
    notes.flag("external", volume.external);
    match &volume.source {
        VolumeSource::Kept => {}
        VolumeSource::Folder(path) => notes.leaf("driver_opts.device", path),
        VolumeSource::Memory(tmpfs) => {
            notes.leaf("driver_opts.device", "tmpfs");
            notes.tree_of("driver_opts.o", tmpfs);
        }
    }
}

/// What a bridge is made from. `icc` is whether services on it reach each other.
pub(super) fn network(bridge: &Bridge, icc: bool) -> Record {
    let mut record = Record::new();
    let notes = &mut Notes { record: &mut record, prefix: format!("networks.{}", bridge.network) };
    notes.some("name", bridge.shared.as_ref());
    notes.list("ipam.config", bridge.gateways.clone());
    notes.flag("internal", bridge.internal);
    notes.leaf("driver_opts.com.docker.network.bridge.name", &bridge.interface);
    if !bridge.masquerade {
        notes.leaf("driver_opts.com.docker.network.bridge.enable_ip_masquerade", false);
    }
    if !icc {
        notes.leaf("driver_opts.com.docker.network.bridge.enable_icc", false);
    }
    notes.some("driver_opts.com.docker.network.driver.mtu", bridge.mtu);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_secret_is_told_by_its_name_or_its_password() {
        for (name, value) in [
            ("POSTGRES_PASSWORD", "x"),
            ("PGPASSWORD", "x"),
            ("API_KEY", "x"),
            ("github_token", "x"),
            ("DB_PASS", "x"),
            ("CLIENT_SECRET_ID", "x"),
            ("DATABASE_URL", "postgres://user:hunter2@db:5432/app"),
        ] {
            assert!(is_secret(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("DEBUG", "0"),
            ("MONKEY", "banana"),
            ("COMPASS", "north"),
            ("DATABASE_URL", "postgres://user@db:5432/app?x=a:b@c"),
            ("TIME", "12:30@noon"),
            ("PATH", "/usr/bin"),
        ] {
            assert!(!is_secret(name, value), "{name}={value}");
        }
    }

    #[test]
    fn spans_of_time_are_read() {
        let value = |span| serde_json::to_value(span).expect("plain data");
        assert_eq!(span(&value(std::time::Duration::from_secs(10))).as_deref(), Some("10s"));
        assert_eq!(span(&value(std::time::Duration::from_millis(1500))).as_deref(), Some("1.5s"));
    }
}
