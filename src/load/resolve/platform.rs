//! `platform:`, which can only be that of this machine.

use super::{Context, Cursor, said};
use crate::compose::{Program, REFUSED_PLATFORMS};

/// This machine as Go calls it, and with it everything around containers.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        arch => arch,
    }
}

/// `OS[/ARCHITECTURE[/VARIANT]]`, or an architecture alone.
pub(super) fn check(cx: &mut Context<'_>, program: &Program, at: Cursor<'_>) {
    let Some(platform) = said(program.platform.as_ref()) else { return };
    let ours = match platform.split('/').collect::<Vec<_>>()[..] {
        [one] => one == "linux" || one == machine() || one == std::env::consts::ARCH,
        ["linux", arch] | ["linux", arch, _] => arch == machine() || arch == std::env::consts::ARCH,
        _ => false,
    };
    if !ours {
        let what = format!("platform: {platform}");
        cx.refusals.value(&REFUSED_PLATFORMS, &what, |diagnostic| at.at("platform").here(diagnostic));
    }
}
