//! Values that are treated otherwise than their keys: refused ones of keys that work, and those that say what is so anyway.

/// A value, as it is written here and in the reference: a word, words of which one may end in `…`.
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
        path: "services.*.deploy.mode",
        values: &["replicated-job", "global-job"],
        hint: "they are for clusters; here `depends_on` says what has to run first",
    },
    RefusedValue { path: "services.*.ports[].protocol", values: &["sctp"], hint: "use `tcp` or `udp`" },
    RefusedValue {
        path: "services.*.pull_policy",
        values: &["build"],
        hint: "images are not built yet; pull it, or load it with `nscompose load`",
    },
    RefusedValue {
        path: "services.*.volumes[].type",
        values: &["npipe", "cluster"],
        hint: "use `bind`, `volume`, `tmpfs` or `image`",
    },
    RefusedValue {
        path: "services.*.volumes_from[]",
        values: &["container:…"],
        hint: "name a service of this file, or give both the same named volume",
    },
    TMPFS_OPTIONS,
    SECURITY_OPTIONS,
    LOG_DRIVERS,
    LOG_MODES,
    RefusedValue {
        path: "networks.*.driver",
        values: &["overlay", "macvlan", "ipvlan", "host", "none", "null"],
        hint: "use `bridge`; for the network of the host, or none, there is `network_mode` of a service",
    },
];

/// Options of `PATH:OPTION,OPTION`, not whole values.
pub(crate) const TMPFS_OPTIONS: RefusedValue = RefusedValue {
    path: "services.*.tmpfs[]",
    values: &["dev"],
    hint: "the kernel opens no device of a file system that a container has made; `devices:` is for those of the host",
};

/// Options of `security_opt` that cannot be had.
pub(crate) const SECURITY_OPTIONS: RefusedValue = RefusedValue {
    path: "services.*.security_opt[]",
    values: &["label=filetype:…", "label=nested", "writable-cgroups=…"],
    hint: "",
};

/// Drivers that hand logs on to somebody else.
pub(crate) const LOG_DRIVERS: RefusedValue = RefusedValue {
    path: "services.*.logging.driver",
    values: &[
        "syslog",
        "journald",
        "gelf",
        "fluentd",
        "awslogs",
        "splunk",
        "etwlogs",
        "gcplogs",
        "logentries",
        "k8s-file",
        "passthrough",
    ],
    hint: "use `json-file` or `local`, and have the files of the log collected",
};

/// What would lose lines where a disk is slow.
pub(crate) const LOG_MODES: RefusedValue = RefusedValue {
    path: "services.*.logging.options.mode",
    values: &["non-blocking"],
    hint: "leave it out: a service waits for its own log alone, and no line of it is lost",
};

/// Values of refused keys that say what is so anyway.
pub(crate) static HARMLESS: &[(&str, &[Word])] =
    &[("services.*.use_api_socket", NO), ("configs.*.external", NO), ("secrets.*.external", NO)];

const NO: &[Word] = &["false"];

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

fn one_of(all: &[(&str, &[Word])], path: &str, text: &str) -> bool {
    all.iter().any(|(key, values)| *key == path && values.iter().any(|value| is(value, text)))
}

fn is(value: Word, text: &str) -> bool {
    match value {
        "true" => super::Flag::parse(text) == Some(true),
        "false" => super::Flag::parse(text) == Some(false),
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
        assert!(refused("services.*.pull_policy", "build").is_some());
        assert!(refused("services.*.pull_policy", "always").is_none());
        assert!(refused("services.*.ports[].published", "8000-8010").is_none());
    }
}
