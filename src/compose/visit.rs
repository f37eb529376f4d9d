//! A key with its value, as a walk over a tree meets it.

use super::Field;
use crate::load::tree::Entry;

/// A key that is in a file.
pub(crate) struct Visited<'a> {
    pub(crate) field: &'static Field,
    pub(crate) entry: &'a Entry,
}
