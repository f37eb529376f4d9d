//! Extended headers: records of `LENGTH KEY=VALUE` before a member (POSIX.1 pax, "pax Extended Header").

use std::collections::BTreeMap;

use rustix::fs::Timespec;

/// Extended headers and long names may be this large, as Go's archive/tar has it.
pub(super) const MAX_EXTENDED: u64 = 1 << 20;

/// What the extended header of one member says.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timespec>,
    pub(super) atime: Option<Timespec>,
    /// Extended attributes: names and values.
    pub(super) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Attributes in a form that is not read here, such as lists of rights as text.
    pub(super) unread: u64,
    pub(super) sparse: SparseRecords,
}

/// What the extended header says of a file with holes (GNU tar manual, "Storing Sparse Files").
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// Of the file, with its holes.
    pub(super) size: Option<u64>,
    /// Formats 0.0 and 0.1: offsets and lengths by turns.
    pub(super) map: Vec<u64>,
}

impl Pax {
    /// Reads the records.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, &'static str> {
        const BROKEN: &str = "a record of an extended header is not valid";
        let mut pax = Self::default();
        while !data.is_empty() {
            let blank = data.iter().take(20).position(|byte| *byte == b' ').ok_or(BROKEN)?;
            let length = usize::try_from(decimal(&data[..blank]).ok_or(BROKEN)?).map_err(|_| BROKEN)?;
            if length <= blank + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(BROKEN);
            }
            let record = &data[blank + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BROKEN)?;
            pax.take(&record[..equals], &record[equals + 1..]).ok_or("a value of an extended header is not valid")?;
            data = &data[length..];
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let plain = |value: &[u8]| (!value.contains(&0)).then(|| value.to_vec());
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return None;
            }
            self.attributes.insert(name.to_vec(), value.to_vec());
            return Some(());
        }
        if key.starts_with(b"SCHILY.acl.") {
            self.unread += 1;
            return Some(());
        }
        // An empty value takes back what was said before; the plain header counts then.
        let said = !value.is_empty();
        match key {
            b"path" => self.path = if said { Some(plain(value)?) } else { None },
            b"linkpath" => self.link = if said { Some(plain(value)?) } else { None },
            b"size" => self.size = if said { Some(decimal(value)?) } else { None },
            b"uid" => self.uid = if said { Some(decimal(value)?) } else { None },
            b"gid" => self.gid = if said { Some(decimal(value)?) } else { None },
            b"mtime" => self.mtime = if said { Some(time(value)?) } else { None },
            b"atime" => self.atime = if said { Some(time(value)?) } else { None },
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(plain(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(decimal(value)?),
            b"GNU.sparse.offset" if self.sparse.map.len().is_multiple_of(2) => self.sparse.map.push(decimal(value)?),
            b"GNU.sparse.numbytes" if !self.sparse.map.len().is_multiple_of(2) => self.sparse.map.push(decimal(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => return None,
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',');
                self.sparse.map = if said { numbers.map(decimal).collect::<Option<_>>()? } else { Vec::new() };
            }
            _ => {}
        }
        Some(())
    }
}

/// Digits alone.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds since 1970, perhaps negative and with a fraction; what is beyond nanoseconds is cut off.
fn time(text: &[u8]) -> Option<Timespec> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| i64::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    Some(match (negative, nanoseconds) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str) -> Option<(i64, i64)> {
        time(text.as_bytes()).map(|time| (time.tv_sec, time.tv_nsec))
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(times("1"), Some((1, 0)));
        assert_eq!(times("1.5"), Some((1, 500_000_000)));
        assert_eq!(times("1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(times("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(times("-3"), Some((-3, 0)));
        for wrong in ["", ".5", "1.x", "--1", "99999999999999999999"] {
            assert_eq!(times(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn records_are_read_and_later_ones_win() {
        let pax = Pax::parse(b"9 path=a\n9 path=b\n10 uid=70\n7 uid=\n21 SCHILY.xattr.u.v=\n").expect("valid");
        assert_eq!(pax.path.as_deref(), Some(&b"b"[..]));
        assert_eq!(pax.uid, None);
        assert_eq!(pax.attributes, BTreeMap::from([(b"u.v".to_vec(), Vec::new())]));
    }

    #[test]
    fn broken_records_are_refused() {
        for wrong in [
            "9 path=a",
            "8 path=a\n",
            "11 path=a\n",
            "0 path=a\n",
            "3 \n",
            " path=a\n",
            "x path=a\n",
            "99999999999999999999 path=a\n",
            "7 path\n",
            "10 uid=-1\n",
            "11 path=a\0\n",
            "18446744073709551615 path=a\n",
            "18 SCHILY.xattr.=\n",
        ] {
            assert!(Pax::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
