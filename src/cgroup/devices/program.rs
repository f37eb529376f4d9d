//! The program that decides: rules, as instructions of eBPF (RFC 9669).
//!
//! ```text
//! struct bpf_cgroup_dev_ctx { u32 access_type;  /* (access << 16) | type */  u32 major;  u32 minor; }
//!
//! w2 = type, w3 = access, w4 = major, w5 = minor
//! for each rule:  if kind, access, major, minor fit { return 1 }
//! return 0
//! ```

use crate::model::{DeviceAccess, DeviceKind, DeviceRule};

/// linux/bpf.h: BPF_DEVCG_*.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Instruction codes (RFC 9669, tables 1 to 10).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE32_REGISTER: u8 = 0xbc;
const AND32: u8 = 0x54;
const SHIFT_RIGHT32: u8 = 0x74;
const JUMP32_UNEQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from_ne_bytes({
        let ([o0, o1], [i0, i1, i2, i3]) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
        // The kernel's bit fields: the destination is in the low half on little-endian machines.
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        [code, registers, o0, o1, i0, i1, i2, i3]
    })
}

/// The instructions for rules that allow.
pub(super) fn build(rules: &[DeviceRule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE32_REGISTER, 3, 2, 0, 0),
        instruction(AND32, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in merged(rules) {
        let mut tests: Vec<(u8, i32)> = Vec::new();
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => tests.push((2, BLOCK)),
            DeviceKind::Char => tests.push((2, CHAR)),
        }
        tests.extend(rule.major.map(|major| (4, major as i32)));
        tests.extend(rule.minor.map(|minor| (5, minor as i32)));
        let DeviceAccess { read, write, mknod } = rule.access;
        let allowed = i32::from(mknod) * MKNOD + i32::from(read) * READ + i32::from(write) * WRITE;
        // The rest of the rule: the jumps after this one, the test of the access (three) and the end (two).
        let mut rest = tests.len() as i16 + 4;
        for (register, value) in tests {
            program.push(instruction(JUMP32_UNEQUAL, register, 0, rest, value));
            rest -= 1;
        }
        program.extend([
            // What is asked for and not allowed.
            instruction(MOVE32_REGISTER, 1, 3, 0, 0),
            instruction(AND32, 1, 0, 0, !allowed),
            instruction(JUMP32_UNEQUAL, 1, 0, 2, 0),
            instruction(MOVE, 0, 0, 0, 1),
            instruction(EXIT, 0, 0, 0, 0),
        ]);
    }
    program.extend([instruction(MOVE, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

/// Rules for the same devices as one: who may read by one and write by another may do both at once.
fn merged(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let mut merged: Vec<DeviceRule> = Vec::new();
    for rule in rules {
        let same =
            |other: &&mut DeviceRule| (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor);
        match merged.iter_mut().find(same) {
            Some(known) => {
                known.access.read |= rule.access.read;
                known.access.write |= rule.access.write;
                known.access.mknod |= rule.access.mknod;
            }
            None => merged.push(*rule),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says, by an interpreter of the few instructions that there are.
    fn run(program: &[u64], kind: i32, access: i32, major: i32, minor: i32) -> i32 {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0_i32; 11], 0_usize);
        loop {
            let [code, both, o0, o1, i0, i1, i2, i3] = program[at].to_ne_bytes();
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let (offset, immediate) = (i16::from_ne_bytes([o0, o1]), i32::from_ne_bytes([i0, i1, i2, i3]));
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4],
                MOVE => registers[to] = immediate,
                MOVE32_REGISTER => registers[to] = registers[from],
                AND32 => registers[to] &= immediate,
                SHIFT_RIGHT32 => registers[to] = (registers[to] as u32 >> immediate) as i32,
                JUMP32_UNEQUAL if registers[to] != immediate => at = at.strict_add_signed(offset.into()),
                JUMP32_UNEQUAL => {}
                EXIT => return registers[0],
                _ => panic!("instruction {code:x}"),
            }
        }
    }

    #[test]
    fn rules_allow_what_they_say_and_no_more() {
        let rules =
            ["c 1:3 r", "c 1:3 w", "b 8:* rm", "a 10:200 rwm", "c *:* m"].map(|rule| rule.parse().expect("a rule"));
        let program = build(&rules);
        for (kind, access, major, minor, allowed) in [
            (CHAR, READ, 1, 3, 1),
            (CHAR, READ | WRITE, 1, 3, 1),
            (CHAR, READ | MKNOD, 1, 3, 0),
            (CHAR, MKNOD, 77, 1, 1),
            (CHAR, READ, 1, 4, 0),
            (BLOCK, READ, 1, 3, 0),
            (BLOCK, READ, 8, 5, 1),
            (BLOCK, READ | MKNOD, 8, 5, 1),
            (BLOCK, WRITE, 8, 5, 0),
            (BLOCK, MKNOD, 9, 5, 0),
            (BLOCK, READ | WRITE | MKNOD, 10, 200, 1),
            (CHAR, READ | WRITE, 10, 200, 1),
            (CHAR, READ | WRITE, 10, 201, 0),
        ] {
            let said = run(&program, kind, access, major, minor);
            assert_eq!(said, allowed, "kind {kind} access {access} {major}:{minor}");
        }
        assert_eq!(run(&build(&[]), CHAR, READ, 1, 3), 0);
        let all = build(&["a *:* rwm".parse().expect("a rule")]);
        assert_eq!(run(&all, BLOCK, READ | WRITE | MKNOD, 259, 1_048_575), 1);
    }
}
