//! One of `spec.ephemeralContainers`, added to a running pod
//! (`validateEphemeralContainers` in `pkg/apis/core/validation/validation.go`).

use k8s_openapi::api::core::v1 as wire;

use super::container::{self, Surroundings};
use super::pod_spec::MAX_CONTAINERS;
use super::report::{Report, is_set, items};
use super::volume::Volumes;
use super::{Options, port};
use crate::manifest::{FieldPath, FieldWarning, Invalid, hint};
use crate::spec::environment::MAX_EXPANSION_BYTES;
use crate::spec::{Container, NetworkMode, Pod, Role};

const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";

/// Converts `container`, which is to be added to `pod`, of which `wire_pod` is the wire type. Relative images
/// start at [`Options::manifest_dir`]; of `options` nothing else matters.
///
/// The caller appends the result to [`Pod::ephemeral_containers`] and `container` to
/// `spec.ephemeralContainers`, and completes the latter with [`super::complete`].
///
/// # Errors
/// Everything that is wrong with it at once, with paths below `spec.ephemeralContainers[n]`, where it comes to
/// stand.
pub fn ephemeral(
    container: &wire::EphemeralContainer,
    pod: &Pod,
    wire_pod: &wire::Pod,
    options: &Options,
) -> Result<(Container, Vec<FieldWarning>), Invalid> {
    let mut report = Report::default();
    let path = FieldPath::root().field("spec").field("ephemeralContainers");
    let path = path.index(pod.ephemeral_containers.len());
    let (ordinary, target) = as_container(container, &path, &mut report);
    if !ordinary.name.is_empty() && pod.container(&ordinary.name).is_some() {
        let message = format_args!("duplicate value {:?}: another container has it", ordinary.name);
        report.error(&path.field("name"), message);
    }
    let others: Vec<&str> =
        pod.init_containers.iter().chain(&pod.containers).map(|c| c.name.as_str()).collect();
    if let Some(target) = &target
        && !others.contains(&target.as_str())
    {
        let hint = hint(target, others.iter().copied());
        report.error(
            &path.field("targetContainerName"),
            format_args!("not found: no container {target:?}{hint} (one of: {})", others.join(", ")),
        );
    }
    if pod.all_containers().count() >= MAX_CONTAINERS {
        report.error(&path, format_args!("the pod has {MAX_CONTAINERS} containers already, no more fit"));
    }
    for (index, mount) in items(&ordinary.volume_mounts).iter().enumerate() {
        let path = path.field("volumeMounts").index(index);
        for (field, text) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if is_set(text) {
                report.error(&path.field(field), FORBIDDEN);
            }
        }
    }
    let ordinary = without_sub_paths(ordinary);
    let wire_volumes = wire_pod.spec.as_ref().map(|spec| items(&spec.volumes)).unwrap_or_default();
    let volumes = Volumes::of(&pod.volumes, wire_volumes);
    let mut around = Surroundings {
        manifest_dir: &options.manifest_dir,
        volumes: &volumes,
        restart_policy: pod.restart_policy,
        grace_seconds: Some(pod.termination_grace.as_secs()),
        host_ports: port::HostPorts::new(pod.network == NetworkMode::Host),
        pod_user: &pod.user,
        objects: &pod.objects,
        containers: &others,
        expansion_budget: MAX_EXPANSION_BYTES,
    };
    let converted = container::convert(&ordinary, Role::Ephemeral, &path, &mut around, &mut report);
    let Report { errors, warnings } = report;
    match converted {
        Some(converted) if errors.is_empty() => Ok((Container { target, ..converted }, warnings)),
        _ => Err(Invalid { errors, warnings }),
    }
}

/// What it shares with other containers, and `targetContainerName`. Reports the fields that it may not have.
fn as_container(
    container: &wire::EphemeralContainer,
    path: &FieldPath,
    report: &mut Report,
) -> (wire::Container, Option<String>) {
    let wire::EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = container.clone();
    for (field, set) in [
        ("ports", is_set(&ports)),
        ("livenessProbe", liveness_probe.is_some()),
        ("readinessProbe", readiness_probe.is_some()),
        ("startupProbe", startup_probe.is_some()),
        ("lifecycle", lifecycle.is_some()),
        ("resources", is_set(&resources)),
        ("resizePolicy", is_set(&resize_policy)),
        ("restartPolicy", is_set(&restart_policy)),
        ("restartPolicyRules", is_set(&restart_policy_rules)),
    ] {
        if set {
            report.error(&path.field(field), FORBIDDEN);
        }
    }
    let ordinary = wire::Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
        ..wire::Container::default()
    };
    (ordinary, target_container_name.filter(|name| !name.is_empty()))
}

/// They have been reported, and there is no more to say of them.
fn without_sub_paths(mut container: wire::Container) -> wire::Container {
    for mount in container.volume_mounts.iter_mut().flatten() {
        mount.sub_path = None;
        mount.sub_path_expr = None;
    }
    container
}
