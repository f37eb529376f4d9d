//! What people see when things go wrong: what happened, where, and how to mend it.
//!
//! ```text
//! SourceFile ── Span ──▶ Diagnostic ──▶ Diagnostics ─┐
//!                                                    ├──▶ Failure ──▶ text for people, exit code
//! std::error::Error with its chain of sources ───────┘
//! ```
//!
//! Programs get the same as JSON, an object a line (json.rs).
//!
//! Nothing here prints: renderers return text, and who calls them knows about colours and the stream. Everything that is
//! rendered may come from a hostile file or a hostile log, so control characters never reach the terminal.

mod chain;
mod diagnostic;
mod failure;
mod json;
mod render;
mod sanitize;
mod source;
mod suggest;

pub use chain::chain;
pub use diagnostic::{Diagnostic, Diagnostics, Label, Severity};
pub use failure::{Failure, FailureKind};
pub(crate) use json::warning as warning_json;
pub use sanitize::sanitize;
pub use source::{Position, SourceFile, Span};
pub use suggest::suggest;
