//! One entry of `containers` or `initContainers`.

use std::collections::HashMap;
use std::path::Path;

use k8s_openapi::api::core::v1 as wire;

use super::report::{Report, is_set, items};
use super::restart::Restart;
use super::volume::Volumes;
use super::{environment, hooks, location, port, probe, resources, restart, security};
use crate::manifest::{FieldPath, hint};
use crate::spec::{
    Container, Hooks, Mount, Objects, Probes, ResizePolicy, RestartPolicy, Role, TerminationMessage, User,
    name,
};

/// What a container is converted within.
pub(super) struct Surroundings<'a> {
    pub(super) manifest_dir: &'a Path,
    pub(super) volumes: &'a Volumes,
    pub(super) restart_policy: RestartPolicy,
    /// `terminationGracePeriodSeconds`; `None` when it is wrong.
    pub(super) grace_seconds: Option<u64>,
    pub(super) host_ports: port::HostPorts,
    /// The pod's `securityContext`: what a container has that says nothing else.
    pub(super) pod_user: &'a User,
    /// What variables come from.
    pub(super) objects: &'a Objects,
    /// The names of the pod's init and main containers.
    pub(super) containers: &'a [&'a str],
    /// Bytes that variables may still expand to in this pod.
    pub(super) expansion_budget: usize,
}

/// What an init container may have only when it is a sidecar.
const SIDECARS_ONLY: &str = "may not be set for init containers without restartPolicy=Always";
/// Nothing holds the other end of these.
const NO_STDIN: &str = "nothing can be attached to a container, it reads an empty standard input; remove it";

/// Converts `container`; `role` is [`Role::Main`], [`Role::Init`] or [`Role::Ephemeral`], by the list it stands
/// in.
/// `None`: its image is missing or wrong, which has been reported.
pub(super) fn convert(
    container: &wire::Container,
    role: Role,
    path: &FieldPath,
    around: &mut Surroundings<'_>,
    report: &mut Report,
) -> Option<Container> {
    let wire::Container {
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
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = container;

    let probes =
        probe::Fields { startup: startup_probe, liveness: liveness_probe, readiness: readiness_probe };
    report.check(&path.field("name"), name::label(name));
    report.unsupported(is_set(stdin), &path.field("stdin"), NO_STDIN);
    report.unsupported(is_set(stdin_once), &path.field("stdinOnce"), NO_STDIN);
    report.unsupported(is_set(tty), &path.field("tty"), "a container has no terminal; remove it");
    report.unsupported(is_set(volume_devices), &path.field("volumeDevices"), "WASI has no block devices");
    let user = security::container(security_context, around.pod_user, &path.field("securityContext"), report);
    pull_policy(image_pull_policy, &path.field("imagePullPolicy"), report);
    let Restart { role, policy: restart_policy, rules: restart_rules } =
        restart::convert(restart_policy.as_deref(), items(restart_policy_rules), role, path, report);
    let (probes, hooks) = if role == Role::Init {
        forbid_attendants(lifecycle, &probes, path, report);
        (Probes::default(), Hooks::default())
    } else {
        let hooks = lifecycle.as_ref().map(|lifecycle| {
            let path = path.field("lifecycle");
            hooks::convert(lifecycle, items(ports), around.grace_seconds, &path, report)
        });
        (probe::convert(&probes, items(ports), path, report), hooks.unwrap_or_default())
    };
    let resize_policy = convert_resize_policy(
        items(resize_policy),
        around.restart_policy,
        &path.field("resizePolicy"),
        report,
    );
    let termination_message = convert_termination_message(
        termination_message_path.as_deref(),
        termination_message_policy.as_deref(),
        path,
        report,
    );
    let fields = environment::Fields {
        env: items(env),
        env_from: items(env_from),
        command: items(command),
        args: items(args),
    };
    let environment = environment::convert(&fields, path, around, report);
    let working_dir = working_dir.as_deref().filter(|dir| !dir.is_empty()).and_then(|dir| {
        location::in_container(dir).map_err(|message| report.error(&path.field("workingDir"), message)).ok()
    });
    let mounts = mounts(items(volume_mounts), &path.field("volumeMounts"), around.volumes, report);
    if let Some(directory) = working_dir.as_deref().filter(|directory| *directory != "/")
        && !mounts.iter().any(|mount| mount.relative(directory).is_some())
    {
        let message = format!("{directory} is in none of the container's mounts, and it has no other files");
        report.error(&path.field("workingDir"), message);
    }
    let ports = port::convert(items(ports), role, &path.field("ports"), &mut around.host_ports, report);
    let resources = resources::convert(resources, &path.field("resources"), report);
    let image_name = image.clone().unwrap_or_default();
    let image = location::image(&image_name, around.manifest_dir)
        .map_err(|message| report.error(&path.field("image"), message))
        .ok()?;
    Some(Container {
        name: name.clone(),
        role,
        restart_policy,
        restart_rules,
        image_name,
        image,
        command: command.clone().unwrap_or_default(),
        args: args.clone().unwrap_or_default(),
        environment,
        user,
        working_dir,
        mounts,
        ports,
        resources,
        resize_policy,
        probes,
        hooks,
        termination_message,
        target: None,
    })
}

fn pull_policy(policy: &Option<String>, path: &FieldPath, report: &mut Report) {
    // A local file is always present and never stale, which is what the other two ask for.
    let pulls = policy.as_deref().and_then(|policy| {
        report.choice(path, policy, &[("Always", true), ("IfNotPresent", false), ("Never", false)])
    });
    report.ignored(pulls == Some(true), path, "images are local files, read at every start");
}

/// An init container has neither probes nor hooks: nothing waits for it but its end.
fn forbid_attendants(
    lifecycle: &Option<wire::Lifecycle>,
    probes: &probe::Fields<'_>,
    path: &FieldPath,
    report: &mut Report,
) {
    let probes = probes.each().map(|(field, _, probe)| (field, probe.is_some()));
    for (field, set) in [("lifecycle", lifecycle.is_some())].into_iter().chain(probes) {
        if set {
            report.error(&path.field(field), SIDECARS_ONLY);
        }
    }
}

/// `validateResizePolicy` in `pkg/apis/core/validation/validation.go`.
fn convert_resize_policy(
    list: &[wire::ContainerResizePolicy],
    pod_policy: RestartPolicy,
    path: &FieldPath,
    report: &mut Report,
) -> ResizePolicy {
    let mut policy = ResizePolicy::default();
    for (index, item) in list.iter().enumerate() {
        let wire::ContainerResizePolicy { resource_name, restart_policy } = item;
        let path = path.index(index);
        if list[..index].iter().any(|earlier| earlier.resource_name == *resource_name) {
            report
                .error(&path, format_args!("duplicate value {resource_name:?}: there is one for it already"));
        }
        let is_cpu =
            report.choice(&path.field("resourceName"), resource_name, &[("cpu", true), ("memory", false)]);
        let restarts = [("NotRequired", false), ("RestartContainer", true)];
        let policy_path = path.field("restartPolicy");
        let restarts = report.choice(&policy_path, restart_policy, &restarts);
        if restarts == Some(true) && pod_policy == RestartPolicy::Never {
            report.error(&policy_path, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
        match (is_cpu, restarts) {
            (Some(true), Some(restarts)) => policy.cpu_restarts = restarts,
            (Some(false), Some(restarts)) => policy.memory_restarts = restarts,
            _ => {}
        }
    }
    policy
}

fn convert_termination_message(
    path: Option<&str>,
    policy: Option<&str>,
    container: &FieldPath,
    report: &mut Report,
) -> TerminationMessage {
    let mut message = TerminationMessage::default();
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        match location::in_container(path) {
            Ok(path) => message.path = path,
            Err(error) => report.error(&container.field("terminationMessagePath"), error),
        }
    }
    if let Some(policy) = policy.filter(|policy| !policy.is_empty()) {
        let policies = [("File", false), ("FallbackToLogsOnError", true)];
        let falls_back = report.choice(&container.field("terminationMessagePolicy"), policy, &policies);
        message.falls_back_to_logs = falls_back.unwrap_or_default();
    }
    message
}

fn mounts(
    list: &[wire::VolumeMount],
    path: &FieldPath,
    volumes: &Volumes,
    report: &mut Report,
) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (index, mount) in list.iter().enumerate() {
        if volumes.left_out.contains(&mount.name) {
            continue;
        }
        let path = path.index(index);
        let Some(mount) = convert_mount(mount, &path, volumes, report) else { continue };
        match taken.get(&mount.path) {
            Some(first) => report.error(
                &path.field("mountPath"),
                format_args!("must be unique: volumeMounts[{first}] is mounted at {} too", mount.path),
            ),
            None => {
                taken.insert(mount.path.clone(), index);
                mounts.push(mount);
            }
        }
    }
    mounts
}

fn convert_mount(
    mount: &wire::VolumeMount,
    path: &FieldPath,
    volumes: &Volumes,
    report: &mut Report,
) -> Option<Mount> {
    let wire::VolumeMount {
        bind_mount_options,
        mount_path,
        mount_propagation,
        name,
        read_only,
        recursive_read_only,
        sub_path,
        sub_path_expr,
    } = mount;
    report.unsupported(
        is_set(bind_mount_options),
        &path.field("bindMountOptions"),
        "volumes are not bind mounts",
    );
    report.unsupported(
        mount_propagation.as_deref().is_some_and(|propagation| propagation != "None"),
        &path.field("mountPropagation"),
        "mounts made later on the host do not appear in a container; remove it",
    );
    let read_only = read_only.unwrap_or_default();
    if let Some(recursive) = recursive_read_only.as_deref() {
        // Writes are refused by the WASI host, which knows no mounts below: read-only is recursive.
        let path = path.field("recursiveReadOnly");
        let choice =
            report.choice(&path, recursive, &[("Disabled", false), ("IfPossible", true), ("Enabled", true)]);
        if choice == Some(true) && !read_only {
            report.error(&path, "may only be specified when readOnly is true");
        }
    }
    if name.is_empty() {
        report.error(&path.field("name"), "required; the name of a volume under spec.volumes");
    } else if !volumes.names.contains(name) {
        let hint = hint(name, volumes.names.iter().map(String::as_str));
        report.error(&path.field("name"), format_args!("no volume named {name:?} under spec.volumes{hint}"));
    }
    let sub_path = location::in_volume(sub_path.as_deref().unwrap_or_default());
    let sub_path = sub_path.map_err(|message| report.error(&path.field("subPath"), message)).ok()?;
    let sub_path_expr = sub_path_expr.clone().filter(|text| !text.is_empty());
    if let Some(text) = &sub_path_expr {
        let path = path.field("subPathExpr");
        if sub_path.is_some() {
            report.error(&path, "subPathExpr and subPath are mutually exclusive");
        }
        if let Err(message) = location::in_volume(text) {
            report.error(&path, message);
        }
    }
    let mounted = match location::in_container(mount_path) {
        // The API reference forbids it.
        Ok(_) if mount_path.contains(':') => Err(format!("{mount_path:?} must not contain ':'")),
        other => other,
    };
    let mounted = mounted.map_err(|message| report.error(&path.field("mountPath"), message)).ok()?;
    Some(Mount { volume: name.clone(), path: mounted, sub_path, sub_path_expr, read_only })
}
