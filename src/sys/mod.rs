//! The Linux edge: the only place with `unsafe`, and the types that own a kernel object.
//!
//! Each function does one thing the kernel offers, takes typed descriptors and returns our types; nothing here decides
//! anything. What rustix and nix offer as safe calls is used from there by the folders above.
#![expect(unsafe_code, reason = "the one place for calls that no library wraps")]

pub mod bpf;
pub mod fds;
pub mod memory;
pub mod mount;
mod namespace;
pub mod process;
mod readiness;
pub mod seccomp;

pub use namespace::{Namespace, NamespaceKind, Netns, host_name_of, inode_of};
pub use process::{ExitStatus, PidFd};
pub use readiness::wait_on;
