//! What the pod keeps of each of its containers, and the rules about a single one. Pure.
//!
//! ```text
//! ContainerRecord ─┬─ state, restarts, previous, backoff: over all its runs
//!                  └─ run: what is known of one run only; a start begins it anew
//! ```

use std::time::Duration;

use super::actions::StopReason;
use super::backoff::{Backoff, BackoffPolicy};
use super::probe::Probing;
use super::stop::Stop;
use super::time::Time;
use crate::container::state::{ContainerState, Exit, Stopping, Termination};
use crate::spec::{Container, HookKind, Pod, ProbeKind, RestartPolicy, Role};

/// How long a container whose configuration is wrong waits before it is tried again, unless something changes. The
/// kubelet tries again with its next sync of the pod (`backOffPeriod` in `pkg/kubelet/kubelet.go`, to which it falls
/// back after an error).
pub const CONFIGURATION_RETRY: Duration = Duration::from_secs(10);

/// One container of the pod, over all its runs.
#[derive(Debug, Clone)]
pub(super) struct ContainerRecord {
    pub state: ContainerState,
    /// How often it was started again.
    pub restarts: u32,
    /// The end of the run before this one.
    pub previous: Option<Termination>,
    pub backoff: Backoff,
    /// The present run, or the last one.
    pub run: Run,
    /// Why it could not be started when that was tried last, if it could not. It then is what it was before.
    pub misconfigured: Option<Misconfigured>,
    /// What it was before the start that is not answered yet.
    before: Option<Box<ContainerRecord>>,
}

/// A start that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misconfigured {
    /// What is missing or wrong.
    pub message: String,
    /// When it is tried again, monotonic.
    pub retry_at: Duration,
}

/// One run of a container.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// Since when (monotonic) it is shown as running: its `postStart` hook is over, if it has one.
    pub shown_since: Option<Duration>,
    /// Since when (monotonic) `started` holds: the startup probe has passed too, if it has one.
    pub started_since: Option<Duration>,
    /// Whether its `postStart` hook was ordered.
    pub post_start_ordered: bool,
    /// That it shall end although the pod does not.
    pub stop: Option<Stop>,
    probes: [Probing; 3],
}

impl Run {
    pub(super) fn probe(&self, kind: ProbeKind) -> &Probing {
        match kind {
            ProbeKind::Startup => &self.probes[0],
            ProbeKind::Liveness => &self.probes[1],
            ProbeKind::Readiness => &self.probes[2],
        }
    }

    pub(super) fn probe_mut(&mut self, kind: ProbeKind) -> &mut Probing {
        match kind {
            ProbeKind::Startup => &mut self.probes[0],
            ProbeKind::Liveness => &mut self.probes[1],
            ProbeKind::Readiness => &mut self.probes[2],
        }
    }
}

impl ContainerRecord {
    pub(super) fn new(backoff: BackoffPolicy) -> Self {
        Self {
            state: ContainerState::Waiting,
            restarts: 0,
            previous: None,
            backoff: Backoff::new(backoff),
            run: Run::default(),
            misconfigured: None,
            before: None,
        }
    }

    /// Whether a start was ever ordered.
    pub(super) fn has_begun(&self) -> bool {
        self.state != ContainerState::Waiting
    }

    /// Whether its state is shown as Running: its code runs and its `postStart` hook is over.
    pub(super) fn is_shown_running(&self) -> bool {
        self.state.is_running() && self.run.shown_since.is_some()
    }

    /// `started` of its status (`isContainerStarted` in `pkg/kubelet/prober/prober_manager.go`).
    pub(super) fn is_started(&self) -> bool {
        self.state.is_running() && self.run.started_since.is_some()
    }

    /// Whether a run of it ever came to be, or ended in the attempt.
    pub(super) fn has_run(&self) -> bool {
        self.restarts > 0 || self.is_shown_running() || self.state.termination().is_some()
    }

    /// Whether its `postStart` hook, if it has one, holds up what comes next.
    pub(super) fn is_held_by_post_start(&self, spec: &Container) -> bool {
        spec.hooks.post_start.is_some() && self.state.is_live() && self.run.shown_since.is_none()
    }

    /// The end of its latest ended run.
    pub(super) fn last_termination(&self) -> Option<&Termination> {
        self.state.termination().or(self.previous.as_ref())
    }

    /// Whether it is an ended run with code 0.
    pub(super) fn has_succeeded(&self) -> bool {
        self.state.termination().is_some_and(|t| t.exit.code == 0)
    }

    /// Whether it has ended and is not started again, as long as the pod is active.
    pub(super) fn is_over(&self, pod: &Pod, spec: &Container) -> bool {
        self.state.termination().is_some() && self.restart_at(pod, spec).is_none()
    }

    /// When an ended container is started again (monotonic), as long as the pod is active. What was stopped
    /// for a resize waits for nothing.
    pub(super) fn restart_at(&self, pod: &Pod, spec: &Container) -> Option<Duration> {
        let ended = self.state.termination()?;
        let why = self.run.stop.map(|stop| stop.why);
        let ended_at = ended.finished_at.mono;
        match why {
            Some(StopReason::Resized) => Some(ended_at),
            _ => is_restarted(pod, spec, &ended.exit, why).then(|| self.backoff.ready_at(ended_at)),
        }
        .map(|at| at.max(self.not_before()))
    }

    /// When it may be started, monotonic, as far as its configuration goes.
    pub(super) fn not_before(&self) -> Duration {
        self.misconfigured.as_ref().map_or(Duration::ZERO, |wrong| wrong.retry_at)
    }

    /// A start was ordered.
    pub(super) fn start(&mut self, restart: u32, now: Time) {
        if self.state.is_live() {
            return;
        }
        self.before = Some(Box::new(Self { before: None, ..self.clone() }));
        self.misconfigured = None;
        let was_resized = self.run.stop.is_some_and(|stop| stop.why == StopReason::Resized);
        self.previous = self.state.start();
        if let Some(ended) = &self.previous {
            self.restarts = restart;
            if !was_resized {
                self.backoff.restarted(ended.finished_at.mono, now.mono);
            }
        }
        self.run = Run::default();
    }

    /// It ended, or could not be started. No effect unless it is live.
    pub(super) fn exited(&mut self, exit: Exit, now: Time) {
        self.before = None;
        self.state.exited(exit, now);
    }

    /// The start that was ordered is taken back. No effect unless it is starting.
    pub(super) fn misconfigured(&mut self, message: String, now: Time) {
        if !matches!(self.state, ContainerState::Starting { .. }) {
            return;
        }
        if let Some(before) = self.before.take() {
            let retry_at = now.mono.saturating_add(CONFIGURATION_RETRY);
            *self = Self { misconfigured: Some(Misconfigured { message, retry_at }), ..*before };
        }
    }

    /// It is tried again now, if it waits for that.
    pub(super) fn reconfigured(&mut self, now: Time) {
        if let Some(wrong) = &mut self.misconfigured {
            wrong.retry_at = wrong.retry_at.min(now.mono);
        }
    }

    /// Its code runs.
    pub(super) fn started(&mut self, spec: &Container, now: Time) {
        if matches!(self.state, ContainerState::Starting { .. }) {
            self.before = None;
            self.state.started(now);
            if spec.hooks.post_start.is_none() {
                self.show(spec, now);
            }
        }
    }

    /// Nothing keeps it from being shown as running any more.
    fn show(&mut self, spec: &Container, now: Time) {
        self.run.shown_since = Some(now.mono);
        if spec.probes.startup.is_none() {
            self.run.started_since = Some(now.mono);
        }
    }

    /// A hook that was ordered is over. `ends`: the container shall end; a `postStart` that still ran was
    /// abandoned. Returns that it has to end now.
    pub(super) fn hook_ended(
        &mut self,
        spec: &Container,
        hook: HookKind,
        failed: bool,
        ends: bool,
        now: Time,
    ) -> Option<StopReason> {
        match hook {
            HookKind::PreStop if self.state.stopping() == Some(Stopping::PreStop) => {
                self.state.stop(Stopping::Prepared);
            }
            HookKind::PostStart if self.run.post_start_ordered && self.run.shown_since.is_none() && !ends => {
                if failed {
                    return Some(StopReason::PostStartFailed);
                }
                self.show(spec, now);
            }
            HookKind::PreStop | HookKind::PostStart => {}
        }
        None
    }

    /// A probe that was ordered is over. Returns that the container has to end now.
    pub(super) fn probe_ended(
        &mut self,
        spec: &Container,
        kind: ProbeKind,
        succeeded: Option<bool>,
        ends: bool,
        now: Time,
    ) -> Option<StopReason> {
        let probing = self.run.probe_mut(kind);
        probing.answered(spec.probes.of(kind)?, succeeded);
        match (kind, probing.verdict) {
            (ProbeKind::Startup, Some(true)) if self.run.started_since.is_none() => {
                self.run.started_since = Some(now.mono);
                None
            }
            (ProbeKind::Startup | ProbeKind::Liveness, Some(false)) if !ends => {
                Some(StopReason::ProbeFailed(kind))
            }
            _ => None,
        }
    }
}

/// Whether a container that ended like this is started again, as long as the pod is active
/// (`ContainerShouldRestart` in `pkg/api/v1/pod/util.go`, and `computeInitContainerActions` in
/// `pkg/kubelet/kuberuntime/kuberuntime_container.go`). What was stopped because it had failed, `why`, is so
/// whatever it then ended with, unless its policy is Never (`computePodActions` in
/// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
pub(super) fn is_restarted(pod: &Pod, spec: &Container, exit: &Exit, why: Option<StopReason>) -> bool {
    let had_failed = matches!(why, Some(StopReason::ProbeFailed(_) | StopReason::PostStartFailed));
    let by_rule = || spec.restart_rules.iter().any(|rule| rule.applies_to(exit.code));
    let by_policy = || match spec.restart_policy.unwrap_or(pod.restart_policy) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit.code != 0 || had_failed,
        RestartPolicy::Never => false,
    };
    match spec.role {
        Role::Sidecar => true,
        Role::Ephemeral => false,
        // One that has done its work is not run again.
        Role::Init if exit.code == 0 => false,
        Role::Init | Role::Main => by_rule() || by_policy(),
    }
}

/// Whether an init container has done its part: it succeeded, or, as a sidecar, it has started.
pub(super) fn has_initialized(spec: &Container, record: &ContainerRecord) -> bool {
    match spec.role {
        Role::Sidecar => record.is_started(),
        _ => record.has_succeeded(),
    }
}

/// `ready` of a container's status (`UpdatePodStatus` in `pkg/kubelet/prober/prober_manager.go`). Without
/// probes a container is ready while it runs, and an init container once it has succeeded.
pub(super) fn is_ready(spec: &Container, record: &ContainerRecord) -> bool {
    match spec.role {
        Role::Init => record.has_succeeded(),
        Role::Sidecar | Role::Main => {
            let passes = || record.run.probe(ProbeKind::Readiness).verdict == Some(true);
            record.is_started() && (spec.probes.readiness.is_none() || passes())
        }
        Role::Ephemeral => false,
    }
}
