//! What there is to see of a TCP socket.

use super::super::meter::Plane;
use super::super::observe::{Socket, SocketState, Transport};
use super::super::stream::Stream;
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
                Socket {
                    plane: Some(Plane::Memory),
                    state: SocketState::SynSent,
                    local: stream.local(),
                    peer: Some(stream.remote()),
                    peer_container: Some(stream.peer_container()),
                    ..bare
                }
            }
            State::Connecting(Connecting::Kernel { remote, .. }) => Socket {
                plane: Some(Plane::Kernel),
                state: SocketState::SynSent,
                peer: Some(*remote),
                ..bare
            },
            State::Connected(connected) => {
                let stream = &connected.stream;
                let (state, recv_queue, send_queue) = match stream {
                    Stream::Memory(stream) => stream.look(),
                    Stream::Kernel(stream) => stream.look(),
                };
                let peer_container = match stream {
                    Stream::Memory(stream) => Some(stream.peer_container()),
                    Stream::Kernel(_) => None,
                };
                Socket {
                    plane: Some(stream.plane()),
                    state,
                    local: stream.local(),
                    peer: Some(stream.remote()),
                    peer_container,
                    recv_queue,
                    send_queue,
                    ..bare
                }
            }
        })
    }
}
