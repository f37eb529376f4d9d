//! The files of a service's `label_file:`, in the format of `.env`.
//!
//! Labels of a later file win over those of an earlier one. `labels:` win over all of them: laying them over the result
//! is left to the caller.

use std::path::PathBuf;

use super::{env_file::EnvFiles, variables::Variables};
use crate::diagnostics::{Diagnostics, Span};

/// The labels of the files, each given by its absolute path and where the Compose file names it.
pub(crate) fn labels(files: &[(PathBuf, Span)], read: &mut EnvFiles<'_>, diagnostics: &mut Diagnostics) -> Variables {
    read.labels(files, diagnostics)
}
