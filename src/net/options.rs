//! Socket options: kept by us, put on the kernel socket when there is one.
//!
//! A socket has no kernel socket until it is bound or connects through the kernel, and a
//! memory-plane connection never has one; so the values live here and are what the getters return.
//! Values are clamped to what Linux would take.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt;

use super::addr::Family;
use super::{Error, Result};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// TCP_KEEPIDLE and TCP_KEEPINTVL take 1 to 32,767 seconds (`tcp(7)`, MAX_TCP_KEEPIDLE).
const KEEP_ALIVE_SECONDS: (u64, u64) = (1, i16::MAX as u64);

/// TCP_KEEPCNT takes 1 to 127 probes (MAX_TCP_KEEPCNT).
const KEEP_ALIVE_PROBES: (u32, u32) = (1, i8::MAX as u32);

/// Buffer sizes a container may ask for, in bytes. The lower end is what Linux enforces
/// (SOCK_MIN_RCVBUF), the upper end bounds what one connection can hold; it is the size Linux's own
/// auto-tuning grows a send buffer to (`tcp_wmem`).
const BUFFER_BYTES: (usize, usize) = (2304, 4 << 20);

/// Default of each of a socket's two buffers, in bytes: the middle value of Linux's `tcp_rmem`.
pub const DEFAULT_BUFFER: usize = 128 * 1024;

/// The options of one socket. `None` is the default.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    keep_alive: Option<bool>,
    /// Seconds.
    keep_alive_idle: Option<u64>,
    /// Seconds.
    keep_alive_interval: Option<u64>,
    keep_alive_count: Option<u32>,
    hop_limit: Option<u8>,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
}

/// One change of the options, clamped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    KeepAlive(bool),
    KeepAliveIdle(u64),
    KeepAliveInterval(u64),
    KeepAliveCount(u32),
    HopLimit(u8),
    ReceiveBuffer(usize),
    SendBuffer(usize),
}

fn not_zero(value: u64) -> Result<u64> {
    if value == 0 { Err(Error::InvalidArgument) } else { Ok(value) }
}

fn seconds(nanos: u64) -> Result<u64> {
    let (min, max) = KEEP_ALIVE_SECONDS;
    Ok(not_zero(nanos)?.div_ceil(NANOS_PER_SECOND).clamp(min, max))
}

fn buffer(bytes: u64) -> Result<usize> {
    let (min, max) = BUFFER_BYTES;
    Ok(usize::try_from(not_zero(bytes)?).unwrap_or(max).clamp(min, max))
}

impl Change {
    pub(super) fn keep_alive_idle(nanos: u64) -> Result<Self> {
        seconds(nanos).map(Self::KeepAliveIdle)
    }

    pub(super) fn keep_alive_interval(nanos: u64) -> Result<Self> {
        seconds(nanos).map(Self::KeepAliveInterval)
    }

    pub(super) fn keep_alive_count(count: u32) -> Result<Self> {
        let (min, max) = KEEP_ALIVE_PROBES;
        not_zero(count.into())?;
        Ok(Self::KeepAliveCount(count.clamp(min, max)))
    }

    pub(super) fn hop_limit(hops: u8) -> Result<Self> {
        not_zero(hops.into())?;
        Ok(Self::HopLimit(hops))
    }

    pub(super) fn receive_buffer(bytes: u64) -> Result<Self> {
        buffer(bytes).map(Self::ReceiveBuffer)
    }

    pub(super) fn send_buffer(bytes: u64) -> Result<Self> {
        buffer(bytes).map(Self::SendBuffer)
    }

    /// Puts the change on a kernel socket.
    pub(super) fn apply(self, fd: BorrowedFd<'_>, family: Family) -> Result<()> {
        match self {
            Self::KeepAlive(on) => sockopt::set_socket_keepalive(fd, on)?,
            Self::KeepAliveIdle(s) => sockopt::set_tcp_keepidle(fd, Duration::from_secs(s))?,
            Self::KeepAliveInterval(s) => sockopt::set_tcp_keepintvl(fd, Duration::from_secs(s))?,
            Self::KeepAliveCount(n) => sockopt::set_tcp_keepcnt(fd, n)?,
            Self::HopLimit(n) => match family {
                Family::V4 => sockopt::set_ip_ttl(fd, n.into())?,
                Family::V6 => sockopt::set_ipv6_unicast_hops(fd, Some(n))?,
            },
            Self::ReceiveBuffer(n) => sockopt::set_socket_recv_buffer_size(fd, n)?,
            Self::SendBuffer(n) => sockopt::set_socket_send_buffer_size(fd, n)?,
        }
        Ok(())
    }
}

impl Options {
    pub(super) fn set(&mut self, change: Change) {
        match change {
            Change::KeepAlive(v) => self.keep_alive = Some(v),
            Change::KeepAliveIdle(v) => self.keep_alive_idle = Some(v),
            Change::KeepAliveInterval(v) => self.keep_alive_interval = Some(v),
            Change::KeepAliveCount(v) => self.keep_alive_count = Some(v),
            Change::HopLimit(v) => self.hop_limit = Some(v),
            Change::ReceiveBuffer(v) => self.receive_buffer = Some(v),
            Change::SendBuffer(v) => self.send_buffer = Some(v),
        }
    }

    /// Puts everything that was set on a new kernel socket.
    pub(super) fn apply(&self, fd: impl AsFd, family: Family) -> Result<()> {
        let changes = [
            self.keep_alive.map(Change::KeepAlive),
            self.keep_alive_idle.map(Change::KeepAliveIdle),
            self.keep_alive_interval.map(Change::KeepAliveInterval),
            self.keep_alive_count.map(Change::KeepAliveCount),
            self.hop_limit.map(Change::HopLimit),
            self.receive_buffer.map(Change::ReceiveBuffer),
            self.send_buffer.map(Change::SendBuffer),
        ];
        changes.into_iter().flatten().try_for_each(|change| change.apply(fd.as_fd(), family))
    }

    pub(super) fn keep_alive(&self) -> bool {
        self.keep_alive.unwrap_or(false)
    }

    /// Nanoseconds. The defaults of the three keep-alive timers are Linux's (`tcp(7)`).
    pub(super) fn keep_alive_idle(&self) -> u64 {
        self.keep_alive_idle.unwrap_or(7200) * NANOS_PER_SECOND
    }

    /// Nanoseconds.
    pub(super) fn keep_alive_interval(&self) -> u64 {
        self.keep_alive_interval.unwrap_or(75) * NANOS_PER_SECOND
    }

    pub(super) fn keep_alive_count(&self) -> u32 {
        self.keep_alive_count.unwrap_or(9)
    }

    pub(super) fn hop_limit(&self) -> u8 {
        self.hop_limit.unwrap_or(64)
    }

    /// Bytes.
    pub(super) fn receive_buffer(&self) -> usize {
        self.receive_buffer.unwrap_or(DEFAULT_BUFFER)
    }

    /// Bytes.
    pub(super) fn send_buffer(&self) -> usize {
        self.send_buffer.unwrap_or(DEFAULT_BUFFER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_invalid_and_the_rest_is_clamped() {
        assert!(matches!(Change::receive_buffer(0), Err(Error::InvalidArgument)));
        assert!(matches!(Change::keep_alive_idle(0), Err(Error::InvalidArgument)));
        assert!(matches!(Change::keep_alive_count(0), Err(Error::InvalidArgument)));
        assert!(matches!(Change::hop_limit(0), Err(Error::InvalidArgument)));
        assert!(matches!(Change::keep_alive_idle(1), Ok(Change::KeepAliveIdle(1))));
        assert!(matches!(Change::keep_alive_interval(u64::MAX), Ok(Change::KeepAliveInterval(32767))));
        assert!(matches!(Change::keep_alive_count(u32::MAX), Ok(Change::KeepAliveCount(127))));
        assert!(matches!(Change::send_buffer(u64::MAX), Ok(Change::SendBuffer(n)) if n == BUFFER_BYTES.1));
        assert!(matches!(Change::send_buffer(0x10000), Ok(Change::SendBuffer(0x10000))));
    }

    #[test]
    fn a_kernel_socket_takes_every_option() {
        let mut options = Options::default();
        for change in [
            Change::KeepAlive(true),
            Change::KeepAliveIdle(5),
            Change::KeepAliveInterval(6),
            Change::KeepAliveCount(7),
            Change::HopLimit(8),
            Change::ReceiveBuffer(50_000),
            Change::SendBuffer(60_000),
        ] {
            options.set(change);
        }
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        options.apply(&socket, Family::V4).expect("apply");
        assert!(sockopt::socket_keepalive(&socket).expect("get"));
        assert_eq!(sockopt::tcp_keepidle(&socket).expect("get"), Duration::from_secs(5));
        assert_eq!(sockopt::ip_ttl(&socket).expect("get"), 8);
        assert_eq!(sockopt::socket_recv_buffer_size(&socket).expect("get"), 100_000, "Linux doubles it");
        assert_eq!(options.keep_alive_idle(), 5 * NANOS_PER_SECOND);
        assert_eq!(options.keep_alive_count(), 7);
    }
}
