//! Digests of content.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `sha256:` and 64 lower-case hexadecimal digits (OCI Image Specification, "Digests"). No other algorithm is in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is no digest that can be checked here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: it takes `sha256:` and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(pub String);

const ALGORITHM: &str = "sha256:";

impl Digest {
    /// That of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// That of all that a hasher was given.
    pub fn finish(hasher: Sha256) -> Self {
        let mut text = String::with_capacity(ALGORITHM.len() + 64);
        text.push_str(ALGORITHM);
        for byte in hasher.finalize() {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
        }
        Self(text)
    }

    /// With the algorithm in front.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits alone.
    pub fn hex(&self) -> &str {
        &self.0[ALGORITHM.len()..]
    }

    /// The first twelve digits, as `docker images` shows them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let hex = text.strip_prefix(ALGORITHM).unwrap_or_default();
        let valid = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidDigest(text.to_owned())) }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha256_in_lower_case() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        let digest: Digest = empty.parse().expect("valid");
        assert_eq!((digest.short(), digest.hex().len()), ("e3b0c44298fc", 64));
        for wrong in ["", "sha256:", "e3b0", "sha512:e3b0", &empty.to_uppercase(), &format!("{empty}0"), &empty[1..]] {
            assert_eq!(wrong.parse::<Digest>(), Err(InvalidDigest(wrong.to_owned())));
        }
        assert!(serde_json::from_str::<Digest>("\"sha256:../../etc\"").is_err());
    }
}
