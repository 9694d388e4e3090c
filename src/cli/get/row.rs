//! The row of one pod. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus,
};

use crate::cli::age::since;

/// READY, STATUS and RESTARTS.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    ready: usize,
    containers: usize,
    status: String,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

/// The cells of a pod's row.
pub fn cells(pod: &Pod, is_wide: bool, now: Timestamp) -> Vec<String> {
    let Summary { ready, containers, status, restarts, last_restart } = summary(pod);
    let restarts = match last_restart.filter(|_| restarts != 0) {
        Some(at) => format!("{restarts} ({} ago)", since(Some(at), now)),
        None => restarts.to_string(),
    };
    let age = since(pod.metadata.creation_timestamp.as_ref().map(|time| time.0), now);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut cells = vec![name, format!("{ready}/{containers}"), status, restarts, age];
    if is_wide {
        let none = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("<none>").to_owned();
        let status = pod.status.as_ref();
        let ip = status.and_then(|status| status.pod_ips.as_ref()?.first()).map(|ip| ip.ip.as_str());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let nominated = status.and_then(|status| status.nominated_node_name.as_deref());
        cells.extend([none(ip), none(node), none(nominated), gates(pod)]);
    }
    cells
}

/// How many of the readiness gates hold.
fn gates(pod: &Pod) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds = gates.iter().filter(|gate| is_true(conditions, &gate.condition_type)).count();
    format!("{holds}/{}", gates.len())
}

fn is_true(conditions: &[PodCondition], name: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == name && condition.status == "True")
}

fn summary(pod: &Pod) -> Summary {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let sidecars: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|init| init.restart_policy.as_deref() == Some("Always"))
        .map(|init| init.name.as_str())
        .collect();
    let reason = status.reason.as_deref().filter(|reason| !reason.is_empty());
    let mut row = Summary {
        containers: spec.containers.len() + sidecars.len(),
        status: reason.unwrap_or(phase).to_owned(),
        ..Summary::default()
    };

    // Restarts of sidecars count for as long as the pod lives, those of other init containers only until they are done.
    let mut of_sidecars = Summary::default();
    let mut initializing = false;
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    for (index, container) in inits.iter().enumerate() {
        let is_sidecar = sidecars.contains(&&*container.name);
        row.count(container);
        if is_sidecar {
            of_sidecars.count(container);
        }
        let reason = match state(container) {
            State::Terminated(ended) if ended.exit_code == 0 => continue,
            _ if is_sidecar && container.started == Some(true) => {
                row.ready += usize::from(container.ready);
                continue;
            }
            State::Terminated(ended) => word(ended),
            State::Waiting(reason) if reason != "PodInitializing" => reason.to_owned(),
            _ => format!("{index}/{}", spec.init_containers.as_ref().map_or(0, Vec::len)),
        };
        row.status = format!("Init:{reason}");
        initializing = true;
        break;
    }

    if !initializing || is_true(conditions, "Initialized") {
        (row.restarts, row.last_restart) = (of_sidecars.restarts, of_sidecars.last_restart);
        let mut runs = false;
        for container in status.container_statuses.iter().flatten().rev() {
            row.count(container);
            match state(container) {
                State::Waiting(reason) => row.status = reason.to_owned(),
                State::Terminated(ended) => row.status = word(ended),
                State::Running if container.ready => {
                    runs = true;
                    row.ready += 1;
                }
                State::Running | State::Unknown => {}
            }
        }
        // One that has completed says little about a pod that runs.
        if row.status == "Completed" && runs {
            row.status = if is_true(conditions, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    if pod.metadata.deletion_timestamp.is_some() && !["Succeeded", "Failed"].contains(&phase) {
        row.status = "Terminating".to_owned();
    }
    row
}

impl Summary {
    fn count(&mut self, container: &ContainerStatus) {
        self.restarts += container.restart_count;
        let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let ended = last.and_then(|last| last.finished_at.as_ref()).map(|time| time.0);
        self.last_restart = self.last_restart.max(ended);
    }
}

enum State<'a> {
    /// With a reason.
    Waiting(&'a str),
    Running,
    Terminated(&'a ContainerStateTerminated),
    Unknown,
}

fn state(container: &ContainerStatus) -> State<'_> {
    match &container.state {
        Some(ContainerState { terminated: Some(ended), .. }) => State::Terminated(ended),
        Some(ContainerState { waiting: Some(waiting), .. }) => match waiting.reason.as_deref() {
            None | Some("") => State::Unknown,
            Some(reason) => State::Waiting(reason),
        },
        Some(ContainerState { running: Some(_), .. }) => State::Running,
        _ => State::Unknown,
    }
}

/// What is said of a container that has ended.
fn word(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// `name state`: a container's status of a table below.
    fn status(text: &str, restarts: i32) -> Value {
        let (name, state) = text.split_once(' ').unwrap();
        let (state, ready) = match state.split_once('=') {
            Some(("waiting", reason)) => (json!({"waiting": {"reason": reason}}), false),
            Some(("exit", code)) => {
                let code: i32 = code.parse().unwrap();
                let reason = if code == 0 { "Completed" } else { "Error" };
                (json!({"terminated": {"exitCode": code, "reason": reason}}), code == 0)
            }
            Some(("ended", reason)) => (json!({"terminated": {"exitCode": 137, "reason": reason}}), false),
            Some(("code", code)) => {
                (json!({"terminated": {"exitCode": code.parse::<i32>().unwrap()}}), false)
            }
            Some(("signal", signal)) => {
                (json!({"terminated": {"exitCode": 137, "signal": signal.parse::<i32>().unwrap()}}), false)
            }
            _ => (json!({"running": {}}), state == "ready"),
        };
        let started = state["running"].is_object();
        json!({
            "name": name, "ready": ready, "restartCount": restarts, "image": "", "imageID": "", "started": started,
            "state": state,
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-20T16:00:00Z"}},
        })
    }

    /// A pod of `init` and `main` containers, each with one restart; `s…` are sidecars.
    fn pod(phase: &str, conditions: &[&str], init: &[&str], main: &[&str]) -> Pod {
        let name = |text: &&str| text.split(' ').next().unwrap().to_owned();
        let spec = |text: &&str| {
            let always = name(text).starts_with('s').then_some("Always");
            json!({"name": name(text), "restartPolicy": always})
        };
        let specs = |list: &[&str]| list.iter().map(spec).collect::<Vec<_>>();
        let statuses = |list: &[&str]| list.iter().map(|text| status(text, 1)).collect::<Vec<_>>();
        let conditions: Vec<_> = conditions.iter().map(|c| json!({"type": c, "status": "True"})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"initContainers": specs(init), "containers": specs(main)},
            "status": {
                "phase": phase, "conditions": conditions,
                "initContainerStatuses": statuses(init), "containerStatuses": statuses(main),
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_table_of_print_pod() {
        let waits = "m waiting=PodInitializing";
        let done: &[&str] = &["Initialized"];
        let ready: &[&str] = &["Initialized", "Ready"];
        for (phase, conditions, init, main, expected) in [
            ("Pending", &[][..], &[][..], &["m waiting=ContainerCreating"][..], "0/1 ContainerCreating 1"),
            ("Running", ready, &[], &["m ready"], "1/1 Running 1"),
            ("Running", done, &[], &["m running", "n ready"], "1/2 Running 2"),
            ("Running", done, &[], &["m waiting=CrashLoopBackOff"], "0/1 CrashLoopBackOff 1"),
            // The first container has the last word.
            ("Running", done, &[], &["m exit=0", "n exit=1"], "0/2 Completed 2"),
            ("Running", done, &[], &["m exit=1", "n ready"], "1/2 Error 2"),
            ("Running", ready, &[], &["m exit=0", "n ready"], "1/2 Running 2"),
            ("Running", done, &[], &["m exit=0", "n ready"], "1/2 NotReady 2"),
            ("Running", done, &[], &["m ended=OOMKilled"], "0/1 OOMKilled 1"),
            ("Failed", done, &[], &["m code=3"], "0/1 ExitCode:3 1"),
            ("Failed", done, &[], &["m signal=9"], "0/1 Signal:9 1"),
            ("Succeeded", done, &[], &["m exit=0"], "0/1 Completed 1"),
            ("Pending", &[], &["a running", "b waiting=PodInitializing"], &[waits], "0/1 Init:0/2 1"),
            ("Pending", &[], &["a exit=0", "b running"], &[waits], "0/1 Init:1/2 2"),
            ("Pending", &[], &["a exit=0", "b waiting=PodInitializing"], &[waits], "0/1 Init:1/2 2"),
            ("Pending", &[], &["a exit=2"], &[waits], "0/1 Init:Error 1"),
            ("Pending", &[], &["a code=2"], &[waits], "0/1 Init:ExitCode:2 1"),
            ("Pending", &[], &["a signal=9"], &[waits], "0/1 Init:Signal:9 1"),
            ("Pending", &[], &["a waiting=CrashLoopBackOff"], &[waits], "0/1 Init:CrashLoopBackOff 1"),
            ("Pending", done, &["a exit=0"], &[waits], "0/1 PodInitializing 1"),
            // Of init containers only the sidecars' restarts stay.
            ("Running", ready, &["a exit=0", "s ready"], &["m ready"], "2/2 Running 2"),
            ("Pending", &[], &["s running", "b running"], &[waits], "0/2 Init:1/2 2"),
            ("Running", done, &["s waiting=CrashLoopBackOff"], &["m ready"], "1/2 Init:CrashLoopBackOff 2"),
        ] {
            let row = summary(&pod(phase, conditions, init, main));
            let got = format!("{}/{} {} {}", row.ready, row.containers, row.status, row.restarts);
            assert_eq!(got, expected, "{phase} {conditions:?} {init:?} {main:?}");
        }
    }

    #[test]
    fn what_ends_terminates_and_what_has_ended_does_not() {
        let of = |phase: &str, reason: Option<&str>, deleted: bool| {
            let mut pod = pod(phase, &[], &[], &[]);
            pod.status.as_mut().unwrap().reason = reason.map(str::to_owned);
            pod.metadata.deletion_timestamp = deleted
                .then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
            summary(&pod).status
        };
        assert_eq!(of("Running", None, true), "Terminating");
        assert_eq!(of("Succeeded", None, true), "Succeeded");
        assert_eq!(of("Failed", Some("Evicted"), false), "Evicted");
        assert_eq!(of("Unknown", None, false), "Unknown");
        assert_eq!(summary(&Pod::default()).status, "");
    }

    #[test]
    fn gates_are_counted() {
        let mut pod = pod("Running", &["a"], &[], &[]);
        let gates = json!([{"conditionType": "a"}, {"conditionType": "b"}]);
        pod.spec.as_mut().unwrap().readiness_gates = serde_json::from_value(gates).unwrap();
        assert_eq!(cells(&pod, true, Timestamp::UNIX_EPOCH)[8], "1/2");
    }
}
