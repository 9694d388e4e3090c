//! The pod's sockets and counters, as whoever looks at the pod sees them.
//!
//! ```text
//! Stack::observe ─► Walk: the sockets that there are now, weakly ─ next_page ─► [Socket], until none is left
//!                                                                └ counters ──► [Counters]
//! ```
//!
//! Looking holds nobody up: each socket is locked by itself, for as long as it takes to copy a few numbers,
//! and between two pages the containers run. A socket that ends before its turn is not shown.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::endpoint::{Member, Shared};
use super::meter::{Counters, Meter, Plane};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The state of a socket, named as ss(8) does. Those of TCP are RFC 9293's (3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// Accepts connections.
    Listen,
    /// Waits for the peer, or on the memory plane for room in its backlog.
    SynSent,
    /// A request that the kernel has not yet handed over.
    SynReceived,
    /// Data flows both ways; of UDP: has one peer.
    Established,
    /// Has sent its end; the peer has not read everything.
    FinWait1,
    /// Has sent its end, and the peer has it.
    FinWait2,
    /// The peer has sent its end.
    CloseWait,
    /// Both have sent their ends, and the peer has not read everything.
    Closing,
    /// The peer had sent its end first, and has not yet got this one's.
    LastAck,
    /// Both have sent their ends.
    TimeWait,
    /// Bound and nothing more, or reset; of UDP: open to every peer.
    Unconnected,
}

impl SocketState {
    /// As ss(8) writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECV",
            Self::Established => "ESTAB",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
            Self::Unconnected => "UNCONN",
        }
    }

    /// Of the kernel's number (`include/net/tcp_states.h`).
    pub(super) fn of_kernel(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => Self::Unconnected,
        }
    }

    /// Of a memory-plane connection's end. `unread` says whether the peer has still to read some of its data.
    pub(super) fn of_memory(sent_fin: bool, received_fin: bool, unread: bool) -> Self {
        match (sent_fin, received_fin, unread) {
            (false, false, _) => Self::Established,
            (false, true, _) => Self::CloseWait,
            (true, false, true) => Self::FinWait1,
            (true, false, false) => Self::FinWait2,
            (true, true, true) => Self::Closing,
            (true, true, false) => Self::TimeWait,
        }
    }
}

/// What a connection tells of itself.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) state: SocketState,
    pub(super) peer: Option<SocketAddr>,
    pub(super) peer_container: Option<String>,
    /// Bytes that are still to be read at this end, and at the other.
    pub(super) unread: u64,
    pub(super) untaken: u64,
}

/// One socket of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Whose it is.
    pub container: String,
    /// TCP or UDP.
    pub transport: Transport,
    /// `None`: on both planes, as a listener is.
    pub plane: Option<Plane>,
    /// Its state.
    pub state: SocketState,
    /// Its own address; unspecified with port 0 where the kernel has still to choose it.
    pub local: SocketAddr,
    /// The peer's, if there is one.
    pub peer: Option<SocketAddr>,
    /// The peer, if it is a container of this pod.
    pub peer_container: Option<String>,
    /// Bytes that the container has still to read; of a listener: connections that it has still to accept.
    pub recv_queue: u64,
    /// Bytes that the peer has still to take; of a listener: how many connections may wait.
    pub send_queue: u64,
    /// Bytes that the container has read.
    pub bytes_in: u64,
    /// Bytes that the container has written.
    pub bytes_out: u64,
}

/// The pod's containers, by name, as far as they ever had an endpoint: at most as many as the pod has.
#[derive(Debug, Default)]
pub(super) struct Roll(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    meter: Arc<Meter>,
    /// Of the latest run.
    endpoint: Weak<Shared>,
}

impl Roll {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's meter: the same for all of its runs.
    pub(super) fn meter(&self, container: &str) -> Arc<Meter> {
        let mut entries = self.lock();
        if let Some(entry) = entries.iter().find(|entry| entry.meter.container() == container) {
            return entry.meter.clone();
        }
        let meter = Arc::new(Meter::new(container));
        entries.push(Entry { meter: meter.clone(), endpoint: Weak::new() });
        meter
    }

    /// The container has a new endpoint.
    pub(super) fn enter(&self, container: &str, endpoint: &Arc<Shared>) {
        let mut entries = self.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.meter.container() == container) {
            entry.endpoint = Arc::downgrade(endpoint);
        }
    }

    /// Begins a look at all sockets that there are now.
    pub(super) fn walk(&self) -> Walk {
        let (meters, endpoints): (Vec<_>, Vec<_>) =
            self.lock().iter().map(|entry| (entry.meter.clone(), entry.endpoint.upgrade())).unzip();
        let members = endpoints.into_iter().flatten().flat_map(|endpoint| endpoint.members()).collect();
        Walk::new(members, meters)
    }
}

/// A look at all sockets of a pod, page by page.
pub struct Walk {
    members: std::vec::IntoIter<Weak<dyn Member>>,
    meters: Vec<Arc<Meter>>,
    /// Of each meter, what was seen so far.
    seen: Vec<Counters>,
}

impl Walk {
    fn new(members: Vec<Weak<dyn Member>>, meters: Vec<Arc<Meter>>) -> Self {
        let seen = vec![Counters::default(); meters.len()];
        Self { members: members.into_iter(), meters, seen }
    }

    /// Looks at the next `max` sockets, and returns those of them that are bound; `None` at the end.
    pub fn next_page(&mut self, max: usize) -> Option<Vec<Socket>> {
        if self.members.as_slice().is_empty() {
            return None;
        }
        let look = |member: Weak<dyn Member>| member.upgrade()?.describe();
        let page: Vec<_> = self.members.by_ref().take(max).filter_map(look).collect();
        page.iter().for_each(|socket| self.tally(socket));
        Some(page)
    }

    /// Looks at the sockets that are left without showing them, and returns how many those were.
    pub fn skip_rest(&mut self) -> usize {
        self.next_page(usize::MAX).map_or(0, |page| page.len())
    }

    fn tally(&mut self, socket: &Socket) {
        let mut named = self.meters.iter().zip(&mut self.seen);
        let Some((_, seen)) = named.find(|(meter, _)| meter.container() == socket.container) else { return };
        let plane = &mut seen.planes[socket.plane.unwrap_or(Plane::Kernel) as usize];
        match (socket.transport, socket.state) {
            (Transport::Tcp, SocketState::Listen) => plane.tcp.listening += 1,
            // Bound only, or reset.
            (Transport::Tcp, SocketState::Unconnected) => {}
            (Transport::Tcp, _) => plane.tcp.open += 1,
            (Transport::Udp, _) => plane.udp.open += 1,
        }
    }

    /// The counters of every container that ever had an endpoint, with the numbers of the sockets that the
    /// pages had.
    pub fn counters(&self) -> Vec<Counters> {
        let read = self.meters.iter().zip(&self.seen).map(|(meter, seen)| {
            let mut counters = meter.read();
            for (plane, seen) in counters.planes.iter_mut().zip(&seen.planes) {
                plane.tcp.listening = seen.tcp.listening;
                plane.tcp.open = seen.tcp.open;
                plane.udp.open = seen.udp.open;
            }
            counters
        });
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_states_are_ss_s() {
        // The order of `include/net/tcp_states.h`, from 1 on.
        let names = [
            "ESTAB",
            "SYN-SENT",
            "SYN-RECV",
            "FIN-WAIT-1",
            "FIN-WAIT-2",
            "TIME-WAIT",
            "UNCONN",
            "CLOSE-WAIT",
            "LAST-ACK",
            "LISTEN",
            "CLOSING",
            "SYN-RECV",
        ];
        for (number, name) in (1..).zip(names) {
            assert_eq!(SocketState::of_kernel(number).as_str(), name);
        }
        assert_eq!(SocketState::of_kernel(99), SocketState::Unconnected);
    }

    #[test]
    fn a_memory_connections_state_follows_from_the_fins() {
        let states = [(false, false), (false, true), (true, false), (true, true)].map(|(sent, received)| {
            [true, false].map(|unread| SocketState::of_memory(sent, received, unread))
        });
        use SocketState::*;
        assert_eq!(states, [[Established; 2], [CloseWait; 2], [FinWait1, FinWait2], [Closing, TimeWait]]);
    }

    use std::future::poll_fn;
    use std::net::SocketAddr;

    use crate::net::{Acceptor, Endpoint, Error, Family, PlaneConfig, Stack, StackConfig, TcpSocket};

    fn stack(memory: bool) -> Arc<Stack> {
        let planes = PlaneConfig { memory, ..PlaneConfig::default() };
        Stack::new(StackConfig { planes, ..StackConfig::default() })
    }

    fn listen(endpoint: &Endpoint) -> (TcpSocket, Acceptor, SocketAddr) {
        let socket = endpoint.tcp_socket(Family::V4).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let acceptor = socket.listen().unwrap();
        let address = socket.local_address().unwrap();
        (socket, acceptor, address)
    }

    async fn connect(endpoint: &Endpoint, address: SocketAddr) -> crate::net::Result<TcpSocket> {
        let socket = endpoint.tcp_socket(Family::V4)?;
        socket.start_connect(address)?;
        poll_fn(|cx| socket.poll_connect(cx)).await?;
        Ok(socket)
    }

    /// The states of a container's sockets, and its counters on a plane.
    fn look(stack: &Stack, container: &str, plane: Plane) -> (Vec<(SocketState, u64, u64)>, Counters) {
        let mut walk = stack.observe();
        let sockets =
            walk.next_page(1000).into_iter().flatten().filter(|socket| socket.container == container);
        let sockets = sockets
            .inspect(|socket| assert!(socket.plane.is_none_or(|it| it == plane), "{socket:?}"))
            .map(|socket| (socket.state, socket.recv_queue, socket.send_queue))
            .collect();
        let counters = walk.counters().into_iter().find(|counters| counters.container == container);
        (sockets, counters.unwrap_or_default())
    }

    #[tokio::test]
    async fn a_connection_is_seen_from_its_listener_to_its_end_on_both_planes() {
        for plane in Plane::ALL {
            let stack = stack(plane == Plane::Memory);
            let (a, b) = (stack.attach("a"), stack.attach("b"));
            let (_listening, mut acceptor, address) = listen(&a);
            let client = connect(&b, address).await.unwrap();
            assert_eq!(look(&stack, "a", plane).0, [(SocketState::Listen, 1, 128)], "{plane:?}");
            let server = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
            let (sends, receives) = (client.take_send_half().unwrap(), server.take_receive_half().unwrap());
            let written = poll_fn(|cx| sends.poll_write(cx, b"hello")).await;
            assert_eq!(written, Ok(5));
            poll_fn(|cx| receives.poll_ready(cx)).await;
            let (sockets, counters) = look(&stack, "a", plane);
            assert_eq!(sockets, [(SocketState::Listen, 0, 128), (SocketState::Established, 5, 0)]);
            let tcp = counters.planes[plane as usize].tcp;
            assert_eq!((tcp.open, tcp.accepted, tcp.bytes_in), (1, 1, 0));
            drop(sends);
            let mut buffer = [0; 10];
            assert_eq!(poll_fn(|cx| receives.poll_read(cx, &mut buffer)).await, Ok(5));
            assert_eq!(poll_fn(|cx| receives.poll_read(cx, &mut buffer)).await, Ok(0));
            let (sockets, counters) = look(&stack, "b", plane);
            match plane {
                Plane::Memory => assert_eq!(sockets, [(SocketState::FinWait2, 0, 0)]),
                // The kernel takes its time to acknowledge a FIN.
                Plane::Kernel => assert!(sockets[0].0.as_str().starts_with("FIN-WAIT"), "{sockets:?}"),
            }
            let tcp = counters.planes[plane as usize].tcp;
            assert_eq!((tcp.opened, tcp.bytes_out, tcp.bytes_in, tcp.refused), (1, 5, 0, 0));
            assert_eq!(look(&stack, "a", plane).0[1], (SocketState::CloseWait, 0, 0));
            // The container ends, and its next run goes on counting.
            b.close();
            let again = stack.attach("b");
            let refused = connect(&again, "127.0.0.1:1".parse().unwrap()).await.map(drop);
            assert_eq!(refused, Err(Error::ConnectionRefused));
            let (sockets, counters) = look(&stack, "b", plane);
            assert!(sockets.is_empty());
            assert_eq!((counters.planes[plane as usize].tcp.opened, counters.planes[1].tcp.refused), (1, 1));
        }
    }

    #[tokio::test]
    async fn an_end_that_dies_with_unread_data_is_a_reset_on_both_planes() {
        for plane in Plane::ALL {
            let stack = stack(plane == Plane::Memory);
            let (a, b) = (stack.attach("a"), stack.attach("b"));
            let (_listening, mut acceptor, address) = listen(&a);
            let client = connect(&b, address).await.unwrap();
            let server = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
            let (sends, receives) = (client.take_send_half().unwrap(), client.take_receive_half().unwrap());
            assert_eq!(poll_fn(|cx| sends.poll_write(cx, b"unread")).await, Ok(6));
            server.close();
            let mut buffer = [0; 10];
            let read = poll_fn(|cx| receives.poll_read(cx, &mut buffer)).await;
            assert_eq!(read, Err(Error::ConnectionReset));
            let (sockets, counters) = look(&stack, "b", plane);
            assert_eq!(sockets, [(SocketState::Unconnected, 0, 0)], "{plane:?}");
            let tcp = counters.planes[plane as usize].tcp;
            assert_eq!((tcp.resets_received, tcp.resets_sent, tcp.open), (1, 0, 0), "{plane:?}");
            let sent = look(&stack, "a", plane).1.planes[plane as usize].tcp.resets_sent;
            assert_eq!(sent, u64::from(plane == Plane::Memory));
        }
    }
}
