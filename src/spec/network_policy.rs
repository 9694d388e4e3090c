//! NetworkPolicies, as far as they concern this pod
//! (<https://kubernetes.io/docs/concepts/services-networking/network-policies/>).
//!
//! ```text
//!  no policy isolates the direction ─► everything may pass
//!  some do ─► what any rule of any of them allows ─► may pass; the rest not
//!  a rule allows what matches one of its peers (if it has any) AND one of its ports (if it has any)
//! ```
//!
//! Only what a policy says is here; what a packet or a connection is, is [`crate::net::policy`]'s.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{ContainerNetwork, Protocol};

/// The label that every namespace has: its name
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name>).
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Labels of a pod or a namespace.
pub type Labels = BTreeMap<String, String>;

/// All that narrows a pod's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRules {
    /// The NetworkPolicies that select the pod, in order.
    pub policies: Vec<NetworkPolicy>,
    /// What the annotation `peapod.dev/network.<container>` allows, by container.
    pub containers: BTreeMap<String, ContainerNetwork>,
}

/// A NetworkPolicy that selects the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// `metadata.name`; its namespace is the pod's.
    pub name: String,
    /// What may come in; `None` when the policy says nothing about ingress.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out; `None` when the policy says nothing about egress.
    pub egress: Option<Vec<Rule>>,
}

/// One entry of `ingress` or `egress`: its peers on its ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `from` or `to`; `None`: everyone.
    pub peers: Option<Vec<Peer>>,
    /// `ports`; `None`: every port of every protocol. May be empty when none of them exists here: then the rule
    /// allows nothing.
    pub ports: Option<Vec<Ports>>,
}

/// Ports of one protocol, at the connection's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// The protocol.
    pub protocol: Protocol,
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl Ports {
    /// Whether `port` of `protocol` is one of them.
    pub fn contain(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

/// One entry of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// `ipBlock`.
    Block(IpBlock),
    /// `podSelector` and `namespaceSelector`.
    Pods(PodSelector),
}

/// Addresses, with exceptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpBlock {
    /// These.
    pub cidr: IpNet,
    /// But not these, each a part of `cidr`.
    pub except: Vec<IpNet>,
}

impl IpBlock {
    /// Whether `ip` is in the block.
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        self.cidr.contains(&ip) && !self.except.iter().any(|except| except.contains(&ip))
    }
}

/// Pods by their labels and their namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodSelector {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// Which pods of them.
    pub pods: LabelSelector,
}

/// Which namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespaces {
    /// The policy's own.
    Named(String),
    /// `namespaceSelector`. There are no Namespace objects here: each has the one label [`NAMESPACE_NAME_LABEL`].
    Labelled(LabelSelector),
}

impl PodSelector {
    /// Whether a pod of `namespace` with `labels` is selected.
    pub fn selects(&self, namespace: &str, labels: &Labels) -> bool {
        let in_namespace = match &self.namespaces {
            Namespaces::Named(name) => name == namespace,
            Namespaces::Labelled(selector) => {
                selector.matches(&Labels::from([(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned())]))
            }
        };
        in_namespace && self.pods.matches(labels)
    }
}

/// Requirements of labels, all of which must hold: without any, everything matches
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSelector {
    /// `matchLabels` and `matchExpressions` together.
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Whether every requirement holds of `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }
}

/// One requirement of a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What of it.
    pub condition: Condition,
}

/// What is required of one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// It is there, with one of these values.
    In(BTreeSet<String>),
    /// It is not there, or has none of these values.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.condition {
            Condition::In(values) => value.is_some_and(|value| values.contains(value)),
            Condition::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Condition::Exists => value.is_some(),
            Condition::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selector(requirements: &[(&str, Condition)]) -> LabelSelector {
        let requirement = |(key, condition): &(&str, Condition)| Requirement {
            key: (*key).to_owned(),
            condition: condition.clone(),
        };
        LabelSelector { requirements: requirements.iter().map(requirement).collect() }
    }

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn each_operator() {
        let (web, db, none) = (labels(&[("app", "web")]), labels(&[("app", "db")]), labels(&[]));
        for (condition, of_web, of_db, of_none) in [
            (Condition::In(set(&["web", "api"])), true, false, false),
            (Condition::In(set(&[])), false, false, false),
            // "NotIn … also matches resources without the key".
            (Condition::NotIn(set(&["web", "api"])), false, true, true),
            (Condition::Exists, true, true, false),
            (Condition::DoesNotExist, false, false, true),
        ] {
            let selector = selector(&[("app", condition.clone())]);
            assert_eq!(selector.matches(&web), of_web, "{condition:?}");
            assert_eq!(selector.matches(&db), of_db, "{condition:?}");
            assert_eq!(selector.matches(&none), of_none, "{condition:?}");
        }
    }

    #[test]
    fn requirements_are_anded_and_none_is_everything() {
        let both = selector(&[("app", Condition::In(set(&["web"]))), ("tier", Condition::DoesNotExist)]);
        assert!(both.matches(&labels(&[("app", "web")])));
        assert!(!both.matches(&labels(&[("app", "web"), ("tier", "")])));
        assert!(!both.matches(&labels(&[("app", "db")])));
        assert!(LabelSelector::default().matches(&labels(&[])));
        assert!(LabelSelector::default().matches(&labels(&[("app", "web")])));
    }

    #[test]
    fn pods_are_selected_within_namespaces() {
        let pods = selector(&[("role", Condition::In(set(&["frontend"])))]);
        let frontend = labels(&[("role", "frontend")]);
        let own = PodSelector { namespaces: Namespaces::Named("a".into()), pods: pods.clone() };
        assert!(own.selects("a", &frontend));
        assert!(!own.selects("b", &frontend));
        assert!(!own.selects("a", &labels(&[])));
        let named = selector(&[(NAMESPACE_NAME_LABEL, Condition::In(set(&["b", "c"])))]);
        let others = PodSelector { namespaces: Namespaces::Labelled(named), pods };
        assert!(!others.selects("a", &frontend));
        assert!(others.selects("b", &frontend));
        assert!(!others.selects("b", &labels(&[])));
        // A label that no namespace has here.
        let labelled = selector(&[("team", Condition::Exists)]);
        let teams =
            PodSelector { namespaces: Namespaces::Labelled(labelled), pods: LabelSelector::default() };
        assert!(!teams.selects("a", &frontend));
        let everyone = PodSelector {
            namespaces: Namespaces::Labelled(LabelSelector::default()),
            pods: LabelSelector::default(),
        };
        assert!(everyone.selects("anywhere", &labels(&[])));
    }

    #[test]
    fn blocks_have_holes() {
        let block = IpBlock {
            cidr: "172.17.0.0/16".parse().unwrap(),
            except: vec!["172.17.1.0/24".parse().unwrap()],
        };
        for (ip, inside) in [
            ("172.17.0.1", true),
            ("172.17.1.1", false),
            ("172.17.2.1", true),
            ("172.18.0.1", false),
            ("::ffff:172.17.0.1", false),
        ] {
            assert_eq!(block.contains(ip.parse().unwrap()), inside, "{ip}");
        }
    }
}
