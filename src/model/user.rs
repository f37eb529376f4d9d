//! Who a service runs as.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `user: USER[:GROUP]`, each a name of the container's own passwd and group files or a number.
///
/// It stays text until the container's root is in place: only there is it known what a name means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserSpec {
    /// User name or number.
    pub user: String,
    /// Group name or number; none takes the user's own group from the passwd file, else 0.
    pub group: Option<String>,
}

/// A text that cannot name a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a user: use NAME, UID, NAME:GROUP or UID:GID")]
pub struct InvalidUser(pub String);

impl FromStr for UserSpec {
    type Err = InvalidUser;

    fn from_str(text: &str) -> Result<Self, InvalidUser> {
        // The largest number names nobody: setresuid(2) takes it for "leave it".
        let too_large = |part: &str| {
            part.bytes().all(|b| b.is_ascii_digit()) && part.parse().map_or(true, |id: u32| id == u32::MAX)
        };
        let valid = |part: &str| {
            !part.is_empty() && !part.bytes().any(|b| b == b':' || b.is_ascii_control()) && !too_large(part)
        };
        let (user, group) = match text.split_once(':') {
            None => (text, None),
            Some((user, group)) => (user, Some(group)),
        };
        if valid(user) && group.is_none_or(valid) {
            Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
        } else {
            Err(InvalidUser(text.to_owned()))
        }
    }
}

impl TryFrom<String> for UserSpec {
    type Error = InvalidUser;

    fn try_from(text: String) -> Result<Self, InvalidUser> {
        text.parse()
    }
}

impl From<UserSpec> for String {
    fn from(user: UserSpec) -> Self {
        user.to_string()
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        match &self.group {
            Some(group) => write!(f, ":{group}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_id_names_nobody() {
        for good in ["0", "4294967294:4294967294", "a1:99999999999a"] {
            assert_eq!(good.parse::<UserSpec>().expect("a user").to_string(), good);
        }
        for bad in ["4294967295", "99999999999", "0:4294967295", "0:99999999999", "", ":5", "5:"] {
            assert_eq!(bad.parse::<UserSpec>(), Err(InvalidUser(bad.to_owned())));
        }
    }
}
