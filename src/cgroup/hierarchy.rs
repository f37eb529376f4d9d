//! Which hierarchies a host has, and what of them an account can use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    ALL_STACKS, controllers,
    file::read,
    group::{SELF, StackGroup, make_folder},
    systemd,
};
use crate::model::{Cgroups, Lack, ProjectName, Setting};

/// Which hierarchies this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where cgroup2 is mounted.
    unified: Option<PathBuf>,
    /// There is nothing but cgroup2.
    pure: bool,
    /// The group that the calling process is in, below `unified`.
    own: PathBuf,
    /// Where the controllers of version 1 are mounted.
    v1: BTreeMap<String, PathBuf>,
}

/// Where an account may make groups of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    /// Here, and hand controllers on.
    Own(PathBuf),
    /// In one that the service manager makes below this one.
    Ask(PathBuf),
    /// Here, without controllers, since it has processes of others.
    Crowded(PathBuf),
    None,
}

impl Hierarchy {
    /// Looks at /proc/self/mountinfo and /proc/self/cgroup.
    pub fn detect() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let (mut unified, mut v1) = (None, BTreeMap::new());
        let mut any_v1 = false;
        for line in mountinfo.lines() {
            // proc_pid_mountinfo(5): the mount point is the fifth field, the options of the file system the last one.
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(place) = before.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut after = after.split(' ');
            match after.next() {
                Some("cgroup2") => {
                    unified.get_or_insert(place);
                }
                Some("cgroup") => {
                    any_v1 = true;
                    for option in after.nth(1).unwrap_or_default().split(',') {
                        // Named hierarchies and flags have no controller.
                        if !matches!(option, "rw" | "ro" | "xattr" | "noprefix" | "clone_children" | "all")
                            && !option.contains('=')
                        {
                            v1.entry(option.to_owned()).or_insert_with(|| place.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        let own = own_group(cgroup).unwrap_or_default();
        Self { pure: unified.is_some() && !any_v1, unified, own: PathBuf::from(own), v1 }
    }

    /// Whether a container can have /sys/fs/cgroup as cgroup2.
    pub fn is_pure_v2(&self) -> bool {
        self.pure
    }

    fn base(&self, root: bool) -> Base {
        let Some(unified) = &self.unified else { return Base::None };
        if root {
            return Base::Own(unified.clone());
        }
        let own = unified.join(&self.own);
        let writable = writable(&own) && writable(&own.join("cgroup.procs"));
        if writable && has_no_strangers(&own) {
            return Base::Own(own);
        }
        match systemd::manager_of_account(unified) {
            Some(manager) => Base::Ask(manager),
            None if writable => Base::Crowded(own),
            None => Base::None,
        }
    }

    /// What cannot be limited here, for the account that `root` says is root of the machine or not.
    pub fn offers(&self, root: bool) -> Cgroups {
        let base = self.base(root);
        let place = match &base {
            Base::Own(path) | Base::Ask(path) | Base::Crowded(path) => Some(path.as_path()),
            Base::None => None,
        };
        let v2: BTreeSet<String> = place
            .and_then(|place| read(&place.join("cgroup.controllers")))
            .map(|text| text.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default();
        let lacks = Setting::ALL.into_iter().filter_map(|setting| {
            let lack = match controllers::of(setting) {
                None => self.lack_of_groups(setting, &base, root),
                Some(controller) => self.lack(setting, controller, &base, &v2, root),
            };
            Some((setting, lack?))
        });
        Cgroups {
            lacks: lacks.collect(),
            ask: matches!(base, Base::Ask(_)),
            cpus: read(Path::new("/sys/devices/system/cpu/online")).and_then(|text| text.parse().ok()),
        }
    }

    fn lack_of_groups(&self, setting: Setting, base: &Base, root: bool) -> Option<Lack> {
        match setting {
            Setting::Devices if !root => Some(Lack::DevicesOfUsers),
            _ if *base == Base::None && !root => Some(self.why_none()),
            _ if self.unified.is_none() && self.v1.is_empty() => Some(Lack::NoHierarchy),
            _ => None,
        }
    }

    /// Why an ordinary user has no groups.
    fn why_none(&self) -> Lack {
        match &self.unified {
            Some(_) => Lack::NotDelegated { group: Path::new("/").join(&self.own) },
            None if self.v1.is_empty() => Lack::NoHierarchy,
            None => Lack::VersionOne,
        }
    }

    fn lack(&self, setting: Setting, controller: &str, base: &Base, v2: &BTreeSet<String>, root: bool) -> Option<Lack> {
        let one = self.v1.get(controllers::version_one(controller));
        if v2.contains(controller) {
            return match base {
                Base::Crowded(group) => Some(Lack::OtherProcesses { group: self.shown(group) }),
                _ => self.lack_of_version_two(setting),
            };
        }
        match one {
            Some(mount) if root => lack_of_version_one(setting, mount),
            Some(_) => Some(Lack::VersionOne),
            None if self.unified.is_none() => Some(self.why_none()),
            None if root => Some(Lack::NoController(controller.to_owned())),
            None => Some(match base {
                Base::Own(group) | Base::Ask(group) | Base::Crowded(group) => {
                    Lack::ControllerNotDelegated { controller: controller.to_owned(), group: self.shown(group) }
                }
                Base::None => self.why_none(),
            }),
        }
    }

    fn lack_of_version_two(&self, setting: Setting) -> Option<Lack> {
        match setting {
            Setting::RealTime | Setting::Swappiness | Setting::OomKillDisable => Some(Lack::VersionTwo),
            // The root has no file for it, and so far there may be no other group.
            Setting::Swap if self.counts_swap() == Some(false) => Some(Lack::NoSwapAccounting),
            _ => None,
        }
    }

    /// Whether groups of version 2 have files for swap, by the first that has some for memory.
    fn counts_swap(&self) -> Option<bool> {
        let unified = self.unified.as_ref()?;
        let mut groups: Vec<PathBuf> = fs::read_dir(unified).ok()?.flatten().map(|entry| entry.path()).collect();
        groups.push(unified.join(&self.own));
        let group = groups.into_iter().find(|group| group.join("memory.max").exists())?;
        Some(group.join("memory.swap.max").exists())
    }

    /// A group as /proc/PID/cgroup shows it.
    fn shown(&self, group: &Path) -> PathBuf {
        let below = self.unified.as_ref().and_then(|unified| group.strip_prefix(unified).ok());
        Path::new("/").join(below.unwrap_or(group))
    }

    /// The group of a stack, made if it can be; none where this account may not make one. `root` is whether it belongs to
    /// root of the machine, and `place` tells stacks of the same name apart that are kept in different places.
    pub fn stack(&self, project: &ProjectName, place: &Path, root: bool) -> Option<StackGroup> {
        let base = match self.base(root) {
            Base::Own(base) | Base::Crowded(base) => Some(base),
            // Until it is asked for, what there may be is a group without controllers.
            Base::Ask(_) => self.unified.as_ref().map(|unified| unified.join(&self.own)),
            Base::None => None,
        };
        self.stack_in(base, project, place, root)
    }

    /// The same in a group that has been asked for: the one that the process `pid` has been moved to.
    pub fn stack_beside(&self, pid: i32, project: &ProjectName, place: &Path) -> Option<StackGroup> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        self.stack_in(Some(self.unified.as_ref()?.join(own_group(&text)?)), project, place, false)
    }

    fn stack_in(&self, base: Option<PathBuf>, project: &ProjectName, place: &Path, root: bool) -> Option<StackGroup> {
        let digest = Sha256::digest(place.as_os_str().as_bytes());
        let name = format!("{project}.{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
        let base = base.filter(|base| {
            let parent = base.join(ALL_STACKS);
            let made = make_folder(&parent).and_then(|_| make_folder(&parent.join(&name)));
            if let Err(error) = &made {
                tracing::debug!(path = %parent.display(), %error, "no control group");
            }
            made.is_ok()
        });
        let v1 = if root { self.v1.clone() } else { BTreeMap::new() };
        (base.is_some() || !v1.is_empty()).then(|| StackGroup::new(name, base, v1))
    }
}

/// The group of version 2 that /proc/PID/cgroup names, without the slash in front. A process of nscompose's own may have been moved
/// aside in it ([`SELF`]), out of the way of containers.
fn own_group(text: &str) -> Option<&str> {
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(own.strip_suffix(SELF).map_or(own, |above| above.trim_end_matches('/')))
}

/// Whether the caller may make something in it, or write to it.
fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Whether a group has no processes but nscompose's own, which may be moved out of the way.
fn has_no_strangers(group: &Path) -> bool {
    read(&group.join("cgroup.procs")).is_some_and(|pids| pids.lines().all(super::group::is_ours))
}

/// What the controller of version 1 that is mounted there does not have. The root has all files but that of the weight.
fn lack_of_version_one(setting: Setting, mount: &Path) -> Option<Lack> {
    let option =
        |file: &str, option: &str| (!mount.join(file).exists()).then(|| Lack::NoKernelOption(option.to_owned()));
    match setting {
        Setting::CpuMax => option("cpu.cfs_quota_us", "CONFIG_CFS_BANDWIDTH"),
        Setting::RealTime => option("cpu.rt_runtime_us", "CONFIG_RT_GROUP_SCHED"),
        Setting::Swap => (!mount.join("memory.memsw.limit_in_bytes").exists()).then_some(Lack::NoSwapAccounting),
        Setting::IoMax => option("blkio.throttle.read_bps_device", "CONFIG_BLK_DEV_THROTTLING"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_moved_aside_is_in_the_group_above() {
        for (text, own) in [
            ("0::/user.slice/app.scope/nscompose.self\n", Some("user.slice/app.scope")),
            ("1:name=systemd:/x\n0::/user.slice/app.scope\n", Some("user.slice/app.scope")),
            ("0::/nscompose.self\n", Some("")),
            ("0::/\n", Some("")),
            ("1:pids:/\n", None),
        ] {
            assert_eq!(own_group(text), own, "{text}");
        }
    }

    #[test]
    fn hierarchies_are_told_apart() {
        let v2 = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let pure = Hierarchy::parse(v2, "0::/user.slice/session-1.scope\n");
        assert!(pure.is_pure_v2());
        assert_eq!(pure.own, Path::new("user.slice/session-1.scope"));
        let hybrid = "31 1 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 1 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            32 1 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let hybrid = Hierarchy::parse(hybrid, "2:cpu:/\n0::/\n");
        assert!(!hybrid.is_pure_v2());
        assert_eq!(hybrid.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let one: Vec<(&str, &Path)> = hybrid.v1.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
        let both = Path::new("/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(one, [("cpu", both), ("cpuacct", both)]);
        let v1 = Hierarchy::parse("31 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", "2:cpu:/\n");
        assert_eq!(v1.unified, None);
    }

    /// A host of version 2 with these controllers in its root and in the group of an ordinary user.
    fn pure(root: &Path, all: &str, own: &str) -> Hierarchy {
        let group = root.join("own");
        fs::create_dir(&group).expect("folder");
        for (folder, controllers) in [(root, all), (&group, own)] {
            fs::write(folder.join("cgroup.controllers"), controllers).expect("file");
            fs::write(folder.join("cgroup.procs"), "").expect("file");
        }
        Hierarchy { unified: Some(root.to_owned()), pure: true, own: "own".into(), v1: BTreeMap::new() }
    }

    #[test]
    fn what_a_host_lacks() {
        let dir = tempfile::tempdir().expect("folder");
        let hierarchy = pure(dir.path(), "cpu io memory pids", "memory pids");
        let root = hierarchy.offers(true);
        assert_eq!(root.lacks.get(&Setting::CpuMax), None);
        assert_eq!(root.lacks.get(&Setting::Swappiness), Some(&Lack::VersionTwo));
        assert_eq!(root.lacks.get(&Setting::Cpuset), Some(&Lack::NoController("cpuset".to_owned())));
        assert!(!root.ask);
        let user = hierarchy.offers(false);
        assert_eq!(user.lacks.get(&Setting::Pids), None);
        let lack = Lack::ControllerNotDelegated { controller: "cpu".to_owned(), group: "/own".into() };
        assert_eq!(user.lacks.get(&Setting::CpuMax), Some(&lack));
        assert_eq!(user.lacks.get(&Setting::Devices), Some(&Lack::DevicesOfUsers));
        // Somebody else's process, such as a shell.
        fs::write(dir.path().join("own/cgroup.procs"), "1\n").expect("file");
        let user = hierarchy.offers(false);
        assert_eq!(user.lacks.get(&Setting::Pids), Some(&Lack::OtherProcesses { group: "/own".into() }));
        assert_eq!(user.lacks.get(&Setting::Parent), None);
    }

    #[test]
    fn version_one_is_for_root() {
        let dir = tempfile::tempdir().expect("folder");
        let v1 = ["memory", "blkio"].map(|name| (name.to_owned(), dir.path().to_owned())).into();
        let hierarchy = Hierarchy { unified: None, pure: false, own: PathBuf::new(), v1 };
        let root = hierarchy.offers(true);
        assert_eq!(root.lacks.get(&Setting::MemoryMax), None);
        assert_eq!(root.lacks.get(&Setting::Swap), Some(&Lack::NoSwapAccounting));
        assert_eq!(root.lacks.get(&Setting::Parent), None);
        let option = Lack::NoKernelOption("CONFIG_BLK_DEV_THROTTLING".to_owned());
        assert_eq!(root.lacks.get(&Setting::IoMax), Some(&option));
        assert_eq!(hierarchy.offers(false).lacks.get(&Setting::MemoryMax), Some(&Lack::VersionOne));
    }
}
