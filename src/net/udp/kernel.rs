//! The kernel socket under a UDP socket: it holds the port, and carries what the memory plane does not.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::MAX_DATAGRAM;
use super::inbox::Datagram;
use crate::net::addr::Family;
use crate::net::options::Options;
use crate::net::{Error, Result};
use crate::sys::socket;

/// A wait for something to receive, or for an error.
type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

pub(super) struct Kernel {
    socket: Arc<UdpSocket>,
    /// Whether an error may come: datagrams went to a connected peer, and ICMP may answer them (`udp(7)`).
    may_fail: bool,
    waiting: Option<Waiting>,
    /// Who waits to receive has to do so anew.
    registered_anew: bool,
}

impl Kernel {
    pub(super) fn new(family: Family) -> Result<Self> {
        Ok(Self { socket: Arc::new(socket(family)?), may_fail: false, waiting: None, registered_anew: false })
    }

    /// Binds, and returns the address with the real port.
    pub(super) fn bind(&self, local: SocketAddr) -> Result<SocketAddr> {
        rustix::net::bind(&self.socket, &local)?;
        Ok(self.socket.local_addr()?)
    }

    /// Connects, and returns the local address, which is never the wildcard then.
    pub(super) fn connect(&self, remote: SocketAddr) -> Result<SocketAddr> {
        rustix::net::connect(&self.socket, &remote)?;
        Ok(self.socket.local_addr()?)
    }

    /// Undoes [`Self::connect`], and returns the local address.
    ///
    /// Linux takes the port away from a socket that did not choose it (`__udp_disconnect` in the kernel's
    /// net/ipv4/udp.c). A WASI socket stays bound: it gets the port back, and another only if somebody was
    /// faster.
    pub(super) fn disconnect(&self, bound: SocketAddr) -> Result<SocketAddr> {
        rustix::net::connect_unspec(&self.socket)?;
        let local = self.socket.local_addr()?;
        if local.port() != 0 { Ok(local) } else { self.bind_again(bound) }
    }

    /// As [`Self::disconnect`], with another socket: an IPv6 socket that was connected once hears from its
    /// former peer's address only, as `__udp_disconnect` leaves `sk_v6_daddr` as it was. What the old socket
    /// had received goes to `keep`.
    pub(super) fn replace(
        &mut self,
        bound: SocketAddr,
        options: &Options,
        mut keep: impl FnMut(Datagram),
    ) -> Result<SocketAddr> {
        let new = socket(Family::V6)?;
        options.apply(&new, Family::V6)?;
        loop {
            match receive(&self.socket) {
                Ok(datagram) => keep(datagram),
                Err(Errno::WOULDBLOCK) => break,
                // An error that waited: what follows it is still there.
                Err(_) => {}
            }
        }
        self.waiting = None;
        self.may_fail = false;
        // Closes the old one, which has the port.
        self.socket = Arc::new(new);
        self.bind_again(bound)
    }

    fn bind_again(&self, bound: SocketAddr) -> Result<SocketAddr> {
        self.bind(bound).or_else(|_| self.bind(SocketAddr::new(bound.ip(), 0)))
    }

    /// The error that an earlier datagram met, once.
    pub(super) fn take_error(&self) -> Result<()> {
        match self.socket.take_error()? {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Sends, to the connected peer when `remote` is absent. `Pending`: the kernel's buffer is full.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        remote: Option<SocketAddr>,
    ) -> Poll<Result<()>> {
        self.may_fail |= remote.is_none();
        let send = |socket: &UdpSocket| match &remote {
            None => rustix::net::send(socket, data, SendFlags::empty()),
            Some(remote) => rustix::net::sendto(socket, data, SendFlags::empty(), remote),
        };
        // The first try does not ask tokio, which learns only with the next turn of its loop that a
        // new socket can be written to; guests expect it at once.
        match send(&self.socket) {
            Ok(_) => return Poll::Ready(Ok(())),
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Poll::Ready(Err(errno.into())),
        }
        loop {
            for _ in 0..2 {
                let socket = &self.socket;
                match socket.try_io(Interest::WRITABLE, || send(socket).map_err(io::Error::from)) {
                    Ok(_) => return Poll::Ready(Ok(())),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_send_ready(cx))?,
                    Err(e) => return Poll::Ready(Err(e.into())),
                }
            }
            self.register_anew()?;
        }
    }

    /// After an error tokio takes the socket for closed for writing and thus always ready, which a UDP socket
    /// never is: a full buffer would be a busy loop.
    fn register_anew(&mut self) -> Result<()> {
        self.waiting = None;
        let fd = self.socket.as_fd().try_clone_to_owned()?;
        self.socket = Arc::new(UdpSocket::from_std(fd.into())?);
        self.registered_anew = true;
        Ok(())
    }

    /// Whether those who wait to receive are known no longer.
    pub(super) fn take_registered_anew(&mut self) -> bool {
        mem::take(&mut self.registered_anew)
    }

    pub(super) fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_send_ready(cx).map(|_| ())
    }

    /// A datagram or an error, if tokio knows of one. Costs no system call otherwise.
    pub(super) fn try_receive(&self) -> Option<Result<Datagram>> {
        let receive = || Ok(receive(&self.socket)?);
        // One after the other: tokio's try_io knows no interest in both.
        let interests = [Interest::READABLE, Interest::ERROR];
        interests[..if self.may_fail { 2 } else { 1 }].iter().find_map(|interest| {
            match self.socket.try_io(*interest, receive) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
                result => Some(result.map_err(Error::from)),
            }
        })
    }

    /// Whether [`Self::try_receive`] has an answer. If not, tokio knows it from now on.
    pub(super) fn has_something(&self) -> bool {
        let look = || socket::has_something(&self.socket);
        let interests = [Interest::READABLE, Interest::ERROR];
        interests[..if self.may_fail { 2 } else { 1 }]
            .iter()
            .any(|interest| self.socket.try_io(*interest, look).is_ok())
    }

    /// Waits until [`Self::try_receive`] may have an answer.
    ///
    /// tokio's `poll_recv_ready` does not wake for errors; the future that does is made only where one may
    /// come.
    pub(super) fn poll_receive_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.may_fail {
            return self.socket.poll_recv_ready(cx).map_err(Error::from);
        }
        let socket = &self.socket;
        let waiting = self.waiting.get_or_insert_with(|| {
            let socket = socket.clone();
            Box::pin(async move { socket.ready(Interest::READABLE | Interest::ERROR).await.map(drop) })
        });
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result.map_err(Error::from))
    }
}

fn socket(family: Family) -> Result<UdpSocket> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(domain, SocketType::DGRAM, flags, None)?;
    if family == Family::V6 {
        // WIT: "On IPv6 sockets, IPV6_V6ONLY is enabled by default and can't be configured otherwise."
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    Ok(UdpSocket::from_std(fd.into())?)
}

fn receive(socket: &UdpSocket) -> rustix::io::Result<Datagram> {
    let mut data = Vec::with_capacity(MAX_DATAGRAM);
    let (_, _, from) = rustix::net::recvfrom(socket, spare_capacity(&mut data), RecvFlags::empty())?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(Errno::AFNOSUPPORT)?;
    data.shrink_to_fit();
    Ok(Datagram { data, from })
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
