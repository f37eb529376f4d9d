//! `security_opt: seccomp=FILE`: a profile in the format of Docker and of the OCI Runtime Specification.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Context, Cursor};
use crate::{
    diagnostics::{Diagnostic, SourceFile, Span, suggest},
    load::{
        paths::{absolute, display},
        read::read,
    },
    model::{
        Capabilities, Capability, Comparison, KernelVersion, SeccompAction, SeccompArch, SeccompCondition,
        SeccompProfile, SeccompRule, When, is_syscall,
    },
};

/// Profiles that have been read, by path; none for one with mistakes, which have been said.
pub(super) type Profiles = HashMap<PathBuf, Option<SeccompProfile>>;

/// Where diagnostics of profiles come among those of other files: after them.
const ORDER: usize = 1 << 20;

/// The profile in a file; relative paths start from the project's folder.
pub(super) fn profile(cx: &mut Context<'_>, text: &str, at: Cursor<'_>, part: Range<usize>) -> Option<SeccompProfile> {
    let path = absolute(cx.directory, Path::new(text));
    if let Some(known) = cx.profiles.get(&path) {
        return known.clone();
    }
    let order = ORDER + cx.profiles.len();
    let profile = match read(order, &path, &display(cx.directory, &path)) {
        Ok(file) => parse(cx, &file),
        Err(wrong) => {
            cx.push(if wrong.span.is_none() { at.at_part(wrong, part) } else { wrong });
            None
        }
    };
    cx.profiles.insert(path, profile.clone());
    profile
}

fn parse(cx: &mut Context<'_>, file: &SourceFile) -> Option<SeccompProfile> {
    let written: Written = match serde_json::from_str(file.text()) {
        Ok(written) => written,
        Err(error) => {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            // The column is that of the last byte that was read.
            let byte = file.line_start(error.line()) + error.column().saturating_sub(1);
            cx.push(
                Diagnostic::error(format!("the seccomp profile cannot be read: {text}")).at(&file.span(byte..byte + 1)),
            );
            return None;
        }
    };
    for name in written.syscalls.iter().flat_map(WrittenRule::calls).filter(|name| !is_syscall(name)) {
        // Docker passes over them as well: a profile may be for kernels and machines of other kinds.
        let what = Diagnostic::warning(format!("there is no system call `{name}` on any machine that nscompose knows"));
        cx.push(what.at(&place_of(file, name)).hint("the rule does nothing for it"));
    }
    match written.settle() {
        Ok(profile) => Some(profile),
        Err((wrong, name)) => {
            cx.push(wrong.at(&place_of(file, &name)));
            None
        }
    }
}

/// Where a text is written first.
fn place_of(file: &SourceFile, text: &str) -> Span {
    let quoted = format!("\"{text}\"");
    let start = file.text().find(&quoted).unwrap_or(0);
    file.span(start..start + quoted.len())
}

/// A profile as it is written. Keys that are not here are mistakes, since what they ask for would not be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    default_action: Action,
    default_errno_ret: Option<ErrorNumber>,
    /// Of Podman: the name beside the number.
    default_errno: Option<ErrorName>,
    #[serde(default)]
    arch_map: Vec<WrittenArchitecture>,
    #[serde(default)]
    architectures: Vec<Architecture>,
    #[serde(default)]
    flags: Vec<FilterFlag>,
    #[serde(default)]
    syscalls: Vec<WrittenRule>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenArchitecture {
    architecture: Architecture,
    #[serde(default)]
    sub_architectures: Option<Vec<Architecture>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenRule {
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: Action,
    errno_ret: Option<ErrorNumber>,
    errno: Option<ErrorName>,
    #[serde(default)]
    args: Option<Vec<WrittenArgument>>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
    #[serde(default)]
    includes: Option<WrittenWhen>,
    #[serde(default)]
    excludes: Option<WrittenWhen>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenArgument {
    index: ArgumentIndex,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenWhen {
    #[serde(default)]
    caps: Option<Vec<CapabilityName>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<MinKernel>,
}

impl Written {
    /// The profile, or what is wrong with it, and the text that it is about.
    fn settle(self) -> Result<SeccompProfile, (Diagnostic, String)> {
        if !self.arch_map.is_empty() && !self.architectures.is_empty() {
            let both = Diagnostic::error("the profile has both `architectures` and `archMap`");
            return Err((both.hint("keep one of them"), "architectures".to_owned()));
        }
        let mut interfaces: Vec<(SeccompArch, Vec<SeccompArch>)> = Vec::new();
        for entry in self.arch_map {
            let subs = entry.sub_architectures.unwrap_or_default();
            interfaces.push((entry.architecture.0, subs.into_iter().map(|arch| arch.0).collect()));
        }
        if !self.architectures.is_empty() {
            let all = self.architectures.into_iter().map(|arch| arch.0).collect();
            interfaces.push((SeccompArch::NATIVE, all));
        }
        let rules: Result<Vec<Vec<SeccompRule>>, _> = self.syscalls.into_iter().map(WrittenRule::settle).collect();
        Ok(SeccompProfile {
            default: self.default_action.settle(self.default_errno_ret, self.default_errno),
            interfaces,
            rules: rules?.into_iter().flatten().collect(),
            log: self.flags.contains(&FilterFlag::Log),
        })
    }
}

impl WrittenRule {
    fn calls(&self) -> impl Iterator<Item = &String> {
        self.name.iter().chain(self.names.iter().flatten())
    }

    fn settle(self) -> Result<Vec<SeccompRule>, (Diagnostic, String)> {
        if let (Some(name), Some(_)) = (&self.name, self.names.as_ref().filter(|names| !names.is_empty())) {
            let both = Diagnostic::error("a rule has both `name` and `names`").hint("keep `names`");
            return Err((both, name.clone()));
        }
        let calls: Vec<String> = self.calls().cloned().collect();
        let action = self.action.settle(self.errno_ret, self.errno);
        let conditions: Vec<SeccompCondition> =
            self.args.unwrap_or_default().iter().map(WrittenArgument::settle).collect();
        let only = self.includes.unwrap_or_default().settle();
        let unless = self.excludes.unwrap_or_default().settle();
        let mut seen = 0_u8;
        let repeated = conditions.iter().any(|condition| {
            let bit = 1 << condition.argument;
            let again = seen & bit != 0;
            seen |= bit;
            again
        });
        // As runc has it: conditions on the same argument, which could hardly hold together, are alternatives, and then all
        // conditions of the rule are.
        let alternatives: Vec<Vec<SeccompCondition>> =
            if repeated { conditions.into_iter().map(|one| vec![one]).collect() } else { vec![conditions] };
        let rule = |conditions| SeccompRule {
            calls: calls.clone(),
            action,
            conditions,
            only: only.clone(),
            unless: unless.clone(),
        };
        Ok(alternatives.into_iter().map(rule).collect())
    }
}

impl WrittenArgument {
    fn settle(&self) -> SeccompCondition {
        let (comparison, value) = match self.op {
            Operator::NotEqual => (Comparison::NotEqual, self.value),
            Operator::Less => (Comparison::Less, self.value),
            Operator::LessOrEqual => (Comparison::LessOrEqual, self.value),
            Operator::Equal => (Comparison::Equal, self.value),
            Operator::GreaterOrEqual => (Comparison::GreaterOrEqual, self.value),
            Operator::Greater => (Comparison::Greater, self.value),
            Operator::MaskedEqual => (Comparison::MaskedEqual(self.value), self.value_two),
        };
        SeccompCondition { argument: self.index.0, comparison, value }
    }
}

impl WrittenWhen {
    fn settle(self) -> When {
        let capabilities: Capabilities = self.caps.unwrap_or_default().into_iter().map(|name| name.0).collect();
        When {
            capabilities,
            machines: self.arches.unwrap_or_default(),
            kernel: self.min_kernel.map(|version| version.0),
        }
    }
}

/// `SCMP_ACT_…`.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
}

impl Action {
    fn settle(self, number: Option<ErrorNumber>, name: Option<ErrorName>) -> SeccompAction {
        const EPERM: u16 = libc::EPERM as u16;
        let number = number.map(|number| number.0).or(name.map(|name| name.0)).unwrap_or(EPERM);
        match self {
            Self::Allow => SeccompAction::Allow,
            Self::Log => SeccompAction::Log,
            Self::Errno => SeccompAction::Errno(number),
            Self::Trap => SeccompAction::Trap,
            Self::Trace => SeccompAction::Trace(number),
            Self::KillThread => SeccompAction::KillThread,
            Self::KillProcess => SeccompAction::KillProcess,
        }
    }
}

/// `SCMP_CMP_…`.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// What seccomp(2) may be told. Speculation is left to the rest of the machine (as runc does unless it is told otherwise), and
/// there is one thread when the filter is installed, so two of them change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum FilterFlag {
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
}

/// A number of an error; the kernel takes none above MAX_ERRNO.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
struct ErrorNumber(u16);

impl TryFrom<u64> for ErrorNumber {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        let valid = u16::try_from(number).ok().filter(|number| *number <= 4095);
        valid.map(Self).ok_or_else(|| format!("{number} is not the number of an error, which is at most 4095"))
    }
}

/// The name of an error, as far as profiles have them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct ErrorName(u16);

impl TryFrom<String> for ErrorName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = [
            ("EPERM", libc::EPERM),
            ("ENOENT", libc::ENOENT),
            ("EAGAIN", libc::EAGAIN),
            ("ENOMEM", libc::ENOMEM),
            ("EACCES", libc::EACCES),
            ("EINVAL", libc::EINVAL),
            ("ENOSYS", libc::ENOSYS),
            ("EAFNOSUPPORT", libc::EAFNOSUPPORT),
            ("EOPNOTSUPP", libc::EOPNOTSUPP),
        ];
        let found = known.iter().find(|(text, _)| *text == name);
        found
            .and_then(|(_, number)| u16::try_from(*number).ok())
            .map(Self)
            .ok_or_else(|| format!("`{name}` is not the name of an error that is known here: use `errnoRet`"))
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
struct ArgumentIndex(u8);

impl TryFrom<u64> for ArgumentIndex {
    type Error = String;

    fn try_from(index: u64) -> Result<Self, String> {
        let valid = u8::try_from(index).ok().filter(|index| *index <= 5);
        valid.map(Self).ok_or_else(|| format!("a system call has no argument {index}: they are 0 to 5"))
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Architecture(SeccompArch);

impl TryFrom<String> for Architecture {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let unknown = || format!("`{name}` is not an architecture, such as `SCMP_ARCH_X86_64`");
        SeccompArch::of_profile(&name).map(Self).ok_or_else(unknown)
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct CapabilityName(Capability);

impl TryFrom<String> for CapabilityName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse().map(Self).map_err(|error: crate::model::UnknownCapability| {
            let meant = suggest(name.trim_start_matches("CAP_"), Capability::names());
            meant.map_or(error.to_string(), |meant| format!("{error}: did you mean `CAP_{meant}`?"))
        })
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct MinKernel(KernelVersion);

impl TryFrom<String> for MinKernel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers: Vec<&str> = text.split('.').collect();
        let version = (numbers.len() == 2).then(|| KernelVersion::of_release(&text)).flatten();
        version.map(Self).ok_or_else(|| format!("`{text}` is not a version of the kernel, such as `5.9`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(json: &str) -> SeccompProfile {
        let written: Written = serde_json::from_str(json).expect("JSON");
        written.settle().expect("a profile")
    }

    #[test]
    fn a_profile_is_read() {
        let profile = settled(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["a", "b"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"], "minKernel": "4.8"}},
                {"name": "c", "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "args": null, "comment": ""},
                {"names": ["d"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 3, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}
            ]}"#,
        );
        assert_eq!(profile.default, SeccompAction::Errno(38));
        let [ab, c, first, second] = &profile.rules[..] else { panic!("{:?}", profile.rules) };
        assert_eq!(ab.calls, ["a", "b"]);
        assert_eq!(ab.only.kernel, Some(KernelVersion(4, 8)));
        assert_eq!(c.action, SeccompAction::Errno(38));
        let equal = SeccompCondition { argument: 0, comparison: Comparison::Equal, value: 1 };
        let masked = SeccompCondition { argument: 0, comparison: Comparison::MaskedEqual(3), value: 2 };
        assert_eq!((&first.conditions[..], &second.conditions[..]), (&[equal][..], &[masked][..]));
    }

    #[test]
    fn what_cannot_be_done_is_no_profile() {
        for (json, says) in [
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "unknown variant `SCMP_ACT_NOTIFY`"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#, "unknown field `listenerPath`"),
            (r#"{"syscalls": []}"#, "missing field `defaultAction`"),
            (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}"#, "5000 is not the number of an error"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYSADMIN"]}}]}"#,
                "did you mean `CAP_SYS_ADMIN`?",
            ),
        ] {
            let error = serde_json::from_str::<Written>(json).expect_err(json).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
