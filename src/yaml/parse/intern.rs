//! Texts that come again and again, as keys do, are kept once.

use std::sync::Arc;

/// A longer text hardly comes twice.
const LONGEST: usize = 24;
const SLOTS: usize = 512;

/// The last text of each slot. A text that lost its slot to another is made anew, so that no file can make this slow.
pub(super) struct Interner(Vec<Option<Arc<str>>>);

impl Interner {
    pub(super) fn new() -> Self {
        Self(vec![None; SLOTS])
    }

    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if text.len() > LONGEST {
            return text.into();
        }
        // FNV-1a
        let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let Some(slot) = self.0.get_mut((hash ^ (hash >> 16)) as usize % SLOTS) else { return text.into() };
        match slot {
            Some(kept) if &**kept == text => kept.clone(),
            _ => slot.insert(text.into()).clone(),
        }
    }
}
