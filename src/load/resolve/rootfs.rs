//! What a service sees as its files: `rootfs:`, nscompose's own key (`host`, a folder, or a tar file), or else its image.

use super::{Context, Cursor, image, mounts::host_path};
use crate::{
    compose::Program,
    diagnostics::Diagnostic,
    model::{Rootfs, ServiceName},
};

/// Nothing if there is neither, or a mistake in it, which has been said.
pub(super) fn lower(cx: &mut Context<'_>, name: &ServiceName, program: &Program, at: Cursor<'_>) -> Option<Rootfs> {
    let image = image::lower(cx, program, at);
    let Some(text) = program.rootfs.as_ref().map(|rootfs| rootfs.0.as_str()).filter(|text| !text.is_empty()) else {
        let written_wrong =
            at.get("rootfs").is_some_and(|at| at.node.scalar().is_none_or(|scalar| !scalar.text.is_empty()));
        // Without an image it has been reported; where one is to be built, the refusal says what to do.
        let unnamed = program.image.is_none() && program.build.is_some();
        if cx.refusals.allowed() && !written_wrong && unnamed {
            let nothing = Diagnostic::error(format!("service `{name}` has no files to run on without being built"));
            cx.push(
                at.at_key(nothing).hint("set `image:` to an image, or `rootfs:` to `host`, a folder or a tar file"),
            );
        }
        return image.map(Rootfs::Image);
    };
    let at = at.at("rootfs");
    if text == "host" {
        return Some(Rootfs::Host);
    }
    let lower = text.to_ascii_lowercase();
    if [".tar.xz", ".tar.zst", ".tar.bz2", ".txz", ".zip"].iter().any(|suffix| lower.ends_with(suffix)) {
        let wrong = Diagnostic::error(format!("`{text}` is compressed in a way that is not supported yet"));
        cx.push(at.here(wrong).hint("use a plain tar file or one compressed with gzip"));
        return None;
    }
    let path = host_path(cx, text, at)?;
    let tar = [".tar", ".tar.gz", ".tgz"].iter().any(|suffix| lower.ends_with(suffix));
    Some(if tar { Rootfs::Tar(path) } else { Rootfs::Directory(path) })
}
