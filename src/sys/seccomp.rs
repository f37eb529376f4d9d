//! Filters of system calls: seccomp(2), which no library of ours wraps.

use std::io;

use libc::{sock_filter, sock_fprog};

/// Lets `program` decide about all further system calls of the calling thread, and of whatever it makes or becomes.
///
/// `log` has what is denied written to the log of the kernel. Speculation of the processor is left as it is for everybody
/// (SECCOMP_FILTER_FLAG_SPEC_ALLOW, Linux 4.17).
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN in the user namespace, unless no_new_privs is set; EINVAL for a program that the kernel does
/// not take.
pub fn install(program: &[sock_filter], log: bool) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    // SAFETY: `program` and what it points to live through the call, which copies them and writes nothing.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags as libc::c_uint, &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
