//! What a container may do on the network, decided before the first system call.
//!
//! Every operation that would touch an address or a name is put to [`Policy::decide`] as a
//! [`Request`]; a [`Decision::Deny`] becomes [`Error::AccessDenied`].
//! There is one policy so far, [`Policy::AllowAll`].

use std::net::SocketAddr;

use super::{Error, Result};

/// What a container asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Bind a TCP socket. An implicit bind asks with the wildcard address and port 0.
    TcpBind(SocketAddr),
    /// Listen on the bound address.
    TcpListen(SocketAddr),
    /// Connect to a remote address, on either plane.
    TcpConnect(SocketAddr),
    /// Bind a UDP socket.
    UdpBind(SocketAddr),
    /// Send datagrams to, or exchange them with, a remote address.
    UdpSend(SocketAddr),
    /// Look up a name.
    Resolve(&'a str),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Refuse; the reason goes to the log.
    Deny {
        /// Why, for people.
        reason: String,
    },
}

/// The rules of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Policy {
    /// Everything is allowed.
    #[default]
    AllowAll,
}

impl Policy {
    /// Decides one request of one container.
    pub fn decide(&self, _container: &str, _request: Request<'_>) -> Decision {
        match self {
            Self::AllowAll => Decision::Allow,
        }
    }

    /// [`Self::decide`] as a result, logging what is denied.
    pub(super) fn check(&self, container: &str, request: Request<'_>) -> Result<()> {
        match self.decide(container, request) {
            Decision::Allow => Ok(()),
            Decision::Deny { reason } => {
                tracing::warn!(container, ?request, reason, "denied by the network policy");
                Err(Error::AccessDenied)
            }
        }
    }
}
