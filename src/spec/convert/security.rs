//! `securityContext` of the pod and of its containers.
//!
//! ```text
//! pod's securityContext ─► User, FsGroup ─┐
//! container's ────────────────────────────┴─► User of the container
//! ```
//!
//! A WebAssembly guest has no process: its user is whom its files are opened and made as. It has no privileges, no
//! system calls and no root file system: what only takes such things away holds already and is accepted; what gives
//! them cannot be honoured.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, PodSecurityContext, SeccompProfile, SecurityContext,
};

use super::report::{Report, is_set, items};
use crate::manifest::FieldPath;
use crate::spec::{FsGroup, User};

/// The largest number of a user or a group that Kubernetes takes.
const MAX_ID: u32 = i32::MAX as u32;

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
    let Some(context) = context else { return (User::default(), None) };
    let PodSecurityContext {
        app_armor_profile,
        fs_group,
        fs_group_change_policy,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_change_policy,
        se_linux_options,
        seccomp_profile,
        supplemental_groups,
        supplemental_groups_policy,
        sysctls,
        windows_options,
    } = context;
    report.unsupported(is_set(se_linux_options), &path.field("seLinuxOptions"), NO_SELINUX);
    report.unsupported(windows_options.is_some(), &path.field("windowsOptions"), NO_WINDOWS);
    report.unsupported(
        is_set(sysctls),
        &path.field("sysctls"),
        "kernel parameters of the pod cannot be set yet",
    );
    report.ignored(
        se_linux_change_policy.is_some(),
        &path.field("seLinuxChangePolicy"),
        "it qualifies a field that does nothing here",
    );
    app_armor(app_armor_profile, &path.field("appArmorProfile"), report);
    seccomp(seccomp_profile, &path.field("seccompProfile"), report);

    let fs_group_path = path.field("fsGroup");
    let fs_gid = id(*fs_group, &fs_group_path, report);
    let policies = [("Always", false), ("OnRootMismatch", true)];
    let policy_path = path.field("fsGroupChangePolicy");
    let on_root_mismatch = fs_group_change_policy
        .as_deref()
        .and_then(|policy| report.choice(&policy_path, policy, &policies))
        .unwrap_or(false);
    // An image that is a component has no groups of its own that could be merged.
    if let Some(policy) = supplemental_groups_policy {
        report.choice(&path.field("supplementalGroupsPolicy"), policy, &[("Merge", ()), ("Strict", ())]);
    }
    let groups_path = path.field("supplementalGroups");
    let supplemental = items(supplemental_groups).iter().enumerate();
    let mut groups: Vec<u32> = supplemental
        .filter_map(|(index, group)| id(Some(*group), &groups_path.index(index), report))
        .chain(fs_gid)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let user = User {
        uid: id(*run_as_user, &path.field("runAsUser"), report),
        gid: id(*run_as_group, &path.field("runAsGroup"), report),
        groups,
        non_root: run_as_non_root.unwrap_or(false),
    };
    breaks_non_root(&user, path, report);
    (user, fs_gid.map(|gid| FsGroup { gid, on_root_mismatch }))
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
        run_as_non_root,
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
    let user = User {
        uid: id(*run_as_user, &path.field("runAsUser"), report).or(pod.uid),
        gid: id(*run_as_group, &path.field("runAsGroup"), report).or(pod.gid),
        groups: pod.groups.clone(),
        non_root: run_as_non_root.unwrap_or(pod.non_root),
    };
    // What the pod says of itself alone has been said already.
    if run_as_user.is_some() || run_as_non_root.is_some() {
        breaks_non_root(&user, path, report);
    }
    user
}

/// The number of a user or a group, as `IsValidUserID` in `apimachinery/pkg/util/validation` has it.
fn id(value: Option<i64>, path: &FieldPath, report: &mut Report) -> Option<u32> {
    let value = value?;
    let valid = u32::try_from(value).ok().filter(|id| *id <= MAX_ID);
    if valid.is_none() {
        report.error(path, format_args!("invalid value {value}: must be between 0 and {MAX_ID}, inclusive"));
    }
    valid
}

/// The kubelet starts no such container (`verifyRunAsNonRoot` in
/// `pkg/kubelet/kuberuntime/security_context_others.go`): here it is known before.
fn breaks_non_root(user: &User, path: &FieldPath, report: &mut Report) {
    if user.non_root && user.uid == Some(0) {
        report.error(
            &path.field("runAsUser"),
            "container's runAsUser breaks non-root policy: with runAsNonRoot it must not be 0",
        );
    }
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
