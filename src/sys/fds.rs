//! Descriptors that go with bytes through a unix stream socket (SCM_RIGHTS, unix(7)).
//!
//! ```text
//! send(bytes, fds) ─► [ bytes with fds on their first one ] ─► receive ─► how many bytes, and fds
//! ```
//!
//! A receive never reads past the bytes that descriptors came with, but may read what was sent before them
//! (`unix_stream_read_generic` in net/unix/af_unix.c): descriptors sent with a single byte belong to the last byte of
//! what is received.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// The most descriptors of one send: standard input, output and error. The kernel closes those that a receiver has no
/// room for.
pub const MAX_FDS: usize = 4;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// Sends some of `bytes`, at least one, with all of `fds`, at most [`MAX_FDS`]. They stay the caller's as well.
///
/// # Errors
/// sendmsg(2)'s; `WouldBlock` when nothing was sent. `InvalidInput` for too many descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The buffer's padding may have room for one more.
    let mut fits = || fds.len() <= MAX_FDS && control.push(SendAncillaryMessage::ScmRights(fds));
    if !fds.is_empty() && !fits() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes, and appends the descriptors that came with them; they close on exec. 0 is the end.
///
/// # Errors
/// recvmsg(2)'s.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_arrive_with_the_last_byte_of_what_is_received() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut kept, sent) = UnixStream::pair().unwrap();
        (&a).write_all(b"before").unwrap();
        assert_eq!(send(&a, b"\n", &[sent.as_fd(), a.as_fd()]).unwrap(), 1);
        (&a).write_all(b"after").unwrap();
        drop(sent);
        let (mut buffer, mut fds) = ([0; 64], Vec::new());
        let count = receive(&b, &mut buffer, &mut fds).unwrap();
        assert_eq!((&buffer[..count], fds.len()), (&b"before\n"[..], 2));
        UnixStream::from(fds.swap_remove(0)).write_all(b"x").unwrap();
        kept.read_exact(&mut [0]).unwrap();
        let count = receive(&b, &mut buffer, &mut fds).unwrap();
        assert_eq!((&buffer[..count], fds.len()), (&b"after"[..], 1));
        drop((a, fds));
        assert_eq!(receive(&b, &mut buffer, &mut Vec::new()).unwrap(), 0);
    }

    #[test]
    fn too_many_are_refused() {
        let (a, _b) = UnixStream::pair().unwrap();
        let error = send(&a, b"\n", &[a.as_fd(); MAX_FDS + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
