//! Who has a port: from the kernel's tables of sockets to the process that holds the socket.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::model::Protocol;

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOwner {
    /// The process, if we may look into it.
    pub process: Option<(i32, String)>,
    /// The account.
    pub user: String,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, command)) => write!(f, "`{command}` (pid {pid}, user {})", self.user),
            None => write!(f, "a process of user {}", self.user),
        }
    }
}

/// TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp has it; UDP sockets have no such state.
const LISTEN: &str = "0A";

/// Whoever listens where `address` would collide; none when nobody can be seen.
pub(super) fn find(address: SocketAddr, protocol: Protocol) -> Option<PortOwner> {
    let tables = match protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let sockets = tables.iter().filter_map(|table| fs::read_to_string(table).ok());
    let (uid, inode) = sockets.into_iter().find_map(|text| {
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let there = parse_address(fields.get(1)?)?;
            let listens = protocol == Protocol::Udp || fields.get(3) == Some(&LISTEN);
            let same = there.ip() == address.ip() || there.ip().is_unspecified() || address.ip().is_unspecified();
            (listens && same && there.port() == address.port())
                .then(|| Some((fields.get(7)?.parse::<u32>().ok()?, fields.get(9)?.parse::<u64>().ok()?)))?
        })
    })?;
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    Some(PortOwner { process: holder(inode), user })
}

/// `0100007F:1F90`: the address in the order of the machine's bytes, four at a time, and the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<u32> = (0..address.len() / 8)
        .map(|i| u32::from_str_radix(address.get(i * 8..i * 8 + 8)?, 16).ok())
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The process that has the socket open.
fn holder(inode: u64) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.into_iter().find_map(|process| {
        let pid: i32 = process.file_name().to_str()?.parse().ok()?;
        let mut fds = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        fds.find(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()))?;
        let command = fs::read_to_string(process.path().join("comm")).ok()?;
        Some((pid, command.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_of_the_kernels_tables() {
        assert_eq!(parse_address("0100007F:1F90"), Some("127.0.0.1:8080".parse().expect("address")));
        let v6 = parse_address("00000000000000000000000001000000:0016");
        assert_eq!(v6, Some("[::1]:22".parse().expect("address")));
        assert_eq!(parse_address("xx:1"), None);
    }
}
