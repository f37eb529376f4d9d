//! `rootfs:`, nscompose's own key: `host`, a folder, or a tar file.

use super::{Context, Entry, service::Draft};
use crate::{diagnostics::Diagnostic, model::Rootfs};

pub(super) fn read(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    let Some(text) = cx.string("`rootfs`", &entry.value) else { return };
    let span = &entry.value.span;
    if text == "host" {
        draft.service.rootfs = Rootfs::Host;
        return;
    }
    if !text.starts_with(['.', '/', '~']) {
        cx.push(
            Diagnostic::error(format!("`{text}` is neither `host` nor a path"))
                .at(span)
                .hint(format!("write `./{text}` for a folder or a tar file beside the Compose file")),
        );
        return;
    }
    let lower = text.to_ascii_lowercase();
    if [".tar.xz", ".tar.zst", ".tar.bz2", ".txz", ".zip"].iter().any(|suffix| lower.ends_with(suffix)) {
        cx.push(
            Diagnostic::error(format!("`{text}` is compressed in a way that is not supported yet"))
                .at(span)
                .hint("use a plain tar file or one compressed with gzip"),
        );
        return;
    }
    let Some(path) = cx.host_path(text, span) else { return };
    let tar = [".tar", ".tar.gz", ".tgz"].iter().any(|suffix| lower.ends_with(suffix));
    draft.service.rootfs = if tar { Rootfs::Tar(path) } else { Rootfs::Directory(path) };
}
