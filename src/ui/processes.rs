//! Processes as a table, with the columns of `ps -ef`, which `docker compose top` shows.

use std::fs;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

use crate::diagnostics::sanitize;

/// Ticks a second in /proc: the same on all machines that Linux shows to programs (USER_HZ, time(7)).
const TICKS: u64 = 100;

/// A process, as `top` shows it: by the ids and numbers of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRow {
    service: String,
    user: String,
    pid: i32,
    parent: i32,
    /// Percent of one processor over its life.
    cpu: u64,
    started: String,
    terminal: String,
    time: String,
    command: String,
}

impl ProcessRow {
    /// Looks at a process; none if it has ended, which its start shows, in ticks since boot.
    pub fn look(service: &str, pid: i32, start_time: u64) -> Option<Self> {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
        let (status, command) = (read("status")?, read("cmdline")?);
        // The last that is read: if it is still the same process, all else was of it.
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0);
        let status = String::from_utf8_lossy(&status).into_owned();
        let uid: u32 =
            status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse().ok())?;
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
        let mut row = Self::of(&stat, &command, boot, Timestamp::now(), &TimeZone::system(), start_time)?;
        row.service = service.to_owned();
        row.user = user.unwrap_or_else(|| uid.to_string());
        Some(row)
    }

    fn of(stat: &str, command: &[u8], boot: i64, now: Timestamp, zone: &TimeZone, start_time: u64) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let (pid, name) = before.split_once('(')?;
        // From the third of proc_pid_stat(5) on.
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
        if number(22)? != start_time {
            return None;
        }
        let used = number(14)? + number(15)?;
        let started = Timestamp::from_second(boot + (start_time / TICKS) as i64).ok()?;
        let age = now.duration_since(started).as_secs().max(1) as u64;
        let seconds = used / TICKS;
        let of_day = started.to_zoned(zone.clone());
        let today = of_day.date() == now.to_zoned(zone.clone()).date();
        let command = match command.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect::<Vec<_>>() {
            words if words.is_empty() => format!("[{name}]"),
            words => String::from_utf8_lossy(&words.join(&b' ')).into_owned(),
        };
        Some(Self {
            service: String::new(),
            user: String::new(),
            pid: pid.trim().parse().ok()?,
            parent: number(4)? as i32,
            cpu: used * 100 / TICKS / age,
            started: of_day.strftime(if today { "%H:%M" } else { "%b%d" }).to_string(),
            terminal: terminal(number(7)?),
            time: format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
            command,
        })
    }
}

/// A terminal by its device number (`Documentation/admin-guide/devices.txt` of Linux).
fn terminal(device: u64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => "?".to_owned(),
    }
}

/// A table for people, without lines; nothing for no processes.
pub fn processes_table(rows: &[ProcessRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    for row in rows {
        table.add_row([
            row.service.clone(),
            "1".to_owned(),
            row.user.clone(),
            row.pid.to_string(),
            row.parent.to_string(),
            row.cpu.to_string(),
            row.started.clone(),
            row.terminal.clone(),
            row.time.clone(),
            // Programs choose it.
            sanitize(&row.command).into_owned(),
        ]);
    }
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_program_is_called() {
        let stat = "42 (a) b (c) S 7 42 42 34817 42 0 0 0 0 0 150 50 0 0 20 0 1 0 1000 0 0";
        let now: Timestamp = "2026-01-02T10:00:00Z".parse().expect("a time");
        let boot = now.as_second() - 30;
        let look = |command: &[u8], start| ProcessRow::of(stat, command, boot, now, &TimeZone::UTC, start);
        let row = look(b"sh\0-c\0true\0", 1000).expect("a row");
        assert_eq!((row.pid, row.parent, row.terminal.as_str()), (42, 7, "pts/1"));
        assert_eq!((row.cpu, row.time.as_str(), row.started.as_str()), (10, "00:00:02", "09:59"));
        assert_eq!(row.command, "sh -c true");
        assert_eq!(look(b"", 1000).expect("a row").command, "[a) b (c]");
        assert_eq!(look(b"", 1001), None, "another process has its number by now");
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(136 << 8 | 5), "pts/5");
        assert_eq!(terminal(137 << 8 | 1), "pts/257");
        assert_eq!(terminal(4 << 8 | 1), "tty1");
    }
}
