//! Which processors: the controller `cpuset`.

use std::path::Path;

use super::{
    CgroupError,
    file::{At, read, write},
};
use crate::model::{CpuLimits, Effective};

pub(super) fn apply(at: &At, limits: &CpuLimits, effective: &mut Effective) -> Result<(), CgroupError> {
    let Some(cpus) = &limits.cpus else { return Ok(()) };
    let file = at.folder().join("cpuset.cpus");
    write(&file, cpus.as_str())?;
    effective.cpuset = read(&file);
    Ok(())
}

/// A new group of version 1 has neither processors nor memory and takes no process until it has (cpusets(7)): it gets
/// those of the one above.
pub(super) fn inherit(above: &Path, folder: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = folder.join(name);
        if read(&file).is_some_and(|text| text.is_empty()) {
            write(&file, &read(&above.join(name)).unwrap_or_default())?;
        }
    }
    Ok(())
}
