//! What a service may use: `cpus`, `mem_limit` and the like, and the same below `deploy.resources`.
//!
//! Numbers are taken as Docker takes them: 0 asks for nothing, -1 for no limit, and what does not fit together is a mistake
//! of the file. What this machine can do is not asked here.

use std::{ops::RangeInclusive, path::PathBuf};

use super::{Context, Cursor, said};
use crate::{
    compose::{self, BlkioConfig, BlkioLimit, LimitKeys},
    diagnostics::Diagnostic,
    model::{Bandwidth, CpuLimits, DeviceValue, IoLimits, Limits, MemoryLimits, RealTime, Swap},
};

/// The least memory that Docker takes as a limit; with less hardly a program starts.
const LEAST_MEMORY: u64 = 6 << 20;

/// Microseconds that a period may have (kernel, "CFS Bandwidth Control").
const PERIODS: RangeInclusive<u64> = 1000..=1_000_000;

/// The least processor time in a period, in microseconds (the kernel's `min_cfs_quota_period`).
const LEAST_QUOTA: u64 = 1000;

pub(super) fn lower(cx: &mut Context<'_>, service: &compose::Service, at: Cursor<'_>) -> Limits {
    let keys = &service.limits;
    let resources = service.lifecycle.deploy.as_ref().and_then(|deploy| deploy.resources.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let deploy = Deploy {
        cpus: limits.and_then(|limits| limits.cpus),
        memory: limits.and_then(|limits| limits.memory.as_ref()).map(|size| size.0.0),
        pids: limits.and_then(|limits| limits.pids).map(|pids| pids.0),
        kept: resources.and_then(|resources| resources.reservations.as_ref()?.memory.as_ref()).map(|size| size.0.0),
    };
    Limits {
        cpu: cpu(cx, keys, &deploy, at),
        memory: memory(cx, keys, &deploy, at),
        pids: pids(cx, keys, &deploy, at),
        io: keys.blkio_config.as_ref().map(|io| blkio(cx, io, at.at("blkio_config"))).unwrap_or_default(),
        parent: parent(cx, keys, at),
        devices: devices(cx, service, at),
    }
}

/// What `deploy.resources` says; where the short keys speak too, they say the same, which has been checked.
struct Deploy {
    cpus: Option<compose::Decimal>,
    memory: Option<i64>,
    pids: Option<i64>,
    kept: Option<i64>,
}

/// The place of whichever of two keys is there.
fn either<'t>(at: Cursor<'t>, short: &str, long: &str) -> Cursor<'t> {
    at.get(short).unwrap_or_else(|| long.split('.').fold(at, Cursor::at))
}

fn wrong(cx: &mut Context<'_>, at: Cursor<'_>, text: String, hint: &str) {
    let diagnostic = at.here(Diagnostic::error(text));
    cx.push(if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) });
}

/// A number that is at least 1, or 0 for none.
fn positive(cx: &mut Context<'_>, key: &str, number: Option<i64>, at: Cursor<'_>) -> Option<u64> {
    let number = number.filter(|number| *number != 0)?;
    let positive = u64::try_from(number).ok();
    if positive.is_none() {
        wrong(cx, at.at(key), format!("`{key}` is at least 0, and this is {number}"), "");
    }
    positive
}

fn within(cx: &mut Context<'_>, key: &str, number: u64, range: RangeInclusive<u64>, at: Cursor<'_>) -> Option<u64> {
    if range.contains(&number) {
        return Some(number);
    }
    let (first, last) = range.into_inner();
    wrong(cx, at.at(key), format!("`{key}` is from {first} to {last}, and this is {number}"), "");
    None
}

fn cpu(cx: &mut Context<'_>, keys: &LimitKeys, deploy: &Deploy, at: Cursor<'_>) -> CpuLimits {
    let shares = positive(cx, "cpu_shares", keys.cpu_shares.map(|shares| shares.0), at);
    let cpus = said(keys.cpuset.as_ref()).and_then(|text| {
        let list = text.parse();
        if list.is_err() {
            let hint = "name them by number, such as `0-2,7`";
            wrong(cx, at.at("cpuset"), format!("`{text}` is not a list of processors"), hint);
        }
        list.ok()
    });
    let period_us = positive(cx, "cpu_rt_period", keys.cpu_rt_period.map(|n| n.0), at);
    let runtime_us = positive(cx, "cpu_rt_runtime", keys.cpu_rt_runtime.map(|n| n.0), at);
    // The kernel's period is a second.
    if let Some(runtime) = runtime_us.filter(|runtime| *runtime > period_us.unwrap_or(1_000_000)) {
        let period = period_us.unwrap_or(1_000_000);
        let text = format!("`cpu_rt_runtime` of {runtime} is more than there is in a period of {period}");
        wrong(cx, at.at("cpu_rt_runtime"), text, "");
    }
    CpuLimits {
        bandwidth: bandwidth(cx, keys, deploy, at),
        shares: shares.and_then(|shares| within(cx, "cpu_shares", shares.max(2), 2..=262_144, at)),
        cpus,
        realtime: RealTime { period_us, runtime_us },
    }
}

fn bandwidth(cx: &mut Context<'_>, keys: &LimitKeys, deploy: &Deploy, at: Cursor<'_>) -> Option<Bandwidth> {
    let cpus = keys.cpus.or(deploy.cpus).map(|cpus| cpus.0).filter(|cpus| *cpus != 0.0);
    let quota = keys.cpu_quota.map(|quota| quota.0).filter(|quota| *quota != 0);
    let period = positive(cx, "cpu_period", keys.cpu_period.map(|period| period.0), at)
        .and_then(|period| within(cx, "cpu_period", period, PERIODS, at));
    if let Some(cpus) = cpus {
        let place = either(at, "cpus", "deploy.resources.limits.cpus");
        for key in ["cpu_quota", "cpu_period"] {
            if let Some(other) = at.get(key).filter(|_| quota.is_some() || period.is_some()) {
                let both = Diagnostic::error(format!("`cpus` and `{key}` exclude each other"));
                cx.push(place.here(both).label(other.key_span(), "the other one").hint("remove one of the two"));
                return None;
            }
        }
        let period_us = Bandwidth::DEFAULT_PERIOD_US;
        // A negative number becomes 0.
        let quota_us = (f64::from(cpus) * period_us as f64).round() as u64;
        if quota_us < LEAST_QUOTA {
            wrong(cx, place, format!("`cpus` is at least 0.01, and this is {cpus}"), "");
            return None;
        }
        return Some(Bandwidth { quota_us: Some(quota_us), period_us });
    }
    let period_us = period.unwrap_or(Bandwidth::DEFAULT_PERIOD_US);
    match quota {
        None => period.map(|period_us| Bandwidth { quota_us: None, period_us }),
        Some(-1) => Some(Bandwidth { quota_us: None, period_us }),
        Some(quota) => match u64::try_from(quota).ok().filter(|quota| *quota >= LEAST_QUOTA) {
            Some(quota_us) => Some(Bandwidth { quota_us: Some(quota_us), period_us }),
            None => {
                let text = format!("`cpu_quota` is -1, or at least {LEAST_QUOTA} microseconds, and this is {quota}");
                wrong(cx, at.at("cpu_quota"), text, "");
                None
            }
        },
    }
}

fn memory(cx: &mut Context<'_>, keys: &LimitKeys, deploy: &Deploy, at: Cursor<'_>) -> MemoryLimits {
    let bytes = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
    let mut max = bytes(keys.mem_limit.map(|size| size.0).or(deploy.memory));
    let max_at = either(at, "mem_limit", "deploy.resources.limits.memory");
    if let Some(size) = max.filter(|size| *size < LEAST_MEMORY) {
        let hint = "use `6m` or more: with less hardly a program starts";
        wrong(cx, max_at, format!("a limit of {size} bytes of memory is less than 6 MiB"), hint);
        max = None;
    }
    let reservation = bytes(keys.mem_reservation.map(|size| size.0).or(deploy.kept));
    if let (Some(max), Some(kept)) = (max, reservation)
        && kept > max
    {
        let place = either(at, "mem_reservation", "deploy.resources.reservations.memory");
        let text = format!("{kept} bytes of memory are kept for it, and it may use {max} only");
        let more = Diagnostic::error(text);
        cx.push(place.here(more).label(max_at.span(), "the limit"));
    }
    let swappiness = keys.mem_swappiness.map(|size| size.0).and_then(|number| {
        let valid = u8::try_from(number).ok().filter(|number| *number <= 100);
        // -1 is what Docker has for "as the kernel has it".
        if valid.is_none() && number != -1 {
            wrong(cx, at.at("mem_swappiness"), format!("`mem_swappiness` is from 0 to 100, and this is {number}"), "");
        }
        valid
    });
    MemoryLimits {
        max,
        reservation,
        swap: swap(cx, keys, max, at),
        swappiness,
        oom_kill_disable: keys.oom_kill_disable.is_some_and(|disable| disable.0),
    }
}

/// What the file says is memory and swap together.
fn swap(cx: &mut Context<'_>, keys: &LimitKeys, max: Option<u64>, at: Cursor<'_>) -> Option<Swap> {
    let default = max.map(|_| Swap::AsMemory);
    let Some(both) = keys.memswap_limit.map(|size| size.0).filter(|size| *size != 0) else { return default };
    let Ok(both) = u64::try_from(both) else { return Some(Swap::Unlimited) };
    let place = at.at("memswap_limit");
    let Some(max) = max else {
        if either(at, "mem_limit", "deploy.resources.limits.memory").span() == at.span() {
            let text = "`memswap_limit` is of memory and swap together, and there is no limit of memory".to_owned();
            wrong(cx, place, text, "add `mem_limit`");
        }
        return None;
    };
    match both.checked_sub(max) {
        Some(swap) => Some(Swap::Bytes(swap)),
        None => {
            let text = "`memswap_limit` is of memory and swap together, and this is less than the limit of memory";
            wrong(cx, place, text.to_owned(), "as much as `mem_limit` is no swap at all, and -1 is no limit");
            default
        }
    }
}

fn pids(cx: &mut Context<'_>, keys: &LimitKeys, deploy: &Deploy, at: Cursor<'_>) -> Option<u64> {
    match keys.pids_limit.map(|pids| pids.0).or(deploy.pids)? {
        0 | -1 => None,
        number => {
            let pids = u64::try_from(number).ok();
            if pids.is_none() {
                let place = either(at, "pids_limit", "deploy.resources.limits.pids");
                wrong(cx, place, format!("a limit of {number} processes is none"), "-1 is no limit");
            }
            pids
        }
    }
}

fn blkio(cx: &mut Context<'_>, io: &BlkioConfig, at: Cursor<'_>) -> IoLimits {
    let weights = 10..=1000;
    let weight = positive(cx, "weight", io.weight.as_ref().map(|weight| weight.0.0), at)
        .and_then(|weight| within(cx, "weight", weight, weights.clone(), at));
    let mut device_weights = Vec::new();
    if let Some(all) = &io.weight_device {
        for (item, at) in at.at("weight_device").items(&all.0) {
            let path = device_path(cx, item.path.as_ref(), at);
            let value = positive(cx, "weight", item.weight.as_ref().map(|weight| weight.0.0), at)
                .and_then(|weight| within(cx, "weight", weight, weights.clone(), at));
            device_weights.extend(path.zip(value).map(|(path, value)| DeviceValue { path, value }));
        }
    }
    let mut rates = |key: &str, all: Option<&compose::List<BlkioLimit>>| -> Vec<DeviceValue> {
        let mut values = Vec::new();
        for (item, at) in all.into_iter().flat_map(|all| at.at(key).items(&all.0)) {
            let path = device_path(cx, item.path.as_ref(), at);
            let rate = item.rate.map_or(0, |rate| rate.0);
            match u64::try_from(rate).ok().filter(|rate| *rate > 0) {
                Some(value) => values.extend(path.map(|path| DeviceValue { path, value })),
                None => wrong(cx, at.at("rate"), format!("`rate` is at least 1, and this is {rate}"), ""),
            }
        }
        values
    };
    IoLimits {
        weight: weight.and_then(|weight| u16::try_from(weight).ok()),
        read_bps: rates("device_read_bps", io.device_read_bps.as_ref()),
        read_iops: rates("device_read_iops", io.device_read_iops.as_ref()),
        write_bps: rates("device_write_bps", io.device_write_bps.as_ref()),
        write_iops: rates("device_write_iops", io.device_write_iops.as_ref()),
        device_weights,
    }
}

fn device_path(cx: &mut Context<'_>, path: Option<&compose::Text>, at: Cursor<'_>) -> Option<PathBuf> {
    let text = said(path).unwrap_or_default();
    if text.starts_with('/') {
        return Some(text.into());
    }
    wrong(cx, at.at("path"), format!("`{text}` is not the path of a device"), "write it as `/dev/sda`");
    None
}

/// `a-b.slice` is `a.slice/a-b.slice`, as systemd has it (systemd.slice(5)); all else is a path.
fn parent(cx: &mut Context<'_>, keys: &LimitKeys, at: Cursor<'_>) -> Option<PathBuf> {
    let text = said(keys.cgroup_parent.as_ref())?;
    let path = text.trim_matches('/');
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    if path.is_empty() || !path.split('/').all(plain) {
        let hint = "name a group below the one that nscompose may make groups in, such as `batch/nightly`";
        wrong(cx, at.at("cgroup_parent"), format!("`{text}` is not the name of a control group"), hint);
        return None;
    }
    match path.strip_suffix(".slice") {
        Some(name) if !path.contains('/') && !name.starts_with('-') => {
            let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
            Some(ends.map(|end| format!("{}.slice", &name[..end])).collect())
        }
        _ => Some(path.into()),
    }
}

fn devices(cx: &mut Context<'_>, service: &compose::Service, at: Cursor<'_>) -> Vec<crate::model::DeviceRule> {
    let Some(all) = &service.storage.device_cgroup_rules else { return Vec::new() };
    let mut rules = Vec::new();
    for (text, at) in at.at("device_cgroup_rules").items(&all.0) {
        match text.0.parse() {
            Ok(rule) => rules.push(rule),
            Err(error) => wrong(
                cx,
                at,
                format!("{error}"),
                "write `c MAJOR:MINOR rwm`: `a`, `b` or `c`, two numbers or `*`, and what may be done",
            ),
        }
    }
    rules
}
