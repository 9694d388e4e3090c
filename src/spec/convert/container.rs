//! One entry of `containers` or `initContainers`.

use std::collections::HashMap;
use std::path::Path;

use k8s_openapi::api::core::v1 as wire;

use super::location;
use super::report::{Report, is_set, items};
use super::volume::Volumes;
use super::{environment, port, resources, security};
use crate::manifest::{FieldPath, hint};
use crate::spec::{
    Container, Hooks, Mount, Probes, ResizePolicy, RestartPolicy, Role, TerminationMessage, name,
};

/// What a container is converted within.
pub(super) struct Surroundings<'a> {
    pub(super) manifest_dir: &'a Path,
    pub(super) volumes: &'a Volumes,
    pub(super) restart_policy: RestartPolicy,
    pub(super) host_ports: port::HostPorts,
    /// Bytes that `$(VAR)` may still expand to in this pod.
    pub(super) expansion_budget: usize,
}

/// Values of `restartPolicy`, of pods and of containers.
pub(super) const RESTART_POLICIES: [(&str, RestartPolicy); 3] = [
    ("Always", RestartPolicy::Always),
    ("OnFailure", RestartPolicy::OnFailure),
    ("Never", RestartPolicy::Never),
];

/// Converts `container`; `role` is [`Role::Main`] or [`Role::Init`], by the list it stands in.
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

    report.check(&path.field("name"), name::label(name));
    report.unsupported(is_set(env_from), &path.field("envFrom"), "give the variables under env");
    if let Some(wire::Lifecycle { post_start, pre_stop, stop_signal }) = lifecycle {
        let path = path.field("lifecycle");
        report.unsupported(post_start.is_some(), &path.field("postStart"), "hooks do not run yet");
        report.unsupported(pre_stop.is_some(), &path.field("preStop"), "hooks do not run yet");
        report.unsupported(
            stop_signal.is_some(),
            &path.field("stopSignal"),
            "a WebAssembly guest has no signals",
        );
    }
    report.unsupported(liveness_probe.is_some(), &path.field("livenessProbe"), "probes do not run yet");
    report.unsupported(startup_probe.is_some(), &path.field("startupProbe"), "probes do not run yet");
    report.ignored(
        readiness_probe.is_some(),
        &path.field("readinessProbe"),
        "probes do not run yet; the container counts as ready once it runs",
    );
    report.unsupported(
        is_set(restart_policy_rules),
        &path.field("restartPolicyRules"),
        "only restartPolicy decides yet",
    );
    report.unsupported(is_set(stdin), &path.field("stdin"), "a container's standard input is closed");
    report.unsupported(
        is_set(stdin_once),
        &path.field("stdinOnce"),
        "a container's standard input is closed",
    );
    report.unsupported(is_set(tty), &path.field("tty"), "a container has no terminal");
    report.unsupported(is_set(volume_devices), &path.field("volumeDevices"), "WASI has no block devices");
    security::container(security_context, &path.field("securityContext"), report);
    for (index, resize) in items(resize_policy).iter().enumerate() {
        let wire::ContainerResizePolicy { resource_name: _, restart_policy } = resize;
        report.ignored(
            restart_policy != "NotRequired",
            &path.field("resizePolicy").index(index),
            "a running pod is not resized",
        );
    }
    pull_policy(image_pull_policy, &path.field("imagePullPolicy"), report);
    report.ignored(
        termination_message_path.as_deref().is_some_and(|path| path != "/dev/termination-log"),
        &path.field("terminationMessagePath"),
        "the message is the end of the log, or the trap",
    );
    report.ignored(
        termination_message_policy.as_deref().is_some_and(|policy| policy != "File"),
        &path.field("terminationMessagePolicy"),
        "the message is the end of the log, or the trap",
    );

    let (role, restart_policy) =
        own_restart_policy(restart_policy.as_deref(), role, &path.field("restartPolicy"), around, report);
    let mut environment =
        environment::convert(items(env), &path.field("env"), &mut around.expansion_budget, report);
    let command = environment.expand_all(items(command), &path.field("command"), report);
    let args = environment.expand_all(items(args), &path.field("args"), report);
    let env = environment.into_variables();
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
        restart_rules: Vec::new(),
        image_name,
        image,
        command,
        args,
        env,
        working_dir,
        mounts,
        ports,
        resources,
        resize_policy: ResizePolicy::default(),
        probes: Probes::default(),
        hooks: Hooks::default(),
        termination_message: TerminationMessage::default(),
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

fn own_restart_policy(
    text: Option<&str>,
    role: Role,
    path: &FieldPath,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> (Role, Option<RestartPolicy>) {
    let policy = text.and_then(|text| report.choice(path, text, &RESTART_POLICIES));
    match (role, policy) {
        (Role::Init, Some(RestartPolicy::Always)) => return (Role::Sidecar, Some(RestartPolicy::Always)),
        (_, Some(policy)) if policy != around.restart_policy => {
            let hint = if role == Role::Init { " (only Always, which makes it a sidecar)" } else { "" };
            report.error(
                path,
                format_args!("not supported: a container's restartPolicy that differs from the pod's{hint}; set spec.restartPolicy"),
            );
        }
        _ => {}
    }
    (role, None)
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
    report.unsupported(is_set(sub_path_expr), &path.field("subPathExpr"), "use subPath");
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
    let mounted = match location::in_container(mount_path) {
        // The API reference forbids it.
        Ok(_) if mount_path.contains(':') => Err(format!("{mount_path:?} must not contain ':'")),
        other => other,
    };
    let mounted = mounted.map_err(|message| report.error(&path.field("mountPath"), message)).ok()?;
    Some(Mount { volume: name.clone(), path: mounted, sub_path, read_only })
}
