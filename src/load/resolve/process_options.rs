//! What the processes of a service start with.

use super::{Context, Cursor};
use crate::{compose, model::ProcessOptions};

pub(super) fn lower(_cx: &mut Context<'_>, _service: &compose::Service, _at: Cursor<'_>) -> ProcessOptions {
    ProcessOptions::default()
}
