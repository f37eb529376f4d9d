//! Which devices may be used: `c 1:3 mr`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Both.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Open it to read.
    pub read: bool,
    /// Open it to write.
    pub write: bool,
    /// Make a node of it.
    pub mknod: bool,
}

impl DeviceAccess {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, mknod: true };
}

/// A rule for devices, as the `devices` controller of version 1 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Their kind.
    pub kind: DeviceKind,
    /// Their major number; none is any.
    pub major: Option<u32>,
    /// Their minor number; none is any.
    pub minor: Option<u32>,
    /// What may be done with them.
    pub access: DeviceAccess,
}

/// A text that is no rule for devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rule for devices")]
pub struct InvalidDeviceRule(String);

/// As Docker has it: `[acb] MAJOR:MINOR [rwm]`, each number may be `*` (docker run, `--device-cgroup-rule`).
impl FromStr for DeviceRule {
    type Err = InvalidDeviceRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || -> Option<Self> {
            let mut words = text.split(' ');
            let (kind, numbers, letters) = (words.next()?, words.next()?, words.next()?);
            let (major, minor) = numbers.split_once(':')?;
            let number = |text: &str| match text {
                "*" => Some(None),
                _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
                _ => None,
            };
            let mut access = DeviceAccess::default();
            for letter in letters.chars() {
                let known = match letter {
                    'r' => &mut access.read,
                    'w' => &mut access.write,
                    'm' => &mut access.mknod,
                    _ => return None,
                };
                *known = true;
            }
            let kind = match kind {
                "a" => DeviceKind::All,
                "b" => DeviceKind::Block,
                "c" => DeviceKind::Char,
                _ => return None,
            };
            let complete = words.next().is_none() && access != DeviceAccess::default();
            complete.then_some(Self { kind, major: number(major)?, minor: number(minor)?, access })
        };
        parse().ok_or_else(|| InvalidDeviceRule(text.to_owned()))
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        let DeviceAccess { read, write, mknod } = self.access;
        [(read, "r"), (write, "w"), (mknod, "m")].iter().filter(|(has, _)| *has).try_for_each(|(_, c)| f.write_str(c))
    }
}

impl DeviceRule {
    /// What every container may use: /dev/null, zero, full, random, urandom, tty, console, ptmx and its own terminals; and
    /// a node may be made of any device, which says nothing of opening it. Those are the rules of Docker and runc.
    pub fn usual() -> Vec<Self> {
        let char = |major, minor| Self { kind: DeviceKind::Char, major: Some(major), minor, access: DeviceAccess::ALL };
        let mknod = DeviceAccess { mknod: true, ..DeviceAccess::default() };
        let mut rules = vec![Self { kind: DeviceKind::All, major: None, minor: None, access: mknod }];
        rules.extend([3, 5, 7, 8, 9].map(|minor| char(1, Some(minor))));
        rules.extend([0, 1, 2].map(|minor| char(5, Some(minor))));
        rules.push(char(136, None));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for text in ["c 1:3 rm", "a *:* rwm", "b 8:* r", "c *:5 w"] {
            assert_eq!(text.parse::<DeviceRule>().expect("a rule").to_string(), text);
        }
        assert_eq!("c 1:3 mr".parse::<DeviceRule>().expect("a rule").to_string(), "c 1:3 rm");
        for wrong in ["", "c", "c 1:3", "c 1 r", "d 1:3 r", "c 1:3 x", "c 1:3 ", "c 1:3 r r", "c +1:3 r", "c 1:x r"] {
            assert!(wrong.parse::<DeviceRule>().is_err(), "{wrong}");
        }
    }
}
