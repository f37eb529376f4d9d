//! `develop:`: what happens when source files change.

use super::{Distinct, Hook, HostPath, List, OneOrMany, Reader, StrictFlag, Text, choice::choice, mapping::mapping};
use crate::{diagnostics::Diagnostic, yaml::tree::Node};

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
        refused ignore: OneOrMany<Distinct<Text>>,
        /// What alone is looked at.
        refused include: OneOrMany<Distinct<Text>>,
        /// Command run after the files have been copied.
        refused exec: Hook,
        /// Files are copied at the start as well.
        refused initial_sync: StrictFlag,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["path", "action"];
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            if let Some(entry) = node.entry("path")
                && entry.value.scalar().is_some_and(|path| path.text.is_empty())
            {
                let diagnostic = Diagnostic::error("the path to watch is empty");
                cx.report(diagnostic.hint("name a file or a folder, such as `./src`"), &entry.value);
            }
            let copies = !matches!(self.action, None | Some(WatchAction::Rebuild | WatchAction::Restart));
            let target = self.target.as_ref().is_some_and(|target| !target.0.is_empty());
            if copies && !target {
                let diagnostic = Diagnostic::error("the rule copies files, and does not say where to");
                cx.report(diagnostic.hint("name the path in the container with `target:`"), node);
            }
        }
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
