//! What it may use.

use crate::compose::inherit::inherit;
use serde_json::{Value as Json, json};

use super::{
    super::{
        ByteSize, Decimal, Flag, Format, Int, Kept, Labels, List, Map, Merger, Reader, Schemas, Text, Truncated,
        Unquoted, mapping::mapping,
    },
    Service,
};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, Value},
};

mapping! {
    /// What it may use.
    pub struct LimitKeys {
        /// Speed and share of block devices.
        works blkio_config: Box<BlkioConfig>,
        /// Control group that its own is made in.
        works cgroup_parent: Text,
        /// How many processors, on Windows.
        no_effect("it is for Windows") cpu_count: Int<0>,
        /// Share of the processors, on Windows.
        no_effect("it is for Windows") cpu_percent: Int<0, 100>,
        /// Length of a scheduling period, in microseconds.
        works cpu_period: Truncated,
        /// Processor time in each period, in microseconds.
        works cpu_quota: Truncated,
        /// Length of a real-time period, in microseconds.
        works cpu_rt_period: Truncated,
        /// Processor time in each real-time period, in microseconds.
        works cpu_rt_runtime: Truncated,
        /// Weight against other services.
        works cpu_shares: Truncated,
        /// Processors.
        works cpus: Decimal,
        /// Which processors.
        works cpuset: Text,
        /// Memory.
        works mem_limit: ByteSize,
        /// Memory that it keeps when there is little.
        works mem_reservation: ByteSize,
        /// How readily its memory goes to swap, from 0 to 100.
        works mem_swappiness: ByteSize,
        /// Memory and swap together; -1 for no limit.
        works memswap_limit: ByteSize,
        /// It is not killed when memory runs out.
        works oom_kill_disable: Flag,
        /// How soon it is killed when memory runs out, from -1000 to 1000.
        works oom_score_adj: Int<-1000, 1000>,
        /// Processes and threads; -1 for no limit.
        works pids_limit: Truncated,
        /// Settings of the kernel for its namespaces: `net.…`, and those of System V and POSIX IPC.
        works sysctls: Labels,
        /// Resource limits of its processes.
        works ulimits: Map<Ulimit>,
    }
}

mapping! {
    /// Speed and share of block devices.
    pub struct BlkioConfig {
        /// Weight against other services, from 10 to 1000.
        works weight: Unquoted<Int<0, 65535>>,
        /// Weight for single devices.
        works weight_device: List<BlkioWeight>,
        /// Bytes read in a second.
        works device_read_bps: List<BlkioLimit>,
        /// Reads in a second.
        works device_read_iops: List<BlkioLimit>,
        /// Bytes written in a second.
        works device_write_bps: List<BlkioLimit>,
        /// Writes in a second.
        works device_write_iops: List<BlkioLimit>,
    }
    rules {
        const EXTENSIBLE: bool = false;
    }
}

mapping! {
    /// Weight for a device.
    pub struct BlkioWeight {
        /// The device.
        works path: Text,
        /// Its weight.
        works weight: Unquoted<Int<0, 65535>>,
    }
    rules {
        const EXTENSIBLE: bool = false;
    }
}

mapping! {
    /// Speed of a device.
    pub struct BlkioLimit {
        /// The device.
        works path: Text,
        /// Bytes, or operations, in a second.
        works rate: ByteSize,
    }
    rules {
        const EXTENSIBLE: bool = false;
    }
}

/// A resource limit: one number, or a soft and a hard one.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Ulimit {
    /// Both are the same.
    Single(Int),
    /// They differ.
    Range(UlimitRange),
}

mapping! {
    /// A soft and a hard resource limit; -1 for none.
    pub struct UlimitRange {
        /// The one that counts.
        works soft: Kept<Int>,
        /// What the program may raise it to.
        works hard: Kept<Int>,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["soft", "hard"];
    }
}

impl Format for Ulimit {
    inherit!(UlimitRange: keys visit);
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        match (&earlier.value, &later.value) {
            (Value::Mapping(_), Value::Mapping(_)) => UlimitRange::merge(earlier, later, merger),
            _ => later,
        }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Mapping(_) => UlimitRange::read(node, cx).map(Self::Range),
            _ => Int::read(node, cx).map(Self::Single),
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        let range = UlimitRange::schema(schemas);
        json!({"anyOf": [Int::<{ i64::MIN }, { i64::MAX }>::schema(schemas), range]})
    }
}

/// What is said in two places has to be the same.
pub(super) fn check(service: &Service, node: &Node, cx: &mut Reader<'_>) {
    let deploy = service.lifecycle.deploy.as_ref();
    let limits = deploy.and_then(|deploy| deploy.resources.as_ref()?.limits.as_ref());
    let reservations = deploy.and_then(|deploy| deploy.resources.as_ref()?.reservations.as_ref());
    let both: [(&str, &str, bool); 5] = [
        (
            "scale",
            "deploy.replicas",
            differ(
                &service.lifecycle.scale.map(|n| n.0.0),
                deploy.and_then(|deploy| deploy.replicas).map(|n| n.0.0).as_ref(),
            ),
        ),
        (
            "cpus",
            "deploy.resources.limits.cpus",
            differ(&service.limits.cpus, limits.and_then(|limits| limits.cpus.as_ref())),
        ),
        (
            "mem_limit",
            "deploy.resources.limits.memory",
            differ(&service.limits.mem_limit, limits.and_then(|limits| limits.memory.as_ref().map(|size| &size.0))),
        ),
        (
            "pids_limit",
            "deploy.resources.limits.pids",
            differ(
                &service.limits.pids_limit.map(|number| number.0),
                limits.and_then(|limits| limits.pids).map(|number| number.0).as_ref(),
            ),
        ),
        (
            "mem_reservation",
            "deploy.resources.reservations.memory",
            differ(
                &service.limits.mem_reservation,
                reservations.and_then(|kept| kept.memory.as_ref().map(|size| &size.0)),
            ),
        ),
    ];
    for (short, long, differ) in both {
        if !differ {
            continue;
        }
        let mut other = Some(node);
        for key in long.split('.') {
            other = other.and_then(|node| node.entry(key)).map(|entry| &entry.value);
        }
        let mine = node.entry(short).map_or(node, |entry| &entry.value);
        let diagnostic = Diagnostic::error(format!("`{short}` and `{long}` say different things"));
        let diagnostic = match other {
            Some(other) => diagnostic.label(&other.span, "the other one"),
            None => diagnostic,
        };
        cx.report(diagnostic.hint("remove one of the two"), mine);
    }
}

fn differ<T: PartialEq>(one: &Option<T>, other: Option<&T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}
