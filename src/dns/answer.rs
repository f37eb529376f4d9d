//! From the bytes of a question to those of its answer; no I/O, and nothing that bytes can do makes it panic.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};

use super::{Found, Upstreams, Zone};
use crate::model::ServiceName;

/// Bytes that a UDP answer may have without fragments on any path (DNS flag day 2020); what we say that we take.
const UDP_PAYLOAD: u16 = 1232;

/// Bytes of a message header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// Questions and records that a question may have in all. It is one question, an OPT record (RFC 6891), perhaps a signature, and
/// the SOA record of who asks for a part of a zone (RFC 1995, 3).
const RECORDS: usize = 8;

/// Seconds that an answer may be kept: none, since a service may have another address the next moment.
const TTL: u32 = 0;

/// How a question came, which bounds its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This is sent back.
    Reply(Vec<u8>),
    /// It is passed on as it is.
    Forward,
    /// It is no question, and answering could begin a loop.
    Ignore,
}

/// Answers `packet` for `client`. `turn` is counted up by the caller: addresses come in another order each time.
pub(super) fn answer(packet: &[u8], zone: &Zone, client: &ServiceName, turn: usize, transport: Transport) -> Verdict {
    // Bit 7 of the third byte: it is an answer itself.
    if packet.len() < HEADER || packet[2] & 0x80 != 0 {
        return Verdict::Ignore;
    }
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    let op_code = OpCode::from_u8((packet[2] >> 3) & 0x0f);
    // Before anything is read of it: 64 kB over TCP have room for thousands of names, each of which takes a hundred steps, and
    // other clients, and the stack itself, wait meanwhile.
    let counts = packet[4..HEADER].chunks_exact(2).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]])));
    if counts.sum::<usize>() > RECORDS {
        return failure(id, op_code, ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(packet) else { return failure(id, op_code, ResponseCode::FormErr) };
    if message.metadata.op_code != OpCode::Query {
        return failure(id, op_code, ResponseCode::NotImp);
    }
    let [query] = &message.queries[..] else { return failure(id, op_code, ResponseCode::FormErr) };
    let mut reply = Message::response(id, OpCode::Query);
    reply.metadata.recursion_desired = message.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_query(query.clone());
    if let Some(edns) = &message.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(UDP_PAYLOAD);
        reply.set_edns(ours);
        if edns.version() > 0 {
            return finish(&message, reply, ResponseCode::BADVERS, transport);
        }
    }
    let found = match query.query_class() {
        DNSClass::IN | DNSClass::ANY => look_up(query, zone, client),
        _ => Found::Elsewhere,
    };
    let (code, data): (ResponseCode, Vec<RData>) = match found {
        Found::Elsewhere if *zone.upstreams(client) == Upstreams::Nobody => (ResponseCode::Refused, Vec::new()),
        Found::Elsewhere => return Verdict::Forward,
        Found::Nothing => (ResponseCode::NXDomain, Vec::new()),
        Found::Name(name) => match Name::from_ascii(format!("{name}.")) {
            Ok(name) => (ResponseCode::NoError, vec![RData::PTR(rdata::PTR(name))]),
            Err(_) => (ResponseCode::ServFail, Vec::new()),
        },
        Found::Addresses(mut addresses) => {
            addresses.retain(|address| match query.query_type() {
                RecordType::A => address.is_ipv4(),
                RecordType::AAAA => address.is_ipv6(),
                RecordType::ANY => true,
                _ => false,
            });
            let first = turn % addresses.len().max(1);
            addresses.rotate_left(first);
            let data = addresses.into_iter().map(|address| match address {
                IpAddr::V4(address) => RData::A(address.into()),
                IpAddr::V6(address) => RData::AAAA(address.into()),
            });
            (ResponseCode::NoError, data.collect())
        }
    };
    reply.metadata.authoritative = true;
    reply.add_answers(data.into_iter().map(|data| Record::from_rdata(query.name().clone(), TTL, data)));
    finish(&message, reply, code, transport)
}

/// The same question, to say that nobody who could know answers.
pub(super) fn unanswered(packet: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(packet).ok()?;
    let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
    reply.metadata.recursion_desired = message.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(message.queries);
    reply.metadata.response_code = ResponseCode::ServFail;
    reply.to_vec().ok()
}

/// Whether `reply` answers `question`: the same id and the same question (RFC 5452, 9).
pub(super) fn belongs_to(reply: &[u8], question: &[u8]) -> bool {
    // As a rule the question comes back byte for byte, and nothing has to be read.
    if let (Some((came, came_kind)), Some((asked, kind))) = (only_question(reply), only_question(question))
        && came.eq_ignore_ascii_case(asked)
        && came_kind == kind
    {
        return reply[..2] == question[..2] && reply[2] & 0x80 != 0;
    }
    let (Ok(reply), Ok(question)) = (Message::from_vec(reply), Message::from_vec(question)) else { return false };
    let same = |(a, b): (&Query, &Query)| {
        a.name().eq_ignore_root(b.name()) && a.query_type() == b.query_type() && a.query_class() == b.query_class()
    };
    reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == question.metadata.id
        && reply.queries.len() == question.queries.len()
        && reply.queries.iter().zip(&question.queries).all(same)
}

/// Name, and type and class, of the question of a message that has one, if the name is written out (RFC 1035, 4.1.2).
fn only_question(message: &[u8]) -> Option<(&[u8], &[u8])> {
    const TYPE_AND_CLASS: usize = 4;
    const LONGEST_LABEL: u8 = 63;
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut end = HEADER;
    loop {
        match *message.get(end)? {
            0 => return Some((&message[HEADER..end], message.get(end + 1..end + 1 + TYPE_AND_CLASS)?)),
            length @ 1..=LONGEST_LABEL => end += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn look_up(query: &Query, zone: &Zone, client: &ServiceName) -> Found {
    let mut name = query.name().clone();
    name.set_fqdn(true);
    if query.query_type() == RecordType::PTR {
        return match name.parse_arpa_name() {
            Ok(net) if net.prefix_len() == net.max_prefix_len() => zone.address(client, net.addr()),
            _ => Found::Elsewhere,
        };
    }
    let text = name.to_ascii();
    match zone.name(client, text.strip_suffix('.').unwrap_or(&text)) {
        // That of the root and of domains at the top is none of ours, unless somebody wants an address.
        Found::Nothing if !matches!(query.query_type(), RecordType::A | RecordType::AAAA | RecordType::ANY) => {
            if *zone.upstreams(client) == Upstreams::Nobody { Found::Nothing } else { Found::Elsewhere }
        }
        found => found,
    }
}

fn failure(id: u16, op_code: OpCode, code: ResponseCode) -> Verdict {
    let reply = Message::error_msg(id, op_code, code);
    reply.to_vec().map_or(Verdict::Ignore, Verdict::Reply)
}

fn finish(question: &Message, mut reply: Message, code: ResponseCode, transport: Transport) -> Verdict {
    // The upper bits of the code are in the OPT record (RFC 6891, 6.1.3).
    reply.metadata.response_code = code;
    if let Some(edns) = &mut reply.edns {
        edns.set_rcode_high(code.high());
    }
    let limit = match transport {
        Transport::Udp => usize::from(question.max_payload().min(UDP_PAYLOAD)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= limit => Verdict::Reply(bytes),
        // The client asks again over TCP.
        Ok(_) => reply.truncate().to_vec().map_or(Verdict::Ignore, Verdict::Reply),
        Err(_) => failure(question.metadata.id, OpCode::Query, ResponseCode::ServFail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Client, NetworkNames};

    fn zone() -> Zone {
        let mut front = NetworkNames::new("shop_front".into(), vec!["10.1.0.0/16".parse().expect("subnet")]);
        for last in 1..=3 {
            front.insert("app", [10, 1, 0, last].into());
        }
        for n in 0..200 {
            front.insert("many", [10, 1, 1, n].into());
        }
        let network: crate::model::NetworkName = "front".parse().expect("name");
        let client = |upstreams: Upstreams| Client { networks: vec![network.clone()], upstreams, ..Client::default() };
        Zone {
            networks: [(network.clone(), front)].into(),
            clients: [
                ("web".parse().expect("name"), client(Upstreams::Host)),
                ("alone".parse().expect("name"), client(Upstreams::Nobody)),
            ]
            .into(),
        }
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).expect("name"), kind));
        message
    }

    fn ask(client: &str, question: &[u8], turn: usize, transport: Transport) -> Verdict {
        answer(question, &zone(), &client.parse().expect("name"), turn, transport)
    }

    fn reply(client: &str, question: &Message, turn: usize, transport: Transport) -> Message {
        match ask(client, &question.to_vec().expect("bytes"), turn, transport) {
            Verdict::Reply(bytes) => {
                assert!(belongs_to(&bytes, &question.to_vec().expect("bytes")), "{bytes:?}");
                Message::from_vec(&bytes).expect("a message")
            }
            other => panic!("{other:?}"),
        }
    }

    fn addresses(reply: &Message) -> Vec<String> {
        reply.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn addresses_of_a_name_take_turns() {
        let ask = |turn| addresses(&reply("web", &question("app.", RecordType::A), turn, Transport::Udp));
        assert_eq!(ask(0), ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
        assert_eq!(ask(1), ["10.1.0.2", "10.1.0.3", "10.1.0.1"]);
        assert_eq!(ask(5), ["10.1.0.3", "10.1.0.1", "10.1.0.2"]);
    }

    #[test]
    fn every_question_has_its_code() {
        for (client, name, kind, code, count) in [
            ("web", "app.", RecordType::A, ResponseCode::NoError, 3),
            ("web", "APP.", RecordType::A, ResponseCode::NoError, 3),
            ("web", "app.", RecordType::AAAA, ResponseCode::NoError, 0),
            ("web", "app.", RecordType::MX, ResponseCode::NoError, 0),
            ("web", "nobody.", RecordType::A, ResponseCode::NXDomain, 0),
            ("web", "2.0.1.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NoError, 1),
            ("web", "9.9.1.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain, 0),
            ("alone", "example.com.", RecordType::A, ResponseCode::NXDomain, 0),
            ("alone", ".", RecordType::NS, ResponseCode::NXDomain, 0),
        ] {
            let reply = reply(client, &question(name, kind), 0, Transport::Udp);
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, count), "{client}: {name} {kind}");
        }
        for (name, kind) in [
            ("example.com.", RecordType::A),
            ("com.", RecordType::NS),
            (".", RecordType::NS),
            ("1.2.0.192.in-addr.arpa.", RecordType::PTR),
            ("lb._dns-sd._udp.example.com.", RecordType::PTR),
        ] {
            let bytes = question(name, kind).to_vec().expect("bytes");
            assert_eq!(ask("web", &bytes, 0, Transport::Udp), Verdict::Forward, "{name} {kind}");
        }
    }

    #[test]
    fn what_does_not_fit_is_asked_for_again() {
        let mut question = question("many.", RecordType::A);
        let short = reply("web", &question, 0, Transport::Udp);
        assert!(short.metadata.truncation);
        assert_eq!(short.answers.len(), 0);
        assert_eq!(reply("web", &question, 0, Transport::Tcp).answers.len(), 200);
        let mut edns = Edns::new();
        edns.set_max_payload(65_000);
        question.set_edns(edns);
        let bytes = question.to_vec().expect("bytes");
        let Verdict::Reply(bytes) = ask("web", &bytes, 0, Transport::Udp) else { panic!("no reply") };
        assert!(bytes.len() <= usize::from(UDP_PAYLOAD), "{} bytes could be cut on the way", bytes.len());
    }

    #[test]
    fn what_would_take_long_to_read_is_not_read() {
        // A whole name, as long as one can be, and then as often as there is room for a reference to it.
        let mut question = question(&format!("{}x.", "a.".repeat(126)), RecordType::A).to_vec().expect("bytes");
        let count: u16 = 4000;
        question[10..12].copy_from_slice(&count.to_be_bytes());
        question.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1].repeat(count.into()));
        assert!(Message::from_vec(&question).is_ok(), "it is a good message");
        let Verdict::Reply(reply) = ask("web", &question, 0, Transport::Tcp) else { panic!("no reply") };
        let reply = Message::from_vec(&reply).expect("a message");
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
        assert!(reply.queries.is_empty());
    }

    #[test]
    fn later_versions_of_edns_are_told_ours() {
        let mut question = question("app.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_version(1);
        question.set_edns(edns);
        let reply = reply("web", &question, 0, Transport::Udp);
        // 16, which hickory reads as BADSIG: the two share a number (RFC 6895, 2.3).
        assert_eq!(u16::from(reply.metadata.response_code), 16);
        assert_eq!(reply.version(), 0);
    }

    #[test]
    fn an_answer_has_the_id_and_the_question() {
        let asked = question("www.Example.com.", RecordType::A);
        let bytes = asked.to_vec().expect("bytes");
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        answer.add_query(Query::query(Name::from_ascii("www.example.COM.").expect("name"), RecordType::A));
        let good = answer.to_vec().expect("bytes");
        assert!(belongs_to(&good, &bytes));
        let other = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut other = good.clone();
            change(&mut other);
            belongs_to(&other, &bytes)
        };
        assert!(!other(&|other| other[1] ^= 1), "another id");
        assert!(!other(&|other| other[2] ^= 0x80), "a question");
        assert!(!other(&|other| other[13] = b'v'), "another name");
        assert!(!other(&|other| *other.last_mut().expect("a byte") = 3), "another class");
        assert!(!other(&|other| other.truncate(20)), "cut off");
        assert!(!other(&|other| other[5] = 0), "no question");
    }

    #[test]
    fn what_is_no_question_begins_no_loop() {
        let good = question("app.", RecordType::A).to_vec().expect("bytes");
        let mut answer = good.clone();
        answer[2] |= 0x80;
        assert_eq!(ask("web", &answer, 0, Transport::Udp), Verdict::Ignore);
        assert_eq!(ask("web", &good[..11], 0, Transport::Udp), Verdict::Ignore);
    }

    /// Messages as programs send them, and some that none should send.
    fn messages() -> Vec<Vec<u8>> {
        let mut messages: Vec<Message> = [
            ("app.", RecordType::A),
            ("many.shop_front.", RecordType::A),
            ("APP.", RecordType::AAAA),
            ("localhost.", RecordType::ANY),
            (".", RecordType::NS),
            ("www.example.com.", RecordType::A),
            ("_http._tcp.example.com.", RecordType::SRV),
            ("2.0.1.10.in-addr.arpa.", RecordType::PTR),
            ("b._dns-sd._udp.0.1.10.in-addr.arpa.", RecordType::PTR),
            ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", RecordType::PTR),
            ("example.com.", RecordType::AXFR),
        ]
        .map(|(name, kind)| question(name, kind))
        .into();
        for version in [0, 1] {
            let mut asked = question("many.", RecordType::A);
            let mut edns = Edns::new();
            edns.set_max_payload(4096).set_version(version).set_dnssec_ok(true);
            asked.set_edns(edns);
            messages.push(asked);
        }
        for op_code in [OpCode::Notify, OpCode::Update, OpCode::Status] {
            let mut other = question("app.", RecordType::SOA);
            other.metadata.op_code = op_code;
            messages.push(other);
        }
        let mut two = question("app.", RecordType::A);
        two.add_query(Query::query(Name::from_ascii("db.").expect("name"), RecordType::AAAA));
        let mut chaos = question("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        messages.extend([two, chaos]);
        // The longest name that there is, of 127 labels (RFC 1035, 2.3.4).
        messages.push(question(&"a.".repeat(127), RecordType::A));
        let mut bytes: Vec<Vec<u8>> = messages.iter().map(|message| message.to_vec().expect("bytes")).collect();
        // What a server says, and a name that points at itself (RFC 1035, 4.1.4).
        if let Verdict::Reply(reply) = ask("web", &bytes[0], 0, Transport::Udp) {
            bytes.push(reply);
        }
        bytes.push([&bytes[0][..HEADER], &[0xc0, HEADER as u8, 0, 1, 0, 1]].concat());
        bytes
    }

    /// `NSCOMPOSE_FUZZ_CASES` says how many; docs/benchmarks.md has what many have shown.
    #[test]
    #[expect(clippy::print_stdout, reason = "for whoever asks for many")]
    fn messages_that_are_nearly_right() {
        let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let cases = number("NSCOMPOSE_FUZZ_CASES").unwrap_or(20_000);
        // xorshift64: the same bytes every time.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number("NSCOMPOSE_FUZZ_SEED").unwrap_or(1) | 1);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let clients = ["web", "alone", "stranger"].map(|name| name.parse::<ServiceName>().expect("name"));
        let (zone, messages) = (zone(), messages());
        let [mut replies, mut questions, mut forwarded] = [0; 3];
        for case in 0..cases {
            let mut bytes = messages[case as usize % messages.len()].clone();
            // One in each round of the messages is as it was.
            for _ in 0..next() % 6 {
                let at = (next() % bytes.len() as u64) as usize;
                let other = &messages[(next() % messages.len() as u64) as usize];
                match next() % 6 {
                    0 => bytes[at] = next() as u8,
                    1 => bytes[at] ^= 1 << (next() % 8),
                    2 => bytes.truncate(at.max(1)),
                    3 => bytes.insert(at, next() as u8),
                    // A pointer, as often as not to what comes later.
                    4 => bytes.splice(at..at, [0xc0, next() as u8 % 64]).for_each(drop),
                    _ => bytes.extend_from_slice(&other[(at % other.len())..]),
                }
            }
            let (client, transport) = match case % 6 {
                n @ 0..3 => (&clients[n as usize], Transport::Udp),
                n => (&clients[n as usize - 3], Transport::Tcp),
            };
            let shown = || format!("case {case}: {bytes:?}");
            match super::answer(&bytes, &zone, client, case as usize, transport) {
                Verdict::Reply(reply) => {
                    replies += 1;
                    assert!(reply.len() >= HEADER && reply[2] & 0x80 != 0 && reply[..2] == bytes[..2], "{}", shown());
                    let limit = if transport == Transport::Udp { UDP_PAYLOAD } else { u16::MAX };
                    assert!(reply.len() <= usize::from(limit), "{}", shown());
                    let read = Message::from_vec(&reply).unwrap_or_else(|e| panic!("{e}: {}", shown()));
                    let refused = matches!(read.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp);
                    assert!(refused || belongs_to(&reply, &bytes), "{}", shown());
                    questions += u64::from(!refused);
                }
                Verdict::Forward => {
                    forwarded += 1;
                    let unanswered = unanswered(&bytes).unwrap_or_else(|| panic!("{}", shown()));
                    assert!(belongs_to(&unanswered, &bytes), "{}", shown());
                }
                // Whatever is a question hears something.
                Verdict::Ignore => assert!(bytes.len() < HEADER || bytes[2] & 0x80 != 0, "{}", shown()),
            }
            let _ = unanswered(&bytes);
        }
        println!("{cases} cases: {replies} replies, {questions} of them to questions, {forwarded} forwarded");
        assert!(questions > cases / 10 && forwarded > cases / 50, "{questions} answered, {forwarded} forwarded");
    }
}
