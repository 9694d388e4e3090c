//! Whole manifests through the conversion.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::image::Reference;
use crate::spec::User;
use crate::spec::environment::{Environment, Value, Variable};
use crate::spec::{
    Container, HostPathType, HostPort, Mount, Port, Protocol, QosClass, Resources, RestartPolicy, Role,
    Volume, VolumeSource,
};

fn options() -> Options {
    Options { manifest_dir: "/srv/pods".into(), ..Options::default() }
}

pub(super) fn accepted(text: &str) -> Converted {
    load(text.as_bytes(), &options()).unwrap_or_else(|invalid| panic!("{text}\n{invalid}"))
}

pub(super) fn refused(text: &str) -> Vec<String> {
    match load(text.as_bytes(), &options()) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(invalid) => invalid.errors.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn warnings(converted: &Converted) -> Vec<String> {
    converted.warnings.iter().map(ToString::to_string).collect()
}

/// A pod with `spec` and `container` as further lines of flow mappings' contents.
pub(super) fn pod_with(spec: &str, container: &str) -> String {
    let comma = |text: &str| if text.is_empty() { String::new() } else { format!(", {text}") };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, \
         spec: {{containers: [{{name: main, image: ./app.wasm{}}}]{}}}}}",
        comma(container),
        comma(spec)
    )
}

const FULL: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: team-a
  uid: 6fa459ea-ee8a-3ca4-894e-db77e160355e
  labels: {app.kubernetes.io/name: web}
  annotations: {note: "anything at all: €"}
spec:
  hostname: www
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 5
  activeDeadlineSeconds: 600
  hostAliases:
  - {ip: "::1", hostnames: [db.local, db]}
  volumes:
  - {name: site, emptyDir: {}}
  - {name: fast, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
  - {name: host, hostPath: {path: /var//data/, type: DirectoryOrCreate}}
  initContainers:
  - {name: prepare, image: ../prepare.wasm, volumeMounts: [{name: site, mountPath: /site/}]}
  - {name: helper, image: "file:///opt/helper.wasm", restartPolicy: Always}
  containers:
  - name: main
    image: ./app.wasm
    command: [serve, "$(HOST):$(PORT)"]
    args: ["$$(PORT)", "$(NOTHING)"]
    workingDir: /site
    env:
    - {name: PORT, value: "8080"}
    - {name: HOST, value: localhost}
    - {name: URL, value: "http://$(HOST):$(PORT)/$(LATER)"}
    - {name: LATER}
    ports:
    - {containerPort: 8080, name: http}
    - {containerPort: 8080, protocol: UDP}
    resources:
      requests: {cpu: 100m}
      limits: {cpu: "0.5", memory: 32Mi}
    volumeMounts:
    - {name: site, mountPath: /site, readOnly: true}
    - {name: site, mountPath: /site/sub, subPath: a/./b}
    - {name: host, mountPath: /host, recursiveReadOnly: Enabled, readOnly: true}
"#;

#[test]
fn every_supported_field_arrives() {
    let Converted { pod, warnings, .. } = accepted(FULL);
    assert_eq!(warnings, []);
    let empty = crate::testing::spec::container("", Role::Init);
    let mount = |volume: &str, path: &str, sub_path: Option<&str>, read_only| Mount {
        volume: volume.into(),
        path: path.into(),
        sub_path: sub_path.map(Into::into),
        sub_path_expr: None,
        read_only,
    };
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let expected = Pod {
        name: "web".into(),
        namespace: "team-a".into(),
        uid: "6fa459ea-ee8a-3ca4-894e-db77e160355e".into(),
        labels: [("app.kubernetes.io/name".into(), "web".into())].into(),
        annotations: [("note".into(), "anything at all: €".into())].into(),
        hostname: "www".into(),
        subdomain: None,
        restart_policy: RestartPolicy::OnFailure,
        termination_grace: std::time::Duration::from_secs(5),
        active_deadline: Some(std::time::Duration::from_secs(600)),
        network: NetworkMode::Pod,
        dns: crate::spec::Dns { hostname: "www".into(), ..Default::default() },
        network_rules: Default::default(),
        ipc: Default::default(),
        config_sources: Default::default(),
        key_value: Default::default(),
        host_aliases: vec![crate::spec::HostAlias {
            ip: "::1".parse().unwrap(),
            hostnames: strings(&["db.local", "db"]),
        }],
        init_containers: vec![
            Container {
                name: "prepare".into(),
                image_name: "../prepare.wasm".into(),
                image: Reference::Local("/srv/prepare.wasm".into()),
                mounts: vec![mount("site", "/site", None, false)],
                ..empty.clone()
            },
            Container {
                name: "helper".into(),
                role: Role::Sidecar,
                restart_policy: Some(RestartPolicy::Always),
                image_name: "file:///opt/helper.wasm".into(),
                image: Reference::Local("/opt/helper.wasm".into()),
                ..empty.clone()
            },
        ],
        containers: vec![Container {
            name: "main".into(),
            role: Role::Main,
            image_name: "./app.wasm".into(),
            image: Reference::Local("/srv/pods/app.wasm".into()),
            command: strings(&["serve", "$(HOST):$(PORT)"]),
            args: strings(&["$$(PORT)", "$(NOTHING)"]),
            environment: Environment {
                from: vec![],
                variables: [
                    ("PORT", "8080"),
                    ("HOST", "localhost"),
                    ("URL", "http://$(HOST):$(PORT)/$(LATER)"),
                    ("LATER", ""),
                ]
                .map(|(name, text)| Variable { name: name.into(), value: Value::Text(text.into()) })
                .to_vec(),
            },
            working_dir: Some("/site".into()),
            mounts: vec![
                mount("site", "/site", None, true),
                mount("site", "/site/sub", Some("a/b"), false),
                mount("host", "/host", None, true),
            ],
            ports: vec![
                Port {
                    name: Some("http".into()),
                    container_port: 8080,
                    protocol: Protocol::Tcp,
                    host_port: None,
                },
                Port { name: None, container_port: 8080, protocol: Protocol::Udp, host_port: None },
            ],
            resources: Resources {
                cpu_limit_millis: Some(500),
                memory_limit_bytes: Some(32 << 20),
                cpu_request_millis: Some(100),
                memory_request_bytes: Some(32 << 20),
                ..Resources::default()
            },
            ..empty
        }],
        generation: 1,
        ephemeral_containers: vec![],
        readiness_gates: vec![],
        resources: Resources::default(),
        user: Default::default(),
        fs_group: None,
        objects: Default::default(),
        storage: Default::default(),
        services: vec![],
        service_links: true,
        service_account: "default".into(),
        volumes: vec![
            Volume {
                name: "site".into(),
                source: VolumeSource::EmptyDir { memory: false, size_limit: None },
            },
            Volume {
                name: "fast".into(),
                source: VolumeSource::EmptyDir { memory: true, size_limit: Some(16 << 20) },
            },
            Volume {
                name: "host".into(),
                source: VolumeSource::HostPath {
                    path: "/var/data".into(),
                    kind: HostPathType::DirectoryOrCreate,
                },
            },
        ],
    };
    assert_eq!(pod, expected);
}

#[test]
fn defaults_are_those_of_kubernetes() {
    let Converted { pod, wire, warnings, .. } = accepted(&pod_with("", ""));
    assert_eq!(warnings, []);
    assert_eq!(pod.namespace, "default");
    assert_eq!(pod.uid.len(), 36);
    assert_eq!(pod.hostname, "web");
    assert_eq!(pod.restart_policy, RestartPolicy::Always);
    assert_eq!(pod.termination_grace.as_secs(), 30);
    assert_eq!(pod.network, NetworkMode::Pod);
    assert_eq!(wire.metadata.uid, Some(pod.uid));
    assert_eq!(wire.metadata.namespace.as_deref(), Some("default"));
    let spec = wire.spec.unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"));
}

#[test]
fn the_command_line_overrides_name_and_network() {
    let text = pod_with("hostNetwork: true", "");
    let options = Options { name: Some("other".into()), network: Some(NetworkMode::None), ..options() };
    let Converted { pod, wire, .. } = load(text.as_bytes(), &options).unwrap();
    assert_eq!(
        (pod.name.as_str(), pod.hostname.as_str(), pod.network),
        ("other", "other", NetworkMode::None)
    );
    assert_eq!(wire.metadata.name.as_deref(), Some("other"));
    assert_eq!(wire.spec.unwrap().host_network, None);
    let options = Options { name: Some("Not A Name".into()), ..options };
    assert!(
        load(text.as_bytes(), &options).unwrap_err().to_string().contains("did you mean \"not-a-name\"?")
    );
}

#[test]
fn names_are_generated() {
    let text = pod_with("", "").replace("{name: web}", "{generateName: web-}");
    let (first, second) = (accepted(&text).pod.name, accepted(&text).pod.name);
    assert_ne!(first, second);
    assert!(first.starts_with("web-") && first.len() == 9, "{first}");
}

/// What `kubectl get pod -o yaml` prints of a pod that someone ran in a cluster.
const FROM_A_CLUSTER: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {"apiVersion":"v1","kind":"Pod"}
  creationTimestamp: "2026-01-31T12:00:00Z"
  generation: 1
  labels:
    run: web
  managedFields:
  - apiVersion: v1
    fieldsType: FieldsV1
    fieldsV1:
      f:metadata:
        f:labels:
          .: {}
          f:run: {}
    manager: kubectl-run
    operation: Update
    time: "2026-01-31T12:00:00Z"
  name: web
  namespace: default
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: 0a, controller: true}
  resourceVersion: "1234"
  uid: 6fa459ea-ee8a-3ca4-894e-db77e160355e
spec:
  containers:
  - image: ./app.wasm
    imagePullPolicy: IfNotPresent
    name: web
    resources: {}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      runAsNonRoot: true
      privileged: false
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]
    volumeMounts:
    - mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      name: kube-api-access-x2b4z
      readOnly: true
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  nodeName: node-1
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  serviceAccount: default
  serviceAccountName: default
  terminationGracePeriodSeconds: 30
  tolerations:
  - {effect: NoExecute, key: node.kubernetes.io/not-ready, operator: Exists, tolerationSeconds: 300}
  - {effect: NoExecute, key: node.kubernetes.io/unreachable, operator: Exists, tolerationSeconds: 300}
  volumes:
  - name: kube-api-access-x2b4z
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken: {expirationSeconds: 3607, path: token}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
status:
  phase: Running
  conditions: []
"#;

#[test]
fn a_pod_from_a_cluster_runs() {
    let converted = accepted(FROM_A_CLUSTER);
    assert_eq!(
        warnings(&converted),
        [
            "spec.nodeName: ignored: there is one node, this machine",
            "spec.volumes[0]: ignored: added by a cluster's API server; there is no API server here to talk to",
        ]
    );
    assert_eq!(converted.pod.volumes, []);
    assert_eq!(converted.pod.containers[0].mounts, []);
    assert_eq!(converted.wire.status, None);
}

#[test]
fn what_changes_nothing_here_is_a_warning() {
    for (spec, container, path) in [
        ("nodeSelector: {a: b}", "", "spec.nodeSelector"),
        ("affinity: {nodeAffinity: {}}", "", "spec.affinity"),
        ("tolerations: [{operator: Exists}]", "", "spec.tolerations"),
        ("schedulerName: mine", "", "spec.schedulerName"),
        ("priorityClassName: high", "", "spec.priorityClassName"),
        ("serviceAccountName: robot", "", "spec.serviceAccountName"),
        ("imagePullSecrets: [{name: s}]", "", "spec.imagePullSecrets"),
        ("runtimeClassName: wasm", "", "spec.runtimeClassName"),
        ("hostUsers: false", "", "spec.hostUsers"),
        ("", "imagePullPolicy: Always", "spec.containers[0].imagePullPolicy"),
        ("", "env: [{name: A, value: a}, {name: A, value: b}]", "spec.containers[0].env[1]"),
        ("", "resources: {limits: {memory: 32m}}", "spec.containers[0].resources.limits.memory"),
        ("", "resources: {limits: {memory: 32}}", "spec.containers[0].resources.limits.memory"),
    ] {
        let found = warnings(&accepted(&pod_with(spec, container)));
        assert!(found.len() == 1 && found[0].starts_with(&format!("{path}: ")), "{path}: {found:?}");
    }
}

#[test]
fn a_container_has_the_pods_user_where_it_names_none() {
    let pod = "securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 9, supplementalGroups: [10, 9, 1], \
               runAsNonRoot: true, fsGroupChangePolicy: OnRootMismatch, supplementalGroupsPolicy: Strict}";
    let user = |container: &str| {
        let converted = accepted(&pod_with(pod, container));
        let group = converted.pod.fs_group.unwrap();
        assert_eq!((group.gid, group.on_root_mismatch), (9, true));
        assert_eq!(warnings(&converted), [""; 0]);
        converted.pod.containers[0].user.clone()
    };
    let user_of =
        |uid, gid, non_root| User { uid: Some(uid), gid: Some(gid), groups: vec![1, 9, 10], non_root };
    assert_eq!(user(""), user_of(1000, 2000, true));
    assert_eq!(user("securityContext: {runAsUser: 5}"), user_of(5, 2000, true));
    assert_eq!(user("securityContext: {runAsUser: 0, runAsNonRoot: false}"), user_of(0, 2000, false));
    assert_eq!(user("securityContext: {runAsGroup: 0}"), user_of(1000, 0, true));
    let none = accepted(&pod_with("", "securityContext: {runAsNonRoot: true}"));
    assert_eq!(none.pod.containers[0].user, User { non_root: true, ..User::default() });
    assert_eq!(none.pod.fs_group, None);
}

#[test]
fn what_would_change_what_runs_is_an_error() {
    for (spec, container, path) in [
        ("ephemeralContainers: [{name: e}]", "", "spec.ephemeralContainers"),
        ("hostIPC: true", "", "spec.hostIPC"),
        ("hostPID: true", "", "spec.hostPID"),
        ("resourceClaims: [{name: a}]", "", "spec.resourceClaims"),
        ("schedulingGates: [{name: a}]", "", "spec.schedulingGates"),
        ("shareProcessNamespace: true", "", "spec.shareProcessNamespace"),
        ("securityContext: {fsGroup: -1}", "", "spec.securityContext.fsGroup"),
        ("securityContext: {runAsUser: 2147483648}", "", "spec.securityContext.runAsUser"),
        ("securityContext: {runAsGroup: -1}", "", "spec.securityContext.runAsGroup"),
        ("securityContext: {supplementalGroups: [1, -1]}", "", "spec.securityContext.supplementalGroups[1]"),
        ("securityContext: {fsGroupChangePolicy: always}", "", "spec.securityContext.fsGroupChangePolicy"),
        (
            "securityContext: {supplementalGroupsPolicy: All}",
            "",
            "spec.securityContext.supplementalGroupsPolicy",
        ),
        ("securityContext: {runAsNonRoot: true, runAsUser: 0}", "", "spec.securityContext.runAsUser"),
        (
            "securityContext: {runAsNonRoot: true}",
            "securityContext: {runAsUser: 0}",
            "spec.containers[0].securityContext.runAsUser",
        ),
        ("securityContext: {sysctls: [{name: a, value: b}]}", "", "spec.securityContext.sysctls"),
        (
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: a}}",
            "",
            "spec.securityContext.seccompProfile.type",
        ),
        ("volumes: [{name: v, configMap: {name: a}}]", "", "spec.volumes[0].configMap.name"),
        ("volumes: [{name: v, secret: {secretName: a}}]", "", "spec.volumes[0].secret.secretName"),
        ("volumes: [{name: v, emptyDir: {mode: 0o700}}]", "", "spec.volumes[0].emptyDir.mode"),
        ("", "lifecycle: {stopSignal: SIGINT}", "spec.containers[0].lifecycle.stopSignal"),
        ("", "volumeDevices: [{name: a, devicePath: /b}]", "spec.containers[0].volumeDevices"),
        (
            "",
            "securityContext: {capabilities: {add: [NET_ADMIN]}}",
            "spec.containers[0].securityContext.capabilities.add",
        ),
        ("", "securityContext: {procMount: Unmasked}", "spec.containers[0].securityContext.procMount"),
        ("", "workingDir: here", "spec.containers[0].workingDir"),
        ("", "resources: {claims: [{name: a}]}", "spec.containers[0].resources.claims"),
        (
            "",
            "resources: {limits: {hugepages-2Mi: 2Mi}}",
            "spec.containers[0].resources.limits.hugepages-2Mi",
        ),
        ("activeDeadlineSeconds: 0", "", "spec.activeDeadlineSeconds"),
    ] {
        let found = refused(&pod_with(spec, container));
        assert!(found.len() == 1 && found[0].starts_with(&format!("{path}: ")), "{path}: {found:?}");
    }
}

#[test]
fn what_the_pod_is_called() {
    let named = |spec: &str| {
        let pod = accepted(&pod_with(spec, "")).pod;
        (pod.hostname.clone(), pod.own_names().join(" "))
    };
    let both = |hostname: &str, names: &str| (hostname.to_owned(), names.to_owned());
    assert_eq!(named(""), both("web", "web"));
    assert_eq!(named("hostname: www"), both("www", "www"));
    let fqdn = "www.db.default.svc.cluster.local";
    assert_eq!(named("hostname: www, subdomain: db"), both("www", &format!("{fqdn} www")));
    assert_eq!(named("subdomain: db"), both("web", "web.db.default.svc.cluster.local web"));
    assert_eq!(
        named("hostname: www, subdomain: db, setHostnameAsFQDN: true"),
        both(fqdn, &format!("{fqdn} www"))
    );
    // Without a subdomain there is no other.
    assert_eq!(named("setHostnameAsFQDN: true"), both("web", "web"));
    assert_eq!(named("hostname: www, subdomain: db, hostnameOverride: my.host"), both("my.host", "my.host"));
    // The longest hostname that Linux takes.
    let longest = format!("hostname: {}, subdomain: db, setHostnameAsFQDN: true", "a".repeat(35));
    assert_eq!(named(&longest).0.len(), 64);
}

#[test]
fn how_the_pod_resolves_names() {
    let pod = accepted(&pod_with(
        "dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1, '2001:db8::1'], searches: [a.example., ., _x.b], \
         options: [{name: ndots, value: '2'}, {name: edns0}]}",
        "",
    ));
    assert_eq!(pod.warnings, []);
    let Pod { dns, .. } = pod.pod;
    assert_eq!(dns.policy, crate::spec::DnsPolicy::None);
    assert_eq!(dns.nameservers.len(), 2);
    assert_eq!(dns.searches, ["a.example", ".", "_x.b"]);
    assert_eq!((dns.options[0].name.as_str(), dns.options[0].value.as_deref()), ("ndots", Some("2")));
    assert_eq!((dns.options[1].name.as_str(), dns.options[1].value.as_deref()), ("edns0", None));
    for (spec, message) in [
        ("dnsConfig: {options: [{name: nodots}]}", "resolv.conf(5) has no option"),
        ("dnsConfig: {options: [{name: ndots, value: many}]}", "needs a number"),
        ("dnsConfig: {options: [{name: timeout}]}", "needs a number"),
    ] {
        let found = warnings(&accepted(&pod_with(spec, "")));
        assert!(
            found.len() == 1
                && found[0].starts_with("spec.dnsConfig.options[0]: ")
                && found[0].contains(message),
            "{spec}: {found:?}"
        );
    }
}

#[test]
fn names_are_checked_as_the_api_server_does() {
    let many = |what: &str, count: usize| {
        let list: Vec<String> = (0..count).map(|n| what.replace('#', &n.to_string())).collect();
        list.join(", ")
    };
    for (spec, path) in [
        ("dnsPolicy: None".to_owned(), "spec.dnsConfig: required"),
        ("dnsPolicy: None, dnsConfig: {searches: [a]}".to_owned(), "spec.dnsConfig.nameservers: required"),
        ("dnsPolicy: none".to_owned(), "spec.dnsPolicy: "),
        ("dnsConfig: {nameservers: [dns.example]}".to_owned(), "spec.dnsConfig.nameservers[0]: "),
        (format!("dnsConfig: {{nameservers: [{}]}}", many("10.0.0.#", 4)), "spec.dnsConfig.nameservers: "),
        (format!("dnsConfig: {{searches: [{}]}}", many("d#.example", 33)), "spec.dnsConfig.searches: "),
        (
            format!("dnsConfig: {{searches: [{}]}}", many("abcdefgh#.".repeat(20).trim_end_matches('.'), 12)),
            "spec.dnsConfig.searches: must not have more than 2048",
        ),
        ("dnsConfig: {searches: [a b]}".to_owned(), "spec.dnsConfig.searches[0]: "),
        ("dnsConfig: {options: [{value: '1'}]}".to_owned(), "spec.dnsConfig.options[0].name: required"),
        ("dnsConfig: {options: [{name: \"a\\nb\"}]}".to_owned(), "spec.dnsConfig.options[0]: must not hold"),
        ("subdomain: A".to_owned(), "spec.subdomain: "),
        ("subdomain: a.b".to_owned(), "spec.subdomain: "),
        (
            format!("subdomain: {}, setHostnameAsFQDN: true", "a".repeat(40)),
            "spec.setHostnameAsFQDN: the FQDN web.",
        ),
        (
            "hostnameOverride: a, setHostnameAsFQDN: true".to_owned(),
            "spec.hostnameOverride: may not be specified when setHostnameAsFQDN is true",
        ),
    ] {
        let found = refused(&pod_with(&spec, ""));
        assert!(found.len() == 1 && found[0].starts_with(path), "{spec}: {found:?}");
    }
}

#[test]
fn empty_values_are_no_fields() {
    let converted = accepted(&pod_with(
        "affinity: {}, dnsConfig: {}, ephemeralContainers: [], hostPID: false, securityContext: {}, \
         tolerations: [], volumes: [], initContainers: null, subdomain: ''",
        "env: [], envFrom: [], lifecycle: {}, ports: null, stdin: false, securityContext: {}, workingDir: ''",
    ));
    assert_eq!(converted.warnings, []);
}

#[test]
fn host_ports_are_the_containers_own_on_the_hosts_network() {
    let port = |host: u16| format!("ports: [{{containerPort: 80, hostPort: {host}, hostIP: 0.0.0.0}}]");
    assert_eq!(accepted(&pod_with("hostNetwork: true", &port(80))).pod.network, NetworkMode::Host);
    let found = refused(&pod_with("hostNetwork: true", &port(81)));
    assert_eq!(
        found,
        ["spec.containers[0].ports[0].hostPort: must match containerPort 80 when hostNetwork is true"]
    );
}

#[test]
fn host_ports_are_forwarded() {
    let hosts = |ports: &str| {
        let pod = accepted(&pod_with("", &format!("ports: [{ports}]"))).pod;
        pod.containers[0].ports.iter().map(|port| port.host_port).collect::<Vec<_>>()
    };
    let ip = |ip: &str| Some(ip.parse().unwrap());
    assert_eq!(hosts("{containerPort: 80, hostPort: 8080}"), [Some(HostPort { port: 8080, ip: None })]);
    assert_eq!(hosts("{containerPort: 80, hostPort: 0}"), [None]);
    assert_eq!(
        hosts(
            "{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}, \
             {containerPort: 81, hostPort: 8080, hostIP: '::'}, \
             {containerPort: 80, hostPort: 8080, protocol: UDP, hostIP: ''}"
        ),
        [
            Some(HostPort { port: 8080, ip: ip("127.0.0.1") }),
            Some(HostPort { port: 8080, ip: ip("::") }),
            Some(HostPort { port: 8080, ip: None })
        ]
    );
    for (port, words) in [
        ("hostPort: 65536", "hostPort: invalid value 65536: must be between 1 and 65535"),
        ("hostPort: -1", "hostPort: invalid value -1"),
        (
            "hostPort: 1, hostIP: localhost",
            "hostIP: invalid value \"localhost\": must be an IPv4 or IPv6 address",
        ),
    ] {
        let found = refused(&pod_with("", &format!("ports: [{{containerPort: 80, {port}}}]")));
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    }
}

#[test]
fn a_host_port_is_there_once() {
    for (one, other, overlap) in [
        ("", "", true),
        ("", "127.0.0.1", true),
        ("0.0.0.0", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
        ("0.0.0.0", "'::1'", false),
        ("'::'", "'::1'", true),
    ] {
        let text = pod_with(
            "",
            &format!(
                "ports: [{{containerPort: 80, hostPort: 80, hostIP: {one}}}, \
                 {{containerPort: 81, hostPort: 80, hostIP: {other}}}]"
            ),
        );
        if overlap {
            let expected = "spec.containers[0].ports[1].hostPort: duplicate value 80: spec.containers[0].ports[0] has this port";
            assert_eq!(refused(&text), [expected], "{one} {other}");
        } else {
            accepted(&text);
        }
    }
    // What runs before may name what runs later.
    let init = |container_port: u16| {
        format!(
            "initContainers: [{{name: i, image: ./i.wasm, ports: [{{containerPort: {container_port}, hostPort: 80}}]}}]"
        )
    };
    let main = "ports: [{containerPort: 80, hostPort: 80}]";
    accepted(&pod_with(&init(80), main));
    assert_eq!(refused(&pod_with(&init(81), main)).len(), 1);
}

#[test]
fn a_port_may_have_several_host_ports() {
    let text = pod_with(
        "",
        "ports: [{containerPort: 80, hostPort: 80, hostIP: 192.0.2.1}, \
         {containerPort: 80, hostPort: 80, hostIP: 192.0.2.2}, {containerPort: 80, hostPort: 81}]",
    );
    assert!(warnings(&accepted(&text)).is_empty());
    let again = accepted(&pod_with("", "ports: [{containerPort: 80}, {containerPort: 80, name: again}]"));
    assert_eq!(
        warnings(&again),
        ["spec.containers[0].ports[1].containerPort: no effect: the container has port 80 already"]
    );
}

#[test]
fn a_port_of_two_containers_is_a_warning() {
    let text = pod_with("", "ports: [{containerPort: 80}]").replace(
        "containers: [",
        "containers: [{name: other, image: ./o.wasm, ports: [{containerPort: 80}]}, ",
    );
    let found = warnings(&accepted(&text));
    assert_eq!(
        found,
        [
            "spec.containers[1].ports[0]: container \"other\" has port 80 too; only one of them can listen on it"
        ]
    );
}

#[test]
fn zero_limits_nothing() {
    let limits = "resources: {limits: {cpu: 0, memory: 0}}";
    assert_eq!(accepted(&pod_with("", limits)).pod.containers[0].resources, Resources::default());
}

#[test]
fn qos_classes() {
    for (resources, class) in [
        ("", QosClass::BestEffort),
        ("resources: {limits: {cpu: 0}}", QosClass::BestEffort),
        ("resources: {limits: {cpu: 1, memory: 1Gi}}", QosClass::Guaranteed),
        ("resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1000m}}", QosClass::Guaranteed),
        ("resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}", QosClass::Burstable),
        ("resources: {limits: {memory: 1Gi}}", QosClass::Burstable),
        ("resources: {requests: {cpu: 1m}}", QosClass::Burstable),
    ] {
        let pod = accepted(&pod_with("", resources)).pod;
        assert_eq!(QosClass::of(&pod), class, "{resources}");
    }
    let mixed = pod_with(
        "initContainers: [{name: i, image: ./i.wasm}]",
        "resources: {limits: {cpu: 1, memory: 1Gi}}",
    );
    assert_eq!(QosClass::of(&accepted(&mixed).pod), QosClass::Burstable);
}

#[test]
fn errors_of_all_stages_come_together() {
    let found = refused(&pod_with("hostPDI: true, hostIPC: true", "tty: 'no', stdin: true"));
    assert_eq!(
        found,
        [
            "spec.containers[0].tty: expected a boolean, found the string \"no\"; write true or false without quotes",
            "spec.hostPDI: unknown field, did you mean hostPID?",
            "spec.hostIPC: not supported: a pod has its own IPC namespace",
            "spec.containers[0].stdin: not supported: nothing can be attached to a container, it reads an empty standard input; remove it",
        ]
    );
}

#[test]
fn the_unknown_import_is_all_that_is_wrong_with_its_component() {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken/images");
    let mut validator = wasmparser::Validator::new();
    let component = std::fs::read(images.join("unknown-import.wasm")).unwrap();
    validator.validate_all(&component).unwrap();
    let truncated = std::fs::read(images.join("truncated.wasm")).unwrap();
    assert!(wasmparser::Parser::is_component(&truncated));
    assert!(wasmparser::Validator::new().validate_all(&truncated).is_err());
}

proptest! {
    /// Every scalar of a manifest replaced by some text: errors perhaps, never a panic.
    #[test]
    fn any_text_in_any_place_never_panics(place in 0usize..200, text in "\\PC{0,30}") {
        let quoted = format!("{text:?}");
        let mut seen = 0;
        let damaged: String = FULL
            .split_inclusive([' ', ',', '}', ']', '\n'])
            .map(|token| {
                seen += 1;
                if seen == place { quoted.as_str() } else { token }
            })
            .collect();
        let _ = load(damaged.as_bytes(), &options());
        let _ = load(pod_with("", &format!("args: [{quoted}], workingDir: {quoted}")).as_bytes(), &options());
    }
}
