//! Phase 12, third part: services that wait for each other.

use std::collections::HashMap;

use super::{
    consistency::{find, services},
    tree::Node,
};
use crate::{
    compose::Project,
    diagnostics::{Diagnostic, Diagnostics},
};

/// More than this of one cycle, or cycles, are not shown.
const MOST_SHOWN: usize = 20;

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Finds services that wait for each other: they would wait forever. All services count, wanted or not.
///
/// It goes depth first, on a stack of its own: a file may hold a very long chain.
pub(super) fn report(tree: &Node, project: &Project, diagnostics: &mut Diagnostics) {
    let names: Vec<&str> = services(project).map(|(name, _)| name.as_str()).collect();
    let index: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let links: Vec<Vec<usize>> = services(project)
        .map(|(_, service)| {
            let all = service.lifecycle.depends_on.iter().flat_map(|all| all.0.0.keys());
            all.filter_map(|other| index.get(other.as_str()).copied()).collect()
        })
        .collect();
    let mut marks = vec![Mark::New; names.len()];
    let mut reported = vec![false; names.len()];
    let mut shown = 0;
    for start in 0..names.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // Each service on the way with the number of its links that have been followed.
        let mut way = vec![(start, 0)];
        while let Some((at, next)) = way.last_mut() {
            let at = *at;
            let Some(&to) = links[at].get(*next) else {
                marks[at] = Mark::Done;
                way.pop();
                continue;
            };
            *next += 1;
            match marks[to] {
                Mark::Done => {}
                Mark::New => {
                    marks[to] = Mark::Open;
                    way.push((to, 0));
                }
                Mark::Open if reported[to] || reported[at] || shown >= MOST_SHOWN => {}
                Mark::Open => {
                    let from = way.iter().position(|(service, _)| *service == to).unwrap_or_default();
                    let cycle: Vec<&str> = way[from..].iter().map(|(service, _)| names[*service]).collect();
                    way[from..].iter().for_each(|(service, _)| reported[*service] = true);
                    shown += 1;
                    diagnostics.push(cycle_of(tree, &cycle));
                }
            }
        }
    }
}

fn cycle_of(tree: &Node, cycle: &[&str]) -> Diagnostic {
    let link = |from: &str, to: &str| {
        let depends_on = find(tree, &["services", from, "depends_on"]);
        depends_on.entry(to).map_or_else(|| depends_on.span.clone(), |entry| entry.key_span.clone())
    };
    let first = cycle.first().copied().unwrap_or_default();
    if cycle.len() == 1 {
        return Diagnostic::error(format!("service `{first}` depends on itself")).at(&link(first, first));
    }
    let mut shown: Vec<&str> = cycle.iter().copied().take(MOST_SHOWN).collect();
    if cycle.len() > MOST_SHOWN {
        shown.push("…");
    }
    shown.push(first);
    let diagnostic = Diagnostic::error(format!("services wait for each other: `{}`", shown.join(" -> ")));
    let pairs = cycle.iter().zip(cycle.iter().skip(1).chain([&first])).take(MOST_SHOWN);
    pairs.enumerate().fold(diagnostic, |diagnostic, (position, (from, to))| {
        let span = link(from, to);
        match position {
            0 => diagnostic.at(&span),
            _ => diagnostic.label(&span, format!("`{from}` depends on `{to}`")),
        }
    })
}
