//! Names that services refer to and nothing declares.

use std::collections::HashMap;

use crate::diagnostics::{Diagnostic, Diagnostics};

/// Names that are not declared: one that is missed by several services is one mistake.
#[derive(Default)]
pub(super) struct Missing {
    list: Vec<(Diagnostic, Others)>,
    /// Where a name of a section is in the list.
    known: HashMap<(String, String), usize>,
    /// How many were only counted.
    more: usize,
}

/// Further services that miss a name, in order: the first of them, and how many there are.
#[derive(Default)]
struct Others {
    shown: Vec<String>,
    count: usize,
    last: String,
}

impl Missing {
    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are so many that those to come are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MOST_KEPT
    }

    /// Counts one that is not kept.
    pub(super) fn count(&mut self) {
        self.more += 1;
    }

    /// Notes that a service too misses a name; false if it is the first.
    pub(super) fn again(&mut self, section: &str, name: &str, service: &str) -> bool {
        let Some(index) = self.known.get(&(section.to_owned(), name.to_owned())) else { return false };
        let (_, others) = &mut self.list[*index];
        let service = short(service);
        if others.last != service {
            service.clone_into(&mut others.last);
            others.count += 1;
            if others.shown.len() < MOST_OTHERS {
                others.shown.push(format!("`{service}`"));
            }
        }
        true
    }

    /// Notes a name that has not been missed before.
    pub(super) fn first(&mut self, section: &str, name: &str, service: &str, mut diagnostic: Diagnostic) {
        diagnostic.shorten();
        self.known.insert((section.to_owned(), name.to_owned()), self.list.len());
        self.list.push((diagnostic, Others { last: short(service).to_owned(), ..Others::default() }));
    }

    /// Reports each name once.
    pub(super) fn report(self, diagnostics: &mut Diagnostics) {
        for (diagnostic, Others { shown, count, .. }) in self.list {
            let named = shown.join(", ");
            diagnostics.push(match count - shown.len() {
                0 if count == 0 => diagnostic,
                0 if count == 1 => diagnostic.hint(format!("service {named} refers to it too")),
                0 => diagnostic.hint(format!("services {named} refer to it too")),
                more => diagnostic.hint(format!("services {named} and {more} more refer to it too")),
            });
        }
        // There are too many by now: these too are only counted.
        (0..self.more).for_each(|_| diagnostics.push(Diagnostic::error("")));
    }
}

/// As many services that miss a name are named, after the first.
const MOST_OTHERS: usize = 5;

/// As many are kept; as many diagnostics are.
const MOST_KEPT: usize = 1000;

/// Names of a hostile file may be as long as the file.
fn short(name: &str) -> &str {
    name.char_indices().nth(200).map_or(name, |(cut, _)| &name[..cut])
}
