//! `deploy:`: how many, with what resources, and what happens when they end.

use serde_json::{Value as Json, json};

use super::{
    ByteSize, Decimal, Distinct, Folder, Int, Kept, Labels, List, Quoted, Reader, Span, Text, choice::choice,
    mapping::mapping,
};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, Scalar, ScalarKind, Value},
};

mapping! {
    /// How a service is run as a whole.
    pub struct Deploy {
        /// `replicated` or `global`.
        works mode: Text,
        /// How many containers there are.
        works replicas: Kept<Int<0>>,
        /// Labels of the service, not of its containers.
        metadata labels: Labels,
        /// How containers are replaced by new ones.
        no_effect("it is for clusters") update_config: Box<UpdateConfig>,
        /// How an update is taken back.
        no_effect("it is for clusters") rollback_config: Box<UpdateConfig>,
        /// What containers may use.
        works resources: Resources,
        /// What happens when a container ends.
        works restart_policy: RestartPolicy,
        /// Machines of a cluster that containers may run on.
        no_effect("there is only this machine") placement: Box<Placement>,
        /// How clients reach the containers of a cluster.
        no_effect("it is for clusters") endpoint_mode: Text,
    }
    rules {
        const NULLABLE: bool = true;
    }
}

mapping! {
    /// How containers are replaced.
    pub struct UpdateConfig {
        /// How many at a time.
        refused parallelism: Kept<Int<0>>,
        /// Time between two of them.
        refused delay: Span,
        /// What happens when one fails.
        refused failure_action: Text,
        /// How long one is watched.
        refused monitor: Span,
        /// Share of failures that is put up with.
        refused max_failure_ratio: Decimal,
        /// Whether the new one is started first.
        refused order: Order,
    }
}

choice! {
    /// What comes first.
    pub enum Order {
        /// The new one is started, then the old one stopped.
        StartFirst = "start-first",
        /// The old one is stopped, then the new one started.
        StopFirst = "stop-first",
    }
}

mapping! {
    /// What containers may use.
    pub struct Resources {
        /// The most they may use.
        works limits: Limits,
        /// What is kept for them.
        works reservations: Reservations,
    }
}

mapping! {
    /// The most that containers may use.
    pub struct Limits {
        /// Processors.
        works cpus: Decimal,
        /// Memory.
        works memory: Quoted<ByteSize>,
        /// Processes and threads.
        works pids: Int,
    }
}

mapping! {
    /// What is kept for containers.
    pub struct Reservations {
        /// Processors.
        no_effect("`cpu_shares` is what counts when processors are short") cpus: Decimal,
        /// Memory.
        works memory: Quoted<ByteSize>,
        /// Devices of the host.
        refused devices: List<DeviceRequest>,
        /// Resources that an operator has named.
        refused generic_resources: List<GenericResource>,
    }
}

mapping! {
    /// A resource that an operator has named.
    pub struct GenericResource {
        /// A number of them.
        refused discrete_resource_spec: DiscreteResource,
    }
}

mapping! {
    /// A number of some resource.
    pub struct DiscreteResource {
        /// Its name.
        refused kind: Text,
        /// How many.
        refused value: Int,
    }
}

/// How many devices: a number, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct DeviceCount(pub i64);

impl super::Format for DeviceCount {
    fn omitted(&self) -> bool {
        self.0 == 0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match node.scalar() {
            Some(scalar) if scalar.text.eq_ignore_ascii_case("all") => Some(Self(-1)),
            _ => Int::<{ i64::MIN }, { i64::MAX }>::read(node, cx).map(|count| Self(count.0)),
        }
    }
    fn schema(_: &mut super::Schemas) -> Json {
        json!({"type": ["string", "integer"]})
    }
}

mapping! {
    /// Devices that a service needs.
    pub struct DeviceRequest {
        /// What they can do.
        refused capabilities: Kept<Distinct<Text>>,
        /// Who provides them.
        refused driver: Text,
        /// How many; -1 for all.
        refused count: Kept<DeviceCount>,
        /// Which ones.
        refused device_ids: Kept<Distinct<Text>>,
        /// More for the driver.
        refused options: Labels,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["capabilities"];
        fn settle_whole(node: &mut Node, _: &Folder<'_>) {
            all_of_them(node);
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            exclusive(node, cx);
        }
    }
}

/// Where neither a number nor names are given, all are meant.
pub(super) fn all_of_them(node: &mut Node) {
    if node.entry("device_ids").is_none() {
        let scalar = Scalar { text: "-1".into(), kind: ScalarKind::Int, interpolated: false };
        let all = node.beside(Value::Scalar(scalar));
        node.put("count", all);
    }
}

/// A number of devices and their names exclude each other.
pub(super) fn exclusive(node: &Node, cx: &mut Reader<'_>) {
    if let (Some(count), Some(ids)) = (node.entry("count"), node.entry("device_ids")) {
        cx.report(
            Diagnostic::error("`count` and `device_ids` exclude each other")
                .label(&count.key_span, "so many")
                .hint("remove one of the two"),
            &ids.value,
        );
    }
}

mapping! {
    /// What happens when a container ends.
    pub struct RestartPolicy {
        /// `none`, `on-failure` or `any`.
        works condition: Text,
        /// Time before it is started again.
        works delay: Span,
        /// How often it is tried.
        works max_attempts: Kept<Int<0>>,
        /// How long it has to run to count as started.
        works window: Span,
    }
}

mapping! {
    /// Machines of a cluster.
    pub struct Placement {
        /// Rules that a machine has to meet.
        refused constraints: List<Text>,
        /// Rules that say which machines are better.
        refused preferences: List<Preference>,
        /// How many containers a machine may have.
        refused max_replicas_per_node: Int<0>,
    }
}

mapping! {
    /// A rule that says which machines are better.
    pub struct Preference {
        /// Label over whose values containers are spread.
        refused spread: Text,
    }
}
