//! Block devices: the controller `io`, called `blkio` in version 1.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::{
    CgroupError,
    file::{At, read, write},
};
use crate::model::{DeviceValue, IoLimits, Usage};

/// The numbers of the block device that a path leads to, as `MAJOR:MINOR`.
///
/// # Errors
/// When it is none, or a part of one, for which there is no limit.
pub fn block_device(path: &Path) -> Result<String, CgroupError> {
    let meta = fs::metadata(path).map_err(|source| CgroupError::Look { path: path.to_owned(), source })?;
    if !meta.file_type().is_block_device() {
        return Err(CgroupError::NoDevice { path: path.to_owned() });
    }
    let numbers = format!("{}:{}", rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    if Path::new("/sys/dev/block").join(&numbers).join("partition").exists() {
        return Err(CgroupError::Partition { path: path.to_owned() });
    }
    Ok(numbers)
}

/// io.weight, from 1 to 10000, for one from 10 to 1000, as runc has it.
fn weight(blkio: u64) -> u64 {
    1 + (blkio.saturating_sub(10)) * 9999 / 990
}

pub(super) fn apply(at: &At, limits: &IoLimits) -> Result<(), CgroupError> {
    apply_with(at, limits, &block_device)
}

fn apply_with(
    at: &At,
    limits: &IoLimits,
    device: &dyn Fn(&Path) -> Result<String, CgroupError>,
) -> Result<(), CgroupError> {
    let folder = at.folder();
    if limits.weight.is_some() || !limits.device_weights.is_empty() {
        let (own, of_device, convert) = weights(at)?;
        let converted = |value: u64| if convert { weight(value) } else { value };
        if let Some(value) = limits.weight {
            write(&folder.join(own), &converted(value.into()).to_string())?;
        }
        for DeviceValue { path, value } in &limits.device_weights {
            write(&folder.join(of_device), &format!("{} {}", device(path)?, converted(*value)))?;
        }
    }
    for (values, two, one) in [
        (&limits.read_bps, "rbps", "blkio.throttle.read_bps_device"),
        (&limits.read_iops, "riops", "blkio.throttle.read_iops_device"),
        (&limits.write_bps, "wbps", "blkio.throttle.write_bps_device"),
        (&limits.write_iops, "wiops", "blkio.throttle.write_iops_device"),
    ] {
        for DeviceValue { path, value } in values {
            let device = device(path)?;
            match at {
                At::V2(_) => write(&folder.join("io.max"), &format!("{device} {two}={value}"))?,
                At::V1(_) => write(&folder.join(one), &format!("{device} {value}"))?,
            }
        }
    }
    Ok(())
}

/// The files for the weight and for that of single devices, and whether their numbers are those of io.weight. With BFQ as the
/// scheduler there are others than with the cost model of Linux 5.4 or the CFQ of old kernels.
fn weights(at: &At) -> Result<(&'static str, &'static str, bool), CgroupError> {
    let all = match at {
        At::V2(_) => [("io.bfq.weight", "io.bfq.weight", false), ("io.weight", "io.weight", true)],
        At::V1(_) => {
            [("blkio.bfq.weight", "blkio.bfq.weight_device", false), ("blkio.weight", "blkio.weight_device", false)]
        }
    };
    let there = all.into_iter().find(|(own, _, _)| at.folder().join(own).exists());
    there.ok_or(CgroupError::Missing { what: "weight of block devices" })
}

/// Reads a name and a number off a part of a file.
type Split = fn(&str) -> Option<(&str, u64)>;

pub(super) fn usage(at: &At, usage: &mut Usage) {
    let (file, split): (_, Split) = match at {
        At::V2(_) => ("io.stat", |word| {
            let (name, number) = word.split_once('=')?;
            Some((name, number.parse().ok()?))
        }),
        At::V1(_) => ("blkio.throttle.io_service_bytes_recursive", |line| {
            let (name, number) = line.rsplit_once(' ')?;
            Some((name.rsplit(' ').next()?, number.parse().ok()?))
        }),
    };
    let Some(text) = read(&at.folder().join(file)) else { return };
    let separator: &[char] = if matches!(at, At::V2(_)) { &[' ', '\n'] } else { &['\n'] };
    let sum = |wanted: [&str; 2]| -> u64 {
        let numbers = text.split(separator).filter_map(split).filter(|(name, _)| wanted.contains(name));
        numbers.map(|(_, number)| number).sum()
    };
    usage.read = Some(sum(["rbytes", "Read"]));
    usage.written = Some(sum(["wbytes", "Write"]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_scaled_to_the_ends() {
        assert_eq!([10, 500, 1000].map(weight), [1, 4950, 10_000]);
    }

    #[test]
    fn what_is_no_device_is_said() {
        let of = |path: &str| block_device(Path::new(path)).expect_err("it is none");
        assert!(matches!(of("/dev/null"), CgroupError::NoDevice { .. }));
        assert!(matches!(of("/dev/not-there"), CgroupError::Look { .. }));
    }

    #[test]
    fn files_of_both_versions() {
        let dir = tempfile::tempdir().expect("folder");
        let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
        let touch = |name: &str| std::fs::write(dir.path().join(name), "").expect("a file");
        let value = |value| vec![DeviceValue { path: "/dev/x".into(), value }];
        let device = |_: &Path| Ok("8:0".to_owned());
        let limits = IoLimits { weight: Some(500), write_bps: value(1000), ..IoLimits::default() };
        let two = At::V2(dir.path().into());
        assert!(matches!(apply_with(&two, &limits, &device), Err(CgroupError::Missing { .. })));
        ["io.weight", "io.max", "blkio.bfq.weight", "blkio.throttle.write_bps_device"].into_iter().for_each(touch);
        apply_with(&two, &limits, &device).expect("applied");
        assert_eq!((file("io.weight").as_str(), file("io.max").as_str()), ("4950", "8:0 wbps=1000"));
        touch("io.bfq.weight");
        apply_with(&two, &IoLimits { device_weights: value(700), ..limits.clone() }, &device).expect("applied");
        assert!(file("io.bfq.weight").contains("8:0 700"));
        apply_with(&At::V1(dir.path().into()), &limits, &device).expect("applied");
        assert_eq!(file("blkio.bfq.weight"), "500");
        assert_eq!(file("blkio.throttle.write_bps_device"), "8:0 1000");
    }

    #[test]
    fn what_is_read_and_written_is_summed_up() {
        let dir = tempfile::tempdir().expect("folder");
        let text = "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1";
        std::fs::write(dir.path().join("io.stat"), text).expect("a file");
        let text = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33";
        std::fs::write(dir.path().join("blkio.throttle.io_service_bytes_recursive"), text).expect("a file");
        for at in [At::V1(dir.path().into()), At::V2(dir.path().into())] {
            let mut found = Usage::default();
            usage(&at, &mut found);
            assert_eq!((found.read, found.written), (Some(11), Some(22)), "{at:?}");
        }
    }
}
