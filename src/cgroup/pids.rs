//! Processes and threads: the controller `pids`, which is the same in both versions.

use super::{
    CgroupError,
    file::{At, number, write},
};
use crate::model::{Effective, Limits, Usage};

pub(super) fn apply(at: &At, limits: &Limits, effective: &mut Effective) -> Result<(), CgroupError> {
    let Some(pids) = limits.pids else { return Ok(()) };
    let file = at.folder().join("pids.max");
    write(&file, &pids.to_string())?;
    effective.pids = number(&file);
    Ok(())
}

pub(super) fn usage(at: &At, usage: &mut Usage) {
    usage.pids = number(&at.folder().join("pids.current"));
    usage.pids_limit = number(&at.folder().join("pids.max"));
}
