//! A record of a log, in the format of Docker's json-file driver and a line of JSON:
//! `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}`.
//!
//! Two things are added to it. Bytes that are not UTF-8, which JSON cannot have, are lone surrogates: the byte 0xff is
//! `\udcff`, as in PEP 383, so that Python's `surrogateescape` gives the bytes back, and readers that know nothing of it show
//! U+FFFD. And a part of a line that goes on in the next record of its stream says `"partial":true`; a record without it
//! whose text has no line break at its end is what a program has left unended.

use std::{borrow::Cow, fmt::Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which of the two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// What records call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line, or a part of one that is very long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// What was written, with its line break if it has one.
    pub log: Vec<u8>,
    /// Which of the two streams it came from.
    pub stream: Stream,
    /// When it came.
    pub time: Timestamp,
    /// The line goes on in the next record of its stream.
    pub partial: bool,
}

/// How a record ends that is a part of a line.
pub(super) const PARTIAL_END: &[u8] = b",\"partial\":true}";

/// What follows the text of a record.
#[derive(Deserialize)]
struct Rest<'a> {
    stream: Stream,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    partial: bool,
}

/// Remembers the last time that was read: records that were written together have the same.
#[derive(Debug, Default)]
pub struct Times {
    text: Vec<u8>,
    time: Option<Timestamp>,
}

impl Times {
    fn read(&mut self, text: &[u8]) -> Option<Timestamp> {
        if self.time.is_none() || self.text != text {
            self.time = std::str::from_utf8(text).ok()?.parse().ok();
            text.clone_into(&mut self.text);
        }
        self.time
    }
}

impl LogRecord {
    /// Longest text of a record in bytes, but for a line break behind it, as in Docker.
    pub const MAX: usize = 16 * 1024;

    /// Reads a line of a log, without its line break; none if it is damaged.
    pub fn read(line: &[u8], times: &mut Times) -> Option<Self> {
        let (log, rest) = text(line.strip_prefix(b"{\"log\":\"")?)?;
        if let Some((stream, time, partial)) = usual(rest) {
            return Some(Self { log, stream, time: times.read(time)?, partial });
        }
        // Something stands in between, such as attributes.
        let mut object = rest.to_vec();
        *object.first_mut().filter(|first| **first == b',')? = b'{';
        let rest: Rest<'_> = serde_json::from_slice(&object).ok()?;
        Some(Self { log, stream: rest.stream, time: times.read(rest.time.as_bytes())?, partial: rest.partial })
    }
}

/// What most records have behind the text.
fn usual(rest: &[u8]) -> Option<(Stream, &[u8], bool)> {
    let rest = rest.strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = match rest.strip_prefix(b"out") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix(b"err")?),
    };
    let rest = rest.strip_prefix(b"\",\"time\":\"")?;
    let (time, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
    match rest {
        b"\"}" => Some((stream, time, false)),
        b"\",\"partial\":true}" => Some((stream, time, true)),
        _ => None,
    }
}

/// Reads a JSON string up to its closing quote; what follows that comes back too.
fn text(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut log = Vec::with_capacity(rest.len());
    loop {
        let stop = memchr::memchr2(b'"', b'\\', rest)?;
        log.extend_from_slice(&rest[..stop]);
        if rest[stop] == b'"' {
            return Some((log, &rest[stop + 1..]));
        }
        let escape = *rest.get(stop + 1)?;
        rest = &rest[stop + 2..];
        log.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'"' | b'\\' | b'/' => escape,
            b'u' => {
                let unit;
                (unit, rest) = code_unit(rest)?;
                let c = match unit {
                    0xdc80..=0xdcff => {
                        log.push(unit as u8);
                        continue;
                    }
                    0xd800..=0xdbff => match rest.strip_prefix(b"\\u").and_then(code_unit) {
                        Some((low @ 0xdc00..=0xdfff, after)) => {
                            rest = after;
                            char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
                        }
                        _ => None,
                    },
                    _ => char::from_u32(unit),
                };
                let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
                log.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
}

fn code_unit(rest: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = rest.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

/// Adds a record with its line break. `attributes` is a JSON object, or nothing; `time` is a [`Timestamp`] as text.
pub fn write_record(out: &mut Vec<u8>, log: &[u8], stream: Stream, attributes: &str, time: &str, partial: bool) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in log.utf8_chunks() {
        write_text(out, chunk.valid().as_bytes());
        for byte in chunk.invalid() {
            // A vector takes all that is written to it.
            out.extend_from_slice(format!("\\udc{byte:02x}").as_bytes());
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    if !attributes.is_empty() {
        out.extend_from_slice(b"\",\"attrs\":");
        out.extend_from_slice(attributes.as_bytes());
        out.extend_from_slice(b",\"time\":\"");
    } else {
        out.extend_from_slice(b"\",\"time\":\"");
    }
    out.extend_from_slice(time.as_bytes());
    out.push(b'"');
    out.extend_from_slice(if partial { PARTIAL_END } else { b"}" });
    out.push(b'\n');
}

/// Adds text with what JSON wants to be escaped (RFC 8259, section 7).
fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    let mut from = 0;
    for (at, byte) in text.iter().enumerate() {
        let escape = match *byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 | 0x7f => "",
            _ => continue,
        };
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        if escape.is_empty() {
            let mut unit = String::with_capacity(6);
            let _ = write!(unit, "\\u{byte:04x}");
            out.extend_from_slice(unit.as_bytes());
        } else {
            out.extend_from_slice(escape.as_bytes());
        }
    }
    out.extend_from_slice(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-02T03:04:05.000000006Z";

    fn there_and_back(log: &[u8], attributes: &str, partial: bool) -> String {
        let mut out = Vec::new();
        write_record(&mut out, log, Stream::Stderr, attributes, TIME, partial);
        let text = String::from_utf8(out).expect("text");
        let line = text.strip_suffix('\n').expect("a line break");
        assert!(!line.contains('\n'));
        let read = LogRecord::read(line.as_bytes(), &mut Times::default()).expect(line);
        let time = TIME.parse().expect("a time");
        assert_eq!(read, LogRecord { log: log.to_vec(), stream: Stream::Stderr, time, partial }, "{line}");
        line.to_owned()
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for attributes in ["", r#"{"tag":"a\"},b"}"#] {
            for partial in [false, true] {
                there_and_back(&all, attributes, partial);
                there_and_back(b"", attributes, partial);
                there_and_back("\u{1f980} \"\\/ \u{2028} \u{7f}\r\n".as_bytes(), attributes, partial);
            }
        }
        // Each pair of bytes, whatever it means as UTF-8; the bytes of lone surrogates among them.
        let pairs: Vec<u8> = (128..=255).flat_map(|a| (128..=255).flat_map(move |b| [0xed, a, b, b' '])).collect();
        there_and_back(&pairs, "", false);
    }

    #[test]
    fn a_record_is_what_docker_writes() {
        let line = there_and_back(b"a \"b\"\n", "", false);
        assert_eq!(line, r#"{"log":"a \"b\"\n","stream":"stderr","time":"2026-01-02T03:04:05.000000006Z"}"#);
        let line = there_and_back(b"\xff\n", r#"{"tag":"x"}"#, true);
        assert_eq!(
            line,
            r#"{"log":"\udcff\n","stream":"stderr","attrs":{"tag":"x"},"time":"2026-01-02T03:04:05.000000006Z","partial":true}"#
        );
        // For those who know nothing of bytes it is JSON.
        serde_json::from_str::<serde_json::Value>(&line.replace("\\udcff", "?")).expect("JSON");
    }

    #[test]
    fn what_is_damaged_is_none() {
        let whole = br#"{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}"#;
        assert!(LogRecord::read(whole, &mut Times::default()).is_some());
        for end in 0..whole.len() {
            assert_eq!(LogRecord::read(&whole[..end], &mut Times::default()), None);
        }
        let surrogates = br#"{"log":"\ud83e\udd80\ud800x\udc00","stream":"stdout","time":"2026-01-02T03:04:05Z"}"#;
        let read = LogRecord::read(surrogates, &mut Times::default()).expect("a record");
        assert_eq!(String::from_utf8(read.log).expect("text"), "\u{1f980}\u{fffd}x\u{fffd}");
    }
}
