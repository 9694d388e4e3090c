//! What one container may do on the network: the annotation `peapod.dev/network.<container>`.
//!
//! ```yaml
//! metadata:
//!   annotations:
//!     # A log shipper that may reach one host, and serves its metrics inside the pod.
//!     peapod.dev/network.shipper: |
//!       connect: logs.example.com:443/tcp
//!       bind: localhost:9090/tcp
//!     peapod.dev/network.worker: "connect: 10.0.0.0/8:8000-8099, localhost:9000; bind: none; resolve: none"
//!     peapod.dev/network.converter: none
//! ```
//!
//! The grammar:
//!
//! ```text
//! annotation = "none" | statement { (";" | newline) statement }
//! statement  = ("connect" | "bind" | "resolve") ":" ("none" | item { "," item })
//! connect    = host [ ":" ports ] [ "/" protocol ]          to these; without ports: to every one
//! bind       = [ host ":" ] ports [ "/" protocol ] | "*"    on these; host: not a name
//! resolve    = name                                         look these up
//! host       = "*" | "localhost" | name | address [ "/" prefix ]    an IPv6 address before ports in "[" "]"
//! name       = a DNS name; "*.example.com": everything below it
//! ports      = port [ "-" port ]        protocol = "tcp" | "udp", both when absent
//! ```
//!
//! * A direction without a statement is not restricted; `none` restricts it to nothing. `none` alone is
//!   `connect: none; bind: none; resolve: none`.
//! * It holds on both planes: towards other containers of the pod as towards the world. It only ever narrows what
//!   the pod's NetworkPolicies allow.
//! * A name in `connect` may also be looked up, and stands for the addresses that this container's own lookups of
//!   it returned. `localhost` is 127.0.0.0/8 and ::1, looked up or not. Names are compared as the container asks for
//!   them, before any search domain.
//! * What comes in by `bind` may be answered, whatever `connect` says.
//! * Binding to port 0 is always allowed: every client needs a port of its own. What listens on one, or receives
//!   datagrams from whom `connect` does not allow, needs `bind` to allow the port that it got.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Protocol, name};
use crate::manifest::hint;

/// Most items of one direction: each is looked at for a connection or datagram.
const MAX_ITEMS: usize = 256;

const DIRECTIONS: [&str; 3] = ["connect", "bind", "resolve"];
const NONE: &str = "none";

/// What one container may do; `None`: everything of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerNetwork {
    /// Whom it may connect and send to.
    pub connect: Option<Vec<Target>>,
    /// Where it may listen and receive.
    pub bind: Option<Vec<Target>>,
    /// Which names it may look up beside those in `connect`.
    pub resolve: Option<Vec<NamePattern>>,
}

/// Ports of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
    /// The protocol; `None`: both.
    pub protocol: Option<Protocol>,
}

impl Target {
    /// Whether `port` of `protocol` is one of them.
    pub fn has_port(&self, protocol: Protocol, port: u16) -> bool {
        (self.first..=self.last).contains(&port) && self.protocol.is_none_or(|own| own == protocol)
    }
}

/// Hosts of a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `*`.
    Any,
    /// `localhost`: the loopback addresses.
    Loopback,
    /// An address or a network.
    Net(IpNet),
    /// What lookups of a name return. Not in `bind`.
    Name(NamePattern),
}

/// A DNS name, or every name below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// In lower case and ASCII, without a dot at the end.
    name: String,
    /// Whether it stands for the names below it instead of for itself.
    below: bool,
}

impl NamePattern {
    /// Whether it stands for `name`, given in lower case and ASCII, without a dot at the end.
    pub fn matches(&self, name: &str) -> bool {
        if !self.below {
            return self.name == name;
        }
        name.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.below { "*." } else { "" })?;
        f.write_str(&self.name)
    }
}

/// Reads an annotation.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str) -> Result<ContainerNetwork, Vec<String>> {
    let mut errors = Vec::new();
    let mut network = ContainerNetwork::default();
    if text.trim() == NONE {
        return Ok(ContainerNetwork { connect: Some(vec![]), bind: Some(vec![]), resolve: Some(vec![]) });
    }
    let mut seen: Vec<&str> = Vec::new();
    for statement in text.split([';', '\n']).map(str::trim).filter(|statement| !statement.is_empty()) {
        let Some((direction, list)) = statement.split_once(':') else {
            errors.push(format!(
                "{statement:?} has no direction; write connect:, bind: or resolve: before it, or the word none alone"
            ));
            continue;
        };
        let direction = direction.trim();
        if !DIRECTIONS.contains(&direction) {
            let hint = hint(direction, DIRECTIONS);
            errors.push(format!("unknown direction {direction:?}{hint} (one of: connect, bind, resolve)"));
            continue;
        }
        if seen.contains(&direction) {
            errors.push(format!("{direction} is there twice; write its items with commas between"));
            continue;
        }
        seen.push(direction);
        match direction {
            "connect" => network.connect = Some(items(direction, list, connect_item, &mut errors)),
            "bind" => network.bind = Some(items(direction, list, bind_item, &mut errors)),
            _ => network.resolve = Some(items(direction, list, name_pattern, &mut errors)),
        }
    }
    if seen.is_empty() && errors.is_empty() {
        errors
            .push("is empty; write for example connect: logs.example.com:443, or none for no network".into());
    }
    if errors.is_empty() { Ok(network) } else { Err(errors) }
}

fn items<T>(
    direction: &str,
    list: &str,
    read: impl Fn(&str) -> Result<T, String>,
    errors: &mut Vec<String>,
) -> Vec<T> {
    let mut found = Vec::new();
    let mut texts: Vec<&str> = list.split(',').map(str::trim).collect();
    if texts == [NONE] {
        return found;
    }
    // A comma at the end is no item.
    if texts.len() > 1 && texts.last() == Some(&"") {
        texts.pop();
    }
    if texts.len() > MAX_ITEMS {
        errors.push(format!("{direction}: {} items are too many (at most {MAX_ITEMS})", texts.len()));
        return found;
    }
    for text in texts {
        let item = match text {
            "" => Err("nothing there; write an item, or none".to_owned()),
            NONE => Err("none stands alone".to_owned()),
            text if text.contains(char::is_whitespace) => {
                Err(format!("{text:?} has a space in it; divide items by commas"))
            }
            text => read(text).map_err(|why| format!("{text:?}: {why}")),
        };
        match item {
            Ok(item) => found.push(item),
            Err(why) => errors.push(format!("{direction}: {why}")),
        }
    }
    found
}

fn connect_item(text: &str) -> Result<Target, String> {
    let (rest, protocol) = split_protocol(text)?;
    let (host, ports) = split_ports(rest)?;
    let (first, last) = ports.map_or(Ok((0, u16::MAX)), port_range)?;
    Ok(Target { host: self::host(host)?, first, last, protocol })
}

fn bind_item(text: &str) -> Result<Target, String> {
    let (rest, protocol) = split_protocol(text)?;
    if rest == "*" {
        return Ok(Target { host: Host::Any, first: 0, last: u16::MAX, protocol });
    }
    if rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        let (first, last) = port_range(rest)?;
        return Ok(Target { host: Host::Any, first, last, protocol });
    }
    let (host, ports) = split_ports(rest)?;
    let Some(ports) = ports else {
        return Err("expected a port, such as 8080/tcp or localhost:8080".to_owned());
    };
    let (first, last) = port_range(ports)?;
    match self::host(host)? {
        Host::Name(_) => {
            Err("a name cannot be bound to; write localhost, an address, or the port alone".into())
        }
        host => Ok(Target { host, first, last, protocol }),
    }
}

/// Takes `/tcp` or `/udp` from the end. What else follows a slash is a prefix length.
fn split_protocol(text: &str) -> Result<(&str, Option<Protocol>), String> {
    match text.rsplit_once('/') {
        Some((rest, "tcp")) => Ok((rest, Some(Protocol::Tcp))),
        Some((rest, "udp")) => Ok((rest, Some(Protocol::Udp))),
        Some((_, word)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains(':') => {
            Err(format!("unknown protocol {word:?} (one of: tcp, udp)"))
        }
        _ => Ok((text, None)),
    }
}

/// Divides host and ports. Colons of an IPv6 address are none before ports.
fn split_ports(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
        return Ok((text, None));
    }
    let after_host = text.rfind(']').map_or(0, |end| end + 1);
    match text[after_host..].rfind(':') {
        Some(colon) => {
            let colon = after_host + colon;
            let host = &text[..colon];
            if host.contains(':') && !host.starts_with('[') {
                return Err("write an IPv6 address before ports in brackets: [fd00::1]:443".to_owned());
            }
            Ok((host, Some(&text[colon + 1..])))
        }
        None => Ok((text, None)),
    }
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if !text.starts_with('+') => Ok(port),
        _ => Err(format!("invalid port {text:?}: must be between 0 and {}", u16::MAX)),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the ports {first}-{last} are none; write the lower one first"));
    }
    Ok((first, last))
}

fn host(text: &str) -> Result<Host, String> {
    match text {
        "*" => return Ok(Host::Any),
        "localhost" => return Ok(Host::Loopback),
        _ => {}
    }
    let unbracketed = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, prefix)) => format!("{address}{prefix}"),
        None if text.starts_with('[') => return Err("a bracket is not closed".to_owned()),
        None => text.to_owned(),
    };
    if let Ok(address) = unbracketed.parse::<IpAddr>() {
        return Ok(Host::Net(address.to_canonical().into()));
    }
    if let Ok(net) = unbracketed.parse::<IpNet>() {
        return Ok(Host::Net(net.trunc()));
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    if unbracketed != text || text.contains('/') || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("neither an address, a network such as 10.0.0.0/8, nor a name".to_owned());
    }
    name_pattern(text).map(Host::Name)
}

fn name_pattern(text: &str) -> Result<NamePattern, String> {
    let (text, below) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let ascii = idna::domain_to_ascii(text).map_err(|_| "is no DNS name".to_owned())?;
    let name = ascii.strip_suffix('.').unwrap_or(&ascii).to_owned();
    // Names of services have underscores, which names of Kubernetes' objects have not.
    name::subdomain(&name.replace('_', "x"))
        .map_err(|_| "is no DNS name, such as logs.example.com or *.example.com".to_owned())?;
    Ok(NamePattern { name, below })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn good(text: &str) -> ContainerNetwork {
        parse(text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"))
    }

    fn net(text: &str) -> Host {
        Host::Net(text.parse().unwrap())
    }

    #[test]
    fn the_documented_examples() {
        let shipper = good("connect: logs.example.com:443/tcp\nbind: localhost:9090/tcp\n");
        let [target] = &shipper.connect.unwrap()[..] else { panic!("one target") };
        assert!(matches!(&target.host, Host::Name(name) if name.matches("logs.example.com")));
        assert_eq!((target.first, target.last, target.protocol), (443, 443, Some(Protocol::Tcp)));
        assert_eq!(shipper.bind.unwrap()[0].host, Host::Loopback);
        assert_eq!(shipper.resolve, None);
        let worker = good("connect: 10.0.0.0/8:8000-8099, localhost:9000; bind: none; resolve: none");
        let connect = worker.connect.unwrap();
        assert_eq!(connect[0].host, net("10.0.0.0/8"));
        assert_eq!((connect[0].first, connect[0].last, connect[0].protocol), (8000, 8099, None));
        assert_eq!((worker.bind, worker.resolve), (Some(vec![]), Some(vec![])));
        let nothing = Some(vec![]);
        let converter = good(" none ");
        assert_eq!((&converter.connect, &converter.bind), (&nothing, &nothing));
        assert_eq!(converter.resolve, Some(vec![]));
    }

    #[test]
    fn hosts_and_ports() {
        let any = (0, u16::MAX);
        for (text, host, ports, protocol) in [
            ("10.1.2.3", net("10.1.2.3/32"), any, None),
            ("10.1.2.3/udp", net("10.1.2.3/32"), any, Some(Protocol::Udp)),
            ("10.1.2.3/8", net("10.0.0.0/8"), any, None),
            ("10.0.0.0/8/tcp", net("10.0.0.0/8"), any, Some(Protocol::Tcp)),
            ("10.0.0.0/8:80/tcp", net("10.0.0.0/8"), (80, 80), Some(Protocol::Tcp)),
            ("fd00::1", net("fd00::1/128"), any, None),
            ("fd00::/8", net("fd00::/8"), any, None),
            ("fd00::/8/tcp", net("fd00::/8"), any, Some(Protocol::Tcp)),
            ("[fd00::1]:443", net("fd00::1/128"), (443, 443), None),
            ("[fd00::]/8:1-2/udp", net("fd00::/8"), (1, 2), Some(Protocol::Udp)),
            ("[fd00::/8]:1-2", net("fd00::/8"), (1, 2), None),
            ("*:53", Host::Any, (53, 53), None),
            ("*", Host::Any, any, None),
            ("localhost", Host::Loopback, any, None),
        ] {
            let target = Target { host, first: ports.0, last: ports.1, protocol };
            assert_eq!(good(&format!("connect: {text}")).connect, Some(vec![target]), "{text}");
        }
        for (text, host, ports) in [
            ("8080", Host::Any, (8080, 8080)),
            ("1-9", Host::Any, (1, 9)),
            ("*", Host::Any, any),
            ("*:80", Host::Any, (80, 80)),
            ("0", Host::Any, (0, 0)),
            ("127.0.0.1:80", net("127.0.0.1/32"), (80, 80)),
            ("[::1]:80", net("::1/128"), (80, 80)),
        ] {
            let target = Target { host, first: ports.0, last: ports.1, protocol: None };
            assert_eq!(good(&format!("bind: {text},")).bind, Some(vec![target]), "{text}");
        }
    }

    #[test]
    fn names() {
        let pattern = |text: &str| name_pattern(text).unwrap();
        assert!(pattern("LOGS.example.com.").matches("logs.example.com"));
        assert!(!pattern("example.com").matches("logs.example.com"));
        let below = pattern("*.example.com");
        assert_eq!(below.to_string(), "*.example.com");
        for (name, matches) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("badexample.com", false),
            ("example.com.evil.org", false),
        ] {
            assert_eq!(below.matches(name), matches, "{name}");
        }
        assert!(pattern("bücher.example").matches("xn--bcher-kva.example"));
        assert!(pattern("_srv._tcp.example").matches("_srv._tcp.example"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("", "is empty"),
            ("443", "has no direction"),
            ("conect: a", "did you mean connect?"),
            ("accept: 10.0.0.1", "one of: connect, bind, resolve"),
            ("connect: a; connect: b", "twice"),
            ("connect:", "nothing there"),
            ("connect: a,,b", "nothing there"),
            ("connect: a b", "divide items by commas"),
            ("connect: a, none", "none stands alone"),
            ("connect: a:70000", "invalid port \"70000\""),
            ("connect: a:9-1", "the lower one first"),
            ("connect: a:http", "invalid port \"http\""),
            ("connect: a:443/sctp", "unknown protocol \"sctp\""),
            ("connect: fd00::1:443x", "in brackets"),
            ("connect: [fd00::1", "not closed"),
            ("connect: [a, b]", "not closed"),
            ("connect: 10.0.0.0/33", "neither an address"),
            ("connect: 1.2.3", "neither an address"),
            ("connect: -a-", "no DNS name"),
            ("bind: localhost", "expected a port"),
            ("bind: example.com:80", "cannot be bound to"),
            ("resolve: a/b", "no DNS name"),
        ] {
            let errors = parse(text).expect_err(text);
            assert!(errors.iter().any(|error| error.contains(words)), "{text:?}: {errors:?}");
        }
        assert_eq!(parse("connect: a:0x; bind: x:; resolve: !").unwrap_err().len(), 3);
        let many = format!("connect: {}", "a,".repeat(MAX_ITEMS + 1));
        assert!(parse(&many).unwrap_err()[0].contains("too many"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn nearly_good_texts_do_not_panic(
            text in "(connect|bind|resolve): ?[a-c0-9.:/\\[\\]*-]{0,12}(:[0-9-]{0,6})?(/tcp|/udp)?",
        ) {
            let _ = parse(&text);
        }
    }
}
