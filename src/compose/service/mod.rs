//! One service of a file, its keys in groups.

mod grants;
mod lifecycle;
mod limits;
mod naming;
mod networking;
mod program;
mod security;
mod storage;

pub use grants::{FileGrant, FileMode, SecretGrants};
pub use lifecycle::{Condition, Dependency, DependsOn, Extends, Lifecycle, Logging, PreStart};
pub use limits::{BlkioConfig, BlkioLimit, BlkioWeight, LimitKeys, Ulimit, UlimitRange};
pub use naming::{LabelFiles, Naming};
pub use networking::{CgroupMode, NameServers, NetworkAttachment, NetworkAttachments, Networking};
pub use program::{EnvFile, EnvFiles, Program, Provider};
pub use security::{CredentialSpec, ModelGrant, ModelGrants, Security};
pub use storage::{Device, Gpus, Storage};

pub(super) use lifecycle::twice;

use super::{Reader, mapping::mapping};
use crate::yaml::tree::Node;

mapping! {
    /// A service: what runs, where, with what, and for how long.
    pub struct Service {
        ..program: Program,
        ..naming: Naming,
        ..lifecycle: Lifecycle,
        ..networking: Networking,
        ..storage: Storage,
        ..limits: LimitKeys,
        ..security: Security,
    }
    rules {
        const MAIN: Option<&'static str> = Some("image");
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            limits::check(self, node, cx);
        }
    }
}

impl Service {
    /// How many containers it has, whichever of the two keys says so; they have been read, and are the same.
    pub fn number(&self) -> i64 {
        let replicas = self.lifecycle.deploy.as_ref().and_then(|deploy| deploy.replicas);
        self.lifecycle.scale.or(replicas).map_or(1, |number| number.0.0)
    }
}
