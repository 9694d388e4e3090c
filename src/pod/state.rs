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
//! Modelled on the kubelet's `pod_workers.go`. What it all comes to is in [`super::outcome`].

use std::time::Duration;

use super::actions::{Action, StopReason, decide};
use super::backoff::BackoffPolicy;
use super::conditions::Conditions;
use super::event::{Event, Phase, StopCause};
use super::record::{ContainerRecord, has_initialized, is_ready};
use super::stop::Stop;
use super::time::Time;
use crate::container::state::{ContainerState, Exit, ExitReason, START_ERROR_EXIT_CODE, Stopping};
use crate::spec::{Container, HookKind, Pod, Role};

/// The grace of a pod that is evicted for what it wrote (`immediateEvictionGracePeriodSeconds` in
/// `pkg/kubelet/eviction/eviction_manager.go`).
pub const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// Everything known of one pod. Its containers are those of the [`Pod`] it was made from, in the order of
/// [`Pod::all_containers`]; every method that takes a `pod` wants that same one, which may have got more
/// ephemeral containers at its end ([`Event::EphemeralAdded`]) and other resources meanwhile.
#[derive(Debug, Clone)]
pub struct State {
    backoff: BackoffPolicy,
    pub(super) accepted_at: Time,
    pub(super) sandbox_ready: bool,
    pub(super) containers: Vec<ContainerRecord>,
    pub(super) stage: Stage,
    pub(super) conditions: Conditions,
    /// Why it was evicted, if it was.
    pub(super) eviction: Option<String>,
}

/// Where the pod's life stands. One-way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Containers are started and restarted.
    Active,
    /// Nothing is started any more; what lives is being stopped.
    Ending(Ending),
    /// Nothing lives. For good.
    Finished { cause: Cause, phase: Phase, at: Time },
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
    /// It used more of the disk than it may.
    Evicted,
    /// Somebody asked for it.
    Stopped(StopCause),
}

impl State {
    /// A pod that was accepted at `now`; its containers wait for [`Event::SandboxReady`].
    pub fn new(pod: &Pod, backoff: BackoffPolicy, now: Time) -> Self {
        let mut state = Self {
            backoff,
            accepted_at: now,
            sandbox_ready: false,
            containers: pod.all_containers().map(|_| ContainerRecord::new(backoff)).collect(),
            stage: Stage::Active,
            conditions: Conditions::new(now),
            eviction: None,
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
            Event::ContainerStarted { name } => {
                self.with(pod, &name, |spec, record| record.started(spec, now));
            }
            Event::ContainerExited { name, exit } => {
                self.with(pod, &name, |_, record| record.exited(exit, now));
            }
            Event::ContainerFailedToStart { name, reason, message } => {
                let reason = ExitReason::FailedToStart(reason);
                let exit = Exit { code: START_ERROR_EXIT_CODE, reason, message: Some(message) };
                self.with(pod, &name, |_, record| record.exited(exit, now));
            }
            Event::ConfigurationFailed { name, message } => {
                self.with(pod, &name, |_, record| record.misconfigured(message, now));
            }
            Event::ConfigurationChanged => {
                self.containers.iter_mut().for_each(|record| record.reconfigured(now));
            }
            Event::HookEnded { name, run, hook, error } => {
                self.attended(pod, &name, run, now, |spec, record, ends| {
                    record.hook_ended(spec, hook, error.is_some(), ends, now)
                });
            }
            Event::ProbeEnded { name, run, kind, succeeded } => {
                self.attended(pod, &name, run, now, |spec, record, ends| {
                    record.probe_ended(spec, kind, succeeded, ends, now)
                });
            }
            Event::EphemeralAdded => {
                let added = pod.all_containers().count().saturating_sub(self.containers.len());
                let backoff = self.backoff;
                self.containers.extend((0..added).map(|_| ContainerRecord::new(backoff)));
            }
            Event::RestartRequested { name } => self.restart(pod, &name, now),
            Event::ConditionSet(condition) => self.conditions.set(condition, now),
            Event::ConditionRemoved { name } => self.conditions.remove(&name),
            Event::Evicted { message } => {
                if self.stage == Stage::Active {
                    self.eviction = Some(message);
                }
                self.end(Cause::Evicted, EVICTION_GRACE, now);
            }
            Event::StopRequested { cause, grace } => self.end(Cause::Stopped(cause), grace, now),
            Event::KillRequested { cause } => {
                self.end(Cause::Stopped(cause), Duration::ZERO, now);
                if let Stage::Ending(ending) = &mut self.stage {
                    ending.kill = true;
                }
            }
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
                self.with(pod, container, |_, record| record.start(*restart, now));
            }
            Action::Hook { container, hook, .. } => self.with(pod, container, |_, record| match hook {
                HookKind::PostStart => record.run.post_start_ordered = true,
                HookKind::PreStop => record.state.stop(Stopping::PreStop),
            }),
            Action::Probe { container, kind, .. } => {
                self.with(pod, container, |_, record| record.run.probe_mut(*kind).ordered(now.mono));
            }
            Action::Stop { container, .. } => {
                let asked = Stopping::Asked { at: now.mono };
                self.with(pod, container, |_, record| record.state.stop(asked));
            }
            Action::Kill { container } => {
                self.with(pod, container, |_, record| record.state.stop(Stopping::Killed));
            }
            Action::Finish { phase } => {
                if let Stage::Ending(Ending { cause, .. }) = self.stage {
                    self.stage = Stage::Finished { cause, phase: *phase, at: now };
                    self.refresh_conditions(pod, now);
                }
            }
            Action::WakeAt(_) => {}
        }
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

    /// Whether the pod's life is over.
    pub fn phase_is_final(&self) -> bool {
        matches!(self.stage, Stage::Finished { .. })
    }

    /// When its life was over.
    pub(super) fn finished_at(&self) -> Option<Time> {
        match self.stage {
            Stage::Finished { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Whether the pod is being ended or has ended: nothing is started any more.
    pub fn is_ending(&self) -> bool {
        self.stage != Stage::Active
    }

    /// What the container does; `None` for a name that the pod does not have.
    pub fn container(&self, pod: &Pod, name: &str) -> Option<&ContainerState> {
        self.record_of(pod, name).map(|record| &record.state)
    }

    /// How often the container was started again.
    pub fn restarts(&self, pod: &Pod, name: &str) -> u32 {
        self.record_of(pod, name).map_or(0, |record| record.restarts)
    }

    /// Whether the container is ready, as its status says.
    pub fn is_ready(&self, pod: &Pod, name: &str) -> bool {
        self.each(pod).any(|(spec, record)| spec.name == name && is_ready(spec, record))
    }

    /// Whether the pod ends, or has ended, because `activeDeadlineSeconds` is over.
    pub fn has_missed_deadline(&self) -> bool {
        matches!(
            self.stage,
            Stage::Ending(Ending { cause: Cause::DeadlineExceeded, .. })
                | Stage::Finished { cause: Cause::DeadlineExceeded, .. }
        )
    }

    /// The containers that live and shall end, and why.
    pub fn ending<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (&'a Container, StopReason)> {
        let live = self.each(pod).filter(|(_, record)| record.state.is_live());
        live.filter_map(|(spec, record)| Some((spec, self.stop_of(record)?.why)))
    }

    /// When a container that has ended is started again (monotonic); `None` when it is not.
    pub fn restart_at(&self, pod: &Pod, name: &str) -> Option<Duration> {
        let (spec, record) = self.each(pod).find(|(spec, _)| spec.name == name)?;
        record.restart_at(pod, spec).filter(|_| !self.is_ending())
    }

    /// Each container's specification with its record, init containers first.
    pub(super) fn each<'a>(
        &'a self,
        pod: &'a Pod,
    ) -> impl Iterator<Item = (&'a Container, &'a ContainerRecord)> {
        pod.all_containers().zip(&self.containers)
    }

    /// The records of the main containers.
    pub(super) fn mains(&self, pod: &Pod) -> impl Iterator<Item = &ContainerRecord> {
        self.containers.iter().skip(pod.init_containers.len()).take(pod.containers.len())
    }

    /// Whether all init containers have done their part, as the condition `Initialized` has it: once a
    /// main container has run, it stays true.
    pub(super) fn is_initialized(&self, pod: &Pod) -> bool {
        self.mains(pod).any(ContainerRecord::has_run)
            || self.each(pod).all(|(spec, record)| match spec.role {
                Role::Init | Role::Sidecar => has_initialized(spec, record),
                Role::Main | Role::Ephemeral => true,
            })
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

    /// When `activeDeadlineSeconds` is over, monotonic.
    pub(super) fn active_deadline(&self, pod: &Pod) -> Option<Duration> {
        pod.active_deadline.map(|limit| self.accepted_at.mono.saturating_add(limit))
    }

    /// That this container shall end, if it shall: for its own reason, or with the pod.
    pub(super) fn stop_of(&self, record: &ContainerRecord) -> Option<Stop> {
        let Stage::Ending(ending) = self.stage else { return record.run.stop };
        let why = record.run.stop.map_or(StopReason::PodEnds, |stop| stop.why);
        let deadline = record.run.stop.map_or(ending.deadline, |stop| stop.deadline.min(ending.deadline));
        Some(Stop { why, deadline, kill: ending.kill })
    }

    /// A hook or a probe of this run of a container is over, and the container may have to end for it.
    fn attended(
        &mut self,
        pod: &Pod,
        name: &str,
        run: u32,
        now: Time,
        change: impl FnOnce(&Container, &mut ContainerRecord, bool) -> Option<StopReason>,
    ) {
        let pod_ends = self.is_ending();
        self.with(pod, name, |spec, record| {
            if record.restarts != run || !record.state.is_running() {
                return;
            }
            let ends = pod_ends || record.run.stop.is_some();
            let Some(why) = change(spec, record, ends) else { return };
            let own = match why {
                StopReason::ProbeFailed(kind) => spec.probes.of(kind).and_then(|p| p.termination_grace),
                _ => None,
            };
            let deadline = now.mono.saturating_add(own.unwrap_or(pod.termination_grace));
            record.run.stop = Some(Stop { why, deadline, kill: false });
        });
    }

    /// The container shall start anew. One that ends already does so sooner at most.
    fn restart(&mut self, pod: &Pod, name: &str, now: Time) {
        let deadline = now.mono.saturating_add(pod.termination_grace);
        self.with(pod, name, |spec, record| {
            if record.state.is_live() && matches!(spec.role, Role::Main | Role::Sidecar) {
                let stop =
                    record.run.stop.get_or_insert(Stop { why: StopReason::Resized, deadline, kill: false });
                stop.deadline = stop.deadline.min(deadline);
            }
        });
    }

    fn record_of(&self, pod: &Pod, name: &str) -> Option<&ContainerRecord> {
        let index = pod.all_containers().position(|spec| spec.name == name)?;
        self.containers.get(index)
    }

    fn with(&mut self, pod: &Pod, name: &str, change: impl FnOnce(&Container, &mut ContainerRecord)) {
        let mut each = pod.all_containers().zip(&mut self.containers);
        if let Some((spec, record)) = each.find(|(spec, _)| spec.name == name) {
            change(spec, record);
        }
    }

    fn refresh_conditions(&mut self, pod: &Pod, now: Time) {
        let ended = self.phase_is_final();
        let initialized = self.is_initialized(pod);
        let counts = |role| matches!(role, Role::Main | Role::Sidecar);
        let containers_ready =
            !ended && self.each(pod).all(|(spec, record)| !counts(spec.role) || is_ready(spec, record));
        let gates_hold = pod.readiness_gates.iter().all(|gate| self.conditions.gate(gate).is_none());
        self.conditions.ready_to_start.set(self.sandbox_ready && !ended, now);
        self.conditions.initialized.set(initialized, now);
        self.conditions.containers_ready.set(containers_ready, now);
        self.conditions.ready.set(containers_ready && gates_hold, now);
    }
}
