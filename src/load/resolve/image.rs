//! `image:`, `platform:` and `pull_policy:`.

use super::{Context, Cursor, mounts::host_path, said};
use crate::{
    compose::{Program, clean},
    diagnostics::Diagnostic,
    model::{ImageRequest, ImageSource, Platform, PullPolicy, Rootfs},
};

/// Nothing if no image is named, or a mistake is in it, which has been said.
pub(super) fn lower(cx: &mut Context<'_>, program: &Program, at: Cursor<'_>) -> Option<ImageRequest> {
    let platform = platform(cx, program, at);
    let pull_policy = pull_policy(cx, program, at);
    let text = said(program.image.as_ref())?;
    let source = source(cx, text, at.at("image"))?;
    Some(ImageRequest { source, platform, pull_policy: pull_policy.unwrap_or_default() })
}

/// An image of which a service mounts files.
pub(super) fn of_mount(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<ImageRequest> {
    let source = source(cx, text, at)?;
    Some(ImageRequest { source, platform: None, pull_policy: PullPolicy::default() })
}

/// An image that runs before a service: for the platform of the service, and looked for as its own is.
pub(super) fn of_hook(
    cx: &mut Context<'_>,
    text: &str,
    service: Option<&Rootfs>,
    at: Cursor<'_>,
) -> Option<ImageRequest> {
    let source = source(cx, text, at)?;
    let (platform, pull_policy) = match service {
        Some(Rootfs::Image(of_service)) => (of_service.platform.clone(), of_service.pull_policy),
        _ => (None, PullPolicy::default()),
    };
    Some(ImageRequest { source, platform, pull_policy })
}

fn source(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<ImageSource> {
    let source = match text.parse::<ImageSource>() {
        Ok(source) => source,
        Err(error) => {
            cx.push(at.here(Diagnostic::error(error.to_string())));
            return None;
        }
    };
    match source.path() {
        Some(path) if path.starts_with("~") => {
            let path = host_path(cx, &path.to_string_lossy(), at)?;
            Some(source.with_path(|_| path))
        }
        _ => Some(source.with_path(|path| clean(&cx.directory.join(path)))),
    }
}

fn platform(cx: &mut Context<'_>, program: &Program, at: Cursor<'_>) -> Option<Platform> {
    let text = said(program.platform.as_ref())?;
    let wrong = |error| at.at("platform").here(Diagnostic::error(format!("{error}")));
    let platform = text.parse::<Platform>().map_err(|error| cx.push(wrong(error))).ok()?;
    (platform != Platform::host()).then_some(platform)
}

fn pull_policy(cx: &mut Context<'_>, program: &Program, at: Cursor<'_>) -> Option<PullPolicy> {
    let text = program.pull_policy.as_ref().map(|policy| policy.0.as_str()).filter(|text| !text.is_empty())?;
    let wrong = |error| at.at("pull_policy").here(Diagnostic::error(format!("{error}")));
    text.parse().map_err(|error| cx.push(wrong(error))).ok()
}
