//! Who has a port: its socket in /proc/net, and the process that holds that socket (proc(5), proc_net(5)).

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use nix::unistd::{Uid, User};

use crate::model::Protocol;

/// What is known of whoever has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// A process that we may look into.
    Process {
        /// Its process id.
        pid: i32,
        /// Its name (/proc/PID/comm).
        command: String,
        /// The user whose socket it is, by name where it has one.
        user: Option<String>,
    },
    /// A stack of nscompose, by the lock that its supervisor holds.
    Stack {
        /// Its name.
        project: String,
        /// Its supervisor.
        pid: i32,
    },
    /// A process of this user, whose descriptors we may not read.
    User(String),
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command, .. } => write!(f, "{command} (pid {pid})"),
            Self::Stack { project, pid } => write!(f, "stack `{project}` (nscompose, pid {pid})"),
            Self::User(user) => write!(f, "a process of user `{user}`"),
        }
    }
}

/// The owner of the socket that stands in the way of binding `address`, in the network namespace of the calling thread.
///
/// From inside a user namespace the kernel lets nobody read descriptors of processes outside it: the process is then
/// found only by somebody outside, such as the command line, asking again.
pub fn owner_of(address: SocketAddr, protocol: Protocol) -> Option<PortOwner> {
    let entry = occupant(address, protocol)?;
    let user = user_name(entry.uid);
    match holder(entry.inode) {
        Some((pid, command)) if command == SUPERVISOR => match project(pid) {
            Some(project) => Some(PortOwner::Stack { project, pid }),
            None => Some(PortOwner::Process { pid, command, user }),
        },
        Some((pid, command)) => Some(PortOwner::Process { pid, command, user }),
        None => user.map(PortOwner::User),
    }
}

/// A line of /proc/net/tcp and its like.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    local: SocketAddr,
    listening: bool,
    uid: u32,
    inode: u64,
}

/// TCP_LISTEN; an unconnected UDP socket shows as TCP_CLOSE.
const LISTENING: [&str; 2] = ["0A", "07"];

fn occupant(address: SocketAddr, protocol: Protocol) -> Option<Entry> {
    // A socket of [::] takes the port for IPv4 too unless it says otherwise, and whether it did cannot be seen here.
    let tables: &[&str] = if address.is_ipv4() { &["", "6"] } else { &["6"] };
    tables
        .iter()
        .filter_map(|suffix| fs::read_to_string(format!("/proc/thread-self/net/{protocol}{suffix}")).ok())
        .flat_map(|table| table.lines().filter_map(parse).collect::<Vec<_>>())
        // TIME_WAIT has no inode and nobody to blame.
        .filter(|entry| entry.inode != 0 && in_the_way(entry.local, address))
        .min_by_key(|entry| (!entry.listening, entry.local.is_ipv4() != address.is_ipv4()))
}

fn in_the_way(there: SocketAddr, wanted: SocketAddr) -> bool {
    there.port() == wanted.port()
        && (there.ip().is_unspecified() || wanted.ip().is_unspecified() || there.ip().to_canonical() == wanted.ip())
}

/// `sl local_address rem_address st tx:rx tr:tm->when retrnsmt uid timeout inode ...`
fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_address(fields.next()?)?;
    let state = fields.nth(1)?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Entry { local, listening: LISTENING.contains(&state), uid, inode })
}

/// Words of 32 bits as this machine sees them in memory, and the port as a number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(ip)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(ip.get(index * 8..index * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The first process, so the oldest for a server with workers, that has a descriptor of the socket.
fn holder(inode: u64) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    let mut pids: Vec<i32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let pid = pids.into_iter().find(|pid| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .is_ok_and(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&wanted))))
    })?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, command.trim_end().to_owned()))
}

/// What a supervisor is called.
const SUPERVISOR: &str = "nscompose";

/// The stack of a supervisor: it has the lock PROJECT.lock open for as long as it lives, wherever that is.
fn project(pid: i32) -> Option<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    open.into_iter().find_map(|path| {
        let project = path.file_name()?.to_str()?.strip_suffix(".lock")?;
        (path.parent()?.file_name()? == "v1").then(|| project.to_owned())
    })
}

/// The name outside of our user namespace, if we are in one: there is no root of the container's among the host's users.
fn user_name(uid: u32) -> Option<String> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok().and_then(|text| text.trim().parse().ok());
    let uid = outside_uid(&map, uid, overflow.unwrap_or(65534))?;
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    Some(name.unwrap_or_else(|| uid.to_string()))
}

/// None for a user whom the map does not know, whom the kernel shows as the `overflow` one (65534). Where that is one of the map's, too,
/// the two cannot be told apart, and all who have ports of the host are of the first kind.
fn outside_uid(map: &str, uid: u32, overflow: u32) -> Option<u32> {
    let is_whole = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    if uid == overflow && !is_whole {
        return None;
    }
    map.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u32>().ok());
        let (inside, outside, length) = (fields.next()??, fields.next()??, fields.next()??);
        let offset = uid.checked_sub(inside).filter(|offset| *offset < length)?;
        outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_tables() {
        let v4 = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 70522 1 0";
        assert_eq!(parse(v4), Some(Entry { local: at("127.0.0.1:8080"), listening: true, uid: 1000, inode: 70522 }));
        let v6 = "  9: 000080FE00000000FF005450B0A1EEFE:0035 00000000000000000000000000000000:0000 07 \
                  00000000:00000000 00:00000000 00000000     0        0 811 2 0000000000000000 0";
        assert_eq!(
            parse(v6),
            Some(Entry { local: at("[fe80::5054:ff:feee:a1b0]:53"), listening: true, uid: 0, inode: 811 })
        );
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when"), None);
    }

    #[test]
    fn which_addresses_exclude_each_other() {
        assert!(in_the_way(at("0.0.0.0:80"), at("127.0.0.1:80")));
        assert!(in_the_way(at("127.0.0.1:80"), at("0.0.0.0:80")));
        assert!(in_the_way(at("[::]:80"), at("127.0.0.1:80")));
        assert!(in_the_way(at("[::ffff:127.0.0.1]:80"), at("127.0.0.1:80")));
        assert!(!in_the_way(at("127.0.0.2:80"), at("127.0.0.1:80")));
        assert!(!in_the_way(at("0.0.0.0:81"), at("0.0.0.0:80")));
    }

    #[test]
    fn users_are_named_as_the_host_knows_them() {
        assert_eq!(outside_uid("0 1000 1\n1 100000 65536\n", 0, 65534), Some(1000));
        assert_eq!(outside_uid("0 1000 1\n1 100000 65536\n", 34, 65534), Some(100_033));
        assert_eq!(outside_uid("0 1000 1\n", 65534, 65534), None);
        assert_eq!(outside_uid("         0          0 4294967295\n", 65534, 65534), Some(65534));
    }

    #[test]
    fn a_user_outside_of_the_range_is_not_taken_for_one_in_it() {
        assert_eq!(outside_uid("0 1000 1\n1 100000 65536\n", 65534, 65534), None);
    }
}
