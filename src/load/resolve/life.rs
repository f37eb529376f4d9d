//! When a service is started again, and how it is looked after its health: `restart`, `deploy.restart_policy`,
//! `healthcheck`, and `ready` and `restart_unhealthy` of `x-nscompose`.

use std::time::Duration;

use super::{Context, Cursor, said};
use crate::{
    compose,
    diagnostics::Diagnostic,
    model::{HealthSettings, HealthTest, LifeSettings, ListeningPort, RestartCondition, RestartPolicy},
};

/// Our own key of a service.
const KEY: &str = "x-nscompose";

/// The least that two looks are apart, as in Docker.
const LEAST: Duration = Duration::from_millis(1);

pub(super) fn lower(cx: &mut Context<'_>, service: &compose::Service, at: Cursor<'_>) -> LifeSettings {
    let lifecycle = &service.lifecycle;
    let mut life = LifeSettings {
        restart: restart(cx, lifecycle, at),
        health: lifecycle.healthcheck.as_ref().map(|check| health(cx, check, at.at("healthcheck"))).unwrap_or_default(),
        ..LifeSettings::default()
    };
    own_keys(cx, &mut life, at);
    // An image may have what is missing.
    let on_image = at.get("image").is_some() && at.get("rootfs").is_none();
    if let Some(at) = at.get("healthcheck").filter(|at| !at.node.is_null() && !on_image)
        && life.wants_test()
        && at.get("test").is_none()
    {
        cx.push(at.at_key(Diagnostic::error("`healthcheck` has no `test`")).hint("add one, such as `test: [CMD, …]`"));
    }
    life
}

fn restart(cx: &mut Context<'_>, lifecycle: &compose::Lifecycle, at: Cursor<'_>) -> RestartPolicy {
    let mut policy = RestartPolicy::default();
    if let Some(text) = said(lifecycle.restart.as_ref()) {
        match text.parse() {
            Ok(said) => policy = said,
            Err(error) => push_restart(cx, &error, at.at("restart")),
        }
    }
    let Some(deploy) = lifecycle.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()) else {
        return policy;
    };
    // As in Compose, it stands in for the short key as a whole.
    let at = at.at("deploy").at("restart_policy");
    let condition = match said(deploy.condition.as_ref()) {
        // Nothing else is said: that of Compose.
        None | Some("any") => RestartCondition::Always,
        Some("none") => RestartCondition::Never,
        Some("on-failure") => RestartCondition::OnFailure,
        Some(other) => {
            let wrong = Diagnostic::error(format!("`{other}` is not a condition to restart on"));
            cx.push(at.at("condition").here(wrong).hint("use `none`, `on-failure` or `any`"));
            RestartCondition::Never
        }
    };
    let max_attempts = deploy.max_attempts.as_ref().map(|attempts| u32::try_from(attempts.0.0).unwrap_or(u32::MAX));
    let spans = [deploy.delay, deploy.window].map(|span| span.map(|span| span.0).filter(|span| !span.is_zero()));
    let [delay, window] = spans;
    RestartPolicy { condition, max_attempts: max_attempts.filter(|attempts| *attempts > 0), delay, window }
}

fn push_restart(cx: &mut Context<'_>, error: &crate::model::InvalidRestart, at: Cursor<'_>) {
    cx.push(at.here(Diagnostic::error(format!("{error}"))).hint(error.hint()));
}

fn health(cx: &mut Context<'_>, check: &compose::Healthcheck, at: Cursor<'_>) -> HealthSettings {
    let mut span = |key: &str, span: Option<compose::Span>| {
        // 0 says nothing, as in Docker.
        let span = span.map(|span| span.0).filter(|span| !span.is_zero())?;
        if span < LEAST {
            let short = Diagnostic::error(format!("`{key}` is shorter than a millisecond"));
            cx.push(at.at(key).here(short).hint("use `1ms` or more"));
        }
        Some(span)
    };
    let interval = span("interval", check.interval);
    let timeout = span("timeout", check.timeout);
    let start_period = span("start_period", check.start_period);
    let start_interval = span("start_interval", check.start_interval);
    let mut test = check.test.as_ref().and_then(|probe| HealthTest::of_words(&probe.0));
    if let Some(probe) = &check.test
        && test.is_none()
        && let Some(first) = probe.0.first().filter(|first| matches!(first.as_str(), "CMD" | "CMD-SHELL"))
    {
        let nothing = Diagnostic::error(format!("`{first}` is followed by nothing to run"));
        cx.push(at.at("test").here(nothing).hint("write `[CMD, program, argument]`, or a string for a shell"));
    }
    if check.disable.is_some_and(|disable| disable.0) {
        test = Some(HealthTest::None);
    }
    let retries = check.retries.as_ref().and_then(|retries| u32::try_from(retries.0.0).ok());
    HealthSettings {
        test,
        interval,
        timeout,
        retries: retries.filter(|retries| *retries > 0),
        start_period,
        start_interval,
    }
}

/// `x-nscompose: {ready: {listen: 5432}, restart_unhealthy: true}`.
fn own_keys(cx: &mut Context<'_>, life: &mut LifeSettings, service: Cursor<'_>) {
    let Some(at) = service.get(KEY).filter(|at| !at.node.is_null()) else { return };
    if at.node.entries().is_none() {
        let wrong = Diagnostic::error(format!("`{KEY}` is not a mapping"));
        return cx.push(at.here(wrong).hint("write `ready: {listen: PORT}` below it"));
    }
    for (key, at) in at.entries() {
        match key {
            "ready" => ready(cx, life, service, at),
            "restart_unhealthy" => match at.node.scalar().and_then(|scalar| compose::Flag::parse(&scalar.text)) {
                Some(flag) => life.restart_unhealthy = flag,
                None => {
                    let wrong = Diagnostic::error("`restart_unhealthy` takes a boolean");
                    cx.push(at.here(wrong).hint("use `true` or `false`"));
                }
            },
            _ => {
                let unknown = Diagnostic::error(format!("`{KEY}` of a service has no key `{key}`"));
                cx.push(at.at_key(unknown).hint("its keys are `ready` and `restart_unhealthy`"));
            }
        }
    }
    let nothing_to_look_at = matches!(life.health.test, None | Some(HealthTest::None));
    if life.restart_unhealthy
        && nothing_to_look_at
        && (service.get("image").is_none() || service.get("rootfs").is_some() || life.health.test.is_some())
    {
        let never = Diagnostic::error("`restart_unhealthy` is for services with a health check, and this one has none");
        cx.push(at.at("restart_unhealthy").here(never).hint("add `healthcheck`, or `ready` beside it"));
    }
}

fn ready(cx: &mut Context<'_>, life: &mut LifeSettings, service: Cursor<'_>, at: Cursor<'_>) {
    let hint = "write `ready: {listen: 5432}`, or a list of ports";
    let Some(entries) = at.node.entries() else {
        return cx.push(at.here(Diagnostic::error("`ready` is not a mapping")).hint(hint));
    };
    for (key, at) in at.entries() {
        if key != "listen" {
            let unknown = Diagnostic::error(format!("`ready` has no key `{key}`"));
            cx.push(at.at_key(unknown).hint("its one key is `listen`"));
        }
    }
    let Some(listen) = at.get("listen") else {
        if entries.is_empty() {
            cx.push(at.here(Diagnostic::error("`ready` does not say what it waits for")).hint(hint));
        }
        return;
    };
    let nodes: Vec<Cursor<'_>> = match &listen.node.value {
        super::super::tree::Value::Sequence(nodes) => nodes.iter().map(Cursor::root).collect(),
        _ => vec![listen],
    };
    let mut ports: Vec<ListeningPort> = Vec::new();
    for at in &nodes {
        let Some(text) = at.node.scalar().map(|scalar| scalar.text.clone()) else {
            cx.push(at.here(Diagnostic::error("`listen` takes a port or a list of ports")).hint(hint));
            continue;
        };
        match text.parse::<ListeningPort>() {
            Ok(port) if ports.contains(&port) => {
                cx.push(at.here(Diagnostic::error(format!("port {port} is listed twice"))));
            }
            Ok(port) => ports.push(port),
            Err(error) => cx.push(at.here(Diagnostic::error(format!("{error}")))),
        }
    }
    if nodes.is_empty() {
        cx.push(listen.here(Diagnostic::error("`listen` lists no port")).hint(hint));
    }
    if ports.is_empty() {
        return;
    }
    if let Some(HealthTest::Program(_) | HealthTest::Shell(..)) = &life.health.test {
        let both = Diagnostic::error("`ready` and the `test` of `healthcheck` exclude each other");
        let test = service.at("healthcheck").at("test");
        return cx.push(at.at_key(both).label(test.key_span(), "this one").hint("remove one of the two"));
    }
    life.health.test = Some(HealthTest::Listening(ports));
}
