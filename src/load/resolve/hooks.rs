//! `pre_start`, `post_start` and `pre_stop`.

use super::{Context, Cursor, image, program, said};
use crate::{
    compose::{self, List},
    diagnostics::Diagnostic,
    model::{Hook, Hooks, PreStart, Rootfs, Service},
};

pub(super) fn lower(cx: &mut Context<'_>, lifecycle: &compose::Lifecycle, at: Cursor<'_>) -> Hooks {
    Hooks {
        post_start: list(cx, lifecycle.post_start.as_ref(), "post_start", at),
        pre_stop: list(cx, lifecycle.pre_stop.as_ref(), "pre_stop", at),
    }
}

fn list(cx: &mut Context<'_>, hooks: Option<&List<compose::Hook>>, key: &str, at: Cursor<'_>) -> Vec<Hook> {
    let Some(hooks) = hooks else { return Vec::new() };
    at.at(key).items(&hooks.0).filter_map(|(hook, at)| one(cx, hook, key, at)).collect()
}

/// What runs before a service, with what that says where it says nothing itself. `service` is as the file has it, but for its files, which
/// are none if they have been refused.
pub(super) fn before_start(
    cx: &mut Context<'_>,
    lifecycle: &compose::Lifecycle,
    (service, rootfs): (&Service, Option<&Rootfs>),
    at: Cursor<'_>,
) -> Vec<PreStart> {
    let Some(hooks) = &lifecycle.pre_start else { return Vec::new() };
    let mut all = Vec::new();
    for (hook, at) in at.at("pre_start").items(&hooks.0) {
        let compose::PreStart { command, image, user, privileged, working_dir, environment, per_replica, .. } = hook;
        let said = compose::Hook {
            command: command.clone(),
            user: user.clone(),
            privileged: *privileged,
            working_dir: working_dir.clone(),
            environment: environment.clone(),
            ..compose::Hook::default()
        };
        let run = one(cx, &said, "pre_start", at);
        let own = match super::said(image.as_ref()) {
            Some(text) => image::of_hook(cx, text, rootfs, at.at("image")).map(Rootfs::Image),
            None => rootfs.cloned(),
        };
        let (Some(mut run), Some(rootfs)) = (run, own) else { continue };
        run.user = run.user.or_else(|| service.user.clone());
        run.working_dir = run.working_dir.or_else(|| service.working_dir.clone());
        for (name, value) in &service.environment {
            run.environment.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let per_replica = per_replica.is_some_and(|flag| flag.0);
        all.push(PreStart { run, entrypoint: Vec::new(), rootfs, per_replica });
    }
    all
}

fn one(cx: &mut Context<'_>, hook: &compose::Hook, key: &str, at: Cursor<'_>) -> Option<Hook> {
    let command = program::words(hook.command.as_ref()).unwrap_or_default();
    if command.is_empty() {
        // One that is of another type has been reported.
        if hook.command.is_some() {
            let nothing = Diagnostic::error(format!("a command of `{key}` is empty"));
            cx.push(at.at("command").here(nothing).hint("say what to run, or leave the item out"));
        }
        return None;
    }
    let user = said(hook.user.as_ref()).and_then(|text| {
        text.parse().map_err(|error| cx.push(at.at("user").here(Diagnostic::error(format!("{error}"))))).ok()
    });
    let working_dir = said(hook.working_dir.as_ref())
        .and_then(|text| program::container_path(cx, "the working directory", text, at.at("working_dir")));
    let mut environment = program::variables(cx, hook.environment.as_ref(), at);
    for (name, value) in hook.environment.iter().flat_map(|environment| &environment.0) {
        // Without a value it is the caller's, as it is for the service itself.
        if value.is_none()
            && let Some(value) = cx.variables.value(name)
        {
            environment.insert(name.clone(), value.to_owned());
        }
    }
    Some(Hook { command, user, privileged: hook.privileged.is_some_and(|flag| flag.0), working_dir, environment })
}
