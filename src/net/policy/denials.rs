//! What was denied: counted always, told now and then.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Direction, PodRules, Request};
use crate::net::Tell;

/// How long a container's next line waits after one: enough to see that it goes on, too little to fill a log.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Longest name that a line repeats, in bytes: a name in DNS has at most 253.
const MAX_NAME: usize = 253;

/// Why something was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No NetworkPolicy lets it in.
    Ingress,
    /// No NetworkPolicy lets it out.
    Egress,
    /// Not in `connect` of the container's annotation.
    Connect,
    /// Not in `bind` of the container's annotation.
    Bind,
    /// Not in `resolve` of the container's annotation.
    Resolve,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Ingress, Self::Egress, Self::Connect, Self::Bind, Self::Resolve];

    /// One word for it, as in the annotation or the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Connect => "connect",
            Self::Bind => "bind",
            Self::Resolve => "resolve",
        }
    }
}

/// How often something was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// To which container.
    pub container: String,
    /// Why.
    pub reason: Reason,
    /// Attempts: connections, datagrams, binds or lookups.
    pub count: u64,
}

#[derive(Debug)]
pub(super) struct Denials {
    containers: BTreeMap<String, OfContainer>,
    tell: Tell,
}

#[derive(Debug, Default)]
struct OfContainer {
    /// In the order of [`Reason::ALL`].
    counts: [AtomicU64; Reason::ALL.len()],
    lines: Mutex<Lines>,
}

/// When the last line was told, and what has not been told since.
#[derive(Debug, Default)]
struct Lines {
    last: Option<Instant>,
    untold: u64,
}

impl Lines {
    /// Whether a line may be told at `now`; if so, how many denials had none since the last.
    fn turn(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl OfContainer {
    fn tell_in_turn(&self, container: &str, tell: &Tell, line: impl FnOnce() -> String) {
        let turn = self.lines.lock().unwrap_or_else(PoisonError::into_inner).turn(Instant::now());
        let Some(untold) = turn else { return };
        let more = match untold {
            0 => String::new(),
            untold => format!(" ({untold} more before, not told)"),
        };
        tell.tell(format!("container {container}: {}{more}", line()));
    }
}

impl Denials {
    pub(super) fn new(containers: Vec<&str>, tell: Tell) -> Self {
        let containers = containers.into_iter().map(|name| (name.to_owned(), OfContainer::default()));
        Self { containers: containers.collect(), tell }
    }

    pub(super) fn add(&self, container: &str, reason: Reason, request: Request<'_>, rules: &PodRules) {
        let Some(own) = self.containers.get(container) else { return };
        own.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let (what, why) = (|| describe(request), || explain(container, reason, rules));
        own.tell_in_turn(container, &self.tell, || format!("{} denied: {}", what(), why()));
    }

    pub(super) fn tell_failed_lookup(&self, container: &str, name: &str, rules: &PodRules) {
        let Some(own) = self.containers.get(container) else { return };
        own.tell_in_turn(container, &self.tell, || {
            let names = rules.egress.as_ref().map(|egress| egress.policies.join(", ")).unwrap_or_default();
            format!(
                "{} failed: NetworkPolicy {names} isolates the pod's egress; do its rules allow port 53, UDP and TCP, \
                 of the DNS server?",
                describe(Request::Resolve(name))
            )
        });
    }

    pub(super) fn counts(&self) -> Vec<Denied> {
        let counts = self.containers.iter().flat_map(|(container, own)| {
            Reason::ALL.into_iter().zip(&own.counts).map(move |(reason, count)| Denied {
                container: container.clone(),
                reason,
                count: count.load(Ordering::Relaxed),
            })
        });
        counts.filter(|denied| denied.count > 0).collect()
    }
}

fn describe(request: Request<'_>) -> String {
    let tcp = |action: &str, address: SocketAddr| format!("{action} {address}/tcp");
    let udp = |action: &str, address: SocketAddr| format!("{action} {address}/udp");
    match request {
        Request::TcpBind(local) => tcp("bind to", local),
        Request::TcpListen(local) => tcp("listen on", local),
        Request::TcpConnect(remote) => tcp("connect to", remote),
        Request::TcpAccept { local, remote } => {
            format!("connection from {remote} to port {}/tcp", local.port())
        }
        Request::UdpBind(local) => udp("bind to", local),
        Request::UdpSend { remote, .. } => udp("send to", remote),
        Request::UdpReceive { local, remote, .. } => {
            format!("datagram from {remote} to port {}/udp", local.port())
        }
        Request::Resolve(name) => {
            let shown = name.char_indices().take_while(|(at, _)| *at < MAX_NAME).map(|(_, c)| c);
            format!("lookup of {:?}", shown.collect::<String>())
        }
    }
}

fn explain(container: &str, reason: Reason, rules: &PodRules) -> String {
    let annotation =
        |direction: &str| format!("not in {direction} of annotation peapod.dev/network.{container}");
    match reason {
        Reason::Ingress => not_allowed(Direction::Ingress, rules),
        Reason::Egress => not_allowed(Direction::Egress, rules),
        Reason::Connect | Reason::Bind | Reason::Resolve => annotation(reason.as_str()),
    }
}

/// Why what the policies do not allow in a direction is denied.
pub(super) fn not_allowed(direction: Direction, rules: &PodRules) -> String {
    let field = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let names = rules.isolation(direction).map(|isolation| isolation.policies.join(", "));
    format!("no {field} rule of NetworkPolicy {} allows it", names.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_spaced_and_say_how_much_was_not_told() {
        let start = Instant::now();
        let mut lines = Lines::default();
        assert_eq!(lines.turn(start), Some(0));
        assert_eq!(lines.turn(start), None);
        assert_eq!(lines.turn(start + BETWEEN_LINES / 2), None);
        assert_eq!(lines.turn(start + BETWEEN_LINES), Some(2));
        assert_eq!(lines.turn(start + BETWEEN_LINES * 3), Some(0));
    }

    #[test]
    fn reasons_are_counted_in_their_order() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn a_name_of_megabytes_is_not_repeated() {
        assert!(describe(Request::Resolve(&"ü".repeat(1 << 20))).len() < 2 * MAX_NAME);
    }
}
