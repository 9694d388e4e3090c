//! What is known of a pod: facts that came as events, and where its life stands. Pure.
//!
//! ```text
//!          all main containers ended for good, an init container failed for good,
//!          activeDeadlineSeconds passed, stop or kill requested
//! Active ─────────────────────────────────────────────────────────────► Ending ─────────► Finished
//!  starts and restarts                   main containers stop, then sidecars      nothing lives
//! ```
//!
//! The stage only moves to the right. While `Ending`, the cause stays the first one and the deadline only
//! moves closer. [`State::apply`] takes events in; [`crate::pod::actions::decide`] says what to do about
//! them; [`State::record`] notes that it is being done.
//!
//! Modelled on the kubelet: `pod_workers.go` for the stages, `kubelet_pods.go` (`getPhase`) for the phase.

use std::time::Duration;

use super::actions::{Action, decide};
use super::backoff::BackoffPolicy;
use super::event::{Event, Phase, StopCause};
use super::record::{ContainerRecord, has_initialized, is_ready, is_restarted};
use super::time::Time;
use crate::container::state::{ContainerState, Exit, ExitReason, START_ERROR_EXIT_CODE, Stopping};
use crate::spec::{Container, Pod, Role};

/// Exit code of `peapod run` for a pod that ran out of time, as timeout(1) has it.
pub const EXIT_TIMED_OUT: u8 = 124;
/// Exit code of `peapod run` for a pod that failed without a container to blame.
pub const EXIT_FAILED: u8 = 1;

/// Everything known of one pod. Its containers are those of the [`Pod`] it was made from, in the order of
/// [`Pod::all_containers`]; every method that takes a `pod` wants that same one.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) accepted_at: Time,
    pub(super) sandbox_ready: bool,
    pub(super) containers: Vec<ContainerRecord>,
    pub(super) stage: Stage,
    pub(super) conditions: Conditions,
}

/// Where the pod's life stands. One-way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Containers are started and restarted.
    Active,
    /// Nothing is started any more; what lives is being stopped.
    Ending(Ending),
    /// Nothing lives. For good.
    Finished { cause: Cause, phase: Phase },
}

/// How a pod is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Why. The first cause stays.
    pub cause: Cause,
    /// When grace is over, monotonic. Only moves closer.
    pub deadline: Duration,
    /// Whether grace was taken back altogether.
    pub kill: bool,
}

/// Why a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// All main containers ended and none is to be restarted.
    Completed,
    /// This init container (its index) failed and is not to be restarted.
    InitFailed(usize),
    /// `activeDeadlineSeconds` is over.
    DeadlineExceeded,
    /// Somebody asked for it.
    Stopped(StopCause),
}

/// The conditions of the status that change, each with its last change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    pub ready_to_start: Condition,
    pub initialized: Condition,
    pub containers_ready: Condition,
    pub ready: Condition,
}

/// One condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    pub holds: bool,
    pub since: Time,
}

impl Condition {
    fn set(&mut self, holds: bool, now: Time) {
        if self.holds != holds {
            *self = Self { holds, since: now };
        }
    }
}

impl State {
    /// A pod that was accepted at `now`; its containers wait for [`Event::SandboxReady`].
    pub fn new(pod: &Pod, backoff: BackoffPolicy, now: Time) -> Self {
        let condition = Condition { holds: false, since: now };
        let mut state = Self {
            accepted_at: now,
            sandbox_ready: false,
            containers: pod.all_containers().map(|_| ContainerRecord::new(backoff)).collect(),
            stage: Stage::Active,
            conditions: Conditions {
                ready_to_start: condition,
                initialized: condition,
                containers_ready: condition,
                ready: condition,
            },
        };
        state.refresh_conditions(pod, now);
        state
    }

    /// Takes in what happened. An event that does not fit, such as the exit of a container that does not
    /// live or anything after the end, changes nothing.
    pub fn apply(&mut self, pod: &Pod, event: Event, now: Time) {
        if self.phase_is_final() {
            return;
        }
        match event {
            Event::SandboxReady => self.sandbox_ready = true,
            Event::ContainerStarted { name } => self.with(pod, &name, |state| state.started(now)),
            Event::ContainerExited { name, exit } => self.with(pod, &name, |state| state.exited(exit, now)),
            Event::ContainerFailedToStart { name, reason, message } => {
                let reason = ExitReason::FailedToStart(reason);
                let exit = Exit { code: START_ERROR_EXIT_CODE, reason, message: Some(message) };
                self.with(pod, &name, |state| state.exited(exit, now));
            }
            Event::StopRequested { cause, grace } => self.end(Cause::Stopped(cause), grace, now),
            Event::KillRequested { cause } => {
                self.end(Cause::Stopped(cause), Duration::ZERO, now);
                if let Stage::Ending(ending) = &mut self.stage {
                    ending.kill = true;
                }
            }
            // Seam: the machine learns these next.
            Event::HookEnded { .. }
            | Event::ProbeEnded { .. }
            | Event::EphemeralAdded
            | Event::RestartRequested { .. }
            | Event::ConditionSet(_)
            | Event::Evicted { .. } => {}
            Event::Tick => {}
        }
        if self.stage == Stage::Active
            && let Some(cause) = self.cause_to_end(pod, now)
        {
            self.end(cause, pod.termination_grace, now);
        }
        self.refresh_conditions(pod, now);
    }

    /// Notes that `action` is being carried out.
    pub fn record(&mut self, pod: &Pod, action: &Action, now: Time) {
        match action {
            Action::Start { container, restart } => {
                if let Some(record) = self.record_of(pod, container)
                    && !record.state.is_live()
                {
                    let previous = record.state.start();
                    if let Some(ended) = &previous {
                        record.backoff.restarted(ended.finished_at.mono, now.mono);
                        record.restarts = *restart;
                    }
                    record.previous = previous;
                }
            }
            Action::Stop { container, .. } => {
                self.with(pod, container, |state| state.stop(Stopping::Asked { at: now.mono }));
            }
            Action::Kill { container } => self.with(pod, container, |state| state.stop(Stopping::Killed)),
            Action::Finish { phase } => {
                if let Stage::Ending(Ending { cause, .. }) = self.stage {
                    self.stage = Stage::Finished { cause, phase: *phase };
                }
            }
            Action::Hook { .. } | Action::Probe { .. } | Action::WakeAt(_) => {}
        }
        self.refresh_conditions(pod, now);
    }

    /// [`State::apply`], [`decide`] and [`State::record`] in one: what to do about `event`.
    pub fn step(&mut self, pod: &Pod, event: Event, now: Time) -> Vec<Action> {
        self.apply(pod, event, now);
        let actions = decide(pod, self, now);
        for action in &actions {
            self.record(pod, action, now);
        }
        actions
    }

    /// `status.phase`.
    pub fn phase(&self, pod: &Pod) -> Phase {
        match self.stage {
            Stage::Finished { phase, .. } => phase,
            _ if self.mains(pod).all(ContainerRecord::has_run) => Phase::Running,
            _ => Phase::Pending,
        }
    }

    /// Whether the pod's life is over.
    pub fn phase_is_final(&self) -> bool {
        matches!(self.stage, Stage::Finished { .. })
    }

    /// Whether the pod is being ended or has ended: nothing is started any more.
    pub fn is_ending(&self) -> bool {
        self.stage != Stage::Active
    }

    /// When grace is over (monotonic), while the pod is being ended.
    #[cfg(test)]
    pub(super) fn stop_deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Ending(ending) => Some(ending.deadline),
            _ => None,
        }
    }

    /// What the container does; `None` for a name that the pod does not have.
    pub fn container(&self, pod: &Pod, name: &str) -> Option<&ContainerState> {
        index_of(pod, name).and_then(|index| self.containers.get(index)).map(|record| &record.state)
    }

    /// How often the container was started again.
    pub fn restarts(&self, pod: &Pod, name: &str) -> u32 {
        index_of(pod, name).and_then(|index| self.containers.get(index)).map_or(0, |record| record.restarts)
    }

    /// Whether the container is ready, as its status says.
    pub fn is_ready(&self, pod: &Pod, name: &str) -> bool {
        self.each(pod).any(|(spec, record)| spec.name == name && is_ready(spec, record))
    }

    /// Whether the pod ends because `activeDeadlineSeconds` is over.
    pub fn has_missed_deadline(&self) -> bool {
        matches!(self.stage, Stage::Ending(Ending { cause: Cause::DeadlineExceeded, .. }))
    }

    /// When a container that has ended is started again (monotonic); `None` when it is not.
    pub fn restart_at(&self, pod: &Pod, name: &str) -> Option<Duration> {
        let (spec, record) = self.each(pod).find(|(spec, _)| spec.name == name)?;
        let ended = record.state.termination().filter(|ended| is_restarted(pod, spec, &ended.exit))?;
        (!self.is_ending()).then(|| record.backoff.ready_at(ended.finished_at.mono))
    }

    /// The exit code of `peapod run` once the pod has ended; `None` before.
    ///
    /// 0 when it Succeeded. When it Failed: the code of the container whose failure, first in time, decided
    /// it; [`EXIT_TIMED_OUT`] for `activeDeadlineSeconds`. A pod that was stopped: [`EXIT_TIMED_OUT`], or 128 +
    /// the signal unless all its main containers ended well.
    pub fn exit_code(&self, pod: &Pod) -> Option<u8> {
        let Stage::Finished { cause, phase } = self.stage else { return None };
        if cause == Cause::Stopped(StopCause::Timeout) {
            return Some(EXIT_TIMED_OUT);
        }
        if phase == Phase::Succeeded {
            return Some(0);
        }
        Some(match cause {
            Cause::DeadlineExceeded | Cause::Stopped(StopCause::Timeout) => EXIT_TIMED_OUT,
            Cause::InitFailed(index) => {
                let record = self.containers.get(index);
                record.and_then(|r| r.last_termination()).map_or(EXIT_FAILED, |t| t.exit.code)
            }
            Cause::Completed => {
                let failed =
                    self.mains(pod).filter_map(|r| r.last_termination()).filter(|t| t.exit.code != 0);
                failed.min_by_key(|t| t.finished_at.mono).map_or(EXIT_FAILED, |t| t.exit.code)
            }
            Cause::Stopped(StopCause::Signal(signal)) => 128_u8.saturating_add(signal),
        })
    }

    /// The phase in which the pod ends, given that nothing lives any more.
    pub(super) fn final_phase(&self, pod: &Pod) -> Phase {
        let failed_by_cause = matches!(
            self.stage,
            Stage::Ending(Ending { cause: Cause::DeadlineExceeded | Cause::InitFailed(_), .. })
        );
        if !failed_by_cause && self.mains(pod).all(ContainerRecord::has_succeeded) {
            Phase::Succeeded
        } else {
            Phase::Failed
        }
    }

    /// Each container's specification with its record, init containers first.
    pub(super) fn each<'a>(
        &'a self,
        pod: &'a Pod,
    ) -> impl Iterator<Item = (&'a Container, &'a ContainerRecord)> + Clone {
        let (init, main) = self.containers.split_at(pod.init_containers.len().min(self.containers.len()));
        let later = pod.containers.iter().chain(&pod.ephemeral_containers);
        pod.init_containers.iter().zip(init).chain(later.zip(main))
    }

    /// The records of the main containers.
    pub(super) fn mains(&self, pod: &Pod) -> impl Iterator<Item = &ContainerRecord> {
        self.containers.iter().skip(pod.init_containers.len()).take(pod.containers.len())
    }

    /// Whether all init containers have done their part, as the condition `Initialized` has it: once a
    /// main container has run, it stays true.
    pub(super) fn is_initialized(&self, pod: &Pod) -> bool {
        self.mains(pod).any(ContainerRecord::has_run)
            || self.each(pod).all(|(spec, record)| spec.role == Role::Main || has_initialized(spec, record))
    }

    /// Moves to `Ending`, or brings its deadline closer.
    fn end(&mut self, cause: Cause, grace: Duration, now: Time) {
        let deadline = now.mono.saturating_add(grace);
        match &mut self.stage {
            Stage::Active => self.stage = Stage::Ending(Ending { cause, deadline, kill: false }),
            Stage::Ending(ending) => ending.deadline = ending.deadline.min(deadline),
            Stage::Finished { .. } => {}
        }
    }

    /// Why the pod has to end by itself, if it has to.
    fn cause_to_end(&self, pod: &Pod, now: Time) -> Option<Cause> {
        let over = |spec: &Container, record: &ContainerRecord| {
            record.state.termination().is_some_and(|ended| !is_restarted(pod, spec, &ended.exit))
        };
        let failed_init = self.each(pod).position(|(spec, record)| {
            spec.role == Role::Init && over(spec, record) && !record.has_succeeded()
        });
        if let Some(index) = failed_init {
            return Some(Cause::InitFailed(index));
        }
        if self.each(pod).filter(|(spec, _)| spec.role == Role::Main).all(|(spec, record)| over(spec, record))
        {
            return Some(Cause::Completed);
        }
        let deadline = self.active_deadline(pod)?;
        (now.mono >= deadline).then_some(Cause::DeadlineExceeded)
    }

    /// When `activeDeadlineSeconds` is over, monotonic.
    pub(super) fn active_deadline(&self, pod: &Pod) -> Option<Duration> {
        pod.active_deadline.map(|limit| self.accepted_at.mono.saturating_add(limit))
    }

    fn record_of(&mut self, pod: &Pod, name: &str) -> Option<&mut ContainerRecord> {
        index_of(pod, name).and_then(|index| self.containers.get_mut(index))
    }

    fn with(&mut self, pod: &Pod, name: &str, change: impl FnOnce(&mut ContainerState)) {
        if let Some(record) = self.record_of(pod, name) {
            change(&mut record.state);
        }
    }

    fn refresh_conditions(&mut self, pod: &Pod, now: Time) {
        let ended = self.phase_is_final();
        let initialized = self.is_initialized(pod);
        let containers_ready =
            !ended && self.each(pod).all(|(spec, record)| spec.role == Role::Init || is_ready(spec, record));
        self.conditions.ready_to_start.set(self.sandbox_ready && !ended, now);
        self.conditions.initialized.set(initialized, now);
        self.conditions.containers_ready.set(containers_ready, now);
        self.conditions.ready.set(containers_ready, now);
    }
}

fn index_of(pod: &Pod, name: &str) -> Option<usize> {
    pod.all_containers().position(|container| container.name == name)
}
