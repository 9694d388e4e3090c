//! The pod's /etc/resolv.conf: whom it asks, for what, and how.
//!
//! ```text
//! the host's file ─► parse ─┐
//! dnsPolicy ────────────────┼─► for_pod ─► limits ─► ResolvConf ─► text, Settings
//! dnsConfig ────────────────┘
//! ```
//!
//! As `pkg/kubelet/network/dns/dns.go` does it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::query::MAX_NAME;
use crate::spec::convert::{MAX_NAMESERVERS, MAX_SEARCH_BYTES, MAX_SEARCHES};
use crate::spec::{CLUSTER_DOMAIN, Dns, DnsOption, DnsPolicy};

/// glibc's defaults and limits of the options (resolv.conf(5)).
const NDOTS: (usize, usize) = (1, 15);
const TIMEOUT_SECONDS: (usize, usize) = (5, 30);
const ATTEMPTS: (usize, usize) = (2, 5);

/// What a resolv.conf(5) says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Whom to ask, in order.
    pub nameservers: Vec<IpAddr>,
    /// Search domains, in order.
    pub search: Vec<String>,
    /// Options, each once.
    pub options: Vec<DnsOption>,
}

/// What the options mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Names with so many dots are asked for as they are first.
    pub(super) ndots: usize,
    /// For one server's answer to one attempt.
    pub(super) timeout: Duration,
    /// How often each server is asked.
    pub(super) attempts: usize,
    /// Whether the servers take turns.
    pub(super) rotate: bool,
    /// Whether answers by UDP may be longer than 512 bytes (RFC 6891).
    pub(super) edns0: bool,
    /// Whether to ask by TCP always.
    pub(super) use_vc: bool,
    /// Whether not to ask for IPv6 addresses.
    pub(super) no_aaaa: bool,
}

impl ResolvConf {
    /// Reads a file. Lines that make no sense are left out, as glibc does; so are addresses with a zone, which
    /// mean nothing in another network namespace.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => {
                    conf.nameservers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
                }
                // The last of these counts.
                Some("search") => conf.search = words.map(without_dot).collect(),
                Some("domain") => conf.search = words.take(1).map(without_dot).collect(),
                Some("options") => {
                    for option in words {
                        set(&mut conf.options, option_of(option));
                    }
                }
                _ => {}
            }
        }
        conf
    }

    /// What a pod gets on a host that has `self`: with names of the cluster, `namespace` is the pod's. And what
    /// had to be left out, in words.
    pub fn for_pod(self, dns: &Dns, cluster: Option<&str>) -> (Self, Vec<String>) {
        let mut conf = match (dns.policy, cluster) {
            (DnsPolicy::None, _) => Self::default(),
            (_, Some(namespace)) => {
                let domains = [
                    format!("{namespace}.svc.{CLUSTER_DOMAIN}"),
                    format!("svc.{CLUSTER_DOMAIN}"),
                    CLUSTER_DOMAIN.to_owned(),
                ];
                Self {
                    nameservers: self.nameservers,
                    search: domains.into_iter().chain(self.search).collect(),
                    options: vec![option_of("ndots:5")],
                }
            }
            (_, None) => self,
        };
        conf.nameservers.extend(dns.nameservers.iter().map(|ip| ip.to_canonical()));
        conf.search.extend(dns.searches.iter().cloned());
        for option in &dns.options {
            set(&mut conf.options, option.clone());
        }
        let warnings = conf.limit();
        (conf, warnings)
    }

    /// Takes out nameservers that `refused` says cannot be reached; whether there were any.
    pub fn without(&mut self, refused: impl Fn(&IpAddr) -> bool) -> bool {
        let before = self.nameservers.len();
        self.nameservers.retain(|ip| !refused(ip));
        before != self.nameservers.len()
    }

    /// No duplicates, and no more than glibc reads.
    fn limit(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        omit_duplicates(&mut self.nameservers);
        omit_duplicates(&mut self.search);
        if self.nameservers.len() > MAX_NAMESERVERS {
            self.nameservers.truncate(MAX_NAMESERVERS);
            let applied: Vec<String> = self.nameservers.iter().map(ToString::to_string).collect();
            warnings.push(format!(
                "more than {MAX_NAMESERVERS} nameservers: some are left out, the pod asks {}",
                applied.join(" ")
            ));
        }
        let before = self.search.len();
        self.search.retain(|domain| domain.len() <= MAX_NAME);
        self.search.truncate(MAX_SEARCHES);
        while self.search.iter().map(|domain| domain.len() + 1).sum::<usize>() > MAX_SEARCH_BYTES + 1 {
            self.search.pop();
        }
        if self.search.len() < before {
            let applied = self.search.join(" ");
            warnings.push(format!(
                "more than {MAX_SEARCHES} search domains or {MAX_SEARCH_BYTES} bytes of them: some are left \
                 out, the pod searches {applied}"
            ));
        }
        warnings
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text += &format!("search {}\n", self.search.join(" "));
        }
        for nameserver in &self.nameservers {
            text += &format!("nameserver {nameserver}\n");
        }
        if !self.options.is_empty() {
            let word = |option: &DnsOption| match &option.value {
                Some(value) => format!("{}:{value}", option.name),
                None => option.name.clone(),
            };
            let words: Vec<String> = self.options.iter().map(word).collect();
            text += &format!("options {}\n", words.join(" "));
        }
        text
    }

    pub(super) fn settings(&self) -> Settings {
        let find = |name: &str| self.options.iter().find(|option| option.name == name);
        let number = |name: &str, (default, most): (usize, usize)| {
            let value = find(name).and_then(|option| option.value.as_deref()?.parse::<usize>().ok());
            value.map_or(default, |value| value.min(most))
        };
        Settings {
            ndots: number("ndots", NDOTS),
            timeout: Duration::from_secs(number("timeout", TIMEOUT_SECONDS).max(1) as u64),
            attempts: number("attempts", ATTEMPTS).max(1),
            rotate: find("rotate").is_some(),
            edns0: find("edns0").is_some(),
            use_vc: find("use-vc").is_some(),
            no_aaaa: find("no-aaaa").is_some(),
        }
    }
}

/// Whether a nameserver's address is a stub's on the loopback, which no other network namespace reaches. The
/// unspecified addresses lead there too.
pub fn is_stub(ip: &IpAddr) -> bool {
    ip.is_loopback() || *ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || *ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

fn without_dot(domain: &str) -> String {
    match domain.trim_end_matches('.') {
        "" => ".".to_owned(),
        relative => relative.to_ascii_lowercase(),
    }
}

fn option_of(word: &str) -> DnsOption {
    match word.split_once(':') {
        Some((name, value)) => DnsOption { name: name.to_owned(), value: Some(value.to_owned()) },
        None => DnsOption { name: word.to_owned(), value: None },
    }
}

/// The last one counts, in the place of the first.
fn set(options: &mut Vec<DnsOption>, option: DnsOption) {
    match options.iter_mut().find(|known| known.name == option.name) {
        Some(known) => *known = option,
        None => options.push(option),
    }
}

fn omit_duplicates<T: PartialEq>(list: &mut Vec<T>) {
    let mut index = 0;
    while index < list.len() {
        let (before, rest) = list.split_at(index);
        if before.contains(&rest[0]) {
            list.remove(index);
        } else {
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = "# the host's\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\nnameserver nonsense\n\
                        nameserver 2001:db8::53\ndomain old.example\nsearch Corp.example. lab.example\n\
                        options timeout:2 rotate timeout:3\n; end\nsortlist 1.2.3.4\n";

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn dns(policy: DnsPolicy, nameservers: &[&str], searches: &[&str], options: &[&str]) -> Dns {
        Dns {
            policy,
            nameservers: ips(nameservers),
            searches: strings(searches),
            options: options.iter().map(|word| option_of(word)).collect(),
            ..Dns::default()
        }
    }

    fn text(dns: &Dns, cluster: Option<&str>) -> String {
        let (conf, warnings) = ResolvConf::parse(HOST).for_pod(dns, cluster);
        assert_eq!(warnings, [""; 0]);
        conf.text()
    }

    #[test]
    fn the_hosts_file_is_read_as_glibc_reads_it() {
        let conf = ResolvConf::parse(HOST);
        assert_eq!(conf.nameservers, ips(&["10.0.0.53", "2001:db8::53"]));
        assert_eq!(conf.search, ["corp.example", "lab.example"]);
        assert_eq!(conf.options, [option_of("timeout:3"), option_of("rotate")]);
        assert_eq!(ResolvConf::parse("domain a. b\n").search, ["a"]);
        assert_eq!(ResolvConf::parse("search .\n").search, ["."]);
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
    }

    #[test]
    fn policies() {
        let cluster = dns(DnsPolicy::ClusterFirst, &[], &[], &[]);
        assert_eq!(
            text(&cluster, Some("team")),
            "search team.svc.cluster.local svc.cluster.local cluster.local corp.example lab.example\n\
             nameserver 10.0.0.53\nnameserver 2001:db8::53\noptions ndots:5\n"
        );
        let default = dns(DnsPolicy::Default, &[], &[], &[]);
        assert_eq!(
            text(&default, None),
            "search corp.example lab.example\nnameserver 10.0.0.53\nnameserver 2001:db8::53\n\
             options timeout:3 rotate\n"
        );
        let none = dns(DnsPolicy::None, &["192.0.2.53"], &["my.example"], &["ndots:2", "edns0"]);
        assert_eq!(text(&none, None), "search my.example\nnameserver 192.0.2.53\noptions ndots:2 edns0\n");
    }

    #[test]
    fn a_dns_config_adds_and_overrides() {
        let more = dns(
            DnsPolicy::ClusterFirst,
            &["2001:db8::53", "192.0.2.53"],
            &["lab.example", "more.example"],
            &["ndots:1", "use-vc"],
        );
        assert_eq!(
            text(&more, Some("a")),
            "search a.svc.cluster.local svc.cluster.local cluster.local corp.example lab.example more.example\n\
             nameserver 10.0.0.53\nnameserver 2001:db8::53\nnameserver 192.0.2.53\noptions ndots:1 use-vc\n"
        );
    }

    #[test]
    fn limits_are_kept_and_told() {
        let host = ResolvConf {
            nameservers: ips(&["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"]),
            search: (0..40).map(|n| format!("d{n}.example")).collect(),
            options: vec![],
        };
        let more = dns(DnsPolicy::Default, &["10.0.0.4"], &[], &[]);
        let (conf, warnings) = host.for_pod(&more, None);
        assert_eq!(conf.nameservers, ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
        assert_eq!(conf.search.len(), 32);
        assert!(warnings[0].contains("10.0.0.1 10.0.0.2 10.0.0.3"), "{warnings:?}");
        assert!(warnings[1].contains("d31.example") && !warnings[1].contains("d32"), "{warnings:?}");
        let long =
            ResolvConf { search: (0..20).map(|n| format!("{}{n}", "a".repeat(200))).collect(), ..conf };
        let (conf, warnings) = long.for_pod(&dns(DnsPolicy::Default, &[], &[], &[]), None);
        assert!(conf.search.join(" ").len() <= 2048 && conf.search.len() == 10, "{}", conf.search.len());
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn options_mean_what_the_manual_says() {
        let settings = |text: &str| ResolvConf::parse(text).settings();
        let default = settings("");
        assert_eq!((default.ndots, default.timeout.as_secs(), default.attempts), (1, 5, 2));
        assert!(!(default.rotate || default.edns0 || default.use_vc || default.no_aaaa));
        let all = settings("options ndots:5 timeout:1 attempts:3 rotate edns0 use-vc no-aaaa\n");
        assert_eq!((all.ndots, all.timeout.as_secs(), all.attempts), (5, 1, 3));
        assert!(all.rotate && all.edns0 && all.use_vc && all.no_aaaa);
        let silly = settings("options ndots:99 timeout:0 attempts:0 ndots\n");
        assert_eq!((silly.ndots, silly.timeout.as_secs(), silly.attempts), (1, 1, 1));
        assert_eq!(settings("options ndots:99 timeout:99 attempts:99\n").ndots, 15);
        assert_eq!(settings("options ndots:-1\n").ndots, 1);
    }

    #[test]
    fn stubs_on_the_loopback_are_taken_out() {
        let mut conf = ResolvConf::parse("nameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.53\n");
        assert!(conf.without(is_stub));
        assert_eq!(conf.nameservers, ips(&["10.0.0.53"]));
        assert!(!conf.without(is_stub));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "((nameserver|search|domain|options) [a-z0-9.: ]{0,40}\n){0,8}") {
            let (conf, _) = ResolvConf::parse(&text).for_pod(&dns(DnsPolicy::Default, &[], &[], &[]), None);
            prop_assert_eq!(ResolvConf::parse(&conf.text()), conf);
        }

        #[test]
        fn any_file_is_survived(text in "\\PC{0,200}") {
            let _ = ResolvConf::parse(&text).settings();
        }
    }
}
