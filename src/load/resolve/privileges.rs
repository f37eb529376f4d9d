//! What a service may do.

use super::{Context, Cursor};
use crate::{compose, model::Privileges};

pub(super) fn lower(_cx: &mut Context<'_>, _service: &compose::Service, _at: Cursor<'_>) -> Privileges {
    Privileges::default()
}
