//! Messages between the supervisor, the keeper and the keeper's helpers: a length, JSON, and descriptors beside it.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::sys;

/// Longest message that is believed. An environment may be large; more than this is a broken peer.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A message as bytes: four of length (little-endian), then JSON.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// How long a message is that begins with these bytes.
pub(super) fn length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(bytes) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    Ok(length)
}

/// Sends a message on a blocking socket.
///
/// # Errors
/// What sendmsg(2) says; EMFILE when there is no room for descriptors, and then nothing has been sent.
pub(in crate::sandbox) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = encode(message)?;
    let mut patience = sys::fds::Patience::default();
    let mut sent = 0;
    while sent < bytes.len() {
        // The descriptors travel with the first byte.
        let fds = if sent == 0 { fds } else { &[] };
        match sys::fds::send(socket, &bytes[sent..], fds) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => thread::sleep(patience.after(&e).ok_or(e)?),
        }
    }
    Ok(())
}

/// Receives a message on a blocking socket; none when the other side has gone.
pub(in crate::sandbox) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_with(|buffer| sys::fds::receive(socket, buffer))
}

/// The same, with fewer descriptors than came when this process cannot open more: whoever needs them says so.
pub(in crate::sandbox) fn receive_what_fits<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_with(|buffer| sys::fds::receive_what_fits(socket, buffer).map(|(n, fds, _)| (n, fds)))
}

fn receive_with<T: DeserializeOwned>(
    receive: impl Fn(&mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut fds = Vec::new();
    let mut fill = |buffer: &mut [u8]| -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match receive(&mut buffer[filled..]) {
                Ok((0, _)) => return Ok(false),
                Ok((n, more)) => {
                    filled += n;
                    fds.extend(more);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    };
    let mut length = [0; 4];
    if !fill(&mut length)? {
        return Ok(None);
    }
    let mut body = vec![0; self::length(length)?];
    if !fill(&mut body)? {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}
