//! One supervisor per stack.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

/// What is locked by root for as long as something of the host's own network is changed, by whatever stack wherever it is kept.
pub const HOST_NETWORK_LOCK: &str = "/run/nscompose-network.lock";

/// The exclusive lock of a stack, held until dropped, also across a fork: the last process that holds it lets go. The file
/// says who holds it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another nscompose{} is at work on this stack", holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// Who.
        holder: Option<i32>,
    },
    /// The file cannot be had.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when somebody has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Io { path: path.to_owned(), source };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // Never what somebody else has put there to be overwritten.
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)
                .map_err(failed)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    let _ = file.read_to_string(&mut text);
                    return Err(LockError::Held { holder: text.trim().parse().ok() });
                }
                other => other.map_err(|errno| failed(errno.into()))?,
            }
            // Whoever held it may have removed the file between our open and our lock: then it is nobody's lock.
            let same = std::fs::metadata(path).is_ok_and(|there| {
                file.metadata().is_ok_and(|ours| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
            });
            if same {
                file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }

    /// Whether somebody has the lock. Who wants to take it at this very moment may find that it is not free.
    pub fn is_held(path: &Path) -> bool {
        let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) else { return false };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Writes the caller down as the holder: after a fork it is another process than the one that took it.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn name_holder(&mut self) -> io::Result<()> {
        // Over what is there, which takes no room on a full disk.
        let text = std::process::id().to_string();
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// Takes over a lock that another process has taken and handed on by its descriptor.
    pub fn from_fd(fd: OwnedFd, path: &Path) -> Self {
        Self { file: fd.into(), path: path.to_owned() }
    }

    /// Whether it is the lock of whoever looks for one: its holder may have removed the file.
    pub fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|there| {
            self.file.metadata().is_ok_and(|ours| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
        })
    }

    /// The descriptor that has to stay open for the lock to be held.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Removes the file and lets go.
    ///
    /// # Errors
    /// What unlink(2) says.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("lock");
        let lock = Lock::take(&path).expect("free");
        match Lock::take(&path) {
            Err(LockError::Held { holder }) => assert_eq!(holder, Some(std::process::id() as i32)),
            other => panic!("{other:?}"),
        }
        assert!(Lock::is_held(&path));
        lock.remove().expect("removed");
        assert!(!path.exists() && !Lock::is_held(&path));
        drop(Lock::take(&path).expect("free again"));
    }
}
