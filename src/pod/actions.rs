//! What to do next: specification × state × now → actions. Pure.
//!
//! ```text
//! decide ─┬─ starts: each container in order, through the gate; restarts after their back-off
//!         └─ runs: each live container ─► its stop ([`stop`](super::stop)), its hooks, its due probes
//!                                         ([`probe`](super::probe))
//! ```
//!
//! The kubelet's `computePodActions` (starts), `killContainersWithSyncResult` with its termination ordering
//! (stops) and probe workers, as one function over the whole pod, linear in its containers. It is
//! level-triggered: whatever was missed, the next call answers to the state as it is, and actions already
//! recorded in the state are not repeated.

use std::time::Duration;

use super::event::Phase;
use super::probe;
use super::record::{ContainerRecord, has_initialized};
use super::state::{Stage, State};
pub use super::stop::MIN_STOP_WINDOW;
use super::stop::{self, Next};
use super::time::Time;
use crate::spec::{Container, HookKind, Pod, ProbeKind, Role};

/// Something the pod's worker has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the container. Answered by `ContainerStarted`, `ContainerFailedToStart`, `ConfigurationFailed` or
    /// `ContainerExited`.
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
    let mut plan = Plan { now: now.mono, actions: Vec::new(), wake_at: None };
    match state.stage {
        Stage::Active => plan.starts(pod, state),
        Stage::Ending(_) if !state.containers.iter().any(|record| record.state.is_live()) => {
            plan.actions.push(Action::Finish { phase: state.final_phase(pod) });
        }
        Stage::Ending(_) | Stage::Finished { .. } => {}
    }
    plan.runs(pod, state);
    plan.actions.extend(plan.wake_at.map(Action::WakeAt));
    plan.actions
}

struct Plan {
    now: Duration,
    actions: Vec<Action>,
    wake_at: Option<Duration>,
}

impl Plan {
    fn wake(&mut self, at: Duration) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Does it when its time has come, and wakes up then when it has not.
    fn at(&mut self, time: Duration, action: impl FnOnce() -> Action) {
        if time <= self.now {
            self.actions.push(action());
        } else {
            self.wake(time);
        }
    }

    /// What is started: first starts in order, as far as the [`Gate`] is open, and restarts when their
    /// back-off is over.
    fn starts(&mut self, pod: &Pod, state: &State) {
        if let Some(deadline) = state.active_deadline(pod) {
            self.wake(deadline);
        }
        if !state.sandbox_ready {
            return;
        }
        let mut gate = Gate::of(pod, state);
        for (index, (spec, record)) in state.each(pod).enumerate() {
            let start = |restart| Action::Start { container: spec.name.clone(), restart };
            if !record.has_begun() {
                if gate.is_open || spec.role == Role::Ephemeral {
                    self.at(record.not_before(), || start(0));
                }
            } else if let Some(at) = record.restart_at(pod, spec) {
                self.at(at, || start(record.restarts.saturating_add(1)));
            }
            gate.pass(index, spec, record, self.now);
        }
    }

    /// What is done about the containers that live: stops, hooks, probes.
    fn runs(&mut self, pod: &Pod, state: &State) {
        let order = stop::Order::of(pod, state);
        for (index, (spec, record)) in state.each(pod).enumerate().filter(|(_, (_, r))| r.state.is_live()) {
            let stop = state.stop_of(record);
            if let Some(stop) = stop {
                let is_turn = stop.why != StopReason::PodEnds || order.is_turn(index, spec.role);
                match stop::next(spec, record, stop, is_turn, self.now) {
                    Next::Act(action, until) => {
                        self.actions.push(action);
                        self.wake(until);
                    }
                    Next::Wait(until) => self.wake(until),
                    Next::Kill => {
                        self.actions.push(Action::Kill { container: spec.name.clone() });
                        continue;
                    }
                    Next::Exit => {}
                }
            } else if record.state.is_running()
                && record.is_held_by_post_start(spec)
                && !record.run.post_start_ordered
            {
                let (container, run) = (spec.name.clone(), record.restarts);
                self.actions.push(Action::Hook { container, run, hook: HookKind::PostStart });
            }
            for kind in ProbeKind::ALL {
                if let Some(probe) = spec.probes.of(kind)
                    && let Some(at) = probe::due(kind, probe, record, stop.is_some())
                {
                    let (container, run) = (|| spec.name.clone(), record.restarts);
                    self.at(at, || Action::Probe { container: container(), run, kind });
                }
            }
        }
    }
}

/// Whether a container that was never started may be: every init container before it has succeeded, every
/// sidecar before it has started, and no `postStart` hook of an earlier one is under way: the kubelet
/// starts one after another (`SyncPod` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`). A container that
/// was passed once holds nobody up any more: it is restarted on its own. A main container that is configured wrongly
/// holds nobody up until it is tried again.
struct Gate {
    is_open: bool,
    /// The last container that was ever started.
    last_begun: Option<usize>,
}

impl Gate {
    fn of(pod: &Pod, state: &State) -> Self {
        let begun = |(spec, record): (&Container, &ContainerRecord)| {
            record.has_begun() && spec.role != Role::Ephemeral
        };
        let last_begun = state.each(pod).enumerate().filter(|(_, each)| begun(*each)).map(|(index, _)| index);
        Self { is_open: true, last_begun: last_begun.last() }
    }

    /// What comes after this container.
    fn pass(&mut self, index: usize, spec: &Container, record: &ContainerRecord, now: Duration) {
        let is_passed = self.last_begun.is_some_and(|last| index < last);
        let lets_through = match spec.role {
            Role::Init | Role::Sidecar => is_passed || has_initialized(spec, record),
            Role::Main if record.has_begun() => is_passed || !record.is_held_by_post_start(spec),
            Role::Main => is_passed || spec.hooks.post_start.is_none() || record.not_before() > now,
            Role::Ephemeral => true,
        };
        self.is_open &= lets_through;
    }
}
