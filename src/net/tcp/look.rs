//! What there is to see of a TCP socket.

use std::net::SocketAddr;

use super::super::meter::Plane;
use super::super::observe::{Look, Socket, SocketState, Transport};
use super::Inner;
use super::state::{Connecting, State};

impl Inner {
    /// `None` when it is unbound or closed.
    pub(super) fn look(&self) -> Option<Socket> {
        let core = self.lock();
        let (bytes_in, bytes_out) = self.traffic.bytes();
        let bare = Socket {
            container: self.traffic.meter().container().to_owned(),
            transport: Transport::Tcp,
            plane: None,
            state: SocketState::Unconnected,
            local: self.family.unspecified(),
            peer: None,
            peer_container: None,
            recv_queue: 0,
            send_queue: 0,
            bytes_in,
            bytes_out,
        };
        Some(match &core.state {
            State::Unbound | State::Closed(_) => return None,
            State::Bound(bound) => Socket { local: bound.local, ..bare },
            State::Listening(listening) => {
                let (used, limit) = listening.listener.backlog();
                Socket {
                    state: SocketState::Listen,
                    local: listening.listener.local(),
                    recv_queue: used,
                    send_queue: limit,
                    ..bare
                }
            }
            State::Connecting(Connecting::Memory { stream, .. }) => {
                let stream = stream.as_ref()?;
                connection(bare, Plane::Memory, stream.local(), stream.look())
            }
            State::Connecting(Connecting::Kernel { remote, .. }) => Socket {
                plane: Some(Plane::Kernel),
                state: SocketState::SynSent,
                peer: Some(*remote),
                ..bare
            },
            State::Connected(connected) => {
                let stream = &connected.stream;
                connection(bare, stream.plane(), stream.local(), stream.look()?)
            }
        })
    }
}

fn connection(bare: Socket, plane: Plane, local: SocketAddr, look: Look) -> Socket {
    let Look { state, peer, peer_container, unread, untaken } = look;
    Socket {
        plane: Some(plane),
        state,
        local,
        peer,
        peer_container,
        recv_queue: unread,
        send_queue: untaken,
        ..bare
    }
}
