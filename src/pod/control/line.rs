//! Messages as lines of JSON, and the descriptors that they carry.
//!
//! ```text
//! Sender: queue ─► line by line ─► socket ─► buffer ─► Receiver: message by message
//!                    newline + descriptors (SCM_RIGHTS)
//! ```

use std::collections::VecDeque;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::sys::fds;

/// The longest line either side accepts, bytes: a status of 1,000 containers with messages of 4 KiB fits.
pub const LINE_LIMIT: usize = 8 << 20;

/// Encodes one message as a line.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serialising these types cannot fail: no map has a key that is not a string.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// An encoded message with the descriptors that it carries, and how much of it was written.
#[derive(Debug, Default)]
pub(in crate::pod) struct Line {
    text: Vec<u8>,
    carried: Vec<OwnedFd>,
    written: usize,
}

impl Line {
    pub(in crate::pod) fn of<T: Serialize>(message: &T, carried: Vec<OwnedFd>) -> Self {
        Self { text: encode(message), carried, written: 0 }
    }

    /// Whether all of it was written.
    pub(in crate::pod) fn is_written(&self) -> bool {
        self.written == self.text.len()
    }

    /// Writes what is left of it. Safe to cancel: the next call goes on from there.
    pub(in crate::pod) async fn write(&mut self, to: &UnixStream) -> io::Result<()> {
        while !self.is_written() {
            let rest = &self.text[self.written..];
            let (bytes, carried) = match (&self.carried[..], rest.len()) {
                ([], _) => (rest, &[][..]),
                (carried, 1) => (rest, carried),
                // Descriptors belong to the byte that they are sent with.
                (_, length) => (&rest[..length - 1], &[][..]),
            };
            let carried: Vec<_> = carried.iter().map(AsFd::as_fd).collect();
            self.written += to.async_io(Interest::WRITABLE, || fds::send(to, bytes, &carried)).await?;
        }
        // The other side has its own by now.
        self.carried.clear();
        Ok(())
    }
}

/// Messages on their way, in order: whoever sends waits for no reader.
pub struct Sender<T> {
    stream: OwnedWriteHalf,
    lines: VecDeque<Line>,
    message: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
    /// Sends over this half of the control socket.
    pub fn new(stream: OwnedWriteHalf) -> Self {
        Self { stream, lines: VecDeque::new(), message: PhantomData }
    }

    /// Takes a message with the descriptors that it carries. How many may wait is for the caller to bound.
    pub fn push(&mut self, message: &T, carried: Vec<OwnedFd>) {
        self.lines.push_back(Line::of(message, carried));
    }

    /// How many messages have not been sent in full.
    pub fn waiting(&self) -> usize {
        self.lines.len()
    }

    /// Sends what waits. Where nobody reads any more it is dropped; the [`Receiver`] notices that. Safe to cancel:
    /// what was sent in part goes on from there.
    pub async fn flush(&mut self) {
        while let Some(line) = self.lines.front_mut() {
            match line.write(self.stream.as_ref()).await {
                Ok(()) => drop(self.lines.pop_front()),
                Err(_) => self.lines.clear(),
            }
        }
    }
}

/// Sends one message from a process without a runtime.
///
/// # Errors
/// The socket's.
pub fn send_blocking<T: Serialize>(
    mut to: &StdUnixStream,
    message: &T,
    carried: &[OwnedFd],
) -> io::Result<()> {
    let line = encode(message);
    let (newline, text) = line.split_last().ok_or(io::ErrorKind::InvalidInput)?;
    to.write_all(text)?;
    let carried: Vec<_> = carried.iter().map(AsFd::as_fd).collect();
    fds::send(to, &[*newline], &carried).map(drop)
}

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// The messages that arrive.
pub struct Receiver<T> {
    stream: OwnedReadHalf,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
    /// How far it is known to have no newline.
    searched: usize,
    /// What came with the last byte of the buffer.
    carried: Vec<OwnedFd>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives from this half of the control socket.
    pub fn new(stream: OwnedReadHalf) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0, carried: Vec::new(), message: PhantomData }
    }

    /// The next message, with what it carries; `None` when the other side is gone, or sends a line beyond
    /// [`LINE_LIMIT`]. Safe to cancel: a line read in part is kept.
    pub async fn next(&mut self) -> Option<(T, Vec<OwnedFd>)> {
        loop {
            while let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let end = self.searched + end + 1;
                let message = serde_json::from_slice(&self.buffer[..end]);
                self.buffer.drain(..end);
                self.searched = 0;
                // Nothing is read past the byte that descriptors come with.
                let carried =
                    if self.buffer.is_empty() { std::mem::take(&mut self.carried) } else { Vec::new() };
                match message {
                    Ok(message) => return Some((message, carried)),
                    Err(error) => tracing::warn!("a control message cannot be read: {error}"),
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= LINE_LIMIT || !self.carried.is_empty() || !self.read().await {
                return None;
            }
        }
    }

    /// Reads what is there; `false` at the end.
    async fn read(&mut self) -> bool {
        let Self { stream, buffer, carried, .. } = self;
        let stream: &UnixStream = (*stream).as_ref();
        let length = buffer.len();
        let read = stream
            .async_io(Interest::READABLE, || {
                buffer.resize(length + READ_BYTES, 0);
                let read = fds::receive(stream, &mut buffer[length..], carried);
                buffer.truncate(length + read.as_ref().copied().unwrap_or(0));
                read
            })
            .await;
        matches!(read, Ok(1..))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::time::Duration;

    use super::*;
    use crate::pod::control::Request;

    fn pair<T: Serialize>() -> (Sender<T>, Receiver<Request>, Box<dyn std::any::Any>) {
        let (a, b) = UnixStream::pair().unwrap();
        let ((a_read, a_write), (b_read, b_write)) = (a.into_split(), b.into_split());
        (Sender::new(a_write), Receiver::new(b_read), Box::new((a_read, b_write)))
    }

    fn pipe() -> (File, OwnedFd) {
        let (read, write) = nix::unistd::pipe().unwrap();
        (read.into(), write)
    }

    #[tokio::test]
    async fn descriptors_arrive_with_their_message() {
        let (mut sender, mut receiver, _others) = pair();
        let (mut end, carried) = pipe();
        let cancel = |id| Request::CancelExec { id };
        sender.push(&cancel(1), Vec::new());
        sender.push(&cancel(2), vec![carried]);
        sender.push(&cancel(3), Vec::new());
        sender.flush().await;
        for (id, count) in [(1, 0), (2, 1), (3, 0)] {
            let (message, carried) = receiver.next().await.unwrap();
            assert_eq!((message, carried.len()), (cancel(id), count));
        }
        // Nobody holds it any more.
        assert_eq!(end.read(&mut [0]).unwrap(), 0);
        drop(sender);
        assert!(receiver.next().await.is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_read_leaves_no_descriptor_behind() {
        let (mut sender, mut receiver, _others) = pair();
        let (mut end, carried) = pipe();
        let cancel = serde_json::to_value(Request::CancelExec { id: 1 }).unwrap();
        sender.push(&"no request".into(), vec![carried]);
        sender.push(&cancel, Vec::new());
        sender.flush().await;
        assert!(
            matches!(receiver.next().await, Some((Request::CancelExec { id: 1 }, none)) if none.is_empty())
        );
        assert_eq!(end.read(&mut [0]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_long_line_arrives_whole() {
        let (mut sender, mut receiver, _others) = pair();
        let long = Request::Exec {
            id: 1,
            container: "x".repeat(1 << 20),
            command: Vec::new(),
            stdin: false,
            stdout: false,
            stderr: false,
        };
        sender.push(&long, Vec::new());
        // Nobody reads: it is taken up where it was left.
        let sent = tokio::time::timeout(Duration::from_millis(1), sender.flush()).await;
        assert_eq!((sent.is_err(), sender.waiting()), (true, 1));
        let (received, ()) = tokio::join!(receiver.next(), sender.flush());
        assert_eq!((received.unwrap().0, sender.waiting()), (long, 0));
    }

    #[tokio::test]
    async fn what_is_for_nobody_is_dropped() {
        let (mut sender, receiver, others) = pair();
        drop((receiver, others));
        let (mut end, carried) = pipe();
        sender.push(&Request::CancelExec { id: 1 }, vec![carried]);
        sender.flush().await;
        assert_eq!((sender.waiting(), end.read(&mut [0]).unwrap()), (0, 0));
    }
}
