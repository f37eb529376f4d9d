//! Processor time: the controller `cpu`, and `cpuacct` of version 1.

use std::path::Path;

use super::{
    CgroupError,
    file::{At, field, number, read, write},
};
use crate::model::{Bandwidth, CpuLimits, Effective, Usage};

/// cpu.weight for cpu.shares, by the formula of runc (opencontainers/cgroups, `ConvertCPUSharesToCgroupV2Value`): the
/// least, the usual and the greatest value of the one become those of the other.
fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

pub(super) fn apply(at: &At, limits: &CpuLimits, effective: &mut Effective) -> Result<(), CgroupError> {
    match at {
        At::V2(folder) => {
            if let Some(shares) = limits.shares {
                let file = folder.join("cpu.weight");
                write(&file, &weight(shares).to_string())?;
                effective.cpu_weight = number(&file);
            }
            if let Some(Bandwidth { quota_us, period_us }) = limits.bandwidth {
                let file = folder.join("cpu.max");
                let quota = quota_us.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                write(&file, &format!("{quota} {period_us}"))?;
                effective.cpu = read(&file).and_then(|text| {
                    let (quota, period) = text.split_once(' ')?;
                    Some(Bandwidth { quota_us: quota.parse().ok(), period_us: period.parse().ok()? })
                });
            }
        }
        At::V1(folder) => {
            if let Some(shares) = limits.shares {
                let file = folder.join("cpu.shares");
                write(&file, &shares.to_string())?;
                effective.cpu_weight = number(&file);
            }
            if let Some(Bandwidth { quota_us, period_us }) = limits.bandwidth {
                let (quota, period) = (folder.join("cpu.cfs_quota_us"), folder.join("cpu.cfs_period_us"));
                write(&period, &period_us.to_string())?;
                write(&quota, &quota_us.map_or_else(|| "-1".to_owned(), |quota| quota.to_string()))?;
                effective.cpu = number(&period).map(|period_us| Bandwidth { quota_us: number(&quota), period_us });
            }
            if let Some(period) = limits.realtime.period_us {
                write(&folder.join("cpu.rt_period_us"), &period.to_string())?;
            }
            if let Some(runtime) = limits.realtime.runtime_us {
                write(&folder.join("cpu.rt_runtime_us"), &runtime.to_string())?;
            }
        }
    }
    Ok(())
}

/// Real-time scheduling in a group takes what all above it have been given: these are given what one below is to have more.
pub(super) fn make_room_for_realtime(folder: &Path, limits: &CpuLimits) -> Result<(), CgroupError> {
    let Some(runtime) = limits.realtime.runtime_us else { return Ok(()) };
    let (file, period) = (folder.join("cpu.rt_runtime_us"), folder.join("cpu.rt_period_us"));
    let has = number(&file).unwrap_or(0);
    // In microseconds of the period that this group has.
    let scale = |us: u64| us * number(&period).unwrap_or(1_000_000) / limits.realtime.period_us.unwrap_or(1_000_000);
    write(&file, &(has + scale(runtime)).to_string())
}

/// What `cpu.stat` of version 2 says, which is there without the controller too; else the controllers of version 1.
pub(super) fn usage(v2: Option<&Path>, cpu: Option<&At>, accounting: Option<&Path>, usage: &mut Usage) {
    if let Some(folder) = v2 {
        let file = folder.join("cpu.stat");
        usage.cpu_us = field(&file, "usage_usec");
        usage.throttled_us = field(&file, "throttled_usec");
    }
    if let Some(At::V1(folder)) = cpu {
        usage.throttled_us = field(&folder.join("cpu.stat"), "throttled_time").map(|ns| ns / 1000);
    }
    if let Some(nanoseconds) = accounting.and_then(|folder| number(&folder.join("cpuacct.usage"))) {
        usage.cpu_us.get_or_insert(nanoseconds / 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RealTime;

    #[test]
    fn shares_become_weights_as_in_runc() {
        for (shares, expected) in [(2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn files_of_both_versions() {
        let dir = tempfile::tempdir().expect("folder");
        let limits = CpuLimits {
            bandwidth: Some(Bandwidth { quota_us: Some(50_000), period_us: 100_000 }),
            shares: Some(1024),
            cpus: None,
            realtime: RealTime { period_us: None, runtime_us: Some(1000) },
        };
        let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
        // Those of the kernel take each write for a whole value.
        let empty = || {
            for name in
                ["cpu.weight", "cpu.max", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.rt_runtime_us"]
            {
                std::fs::write(dir.path().join(name), "").expect("a file");
            }
        };
        empty();
        let mut effective = Effective::default();
        apply(&At::V2(dir.path().into()), &limits, &mut effective).expect("applied");
        assert_eq!((file("cpu.weight").as_str(), file("cpu.max").as_str()), ("100", "50000 100000"));
        assert_eq!((effective.cpu, effective.cpu_weight), (limits.bandwidth, Some(100)));
        apply(&At::V1(dir.path().into()), &limits, &mut effective).expect("applied");
        assert_eq!((file("cpu.cfs_quota_us").as_str(), file("cpu.cfs_period_us").as_str()), ("50000", "100000"));
        assert_eq!((file("cpu.shares").as_str(), file("cpu.rt_runtime_us").as_str()), ("1024", "1000"));
        empty();
        let unlimited = Bandwidth { quota_us: None, period_us: 20_000 };
        let limits = CpuLimits { bandwidth: Some(unlimited), ..CpuLimits::default() };
        apply(&At::V1(dir.path().into()), &limits, &mut effective).expect("applied");
        assert_eq!((file("cpu.cfs_quota_us").as_str(), file("cpu.cfs_period_us").as_str()), ("-1", "20000"));
        apply(&At::V2(dir.path().into()), &limits, &mut effective).expect("applied");
        assert_eq!((file("cpu.max").as_str(), effective.cpu), ("max 20000", Some(unlimited)));
    }
}
