//! Services that wait for each other would wait forever.

use std::collections::HashMap;

use super::{
    Context,
    service::{Draft, Link},
};
use crate::diagnostics::Diagnostic;

/// More than this of one cycle, or cycles, are not shown.
const MOST_SHOWN: usize = 20;

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Walks all references between services, depth first and on a stack of its own: a file may hold a very long chain.
pub(super) fn check(cx: &mut Context<'_>, drafts: &[Draft], index: &HashMap<String, usize>) {
    let mut marks = vec![Mark::New; drafts.len()];
    let mut reported = vec![false; drafts.len()];
    let mut shown = 0;
    for start in 0..drafts.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // Each service on the way with the number of its references that have been followed.
        let mut way = vec![(start, 0)];
        while let Some((at, next)) = way.last_mut() {
            let at = *at;
            let Some(link) = drafts[at].links.get(*next) else {
                marks[at] = Mark::Done;
                way.pop();
                continue;
            };
            *next += 1;
            // To share with oneself is reported where it is read.
            let Some(&to) = index.get(&link.target).filter(|to| **to != at || link.key == "depends_on") else {
                continue;
            };
            match marks[to] {
                Mark::Done => {}
                Mark::New => {
                    marks[to] = Mark::Open;
                    way.push((to, 0));
                }
                Mark::Open if reported[to] || reported[at] || shown >= MOST_SHOWN => {}
                Mark::Open => {
                    let from = way.iter().position(|(service, _)| *service == to).unwrap_or_default();
                    let cycle: Vec<(&Draft, &Link)> = way[from..]
                        .iter()
                        .filter_map(|(service, next)| {
                            let draft = &drafts[*service];
                            Some((draft, draft.links.get(next - 1)?))
                        })
                        .collect();
                    way[from..].iter().for_each(|(service, _)| reported[*service] = true);
                    shown += 1;
                    cx.push(report(&cycle));
                }
            }
        }
    }
}

fn report(cycle: &[(&Draft, &Link)]) -> Diagnostic {
    let mut names: Vec<&str> = cycle.iter().take(MOST_SHOWN).map(|(draft, _)| draft.name.as_str()).collect();
    if cycle.len() > MOST_SHOWN {
        names.push("…");
    }
    names.extend(cycle.first().map(|(draft, _)| draft.name.as_str()));
    let diagnostic = match cycle {
        [(draft, link)] => {
            return Diagnostic::error(format!("service `{}` depends on itself", draft.name)).at(&link.span);
        }
        _ => Diagnostic::error(format!("services wait for each other: `{}`", names.join(" -> "))),
    };
    let Some(((_, first), rest)) = cycle.split_first() else { return diagnostic };
    rest.iter().take(MOST_SHOWN).fold(diagnostic.at(&first.span), |diagnostic, (draft, link)| {
        let verb = if link.key == "depends_on" { "depends on" } else { "shares with" };
        diagnostic.label(&link.span, format!("`{}` {verb} `{}`", draft.name, link.target))
    })
}
