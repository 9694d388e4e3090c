//! `securityContext` of the pod and of its containers.
//!
//! A WebAssembly guest has no user, no privileges, no system calls and no root file system: what only
//! takes such things away holds already and is accepted; what gives them, or changes whose they are,
//! cannot be honoured.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, PodSecurityContext, SeccompProfile, SecurityContext,
};

use super::report::{Report, is_set};
use crate::manifest::FieldPath;
use crate::spec::{FsGroup, User};

const NO_USERS: &str = "a WebAssembly guest has no user or group; remove it";
const NO_SELINUX: &str = "a WebAssembly guest is no process with a label; remove it";
const NO_WINDOWS: &str = "pods run on Linux; remove it";
const NO_LOCAL_PROFILE: &str =
    "a WebAssembly guest makes no system calls to filter; use RuntimeDefault or remove it";

/// Whose the files of the pod's containers are, and whom its volumes belong to.
pub(super) fn pod(
    context: &Option<PodSecurityContext>,
    path: &FieldPath,
    report: &mut Report,
) -> (User, Option<FsGroup>) {
    let unchanged = (User::default(), None);
    let Some(context) = context else { return unchanged };
    let PodSecurityContext {
        app_armor_profile,
        fs_group,
        fs_group_change_policy,
        run_as_group,
        // Nothing runs as root, or as anyone.
        run_as_non_root: _,
        run_as_user,
        se_linux_change_policy,
        se_linux_options,
        seccomp_profile,
        supplemental_groups,
        supplemental_groups_policy,
        sysctls,
        windows_options,
    } = context;
    report.unsupported(fs_group.is_some(), &path.field("fsGroup"), NO_USERS);
    report.unsupported(run_as_user.is_some(), &path.field("runAsUser"), NO_USERS);
    report.unsupported(run_as_group.is_some(), &path.field("runAsGroup"), NO_USERS);
    report.unsupported(is_set(supplemental_groups), &path.field("supplementalGroups"), NO_USERS);
    report.unsupported(is_set(se_linux_options), &path.field("seLinuxOptions"), NO_SELINUX);
    report.unsupported(windows_options.is_some(), &path.field("windowsOptions"), NO_WINDOWS);
    report.unsupported(
        is_set(sysctls),
        &path.field("sysctls"),
        "kernel parameters of the pod cannot be set yet",
    );
    let policies = [
        ("fsGroupChangePolicy", fs_group_change_policy),
        ("seLinuxChangePolicy", se_linux_change_policy),
        ("supplementalGroupsPolicy", supplemental_groups_policy),
    ];
    for (name, policy) in policies {
        report.ignored(policy.is_some(), &path.field(name), "it qualifies fields that do nothing here");
    }
    app_armor(app_armor_profile, &path.field("appArmorProfile"), report);
    seccomp(seccomp_profile, &path.field("seccompProfile"), report);
    unchanged
}

/// Whose the files of a container are; what it does not say is as `pod` has it.
pub(super) fn container(
    context: &Option<SecurityContext>,
    pod: &User,
    path: &FieldPath,
    report: &mut Report,
) -> User {
    let Some(context) = context else { return pod.clone() };
    let SecurityContext {
        // There are no privileges to escalate, whatever it says.
        allow_privilege_escalation: _,
        app_armor_profile,
        capabilities,
        privileged,
        proc_mount,
        // A guest sees its mounts only; there is no root file system to write to.
        read_only_root_filesystem: _,
        run_as_group,
        run_as_non_root: _,
        run_as_user,
        se_linux_options,
        seccomp_profile,
        windows_options,
    } = context;
    report.unsupported(
        *privileged == Some(true),
        &path.field("privileged"),
        "a WebAssembly guest cannot be given the host's devices; remove it",
    );
    report.unsupported(run_as_user.is_some(), &path.field("runAsUser"), NO_USERS);
    report.unsupported(run_as_group.is_some(), &path.field("runAsGroup"), NO_USERS);
    report.unsupported(is_set(se_linux_options), &path.field("seLinuxOptions"), NO_SELINUX);
    report.unsupported(windows_options.is_some(), &path.field("windowsOptions"), NO_WINDOWS);
    report.unsupported(
        proc_mount.as_deref().is_some_and(|mount| mount != "Default"),
        &path.field("procMount"),
        "a WebAssembly guest has no /proc; remove it",
    );
    if let Some(Capabilities { add, drop: _ }) = capabilities {
        report.unsupported(
            is_set(add),
            &path.field("capabilities").field("add"),
            "a WebAssembly guest makes no system calls that need a capability; remove it",
        );
    }
    app_armor(app_armor_profile, &path.field("appArmorProfile"), report);
    seccomp(seccomp_profile, &path.field("seccompProfile"), report);
    pod.clone()
}

fn app_armor(profile: &Option<AppArmorProfile>, path: &FieldPath, report: &mut Report) {
    if let Some(AppArmorProfile { localhost_profile: _, type_ }) = profile {
        profile_type(type_, path, report);
    }
}

fn seccomp(profile: &Option<SeccompProfile>, path: &FieldPath, report: &mut Report) {
    if let Some(SeccompProfile { localhost_profile: _, type_ }) = profile {
        profile_type(type_, path, report);
    }
}

fn profile_type(type_: &str, path: &FieldPath, report: &mut Report) {
    let path = path.field("type");
    let choices = [("RuntimeDefault", false), ("Unconfined", false), ("Localhost", true)];
    let local = report.choice(&path, type_, &choices);
    report.unsupported(local == Some(true), &path, NO_LOCAL_PROFILE);
}
