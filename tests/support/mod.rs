//! What the end-to-end tests have in common.
//!
//! ```text
//! Stack ── temporary home, project folder, the real binary ──▶ Run ──▶ Output, or Started for what goes on
//!   └─ traces() while it is up ──▶ Traces ──▶ assert_gone() after it
//! ```
//!
//! A test drives the binary as a person would, in a home of its own, so tests can run at the same time and under any
//! account. What a test needs from the host it declares with [`needs!`]; what is missing is a skip that is
//! printed, counted and added to the file that `NSCOMPOSE_TEST_SKIPS` names; with `NSCOMPOSE_TEST_REQUIRE=all` it is a
//! failure, unless it is for another kind of account. Nothing waits for a time to pass: [`wait_for`] waits for what has to be.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test binary uses a part of this")]

pub(crate) mod image;
mod need;
mod run;
mod stack;
mod traces;

pub(crate) use need::{Need, is_root, lacks, program};
pub(crate) use run::{Output, PATIENCE, Run, Started, wait_for};
pub(crate) use stack::{Container, Stack, free_port, free_udp_port};
pub(crate) use traces::{Traces, Watch};

/// Skips the test when the host lacks something: `needs!(Need::Root, Need::Program("nc"));`
macro_rules! needs {
    ($($need:expr),+ $(,)?) => {
        if crate::support::lacks(&[$($need),+]) {
            return;
        }
    };
}
pub(crate) use needs;
