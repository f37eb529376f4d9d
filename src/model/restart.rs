//! What happens when a container ends.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{HealthCheck, HealthSettings};

/// After which ends a container is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartCondition {
    /// After none.
    #[default]
    Never,
    /// After those with another exit code than 0.
    OnFailure,
    /// After all, but for those that somebody has asked for.
    Always,
    /// The same. The two differ when a stack that was down is brought up by itself, which does not happen here.
    UnlessStopped,
}

/// Whether and when a container that has ended is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// After which ends.
    pub condition: RestartCondition,
    /// How often at most; none is for ever.
    pub max_attempts: Option<u32>,
    /// How long it waits before each; none is Docker's back-off.
    pub delay: Option<Duration>,
    /// Whoever has run for this long has come up: what was tried before does not count any more.
    pub window: Option<Duration>,
}

/// A text that is no restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRestart {
    /// There is no such policy.
    #[error("`{0}` is not a restart policy")]
    Unknown(String),
    /// Its number is none.
    #[error("`{0}` is not a number of restarts")]
    Count(String),
    /// Only `on-failure` has a number.
    #[error("`{0}` takes no number of restarts")]
    Uncounted(String),
}

impl InvalidRestart {
    /// What could be written instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "use `no`, `always`, `on-failure`, `on-failure:3` or `unless-stopped`",
            Self::Count(_) => "use a whole number, such as `on-failure:3`",
            Self::Uncounted(_) => "only `on-failure` does, as in `on-failure:3`",
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = InvalidRestart;

    fn from_str(text: &str) -> Result<Self, InvalidRestart> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        let condition = match name {
            "no" => RestartCondition::Never,
            "always" => RestartCondition::Always,
            "unless-stopped" => RestartCondition::UnlessStopped,
            "on-failure" => RestartCondition::OnFailure,
            _ => return Err(InvalidRestart::Unknown(text.to_owned())),
        };
        let max_attempts = match count {
            None => None,
            Some(_) if condition != RestartCondition::OnFailure => {
                return Err(InvalidRestart::Uncounted(name.to_owned()));
            }
            Some(count) => {
                let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
                let number = count.parse::<u32>().ok().filter(|_| digits);
                // 0 is for ever, as in Docker.
                Some(number.ok_or_else(|| InvalidRestart::Count(count.to_owned()))?).filter(|number| *number > 0)
            }
        };
        Ok(Self { condition, max_attempts, ..Self::default() })
    }
}

/// What a file says of a container's life, before its image is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifeSettings {
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// How it is looked after its health.
    pub health: HealthSettings,
    /// An unhealthy one is stopped and started again.
    pub restart_unhealthy: bool,
    /// What runs lines of a health check; empty is `/bin/sh -c`. Images say it (`Shell`, Docker's addition).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

impl LifeSettings {
    /// Something is said of a health check, and there is none that it could be about.
    pub fn wants_test(&self) -> bool {
        let said = self.restart_unhealthy || self.health != HealthSettings::default();
        said && self.health.test.is_none()
    }

    /// What comes of it.
    pub fn policy(&self) -> LifePolicy {
        LifePolicy {
            restart: self.restart.clone(),
            health: self.health.check(&self.shell),
            restart_unhealthy: self.restart_unhealthy,
        }
    }
}

/// What decides over a container's life, with every default filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifePolicy {
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// How it is looked after its health; none if nobody does.
    pub health: Option<HealthCheck>,
    /// An unhealthy one is stopped and started again, whatever happens when it ends by itself; as often as `restart` allows.
    pub restart_unhealthy: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        use RestartCondition::{Always, Never, OnFailure, UnlessStopped};
        for (text, expected) in [
            ("no", Ok((Never, None))),
            ("always", Ok((Always, None))),
            ("unless-stopped", Ok((UnlessStopped, None))),
            ("on-failure", Ok((OnFailure, None))),
            ("on-failure:0", Ok((OnFailure, None))),
            ("on-failure:3", Ok((OnFailure, Some(3)))),
            ("on-failure:", Err(InvalidRestart::Count(String::new()))),
            ("on-failure:-1", Err(InvalidRestart::Count("-1".to_owned()))),
            ("on-failure:x", Err(InvalidRestart::Count("x".to_owned()))),
            ("always:3", Err(InvalidRestart::Uncounted("always".to_owned()))),
            ("never", Err(InvalidRestart::Unknown("never".to_owned()))),
            ("Always", Err(InvalidRestart::Unknown("Always".to_owned()))),
        ] {
            let policy = text.parse::<RestartPolicy>().map(|policy| (policy.condition, policy.max_attempts));
            assert_eq!(policy, expected, "{text}");
        }
    }
}
