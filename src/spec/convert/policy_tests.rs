//! NetworkPolicies and annotations beside the Pod, through the conversion.

use super::tests::{accepted, pod_with, refused, warnings};
use crate::spec::Protocol;
use crate::spec::network_policy::{Namespaces, NetworkPolicy, Peer, Ports, Rule};

/// A pod of namespace team-a with labels, and documents beside it.
fn pod_beside(spec: &str, documents: &[&str]) -> String {
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: team-a, labels: {{app: web}}}}, spec: {{{spec} \
         containers: [{{name: main, image: ./app.wasm, ports: [{{name: http, containerPort: 8080}}, \
         {{name: dns, containerPort: 5353, protocol: UDP}}]}}, \
         {{name: two, image: ./app.wasm, ports: [{{name: http, containerPort: 8081}}]}}]}}}}"
    );
    let documents = documents.iter().map(|spec| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: team-a}}, spec: {{{spec}}}}}"
        )
    });
    std::iter::once(pod).chain(documents).collect::<Vec<_>>().join("\n---\n")
}

fn policy_of(spec: &str) -> NetworkPolicy {
    let mut converted = accepted(&pod_beside("", &[spec]));
    assert!(converted.warnings.is_empty(), "{spec}: {:?}", converted.warnings);
    converted.pod.network_rules.policies.pop().unwrap_or_else(|| panic!("does not select: {spec}"))
}

/// SetDefaults_NetworkPolicy, and the words of `policyTypes`.
#[test]
fn policy_types_have_defaults() {
    for (spec, ingress, egress) in [
        ("podSelector: {}", true, false),
        ("", true, false),
        ("podSelector: {}, ingress: [{}]", true, false),
        ("podSelector: {}, egress: []", true, false),
        ("podSelector: {}, egress: [{}]", true, true),
        ("podSelector: {}, policyTypes: []", true, false),
        ("podSelector: {}, policyTypes: [Egress]", false, true),
        ("podSelector: {}, policyTypes: [Ingress, Egress]", true, true),
        ("podSelector: {}, policyTypes: [Ingress]", true, false),
    ] {
        let policy = policy_of(spec);
        assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), (ingress, egress), "{spec}");
    }
}

#[test]
fn an_empty_list_of_peers_or_ports_is_none_at_all() {
    let everything = Rule::default();
    for rule in ["{}", "{from: []}", "{ports: []}", "{from: [], ports: []}", "{from: null}"] {
        let policy = policy_of(&format!("ingress: [{rule}]"));
        assert_eq!(policy.ingress, Some(vec![everything.clone()]), "{rule}");
    }
    assert_eq!(policy_of("ingress: []").ingress, Some(vec![]));
}

#[test]
fn policies_select_pods_of_their_namespace() {
    for selector in [
        "{}",
        "{matchLabels: {app: web}}",
        "{matchExpressions: [{key: app, operator: In, values: [api, web]}, {key: x, operator: DoesNotExist}]}",
        "{matchExpressions: [{key: x, operator: NotIn, values: [y]}]}",
    ] {
        policy_of(&format!("podSelector: {selector}"));
    }
    for selector in ["{matchLabels: {app: db}}", "{matchExpressions: [{key: x, operator: Exists}]}"] {
        let converted = accepted(&pod_beside("", &[&format!("podSelector: {selector}")]));
        assert_eq!(converted.pod.network_rules.policies, []);
        assert_eq!(
            warnings(&converted),
            ["document 2: spec.podSelector: no effect here: it does not select the pod"]
        );
    }
    let elsewhere = pod_beside("", &[""]).replace("namespace: team-a, labels", "labels");
    let converted = accepted(&elsewhere);
    assert_eq!(converted.pod.network_rules.policies, []);
    assert!(warnings(&converted)[0].starts_with("document 2: metadata.namespace: no effect here"));
    let converted = accepted(&pod_beside("hostNetwork: true,", &[""]));
    assert_eq!(converted.pod.network_rules.policies, []);
    assert!(warnings(&converted).iter().any(|text| text.contains("which NetworkPolicies do not apply to")));
}

#[test]
fn ports_of_policies() {
    use Protocol::{Tcp, Udp};
    let ports = |list: &[(Protocol, u16, u16)]| {
        let ports = |(protocol, first, last): &(Protocol, u16, u16)| Ports {
            protocol: *protocol,
            first: *first,
            last: *last,
        };
        Some(list.iter().map(ports).collect::<Vec<_>>())
    };
    for (port, expected) in [
        ("{port: 80}", ports(&[(Tcp, 80, 80)])),
        ("{port: 80, protocol: UDP}", ports(&[(Udp, 80, 80)])),
        ("{protocol: UDP}", ports(&[(Udp, 0, 65535)])),
        ("{}", ports(&[(Tcp, 0, 65535)])),
        ("{port: 32000, endPort: 32768}", ports(&[(Tcp, 32000, 32768)])),
        ("{port: 80, endPort: 80}", ports(&[(Tcp, 80, 80)])),
        // Every container's port of that name.
        ("{port: http}", ports(&[(Tcp, 8080, 8080), (Tcp, 8081, 8081)])),
        ("{port: dns, protocol: UDP}", ports(&[(Udp, 5353, 5353)])),
    ] {
        let policy = policy_of(&format!("ingress: [{{ports: [{port}]}}]"));
        assert_eq!(policy.ingress.unwrap()[0].ports, expected, "{port}");
    }
    for (port, words) in [
        ("{port: dns}", "never matches: no container of the pod has a port of this protocol named"),
        ("{port: 80, protocol: SCTP}", "never matches: there is no SCTP"),
    ] {
        let converted = accepted(&pod_beside("", &[&format!("ingress: [{{ports: [{port}]}}]")]));
        let rules = converted.pod.network_rules.policies[0].ingress.clone().unwrap();
        assert_eq!(rules[0].ports, Some(vec![]), "{port}");
        assert!(warnings(&converted)[0].contains(words), "{:?}", converted.warnings);
    }
}

#[test]
fn peers_of_policies() {
    let peers =
        |text: &str| policy_of(&format!("ingress: [{{from: [{text}]}}]")).ingress.unwrap()[0].peers.clone();
    let own = peers("{podSelector: {}}").unwrap();
    let [Peer::Pods(own)] = &own[..] else { panic!("one selector") };
    assert_eq!(own.namespaces, Namespaces::Named("team-a".into()));
    let both = peers("{podSelector: {matchLabels: {a: b}}, namespaceSelector: {}}").unwrap();
    let Peer::Pods(both) = &both[0] else { panic!("a selector") };
    assert_eq!(both.namespaces, Namespaces::Labelled(Default::default()));
    assert!(both.selects("anywhere", &[("a".to_owned(), "b".to_owned())].into()));
    assert!(!both.selects("anywhere", &Default::default()));
    assert_eq!(peers("{podSelector: {}}, {namespaceSelector: {}}").unwrap().len(), 2);
    let block = peers("{ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}}").unwrap();
    assert!(matches!(&block[0], Peer::Block(block) if block.except.len() == 1));
    let labelled = "{namespaceSelector: {matchLabels: {team: a, kubernetes.io/metadata.name: b}}}";
    let labelled = accepted(&pod_beside("", &[&format!("ingress: [{{from: [{labelled}]}}]")]));
    assert_eq!(
        warnings(&labelled),
        [
            "document 2: spec.ingress[0].from[0].namespaceSelector: no namespace has the label \"team\" here, only kubernetes.io/metadata.name"
        ]
    );
    let sloppy = accepted(&pod_beside("", &["ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]"]));
    assert!(warnings(&sloppy)[0].contains("it means 10.0.0.0/8"));
}

#[test]
fn a_policy_that_is_too_much_for_the_kernel_is_refused() {
    let peers = vec!["{ipBlock: {cidr: 10.0.0.0/8}}"; 100].join(", ");
    let ports = vec!["{port: 80}"; 100].join(", ");
    let errors = refused(&pod_beside("", &[&format!("ingress: [{{from: [{peers}], ports: [{ports}]}}]")]));
    assert_eq!(errors, ["document 2: spec: 10000 pairs of a peer and a port are too many (at most 4096)"]);
}

#[test]
fn annotations_of_peapod_are_known_or_wrong() {
    let with = |annotations: &str| {
        pod_with("", "").replace("{name: web}", &format!("{{name: web, annotations: {{{annotations}}}}}"))
    };
    let converted =
        accepted(&with("peapod.dev/network.main: 'connect: localhost:80', other.dev/network.x: y"));
    assert_eq!(converted.pod.network_rules.containers.keys().collect::<Vec<_>>(), ["main"]);
    for (annotation, expected) in [
        (
            "peapod.dev/network.mian: none",
            "metadata.annotations[peapod.dev/network.mian]: there is no container \"mian\", did you mean main? (one of: main)",
        ),
        (
            "peapod.dev/netwrok.main: none",
            "metadata.annotations[peapod.dev/netwrok.main]: unknown annotation, did you mean peapod.dev/network.main?",
        ),
        (
            "peapod.dev/priority: high",
            "metadata.annotations[peapod.dev/priority]: unknown annotation, known here: peapod.dev/network.<container>, peapod.dev/ipc.<limit>, peapod.dev/config.<container>, peapod.dev/keyvalue, peapod.dev/keyvalue.<bucket>",
        ),
        (
            "peapod.dev/network.main: 'connect: a:b'",
            "metadata.annotations[peapod.dev/network.main]: connect: \"a:b\": invalid port \"b\": must be between 0 and 65535",
        ),
    ] {
        assert_eq!(refused(&with(annotation)), [expected]);
    }
}

#[test]
fn an_annotation_of_a_container_that_is_wrong_is_not() {
    let text = pod_with("", "")
        .replace("./app.wasm", "''")
        .replace("{name: web}", "{name: web, annotations: {peapod.dev/network.main: none}}");
    let errors = refused(&text);
    assert!(errors.iter().all(|error| error.starts_with("spec.containers[0].image")), "{errors:?}");
}
