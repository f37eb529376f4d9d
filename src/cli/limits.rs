//! Limits that this machine or this account cannot have: an error at the key, or a warning.

use super::stack::no_plan;
use crate::{
    diagnostics::{Diagnostic, Diagnostics, Failure, FailureKind},
    load::Loaded,
    model::{Host, Project},
    plan::{Intent, PlanError, Unmet, leave_out_unmet},
    ui::Printer,
};

/// Why there is no plan, at its place in the file where that is known.
pub(super) fn no_plan_of(error: &PlanError, loaded: &Loaded) -> Failure {
    let PlanError::Limits(unmet) = error else { return no_plan(error) };
    let mut diagnostics = Diagnostics::new();
    for unmet in unmet {
        diagnostics.push(at_key(unmet, loaded, Diagnostic::error).hint(unmet.lack.hint()));
    }
    diagnostics.sort();
    diagnostics.close("`--allow-unsupported` leaves out what cannot be had here");
    Failure::from(diagnostics).with_exit_code(FailureKind::Host.exit_code())
}

/// Leaves out what cannot be had here, with a warning for each.
pub(super) fn leave_out(project: &mut Project, host: &Host, intent: &Intent, loaded: &Loaded, printer: Printer) {
    let mut warnings = Diagnostics::new();
    for unmet in leave_out_unmet(project, host) {
        if intent.services.is_empty() || intent.services.contains(&unmet.service) {
            let left_out = |text: String| Diagnostic::warning(format!("{text}; it is left out"));
            warnings.push(at_key(&unmet, loaded, left_out));
        }
    }
    warnings.sort();
    printer.diagnostics(&warnings);
}

fn at_key(unmet: &Unmet, loaded: &Loaded, diagnostic: impl Fn(String) -> Diagnostic) -> Diagnostic {
    let keys = unmet.setting.keys();
    let placed = loaded.at_key(&unmet.service, keys, |key| diagnostic(unmet.message(key)));
    placed.unwrap_or_else(|| diagnostic(unmet.to_string()))
}
