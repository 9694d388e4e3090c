//! The pod's state as Kubernetes reports it: `State` → `v1.PodStatus`. Pure.
//!
//! The one place of [`crate::pod`] that knows the wire type; nothing comes back from it. Written after the
//! kubelet's `pkg/kubelet/status/generate.go` and `convertToAPIContainerStatuses` in
//! `pkg/kubelet/kubelet_pods.go`, so that kubectl shows what it shows for any pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as WireTime;
use k8s_openapi::jiff::Timestamp;

use super::event::Phase;
use super::record::{ContainerRecord, has_initialized, is_ready, is_restarted};
use super::state::{Cause, Condition, Stage, State};
use crate::container::state::{ContainerState, Termination};
use crate::spec::{Container, Pod, Role};

/// Why a pod ended whose `activeDeadlineSeconds` is over (`pkg/kubelet/active_deadline.go`).
pub(super) const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// What the status says and the state machine does not know.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The pod's addresses, the primary one first.
    pub pod_ips: Vec<IpAddr>,
    /// The host's addresses, the primary one first.
    pub host_ips: Vec<IpAddr>,
    /// `qosClass`: `Guaranteed`, `Burstable` or `BestEffort`.
    pub qos_class: String,
    /// Container name → `imageID`, such as the digest of its component.
    pub image_ids: BTreeMap<String, String>,
}

/// The status of `pod` in `state`.
pub fn pod_status(pod: &Pod, state: &State, facts: &Facts) -> wire::PodStatus {
    let phase = state.phase(pod);
    let (reason, message) = match state.stage {
        Stage::Finished { cause: Cause::DeadlineExceeded, .. } => {
            (Some("DeadlineExceeded".to_owned()), Some(DEADLINE_MESSAGE.to_owned()))
        }
        _ => (None, None),
    };
    let (init, main): (Vec<_>, Vec<_>) = state.each(pod).partition(|(spec, _)| spec.role != Role::Main);
    let statuses = |containers: Vec<(&Container, &ContainerRecord)>| {
        let statuses =
            containers.into_iter().map(|(spec, record)| container_status(pod, state, facts, spec, record));
        Some(statuses.collect::<Vec<_>>()).filter(|statuses| !statuses.is_empty())
    };
    wire::PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason,
        message,
        conditions: Some(conditions(pod, state, phase)),
        init_container_statuses: statuses(init),
        container_statuses: statuses(main),
        pod_ip: facts.pod_ips.first().map(IpAddr::to_string),
        pod_ips: list(&facts.pod_ips, |ip| wire::PodIP { ip: ip.to_string() }),
        host_ip: facts.host_ips.first().map(IpAddr::to_string),
        host_ips: list(&facts.host_ips, |ip| wire::HostIP { ip: ip.to_string() }),
        qos_class: Some(facts.qos_class.clone()).filter(|class| !class.is_empty()),
        start_time: Some(time(state.accepted_at.wall)),
        ..wire::PodStatus::default()
    }
}

/// The conditions in the order in which the kubelet writes them.
fn conditions(pod: &Pod, state: &State, phase: Phase) -> Vec<wire::PodCondition> {
    let named = |keep: &dyn Fn(&Container, &ContainerRecord) -> bool, what: &str| {
        let names: Vec<_> =
            state.each(pod).filter(|(s, r)| keep(s, r)).map(|(s, _)| s.name.as_str()).collect();
        format!("containers with {what} status: [{}]", names.join(" "))
    };
    let over = match phase {
        Phase::Succeeded => Some("PodCompleted"),
        Phase::Failed => Some("PodFailed"),
        Phase::Pending | Phase::Running => None,
    };
    let held = &state.conditions;
    let initialized_why = match (held.initialized.holds, phase) {
        (true, Phase::Succeeded) => Some(("PodCompleted", None)),
        (true, _) => None,
        (false, _) => {
            let incomplete = named(&|s, r| s.role != Role::Main && !has_initialized(s, r), "incomplete");
            Some(("ContainersNotInitialized", Some(incomplete)))
        }
    };
    let ready_why = |condition: Condition| match (condition.holds, over) {
        (true, _) => None,
        (false, Some(reason)) => Some((reason, None)),
        (false, None) => {
            let unready = named(&|s, r| s.role != Role::Init && !is_ready(s, r), "unready");
            Some(("ContainersNotReady", Some(unready)))
        }
    };
    let scheduled = Condition { holds: true, since: state.accepted_at };
    vec![
        condition("PodReadyToStartContainers", held.ready_to_start, None),
        condition("Initialized", held.initialized, initialized_why),
        condition("Ready", held.ready, ready_why(held.ready)),
        condition("ContainersReady", held.containers_ready, ready_why(held.containers_ready)),
        condition("PodScheduled", scheduled, None),
    ]
}

fn condition(type_: &str, condition: Condition, why: Option<(&str, Option<String>)>) -> wire::PodCondition {
    let (reason, message) = why.map_or((None, None), |(reason, message)| (Some(reason.to_owned()), message));
    wire::PodCondition {
        type_: type_.to_owned(),
        status: if condition.holds { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(time(condition.since.wall)),
        reason,
        message,
        ..wire::PodCondition::default()
    }
}

fn container_status(
    pod: &Pod,
    state: &State,
    facts: &Facts,
    spec: &Container,
    record: &ContainerRecord,
) -> wire::ContainerStatus {
    let id = |restart: u32| format!("peapod://{}/{}/{restart}", pod.uid, spec.name);
    let this_id = id(record.restarts);
    let ended = |termination: &Termination, id: String| wire::ContainerState {
        terminated: Some(terminated(termination, id)),
        ..wire::ContainerState::default()
    };
    let waiting = |reason: &str, message: Option<String>| wire::ContainerState {
        waiting: Some(wire::ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..wire::ContainerState::default()
    };
    let not_started = if pod.init_containers.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let before =
        record.previous.as_ref().map(|previous| ended(previous, id(record.restarts.saturating_sub(1))));
    let (now, last) = match &record.state {
        ContainerState::Waiting => (waiting(not_started, None), None),
        ContainerState::Starting { .. } => (waiting("ContainerCreating", None), before),
        ContainerState::Running { started_at, .. } => {
            let running = wire::ContainerStateRunning { started_at: Some(time(started_at.wall)) };
            (wire::ContainerState { running: Some(running), ..wire::ContainerState::default() }, before)
        }
        ContainerState::Terminated(termination)
            if !state.is_ending() && is_restarted(pod, spec, &termination.exit) =>
        {
            let delay = record.backoff.delay(termination.finished_at.mono).as_secs();
            let message = format!(
                "back-off {delay}s restarting failed container={} pod={}_{}({})",
                spec.name, pod.name, pod.namespace, pod.uid
            );
            (waiting("CrashLoopBackOff", Some(message)), Some(ended(termination, this_id.clone())))
        }
        ContainerState::Terminated(termination) => (ended(termination, this_id.clone()), before),
    };
    wire::ContainerStatus {
        name: spec.name.clone(),
        state: Some(now),
        last_state: last,
        ready: is_ready(spec, record),
        started: Some(record.state.is_running()),
        restart_count: i32::try_from(record.restarts).unwrap_or(i32::MAX),
        image: spec.image_name.clone(),
        image_id: facts.image_ids.get(&spec.name).cloned().unwrap_or_default(),
        container_id: record.has_run().then_some(this_id),
        ..wire::ContainerStatus::default()
    }
}

fn terminated(termination: &Termination, container_id: String) -> wire::ContainerStateTerminated {
    wire::ContainerStateTerminated {
        container_id: Some(container_id),
        exit_code: i32::from(termination.exit.code),
        reason: Some(termination.exit.reason.as_str().to_owned()),
        message: termination.exit.message.clone(),
        started_at: termination.started_at.map(|at| time(at.wall)),
        finished_at: Some(time(termination.finished_at.wall)),
        signal: None,
    }
}

/// `metav1.Time` has whole seconds.
fn time(wall: Timestamp) -> WireTime {
    WireTime(Timestamp::from_second(wall.as_second()).unwrap_or(wall))
}

fn list<T>(ips: &[IpAddr], each: impl Fn(&IpAddr) -> T) -> Option<Vec<T>> {
    Some(ips.iter().map(each).collect::<Vec<_>>()).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::container::state::Exit;
    use crate::pod::event::{Event, StopCause};
    use crate::pod::model_tests::{at, pod, run_to_start};
    use crate::spec::RestartPolicy;

    fn facts() -> Facts {
        Facts {
            pod_ips: vec!["10.201.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            host_ips: vec!["192.0.2.1".parse().unwrap()],
            qos_class: "BestEffort".into(),
            image_ids: BTreeMap::from([("web".into(), "sha256:1234".into())]),
        }
    }

    fn json(pod: &Pod, state: &State) -> Value {
        serde_json::to_value(pod_status(pod, state, &facts())).unwrap()
    }

    fn condition_of<'a>(status: &'a Value, name: &str) -> &'a Value {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().find(|c| c["type"] == name).unwrap()
    }

    #[test]
    fn a_running_pod_is_ready_and_has_its_addresses() {
        let pod = pod(RestartPolicy::Always, "I:prepare S:proxy M:web");
        let state = run_to_start(&pod);
        let status = json(&pod, &state);
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["podIP"], "10.201.0.7");
        assert_eq!(status["podIPs"], json!([{"ip": "10.201.0.7"}, {"ip": "fd00::7"}]));
        assert_eq!(status["hostIP"], "192.0.2.1");
        assert_eq!(status["qosClass"], "BestEffort");
        assert_eq!(status["startTime"], "1970-01-01T00:00:00Z");
        for name in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
            assert_eq!(condition_of(&status, name)["status"], "True", "{name}");
        }
        let web = &status["containerStatuses"][0];
        assert_eq!(web["imageID"], "sha256:1234");
        assert_eq!(web["containerID"], "peapod://uid-1/web/0");
        assert_eq!(
            (&web["ready"], &web["started"], &web["restartCount"]),
            (&json!(true), &json!(true), &json!(0))
        );
        assert!(web["state"]["running"]["startedAt"].is_string());
        let init = status["initContainerStatuses"].as_array().unwrap();
        assert_eq!(init[0]["state"]["terminated"]["reason"], "Completed");
        assert_eq!(init[0]["ready"], true);
        assert_eq!(init[1]["name"], "proxy");
        assert!(init[1]["state"]["running"].is_object());
    }

    #[test]
    fn a_pod_that_initializes_says_what_it_waits_for() {
        let pod = pod(RestartPolicy::Always, "I:prepare M:web");
        let mut state = State::new(&pod, Default::default(), at(0));
        state.step(&pod, Event::SandboxReady, at(5));
        let status = json(&pod, &state);
        assert_eq!(status["phase"], "Pending");
        assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
        assert_eq!(
            condition_of(&status, "PodReadyToStartContainers")["lastTransitionTime"],
            "1970-01-01T00:00:05Z"
        );
        let initialized = condition_of(&status, "Initialized");
        assert_eq!(initialized["reason"], "ContainersNotInitialized");
        assert_eq!(initialized["message"], "containers with incomplete status: [prepare]");
        assert_eq!(condition_of(&status, "Ready")["message"], "containers with unready status: [web]");
    }

    #[test]
    fn a_crash_loop_shows_the_last_end() {
        let pod = pod(RestartPolicy::Always, "M:web");
        let mut state = run_to_start(&pod);
        let exited = || Event::ContainerExited { name: "web".into(), exit: Exit::with_code(7) };
        state.step(&pod, exited(), at(20));
        state.step(&pod, Event::ContainerStarted { name: "web".into() }, at(21));
        state.step(&pod, exited(), at(22));
        let status = json(&pod, &state);
        let web = &status["containerStatuses"][0];
        assert_eq!(web["state"]["waiting"]["reason"], "CrashLoopBackOff");
        assert_eq!(
            web["state"]["waiting"]["message"],
            "back-off 10s restarting failed container=web pod=p_default(uid-1)"
        );
        assert_eq!(web["lastState"]["terminated"]["exitCode"], 7);
        assert_eq!(web["restartCount"], 1);
        assert_eq!(status["phase"], "Running");
        assert_eq!(condition_of(&status, "Ready")["status"], "False");
    }

    #[test]
    fn the_end_is_told_with_its_reason() {
        let mut pod = pod(RestartPolicy::Always, "M:web");
        pod.active_deadline = Some(Duration::from_secs(60));
        let mut state = run_to_start(&pod);
        state.step(&pod, Event::Tick, at(60));
        assert_eq!(json(&pod, &state)["phase"], "Running", "not final while something lives");
        state.step(&pod, Event::ContainerExited { name: "web".into(), exit: Exit::with_code(0) }, at(61));
        let status = json(&pod, &state);
        assert_eq!(status["phase"], "Failed");
        assert_eq!(status["reason"], "DeadlineExceeded");
        assert_eq!(condition_of(&status, "Ready")["reason"], "PodFailed");
        assert_eq!(condition_of(&status, "PodReadyToStartContainers")["status"], "False");
    }

    #[test]
    fn a_pod_stopped_with_success_has_completed() {
        let pod = pod(RestartPolicy::Always, "M:web");
        let mut state = run_to_start(&pod);
        let stop = Event::StopRequested { cause: StopCause::Signal(2), grace: Duration::from_secs(30) };
        state.step(&pod, stop, at(30));
        state.step(&pod, Event::ContainerExited { name: "web".into(), exit: Exit::with_code(0) }, at(31));
        let status = json(&pod, &state);
        assert_eq!(status["phase"], "Succeeded");
        assert_eq!(condition_of(&status, "Initialized")["reason"], "PodCompleted");
        assert_eq!(condition_of(&status, "Ready")["reason"], "PodCompleted");
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    }
}
