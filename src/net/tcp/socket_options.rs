//! The options of a TCP socket.

use std::os::fd::AsFd;

use super::super::options::{Change, Options};
use super::super::{Error, Result};
use super::TcpSocket;
use super::state::State;

impl TcpSocket {
    fn get<T>(&self, get: impl FnOnce(&Options) -> T) -> Result<T> {
        let core = self.inner.lock();
        match &core.state {
            State::Closed(error) => Err(*error),
            _ => Ok(get(&core.options)),
        }
    }

    fn set(&self, change: Change) -> Result<()> {
        let mut core = self.inner.lock();
        let family = self.inner.family;
        match &core.state {
            State::Unbound => {}
            State::Bound(bound) => change.apply(bound.socket.as_fd(), family)?,
            State::Listening(listening) => listening.listener.apply(change, family)?,
            State::Connecting(_) => return Err(Error::InvalidState),
            State::Connected(connected) => connected.stream.apply(change, &core.options, family)?,
            State::Closed(error) => return Err(*error),
        }
        core.options.set(change);
        Ok(())
    }
}

/// The socket options. All setters fail with [`Error::InvalidArgument`] for 0 and clamp the rest to
/// what Linux takes; setting fails with [`Error::InvalidState`] while connecting.
#[allow(missing_docs, reason = "named after the WIT's functions, which document them")]
impl TcpSocket {
    pub fn keep_alive_enabled(&self) -> Result<bool> {
        self.get(Options::keep_alive)
    }

    pub fn set_keep_alive_enabled(&self, on: bool) -> Result<()> {
        self.set(Change::KeepAlive(on))
    }

    /// Nanoseconds.
    pub fn keep_alive_idle_time(&self) -> Result<u64> {
        self.get(Options::keep_alive_idle)
    }

    /// Nanoseconds, rounded up to seconds.
    pub fn set_keep_alive_idle_time(&self, nanos: u64) -> Result<()> {
        self.set(Change::keep_alive_idle(nanos)?)
    }

    /// Nanoseconds.
    pub fn keep_alive_interval(&self) -> Result<u64> {
        self.get(Options::keep_alive_interval)
    }

    /// Nanoseconds, rounded up to seconds.
    pub fn set_keep_alive_interval(&self, nanos: u64) -> Result<()> {
        self.set(Change::keep_alive_interval(nanos)?)
    }

    pub fn keep_alive_count(&self) -> Result<u32> {
        self.get(Options::keep_alive_count)
    }

    pub fn set_keep_alive_count(&self, probes: u32) -> Result<()> {
        self.set(Change::keep_alive_count(probes)?)
    }

    pub fn hop_limit(&self) -> Result<u8> {
        self.get(Options::hop_limit)
    }

    pub fn set_hop_limit(&self, hops: u8) -> Result<()> {
        self.set(Change::hop_limit(hops)?)
    }

    /// Bytes.
    pub fn receive_buffer_size(&self) -> Result<u64> {
        self.get(|o| o.receive_buffer() as u64)
    }

    /// Bytes.
    pub fn set_receive_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::receive_buffer(bytes)?)
    }

    /// Bytes.
    pub fn send_buffer_size(&self) -> Result<u64> {
        self.get(|o| o.send_buffer() as u64)
    }

    /// Bytes.
    pub fn set_send_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::send_buffer(bytes)?)
    }
}
