//! How it is known that a service is healthy.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ImageHealthcheck, Protocol};

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// Nothing; what the image says does not count either.
    None,
    /// A program is run in the container, and ends with 0 if all is well. Never empty.
    Program(Vec<String>),
    /// A shell of the container runs this line, with these as its arguments.
    Shell(String, Vec<String>),
    /// The kernel shows that somebody listens on all of these in the network namespace of the container. Never empty.
    Listening(Vec<ListeningPort>),
}

impl HealthTest {
    /// From the words of a file or an image, the first of which says what the others are. None if they say nothing.
    pub fn of_words(words: &[String]) -> Option<Self> {
        let (kind, rest) = words.split_first()?;
        match kind.as_str() {
            "NONE" => Some(Self::None),
            "CMD" if !rest.is_empty() => Some(Self::Program(rest.to_vec())),
            "CMD-SHELL" => {
                let (line, arguments) = rest.split_first().filter(|(line, _)| !line.trim().is_empty())?;
                Some(Self::Shell(line.clone(), arguments.to_vec()))
            }
            _ => None,
        }
    }
}

/// A port that a program of a container listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListeningPort {
    /// Its number, not 0.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A text that is no port with or without a protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a port: use a number from 1 to 65535, such as `5432` or `53/udp`")]
pub struct InvalidListeningPort(pub String);

impl FromStr for ListeningPort {
    type Err = InvalidListeningPort;

    fn from_str(text: &str) -> Result<Self, InvalidListeningPort> {
        let invalid = || InvalidListeningPort(text.to_owned());
        let (port, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((port, "tcp")) => (port, Protocol::Tcp),
            Some((port, "udp")) => (port, Protocol::Udp),
            Some(_) => return Err(invalid()),
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or_else(invalid)?;
        Ok(Self { port, protocol })
    }
}

impl fmt::Display for ListeningPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// What a file says of it, field by field: those that it leaves out are the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthSettings {
    /// What is looked at.
    pub test: Option<HealthTest>,
    /// Between two looks.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How many failures in a row count.
    pub retries: Option<u32>,
    /// How long failures do not count after the start.
    pub start_period: Option<Duration>,
    /// Between two looks in that time.
    pub start_interval: Option<Duration>,
}

impl HealthSettings {
    /// Takes from the image what the file leaves out (moby, `daemon/commit.go`, `merge`).
    pub fn put_on(&mut self, image: &ImageHealthcheck) {
        if self.test.is_none() {
            self.test = HealthTest::of_words(&image.test);
        }
        self.interval = self.interval.or(image.interval);
        self.timeout = self.timeout.or(image.timeout);
        self.retries = self.retries.or(image.retries);
        self.start_period = self.start_period.or(image.start_period);
        self.start_interval = self.start_interval.or(image.start_interval);
    }

    /// What comes of it with Docker's defaults; none if there is nothing to look at.
    ///
    /// A look at what listens costs next to nothing, so there is one more often, and from the beginning. `shell` runs lines; an
    /// empty one is `/bin/sh -c`.
    pub fn check(&self, shell: &[String]) -> Option<HealthCheck> {
        let test = match self.test.clone()? {
            HealthTest::Shell(line, arguments) => {
                let usual = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = if shell.is_empty() { &usual[..] } else { shell };
                HealthTest::Program(shell.iter().cloned().chain([line]).chain(arguments).collect())
            }
            test => test,
        };
        let ms = Duration::from_millis;
        let (interval, start_period, start_interval) = match test {
            HealthTest::None => return None,
            HealthTest::Program(_) | HealthTest::Shell(..) => (ms(30_000), Duration::ZERO, ms(5_000)),
            HealthTest::Listening(_) => (ms(5_000), ms(60_000), ms(100)),
        };
        Some(HealthCheck {
            test,
            interval: self.interval.unwrap_or(interval),
            timeout: self.timeout.unwrap_or(ms(30_000)),
            retries: self.retries.unwrap_or(3),
            start_period: self.start_period.unwrap_or(start_period),
            start_interval: self.start_interval.unwrap_or(start_interval),
        })
    }
}

/// How it is looked after a container's health, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is looked at: a program or what listens.
    pub test: HealthTest,
    /// From the end of one look to the next.
    pub interval: Duration,
    /// How long one may take until it is ended and counts as a failure.
    pub timeout: Duration,
    /// How many failures in a row make the container unhealthy, at least 1.
    pub retries: u32,
    /// How long failures do not count after the start, unless one look went well.
    pub start_period: Duration,
    /// From the end of one look to the next in that time.
    pub start_interval: Duration,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began, in milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// When it ended, likewise.
    pub end_ms: i64,
    /// How its program ended, as a shell would show it; -1 if it did not end by itself or did not begin.
    pub exit_code: i32,
    /// What it wrote, the first 4096 bytes of both streams; or what was found instead.
    pub output: String,
}

/// What the latest looks at a container found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeLog {
    /// How many have failed in a row and counted.
    pub failing: u32,
    /// The latest, at most [`ProbeLog::KEPT`], oldest first.
    pub results: Vec<ProbeResult>,
}

impl ProbeLog {
    /// How many are kept, as in Docker.
    pub const KEPT: usize = 5;

    /// Adds one and forgets the oldest if there are too many.
    pub fn add(&mut self, result: ProbeResult) {
        self.results.push(result);
        let surplus = self.results.len().saturating_sub(Self::KEPT);
        self.results.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn tests_of_words() {
        for (text, expected) in [
            ("", None),
            ("CMD", None),
            ("CMD true", Some(HealthTest::Program(words("true")))),
            ("CMD curl -f x", Some(HealthTest::Program(words("curl -f x")))),
            ("CMD-SHELL", None),
            ("CMD-SHELL exit", Some(HealthTest::Shell("exit".to_owned(), Vec::new()))),
            ("CMD-SHELL $0 me", Some(HealthTest::Shell("$0".to_owned(), words("me")))),
            ("NONE", Some(HealthTest::None)),
            ("true", None),
        ] {
            assert_eq!(HealthTest::of_words(&words(text)), expected, "{text}");
        }
    }

    #[test]
    fn ports() {
        for (text, expected) in [
            ("80", Some("80/tcp")),
            ("80/tcp", Some("80/tcp")),
            ("53/udp", Some("53/udp")),
            ("65535", Some("65535/tcp")),
            ("0", None),
            ("65536", None),
            ("+80", None),
            ("80/sctp", None),
            ("", None),
            ("/tcp", None),
            ("http", None),
        ] {
            let port = text.parse::<ListeningPort>().ok().map(|port| port.to_string());
            assert_eq!(port.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_the_file_leaves_out_is_the_images() {
        let image = ImageHealthcheck {
            test: words("CMD check"),
            interval: Some(Duration::from_secs(7)),
            timeout: None,
            start_period: Some(Duration::from_secs(8)),
            start_interval: None,
            retries: Some(9),
        };
        let mut said = HealthSettings { retries: Some(1), ..HealthSettings::default() };
        said.put_on(&image);
        let check = said.check(&[]).expect("a check");
        assert_eq!(check.test, HealthTest::Program(words("check")));
        assert_eq!((check.interval, check.timeout), (Duration::from_secs(7), Duration::from_secs(30)));
        assert_eq!((check.retries, check.start_period), (1, Duration::from_secs(8)));
        assert_eq!(check.start_interval, Duration::from_secs(5));

        let mut none = HealthSettings { test: Some(HealthTest::None), ..HealthSettings::default() };
        none.put_on(&image);
        assert_eq!(none.check(&[]), None);
        assert_eq!(HealthSettings::default().check(&[]), None);
        let line =
            HealthSettings { test: Some(HealthTest::Shell("a b".to_owned(), Vec::new())), ..HealthSettings::default() };
        for (shell, expected) in [("", "/bin/sh -c a b"), ("/bash -ec", "/bash -ec a b")] {
            let Some(HealthTest::Program(argv)) = line.check(&words(shell)).map(|check| check.test) else { panic!() };
            assert_eq!((argv.join(" ").as_str(), argv.len()), (expected, 3));
        }
    }

    #[test]
    fn five_results_are_kept() {
        let mut log = ProbeLog::default();
        for exit_code in 0..8 {
            log.add(ProbeResult { start_ms: 0, end_ms: 0, exit_code, output: String::new() });
        }
        assert_eq!(log.results.iter().map(|result| result.exit_code).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    }
}
