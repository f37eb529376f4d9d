//! From rules to a program of the classic BPF (seccomp(2), bpf(4)).
//!
//! ```text
//! which interface? ──▶ number of the call: a search by halves ──▶ conditions, in order ──▶ what becomes of it
//! ```
//!
//! Numbers that are treated alike and follow each other are one range, so a filter with some hundred calls has a search
//! of seven or eight steps. Jumps go forward only, by 255 instructions at most where there is a condition.

use std::collections::BTreeMap;

use libc::sock_filter;

use crate::model::{Comparison, SeccompAction, SeccompArch, SeccompCondition, SeccompRule, X32_BIT, syscall_number};

/// Most instructions that the kernel takes (BPF_MAXINSNS).
const MOST_INSTRUCTIONS: usize = 4096;

// Offsets in struct seccomp_data; little-endian, as both machines are.
const NUMBER: u32 = 0;
const INTERFACE: u32 = 4;
const ARGUMENTS: u32 = 16;

// Instructions: class, size or operation, source (linux/bpf_common.h).
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// A program that is longer than the kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Compiles the rules that apply, for these interfaces, the most usual first.
pub(super) fn compile(
    rules: &[&SeccompRule],
    default: SeccompAction,
    interfaces: &[SeccompArch],
) -> Result<Vec<sock_filter>, TooLong> {
    let mut program = vec![statement(LOAD, INTERFACE)];
    let mut done: Vec<u32> = Vec::new();
    for interface in interfaces {
        let Some(audit) = interface.audit_number().filter(|audit| !done.contains(audit)) else { continue };
        done.push(audit);
        // x86-64 and x32 come with the same number and are told apart by a bit of the call's.
        let same: Vec<SeccompArch> =
            interfaces.iter().copied().filter(|other| other.audit_number() == Some(audit)).collect();
        let calls = search(&ranges(rules, default, &same));
        program.push(jump(IF_EQUAL, audit, 1, 0));
        program.push(statement(JUMP, 1 + calls.len() as u32));
        program.push(statement(LOAD, NUMBER));
        program.extend(calls);
    }
    // Calls of an interface that the profile says nothing of: what they do is not known.
    program.push(statement(RETURN, value(SeccompAction::KillProcess)));
    if program.len() > MOST_INSTRUCTIONS { Err(TooLong) } else { Ok(program) }
}

/// What becomes of a call: the first case whose conditions all hold counts, else the last word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fate {
    cases: Vec<(Vec<SeccompCondition>, u32)>,
    otherwise: u32,
}

impl Fate {
    fn always(action: SeccompAction) -> Self {
        Self { cases: Vec::new(), otherwise: value(action) }
    }
}

/// Ranges of numbers by their first, from 0 on, each with what becomes of its calls; no two beside each other are alike.
fn ranges(rules: &[&SeccompRule], default: SeccompAction, interfaces: &[SeccompArch]) -> Vec<(u32, Fate)> {
    let mut all: Vec<(u32, Fate)> = vec![(0, Fate::always(default))];
    let mut add = |first: u32, fate: Fate| match all.last_mut() {
        Some(last) if last.1 == fate => {}
        Some(last) if last.0 == first => last.1 = fate,
        _ => all.push((first, fate)),
    };
    let mut sorted = interfaces.to_vec();
    // Those of x32 have the greater numbers.
    sorted.sort_by_key(|interface| *interface == SeccompArch::X32);
    for interface in sorted {
        let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
        let mut settled: Vec<u32> = Vec::new();
        for rule in rules {
            for number in rule.calls.iter().filter_map(|name| syscall_number(name, interface)) {
                let fate = fates.entry(number).or_insert_with(|| Fate::always(default));
                if !rule.conditions.is_empty() {
                    fate.cases.push((rule.conditions.clone(), value(rule.action)));
                } else if !settled.contains(&number) {
                    settled.push(number);
                    fate.otherwise = value(rule.action);
                }
            }
        }
        if interface == SeccompArch::X32 {
            add(X32_BIT, Fate::always(default));
        }
        let mut next = None;
        for (number, fate) in fates {
            if next.is_some_and(|next| next < number) || next.is_none() {
                add(next.unwrap_or(if interface == SeccompArch::X32 { X32_BIT } else { 0 }), Fate::always(default));
            }
            add(number, fate);
            next = Some(number + 1);
        }
        if let Some(next) = next {
            // As runc has it: of calls that are newer than all that the profile knows it is said that they are not there, so
            // that programs take older ones instead.
            let newer = match default {
                SeccompAction::Errno(_) => SeccompAction::Errno(libc::ENOSYS as u16),
                other => other,
            };
            add(next, Fate::always(newer));
        }
    }
    if interfaces.contains(&SeccompArch::X86_64) && !interfaces.contains(&SeccompArch::X32) {
        add(X32_BIT, Fate::always(SeccompAction::KillProcess));
    }
    all
}

/// A search by halves for the range that the number in the accumulator is in.
fn search(ranges: &[(u32, Fate)]) -> Vec<sock_filter> {
    let [(_, fate)] = ranges else {
        if ranges.is_empty() {
            return Vec::new();
        }
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let (first, below, above) = (above[0].0, search(below), search(above));
        // Where the way is too long for a condition, a plain jump takes it.
        let mut code = match u8::try_from(below.len()) {
            Ok(length) => vec![jump(IF_NOT_LESS, first, length, 0)],
            Err(_) => vec![jump(IF_NOT_LESS, first, 0, 1), statement(JUMP, below.len() as u32)],
        };
        code.extend(below);
        code.extend(above);
        return code;
    };
    let mut code = Vec::new();
    for (conditions, action) in &fate.cases {
        // From the last to the first: each has to know how far it is to the next case.
        let mut case = vec![statement(RETURN, *action)];
        for condition in conditions.iter().rev() {
            let mut check = check(condition, case.len() as u8);
            check.append(&mut case);
            case = check;
        }
        code.extend(case);
    }
    code.push(statement(RETURN, fate.otherwise));
    code
}

/// Goes on behind itself if the condition holds, else `behind` instructions further. Six conditions take some forty at most.
fn check(condition: &SeccompCondition, behind: u8) -> Vec<sock_filter> {
    let low = ARGUMENTS + 8 * u32::from(condition.argument);
    let (load_high, load_low) = (statement(LOAD, low + 4), statement(LOAD, low));
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high_value, low_value) = halves(condition.value);
    // A jump over the rest of these instructions, `left` of them, and the case behind.
    let fail = |left: u8| left + behind;
    match condition.comparison {
        Comparison::Equal => {
            vec![load_high, jump(IF_EQUAL, high_value, 0, fail(2)), load_low, jump(IF_EQUAL, low_value, 0, fail(0))]
        }
        Comparison::NotEqual => {
            vec![load_high, jump(IF_EQUAL, high_value, 0, 2), load_low, jump(IF_EQUAL, low_value, fail(0), 0)]
        }
        Comparison::Greater | Comparison::GreaterOrEqual => {
            let last = if condition.comparison == Comparison::Greater { IF_GREATER } else { IF_NOT_LESS };
            vec![
                load_high,
                jump(IF_GREATER, high_value, 3, 0),
                jump(IF_EQUAL, high_value, 0, fail(2)),
                load_low,
                jump(last, low_value, 0, fail(0)),
            ]
        }
        Comparison::Less | Comparison::LessOrEqual => {
            let last = if condition.comparison == Comparison::Less { IF_NOT_LESS } else { IF_GREATER };
            vec![
                load_high,
                jump(IF_GREATER, high_value, fail(3), 0),
                jump(IF_EQUAL, high_value, 0, 2),
                load_low,
                jump(last, low_value, fail(0), 0),
            ]
        }
        Comparison::MaskedEqual(mask) => {
            let (high_mask, low_mask) = halves(mask);
            vec![
                load_high,
                statement(AND, high_mask),
                jump(IF_EQUAL, high_value & high_mask, 0, fail(3)),
                load_low,
                statement(AND, low_mask),
                jump(IF_EQUAL, low_value & low_mask, 0, fail(0)),
            ]
        }
    }
}

/// What a filter returns for an action (linux/seccomp.h).
fn value(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::Allow => libc::SECCOMP_RET_ALLOW,
        SeccompAction::Log => libc::SECCOMP_RET_LOG,
        SeccompAction::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
        SeccompAction::Trap => libc::SECCOMP_RET_TRAP,
        SeccompAction::Trace(number) => libc::SECCOMP_RET_TRACE | u32::from(number),
        SeccompAction::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        SeccompAction::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
    }
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::When;

    /// Runs a program as the kernel would, and fails where that would not take it.
    fn run(program: &[sock_filter], interface: SeccompArch, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [0; 64];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&interface.audit_number().expect("a number").to_le_bytes());
        for (i, argument) in arguments.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&argument.to_le_bytes());
        }
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let mut go = |yes: bool| at += usize::from(if yes { jt } else { jf });
            match code {
                LOAD => a = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().expect("four bytes")),
                AND => a &= k,
                JUMP => at += k as usize,
                IF_EQUAL => go(a == k),
                IF_GREATER => go(a > k),
                IF_NOT_LESS => go(a >= k),
                RETURN => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn rule(call: &str, action: SeccompAction, conditions: &[(u8, Comparison, u64)]) -> SeccompRule {
        let conditions = conditions.iter();
        SeccompRule {
            calls: vec![call.to_owned()],
            action,
            conditions: conditions
                .map(|(argument, comparison, value)| SeccompCondition {
                    argument: *argument,
                    comparison: *comparison,
                    value: *value,
                })
                .collect(),
            only: When::default(),
            unless: When::default(),
        }
    }

    const EPERM: SeccompAction = SeccompAction::Errno(1);
    const ALL: [SeccompArch; 3] = [SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32];

    #[test]
    fn each_comparison_looks_at_all_64_bits() {
        let values = [0, 1, 7, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0007, 0x7_0000_0001, u64::MAX];
        for value in values {
            for comparison in [
                Comparison::Equal,
                Comparison::NotEqual,
                Comparison::Less,
                Comparison::LessOrEqual,
                Comparison::Greater,
                Comparison::GreaterOrEqual,
                Comparison::MaskedEqual(0x1_0000_0005),
            ] {
                let rule = rule("read", SeccompAction::Allow, &[(3, comparison, value), (0, Comparison::Equal, 5)]);
                let program = compile(&[&rule], EPERM, &ALL).expect("short enough");
                for argument in values {
                    let holds = match comparison {
                        Comparison::Equal => argument == value,
                        Comparison::NotEqual => argument != value,
                        Comparison::Less => argument < value,
                        Comparison::LessOrEqual => argument <= value,
                        Comparison::Greater => argument > value,
                        Comparison::GreaterOrEqual => argument >= value,
                        Comparison::MaskedEqual(mask) => argument & mask == value & mask,
                    };
                    let say = |first| run(&program, SeccompArch::X86_64, 0, [first, 0, 0, argument, 0, 0]);
                    let expected = if holds { libc::SECCOMP_RET_ALLOW } else { libc::SECCOMP_RET_ERRNO | 1 };
                    assert_eq!(say(5), expected, "{argument:#x} {comparison:?} {value:#x}");
                    assert_eq!(say(4), libc::SECCOMP_RET_ERRNO | 1);
                }
            }
        }
    }

    #[test]
    fn every_call_of_every_interface_gets_what_the_rules_say() {
        let profile = super::super::default::profile();
        let rules: Vec<&SeccompRule> =
            profile.rules.iter().filter(|rule| rule.only == When::default() && rule.conditions.is_empty()).collect();
        let program = compile(&rules, EPERM, &ALL).expect("short enough");
        for interface in ALL {
            let numbers: BTreeMap<u32, u32> = rules
                .iter()
                .rev()
                .flat_map(|rule| rule.calls.iter().map(|call| (call, rule.action)))
                .filter_map(|(call, action)| Some((syscall_number(call, interface)?, value(action))))
                .collect();
            let last = *numbers.keys().next_back().expect("some");
            let first = if interface == SeccompArch::X32 { X32_BIT } else { 0 };
            for number in first..last + 100 {
                let default = libc::SECCOMP_RET_ERRNO | if number > last { libc::ENOSYS as u32 } else { 1 };
                let expected = numbers.get(&number).copied().unwrap_or(default);
                assert_eq!(run(&program, interface, number, [0; 6]), expected, "{interface:?} {number}");
            }
        }
        assert_eq!(run(&program, SeccompArch::AArch64, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn an_interface_that_is_not_named_ends_the_process() {
        let program =
            compile(&[&rule("read", SeccompAction::Allow, &[])], EPERM, &[SeccompArch::X86_64]).expect("short");
        for (interface, number) in [(SeccompArch::X86, 3), (SeccompArch::X32, X32_BIT)] {
            assert_eq!(run(&program, interface, number, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        }
        assert_eq!(run(&program, SeccompArch::X86_64, 0, [0; 6]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn conditions_come_before_rules_without_and_the_first_counts() {
        let rules = [
            rule("read", SeccompAction::Allow, &[]),
            rule("read", SeccompAction::Errno(7), &[(0, Comparison::Less, 10)]),
            rule("read", SeccompAction::Errno(8), &[(0, Comparison::Less, 20)]),
            rule("read", SeccompAction::KillThread, &[]),
        ];
        let rules: Vec<&SeccompRule> = rules.iter().collect();
        let program = compile(&rules, EPERM, &ALL).expect("short");
        let say = |argument| run(&program, SeccompArch::X86_64, 0, [argument, 0, 0, 0, 0, 0]);
        assert_eq!((say(5), say(15)), (libc::SECCOMP_RET_ERRNO | 7, libc::SECCOMP_RET_ERRNO | 8));
        assert_eq!(say(25), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn what_the_kernel_would_not_take_is_told() {
        let many: Vec<SeccompRule> = (0..2000).map(|i| rule("read", EPERM, &[(0, Comparison::Equal, i)])).collect();
        let rules: Vec<&SeccompRule> = many.iter().collect();
        assert_eq!(compile(&rules, EPERM, &ALL).err(), Some(TooLong));
    }
}
