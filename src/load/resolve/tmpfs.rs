//! `tmpfs:`, each item `PATH[:OPTION,OPTION]`, and the same options of volumes in memory.

use super::{Context, Cursor, mounts};
use crate::{
    compose::{ByteSize, REFUSED_TMPFS_OPTIONS, not_a_size},
    diagnostics::{Diagnostic, suggest},
    model::{Atime, Mount, MountSource, TmpfsMount},
};

/// Those of tmpfs(5) and of mount(8) that make a difference to files in memory.
const OPTIONS: [&str; 24] = [
    "size",
    "mode",
    "uid",
    "gid",
    "nr_blocks",
    "nr_inodes",
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "nodev",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "defaults",
    "sync",
    "async",
];

pub(super) fn lower(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let tmpfs = read(cx, options, target.len() + 1, at);
    let target = mounts::target(cx, target, at)?;
    Some(Mount { target, source: MountSource::Tmpfs(tmpfs?) })
}

/// Reads options that stand at `from` in the scalar `at`; what is wrong with them is said.
pub(super) fn read(cx: &mut Context<'_>, options: &str, from: usize, at: Cursor<'_>) -> Option<TmpfsMount> {
    let mut tmpfs = TmpfsMount::default();
    let mut valid = true;
    let mut from = from;
    for option in options.split(',').filter(|_| !options.is_empty()) {
        let range = from..from + option.len();
        from = range.end + 1;
        if let Err(wrong) = set(&mut tmpfs, option) {
            let refused = REFUSED_TMPFS_OPTIONS.takes(option);
            if refused {
                cx.refusals.value(&REFUSED_TMPFS_OPTIONS, option, |diagnostic| at.at_part(diagnostic, range));
            } else {
                cx.push(at.at_part(wrong, range));
            }
            valid &= refused;
        }
    }
    valid.then_some(tmpfs)
}

/// Does what an option says; of two that contradict each other the later one counts, as in mount(8).
fn set(tmpfs: &mut TmpfsMount, option: &str) -> Result<(), Diagnostic> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let number = |of_what: &str| {
        let wrong = || Diagnostic::error(format!("`{value}` is not {of_what}")).hint("write a whole number");
        value.parse::<u32>().map_err(|_| wrong())
    };
    match name {
        "ro" => tmpfs.read_only = true,
        "rw" => tmpfs.read_only = false,
        "exec" => tmpfs.noexec = false,
        "noexec" => tmpfs.noexec = true,
        "suid" => tmpfs.suid = true,
        "nosuid" => tmpfs.suid = false,
        "noatime" => tmpfs.atime = Atime::Never,
        "nodiratime" => tmpfs.atime = Atime::NotOfFolders,
        "strictatime" => tmpfs.atime = Atime::Always,
        "atime" | "diratime" | "relatime" | "norelatime" | "nostrictatime" => tmpfs.atime = Atime::Relative,
        // What every tmpfs of a container is anyway, and what there is no disk for.
        "nodev" | "defaults" | "sync" | "async" => {}
        "size" => {
            let size = ByteSize::parse(value).and_then(|size| u64::try_from(size.0).ok());
            tmpfs.size = Some(size.ok_or_else(|| not_a_size(value))?);
        }
        "mode" => {
            let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
            tmpfs.mode = Some(mode.ok_or_else(|| not_a_mode(value))?);
        }
        "uid" => tmpfs.uid = Some(number("the number of a user")?),
        "gid" => tmpfs.gid = Some(number("the number of a group")?),
        "nr_blocks" | "nr_inodes" => {
            let size = ByteSize::parse(value).and_then(|size| u64::try_from(size.0).ok());
            let wrong = || Diagnostic::error(format!("`{value}` is not a number")).hint("write one such as `10k`");
            let number = Some(size.ok_or_else(wrong)?);
            if name == "nr_blocks" { tmpfs.blocks = number } else { tmpfs.inodes = number }
        }
        other => {
            return Err(Diagnostic::error(format!("`{other}` is not an option of a tmpfs"))
                .did_you_mean(suggest(other, OPTIONS))
                .hint("the options are those of tmpfs(5), such as `size`, `mode`, `uid`, `gid`, `noexec` and `ro`"));
        }
    }
    Ok(())
}

pub(super) fn not_a_mode(text: &str) -> Diagnostic {
    Diagnostic::error(format!("`{text}` is not a set of permission bits")).hint("write them in octal, such as `01777`")
}
