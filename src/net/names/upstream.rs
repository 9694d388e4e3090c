//! The nameservers of resolv.conf, through hickory-resolver.
//!
//! ```text
//! name ─► server ─► A ┐                  found, absent ─► answer
//!    ▲       │  AAAA ─┴─► both together ─┤
//!    │       ▼                           refused, server failure, malformed ─► the next server
//!  attempts ◄─── all servers ────────────silent ─► the next server, and all of them again
//! ```
//!
//! Each server has a hickory resolver of its own, without cache and without retries, so that the order is that of
//! resolv.conf(5) as glibc reads it: hickory would ask all servers at once, and take the first one's failure for
//! an answer. The server that answered last is asked first, so that a dead one costs its timeout once.
//!
//! Dropping a lookup closes its sockets. A resolver's connections by TCP are tasks that end with it.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::MAX_ADDRESSES;
use super::resolv_conf::{ResolvConf, Settings};
use crate::net::Error;

/// What the nameservers say about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// None: there is no such name, or it has no address.
    pub(super) addresses: Arc<[IpAddr]>,
    /// How long that is true.
    pub(super) until: Instant,
}

/// Why no nameserver says anything about a name. In the order in which one hides the other: another try helps the
/// later ones rather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// REFUSED, NOTIMP and their relatives.
    Refused,
    /// What came cannot be read.
    Malformed,
    /// SERVFAIL.
    ServFail,
    /// Nothing came, or nothing could be sent.
    Silent,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused | Failure::Malformed => Self::PermanentResolverFailure,
            Failure::ServFail | Failure::Silent => Self::TemporaryResolverFailure,
        }
    }
}

/// One record type's part of an answer.
#[derive(Debug)]
enum Part {
    Found(Vec<IpAddr>, Instant),
    /// The name does not exist, or has no address of that type.
    Absent(Instant),
    Failed(Failure),
}

/// The nameservers.
pub(super) struct Upstream {
    servers: Vec<Server>,
    settings: Settings,
    /// The server to ask first.
    next: AtomicUsize,
}

struct Server {
    ip: IpAddr,
    resolver: Resolver<Connected>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Upstream {
    pub(super) fn new(conf: &ResolvConf) -> Self {
        let settings = conf.settings();
        let server = |ip: &IpAddr| match resolver(*ip, &settings) {
            Ok(resolver) => Some(Server { ip: *ip, resolver }),
            Err(error) => {
                tracing::warn!(server = %ip, %error, "this nameserver cannot be asked");
                None
            }
        };
        let servers = conf.nameservers.iter().filter_map(server).collect();
        Self { servers, settings, next: AtomicUsize::new(0) }
    }

    /// Asks for the addresses of an absolute name.
    pub(super) async fn ask(&self, name: &str) -> Result<Answer, Failure> {
        let Ok(absolute) = Name::from_ascii(format!("{name}.")) else { return Err(Failure::Malformed) };
        let count = self.servers.len();
        let mut failure = Failure::Refused;
        if count == 0 {
            return Err(Failure::Silent);
        }
        for _ in 0..self.settings.attempts {
            let first = match self.settings.rotate {
                true => self.next.fetch_add(1, Ordering::Relaxed),
                false => self.next.load(Ordering::Relaxed),
            };
            let mut silent = false;
            for index in (0..count).map(|offset| first.wrapping_add(offset) % count) {
                let server = &self.servers[index];
                match self.ask_server(server, &absolute).await {
                    Ok(answer) => {
                        if !self.settings.rotate {
                            self.next.store(index, Ordering::Relaxed);
                        }
                        return Ok(answer);
                    }
                    Err(why) => {
                        tracing::debug!(server = %server.ip, name, failure = ?why, "a nameserver does not answer");
                        silent |= why == Failure::Silent;
                        failure = failure.max(why);
                    }
                }
            }
            if !silent {
                break;
            }
        }
        Err(failure)
    }

    async fn ask_server(&self, server: &Server, name: &Name) -> Result<Answer, Failure> {
        let ask = async |kind| part(server.resolver.lookup(name.clone(), kind).await);
        if self.settings.no_aaaa {
            return together(ask(RecordType::A).await, None);
        }
        let (v4, v6) = futures::future::join(ask(RecordType::A), ask(RecordType::AAAA)).await;
        together(v4, Some(v6))
    }
}

fn resolver(ip: IpAddr, settings: &Settings) -> Result<Resolver<Connected>, NetError> {
    let mut connections = vec![ConnectionConfig::tcp()];
    if !settings.use_vc {
        connections.insert(0, ConnectionConfig::udp());
    }
    let servers = vec![NameServerConfig::new(ip, true, connections)];
    let mut options = ResolverOpts::default();
    options.attempts = 0;
    options.cache_size = 0;
    options.edns0 = settings.edns0;
    options.num_concurrent_reqs = 1;
    // A port of hickory's own choice might be one that a container is about to bind.
    options.os_port_selection = true;
    options.preserve_intermediates = false;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.timeout = settings.timeout;
    options.use_hosts_file = ResolveHosts::Never;
    let config = ResolverConfig::from_name_servers(servers);
    Resolver::builder_with_config(config, Connected::default()).with_options(options).build()
}

fn part(found: Result<hickory_resolver::lookup::Lookup, NetError>) -> Part {
    let now = Instant::now();
    match found {
        Ok(lookup) => {
            let records = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
            let addresses: Vec<IpAddr> = records.map(|ip| ip.to_canonical()).take(MAX_ADDRESSES).collect();
            let until = lookup.valid_until();
            if addresses.is_empty() { Part::Absent(now) } else { Part::Found(addresses, until) }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            Part::Absent(now + Duration::from_secs(none.negative_ttl.unwrap_or(0).into()))
        }
        Err(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail))) => Part::Failed(Failure::ServFail),
        Err(NetError::Dns(_)) => Part::Failed(Failure::Refused),
        Err(NetError::Proto(_) | NetError::ForeignClassRecord { .. } | NetError::Truncated) => {
            Part::Failed(Failure::Malformed)
        }
        Err(_) => Part::Failed(Failure::Silent),
    }
}

/// The answer of both types. Half of one is better than none, but not to be remembered.
fn together(v4: Part, v6: Option<Part>) -> Result<Answer, Failure> {
    let mut addresses = Vec::new();
    let (mut found_until, mut absent_until, mut failure) = (None::<Instant>, None::<Instant>, None);
    let sooner = |known: Option<Instant>, until| Some(known.map_or(until, |known| known.min(until)));
    for part in [Some(v4), v6].into_iter().flatten() {
        match part {
            Part::Found(more, until) => {
                addresses.extend(more);
                found_until = sooner(found_until, until);
            }
            Part::Absent(until) => absent_until = sooner(absent_until, until),
            Part::Failed(why) => failure = failure.max(Some(why)),
        }
    }
    match (found_until, failure) {
        (Some(_), Some(_)) => Ok(Answer { addresses: addresses.into(), until: Instant::now() }),
        (Some(until), None) => Ok(Answer { addresses: addresses.into(), until }),
        (None, Some(failure)) => Err(failure),
        (None, None) => {
            let until = absent_until.unwrap_or_else(Instant::now);
            Ok(Answer { addresses: Arc::new([]), until })
        }
    }
}

/// tokio's sockets, UDP ones connected to their server: the kernel drops what others send, and a server that is
/// not there is known at once (ECONNREFUSED) rather than after the timeout.
#[derive(Clone, Default)]
struct Connected(TokioRuntimeProvider);

impl RuntimeProvider for Connected {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = ConnectedUdp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        self.0.connect_tcp(server, bind, timeout)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(ConnectedUdp(socket))
        })
    }
}

/// A UDP socket that listens for ICMP errors too, for which tokio's do not wake a reader.
struct ConnectedUdp(UdpSocket);

impl DnsUdpSocket for ConnectedUdp {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        DnsUdpSocket::poll_recv_from(&self.0, cx, buffer)
    }

    fn recv_from<'s, 'b, 'f>(
        &'s self,
        buffer: &'b mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<(usize, SocketAddr)>> + Send + 'f>>
    where
        's: 'f,
        'b: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            loop {
                let ready = self.0.ready(Interest::READABLE | Interest::ERROR).await?;
                if ready.is_error() {
                    if let Some(error) = self.0.take_error()? {
                        return Err(error);
                    }
                    // Waits for the next.
                    let _ = self.0.try_io(Interest::ERROR, || Err::<(), _>(ErrorKind::WouldBlock.into()));
                }
                match self.0.try_recv_from(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
        })
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buffer: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        DnsUdpSocket::poll_send_to(&self.0, cx, buffer, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ip: &str, until: Instant) -> Part {
        Part::Found(vec![ip.parse().unwrap()], until)
    }

    #[test]
    fn two_parts_make_an_answer() {
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(5), now + Duration::from_secs(50));
        let both = together(found("192.0.2.1", later), Some(found("2001:db8::1", soon))).unwrap();
        assert_eq!((both.addresses.len(), both.until), (2, soon));
        let one = together(Part::Absent(soon), Some(found("2001:db8::1", later))).unwrap();
        assert_eq!((one.addresses.len(), one.until), (1, later));
        let none = together(Part::Absent(later), Some(Part::Absent(soon))).unwrap();
        assert_eq!((none.addresses.len(), none.until), (0, soon));
        let half = together(found("192.0.2.1", later), Some(Part::Failed(Failure::Silent))).unwrap();
        assert!(half.addresses.len() == 1 && half.until < soon, "not remembered");
        assert_eq!(together(Part::Absent(soon), Some(Part::Failed(Failure::Refused))), Err(Failure::Refused));
        let failed = |a, b| together(Part::Failed(a), Some(Part::Failed(b)));
        assert_eq!(failed(Failure::ServFail, Failure::Refused), Err(Failure::ServFail));
        assert_eq!(together(found("192.0.2.1", soon), None).unwrap().until, soon);
    }
}
