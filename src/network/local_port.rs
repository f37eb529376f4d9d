//! A port of an address of loopback that is served at another one, without holding the port itself.
//!
//! ```text
//! program ──▶ 127.0.0.11:53 ── rules of the container ──▶ chain `to`: 53 becomes 60 ──▶ socket at 127.0.0.11:60
//! program ◀── 127.0.0.11:53 ◀─ rules of the container ◀── chain `from`: 60 becomes 53 ◀──┘
//! ```
//!
//! A socket that listens on port 53 of one address keeps everybody else from listening on port 53 of all of them (bind(2),
//! EADDRINUSE), and that is what name servers do. Two chains of nftables write the port in the packets over instead. They need no
//! connection tracking, which would cost every packet of the container, and are the last on the way in and the first on the way
//! out: rules that a container makes for itself see the port that its programs see.
//!
//! The messages are written here, as linux/netfilter/nf_tables.h has them; the expressions are those that
//! `nft --debug=netlink` shows for the same rules. nft(8) would be a process of some 5 ms for each container, and one more thing that
//! has to be installed for services to find each other.

use std::{io, net::Ipv4Addr};

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// The table, of the family ip.
const TABLE: &str = "nscompose-names";

/// After all rules of the container. Connection tracking comes later still, and goes by what it has seen before.
const LAST: i32 = 1000;

/// Before connection tracking (-200), the defragmenting for it (-400), and all rules.
const FIRST: i32 = -450;

/// Protocols with the offsets of checksums in their headers. Both have the ports at 0 and 2.
const PROTOCOLS: [(i32, u32); 2] = [(libc::IPPROTO_UDP, 6), (libc::IPPROTO_TCP, 16)];

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// What an answer may have: as a rule an acknowledgement of 36 bytes, or a refusal with the refused message.
const RECEIVE: usize = 8192;

/// Keeps the table from being changed by anybody else while it is there, by `nft flush ruleset` too, which services do that
/// make rules of their own. The table itself goes with the network namespace.
#[derive(Debug)]
pub struct LocalPort {
    _owner: Socket,
}

impl LocalPort {
    /// Makes `port` of `address` lead to what is at port `to` of it, over TCP and UDP, in the network namespace of the calling
    /// thread.
    ///
    /// # Errors
    /// What socket(2) says, EPROTONOSUPPORT for a kernel without netfilter, and what the kernel says to the rules: EOPNOTSUPP
    /// without nftables.
    pub fn lead(address: Ipv4Addr, port: u16, to: u16) -> io::Result<Self> {
        // A table that only its maker may change came with Linux 5.12. Without NFT_TABLE_F_PERSIST (Linux 6.9) it goes with
        // its maker, and the kernel lets him wait for an RCU grace period then: tens of milliseconds for each container.
        const OWNER_AND_PERSIST: u32 = 2 | 4;
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        match exchange(&socket, &transaction(address, port, to, OWNER_AND_PERSIST)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                exchange(&socket, &transaction(address, port, to, 0))?;
            }
            other => other?,
        }
        Ok(Self { _owner: socket })
    }
}

/// Sends a transaction, whose last rule asks to be acknowledged. The kernel has answered when send(2) comes back.
fn exchange(socket: &Socket, transaction: &[u8]) -> io::Result<()> {
    socket.send(transaction, 0)?;
    loop {
        let mut answer = Vec::with_capacity(RECEIVE);
        socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
        // The first of several is the reason; those behind it follow from it.
        if let Some(outcome) = outcome(&answer) {
            return outcome;
        }
    }
}

/// The first error, or acknowledgement, of a datagram.
fn outcome(answer: &[u8]) -> Option<io::Result<()>> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if i32::from(kind) != libc::NLMSG_ERROR {
        return None;
    }
    let code = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    Some(if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.abs())) })
}

/// All or nothing: the table, its chains and their rules.
fn transaction(address: Ipv4Addr, port: u16, to: u16, flags: u32) -> Vec<u8> {
    const INPUT: u32 = 1;
    const OUTPUT: u32 = 3;
    // Of the addresses in an IP header, and of the ports in what follows.
    const SOURCE: (u32, u32) = (12, 0);
    const DESTINATION: (u32, u32) = (16, 2);

    let mut messages = Messages::default();
    messages.edge(libc::NFNL_MSG_BATCH_BEGIN);
    messages.add(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, &[text(1, TABLE), number(2, flags)].concat());
    for (chain, hook, priority) in [("to", INPUT, LAST), ("from", OUTPUT, FIRST)] {
        let hook = nested(4, &[number(1, hook), number(2, priority.cast_unsigned())]);
        let chain = [text(1, TABLE), text(3, chain), hook, text(7, "filter")].concat();
        messages.add(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, &chain);
    }
    for (protocol, checksum) in PROTOCOLS {
        for (chain, at, before, after) in [("to", DESTINATION, port, to), ("from", SOURCE, to, port)] {
            let expressions = [
                load(libc::NFT_PAYLOAD_NETWORK_HEADER, at.0, 4),
                equals(&address.octets()),
                load_protocol(),
                equals(&[protocol as u8]),
                load(libc::NFT_PAYLOAD_TRANSPORT_HEADER, at.1, 2),
                equals(&before.to_be_bytes()),
                set(&after.to_be_bytes()),
                write(libc::NFT_PAYLOAD_TRANSPORT_HEADER, at.1, 2, checksum),
            ];
            let rule = [text(1, TABLE), text(2, chain), nested(4, &expressions)].concat();
            let last = (protocol, chain) == (libc::IPPROTO_TCP, "from");
            let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND | if last { libc::NLM_F_ACK } else { 0 };
            messages.add(libc::NFT_MSG_NEWRULE, flags, &rule);
        }
    }
    messages.edge(libc::NFNL_MSG_BATCH_END);
    messages.bytes
}

#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    count: u32,
}

impl Messages {
    fn add(&mut self, kind: i32, flags: i32, attributes: &[u8]) {
        self.put(libc::NFNL_SUBSYS_NFTABLES << 8 | kind, flags, libc::NFPROTO_IPV4 as u8, 0, attributes);
    }

    /// The begin or the end of a transaction, which names the subsystem that it is for.
    fn edge(&mut self, kind: i32) {
        self.put(kind, 0, libc::AF_UNSPEC as u8, libc::NFNL_SUBSYS_NFTABLES as u16, &[]);
    }

    /// `struct nlmsghdr`, `struct nfgenmsg` and attributes, which are a multiple of four already (NLMSG_ALIGN).
    fn put(&mut self, kind: i32, flags: i32, family: u8, resource: u16, attributes: &[u8]) {
        let length = HEADER + 4 + attributes.len();
        self.count += 1;
        self.bytes.extend((length as u32).to_ne_bytes());
        self.bytes.extend((kind as u16).to_ne_bytes());
        self.bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, libc::NFNETLINK_V0 as u8]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes);
    }
}

/// `struct nlattr` and what it is of, filled up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn number(kind: u16, number: u32) -> Vec<u8> {
    attribute(kind, &number.to_be_bytes())
}

fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | libc::NLA_F_NESTED as u16, &attributes.concat())
}

/// An element of a rule: its name and what that kind of expression takes.
fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    const ELEMENT: u16 = 1;
    nested(ELEMENT, &[text(1, name), nested(2, attributes)])
}

/// The one register that everything goes through.
fn register(kind: u16) -> Vec<u8> {
    number(kind, libc::NFT_REG_1 as u32)
}

fn load(header: i32, offset: u32, length: u32) -> Vec<u8> {
    expression("payload", &[register(1), number(2, header as u32), number(3, offset), number(4, length)])
}

fn load_protocol() -> Vec<u8> {
    expression("meta", &[register(1), number(2, libc::NFT_META_L4PROTO as u32)])
}

fn equals(value: &[u8]) -> Vec<u8> {
    expression("cmp", &[register(1), number(2, libc::NFT_CMP_EQ as u32), nested(3, &[attribute(1, value)])])
}

fn set(value: &[u8]) -> Vec<u8> {
    expression("immediate", &[register(1), nested(2, &[attribute(1, value)])])
}

/// Writes into the packet, and the checksum at an offset of the same header.
fn write(header: i32, offset: u32, length: u32, checksum: u32) -> Vec<u8> {
    let at = [number(2, header as u32), number(3, offset), number(4, length)].concat();
    let sum = [number(6, libc::NFT_PAYLOAD_CSUM_INET as u32), number(7, checksum)].concat();
    expression("payload", &[at, register(5), sum])
}
