//! Archives, made a member at a time.

/// An archive under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive {
    pub(crate) bytes: Vec<u8>,
    records: Vec<u8>,
    uid: u64,
    gid: u64,
    mode: Option<u64>,
    mtime: u64,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A record of the extended header of the next member.
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let rest = key.len() + value.len() + 3;
        let length = (1..20).map(|digits| rest + digits).find(|all| all.to_string().len() + rest == *all);
        self.records.extend_from_slice(format!("{} {key}=", length.expect("a length")).as_bytes());
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
        self
    }

    /// Owner of the next member.
    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Mode of the next member.
    pub(crate) fn mode(mut self, mode: u64) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Time of the next member.
    pub(crate) fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = mtime;
        self
    }

    pub(crate) fn file(self, name: &str, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        self.member(name, b'0', "", data.len() as u64, data)
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.member(name, b'5', "", 0, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(name, b'2', target, 0, b"")
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.member(name, b'1', target, 0, b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Self {
        self.member(name, b'6', "", 0, b"")
    }

    pub(crate) fn device(mut self, name: &str, kind: u8, major: u64, minor: u64) -> Self {
        let at = self.bytes.len();
        self = self.member(name, kind, "", 0, b"");
        let block = self.bytes.len() - 512;
        assert!(block >= at);
        self.bytes[block + 329..block + 337].copy_from_slice(format!("{major:07o}\0").as_bytes());
        self.bytes[block + 337..block + 345].copy_from_slice(format!("{minor:07o}\0").as_bytes());
        sum(&mut self.bytes[block..]);
        self
    }

    /// Any member; `size` is what the header says, whatever data there are.
    pub(crate) fn member(mut self, name: &str, kind: u8, link: &str, size: u64, data: &[u8]) -> Self {
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.raw("pax", b'x', "", records.len() as u64, &records, 0o644);
        }
        if name.len() > 100 {
            self.raw("././@LongLink", b'L', "", name.len() as u64 + 1, &[name.as_bytes(), b"\0"].concat(), 0);
        }
        if link.len() > 100 {
            self.raw("././@LongLink", b'K', "", link.len() as u64 + 1, &[link.as_bytes(), b"\0"].concat(), 0);
        }
        let mode = self.mode.take().unwrap_or(if kind == b'5' { 0o755 } else { 0o644 });
        self.raw(name, kind, link, size, data, mode);
        (self.uid, self.gid, self.mtime) = (0, 0, 0);
        self
    }

    fn raw(&mut self, name: &str, kind: u8, link: &str, size: u64, data: &[u8], mode: u64) {
        let at = self.bytes.len();
        self.bytes.resize(at + 512, 0);
        let block = &mut self.bytes[at..];
        let mut text = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        text(0, &name.as_bytes()[..name.len().min(100)]);
        text(157, &link.as_bytes()[..link.len().min(100)]);
        text(100, format!("{mode:07o}\0").as_bytes());
        for (at, id) in [(108, self.uid), (116, self.gid)] {
            if id < 0o7_777_777 {
                text(at, format!("{id:07o}\0").as_bytes());
            } else {
                text(at, &(id | 1 << 63).to_be_bytes());
            }
        }
        if size < 1 << 33 {
            text(124, format!("{size:011o}\0").as_bytes());
        } else {
            text(124, &[0x80, 0, 0, 0]);
            text(128, &size.to_be_bytes());
        }
        text(136, format!("{:011o}\0", self.mtime).as_bytes());
        text(156, &[kind]);
        text(257, b"ustar\x0000");
        sum(block);
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// With its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// Puts the right checksum into a header block.
pub(crate) fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
