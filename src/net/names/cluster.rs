//! Names of the cluster: the pods of this machine, as a cluster's DNS names them
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>).
//!
//! | name, below `cluster.local` | is |
//! |---|---|
//! | `<subdomain>.<namespace>.svc` | a headless service: every pod with the subdomain |
//! | `<hostname>.<subdomain>.<namespace>.svc` | one pod of it |
//! | `<10-201-0-2>.<namespace>.pod` | the pod with that address |
//! | `<pod>.<namespace>.svc`, `<pod>.<namespace>.pod` | a pod by its name, which clusters do not have |
//!
//! The shorter forms, such as `<pod>` and `<pod>.<namespace>`, come of the search list. Nothing of this domain is
//! ever asked of a nameserver.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::spec::CLUSTER_DOMAIN;

/// A pod of this machine, as others see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// Its name in DNS, below its subdomain.
    pub hostname: String,
    /// `spec.subdomain`.
    pub subdomain: Option<String>,
    /// Where it is reached.
    pub addresses: Vec<IpAddr>,
    /// Its process's pid on the host, and when that started, in clock ticks since boot.
    pub process: Option<(i32, u64)>,
}

/// Who knows the pods of this machine.
pub trait Neighbours: fmt::Debug + Send + Sync {
    /// Every pod that may run, except the one that asks. May read files.
    fn pods(&self) -> Arc<Vec<Neighbour>>;

    /// Whether a pod's process still runs.
    fn is_alive(&self, pod: &Neighbour) -> bool;
}

/// What a pod knows of the cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The pod itself.
    pub own: Neighbour,
    /// The others.
    pub others: Arc<dyn Neighbours>,
}

impl Cluster {
    /// The addresses of a name below the cluster's domain; none: there is no such name. May read files.
    pub(super) fn find(&self, relative: &str) -> Vec<IpAddr> {
        let others = self.others.pods();
        let alive = |pod: &&Neighbour| pod.process.is_none() || self.others.is_alive(pod);
        let all = || std::iter::once(&self.own).chain(others.iter());
        let mut addresses = Vec::new();
        for form in forms(relative) {
            for pod in all().filter(|pod| form.names(pod)).filter(alive) {
                let named = pod.addresses.iter().filter(|ip| form.asks_for(**ip));
                for ip in named {
                    if !addresses.contains(ip) {
                        addresses.push(*ip);
                    }
                }
            }
            if !addresses.is_empty() {
                break;
            }
        }
        addresses
    }
}

/// What is left of a name without the cluster's domain, if it is below that.
pub(super) fn relative(name: &str) -> Option<&str> {
    let rest = name.strip_suffix(CLUSTER_DOMAIN)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

/// One way to read a name.
#[derive(Debug, PartialEq, Eq)]
enum Form<'a> {
    Service { subdomain: &'a str, namespace: &'a str },
    Member { hostname: &'a str, subdomain: &'a str, namespace: &'a str },
    Address { ip: IpAddr, namespace: &'a str },
    Pod { name: &'a str, namespace: &'a str },
}

/// The ways to read a name below the cluster's domain, the strongest first. Pods' names may have dots.
fn forms(relative: &str) -> Vec<Form<'_>> {
    let Some((rest, kind)) = relative.rsplit_once('.') else { return vec![] };
    let Some((name, namespace)) = rest.rsplit_once('.') else { return vec![] };
    let pod = Form::Pod { name, namespace };
    match kind {
        "svc" => match name.split_once('.') {
            None => vec![Form::Service { subdomain: name, namespace }, pod],
            Some((hostname, subdomain)) => vec![Form::Member { hostname, subdomain, namespace }, pod],
        },
        "pod" => dashed(name).map(|ip| Form::Address { ip, namespace }).into_iter().chain([pod]).collect(),
        _ => vec![],
    }
}

/// An address whose dots or colons are dashes.
fn dashed(text: &str) -> Option<IpAddr> {
    text.replace('-', ".").parse().or_else(|_| text.replace('-', ":").parse()).ok()
}

impl Form<'_> {
    fn names(&self, pod: &Neighbour) -> bool {
        match *self {
            Self::Service { subdomain, namespace } => {
                pod.namespace == namespace && pod.subdomain.as_deref() == Some(subdomain)
            }
            Self::Member { hostname, subdomain, namespace } => {
                pod.namespace == namespace
                    && pod.subdomain.as_deref() == Some(subdomain)
                    && pod.hostname == hostname
            }
            Self::Address { ip, namespace } => pod.namespace == namespace && pod.addresses.contains(&ip),
            Self::Pod { name, namespace } => pod.namespace == namespace && pod.name == name,
        }
    }

    fn asks_for(&self, address: IpAddr) -> bool {
        match self {
            Self::Address { ip, .. } => *ip == address,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(Arc<Vec<Neighbour>>);

    impl Neighbours for Fixed {
        fn pods(&self) -> Arc<Vec<Neighbour>> {
            self.0.clone()
        }

        fn is_alive(&self, pod: &Neighbour) -> bool {
            pod.process != Some((1, 1))
        }
    }

    fn pod(name: &str, namespace: &str, subdomain: Option<&str>, addresses: &[&str]) -> Neighbour {
        Neighbour {
            name: name.into(),
            namespace: namespace.into(),
            hostname: name.replace("pod-", ""),
            subdomain: subdomain.map(Into::into),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            process: Some((7, 7)),
        }
    }

    fn cluster() -> Cluster {
        let dead = Neighbour { process: Some((1, 1)), ..pod("dead", "default", Some("db"), &["10.0.0.9"]) };
        let pods = vec![
            pod("pod-a", "default", Some("db"), &["10.0.0.3", "fd00::3"]),
            pod("pod-b", "default", Some("db"), &["10.0.0.4"]),
            pod("web", "team", None, &["10.0.0.5"]),
            pod("a.dotted.name", "team", None, &["10.0.0.6"]),
            pod("alone", "default", None, &[]),
            // Its name is the service of others.
            pod("db", "default", None, &["10.0.0.7"]),
            dead,
        ];
        let own = Neighbour { process: None, ..pod("me", "default", None, &["10.0.0.2"]) };
        Cluster { own, others: Arc::new(Fixed(Arc::new(pods))) }
    }

    #[test]
    fn every_form() {
        let cluster = cluster();
        for (name, expected) in [
            ("db.default.svc", &["10.0.0.3", "fd00::3", "10.0.0.4"][..]),
            ("a.db.default.svc", &["10.0.0.3", "fd00::3"]),
            ("b.db.default.svc", &["10.0.0.4"]),
            ("c.db.default.svc", &[]),
            ("dead.db.default.svc", &[]),
            ("a.db.team.svc", &[]),
            ("pod-a.default.svc", &["10.0.0.3", "fd00::3"]),
            ("pod-a.default.pod", &["10.0.0.3", "fd00::3"]),
            ("pod-a.team.pod", &[]),
            ("db.default.pod", &["10.0.0.7"]),
            ("web.team.svc", &["10.0.0.5"]),
            ("a.dotted.name.team.svc", &["10.0.0.6"]),
            ("a.dotted.name.team.pod", &["10.0.0.6"]),
            ("me.default.pod", &["10.0.0.2"]),
            ("10-0-0-2.default.pod", &["10.0.0.2"]),
            ("10-0-0-3.default.pod", &["10.0.0.3"]),
            ("fd00--3.default.pod", &["fd00::3"]),
            ("10-0-0-3.team.pod", &[]),
            ("10-0-0-9.default.pod", &[]),
            ("10-0-0-99.default.pod", &[]),
            ("alone.default.pod", &[]),
            ("", &[]),
            ("svc", &[]),
            ("default.svc", &[]),
            ("web.team.node", &[]),
        ] {
            let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(cluster.find(name), expected, "{name}");
        }
    }

    #[test]
    fn the_domain_is_cut_off_at_a_dot() {
        assert_eq!(relative("a.default.svc.cluster.local"), Some("a.default.svc"));
        assert_eq!(relative("cluster.local"), Some(""));
        assert_eq!(relative("mycluster.local"), None);
        assert_eq!(relative("cluster.local.example"), None);
    }
}
