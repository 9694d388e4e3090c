//! What the kubelet's events say in the words of Go's standard library, which people search their logs for.

use std::net::SocketAddr;
use std::time::Duration;

use crate::net::Error;

/// `net.JoinHostPort`: an IPv6 address gets its brackets.
pub(super) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// `time.Duration.String`, of whole seconds: `1m30s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `net.OpError` of a connection that did not come to be.
pub(super) fn dial_failed(address: SocketAddr, error: Error) -> String {
    format!("dial tcp {address}: connect: {}", errno(error))
}

/// `net.OpError` of one that took too long.
pub(super) fn dial_timed_out(host: &str, port: u16) -> String {
    format!("dial tcp {}: i/o timeout", host_port(host, port))
}

/// `net.DNSError`.
pub(super) fn lookup_failed(host: &str, error: Error) -> String {
    match error {
        Error::NameUnresolvable | Error::InvalidArgument => format!("dial tcp: lookup {host}: no such host"),
        error => format!("dial tcp: lookup {host}: {error}"),
    }
}

/// `net.OpError` of a read or a write.
pub(super) fn operation(name: &str, local: SocketAddr, remote: SocketAddr, error: Error) -> String {
    format!("{name} tcp {local}->{remote}: {name}: {}", errno(error))
}

/// `syscall.Errno.Error` on Linux.
fn errno(error: Error) -> String {
    let words = match error {
        Error::ConnectionRefused => "connection refused",
        Error::ConnectionReset => "connection reset by peer",
        Error::ConnectionBroken => "broken pipe",
        Error::ConnectionAborted => "software caused connection abort",
        Error::RemoteUnreachable => "no route to host",
        Error::Timeout => "connection timed out",
        Error::AccessDenied => "permission denied",
        Error::AddressNotBindable => "cannot assign requested address",
        Error::AddressInUse => "address already in use",
        Error::TooManySockets => "too many open files",
        other => return other.to_string(),
    };
    words.to_owned()
}

/// An error and what it comes from, as Go wraps errors.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        let of = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!([of(0), of(1), of(60), of(90), of(3600)], ["0s", "1s", "1m0s", "1m30s", "1h0m0s"]);
    }

    #[test]
    fn an_ipv6_address_gets_its_brackets() {
        assert_eq!(host_port("fd00::2", 80), "[fd00::2]:80");
        assert_eq!(host_port("localhost", 80), "localhost:80");
    }
}
