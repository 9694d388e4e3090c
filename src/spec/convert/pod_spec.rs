//! `spec` of the pod.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1 as wire;

use super::container::Surroundings;
use super::metadata::Metadata;
use super::projected::Available;
use super::report::{Report, is_set, items};
use super::restart::RESTART_POLICIES;
use super::{
    Beside, DEFAULT_GRACE_SECONDS, Options, annotations, container, names, pod_resources, port, security,
    volume,
};
use crate::manifest::FieldPath;
use crate::spec::environment::MAX_EXPANSION_BYTES;
use crate::spec::{Container, NetworkMode, NetworkRules, Pod, Role, name};

/// Containers of one pod: each that runs needs at least one of the engine's fiber stacks (`engine::config`).
pub(super) const MAX_CONTAINERS: usize = 100;

/// Converts `spec`, together with the `metadata` that makes it a pod.
pub(super) fn convert(
    metadata: Metadata,
    spec: &wire::PodSpec,
    beside: Beside,
    path: &FieldPath,
    options: &Options,
    report: &mut Report,
) -> Pod {
    let wire::PodSpec {
        active_deadline_seconds,
        affinity,
        automount_service_account_token,
        containers,
        dns_config,
        dns_policy,
        enable_service_links,
        ephemeral_containers,
        eviction_responders,
        host_aliases,
        host_ipc,
        host_network,
        host_pid,
        host_users,
        hostname,
        hostname_override,
        image_pull_secrets,
        init_containers,
        node_name,
        node_selector,
        os,
        overhead,
        preemption_policy,
        priority,
        priority_class_name,
        readiness_gates,
        resource_claims,
        resources,
        restart_policy,
        runtime_class_name,
        scheduler_name,
        scheduling_gates,
        scheduling_group,
        security_context,
        service_account,
        service_account_name,
        set_hostname_as_fqdn,
        share_process_namespace,
        subdomain,
        termination_grace_period_seconds,
        tolerations,
        topology_spread_constraints,
        volumes,
    } = spec;

    const ONE_NODE: &str = "there is one node, this machine";
    const NO_ACCOUNTS: &str = "there is no API server that accounts would be for";
    let not_default = |text: &Option<String>, default: &str| is_set(text) && text.as_deref() != Some(default);
    for (set, field, why) in [
        (is_set(affinity), "affinity", ONE_NODE),
        (is_set(node_name), "nodeName", ONE_NODE),
        (is_set(node_selector), "nodeSelector", ONE_NODE),
        (items(tolerations).iter().any(|t| !is_default_toleration(t)), "tolerations", ONE_NODE),
        (is_set(topology_spread_constraints), "topologySpreadConstraints", ONE_NODE),
        (not_default(scheduler_name, "default-scheduler"), "schedulerName", ONE_NODE),
        (is_set(scheduling_group), "schedulingGroup", ONE_NODE),
        (is_set(priority), "priority", "nothing is preempted here"),
        (is_set(priority_class_name), "priorityClassName", "nothing is preempted here"),
        (
            not_default(preemption_policy, "PreemptLowerPriority"),
            "preemptionPolicy",
            "nothing is preempted here",
        ),
        (is_set(eviction_responders), "evictionResponders", "nothing is evicted here"),
        (is_set(automount_service_account_token), "automountServiceAccountToken", NO_ACCOUNTS),
        (not_default(service_account, "default"), "serviceAccount", NO_ACCOUNTS),
        (not_default(service_account_name, "default"), "serviceAccountName", NO_ACCOUNTS),
        (is_set(image_pull_secrets), "imagePullSecrets", "images are local files"),
        (is_set(overhead), "overhead", "peapod accounts for its own"),
        (is_set(runtime_class_name), "runtimeClassName", "peapod itself is the runtime"),
        (*host_users == Some(false), "hostUsers", "a WebAssembly guest has none of the host's users anyway"),
    ] {
        report.ignored(set, &path.field(field), why);
    }
    for (set, field, why) in [
        (is_set(host_ipc), "hostIPC", "a pod has its own IPC namespace"),
        (is_set(host_pid), "hostPID", "a WebAssembly guest sees no processes"),
        (is_set(resource_claims), "resourceClaims", "there are no devices to claim"),
        (is_set(scheduling_gates), "schedulingGates", "nothing removes them, the pod would never start"),
        (is_set(share_process_namespace), "shareProcessNamespace", "a WebAssembly guest sees no processes"),
    ] {
        report.unsupported(set, &path.field(field), why);
    }
    if is_set(ephemeral_containers) {
        report.error(
            &path.field("ephemeralContainers"),
            "cannot be set on create; `peapod debug` adds one to a running pod",
        );
    }
    if let Some(wire::PodOS { name }) = os
        && name != "linux"
    {
        report.error(&path.field("os").field("name"), format_args!("{name:?}: pods run on linux here"));
    }
    let (pod_user, fs_group) = security::pod(security_context, &path.field("securityContext"), report);

    let network = options.network.unwrap_or(match host_network {
        Some(true) => NetworkMode::Host,
        _ => NetworkMode::Pod,
    });
    let restart_policy = restart_policy
        .as_deref()
        .and_then(|text| report.choice(&path.field("restartPolicy"), text, &RESTART_POLICIES))
        .unwrap_or_default();
    let grace_path = path.field("terminationGracePeriodSeconds");
    let grace = termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS);
    let grace_seconds = report.seconds(Some(grace), 0, &grace_path);
    let fields = names::Fields {
        hostname,
        hostname_override,
        subdomain,
        set_hostname_as_fqdn: *set_hostname_as_fqdn,
        dns_policy: dns_policy.as_deref(),
        dns_config: dns_config.as_ref(),
    };
    let names::Names { hostname, subdomain, dns } =
        names::convert(&fields, &metadata.name, &metadata.namespace, path, report);
    let host_aliases = names::host_aliases(items(host_aliases), &path.field("hostAliases"), report);
    // Also those that are wrong: what names them is not.
    let named = items(init_containers).iter().chain(containers).map(|container| container.name.as_str());
    let all: Vec<&str> = named.collect();
    let available = Available { objects: &beside.objects, containers: &all };
    let volumes = volume::convert(volumes, &options.manifest_dir, &available, &path.field("volumes"), report);
    let mut around = Surroundings {
        manifest_dir: &options.manifest_dir,
        volumes: &volumes,
        restart_policy,
        grace_seconds,
        host_ports: port::HostPorts::new(network == NetworkMode::Host),
        pod_user: &pod_user,
        objects: &beside.objects,
        containers: &all,
        expansion_budget: MAX_EXPANSION_BYTES,
    };
    if containers.is_empty() {
        report.error(&path.field("containers"), "required; a pod has at least one container");
    }
    let count = containers.len() + items(init_containers).len();
    if count > MAX_CONTAINERS {
        let message =
            format!("{count} containers with the init containers; a pod has at most {MAX_CONTAINERS}");
        report.error(&path.field("containers"), message);
    }
    let mut taken = HashMap::new();
    let (wire_init_containers, wire_containers) = (init_containers, containers);
    let init_containers = convert_containers(
        items(init_containers),
        Role::Init,
        &path.field("initContainers"),
        &mut taken,
        &mut around,
        report,
    );
    let containers = convert_containers(
        containers,
        Role::Main,
        &path.field("containers"),
        &mut taken,
        &mut around,
        report,
    );
    let around_annotations =
        annotations::Around { containers: &all, volumes: &volumes, config_maps: &beside.objects.config_maps };
    let annotated = annotations::convert(&metadata.annotations, &around_annotations, report);
    let resources = pod_resources::convert(
        resources,
        pod_resources::Containers {
            init: (&init_containers, items(wire_init_containers)),
            main: (&containers, wire_containers),
        },
        path,
        report,
    );
    warn_of_shared_ports(&containers, &path.field("containers"), report);
    Pod {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        generation: 1,
        labels: metadata.labels,
        annotations: metadata.annotations,
        hostname,
        subdomain,
        restart_policy,
        termination_grace: Duration::from_secs(grace_seconds.unwrap_or_default()),
        active_deadline: report
            .seconds(*active_deadline_seconds, 1, &path.field("activeDeadlineSeconds"))
            .map(Duration::from_secs),
        network,
        dns,
        // The policies stand beside the Pod, and are converted after it.
        network_rules: NetworkRules { policies: Vec::new(), containers: annotated.networks },
        ipc: annotated.ipc,
        config_sources: annotated.config,
        key_value: annotated.key_value,
        host_aliases,
        init_containers,
        containers,
        ephemeral_containers: Vec::new(),
        readiness_gates: convert_readiness_gates(
            items(readiness_gates),
            &path.field("readinessGates"),
            report,
        ),
        resources,
        volumes: volumes.volumes,
        user: pod_user,
        fs_group,
        objects: beside.objects,
        storage: beside.storage,
        // They lead to ports of its containers, and are converted after them.
        services: Vec::new(),
        service_links: enable_service_links.unwrap_or(true),
        service_account: service_account_name
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
    }
}

fn convert_containers(
    list: &[wire::Container],
    role: Role,
    path: &FieldPath,
    names: &mut HashMap<String, String>,
    around: &mut Surroundings<'_>,
    report: &mut Report,
) -> Vec<Container> {
    let mut containers = Vec::new();
    for (index, container) in list.iter().enumerate() {
        let path = path.index(index);
        if !container.name.is_empty()
            && let Some(first) = names.insert(container.name.clone(), path.to_string())
        {
            report.error(
                &path.field("name"),
                format_args!("duplicate value {:?}: {first} has it", container.name),
            );
        }
        containers.extend(container::convert(container, role, &path, around, report));
    }
    containers
}

fn convert_readiness_gates(
    gates: &[wire::PodReadinessGate],
    path: &FieldPath,
    report: &mut Report,
) -> Vec<String> {
    for (index, wire::PodReadinessGate { condition_type }) in gates.iter().enumerate() {
        report.check(&path.index(index).field("conditionType"), name::qualified(condition_type));
    }
    gates.iter().map(|gate| gate.condition_type.clone()).collect()
}

/// Containers of a pod share one port space: of two that listen on the same port, one fails.
fn warn_of_shared_ports(containers: &[Container], path: &FieldPath, report: &mut Report) {
    let mut owners = HashMap::new();
    for (index, container) in containers.iter().enumerate() {
        for (at, port) in container.ports.iter().enumerate() {
            if let Some(owner) = owners.insert((port.container_port, port.protocol), &container.name)
                && *owner != container.name
            {
                report.warn(
                    &path.index(index).field("ports").index(at),
                    format_args!(
                        "container {owner:?} has port {} too; only one of them can listen on it",
                        port.container_port
                    ),
                );
            }
        }
    }
}

/// Whether `toleration` is one of the two that the API server adds to every pod.
fn is_default_toleration(toleration: &wire::Toleration) -> bool {
    let wire::Toleration { effect, key, operator, toleration_seconds: _, value } = toleration;
    matches!(key.as_deref(), Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"))
        && effect.as_deref() == Some("NoExecute")
        && operator.as_deref() == Some("Exists")
        && !is_set(value)
}
