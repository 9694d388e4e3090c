//! How one container of the pod is brought to its end. Pure.
//!
//! ```text
//!      preStop, if it runs and has one      its turn         grace is over
//! No ─────────────────────────► PreStop ─► Prepared ─► Asked ───────────► Killed
//!                                  └── grace is over ──► Asked, for MIN_STOP_WINDOW
//! ```
//!
//! The kubelet's `killContainer` (`pkg/kubelet/kuberuntime/kuberuntime_container.go`): the hook of every
//! container runs at once and counts within the grace period; then a sidecar waits for its turn
//! (`pkg/kubelet/kuberuntime/kuberuntime_termination_order.go`), at most as long as grace lasts; whoever is
//! asked has [`MIN_STOP_WINDOW`] at least. A kill request waits for nothing.

use std::time::Duration;

use super::actions::{Action, StopReason};
use super::record::ContainerRecord;
use super::state::State;
use crate::container::state::Stopping;
use crate::spec::{Container, HookKind, Pod, Role};

/// The least time a container has between being asked to end and being killed, however late its turn
/// came (`minimumGracePeriodInSeconds` in `pkg/kubelet/kuberuntime/kuberuntime_container.go`). A kill
/// request does not wait for it.
pub const MIN_STOP_WINDOW: Duration = Duration::from_secs(2);

/// That a container shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    /// Why. The first reason stays.
    pub why: StopReason,
    /// When grace is over, monotonic. Only moves closer.
    pub deadline: Duration,
    /// Whether grace was taken back altogether.
    pub kill: bool,
}

/// What is next in the stop of a container.
pub(super) enum Next {
    /// This, now; and what follows comes at this moment (monotonic), unless an event brings it before.
    Act(Action, Duration),
    /// Nothing before this moment, or an event.
    Wait(Duration),
    /// It is killed, now.
    Kill,
    /// Nothing but its exit is missing.
    Exit,
}

/// What is next in the stop of a live container at `now`.
pub(super) fn next(
    spec: &Container,
    record: &ContainerRecord,
    stop: Stop,
    is_turn: bool,
    now: Duration,
) -> Next {
    let container = || spec.name.clone();
    let runs = record.state.is_running();
    match record.state.stopping() {
        None | Some(Stopping::Killed) => Next::Exit,
        Some(_) if stop.kill => Next::Kill,
        Some(Stopping::Asked { at }) => match stop.deadline.max(at.saturating_add(MIN_STOP_WINDOW)) {
            kill_at if kill_at <= now => Next::Kill,
            kill_at => Next::Wait(kill_at),
        },
        Some(Stopping::No) if runs && spec.hooks.pre_stop.is_some() && now < stop.deadline => {
            let run = record.restarts;
            let hook = Action::Hook { container: container(), run, hook: HookKind::PreStop };
            Next::Act(hook, stop.deadline)
        }
        Some(Stopping::PreStop) if now < stop.deadline => Next::Wait(stop.deadline),
        Some(Stopping::No | Stopping::PreStop | Stopping::Prepared) => {
            if is_turn || stop.deadline <= now {
                let deadline = stop.deadline.max(now.saturating_add(MIN_STOP_WINDOW));
                Next::Act(Action::Stop { container: container(), deadline, why: stop.why }, deadline)
            } else {
                Next::Wait(stop.deadline)
            }
        }
    }
}

/// Whose turn it is to be asked when the pod ends: a sidecar's only when no main container and no later
/// sidecar lives, all others' at once.
pub(super) struct Order {
    a_main_lives: bool,
    last_sidecar: Option<usize>,
}

impl Order {
    pub(super) fn of(pod: &Pod, state: &State) -> Self {
        let mut order = Self { a_main_lives: false, last_sidecar: None };
        let live = state.each(pod).enumerate().filter(|(_, (_, record))| record.state.is_live());
        for (index, (spec, _)) in live {
            match spec.role {
                Role::Main => order.a_main_lives = true,
                Role::Sidecar => order.last_sidecar = Some(index),
                Role::Init | Role::Ephemeral => {}
            }
        }
        order
    }

    /// Whether the container at this place may be asked.
    pub(super) fn is_turn(&self, index: usize, role: Role) -> bool {
        role != Role::Sidecar || (!self.a_main_lives && self.last_sidecar == Some(index))
    }
}
