//! What a service may use.

use super::{Context, Cursor};
use crate::{compose, model::Limits};

pub(super) fn lower(_cx: &mut Context<'_>, _service: &compose::Service, _at: Cursor<'_>) -> Limits {
    Limits::default()
}
