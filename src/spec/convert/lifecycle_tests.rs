//! Probes, hooks, restart rules, resources, ephemeral containers and resizes through the conversion.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::tests::{accepted, pod_with, refused, warnings};
use super::*;
use crate::spec::{
    Container, Hook, HookKind, HttpGet, Probe, ProbeHandler, ProbeKind, QosClass, ResizePolicy, Resources,
    RestartPolicy, RestartRule, Role, Scheme, SetOperator, TerminationMessage,
};

const MAIN: &str = "spec.containers[0]";

fn main_with(spec: &str, container: &str) -> Container {
    let converted = accepted(&pod_with(spec, container));
    assert_eq!(warnings(&converted), [] as [&str; 0], "{container}");
    converted.pod.containers[0].clone()
}

/// Each container is refused for exactly this.
fn each_is_refused(cases: &[(&str, &str)]) {
    for (container, error) in cases {
        assert_eq!(refused(&pod_with("", container)), [format!("{MAIN}.{error}")], "{container}");
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn probes_have_the_defaults_of_kubernetes() {
    let tcp = || ProbeHandler::TcpSocket { host: None, port: 80 };
    let defaults = Probe {
        handler: tcp(),
        initial_delay: Duration::ZERO,
        period: seconds(10),
        timeout: seconds(1),
        success_threshold: 1,
        failure_threshold: 3,
        termination_grace: None,
    };
    for (fields, expected) in [
        ("", defaults.clone()),
        // To Kubernetes 0 is nothing.
        (", periodSeconds: 0, timeoutSeconds: 0, successThreshold: 0, failureThreshold: 0", defaults.clone()),
        (
            ", initialDelaySeconds: 5, periodSeconds: 2, timeoutSeconds: 3, failureThreshold: 7, \
             terminationGracePeriodSeconds: 9",
            Probe {
                handler: tcp(),
                initial_delay: seconds(5),
                period: seconds(2),
                timeout: seconds(3),
                success_threshold: 1,
                failure_threshold: 7,
                termination_grace: Some(seconds(9)),
            },
        ),
    ] {
        let container = main_with("", &format!("livenessProbe: {{tcpSocket: {{port: 80}}{fields}}}"));
        assert_eq!(container.probes.of(ProbeKind::Liveness), Some(&expected), "{fields}");
        assert_eq!(container.probes.of(ProbeKind::Startup), None);
    }
    let ready = main_with("", "readinessProbe: {tcpSocket: {port: 80}, successThreshold: 4}");
    assert_eq!(ready.probes.readiness.unwrap().success_threshold, 4);
}

#[test]
fn what_probes_do() {
    let http = |scheme, host: Option<&str>, port, path: &str, headers: &[(&str, &str)]| {
        ProbeHandler::HttpGet(HttpGet {
            scheme,
            host: host.map(str::to_owned),
            port,
            path: path.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        })
    };
    for (probe, expected) in [
        // Nothing is expanded in a probe's command.
        ("exec: {command: [test, $(A)]}", ProbeHandler::Exec(vec!["test".into(), "$(A)".into()])),
        ("httpGet: {port: 8080}", http(Scheme::Http, None, 8080, "/", &[])),
        ("httpGet: {port: web, path: 'up?x=1'}", http(Scheme::Http, None, 8080, "/up?x=1", &[])),
        (
            "httpGet: {port: 1, scheme: HTTPS, host: a_b.example, path: /a b, httpHeaders: \
             [{name: X-A, value: '1'}, {name: X-A, value: ''}]}",
            http(Scheme::Https, Some("a_b.example"), 1, "/a%20b", &[("X-A", "1"), ("X-A", "")]),
        ),
        ("httpGet: {port: 1, host: '[::1]'}", http(Scheme::Http, Some("::1"), 1, "/", &[])),
        ("tcpSocket: {port: dns}", ProbeHandler::TcpSocket { host: None, port: 53 }),
        (
            "tcpSocket: {port: 1, host: 127.0.0.1}",
            ProbeHandler::TcpSocket { host: Some("127.0.0.1".into()), port: 1 },
        ),
        ("grpc: {port: 9090}", ProbeHandler::Grpc { port: 9090, service: String::new() }),
        (
            "grpc: {port: 9090, service: a.B, mode: Plaintext}",
            ProbeHandler::Grpc { port: 9090, service: "a.B".into() },
        ),
    ] {
        let container = main_with(
            "",
            &format!(
                "env: [{{name: A, value: a}}], ports: [{{containerPort: 8080, name: web}}, \
                 {{containerPort: 53, name: dns, protocol: UDP}}], startupProbe: {{{probe}}}"
            ),
        );
        assert_eq!(container.probes.startup.map(|probe| probe.handler), Some(expected), "{probe}");
    }
}

#[test]
fn probes_are_checked_as_the_api_server_does() {
    each_is_refused(&[
        ("livenessProbe: {}", "livenessProbe: required: must specify a handler type"),
        ("livenessProbe: {periodSeconds: 1}", "livenessProbe: required: must specify a handler type"),
        (
            "livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}",
            "livenessProbe.tcpSocket: may not specify more than 1 handler type: there is exec already",
        ),
        ("livenessProbe: {exec: {}}", "livenessProbe.exec.command: required; the command and its arguments"),
        (
            "livenessProbe: {exec: {command: [a, \"\\0\"]}}",
            "livenessProbe.exec.command[1]: must not contain a NUL byte",
        ),
        (
            "startupProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
            "startupProbe.successThreshold: invalid value 2: must be 1",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
            "livenessProbe.successThreshold: invalid value 2: must be 1",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, initialDelaySeconds: -1}",
            "livenessProbe.initialDelaySeconds: invalid value -1: must be greater than or equal to 0",
        ),
        (
            "readinessProbe: {tcpSocket: {port: 1}, failureThreshold: -3}",
            "readinessProbe.failureThreshold: invalid value -3: must be greater than or equal to 0",
        ),
        (
            "readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 1}",
            "readinessProbe.terminationGracePeriodSeconds: must not be set for readinessProbes: they end no container",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}",
            "livenessProbe.terminationGracePeriodSeconds: invalid value 0: must be greater than 0",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 9223372036854775807}",
            "livenessProbe.terminationGracePeriodSeconds: invalid value 9223372036854775807: must be between 1 and 2147483647",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 0}}",
            "livenessProbe.tcpSocket.port: invalid value 0: must be between 1 and 65535",
        ),
        (
            "livenessProbe: {grpc: {port: 65536}}",
            "livenessProbe.grpc.port: invalid value 65536: must be between 1 and 65535",
        ),
        (
            "livenessProbe: {grpc: {port: 1, mode: TLS}}",
            "livenessProbe.grpc.mode: not supported: health checks are in the clear; use Plaintext",
        ),
        (
            "livenessProbe: {httpGet: {port: '80'}}",
            "livenessProbe.httpGet.port: invalid value \"80\": a port's number has no quotes",
        ),
        (
            "livenessProbe: {httpGet: {port: Web}}",
            "livenessProbe.httpGet.port: invalid value \"Web\": must contain only lower case alphanumeric characters or '-'",
        ),
        (
            "livenessProbe: {httpGet: {port: web}}",
            "livenessProbe.httpGet.port: no port named \"web\": the container's ports have no names",
        ),
        (
            "ports: [{containerPort: 1, name: http}, {containerPort: 2, name: dns}], \
             livenessProbe: {tcpSocket: {port: htpp}}",
            "livenessProbe.tcpSocket.port: no port named \"htpp\", did you mean http? (the container's ports: http, dns)",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, scheme: http}}",
            "livenessProbe.httpGet.scheme: unsupported value \"http\", did you mean HTTP? (one of: HTTP, HTTPS)",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'X A', value: b}]}}",
            "livenessProbe.httpGet.httpHeaders[0].name: invalid value \"X A\": a valid HTTP header must consist of alphanumeric characters or '-', such as X-Header-Name",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: A, value: \"b\\nc\"}]}}",
            "livenessProbe.httpGet.httpHeaders[0].value: must not contain control characters",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, host: 'a:80'}}",
            "livenessProbe.httpGet.host: invalid value \"a:80\": must be a host name or an IP address, without a port",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, protocol: HTTP2}}",
            "livenessProbe.httpGet.protocol: not supported: requests are HTTP/1.1; remove it",
        ),
        // The port that is wrong is reported, and that alone.
        (
            "ports: [{containerPort: 70000, name: web}], livenessProbe: {httpGet: {port: web}}",
            "ports[0].containerPort: invalid value 70000: must be between 1 and 65535",
        ),
    ]);
}

#[test]
fn a_named_port_is_the_containers_own() {
    let text = pod_with("", "livenessProbe: {tcpSocket: {port: web}}").replace(
        "containers: [",
        "containers: [{name: other, image: ./o.wasm, ports: [{containerPort: 80, name: web}]}, ",
    );
    assert_eq!(
        refused(&text),
        [
            "spec.containers[1].livenessProbe.tcpSocket.port: no port named \"web\": the container's ports have no names"
        ]
    );
}

#[test]
fn hooks() {
    let get = HttpGet { scheme: Scheme::Http, host: None, port: 80, path: "/bye".into(), headers: vec![] };
    for (hook, expected) in [
        ("exec: {command: [a, $(B)]}", Hook::Exec(vec!["a".into(), "$(B)".into()])),
        ("httpGet: {port: web, path: /bye}", Hook::HttpGet(get)),
        ("sleep: {seconds: 0}", Hook::Sleep(Duration::ZERO)),
        ("sleep: {seconds: 30}", Hook::Sleep(seconds(30))),
    ] {
        for (field, kind) in [("postStart", HookKind::PostStart), ("preStop", HookKind::PreStop)] {
            let hook =
                format!("ports: [{{containerPort: 80, name: web}}], lifecycle: {{{field}: {{{hook}}}}}");
            assert_eq!(main_with("", &hook).hooks.of(kind), Some(&expected), "{hook}");
        }
    }
    each_is_refused(&[
        ("lifecycle: {preStop: {}}", "lifecycle.preStop: required: must specify a handler type"),
        (
            "lifecycle: {preStop: {exec: {command: [a]}, sleep: {seconds: 1}}}",
            "lifecycle.preStop.sleep: may not specify more than 1 handler type: there is exec already",
        ),
        (
            "lifecycle: {postStart: {exec: {command: []}}}",
            "lifecycle.postStart.exec.command: required; the command and its arguments",
        ),
        (
            "lifecycle: {postStart: {tcpSocket: {port: 1}}}",
            "lifecycle.postStart.tcpSocket: not supported: a hook of this kind fails in Kubernetes too; use exec, httpGet or sleep",
        ),
        (
            "lifecycle: {preStop: {sleep: {seconds: 31}}}",
            "lifecycle.preStop.sleep: invalid value 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            "lifecycle: {preStop: {sleep: {seconds: -1}}}",
            "lifecycle.preStop.sleep: invalid value -1: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            "lifecycle: {stopSignal: SIGTERM}",
            "lifecycle.stopSignal: not supported: a WebAssembly guest has no signals; it is told through peapod:pod/lifecycle",
        ),
    ]);
    // The wrong grace period is what is wrong.
    let text = pod_with("terminationGracePeriodSeconds: -1", "lifecycle: {preStop: {sleep: {seconds: 1}}}");
    let error = "spec.terminationGracePeriodSeconds: invalid value -1: must be between 0 and 2147483647";
    assert_eq!(refused(&text), [error]);
}

#[test]
fn init_containers_have_no_probes_and_hooks_unless_they_are_sidecars() {
    let init = |fields: &str| {
        pod_with(
            &format!(
                "initContainers: [{{name: i, image: ./i.wasm, ports: [{{containerPort: 7, name: p}}], {fields}}}]"
            ),
            "",
        )
    };
    for fields in [
        "lifecycle: {preStop: {sleep: {seconds: 1}}}",
        "livenessProbe: {tcpSocket: {port: p}}",
        "readinessProbe: {tcpSocket: {port: p}}",
        "startupProbe: {tcpSocket: {port: p}}",
    ] {
        let field = fields.split(':').next().unwrap();
        let error = format!(
            "spec.initContainers[0].{field}: may not be set for init containers without restartPolicy=Always"
        );
        assert_eq!(refused(&init(fields)), [error.as_str()]);
        assert_eq!(refused(&init(&format!("restartPolicy: Never, {fields}"))), [error.as_str()]);
        let sidecar = accepted(&init(&format!("restartPolicy: Always, {fields}"))).pod;
        let Container { role, probes, hooks, .. } = &sidecar.init_containers[0];
        assert_eq!(*role, Role::Sidecar);
        assert!(ProbeKind::ALL.iter().any(|kind| probes.of(*kind).is_some()) || hooks.pre_stop.is_some());
    }
}

#[test]
fn containers_restart_by_their_own_policy_and_rules() {
    for (text, policy) in [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ] {
        let container = main_with("restartPolicy: Never", &format!("restartPolicy: {text}"));
        assert_eq!((container.role, container.restart_policy), (Role::Main, Some(policy)));
        let init = format!("initContainers: [{{name: i, image: ./i.wasm, restartPolicy: {text}}}]");
        let role = if policy == RestartPolicy::Always { Role::Sidecar } else { Role::Init };
        let init = &accepted(&pod_with(&init, "")).pod.init_containers[0];
        assert_eq!((init.role, init.restart_policy), (role, Some(policy)));
    }
    assert_eq!(main_with("restartPolicy: Never", "").restart_policy, None);
    let rules = main_with(
        "",
        "restartPolicy: Never, restartPolicyRules: \
         [{action: Restart, exitCodes: {operator: In, values: [0, 42]}}, \
          {action: Restart, exitCodes: {operator: NotIn, values: [1]}}]",
    );
    assert_eq!(
        rules.restart_rules,
        [
            RestartRule { operator: SetOperator::In, values: vec![0, 42] },
            RestartRule { operator: SetOperator::NotIn, values: vec![1] },
        ]
    );
    each_is_refused(&[
        (
            "restartPolicy: always",
            "restartPolicy: unsupported value \"always\", did you mean Always? (one of: Always, OnFailure, Never)",
        ),
        (
            "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]",
            "restartPolicy: required: must specify restartPolicy when restart rules are used",
        ),
        (
            "restartPolicy: Never, restartPolicyRules: [{action: Restart}]",
            "restartPolicyRules[0].exitCodes: required: must be specified",
        ),
        (
            "restartPolicy: Never, restartPolicyRules: [{action: Stop, exitCodes: {operator: In, values: [1]}}]",
            "restartPolicyRules[0].action: unsupported value \"Stop\" (one of: Restart)",
        ),
        (
            "restartPolicy: Never, restartPolicyRules: \
             [{action: RestartAllContainers, exitCodes: {operator: In, values: [1]}}]",
            "restartPolicyRules[0].action: not supported: a rule restarts its own container only; use Restart",
        ),
        (
            "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: in, values: [1]}}]",
            "restartPolicyRules[0].exitCodes.operator: unsupported value \"in\", did you mean In? (one of: In, NotIn)",
        ),
    ]);
    let rule = "{action: Restart, exitCodes: {operator: In, values: [1]}}";
    let many = |count: usize| {
        format!("restartPolicy: Never, restartPolicyRules: [{}]", vec![rule; count].join(", "))
    };
    assert_eq!(main_with("", &many(20)).restart_rules.len(), 20);
    each_is_refused(&[(&many(21), "restartPolicyRules: too many: 21, must have at most 20 items")]);
    let values = |values: &str| {
        format!(
            "restartPolicy: Never, restartPolicyRules: [{{action: Restart, exitCodes: {{operator: In, values: [{values}]}}}}]"
        )
    };
    each_is_refused(&[(
        &values(&vec!["1"; 256].join(", ")),
        "restartPolicyRules[0].exitCodes.values: too many: 256, must have at most 255 items",
    )]);
    for (list, warning) in [
        ("256", "[0]: no exit code is 256: they are 0 to 255"),
        ("-1", "[0]: no exit code is -1: they are 0 to 255"),
        ("1, 1", "[1]: no effect: 1 is there already"),
        ("", ": no exit code is in an empty list; the rule never applies"),
    ] {
        let found = warnings(&accepted(&pod_with("", &values(list))));
        assert_eq!(found, [format!("{MAIN}.restartPolicyRules[0].exitCodes.values{warning}")]);
    }
}

#[test]
fn termination_messages_and_resize_policies() {
    let message = |fields: &str| main_with("", fields).termination_message;
    assert_eq!(message(""), TerminationMessage::default());
    assert_eq!(
        message("terminationMessagePath: '', terminationMessagePolicy: ''"),
        TerminationMessage::default()
    );
    assert_eq!(
        message("terminationMessagePath: /tmp//last, terminationMessagePolicy: FallbackToLogsOnError"),
        TerminationMessage { path: "/tmp/last".into(), falls_back_to_logs: true }
    );
    let resize = main_with(
        "",
        "resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}, \
         {resourceName: cpu, restartPolicy: NotRequired}]",
    );
    assert_eq!(resize.resize_policy, ResizePolicy { cpu_restarts: false, memory_restarts: true });
    each_is_refused(&[
        (
            "terminationMessagePath: last",
            "terminationMessagePath: \"last\" is not an absolute path, did you mean /last?",
        ),
        (
            "terminationMessagePolicy: Logs",
            "terminationMessagePolicy: unsupported value \"Logs\" (one of: File, FallbackToLogsOnError)",
        ),
        (
            "resizePolicy: [{resourceName: disk, restartPolicy: NotRequired}]",
            "resizePolicy[0].resourceName: unsupported value \"disk\" (one of: cpu, memory)",
        ),
        (
            "resizePolicy: [{resourceName: cpu, restartPolicy: Never}]",
            "resizePolicy[0].restartPolicy: unsupported value \"Never\" (one of: NotRequired, RestartContainer)",
        ),
        (
            "resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, \
             {resourceName: cpu, restartPolicy: NotRequired}]",
            "resizePolicy[1]: duplicate value \"cpu\": there is one for it already",
        ),
    ]);
    let never = pod_with(
        "restartPolicy: Never",
        "resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]",
    );
    assert_eq!(
        refused(&never),
        [
            "spec.containers[0].resizePolicy[0].restartPolicy: must be 'NotRequired' when `restartPolicy` is 'Never'"
        ]
    );
}

#[test]
fn readiness_gates() {
    let pod =
        accepted(&pod_with("readinessGates: [{conditionType: example.com/up}, {conditionType: b}]", ""));
    assert_eq!(pod.pod.readiness_gates, ["example.com/up", "b"]);
    let found = refused(&pod_with("readinessGates: [{conditionType: a}, {conditionType: 'a b'}, {}]", ""));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("spec.readinessGates[1].conditionType: invalid value \"a b\": "),
        "{found:?}"
    );
    assert!(found[1].starts_with("spec.readinessGates[2].conditionType: "), "{found:?}");
}

#[test]
fn resources_of_a_container() {
    let of = |text: &str| main_with("", &format!("resources: {{{text}}}")).resources;
    assert_eq!(
        of("limits: {ephemeral-storage: 1Gi}, requests: {cpu: 0}"),
        Resources {
            storage_limit_bytes: Some(1 << 30),
            storage_request_bytes: Some(1 << 30),
            ..Resources::default()
        }
    );
    // A request of nothing is one, and does not become the limit.
    assert_eq!(
        of("limits: {cpu: 1}, requests: {cpu: 0}"),
        Resources { cpu_limit_millis: Some(1000), ..Resources::default() }
    );
    each_is_refused(&[(
        "resources: {limits: {ephemeral-storage: 1Gi}, requests: {ephemeral-storage: 2Gi}}",
        "resources.requests.ephemeral-storage: must be less than or equal to the ephemeral-storage limit; lower it or raise limits.ephemeral-storage",
    )]);
}

/// `spec.resources`, resources of the main container, and of the init containers, with their restart policy.
fn pod_resources(spec: &str, main: &str, init: &[(&str, &str)]) -> String {
    let init: Vec<String> = init
        .iter()
        .enumerate()
        .map(|(n, (more, resources))| {
            format!("{{name: i{n}, image: ./i.wasm, resources: {{{resources}}}{more}}}")
        })
        .collect();
    pod_with(
        &format!("resources: {{{spec}}}, initContainers: [{}]", init.join(", ")),
        &format!("resources: {{{main}}}"),
    )
}

#[test]
fn resources_of_the_pod() {
    const SIDECAR: &str = ", restartPolicy: Always";
    let of = |spec: &str, main: &str, init: &[(&str, &str)]| {
        let Resources { cpu_limit_millis: limit, cpu_request_millis: request, .. } =
            accepted(&pod_resources(spec, main, init)).pod.resources;
        (limit, request)
    };
    assert_eq!(of("", "limits: {cpu: 1}", &[]), (None, None));
    assert_eq!(of("limits: {cpu: 2}", "", &[]), (Some(2000), Some(2000)));
    assert_eq!(of("limits: {cpu: 2}, requests: {cpu: 1}", "", &[]), (Some(2000), Some(1000)));
    assert_eq!(of("limits: {cpu: 2}", "requests: {cpu: 500m}", &[]), (Some(2000), Some(500)));
    // Main containers and sidecars together, or an init container and the sidecars before it.
    let sidecars = [(SIDECAR, "requests: {cpu: 100m}"), ("", "requests: {cpu: 1}"), (SIDECAR, "")];
    assert_eq!(of("limits: {cpu: 2}", "requests: {cpu: 200m}", &sidecars), (Some(2000), Some(1100)));
    assert_eq!(of("limits: {cpu: 2}", "requests: {cpu: 1200m}", &sidecars), (Some(2000), Some(1300)));
    // Requests only: limits if all containers have them.
    assert_eq!(of("requests: {cpu: 1}", "", &[]), (None, Some(1000)));
    let both = "requests: {cpu: 1}, limits: {cpu: 3}";
    assert_eq!(of("requests: {cpu: 1}", both, &[]), (Some(3000), Some(1000)));
    assert_eq!(of("requests: {cpu: 1}", both, &[("", "")]), (None, Some(1000)));

    for (spec, main, init, error) in [
        (
            "limits: {cpu: 1}, requests: {cpu: 2}",
            "",
            vec![],
            "spec.resources.requests.cpu: must be less than or equal to the cpu limit; lower it or raise limits.cpu",
        ),
        (
            "requests: {cpu: 1}",
            "requests: {cpu: 1}",
            vec![(SIDECAR, "requests: {cpu: 500m}")],
            "spec.resources.requests.cpu: must be greater than or equal to aggregate container requests of 1500m",
        ),
        (
            "requests: {memory: 1Gi}",
            "requests: {memory: 1536Mi}",
            vec![],
            "spec.resources.requests.memory: must be greater than or equal to aggregate container requests of 1536Mi",
        ),
        (
            "requests: {memory: 2Gi}",
            "limits: {memory: 1Gi}",
            vec![],
            "spec.resources.requests.memory: must be less than or equal to the container limits together, 1Gi",
        ),
        (
            "limits: {cpu: 1}",
            "requests: {cpu: 2}",
            vec![],
            "spec.resources.limits.cpu: must be greater than or equal to aggregate container requests of 2",
        ),
        (
            "limits: {memory: 1Gi}",
            "limits: {memory: 2Gi}, requests: {memory: 1Mi}",
            vec![],
            "spec.containers[0].resources.limits.memory: must be less than or equal to pod limits of 1Gi",
        ),
        (
            "limits: {ephemeral-storage: 1Gi}",
            "",
            vec![],
            "spec.resources.limits.ephemeral-storage: a pod as a whole has no limit of it; give the containers' own",
        ),
        (
            "limits: {cpus: 1}",
            "",
            vec![],
            "spec.resources.limits.cpus: unknown resource, did you mean cpu? (known: cpu, memory)",
        ),
        (
            "claims: [{name: a}]",
            "",
            vec![],
            "spec.resources.claims: not supported: there are no devices to claim; remove it",
        ),
    ] {
        assert_eq!(refused(&pod_resources(spec, main, &init)), [error], "{spec}");
    }
}

#[test]
fn the_pods_own_resources_decide_its_class() {
    for (spec, main, class) in [
        ("limits: {cpu: 1, memory: 1Gi}", "", QosClass::Guaranteed),
        ("limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}", "", QosClass::Burstable),
        ("limits: {cpu: 1}", "limits: {cpu: 1, memory: 1Gi}", QosClass::Burstable),
        ("limits: {cpu: 1, memory: 1Gi}", "requests: {cpu: 1m}", QosClass::Burstable),
        ("", "limits: {ephemeral-storage: 1Gi}", QosClass::BestEffort),
        ("", "limits: {cpu: 1, memory: 1Gi, ephemeral-storage: 1Gi}", QosClass::Guaranteed),
        ("", "limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 0}", QosClass::Burstable),
    ] {
        let pod = accepted(&pod_resources(spec, main, &[])).pod;
        assert_eq!(QosClass::of(&pod), class, "{spec} {main}");
    }
    // An ephemeral container has no resources, and does not change the class.
    let mut pod = accepted(&pod_resources("", "limits: {cpu: 1, memory: 1Gi}", &[])).pod;
    pod.ephemeral_containers.push(crate::testing::spec::container("debug", Role::Ephemeral));
    assert_eq!(QosClass::of(&pod), QosClass::Guaranteed);
}

mod running {
    //! What happens to pods that run already.

    use super::*;

    fn options() -> Options {
        Options { manifest_dir: "/srv/debug".into(), ..Options::default() }
    }

    fn running() -> Converted {
        accepted(&pod_with(
            "volumes: [{name: data, emptyDir: {}}], initContainers: [{name: init, image: ./i.wasm}]",
            "",
        ))
    }

    fn debug() -> wire::EphemeralContainer {
        wire::EphemeralContainer {
            name: "debug".into(),
            image: Some("./debug.wasm".into()),
            ..Default::default()
        }
    }

    fn added(container: &wire::EphemeralContainer) -> Result<Container, Vec<String>> {
        let Converted { pod, wire, .. } = running();
        ephemeral(container, &pod, &wire, &options())
            .map(|(container, warnings)| {
                assert_eq!(warnings, []);
                container
            })
            .map_err(|invalid| invalid.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_ephemeral_container_is_added() {
        let mount =
            wire::VolumeMount { name: "data".into(), mount_path: "/data".into(), ..Default::default() };
        let variable = wire::EnvVar { name: "A".into(), value: Some("a".into()), value_from: None };
        let container = added(&wire::EphemeralContainer {
            args: Some(vec!["$(A)".into()]),
            env: Some(vec![variable]),
            target_container_name: Some("main".into()),
            volume_mounts: Some(vec![mount]),
            ..debug()
        })
        .unwrap();
        assert_eq!((container.role, container.target.as_deref()), (Role::Ephemeral, Some("main")));
        assert_eq!(container.image, crate::image::Reference::Local("/srv/debug/debug.wasm".into()));
        assert_eq!((container.args, container.mounts.len()), (vec!["$(A)".to_owned()], 1));
        assert_eq!(container.restart_policy, None);
    }

    #[test]
    fn an_ephemeral_container_has_no_part_in_the_pods_life() {
        let probe = || Some(wire::Probe::default());
        let rule = wire::ContainerRestartRule { action: "Restart".into(), exit_codes: None };
        let resize =
            wire::ContainerResizePolicy { resource_name: "cpu".into(), restart_policy: "NotRequired".into() };
        let limits = [("cpu".to_owned(), Quantity("1".into()))].into();
        let resources = wire::ResourceRequirements { limits: Some(limits), ..Default::default() };
        let port = wire::ContainerPort { container_port: 80, ..Default::default() };
        let mount = |sub_path: &str| wire::VolumeMount {
            name: "data".into(),
            mount_path: "/data".into(),
            sub_path: Some(sub_path.into()),
            ..Default::default()
        };
        type Change = Box<dyn FnOnce(&mut wire::EphemeralContainer)>;
        let cases: Vec<(&str, Change)> = vec![
            ("ports", Box::new(|c| c.ports = Some(vec![port]))),
            ("livenessProbe", Box::new(move |c| c.liveness_probe = probe())),
            ("readinessProbe", Box::new(move |c| c.readiness_probe = probe())),
            ("startupProbe", Box::new(move |c| c.startup_probe = probe())),
            ("lifecycle", Box::new(|c| c.lifecycle = Some(Default::default()))),
            ("resources", Box::new(|c| c.resources = Some(resources))),
            ("resizePolicy", Box::new(|c| c.resize_policy = Some(vec![resize]))),
            ("restartPolicy", Box::new(|c| c.restart_policy = Some("Never".into()))),
            ("restartPolicyRules", Box::new(|c| c.restart_policy_rules = Some(vec![rule]))),
            ("volumeMounts[0].subPath", Box::new(move |c| c.volume_mounts = Some(vec![mount("../x")]))),
        ];
        for (field, change) in cases {
            let mut container = debug();
            change(&mut container);
            let error =
                format!("spec.ephemeralContainers[0].{field}: cannot be set for an Ephemeral Container");
            assert_eq!(added(&container).unwrap_err(), [error]);
        }
    }

    #[test]
    fn an_ephemeral_container_is_named_once_and_aims_at_another() {
        for (name, target, error) in [
            ("main", "", "name: duplicate value \"main\": another container has it"),
            ("init", "", "name: duplicate value \"init\": another container has it"),
            (
                "debug",
                "mian",
                "targetContainerName: not found: no container \"mian\", did you mean main? (one of: init, main)",
            ),
            ("debug", "debug", "targetContainerName: not found: no container \"debug\" (one of: init, main)"),
        ] {
            let container = wire::EphemeralContainer {
                name: name.into(),
                target_container_name: Some(target.into()),
                ..debug()
            };
            assert_eq!(added(&container).unwrap_err(), [format!("spec.ephemeralContainers[0].{error}")]);
        }
        let nameless = wire::EphemeralContainer { name: String::new(), image: None, ..debug() };
        let found = added(&nameless).unwrap_err();
        assert_eq!(found.len(), 2, "{found:?}");
        // A second one stands behind the first.
        let Converted { mut pod, wire, .. } = running();
        let (first, _) = ephemeral(&debug(), &pod, &wire, &options()).unwrap();
        pod.ephemeral_containers.push(first);
        let again = ephemeral(&debug(), &pod, &wire, &options()).unwrap_err().to_string();
        assert_eq!(
            again,
            "spec.ephemeralContainers[1].name: duplicate value \"debug\": another container has it"
        );
    }

    #[test]
    fn a_pod_has_room_for_so_many_containers() {
        let Converted { mut pod, wire, .. } = running();
        while pod.all_containers().count() < 100 {
            let name = format!("debug-{}", pod.ephemeral_containers.len());
            let container = wire::EphemeralContainer { name, ..debug() };
            let (container, _) = ephemeral(&container, &pod, &wire, &options()).unwrap();
            pod.ephemeral_containers.push(container);
        }
        let error = ephemeral(&debug(), &pod, &wire, &options()).unwrap_err().to_string();
        assert_eq!(error, "spec.ephemeralContainers[98]: the pod has 100 containers already, no more fit");
    }

    const SIZED: &str = "requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}";

    fn sized() -> Converted {
        accepted(&pod_resources("", SIZED, &[("", SIZED), (", restartPolicy: Always", SIZED)]))
    }

    fn set(
        requirements: &mut Option<wire::ResourceRequirements>,
        of: &str,
        name: &str,
        amount: Option<&str>,
    ) {
        let requirements = requirements.get_or_insert_default();
        let list = if of == "limits" { &mut requirements.limits } else { &mut requirements.requests };
        let list = list.get_or_insert_default();
        match amount {
            Some(amount) => list.insert(name.to_owned(), Quantity(amount.to_owned())),
            None => list.remove(name),
        };
    }

    fn resized(change: impl FnOnce(&mut wire::PodSpec)) -> Result<Resized, Vec<String>> {
        let Converted { pod, wire, .. } = sized();
        let mut wanted = wire.clone();
        change(wanted.spec.as_mut().unwrap());
        resize(&pod, &wire, &wanted)
            .map_err(|invalid| invalid.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn containers_are_resized() {
        let Resized { pod, wire, .. } = resized(|spec| {
            set(&mut spec.containers[0].resources, "limits", "cpu", Some("1"));
            set(&mut spec.init_containers.as_mut().unwrap()[1].resources, "requests", "memory", Some("48Mi"));
        })
        .unwrap();
        let before = sized().pod;
        assert_eq!(pod.containers[0].resources.cpu_limit_millis, Some(1000));
        assert_eq!(pod.containers[0].resources.cpu_request_millis, Some(100));
        assert_eq!(pod.init_containers[1].resources.memory_request_bytes, Some(48 << 20));
        assert_eq!(pod.init_containers[0], before.init_containers[0]);
        assert_eq!((pod.generation, wire.metadata.generation), (2, Some(2)));
        // Less is allowed as well, and the same is no change.
        let less = resized(|spec| set(&mut spec.containers[0].resources, "limits", "memory", Some("32Mi")));
        assert_eq!(less.unwrap().pod.containers[0].resources.memory_limit_bytes, Some(32 << 20));
        let same = resized(|spec| set(&mut spec.containers[0].resources, "limits", "cpu", Some("0.2")));
        assert_eq!(same.unwrap().pod.generation, 1);
    }

    #[test]
    fn resizes_are_checked_as_the_api_server_does() {
        type Change = Box<dyn FnOnce(&mut wire::PodSpec)>;
        let resources = |of: &'static str, name: &'static str, amount: Option<&'static str>| -> Change {
            Box::new(move |spec| set(&mut spec.containers[0].resources, of, name, amount))
        };
        let cases: Vec<(Change, &str)> = vec![
            (
                resources("requests", "cpu", Some("300m")),
                "spec.containers[0].resources.requests.cpu: must be less than or equal to the cpu limit; lower it or raise limits.cpu",
            ),
            (
                resources("limits", "memory", None),
                "spec.containers[0].resources.limits: resource limits cannot be removed",
            ),
            (
                Box::new(|spec| spec.containers[0].resources = None),
                "spec.containers[0].resources.requests: resource requests cannot be removed",
            ),
            (
                resources("limits", "ephemeral-storage", Some("1Gi")),
                "spec.containers[0].resources.requests.ephemeral-storage: only cpu and memory resources are mutable",
            ),
            (
                Box::new(|spec| spec.containers[0].image = Some("./other.wasm".into())),
                "spec.containers[0]: only cpu and memory resources are mutable",
            ),
            (
                Box::new(|spec| spec.hostname = Some("other".into())),
                "spec: only cpu and memory resources are mutable",
            ),
            (
                Box::new(|spec| {
                    let init = &mut spec.init_containers.as_mut().unwrap()[0];
                    set(&mut init.resources, "limits", "cpu", Some("1"));
                }),
                "spec.initContainers[0].resources: resources for non-sidecar init containers are immutable",
            ),
            (
                Box::new(|spec| spec.containers.clear()),
                "spec.containers: containers cannot be added, removed or reordered by a resize",
            ),
        ];
        for (change, error) in cases {
            let found = resized(change).unwrap_err();
            assert_eq!(found.first().map(String::as_str), Some(error), "{found:?}");
        }
        let best_effort = running();
        let mut wanted = best_effort.wire.clone();
        set(&mut wanted.spec.as_mut().unwrap().containers[0].resources, "limits", "cpu", Some("1"));
        assert_eq!(
            resize(&best_effort.pod, &best_effort.wire, &wanted).unwrap_err().to_string(),
            "spec: Pod QOS Class may not change as a result of resizing: it is BestEffort and would be Burstable"
        );
    }

    #[test]
    fn the_pod_as_a_whole_is_resized() {
        let before = accepted(&pod_resources("limits: {cpu: 2}", "requests: {cpu: 1}", &[]));
        let wanted = |amount: Option<&str>| {
            let mut wanted = before.wire.clone();
            set(&mut wanted.spec.as_mut().unwrap().resources, "limits", "cpu", amount);
            resize(&before.pod, &before.wire, &wanted)
        };
        let Resized { pod, .. } = wanted(Some("3")).unwrap();
        assert_eq!((pod.resources.cpu_limit_millis, pod.generation), (Some(3000), 2));
        assert_eq!(
            wanted(Some("0.5")).unwrap_err().to_string(),
            "spec.resources.requests.cpu: must be less than or equal to the cpu limit; lower it or raise limits.cpu"
        );
        assert_eq!(
            wanted(None).unwrap_err().to_string(),
            "spec.resources.limits: resource limits cannot be removed"
        );
    }
}

#[test]
fn a_printed_pod_has_the_defaults_of_the_api_server() {
    let Converted { wire, pod, .. } = accepted(&pod_with(
        "hostNetwork: true, volumes: [{name: h, hostPath: {path: /srv}}], resources: {limits: {memory: 1Gi}}",
        "ports: [{containerPort: 80, name: web}], resources: {limits: {cpu: 1}}, \
         livenessProbe: {httpGet: {port: web}}, readinessProbe: {grpc: {port: 9}}, \
         lifecycle: {preStop: {httpGet: {port: 80}}}",
    ));
    assert_eq!(wire.metadata.generation, Some(1));
    let spec = wire.spec.as_ref().unwrap();
    assert_eq!(spec.scheduler_name.as_deref(), Some("default-scheduler"));
    assert_eq!(spec.enable_service_links, Some(true));
    assert_eq!(spec.security_context, Some(Default::default()));
    let pod_requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()).unwrap();
    assert_eq!(pod_requests["memory"], Quantity("1Gi".into()));
    assert_eq!(pod_requests["cpu"], Quantity("1".into()));
    let container = &spec.containers[0];
    assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
    assert_eq!(container.termination_message_path.as_deref(), Some("/dev/termination-log"));
    assert_eq!(container.termination_message_policy.as_deref(), Some("File"));
    let port = &container.ports.as_ref().unwrap()[0];
    assert_eq!((port.protocol.as_deref(), port.host_port), (Some("TCP"), Some(80)));
    let requests = container.resources.as_ref().unwrap().requests.as_ref().unwrap();
    assert_eq!(requests["cpu"], Quantity("1".into()));
    let probe = container.liveness_probe.as_ref().unwrap();
    assert_eq!(
        [probe.period_seconds, probe.timeout_seconds, probe.success_threshold, probe.failure_threshold],
        [Some(10), Some(1), Some(1), Some(3)]
    );
    let get = probe.http_get.as_ref().unwrap();
    assert_eq!((get.path.as_deref(), get.scheme.as_deref()), (Some("/"), Some("HTTP")));
    assert_eq!(
        container.readiness_probe.as_ref().unwrap().grpc.as_ref().unwrap().service.as_deref(),
        Some("")
    );

    // It runs as it is printed, and is printed the same again.
    let manifest = Manifest { pod: wire.clone(), ..Manifest::default() };
    let again = super::pod(&manifest, &Options { manifest_dir: "/srv/pods".into(), ..Options::default() });
    let again = again.unwrap();
    assert_eq!(again.wire, wire);
    let host_port = |pod: &Pod| pod.containers[0].ports[0].host_port;
    assert_eq!((host_port(&pod), host_port(&again.pod).map(|host| host.port)), (None, Some(80)));
    assert_eq!(Pod { containers: pod.containers.clone(), ..again.pod }, pod);
}
