//! The options of a UDP socket: kept, put on its kernel socket, and on its inbox.

use std::os::fd::AsFd;

use super::UdpSocket;
use crate::net::Result;
use crate::net::options::Change;

impl UdpSocket {
    fn set(&self, change: Change) -> Result<()> {
        self.inner.with(|open| {
            change.apply(open.kernel.as_fd(), self.inner.family)?;
            open.options.set(change);
            if let Change::ReceiveBuffer(bytes) = change {
                self.inner.inbox.set_capacity(bytes);
            }
            Ok(())
        })
    }

    /// IP_TTL or IPV6_UNICAST_HOPS.
    ///
    /// # Errors
    /// [`Error::InvalidState`](crate::net::Error::InvalidState) after the endpoint was closed; so the other
    /// options.
    pub fn hop_limit(&self) -> Result<u8> {
        self.inner.with(|open| Ok(open.options.hop_limit()))
    }

    /// Sets the hop limit.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::net::Error::InvalidArgument) for 0; so the other options.
    pub fn set_hop_limit(&self, hops: u8) -> Result<()> {
        self.set(Change::hop_limit(hops)?)
    }

    /// Bytes that may wait to be received, on each plane.
    ///
    /// # Errors
    /// See [`Self::hop_limit`].
    pub fn receive_buffer_size(&self) -> Result<u64> {
        self.inner.with(|open| Ok(open.options.receive_buffer() as u64))
    }

    /// Bytes, clamped. What waits already stays.
    ///
    /// # Errors
    /// See [`Self::set_hop_limit`].
    pub fn set_receive_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::receive_buffer(bytes)?)
    }

    /// Bytes that may wait to be sent, on the kernel plane: the memory plane keeps nothing back.
    ///
    /// # Errors
    /// See [`Self::hop_limit`].
    pub fn send_buffer_size(&self) -> Result<u64> {
        self.inner.with(|open| Ok(open.options.send_buffer() as u64))
    }

    /// Bytes, clamped.
    ///
    /// # Errors
    /// See [`Self::set_hop_limit`].
    pub fn set_send_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::send_buffer(bytes)?)
    }
}
