//! What to do next: specification × state × now → actions. Pure.
//!
//! The kubelet's `computePodActions` (starts) and `killContainersWithSyncResult` with its termination
//! ordering (stops), as one function over the whole pod. It is level-triggered: whatever was missed, the
//! next call answers to the state as it is, and actions already recorded in the state are not repeated.

use std::time::Duration;

use super::event::Phase;
use super::record::{has_initialized, is_restarted};
use super::state::{Ending, Stage, State};
use super::time::Time;
use crate::container::state::{ContainerState, Stopping};
use crate::spec::{HookKind, Pod, ProbeKind, Role};

/// The least time a container has between being asked to end and being killed, however late its turn
/// came (`minimumGracePeriodInSeconds` in `pkg/kubelet/kuberuntime/kuberuntime_container.go`). A kill
/// request does not wait for it.
pub const MIN_STOP_WINDOW: Duration = Duration::from_secs(2);

/// Something the pod's worker has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the container. Answered by `ContainerStarted`, `ContainerFailedToStart` or `ContainerExited`.
    Start {
        /// The container.
        container: String,
        /// Which restart it is: 0 for the first start. Names the log file.
        restart: u32,
    },
    /// Run one of the container's hooks. Answered by `HookEnded`, unless the container ends before: the hook
    /// ends with it.
    Hook {
        /// The container.
        container: String,
        /// Of which run of the container: its restarts so far. Comes back with the answer.
        run: u32,
        /// Which hook.
        hook: HookKind,
    },
    /// Run one of the container's probes, once. Answered by `ProbeEnded`, unless the container ends before.
    Probe {
        /// The container.
        container: String,
        /// Of which run of the container. Comes back with the answer.
        run: u32,
        /// Which probe.
        kind: ProbeKind,
    },
    /// Ask the container to end. Answered by `ContainerExited`.
    Stop {
        /// The container.
        container: String,
        /// When it will be killed (monotonic), unless that moment moves closer: for the guest and the log; the
        /// kill comes as an action of its own.
        deadline: Duration,
        /// Why, for the log.
        why: StopReason,
    },
    /// Interrupt the container at once. Answered by `ContainerExited`.
    Kill {
        /// The container.
        container: String,
    },
    /// The pod has ended in this phase: nothing lives and nothing will.
    Finish {
        /// `Succeeded` or `Failed`.
        phase: Phase,
    },
    /// Deliver [`super::Event::Tick`] at this monotonic time. At most one, and the last; it replaces the
    /// one before. None: there is nothing to wait for but events.
    WakeAt(Duration),
}

/// Why a container is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The pod ends.
    PodEnds,
    /// This probe has failed: liveness or startup. It is started anew where its restart policy says so.
    ProbeFailed(ProbeKind),
    /// Its `postStart` hook has failed. It is started anew where its restart policy says so.
    PostStartFailed,
    /// It starts anew with other resources.
    Resized,
}

/// What to do about `state` at `now`.
pub fn decide(pod: &Pod, state: &State, now: Time) -> Vec<Action> {
    let mut plan = Plan { actions: Vec::new(), wake_at: None };
    match state.stage {
        Stage::Active => plan.starts(pod, state, now.mono),
        Stage::Ending(ending) => plan.stops(pod, state, ending, now.mono),
        Stage::Finished { .. } => {}
    }
    plan.actions.extend(plan.wake_at.map(Action::WakeAt));
    plan.actions
}

struct Plan {
    actions: Vec<Action>,
    wake_at: Option<Duration>,
}

impl Plan {
    fn wake(&mut self, at: Duration) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn starts(&mut self, pod: &Pod, state: &State, now: Duration) {
        if let Some(deadline) = state.active_deadline(pod) {
            self.wake(deadline);
        }
        if !state.sandbox_ready {
            return;
        }
        for (index, (spec, record)) in state.each(pod).enumerate() {
            let container = || spec.name.clone();
            match &record.state {
                ContainerState::Waiting if is_turn_to_start(pod, state, index) => {
                    self.actions.push(Action::Start { container: container(), restart: 0 });
                }
                ContainerState::Terminated(ended) if is_restarted(pod, spec, &ended.exit) => {
                    let at = record.backoff.ready_at(ended.finished_at.mono);
                    if at <= now {
                        let restart = record.restarts.saturating_add(1);
                        self.actions.push(Action::Start { container: container(), restart });
                    } else {
                        self.wake(at);
                    }
                }
                _ => {}
            }
        }
    }

    fn stops(&mut self, pod: &Pod, state: &State, ending: Ending, now: Duration) {
        if !state.containers.iter().any(|record| record.state.is_live()) {
            self.actions.push(Action::Finish { phase: state.final_phase(pod) });
            return;
        }
        for (index, (spec, record)) in state.each(pod).enumerate() {
            let Some(stopping) = record.state.stopping() else { continue };
            let container = spec.name.clone();
            match stopping {
                Stopping::Killed => {}
                _ if ending.kill => self.actions.push(Action::Kill { container }),
                Stopping::Asked { at } => {
                    let kill_at = ending.deadline.max(at.saturating_add(MIN_STOP_WINDOW));
                    if kill_at <= now {
                        self.actions.push(Action::Kill { container });
                    } else {
                        self.wake(kill_at);
                    }
                }
                Stopping::No if ending.deadline <= now || is_turn_to_stop(pod, state, index) => {
                    let deadline = ending.deadline.max(now.saturating_add(MIN_STOP_WINDOW));
                    self.wake(deadline);
                    self.actions.push(Action::Stop { container, deadline, why: StopReason::PodEnds });
                }
                Stopping::No => self.wake(ending.deadline),
            }
        }
    }
}

/// Whether a container that was never started may be: every init container before it has succeeded and
/// every sidecar before it runs. A sidecar that was passed once need not run still: it is restarted on its
/// own and holds nobody up.
fn is_turn_to_start(pod: &Pod, state: &State, index: usize) -> bool {
    let mut before = state.each(pod).enumerate().take(index).filter(|(_, (spec, _))| spec.role != Role::Main);
    before.all(|(at, (spec, record))| {
        has_initialized(spec, record) || state.containers.iter().skip(at + 1).any(|later| later.has_begun())
    })
}

/// Whether a container may be asked to end: a sidecar only when no main container and no later sidecar
/// lives, all others at once (`newTerminationOrdering` in
/// `pkg/kubelet/kuberuntime/kuberuntime_termination_order.go`).
fn is_turn_to_stop(pod: &Pod, state: &State, index: usize) -> bool {
    let mut containers = state.each(pod).enumerate();
    let is_sidecar = |role| role == Role::Sidecar;
    let waits = containers.clone().nth(index).is_some_and(|(_, (spec, _))| is_sidecar(spec.role));
    !waits
        || !containers.any(|(at, (spec, record))| {
            let before_it = spec.role == Role::Main || (is_sidecar(spec.role) && at > index);
            before_it && record.state.is_live()
        })
}
