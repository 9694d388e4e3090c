//! Names: what the pod answers itself, and the system's resolver for the rest.
//!
//! ```text
//! name ─► address literal ─► syntax, IDNA ─► localhost, hostname, hostAliases ─► getaddrinfo
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Error, Result};
use crate::spec::HostAlias;

/// Most lookups of one container that may be at the system's resolver at once; each holds a thread, and a
/// server that does not answer holds it for seconds. Of its own, so that one container does not keep the
/// others from looking up.
pub(super) const MAX_LOOKUPS: usize = 4;

/// Longest name, in bytes (RFC 1035, section 2.3.4), and longest label.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Longest name that is looked at, in bytes: IDNA makes at least one byte of a character that it keeps,
/// and UTF-8 has up to four for it. A guest may hand over megabytes, and would hold up the others.
const MAX_UNICODE_NAME: usize = 4 * MAX_NAME;

/// The names that the pod itself answers.
#[derive(Debug)]
pub(super) struct Names {
    own: HashMap<String, Vec<IpAddr>>,
}

/// What a name turned out to be.
#[derive(Debug, PartialEq, Eq)]
enum Query {
    Address(IpAddr),
    /// In lower case, ASCII, without the dot at the end.
    Name(String),
}

impl Names {
    pub(super) fn new(hostname: &str, addresses: &[IpAddr], aliases: &[HostAlias]) -> Self {
        let mut own: HashMap<String, Vec<IpAddr>> = HashMap::new();
        // As the kubelet's /etc/hosts: aliases may add addresses to any name.
        if !hostname.is_empty() {
            let entry = own.entry(hostname.to_ascii_lowercase()).or_default();
            entry.extend(addresses.iter().copied());
            if entry.is_empty() {
                entry.extend(loopback());
            }
        }
        for alias in aliases {
            for name in &alias.hostnames {
                let entry = own.entry(name.trim_end_matches('.').to_ascii_lowercase()).or_default();
                if !entry.contains(&alias.ip) {
                    entry.push(alias.ip);
                }
            }
        }
        Self { own }
    }

    /// The answer that needs no resolver: address literals, `localhost` (RFC 6761), the pod's own.
    ///
    /// IPv4 comes first for `localhost`: most servers that bind one address bind 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is neither a name nor an address.
    #[cfg(test)]
    fn answer(&self, name: &str) -> Result<Option<Vec<IpAddr>>> {
        Ok(self.lookup(&parse(name)?))
    }

    fn lookup(&self, query: &Query) -> Option<Vec<IpAddr>> {
        match query {
            Query::Address(ip) => Some(vec![*ip]),
            Query::Name(name) => match self.own.get(name) {
                Some(addresses) => Some(addresses.clone()),
                None if name == "localhost" || name.ends_with(".localhost") => Some(loopback().to_vec()),
                None => None,
            },
        }
    }

    /// `lookups` are the container's permits, [`MAX_LOOKUPS`] of them.
    pub(super) async fn resolve(&self, name: &str, lookups: &Arc<Semaphore>) -> Result<Vec<IpAddr>> {
        let query = parse(name)?;
        if let Some(answer) = self.lookup(&query) {
            return Ok(answer);
        }
        let Query::Name(name) = query else { return Err(Error::NameUnresolvable) };
        let permit = lookups.clone().acquire_owned().await.map_err(|_| Error::TemporaryResolverFailure)?;
        // The permit goes with the thread: a lookup that nobody waits for any more still runs.
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|a| a.ip()).collect::<Vec<_>>())
        });
        let found =
            lookup.await.map_err(|_| Error::TemporaryResolverFailure)?.map_err(|e| resolver_error(&e))?;
        let mut addresses = Vec::with_capacity(found.len());
        for ip in found.into_iter().map(|ip| ip.to_canonical()) {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        Ok(addresses)
    }
}

fn loopback() -> [IpAddr; 2] {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
}

fn parse(name: &str) -> Result<Query> {
    if name.len() > MAX_UNICODE_NAME {
        return Err(Error::InvalidArgument);
    }
    let unbracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    if let Some(inner) = unbracketed {
        let ip: Ipv6Addr = inner.parse().map_err(|_| Error::InvalidArgument)?;
        return Ok(Query::Address(IpAddr::V6(ip).to_canonical()));
    }
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(Query::Address(ip.to_canonical()));
    }
    let ascii = idna::domain_to_ascii(name).map_err(|_| Error::InvalidArgument)?;
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
    let label_is_valid = |label: &str| {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(valid)
    };
    // A last label of digits only would be an address, and is none (RFC 3696, section 2).
    let last_is_number = ascii.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if ascii.len() > MAX_NAME || last_is_number || !ascii.split('.').all(label_is_valid) {
        return Err(Error::InvalidArgument);
    }
    Ok(Query::Name(ascii.to_owned()))
}

/// std gives getaddrinfo's code as text only (`gai_strerror(3)`): glibc's and musl's words for the two
/// failures that are not "no such name".
fn resolver_error(error: &io::Error) -> Error {
    let text = error.to_string();
    if text.contains("Temporary failure") || text.contains("Try again") {
        Error::TemporaryResolverFailure
    } else if text.contains("Non-recoverable") || text.contains("Unrecoverable") {
        Error::PermanentResolverFailure
    } else {
        Error::NameUnresolvable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Option<Vec<IpAddr>> {
        Some(list.iter().map(|s| s.parse().expect(s)).collect())
    }

    fn names() -> Names {
        let alias = |ip: &str, names: &[&str]| HostAlias {
            ip: ip.parse().expect(ip),
            hostnames: names.iter().map(|n| (*n).to_owned()).collect(),
        };
        Names::new(
            "web-0",
            &["10.0.0.2".parse().expect("ip"), "fd00::2".parse().expect("ip")],
            &[alias("10.1.1.1", &["db", "DB.example"]), alias("10.1.1.2", &["db"])],
        )
    }

    #[test]
    fn own_names() {
        let n = names();
        for (name, expected) in [
            ("localhost", ips(&["127.0.0.1", "::1"])),
            ("LocalHost.", ips(&["127.0.0.1", "::1"])),
            ("a.localhost", ips(&["127.0.0.1", "::1"])),
            ("web-0", ips(&["10.0.0.2", "fd00::2"])),
            ("db", ips(&["10.1.1.1", "10.1.1.2"])),
            ("db.EXAMPLE", ips(&["10.1.1.1"])),
            ("192.0.2.1", ips(&["192.0.2.1"])),
            ("::1", ips(&["::1"])),
            ("[::1]", ips(&["::1"])),
            ("::ffff:192.0.2.1", ips(&["192.0.2.1"])),
            ("example.com", None),
            ("_srv.example.com", None),
        ] {
            assert_eq!(n.answer(name), Ok(expected), "{name}");
        }
    }

    #[test]
    fn without_addresses_the_hostname_is_loopback() {
        assert_eq!(Names::new("p", &[], &[]).answer("p"), Ok(ips(&["127.0.0.1", "::1"])));
    }

    #[test]
    fn what_is_no_name() {
        let long = "a".repeat(64);
        for name in
            ["", ".", " ", "a b", "a..b", ".a", "[::1", "127.0.0.1:80", "1.2.3.999", "a/b", &long, "a\0"]
        {
            assert_eq!(names().answer(name), Err(Error::InvalidArgument), "{name:?}");
        }
    }

    #[test]
    fn a_name_of_megabytes_is_not_read() {
        // The characters are ones that IDNA drops.
        let name = format!("a{}", "\u{ad}".repeat(1 << 20));
        assert_eq!(names().answer(&name), Err(Error::InvalidArgument));
        assert_eq!(parse("a\u{ad}b"), Ok(Query::Name("ab".into())));
    }

    #[test]
    fn unicode_is_punycoded() {
        assert_eq!(parse("bücher.example"), Ok(Query::Name("xn--bcher-kva.example".into())));
    }

    #[tokio::test]
    async fn resolves_its_own_without_a_resolver() {
        // Nor does it need a permit.
        assert_eq!(names().resolve("db", &Arc::new(Semaphore::new(0))).await.expect("own").len(), 2);
    }
}
