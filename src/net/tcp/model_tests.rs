//! The kernel is the model: random calls by three containers and a native process are run once on the stack
//! and once on plain kernel sockets, in a network namespace of their own, and every result, errno, address
//! and accepted client has to be the same.
//!
//! Where the WIT asks for something else than Linux, the plain sockets follow the WIT ([`Plain`]):
//!
//! * "The bind operation shouldn't be affected by the TIME_WAIT state of a recently closed socket on the same
//!   local address." So binding sets SO_REUSEADDR, and the namespace keeps no sockets in TIME_WAIT.
//! * "After a failed connection attempt, the socket will be in the `closed` state".
//! * "`invalid-argument`: The IP address in `remote-address` is set to INADDR_ANY", which Linux takes for
//!   loopback; and the other addresses that [`addr`] refuses.
//! * "`invalid-state`: The socket is already bound. (EINVAL)", and likewise the other calls in the wrong state.
//! * A connected socket stays `connected`: `remote-address` goes on to name the peer when the connection is over.
//! * "WASI is stricter and requires `local-address` to return `invalid-state` when the socket hasn't been bound
//!   yet."
//!
//! Left out are the three cases that [`crate::net::ports`] names as not seen: see [`World::unseen`]. The two
//! planes' clients of one listener are compared each in their order.
//!
//! A failure prints the calls; put them into [`replay`] to run them alone.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::net::options::Options;
use crate::net::{Acceptor, Endpoint, Error, Family, Result, Stack, StackConfig, TcpSocket, addr, kernel};
use crate::sys::namespace::set_network_parameter;
use crate::testing::network::{self, Barrier};

const OWN: [&str; 2] = ["10.9.0.1", "fd00::9"];
const IPS: [[&str; 7]; 2] = [
    ["127.0.0.1", "127.0.0.1", "127.0.0.2", OWN[0], "0.0.0.0", "10.9.0.99", "127.255.255.255"],
    ["::1", "::1", OWN[1], "::", OWN[1], "fd00::99", "::1"],
];
const PORTS: [u16; 3] = [5000, 5001, 5002];

/// Containers 0 to 2, and a native process.
const OWNERS: [Option<usize>; 10] =
    [Some(0), Some(0), Some(0), Some(1), Some(1), Some(1), Some(2), None, None, None];

/// The native one that binds without SO_REUSEADDR.
const CARELESS: usize = 9;

/// Accepted sockets that are kept; the others are closed at once.
const KEPT: usize = 6;

#[derive(Debug, Clone, Copy)]
enum Port {
    Fixed(usize),
    /// The local port of another socket, if it has one.
    Of(usize),
    Zero,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    /// Closes the socket and makes a new one.
    Open(usize, Family),
    Close(usize),
    CloseAccepted(usize),
    /// The container ends and starts again.
    End(usize),
    Bind(usize, usize, Port),
    Listen(usize),
    /// A new socket, bound and listening.
    Serve(usize, Family, usize, Port),
    Connect(usize, usize, Port),
    /// A new socket, connected to another one's port.
    Dial(usize, usize, usize),
    /// All that wait.
    Accept(usize),
}

fn any_port() -> impl Strategy<Value = Port> {
    prop_oneof![
        5 => (0..PORTS.len()).prop_map(Port::Fixed),
        3 => (0..OWNERS.len()).prop_map(Port::Of),
        1 => Just(Port::Zero),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let slot = || 0..OWNERS.len();
    let family = || prop_oneof![2 => Just(Family::V4), 1 => Just(Family::V6)];
    prop_oneof![
        3 => (slot(), family()).prop_map(|(s, f)| Op::Open(s, f)),
        6 => (slot(), family(), 0..7usize, any_port()).prop_map(|(s, f, i, p)| Op::Serve(s, f, i, p)),
        9 => (slot(), 0..5usize, slot()).prop_map(|(s, i, o)| Op::Dial(s, i, o)),
        1 => slot().prop_map(Op::Close),
        1 => (0..KEPT).prop_map(Op::CloseAccepted),
        1 => (0..3usize).prop_map(Op::End),
        7 => (slot(), 0..7usize, any_port()).prop_map(|(s, i, p)| Op::Bind(s, i, p)),
        5 => slot().prop_map(Op::Listen),
        9 => (slot(), 0..7usize, any_port()).prop_map(|(s, i, p)| Op::Connect(s, i, p)),
        3 => slot().prop_map(Op::Accept),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unbound,
    Bound,
    Listening,
    Connecting,
    Connected,
    Closed,
}

/// A kernel socket, used as the WIT describes one.
struct Plain {
    fd: Option<OwnedFd>,
    family: Family,
    state: State,
    remote: Option<SocketAddr>,
    /// Whether binding sets SO_REUSEADDR.
    reuse: bool,
}

impl Plain {
    fn new(family: Family, reuse: bool) -> Self {
        let fd = kernel::socket(family, &Options::default()).expect("socket");
        Self { fd: Some(fd), family, state: State::Unbound, remote: None, reuse }
    }

    fn fd(&self) -> Result<&OwnedFd> {
        self.fd.as_ref().ok_or(Error::InvalidState)
    }

    fn bind(&mut self, local: SocketAddr) -> Result<()> {
        if self.state != State::Unbound {
            return Err(Error::InvalidState);
        }
        addr::check_tcp_bind(self.family, local)?;
        let fd = self.fd()?;
        sockopt::set_socket_reuseaddr(fd, self.reuse)?;
        rustix::net::bind(fd, &local)?;
        self.state = State::Bound;
        Ok(())
    }

    fn listen(&mut self, backlog: u32) -> Result<()> {
        match self.state {
            State::Unbound => self.bind(self.family.unspecified())?,
            State::Bound => {}
            _ => return Err(Error::InvalidState),
        }
        rustix::net::listen(self.fd()?, backlog as i32)?;
        self.state = State::Listening;
        Ok(())
    }

    fn start_connect(&mut self, remote: SocketAddr) -> Result<()> {
        if !matches!(self.state, State::Unbound | State::Bound) {
            return Err(Error::InvalidState);
        }
        addr::check_tcp_remote(self.family, remote)?;
        self.remote = Some(remote);
        match rustix::net::connect(self.fd()?, &remote) {
            Ok(()) | Err(Errno::INPROGRESS) => self.state = State::Connecting,
            Err(errno) => return Err(self.fail(errno)),
        }
        Ok(())
    }

    fn fail(&mut self, errno: Errno) -> Error {
        self.fd = None;
        self.state = State::Closed;
        errno.into()
    }

    fn finish_connect(&mut self) -> Poll<Result<()>> {
        if self.state != State::Connecting {
            return Poll::Ready(Err(Error::InvalidState));
        }
        let fd = self.fd()?;
        if let Err(errno) = sockopt::socket_error(fd)? {
            return Poll::Ready(Err(self.fail(errno)));
        }
        if rustix::net::getpeername(fd).is_err() {
            return Poll::Pending;
        }
        self.state = State::Connected;
        Poll::Ready(Ok(()))
    }

    fn accept(&self) -> Result<Option<(Self, SocketAddr)>> {
        if self.state != State::Listening {
            return Err(Error::InvalidState);
        }
        match rustix::net::acceptfrom(self.fd()?) {
            Ok((fd, remote)) => {
                let remote = SocketAddr::try_from(remote.expect("address")).expect("address");
                let (family, state, reuse) = (self.family, State::Connected, self.reuse);
                Ok(Some((Self { fd: Some(fd), family, state, remote: Some(remote), reuse }, remote)))
            }
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn local(&self) -> Result<SocketAddr> {
        if self.state == State::Unbound {
            return Err(Error::InvalidState);
        }
        SocketAddr::try_from(rustix::net::getsockname(self.fd()?)?).map_err(Error::from)
    }

    fn remote(&self) -> Result<SocketAddr> {
        if self.state == State::Connected {
            self.remote.ok_or(Error::InvalidState)
        } else {
            Err(Error::InvalidState)
        }
    }
}

enum Any {
    Stack(TcpSocket, Option<Acceptor>),
    Plain(Plain),
}

impl Any {
    fn local(&self) -> Result<SocketAddr> {
        match self {
            Self::Stack(socket, _) => socket.local_address(),
            Self::Plain(plain) => plain.local(),
        }
    }

    fn remote(&self) -> Result<SocketAddr> {
        match self {
            Self::Stack(socket, _) => socket.remote_address(),
            Self::Plain(plain) => plain.remote(),
        }
    }
}

/// Who connected from where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Client {
    native: bool,
    local: SocketAddr,
    remote: SocketAddr,
}

/// One run of the calls.
struct World<'a> {
    /// `None`: all sockets are plain.
    stack: Option<Arc<Stack>>,
    endpoints: Vec<Endpoint>,
    slots: Vec<Option<Any>>,
    families: Vec<Family>,
    accepted: Vec<(Option<usize>, Any)>,
    clients: HashSet<Client>,
    /// Ephemeral ports in the order in which they were given out.
    ports: HashMap<u16, usize>,
    /// The kernel gave out a port a second time, which it chooses by chance: nothing can be said.
    coincidence: bool,
    barrier: &'a Barrier,
    in_memory: u32,
    backlog: u32,
}

impl<'a> World<'a> {
    fn new(stack: Option<Arc<Stack>>, barrier: &'a Barrier, backlog: u32) -> Self {
        let endpoints = stack.iter().flat_map(|s| ["a", "b", "c"].map(|name| s.attach(name))).collect();
        let slots = OWNERS.iter().map(|_| None).collect();
        let (families, accepted) = (vec![Family::V4; OWNERS.len()], Vec::new());
        let (clients, ports) = (HashSet::new(), HashMap::new());
        let mut world = Self {
            stack,
            endpoints,
            slots,
            families,
            accepted,
            clients,
            ports,
            coincidence: false,
            barrier,
            in_memory: 0,
            backlog,
        };
        for slot in 0..OWNERS.len() {
            world.open(slot, Family::V4);
        }
        world
    }

    fn open(&mut self, slot: usize, family: Family) {
        self.close(slot);
        self.families[slot] = family;
        self.slots[slot] = Some(match OWNERS[slot].and_then(|owner| self.endpoints.get(owner)) {
            Some(endpoint) => Any::Stack(endpoint.tcp_socket(family).expect("socket"), None),
            None => Any::Plain(Plain::new(family, slot != CARELESS)),
        });
    }

    fn close(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    /// Lets what was sent arrive, and the event loop see it.
    async fn settle(&self) {
        self.barrier.wait();
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
    }

    fn address(&self, slot: usize, ip: usize, port: Port) -> Option<SocketAddr> {
        let family = usize::from(self.families[slot] == Family::V6);
        let port = match port {
            Port::Fixed(i) => PORTS[i],
            Port::Of(other) => self.slots[other].as_ref()?.local().ok()?.port(),
            Port::Zero => 0,
        };
        Some(SocketAddr::new(IPS[family][ip].parse().expect("address"), port))
    }

    /// Names an ephemeral port by when it was given out.
    fn name(&mut self, port: u16) -> String {
        if port == 0 || PORTS.contains(&port) {
            return port.to_string();
        }
        let next = self.ports.len();
        format!("e{}", self.ports.entry(port).or_insert(next))
    }

    fn fresh(&mut self, address: Result<SocketAddr>) {
        if let Ok(address) = address
            && !PORTS.contains(&address.port())
        {
            self.coincidence |= self.ports.contains_key(&address.port());
            self.name(address.port());
        }
    }

    fn show(&mut self, address: Result<SocketAddr>) -> String {
        match address {
            Ok(address) => format!("{}:{}", address.ip(), self.name(address.port())),
            Err(error) => format!("{error:?}"),
        }
    }

    /// What the stack does not see, as its port table says.
    fn unseen(&self, op: Op) -> bool {
        match op {
            // A native that binds to a port of the memory plane.
            Op::Bind(slot, _, Port::Of(other)) if slot != CARELESS => {
                let port = self.slots[other].as_ref().and_then(|s| s.local().ok());
                OWNERS[slot].is_none()
                    && OWNERS[other].is_some()
                    && port.is_some_and(|p| !PORTS.contains(&p.port()))
            }
            // A native that binds without SO_REUSEADDR where a container's connections may live on.
            Op::Bind(CARELESS, ip, port @ (Port::Fixed(_) | Port::Of(_))) => {
                self.address(CARELESS, ip, port).is_some_and(|a| {
                    self.clients.iter().any(|c| c.remote.port() == a.port() || c.local.port() == a.port())
                })
            }
            // A native between the two addresses of a container's connection, or the other way round.
            Op::Connect(slot, ip, port) => {
                let mine = self.slots[slot].as_ref().and_then(|s| s.local().ok());
                let remote = self.address(slot, ip, port);
                let native = OWNERS[slot].is_none();
                self.clients.iter().any(|c| {
                    let same = |local: SocketAddr, to| {
                        Some(to) == remote && Some(local.port()) == mine.map(|l| l.port())
                    };
                    c.native != native && (same(c.local, c.remote) || same(c.remote, c.local))
                })
            }
            _ => false,
        }
    }

    async fn run(&mut self, op: Op) -> String {
        if self.unseen(op) {
            return String::new();
        }
        let done = match op {
            Op::Open(slot, family) => {
                self.open(slot, family);
                String::new()
            }
            Op::Close(slot) => {
                self.close(slot);
                String::new()
            }
            Op::CloseAccepted(i) => {
                if i < self.accepted.len() {
                    self.accepted.remove(i);
                }
                String::new()
            }
            Op::End(container) => self.end(container),
            Op::Bind(slot, ip, port) => self.bind(slot, ip, port),
            Op::Listen(slot) => self.listen(slot),
            Op::Connect(slot, ip, port) => self.connect(slot, ip, port).await,
            Op::Serve(slot, family, ip, port) => {
                self.open(slot, family);
                if self.unseen(Op::Bind(slot, ip, port)) {
                    return String::new();
                }
                let bound = self.bind(slot, ip, port);
                bound + &self.listen(slot)
            }
            Op::Dial(slot, ip, other) if slot != other => {
                self.open(slot, self.families[other]);
                // Where the other one is, if it is somewhere.
                let local = self.slots[other].as_ref().and_then(|s| s.local().ok());
                let family = usize::from(self.families[other] == Family::V6);
                let at = local.and_then(|l| IPS[family].iter().position(|ip| l.ip().to_string() == *ip));
                let at = at.filter(|at| IPS[family][*at] != ["0.0.0.0", "::"][family]);
                self.connect(slot, at.unwrap_or(ip), Port::Of(other)).await
            }
            Op::Dial(..) => String::new(),
            Op::Accept(slot) => self.accept(slot).await,
        };
        self.settle().await;
        let mut seen = done;
        for slot in 0..self.slots.len() {
            let Some(any) = &self.slots[slot] else { continue };
            let (local, remote) = (any.local(), any.remote());
            // A failed socket is closed: it says why it failed, whatever it is asked.
            if matches!(any, Any::Plain(p) if p.state == State::Closed)
                || matches!(any, Any::Stack(..) if local.is_err() && local != Err(Error::InvalidState))
            {
                continue;
            }
            let (local, remote) = (self.show(local), self.show(remote));
            seen += &format!(" {slot}:{local}>{remote}");
        }
        for i in 0..self.accepted.len() {
            let (local, remote) = (self.accepted[i].1.local(), self.accepted[i].1.remote());
            let (local, remote) = (self.show(local), self.show(remote));
            seen += &format!(" a{i}:{local}>{remote}");
        }
        seen
    }

    fn end(&mut self, container: usize) -> String {
        if let Some(stack) = &self.stack {
            self.endpoints[container] = stack.attach("again");
        }
        self.accepted.retain(|(owner, _)| *owner != Some(container));
        let own = || OWNERS.iter().enumerate().filter(|(_, o)| **o == Some(container)).map(|(slot, _)| slot);
        own().for_each(|slot| self.close(slot));
        own().for_each(|slot| self.open(slot, self.families[slot]));
        String::new()
    }

    fn bind(&mut self, slot: usize, ip: usize, port: Port) -> String {
        let Some(address) = self.address(slot, ip, port) else { return String::new() };
        let result = match &mut self.slots[slot] {
            Some(Any::Stack(socket, _)) => socket.bind(address),
            Some(Any::Plain(plain)) => plain.bind(address),
            None => return String::new(),
        };
        if result.is_ok() && address.port() == 0 {
            let local = self.slots[slot].as_ref().expect("socket").local();
            self.fresh(local);
        }
        format!("{result:?}")
    }

    fn listen(&mut self, slot: usize) -> String {
        let was_bound = self.slots[slot].as_ref().is_some_and(|s| s.local().is_ok());
        let result = match &mut self.slots[slot] {
            Some(Any::Stack(socket, acceptor)) => {
                let _ = socket.set_backlog(self.backlog.into());
                socket.listen().map(|a| *acceptor = Some(a))
            }
            Some(Any::Plain(plain)) => plain.listen(self.backlog),
            None => return String::new(),
        };
        if result.is_ok() && !was_bound {
            let local = self.slots[slot].as_ref().expect("socket").local();
            self.fresh(local);
        }
        format!("{result:?}")
    }

    async fn connect(&mut self, slot: usize, ip: usize, port: Port) -> String {
        let Some(address) = self.address(slot, ip, port) else { return String::new() };
        let was_bound = self.slots[slot].as_ref().is_some_and(|s| s.local().is_ok());
        let mut result = match &mut self.slots[slot] {
            Some(Any::Stack(socket, _)) => socket.start_connect(address),
            Some(Any::Plain(plain)) => plain.start_connect(address),
            None => return String::new(),
        };
        if result.is_ok() {
            for round in 0..20 {
                self.settle().await;
                if round > 2 {
                    // On a busy machine the kernel's own threads carry the answer.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let polled = match self.slots[slot].as_mut().expect("socket") {
                    Any::Stack(socket, _) => socket.poll_connect(&mut Context::from_waker(Waker::noop())),
                    Any::Plain(plain) => plain.finish_connect(),
                };
                match polled {
                    Poll::Ready(r) => {
                        result = r;
                        break;
                    }
                    Poll::Pending => result = Err(Error::Other(Errno::INPROGRESS.raw_os_error())),
                }
            }
        }
        if result.is_ok() {
            let any = self.slots[slot].as_ref().expect("socket");
            self.in_memory += u32::from(matches!(any, Any::Stack(s, _) if s.is_memory()));
            let local = any.local();
            if !was_bound {
                self.fresh(local);
            }
            if let Ok(local) = local {
                self.clients.insert(Client { native: OWNERS[slot].is_none(), local, remote: address });
            }
        }
        format!("{result:?}")
    }

    /// The clients that wait, those of each plane in order.
    async fn accept(&mut self, slot: usize) -> String {
        let (mut natives, mut containers) = (Vec::new(), Vec::new());
        loop {
            let accepted = match &mut self.slots[slot] {
                Some(Any::Stack(_, Some(acceptor))) => {
                    match acceptor.poll_accept(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(Ok(socket)) => {
                            let remote = socket.remote_address();
                            Ok(Some((Any::Stack(socket, None), remote)))
                        }
                        Poll::Ready(Err(error)) => Err(error),
                        Poll::Pending => Ok(None),
                    }
                }
                Some(Any::Plain(plain)) => {
                    plain.accept().map(|a| a.map(|(p, _)| (p.remote(), p)).map(|(r, p)| (Any::Plain(p), r)))
                }
                _ => Err(Error::InvalidState),
            };
            match accepted {
                Ok(Some((socket, remote))) => {
                    let native = remote.is_ok_and(|remote| {
                        self.clients
                            .iter()
                            .any(|c| c.native && c.local == remote && socket.local() == Ok(c.remote))
                    });
                    let shown = self.show(remote);
                    if native { natives.push((shown, socket)) } else { containers.push((shown, socket)) }
                }
                Ok(None) => break,
                Err(error) => return format!("{error:?}"),
            }
        }
        let mut seen = String::new();
        for (remote, socket) in natives.into_iter().chain(containers) {
            seen += &format!("{remote} ");
            if self.accepted.len() < KEPT {
                self.accepted.push((OWNERS[slot], socket));
            }
        }
        seen
    }
}

/// A network with the ephemeral ports of a pod, and no TIME_WAIT, but FIN_WAIT2 for as long as the peer keeps its end
/// open.
fn in_a_network(run: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static) {
    network::in_a_network(&OWN, |runtime| {
        for (name, value) in [
            ("ipv4/ip_local_port_range", "32768 49151"),
            ("ipv4/tcp_max_tw_buckets", "0"),
            ("ipv4/tcp_fin_timeout", "120"),
        ] {
            set_network_parameter(name, value).expect(name);
        }
        run(runtime);
    });
}

fn stack() -> Arc<Stack> {
    let addresses = OWN.iter().map(|own| own.parse().expect("address")).collect();
    Stack::new(StackConfig { addresses, ..StackConfig::default() })
}

/// Both runs; how many connections were in memory.
async fn compare(ops: &[Op], barrier: &Barrier, backlog: u32) -> std::result::Result<u32, TestCaseError> {
    let mut outcomes = Vec::new();
    let mut in_memory = 0;
    for stack in [Some(stack()), None] {
        let mut world = World::new(stack.clone(), barrier, backlog);
        let mut seen = Vec::new();
        for op in ops {
            seen.push(world.run(*op).await);
            if world.coincidence {
                return Err(TestCaseError::reject("the kernel chose a port twice"));
            }
        }
        in_memory += world.in_memory;
        drop(world);
        barrier.wait();
        if let Some(stack) = stack {
            prop_assert!(stack.is_idle());
            prop_assert_eq!(stack.budget.held(), 0);
        }
        outcomes.push(seen);
    }
    for (i, op) in ops.iter().enumerate() {
        prop_assert_eq!(&outcomes[0][i], &outcomes[1][i], "stack and kernel differ at call {}: {:?}", i, op);
    }
    Ok(in_memory)
}

/// How often calls are run that end differently.
const ATTEMPTS: usize = 4;

#[test]
fn random_calls_end_as_on_the_kernel() {
    in_a_network(|runtime| {
        let barrier = Barrier::new();
        let in_memory = std::cell::Cell::new(0u32);
        // The same calls each time, unless somebody wants to find new ones. One difference is known and not understood
        // yet, once in some 15,000 cases: a bind with SO_REUSEADDR to the local port of a connection may succeed.
        let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
        let cases = wanted.unwrap_or(300);
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let mut runner = match wanted {
            Some(_) => TestRunner::new(config),
            None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
        };
        let result = runner.run(&proptest::collection::vec(any_op(), 1..100), |ops| {
            let mut compared = runtime.block_on(compare(&ops, &barrier, 128));
            // Some answers of the kernel depend on the ports that it chooses: a difference is there again.
            for _ in 1..ATTEMPTS {
                if !matches!(compared, Err(TestCaseError::Fail(_))) {
                    break;
                }
                compared = runtime.block_on(compare(&ops, &barrier, 128));
            }
            in_memory.set(in_memory.get() + compared?);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
        // Or the memory plane was not what was tested.
        assert!(in_memory.get() > cases / 4, "only {} connections in memory", in_memory.get());
    });
}

/// For the calls of a failure.
#[test]
fn replay() {
    use Family::*;
    use Op::*;
    use Port::*;
    in_a_network(|runtime| {
        let barrier = Barrier::new();
        let calls = [
            // A reset client gives its ephemeral port back while its socket is still open.
            vec![Bind(0, 0, Fixed(0)), Listen(0), Connect(3, 0, Fixed(0)), Close(0), Bind(4, 0, Of(3))],
            // An open one does not.
            vec![
                Bind(0, 0, Fixed(0)),
                Listen(0),
                Connect(3, 0, Fixed(0)),
                Bind(4, 0, Of(3)),
                Bind(5, 4, Of(3)),
            ],
            // A socket that connects to itself.
            vec![Bind(0, 0, Fixed(0)), Connect(0, 0, Fixed(0)), Connect(3, 0, Fixed(0))],
            // The same, though another listens there.
            vec![Bind(3, 2, Fixed(0)), Bind(5, 2, Fixed(0)), Listen(5), Connect(3, 2, Fixed(0)), Accept(5)],
            // A connection's addresses, from the side of its server.
            vec![Bind(2, 3, Fixed(0)), Serve(1, V4, 3, Fixed(0)), Dial(5, 0, 1), Connect(2, 3, Of(5))],
            vec![Open(0, V6), Bind(0, 3, Zero), Listen(0), Open(3, V6), Connect(3, 2, Of(0)), Accept(0)],
        ];
        for ops in calls {
            runtime.block_on(compare(&ops, &barrier, 128)).expect("the same");
        }
    });
}

/// A backlog of one takes two, the others wait and may give up.
#[test]
fn a_full_backlog() {
    use Op::*;
    in_a_network(|runtime| {
        let barrier = Barrier::new();
        let serve = Serve(0, Family::V4, 0, Port::Fixed(0));
        let dial = |slot| Dial(slot, 0, 0);
        for ops in [
            vec![serve, dial(3), dial(4), dial(5), dial(6), Close(5), Close(6), Accept(0)],
            vec![serve, dial(3), dial(4), dial(5), Close(0)],
            vec![serve, dial(3), Close(3), dial(3), Close(3), dial(3), End(1), Accept(0), dial(3), Accept(0)],
        ] {
            runtime.block_on(compare(&ops, &barrier, 1)).expect("the same");
        }
    });
}
