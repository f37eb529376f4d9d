//! `depends_on`, with what links and volumes of other services imply.

use super::{Context, Cursor, namespaces};
use crate::{
    compose,
    model::{Condition, Dependency},
};

/// What it needs of others, as they are listed; whoever it shares a namespace with is known without. What no profile that is
/// asked for includes has been reported, unless it is not required; then it is left out here.
pub(super) fn lower(
    cx: &Context<'_>,
    lifecycle: &compose::Lifecycle,
    modes: &namespaces::Modes,
    at: Cursor<'_>,
) -> Vec<Dependency> {
    let said = |name: &str| lifecycle.depends_on.as_ref().and_then(|all| all.0.0.get(name));
    let all = at.get("depends_on").into_iter().flat_map(Cursor::entries);
    all.filter_map(|(name, at)| Some((name, cx.service(name)?, at)))
        .filter(|(_, service, at)| !(at.is_implied() && modes.owners().any(|owner| owner == service)))
        .map(|(name, service, _)| {
            let said = said(name);
            Dependency {
                service,
                condition: match said.and_then(|said| said.condition) {
                    Some(compose::Condition::Healthy) => Condition::Healthy,
                    Some(compose::Condition::Completed) => Condition::Completed,
                    Some(compose::Condition::Started) | None => Condition::Started,
                },
                required: said.and_then(|said| said.required).is_none_or(|required| required.0.0),
                restart: said.and_then(|said| said.restart).is_some_and(|restart| restart.0),
            }
        })
        .collect()
}
