//! A small synchronous netlink socket (netlink(7)): many requests in one send, all of them answered
//! before it returns.
//!
//! ```text
//! Batch::push… ─► Socket::execute ─► one send ─► answers, in order ─► the first error, named
//!                 Socket::dump    ─► one request ─► parts … done
//! ```
//!
//! A socket belongs to the network namespace in which it was opened, whatever namespace its process enters
//! later.

mod attribute;
mod batch;

pub use attribute::{attribute, attributes, nested};
pub use batch::Batch;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use thiserror::Error;

/// Length of `struct nlmsghdr`, bytes.
const HEADER: usize = 16;
/// Receive buffer, bytes: the kernel's largest dump part (netlink_dump in net/netlink/af_netlink.c).
const BUFFER: usize = 32 * 1024;
/// How long to wait for an answer that the kernel always gives. Only a kernel fault exceeds it.
const ANSWER_TIMEOUT_SECONDS: i64 = 10;
/// `RTMGRP_LINK`: links that appear, change and vanish.
const GROUP_LINK: u32 = 1;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`: fail when it exists.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;
/// `NLM_F_ACK_TLVS`, in an answer: attributes follow the error.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words.
const ERROR_MESSAGE: u16 = 1;

/// A request that the kernel refused, or could not be asked.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The kernel's answer to one request of a batch.
    #[error("cannot {step}: {errno}{}", detail(.message))]
    Refused {
        /// What was asked, from [`Batch::push`].
        step: &'static str,
        /// The kernel's error.
        errno: Errno,
        /// The kernel's explanation, where it gave one.
        message: Option<String>,
    },
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] Errno),
    /// An answer makes no sense.
    #[error("netlink: the kernel's answer is cut short")]
    Truncated,
}

impl NetlinkError {
    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } | Self::Socket(errno) => Some(*errno),
            Self::Truncated => None,
        }
    }
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default()
}

/// One message from the kernel.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// Why [`Socket::wait_event`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Something changed.
    Event,
    /// The other descriptor is readable.
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    /// The last exchange did not end well: answers to it may still be there, numbered as those to the next.
    has_leftovers: bool,
}

impl Socket {
    /// A socket for links, addresses, routes and neighbours (rtnetlink(7)).
    ///
    /// # Errors
    /// socket(2)'s.
    pub fn route() -> Result<Self, NetlinkError> {
        Self::open(SockProtocol::NetlinkRoute, 0)
    }

    /// A [`Socket::route`] that also receives an event for each link that changes; see
    /// [`Socket::wait_event`].
    ///
    /// # Errors
    /// socket(2)'s.
    pub fn link_events() -> Result<Self, NetlinkError> {
        Self::open(SockProtocol::NetlinkRoute, GROUP_LINK)
    }

    /// A socket for nf_tables.
    ///
    /// # Errors
    /// EPROTONOSUPPORT when the kernel has no netfilter.
    pub fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(SockProtocol::NetlinkNetFilter, 0)
    }

    fn open(protocol: SockProtocol, groups: u32) -> Result<Self, NetlinkError> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // Answers without the request in them, and with the kernel's own words. Older kernels have neither.
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: an open socket, and a pointer to an int together with its size.
            unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
        }
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_SECONDS, 0))?;
        if groups != 0 {
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        }
        Ok(Self { fd, buffer: vec![0; BUFFER], has_leftovers: false })
    }

    /// Sends all of a batch at once and waits until its last acknowledgement. The kernel handles the requests in
    /// order, and goes on after one that fails; it answers all of them before it returns from the sending.
    ///
    /// # Errors
    /// The first request's that failed, by its name.
    pub fn execute(&mut self, batch: &Batch) -> Result<(), NetlinkError> {
        if batch.steps.is_empty() {
            return Ok(());
        }
        self.send(batch)?;
        if batch.acknowledged == 0 {
            return Ok(());
        }
        loop {
            let length = self.receive()?;
            for answer in answers(&self.buffer[..length]) {
                let answer = answer?;
                if answer.kind != NLMSG_ERROR {
                    continue;
                }
                let sequence = answer.sequence as usize;
                let step = batch.steps.get(sequence.wrapping_sub(1));
                if let Some(error) = error_of(&answer, step.copied().unwrap_or("do what was asked"))? {
                    return Err(error);
                }
                if sequence == batch.acknowledged {
                    self.has_leftovers = false;
                    return Ok(());
                }
            }
        }
    }

    fn send(&mut self, batch: &Batch) -> Result<(), NetlinkError> {
        if self.has_leftovers {
            loop {
                match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                    Err(Errno::EAGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.has_leftovers = true;
        send(self.fd.as_raw_fd(), &batch.bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Sends one request and hands each part of the answer (message type, payload) to `each`.
    ///
    /// # Errors
    /// The kernel's, named by `step`.
    pub fn dump(
        &mut self,
        step: &'static str,
        kind: u16,
        flags: u16,
        payload: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), NetlinkError> {
        let mut batch = Batch::default();
        batch.push_raw(step, kind, flags, payload);
        self.send(&batch)?;
        let error = 'answer: loop {
            let length = self.receive()?;
            for answer in answers(&self.buffer[..length]) {
                let answer = answer?;
                match answer.kind {
                    // An event that came between.
                    _ if answer.sequence != 1 => {}
                    NLMSG_ERROR => break 'answer error_of(&answer, step)?,
                    NLMSG_DONE => break 'answer None,
                    kind => each(kind, answer.payload),
                }
            }
        };
        self.has_leftovers = error.is_some();
        error.map_or(Ok(()), Err)
    }

    /// Waits for the next event: not beyond `deadline`, and not when `interrupt` becomes readable. Events are only
    /// a reason to look again: their content is discarded, so losing some (ENOBUFS) is harmless.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn wait_event(
        &mut self,
        deadline: Instant,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<Waited, NetlinkError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Waited::TimedOut);
            }
            // poll counts whole milliseconds: a remainder below one must not become a busy loop.
            let timeout =
                PollTimeout::try_from(left.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
            let mut descriptors = vec![PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            descriptors.extend(interrupt.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut descriptors, timeout) {
                Err(Errno::EINTR) | Ok(0) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if descriptors.get(1).is_some_and(|interrupt| interrupt.any().unwrap_or(true)) {
                return Ok(Waited::Interrupted);
            }
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS) => return Ok(Waited::Event),
                Err(Errno::EINTR | Errno::EAGAIN) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive(&mut self) -> Result<usize, NetlinkError> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => return Err(NetlinkError::Truncated),
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Result<Answer<'_>, NetlinkError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let answer = parse_answer(bytes);
        bytes = match &answer {
            Ok((_, length)) => bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(answer.map(|(answer, _)| answer))
    })
}

fn parse_answer(bytes: &[u8]) -> Result<(Answer<'_>, usize), NetlinkError> {
    let length = word(bytes, 0)? as usize;
    let payload = bytes.get(HEADER..length).ok_or(NetlinkError::Truncated)?;
    let kind_and_flags = word(bytes, 4)?.to_ne_bytes();
    let answer = Answer {
        kind: u16::from_ne_bytes([kind_and_flags[0], kind_and_flags[1]]),
        flags: u16::from_ne_bytes([kind_and_flags[2], kind_and_flags[3]]),
        sequence: word(bytes, 8)?,
        payload,
    };
    Ok((answer, length))
}

/// The error of an NLMSG_ERROR answer; `None` for an acknowledgement.
fn error_of(answer: &Answer<'_>, step: &'static str) -> Result<Option<NetlinkError>, NetlinkError> {
    let code = word(answer.payload, 0)? as i32;
    if code == 0 {
        return Ok(None);
    }
    let message = (answer.flags & ACK_TLVS != 0)
        .then(|| {
            attributes(answer.payload, 4 + HEADER)
                .find(|(kind, _)| *kind == ERROR_MESSAGE)
                .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
        })
        .flatten();
    Ok(Some(NetlinkError::Refused { step, errno: Errno::from_raw(-code), message }))
}

fn word(bytes: &[u8], at: usize) -> Result<u32, NetlinkError> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(NetlinkError::Truncated)?;
    Ok(u32::from_ne_bytes(*word))
}

impl From<NetlinkError> for io::Error {
    fn from(error: NetlinkError) -> Self {
        match error.errno() {
            Some(errno) => io::Error::new(io::Error::from(errno).kind(), error),
            None => io::Error::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_cut_short_are_an_error_and_not_a_loop() {
        for length in [0u32, 3, 15, 17, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.resize(HEADER, 0);
            assert!(answers(&bytes).next().unwrap().is_err(), "{length}");
            assert_eq!(answers(&bytes).count(), 1);
        }
    }

    #[test]
    fn an_error_carries_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend([7, 0, 1, 0, b'n', b'o', 0, 0]);
        let answer = Answer { kind: NLMSG_ERROR, flags: ACK_TLVS, sequence: 1, payload: &payload };
        let error = error_of(&answer, "make a link").unwrap().unwrap();
        assert_eq!(error.to_string(), "cannot make a link: EINVAL: Invalid argument (no)");
    }
}
