//! The pod's rules, first told one by one, then held over long random histories.

use std::time::Duration;

use jiff::Timestamp;

use super::actions::{Action, MIN_STOP_WINDOW, StopReason, decide};
use super::backoff::BackoffPolicy;
use super::event::{CustomCondition, Event, Phase, StopCause};
use super::outcome::EXIT_TIMED_OUT;
use super::record::ContainerRecord;
use super::state::State;
use super::status::{Facts, pod_status};
use super::time::Time;
use crate::container::state::{Exit, Stopping};
use crate::spec::{
    Container, Hook, HookKind, Pod, Probe, ProbeHandler, ProbeKind, RestartPolicy, RestartRule, Role,
    SetOperator,
};
use crate::testing::spec as testing;

mod environment;
mod histories;
mod hooks;
mod probes;
mod progress;
mod readiness;
mod starts;
mod stops;

/// `secs` after the pod's start.
pub(super) fn at(secs: u64) -> Time {
    at_ms(secs * 1000)
}

fn at_ms(ms: u64) -> Time {
    Time { mono: Duration::from_millis(ms), wall: Timestamp::from_millisecond(ms.cast_signed()).unwrap() }
}

fn container(name: &str, role: Role, restart_policy: Option<RestartPolicy>) -> Container {
    Container { restart_policy, ..testing::container(name, role) }
}

fn pod_of(restart_policy: RestartPolicy, all: Vec<Container>) -> Pod {
    Pod { restart_policy, ..testing::pod(all) }
}

/// A pod from words such as `I:prepare S:proxy M:web`: init containers, sidecars, main containers.
pub(super) fn pod(policy: RestartPolicy, words: &str) -> Pod {
    let containers = words.split_whitespace().map(|word| match word.split_once(':').unwrap() {
        ("I", name) => container(name, Role::Init, None),
        ("S", name) => container(name, Role::Sidecar, Some(RestartPolicy::Always)),
        (_, name) => container(name, Role::Main, None),
    });
    pod_of(policy, containers.collect())
}

/// Brings all containers up with every init container succeeding; ends before `at(10)`.
pub(super) fn run_to_start(pod: &Pod) -> State {
    let mut state = State::new(pod, BackoffPolicy::default(), at(0));
    let mut actions = state.step(pod, Event::SandboxReady, at(1));
    for ms in 2000.. {
        let Some(Action::Start { container, .. }) = actions.pop() else {
            if actions.is_empty() {
                return state;
            }
            continue;
        };
        let is_init = pod.init_containers.iter().any(|c| c.name == container && c.role == Role::Init);
        actions.extend(state.step(pod, started(&container), at_ms(ms)));
        if is_init {
            actions.extend(state.step(pod, exited(&container, 0), at_ms(ms)));
        }
    }
    state
}

fn started(name: &str) -> Event {
    Event::ContainerStarted { name: name.into() }
}

fn exited(name: &str, code: u8) -> Event {
    Event::ContainerExited { name: name.into(), exit: Exit::with_code(code) }
}

fn misconfigured(name: &str) -> Event {
    Event::ConfigurationFailed { name: name.into(), message: "configmap \"x\" not found".into() }
}

fn stop(grace: u64) -> Event {
    Event::StopRequested { cause: StopCause::Signal(2), grace: Duration::from_secs(grace) }
}

fn start(container: &str, restart: u32) -> Action {
    Action::Start { container: container.into(), restart }
}

fn asked(container: &str, deadline: u64) -> Action {
    let deadline = Duration::from_secs(deadline);
    Action::Stop { container: container.into(), deadline, why: StopReason::PodEnds }
}

fn kill(container: &str) -> Action {
    Action::Kill { container: container.into() }
}

fn stopped(container: &str, deadline: u64, why: StopReason) -> Action {
    Action::Stop { container: container.into(), deadline: Duration::from_secs(deadline), why }
}

fn wake(secs: u64) -> Action {
    Action::WakeAt(Duration::from_secs(secs))
}

fn hook(container: &str, run: u32, hook: HookKind) -> Action {
    Action::Hook { container: container.into(), run, hook }
}

fn hook_ended(name: &str, run: u32, hook: HookKind, error: Option<&str>) -> Event {
    Event::HookEnded { name: name.into(), run, hook, error: error.map(str::to_owned) }
}

fn probe(container: &str, run: u32, kind: ProbeKind) -> Action {
    Action::Probe { container: container.into(), run, kind }
}

fn probed(name: &str, run: u32, kind: ProbeKind, succeeded: bool) -> Event {
    Event::ProbeEnded { name: name.into(), run, kind, succeeded: Some(succeeded) }
}

/// Every 10 s, with thresholds of 1 and 3.
fn a_probe() -> Probe {
    Probe {
        handler: ProbeHandler::Exec(vec![]),
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
        termination_grace: None,
    }
}

fn a_hook() -> Option<Hook> {
    Some(Hook::Sleep(Duration::from_secs(1)))
}

/// The container of the pod, to be changed.
fn of<'a>(pod: &'a mut Pod, name: &str) -> &'a mut Container {
    let mut all = pod.init_containers.iter_mut().chain(&mut pod.containers);
    all.find(|container| container.name == name).unwrap()
}

/// A pod whose sandbox is ready at second 0, and what it does first.
fn ready(pod: &Pod) -> (State, Vec<Action>) {
    let mut state = State::new(pod, BackoffPolicy::default(), at(0));
    let actions = state.step(pod, Event::SandboxReady, at(0));
    (state, actions)
}

fn is_ready(pod: &Pod, state: &State) -> bool {
    state.each(pod).all(|(spec, record)| super::record::is_ready(spec, record))
}
