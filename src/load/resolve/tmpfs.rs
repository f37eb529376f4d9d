//! `tmpfs:`, each item `PATH[:OPTION,OPTION]`.

use super::{Context, Cursor, mounts};
use crate::{
    compose::{ByteSize, REFUSED_TMPFS_OPTIONS, not_a_size},
    diagnostics::{Diagnostic, suggest},
    model::{Mount, MountSource, TmpfsMount},
};

const OPTIONS: [&str; 6] = ["size", "mode", "ro", "rw", "nosuid", "nodev"];

pub(super) fn lower(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = TmpfsMount::default();
    let mut valid = true;
    let mut from = target.len() + 1;
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
    let target = mounts::target(cx, target, at)?;
    valid.then_some(Mount { target, source: MountSource::Tmpfs(tmpfs) })
}

/// Does what an option says.
fn set(tmpfs: &mut TmpfsMount, option: &str) -> Result<(), Diagnostic> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    match name {
        "ro" => tmpfs.read_only = true,
        "rw" => tmpfs.read_only = false,
        // What every tmpfs of a container is anyway.
        "nosuid" | "nodev" => {}
        "size" => {
            let size = ByteSize::parse(value).and_then(|size| u64::try_from(size.0).ok());
            tmpfs.size = Some(size.ok_or_else(|| not_a_size(value))?);
        }
        "mode" => {
            let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
            tmpfs.mode = Some(mode.ok_or_else(|| not_a_mode(value))?);
        }
        other => {
            return Err(Diagnostic::error(format!("`{other}` is not an option of a tmpfs"))
                .did_you_mean(suggest(other, OPTIONS))
                .hint("the options are `size`, `mode`, `ro` and `rw`"));
        }
    }
    Ok(())
}

pub(super) fn not_a_mode(text: &str) -> Diagnostic {
    Diagnostic::error(format!("`{text}` is not a set of permission bits")).hint("write them in octal, such as `01777`")
}
