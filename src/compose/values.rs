//! Values that are treated otherwise than their keys: refused ones of keys that work, and those that say what is so anyway.

/// A value, as it is written here and in the reference: a word, words of which one may end in `…`, or `FIRST-LAST`.
type Word = &'static str;

/// Values that are refused, of a key that works.
pub(crate) struct RefusedValue {
    /// The key, as [`Path::pattern`](super::visit::Path::pattern) has it.
    pub(crate) path: &'static str,
    pub(crate) values: &'static [Word],
    /// What to do instead; may be empty.
    pub(crate) hint: &'static str,
}

/// All that are refused.
pub(crate) static REFUSED: &[RefusedValue] = &[
    RefusedValue {
        path: "services.*.depends_on.*.condition",
        values: &["service_healthy", "service_completed_successfully"],
        hint: "use `service_started`",
    },
    RefusedValue { path: "services.*.depends_on.*.restart", values: &["true"], hint: "" },
    RefusedValue { path: "services.*.depends_on.*.required", values: &["false"], hint: "" },
    RefusedValue { path: "services.*.network_mode", values: CONTAINER, hint: SHARE },
    RefusedValue { path: "services.*.ipc", values: CONTAINER, hint: SHARE },
    RefusedValue { path: "services.*.pid", values: CONTAINER, hint: SHARE },
    RefusedValue {
        path: "services.*.ports[].published",
        values: &["FIRST-LAST"],
        hint: "name one port, or as many as there are for the container",
    },
    RefusedValue { path: "services.*.ports[].protocol", values: &["sctp"], hint: "use `tcp` or `udp`" },
    RefusedValue {
        path: "services.*.pull_policy",
        values: &["build"],
        hint: "images are not built yet; pull it, or load it with `nscompose load`",
    },
    RefusedValue {
        path: "services.*.volumes[].type",
        values: &["npipe", "cluster", "image"],
        hint: "use `bind`, `volume` or `tmpfs`",
    },
    TMPFS_OPTIONS,
    RefusedValue {
        path: "networks.*.driver",
        values: &["overlay", "macvlan", "ipvlan", "host", "none", "null"],
        hint: "use `bridge`; for the network of the host, or none, there is `network_mode` of a service",
    },
];

/// Options of `PATH:OPTION,OPTION`, not whole values.
pub(crate) const TMPFS_OPTIONS: RefusedValue = RefusedValue {
    path: "services.*.tmpfs[]",
    values: &["noexec", "exec", "suid", "dev", "uid=…", "gid=…", "nr_inodes=…", "nr_blocks=…"],
    hint: "the options are `size`, `mode`, `ro` and `rw`",
};

const CONTAINER: &[Word] = &["container:…"];
const SHARE: &str = "share with a service: `service:NAME`";

/// Values of refused keys that say what is so anyway.
pub(crate) static HARMLESS: &[(&str, &[Word])] = &[
    ("services.*.blkio_config.weight", ZERO),
    ("services.*.cgroup", &["private"]),
    ("services.*.cpu_period", ZERO),
    ("services.*.cpu_quota", ZERO),
    ("services.*.cpu_rt_period", ZERO),
    ("services.*.cpu_rt_runtime", ZERO),
    ("services.*.cpu_shares", ZERO),
    ("services.*.cpus", ZERO),
    ("services.*.deploy.mode", &["replicated"]),
    ("services.*.deploy.replicas", &["1"]),
    ("services.*.deploy.resources.limits.cpus", ZERO),
    ("services.*.deploy.resources.limits.memory", ZERO),
    ("services.*.deploy.resources.limits.pids", ZERO),
    ("services.*.deploy.resources.reservations.cpus", ZERO),
    ("services.*.deploy.resources.reservations.memory", ZERO),
    ("services.*.deploy.restart_policy.condition", NONE),
    ("services.*.healthcheck.disable", &["true", "false"]),
    ("services.*.healthcheck.test", NONE),
    ("services.*.logging.driver", &["json-file"]),
    ("services.*.mem_limit", ZERO),
    ("services.*.mem_reservation", ZERO),
    ("services.*.memswap_limit", ZERO),
    ("services.*.oom_kill_disable", NO),
    ("services.*.oom_score_adj", ZERO),
    ("services.*.pids_limit", &["-1", "0"]),
    ("services.*.privileged", NO),
    ("services.*.restart", &["no"]),
    ("services.*.scale", &["1"]),
    ("services.*.shm_size", &["64m", "64mb", "67108864"]),
    ("services.*.stdin_open", NO),
    ("services.*.tty", NO),
    ("services.*.use_api_socket", NO),
    ("services.*.volumes[].bind.propagation", &["rprivate"]),
    ("services.*.volumes[].bind.recursive", &["enabled"]),
    ("volumes.*.driver", &["local"]),
    ("volumes.*.external", NO),
];

const NO: &[Word] = &["false"];
const ZERO: &[Word] = &["0"];
const NONE: &[Word] = &["none"];

/// Refused keys that ask for nothing when each of their parts does.
static OF_PARTS: &[&str] = &[
    "services.*.blkio_config",
    "services.*.deploy.resources",
    "services.*.deploy.resources.limits",
    "services.*.deploy.resources.reservations",
    "services.*.deploy.restart_policy",
    "services.*.healthcheck",
    "services.*.logging",
];

/// Values of a part that make nothing of all others.
static SWITCHES: &[(&str, &[Word])] = &[
    ("services.*.deploy.restart_policy.condition", NONE),
    ("services.*.healthcheck.disable", &["true"]),
    ("services.*.healthcheck.test", NONE),
];

impl RefusedValue {
    /// True if it is of these.
    pub(crate) fn takes(&self, text: &str) -> bool {
        self.values.iter().any(|value| is(value, text))
    }
}

/// What refuses this value of the key at `path`, if anything does.
pub(crate) fn refused(path: &str, text: &str) -> Option<&'static RefusedValue> {
    REFUSED.iter().find(|refused| refused.path == path && refused.takes(text))
}

/// True if this value of the refused key at `path` says what is so anyway.
pub(crate) fn harmless(path: &str, text: &str) -> bool {
    one_of(HARMLESS, path, text)
}

/// True if this value of the part at `path` makes nothing of the others beside it.
pub(crate) fn switches_off(path: &str, text: &str) -> bool {
    one_of(SWITCHES, path, text)
}

/// True if the refused key at `path` asks for no more than its parts.
pub(crate) fn is_of_parts(path: &str) -> bool {
    OF_PARTS.contains(&path)
}

fn one_of(all: &[(&str, &[Word])], path: &str, text: &str) -> bool {
    all.iter().any(|(key, values)| *key == path && values.iter().any(|value| is(value, text)))
}

fn is(value: Word, text: &str) -> bool {
    match value {
        "true" => super::Flag::parse(text) == Some(true),
        "false" => super::Flag::parse(text) == Some(false),
        // In any unit.
        "0" => text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end().parse() == Ok(0.0),
        "FIRST-LAST" => text.contains('-'),
        _ => match value.strip_suffix('…') {
            Some(beginning) => text.starts_with(beginning),
            None => text.eq_ignore_ascii_case(value),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert!(refused("services.*.network_mode", "container:db").is_some());
        assert!(refused("services.*.network_mode", "service:db").is_none());
        assert!(refused("services.*.depends_on.*.restart", "Yes").is_some());
        assert!(refused("services.*.ports[].published", "8000-8010").is_some());
        assert!(refused("services.*.ports[].published", "8000").is_none());
        assert!(harmless("services.*.tty", "false") && !harmless("services.*.tty", "true"));
        assert!(harmless("services.*.shm_size", "64M") && !harmless("services.*.shm_size", "65m"));
        assert!(harmless("services.*.mem_limit", "0mb") && !harmless("services.*.mem_limit", "1b"));
        assert!(harmless("services.*.cpus", "0.0") && !harmless("services.*.cpus", "0.5"));
    }
}
