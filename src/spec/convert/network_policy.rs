//! NetworkPolicies that stand beside the Pod.
//!
//! ```text
//! wire policy ─► checked as the API server does ─► selects the pod? ─┬─ yes ─► NetworkPolicy
//!                                                                    └─ no ──► a warning
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::report::{Report, items};
use crate::manifest::FieldPath;
use crate::spec::network_policy::{
    Condition, IpBlock, LabelSelector, NAMESPACE_NAME_LABEL, Namespaces, NetworkPolicy, Peer, PodSelector,
    Ports, Requirement, Rule,
};
use crate::spec::{NetworkMode, Pod, Protocol, name};

/// Most pairs of a peer and a port in all rules of a policy: the kernel gets a rule for each.
const MAX_PAIRS: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// Converts one policy; `None` when it does not select `pod`, or is wrong, which has been reported.
pub(super) fn convert(policy: &wire::NetworkPolicy, pod: &Pod, report: &mut Report) -> Option<NetworkPolicy> {
    let errors = report.errors.len();
    let wire::NetworkPolicy { metadata, spec } = policy;
    let root = FieldPath::root();
    let path = root.field("metadata");
    let policy_name = metadata.name.clone().unwrap_or_default();
    report.check(&path.field("name"), name::subdomain(&policy_name));
    let namespace =
        metadata.namespace.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "default".into());
    report.check(&path.field("namespace"), name::label(&namespace));

    // The API server takes a policy without a spec; it isolates every pod of its namespace for ingress.
    let spec = spec.clone().unwrap_or_default();
    let wire::NetworkPolicySpec { egress, ingress, pod_selector, policy_types } = &spec;
    let path = root.field("spec");
    let selector = label_selector(
        pod_selector.as_ref().unwrap_or(&Default::default()),
        &path.field("podSelector"),
        report,
    );
    let (for_ingress, for_egress) = directions(policy_types, egress, &path, report);
    let mut scope = Scope { namespace: &namespace, pod, report };
    let rules = items(ingress).iter().enumerate().map(|(index, rule)| {
        let wire::NetworkPolicyIngressRule { from, ports } = rule;
        let path = path.field("ingress").index(index);
        Rule {
            peers: scope.peers(items(from), &path.field("from")),
            ports: scope.ports(items(ports), Direction::Ingress, &path.field("ports")),
        }
    });
    let ingress_rules: Vec<Rule> = rules.collect();
    let rules = items(egress).iter().enumerate().map(|(index, rule)| {
        let wire::NetworkPolicyEgressRule { ports, to } = rule;
        let path = path.field("egress").index(index);
        Rule {
            peers: scope.peers(items(to), &path.field("to")),
            ports: scope.ports(items(ports), Direction::Egress, &path.field("ports")),
        }
    });
    let egress_rules: Vec<Rule> = rules.collect();
    for (counts, rules, field) in
        [(for_ingress, &ingress_rules, "ingress"), (for_egress, &egress_rules, "egress")]
    {
        if !counts && !rules.is_empty() {
            report.warn(&path.field(field), "ignored: spec.policyTypes does not name this direction");
        }
    }
    let pairs = |rule: &Rule| {
        let one_for_all = |length: Option<usize>| length.unwrap_or(1);
        one_for_all(rule.peers.as_ref().map(Vec::len)) * one_for_all(rule.ports.as_ref().map(Vec::len))
    };
    let pairs: usize = ingress_rules.iter().chain(&egress_rules).map(pairs).sum();
    if pairs > MAX_PAIRS {
        let message = format!("{pairs} pairs of a peer and a port are too many (at most {MAX_PAIRS})");
        report.error(&path, message);
    }
    if report.errors.len() > errors {
        return None;
    }
    if namespace != pod.namespace {
        let message =
            format!("no effect here: the pod is in namespace {:?}, not {namespace:?}", pod.namespace);
        report.warn(&root.field("metadata").field("namespace"), message);
        return None;
    }
    if !selector.matches(&pod.labels) {
        report.warn(&path.field("podSelector"), "no effect here: it does not select the pod");
        return None;
    }
    if pod.network == NetworkMode::Host {
        report.warn(&path, "ignored: the pod has the host's network, which NetworkPolicies do not apply to");
        return None;
    }
    Some(NetworkPolicy {
        name: policy_name,
        ingress: for_ingress.then_some(ingress_rules),
        egress: for_egress.then_some(egress_rules),
    })
}

/// Which directions a policy isolates; absent: ingress, and egress when it has rules for it
/// (SetDefaults_NetworkPolicy in `pkg/apis/networking/v1/defaults.go`).
fn directions(
    types: &Option<Vec<String>>,
    egress: &Option<Vec<wire::NetworkPolicyEgressRule>>,
    path: &FieldPath,
    report: &mut Report,
) -> (bool, bool) {
    let types = items(types);
    if types.is_empty() {
        return (true, !items(egress).is_empty());
    }
    let choices = [("Ingress", Direction::Ingress), ("Egress", Direction::Egress)];
    let chosen: Vec<_> = types
        .iter()
        .enumerate()
        .filter_map(|(index, text)| report.choice(&path.field("policyTypes").index(index), text, &choices))
        .collect();
    (chosen.contains(&Direction::Ingress), chosen.contains(&Direction::Egress))
}

/// What rules are converted within.
struct Scope<'a> {
    namespace: &'a str,
    pod: &'a Pod,
    report: &'a mut Report,
}

impl Scope<'_> {
    fn peers(&mut self, list: &[wire::NetworkPolicyPeer], path: &FieldPath) -> Option<Vec<Peer>> {
        if list.is_empty() {
            return None;
        }
        let peers = list.iter().enumerate().filter_map(|(index, peer)| self.peer(peer, &path.index(index)));
        Some(peers.collect())
    }

    fn peer(&mut self, peer: &wire::NetworkPolicyPeer, path: &FieldPath) -> Option<Peer> {
        let wire::NetworkPolicyPeer { ip_block, namespace_selector, pod_selector } = peer;
        let has_selector = namespace_selector.is_some() || pod_selector.is_some();
        match ip_block {
            Some(_) if has_selector => {
                self.report.error(path, "ipBlock stands alone; write the selectors as a peer of their own");
                None
            }
            Some(block) => self.block(block, &path.field("ipBlock")).map(Peer::Block),
            None if !has_selector => {
                self.report.error(path, "required: ipBlock, podSelector or namespaceSelector");
                None
            }
            None => {
                let namespaces = match namespace_selector {
                    Some(selector) => self.namespaces(selector, &path.field("namespaceSelector")),
                    None => Namespaces::Named(self.namespace.to_owned()),
                };
                let pods = pod_selector.clone().unwrap_or_default();
                let pods = label_selector(&pods, &path.field("podSelector"), self.report);
                Some(Peer::Pods(PodSelector { namespaces, pods }))
            }
        }
    }

    fn namespaces(&mut self, selector: &meta::LabelSelector, path: &FieldPath) -> Namespaces {
        let selector = label_selector(selector, path, self.report);
        for Requirement { key, .. } in &selector.requirements {
            if key != NAMESPACE_NAME_LABEL {
                self.report.warn(
                    path,
                    format_args!("no namespace has the label {key:?} here, only {NAMESPACE_NAME_LABEL}"),
                );
            }
        }
        Namespaces::Labelled(selector)
    }

    fn block(&mut self, block: &wire::IPBlock, path: &FieldPath) -> Option<IpBlock> {
        let wire::IPBlock { cidr, except } = block;
        let outer = self.network(cidr, &path.field("cidr"));
        let mut holes = Vec::new();
        for (index, text) in items(except).iter().enumerate() {
            let path = path.field("except").index(index);
            let Some(hole) = self.network(text, &path) else { continue };
            if outer.is_some_and(|outer| !outer.contains(&hole) || outer == hole) {
                self.report.error(
                    &path,
                    format_args!("{text:?} must be a part of cidr {cidr:?}, and not all of it"),
                );
            }
            holes.push(hole);
        }
        Some(IpBlock { cidr: outer?, except: holes })
    }

    fn network(&mut self, text: &str, path: &FieldPath) -> Option<IpNet> {
        let Ok(net) = text.parse::<IpNet>() else {
            let meant = text.parse::<IpAddr>().map(|ip| format!("; did you mean \"{}\"?", IpNet::from(ip)));
            self.report.error(
                path,
                format_args!(
                    "invalid value {text:?}: must be a valid CIDR, (e.g. 10.9.8.0/24 or 2001:db8::/64){}",
                    meant.unwrap_or_default()
                ),
            );
            return None;
        };
        if net != net.trunc() {
            self.report
                .warn(path, format_args!("{text:?} has bits beyond its prefix; it means {}", net.trunc()));
        }
        Some(net.trunc())
    }

    fn ports(
        &mut self,
        list: &[wire::NetworkPolicyPort],
        direction: Direction,
        path: &FieldPath,
    ) -> Option<Vec<Ports>> {
        if list.is_empty() {
            return None;
        }
        let mut ports = Vec::new();
        for (index, port) in list.iter().enumerate() {
            self.port(port, direction, &path.index(index), &mut ports);
        }
        Some(ports)
    }

    fn port(
        &mut self,
        port: &wire::NetworkPolicyPort,
        direction: Direction,
        path: &FieldPath,
        into: &mut Vec<Ports>,
    ) {
        let wire::NetworkPolicyPort { end_port, port, protocol } = port;
        let choices =
            [("TCP", Some(Protocol::Tcp)), ("UDP", Some(Protocol::Udp)), ("SCTP", None::<Protocol>)];
        let protocol = protocol.as_deref().filter(|text| !text.is_empty()).unwrap_or("TCP");
        let Some(protocol) = self.report.choice(&path.field("protocol"), protocol, &choices) else { return };
        if protocol.is_none() {
            self.report.warn(
                &path.field("protocol"),
                "never matches: there is no SCTP in WASI, and none is let through",
            );
        }
        if end_port.is_some() && !matches!(port, Some(IntOrString::Int(_))) {
            self.report.error(&path.field("endPort"), "needs a number as port, where the range begins");
            return;
        }
        match port {
            None => into.extend(protocol.map(|protocol| Ports { protocol, first: 0, last: u16::MAX })),
            Some(IntOrString::Int(number)) => {
                let Some(first) = self.number(*number, &path.field("port")) else { return };
                let Some(last) = end_port.map_or(Some(first), |end| self.number(end, &path.field("endPort")))
                else {
                    return;
                };
                if last < first {
                    self.report.error(
                        &path.field("endPort"),
                        format_args!("invalid value {last}: must be at least port, {first}"),
                    );
                    return;
                }
                into.extend(protocol.map(|protocol| Ports { protocol, first, last }));
            }
            Some(IntOrString::String(port_name)) => {
                let path = path.field("port");
                if !self.report.check(&path, name::port(port_name)) {
                    return;
                }
                if direction == Direction::Egress {
                    self.report.error(
                        &path,
                        format_args!(
                            "not supported: {port_name:?} is a port of the other pod, whose names are not known here; give the number"
                        ),
                    );
                    return;
                }
                if let Some(protocol) = protocol {
                    self.named(port_name, protocol, &path, into);
                }
            }
        }
    }

    /// The ports of the pod's own containers that have this name.
    fn named(&mut self, port_name: &str, protocol: Protocol, path: &FieldPath, into: &mut Vec<Ports>) {
        let own = self.pod.all_containers().flat_map(|container| &container.ports);
        let before = into.len();
        into.extend(
            own.filter(|port| port.name.as_deref() == Some(port_name) && port.protocol == protocol)
                .map(|port| Ports { protocol, first: port.container_port, last: port.container_port }),
        );
        if into.len() == before {
            let message = format!(
                "never matches: no container of the pod has a port of this protocol named {port_name:?}"
            );
            self.report.warn(path, message);
        }
    }

    fn number(&mut self, number: i32, path: &FieldPath) -> Option<u16> {
        match u16::try_from(number) {
            Ok(port) if port > 0 => Some(port),
            _ => {
                self.report
                    .error(path, format_args!("invalid value {number}: must be between 1 and {}", u16::MAX));
                None
            }
        }
    }
}

pub(super) fn label_selector(
    selector: &meta::LabelSelector,
    path: &FieldPath,
    report: &mut Report,
) -> LabelSelector {
    let meta::LabelSelector { match_expressions, match_labels } = selector;
    let mut requirements = Vec::new();
    for (key, value) in match_labels.iter().flatten() {
        let path = path.field("matchLabels").field(key);
        report.check(&path, name::qualified(key));
        report.check(&path, name::label_value(value));
        requirements.push(Requirement {
            key: key.clone(),
            condition: Condition::In(BTreeSet::from([value.clone()])),
        });
    }
    for (index, expression) in items(match_expressions).iter().enumerate() {
        let path = path.field("matchExpressions").index(index);
        let meta::LabelSelectorRequirement { key, operator, values } = expression;
        report.check(&path.field("key"), name::qualified(key));
        let values: BTreeSet<String> = items(values).iter().cloned().collect();
        for (at, value) in values.iter().enumerate() {
            report.check(&path.field("values").index(at), name::label_value(value));
        }
        let choices = [
            ("In", (true, true)),
            ("NotIn", (true, false)),
            ("Exists", (false, true)),
            ("DoesNotExist", (false, false)),
        ];
        let Some((takes_values, positive)) = report.choice(&path.field("operator"), operator, &choices)
        else {
            continue;
        };
        if takes_values && values.is_empty() {
            report.error(&path.field("values"), format_args!("required with operator {operator}"));
        } else if !takes_values && !values.is_empty() {
            report.error(&path.field("values"), format_args!("must be empty with operator {operator}"));
        }
        let condition = match (takes_values, positive) {
            (true, true) => Condition::In(values),
            (true, false) => Condition::NotIn(values),
            (false, true) => Condition::Exists,
            (false, false) => Condition::DoesNotExist,
        };
        requirements.push(Requirement { key: key.clone(), condition });
    }
    LabelSelector { requirements }
}

/// Converts those of `policies`, each with the number of its document, that select `pod`.
pub(super) fn convert_all(
    policies: &[(usize, wire::NetworkPolicy)],
    pod: &Pod,
    report: &mut Report,
) -> Vec<NetworkPolicy> {
    let mut converted = Vec::new();
    for (number, policy) in policies {
        let mut own = Report::default();
        converted.extend(convert(policy, pod, &mut own));
        report.of_document(*number, own);
    }
    converted
}
