//! The header block of a member of a tar archive.

/// Archives are made of blocks of so many bytes.
pub(super) const BLOCK: usize = 512;

/// One block, read as a header (POSIX.1 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").
pub(super) struct Header(pub(super) [u8; BLOCK]);

impl Header {
    /// Whether it is a block of the end of an archive.
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether its checksum is right. Some old programs summed signed bytes.
    pub(super) fn is_valid(&self) -> bool {
        let Some(promised) = number(&self.0[148..156]).and_then(|sum| i64::try_from(sum).ok()) else { return false };
        let blank = |at: usize| (148..156).contains(&at);
        let bytes = || self.0.iter().enumerate().map(|(at, byte)| if blank(at) { b' ' } else { *byte });
        bytes().map(i64::from).sum::<i64>() == promised
            || bytes().map(|byte| i64::from(byte.cast_signed())).sum::<i64>() == promised
    }

    fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    /// The name, with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        // GNU tar has other things where the prefix is; star has a shorter one.
        let prefix = match &self.0[257..263] {
            b"ustar\0" if &self.0[508..] == b"tar\0" => text(&self.0[345..476]),
            b"ustar\0" => text(&self.0[345..500]),
            _ => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    pub(super) fn mode(&self) -> Option<u64> {
        number(&self.0[100..108])
    }

    pub(super) fn uid(&self) -> Option<u64> {
        number(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Option<u64> {
        number(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Option<u64> {
        number(&self.0[124..136])
    }

    /// Seconds since 1970.
    pub(super) fn mtime(&self) -> Option<i64> {
        signed(&self.0[136..148])
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Option<(u64, u64)> {
        Some((number(&self.0[329..337])?, number(&self.0[337..345])?))
    }

    /// The four segments (offset and length) that GNU tar puts into the header of a file with holes, whether more of them
    /// follow in blocks of their own, and the size of the file. None if it is not GNU's format.
    pub(super) fn sparse(&self) -> Option<(&[u8], bool, u64)> {
        let real_size = number(&self.0[483..495])?;
        self.is_gnu().then(|| (&self.0[386..482], self.0[482] != 0, real_size))
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number that is not negative: octal digits among spaces and NULs, or, with the first bit set, the bytes themselves.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    u64::try_from(signed(field)?).ok()
}

fn signed(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Base 256, two's complement; the first bit says so and the second is the sign.
        let negative = first & 0x40 != 0;
        let mut value = if negative { -1_i128 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            value = (value << 8) | i128::from(byte);
            if i64::try_from(value).is_err() {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let digits = field.trim_ascii_start();
    let digits = digits.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_bytes() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"  644 \0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777777"), Some(0o77_777_777_777));
        assert_eq!(number(b"12x4567\0"), None);
        assert_eq!(number(b"-1\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\x01\0\0\0"), Some(1 << 24));
        assert_eq!(number(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(signed(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xff; 12]), None);
    }

    #[test]
    fn the_checksum_counts_either_way() {
        let header = tar::Header::new_gnu();
        let mut header = header.clone();
        header.as_mut_bytes()[0] = 0xe9;
        header.set_cksum();
        let mut ours = Header(*header.as_bytes());
        assert!(ours.is_valid());
        // 0xe9 is 233, or -23.
        let sum = number(&ours.0[148..156]).expect("a number") - 256;
        ours.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(ours.is_valid());
        ours.0[5] = 1;
        assert!(!ours.is_valid());
        assert!(!Header([0; BLOCK]).is_valid() || Header([0; BLOCK]).is_zero());
    }
}
