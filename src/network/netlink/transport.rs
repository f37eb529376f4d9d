//! A netlink socket that sends requests in batches and sorts the answers back to them.

use std::io;

use rtnetlink::{
    packet_core::{
        ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
        NetlinkPayload, NlaBuffer, NlasIterator,
    },
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::error::Refusal;

/// The kernel gives a dump in pieces of at most 32 KiB.
const RECEIVE: usize = 32 * 1024;

/// Behind the error number and the header of the refused request come the attributes of an extended acknowledgement;
/// this one is a sentence (NLMSGERR_ATTR_MSG).
const SENTENCE: u16 = 1;

/// A request and the flags it goes with.
pub(super) struct Request {
    flags: u16,
    message: RouteNetlinkMessage,
}

impl Request {
    /// Makes something that does not exist yet.
    pub(super) fn create(message: RouteNetlinkMessage) -> Self {
        Self { flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, message }
    }

    /// Changes or removes something that exists.
    pub(super) fn change(message: RouteNetlinkMessage) -> Self {
        Self { flags: NLM_F_REQUEST | NLM_F_ACK, message }
    }

    /// Asks for one thing.
    pub(super) fn get(message: RouteNetlinkMessage) -> Self {
        Self { flags: NLM_F_REQUEST, message }
    }
}

/// What came back: a message for a question, nothing for a deed.
pub(super) type Answer = Result<Option<RouteNetlinkMessage>, Refusal>;

/// The socket and the number of the last request.
#[derive(Debug)]
pub(super) struct Transport {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Transport {
    /// A socket in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // A refusal shall bring a sentence, and not the refused request itself. Older kernels have neither.
        let _ = socket.set_cap_ack(true).and_then(|()| socket.set_ext_ack(true));
        Ok(Self { socket, sequence: 0, buffer: Vec::new() })
    }

    /// Sends a fixed number of requests at once; an answer for each, in order.
    pub(super) fn exchange<const N: usize>(&mut self, requests: [Request; N]) -> [Answer; N] {
        let mut answers = self.exchange_all(requests.into()).into_iter();
        std::array::from_fn(|_| answers.next().unwrap_or_else(|| Err(Refusal::unreadable())))
    }

    /// Sends requests at once; an answer for each, in order. One that is refused does not keep the kernel from the next.
    pub(super) fn exchange_all(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        if requests.is_empty() {
            return Vec::new();
        }
        let first = self.sequence.wrapping_add(1);
        let mut answers: Vec<Option<Answer>> = requests.iter().map(|_| None).collect();
        let outcome = self.send(requests).and_then(|()| {
            while answers.iter().any(Option::is_none) {
                self.receive(|header, payload| {
                    let position = header.sequence_number.wrapping_sub(first) as usize;
                    let Some(slot) = answers.get_mut(position) else { return };
                    match payload {
                        NetlinkPayload::InnerMessage(message) => *slot = Some(Ok(Some(message))),
                        NetlinkPayload::Error(error) => *slot = Some(outcome_of(error)),
                        _ => {}
                    }
                })?;
            }
            Ok(())
        });
        // Without its own answer a request has the fate of the socket.
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(lost(&outcome)))).collect()
    }

    /// Asks for everything of a kind.
    pub(super) fn dump(&mut self, query: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        self.send(vec![Request { flags: NLM_F_REQUEST | NLM_F_DUMP, message: query }])?;
        let (sequence, mut found, mut end) = (self.sequence, Vec::new(), None);
        while end.is_none() {
            self.receive(|header, payload| {
                if header.sequence_number != sequence {
                    return;
                }
                match payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Error(error) => end = Some(outcome_of(error)),
                    NetlinkPayload::Done(_) => end = Some(Ok(None)),
                    _ => {}
                }
            })?;
        }
        end.transpose()?;
        Ok(found)
    }

    fn send(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(requests.len() * 256);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            header.flags = request.flags;
            header.sequence_number = self.sequence;
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.message));
            message.finalize();
            let start = bytes.len();
            // Messages of one datagram begin at multiples of four (NLMSG_ALIGN).
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..]);
        }
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// Reads one datagram and hands out its messages.
    fn receive(&mut self, mut each: impl FnMut(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.reserve(RECEIVE);
        self.socket.recv(&mut self.buffer, 0)?;
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let length = (message.header.length as usize).next_multiple_of(4).clamp(4, rest.len().max(4));
            each(message.header, message.payload);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

fn outcome_of(error: ErrorMessage) -> Answer {
    match error.code {
        None => Ok(None),
        Some(code) => {
            let attributes = error.header.get(size_of::<libc::nlmsghdr>()..).unwrap_or_default();
            let sentence = NlasIterator::new(attributes)
                .flatten()
                .find(|attribute: &NlaBuffer<&[u8]>| attribute.kind() == SENTENCE)
                .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned());
            Err(Refusal::new(io::Error::from_raw_os_error(code.get().abs()), sentence))
        }
    }
}

fn lost(outcome: &io::Result<()>) -> Refusal {
    match outcome {
        Ok(()) => Refusal::unreadable(),
        Err(error) => match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code).into(),
            None => io::Error::new(error.kind(), error.to_string()).into(),
        },
    }
}
