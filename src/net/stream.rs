//! A connection of either plane.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::net::Shutdown;

use super::addr::Family;
use super::memory::Data;
use super::meter::Plane;
use super::observe::Look;
use super::options::{Change, Options};
use super::{Result, kernel, memory};

/// One end of a connection; clones are the same end.
#[derive(Debug, Clone)]
pub(super) enum Stream {
    Memory(memory::Stream),
    Kernel(kernel::Stream),
}

impl Stream {
    pub(super) fn plane(&self) -> Plane {
        match self {
            Self::Memory(_) => Plane::Memory,
            Self::Kernel(_) => Plane::Kernel,
        }
    }

    /// What there is to see of it; `None` when it is closed.
    pub(super) fn look(&self) -> Option<Look> {
        match self {
            Self::Memory(s) => Some(s.look()),
            Self::Kernel(s) => s.look(),
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Self::Memory(s) => s.local(),
            Self::Kernel(s) => s.local(),
        }
    }

    pub(super) fn remote(&self) -> SocketAddr {
        match self {
            Self::Memory(s) => s.remote(),
            Self::Kernel(s) => s.remote(),
        }
    }

    /// Puts a changed option into effect; `old` are the options before it.
    pub(super) fn apply(&self, change: Change, old: &Options, family: Family) -> Result<()> {
        match (self, change) {
            (Self::Kernel(s), change) => return s.apply(change, family),
            (Self::Memory(s), Change::ReceiveBuffer(new)) => s.resize_incoming(old.receive_buffer(), new),
            (Self::Memory(s), Change::SendBuffer(new)) => s.resize_outgoing(old.send_buffer(), new),
            // Nothing to probe and no hops on the memory plane.
            (Self::Memory(_), _) => {}
        }
        Ok(())
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Memory(s) => s.poll_read_ready(cx),
            Self::Kernel(s) => s.poll_read_ready(cx),
        }
    }

    pub(super) fn poll_read_bytes(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes>> {
        match self {
            Self::Memory(s) => s.poll_read_bytes(cx, max),
            Self::Kernel(s) => s.poll_read_bytes(cx, max),
        }
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize>> {
        match self {
            Self::Memory(s) => s.poll_read(cx, out),
            Self::Kernel(s) => s.poll_read(cx, out),
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Memory(s) => s.poll_write_ready(cx),
            Self::Kernel(s) => s.poll_write_ready(cx),
        }
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, data: Data<'_>) -> Poll<Result<usize>> {
        match self {
            Self::Memory(s) => s.poll_write(cx, data),
            Self::Kernel(s) => s.poll_write(cx, data),
        }
    }

    pub(super) fn shutdown_read(&self) {
        match self {
            Self::Memory(s) => s.shutdown_read(),
            Self::Kernel(s) => s.shutdown(Shutdown::Read),
        }
    }

    pub(super) fn shutdown_write(&self) {
        match self {
            Self::Memory(s) => s.shutdown_write(),
            Self::Kernel(s) => s.shutdown(Shutdown::Write),
        }
    }

    /// `close(2)`: FIN, or RST when data was not read.
    pub(super) fn close(&self) {
        match self {
            Self::Memory(s) => s.close(),
            Self::Kernel(s) => s.close(),
        }
    }
}
