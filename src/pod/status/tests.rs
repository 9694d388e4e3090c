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
fn what_never_ran_in_an_initialized_pod_is_unknown_at_its_end() {
    let stop = || Event::StopRequested { cause: StopCause::Signal(15), grace: Duration::from_secs(30) };
    let plain = pod(RestartPolicy::Always, "M:web");
    let mut state = State::new(&plain, Default::default(), at(0));
    state.step(&plain, stop(), at(1));
    let web = json(&plain, &state)["containerStatuses"][0]["state"].clone();
    assert_eq!(web["terminated"]["reason"], "ContainerStatusUnknown");
    assert_eq!(web["terminated"]["exitCode"], 137);
    let with_init = pod(RestartPolicy::Always, "I:prepare M:web");
    let mut state = State::new(&with_init, Default::default(), at(0));
    state.step(&with_init, stop(), at(1));
    let web = json(&with_init, &state)["containerStatuses"][0]["state"].clone();
    assert_eq!(web["waiting"]["reason"], "PodInitializing");
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

#[test]
fn a_container_that_is_configured_wrongly_waits_and_says_why() {
    let pod = pod(RestartPolicy::Always, "M:web");
    let mut state = run_to_start(&pod);
    let wrong =
        || Event::ConfigurationFailed { name: "web".into(), message: "secret \"s\" not found".into() };
    state.step(&pod, Event::ContainerExited { name: "web".into(), exit: Exit::with_code(3) }, at(10));
    state.step(&pod, wrong(), at(10));
    let status = json(&pod, &state);
    let web = &status["containerStatuses"][0];
    assert_eq!(status["phase"], "Running");
    assert_eq!(web["state"]["waiting"]["reason"], "CreateContainerConfigError");
    assert_eq!(web["state"]["waiting"]["message"], "secret \"s\" not found");
    assert_eq!(web["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(web["restartCount"], 0);
    let stop = Event::StopRequested { cause: StopCause::Signal(15), grace: Duration::from_secs(30) };
    state.step(&pod, stop, at(11));
    let web = json(&pod, &state)["containerStatuses"][0]["state"].clone();
    assert_eq!(web["terminated"]["exitCode"], 3);
}
