//! `develop:`: what happens when source files change.

use super::{Hook, HostPath, List, OneOrMany, StrictFlag, Text, choice::choice, mapping::mapping};

mapping! {
    /// What happens when source files change.
    pub struct Develop {
        /// Rules, each for a file or a folder.
        refused watch: List<Watch>,
    }
    rules {
        const NULLABLE: bool = true;
    }
}

mapping! {
    /// What happens when a file changes.
    pub struct Watch {
        /// File or folder that is watched.
        refused path: HostPath,
        /// What is done.
        refused action: WatchAction,
        /// Where the file goes in the container.
        refused target: Text,
        /// What is left out.
        refused ignore: OneOrMany<List<Text>>,
        /// What alone is looked at.
        refused include: OneOrMany<List<Text>>,
        /// Command run after the files have been copied.
        refused exec: Hook,
        /// Files are copied at the start as well.
        refused initial_sync: StrictFlag,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["path", "action"];
    }
}

choice! {
    /// What is done about a change.
    pub enum WatchAction {
        /// The image is built anew, and the service started from it.
        Rebuild = "rebuild",
        /// The file is copied.
        Sync = "sync",
        /// The service is started again.
        Restart = "restart",
        /// The file is copied, and the service started again.
        SyncRestart = "sync+restart",
        /// The file is copied, and a command run.
        SyncExec = "sync+exec",
    }
}
