//! What has to be done for an image that is asked for: nothing, a look at its source, or a pull.

use std::time::Duration;

use super::store::{Store, StoreError, Stored};
use crate::model::{ImageRequest, PullPolicy};

/// What is known of an image before its source is asked.
#[derive(Debug)]
pub enum Found {
    /// It is here, and need not be looked for.
    Here(Box<Stored>),
    /// It is here; its source may have a newer one.
    Stale(Box<Stored>),
    /// It is not here, or not whole.
    Missing,
}

impl Store {
    /// Looks for an image; `now` are seconds since the Unix epoch. What is in a folder or file is always looked for there.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn look_for(&self, request: &ImageRequest, now: i64) -> Result<Found, StoreError> {
        let Some(name) = request.source.registry() else { return Ok(Found::Missing) };
        let Some(stored) = self.find(name, request.platform.as_ref())? else { return Ok(Found::Missing) };
        if !stored.layers.iter().all(|layer| self.has_layer(&layer.diff_id)) {
            return Ok(Found::Missing);
        }
        let age = Duration::from_secs(u64::try_from(now.saturating_sub(stored.entry.checked)).unwrap_or(0));
        // What a digest names never changes, and what was loaded from a file has nowhere to be looked for but its name.
        let fixed = name.digest().is_some();
        Ok(match request.pull_policy {
            PullPolicy::Always if !fixed => Found::Stale(Box::new(stored)),
            PullPolicy::Every(span) if !fixed && age >= span => Found::Stale(Box::new(stored)),
            _ => Found::Here(Box::new(stored)),
        })
    }
}
