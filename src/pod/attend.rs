//! The hooks and probes under way.
//!
//! ```text
//! Action::Hook, Action::Probe ─► Attendants::order ─► a task ─► Attended ─► Event, and what to tell
//!                                      │
//!                  Orders, held by the container's run: dropped with it, they end their tasks
//! ```

use tokio::task::{AbortHandle, JoinSet};

use super::event::Event;
use super::probing::{self, Outcome, Place};
use crate::spec::{Container, HookKind, ProbeKind};

/// All that is under way in the pod: at most one hook and one probe of each kind for each container.
#[derive(Default)]
pub(super) struct Attendants {
    tasks: JoinSet<Attended>,
}

/// What is under way for one run of a container.
#[derive(Default)]
pub(super) struct Orders {
    /// At most one: a `postStart` hook is abandoned when `preStop` begins.
    hook: Option<AbortHandle>,
    probes: Vec<AbortHandle>,
    /// Commands that others have begun in it.
    commands: Vec<AbortHandle>,
}

impl Orders {
    /// Ends this command, too, with the run.
    pub(super) fn hold(&mut self, command: AbortHandle) {
        self.commands.retain(|command| !command.is_finished());
        self.commands.push(command);
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        for order in self.hook.iter().chain(&self.probes).chain(&self.commands) {
            order.abort();
        }
    }
}

/// A hook or a probe that has ended.
pub(super) struct Attended {
    /// For the machine.
    pub event: Event,
    /// What there is to tell: the event's reason and message, when it is no success.
    pub told: Option<(&'static str, String)>,
}

impl Attendants {
    /// Runs a hook.
    pub(super) fn order_hook(
        &mut self,
        orders: &mut Orders,
        container: &Container,
        run: u32,
        kind: HookKind,
        place: Place,
    ) {
        let Some(hook) = container.hooks.of(kind).cloned() else { return };
        let name = container.name.clone();
        if let Some(abandoned) = orders.hook.take() {
            abandoned.abort();
        }
        orders.hook = Some(self.tasks.spawn(async move {
            let error = probing::hook(&hook, &place).await.err();
            // As in `pkg/kubelet/kuberuntime/kuberuntime_container.go`, and why.
            let (reason, what) = match kind {
                HookKind::PostStart => ("FailedPostStartHook", "PostStartHook failed"),
                HookKind::PreStop => ("FailedPreStopHook", "PreStopHook failed"),
            };
            let told = error.as_ref().map(|error| (reason, format!("{what}: {error}")));
            Attended { event: Event::HookEnded { name, run, hook: kind, error }, told }
        }));
    }

    /// Runs a probe once.
    pub(super) fn order_probe(
        &mut self,
        orders: &mut Orders,
        container: &Container,
        run: u32,
        kind: ProbeKind,
        place: Place,
    ) {
        let Some(probe) = container.probes.of(kind).cloned() else { return };
        let name = container.name.clone();
        orders.probes.retain(|order| !order.is_finished());
        orders.probes.push(self.tasks.spawn(async move {
            let (succeeded, told) = match probing::probe(&probe, &place).await {
                Outcome::Success => (true, None),
                Outcome::Warning(why) => {
                    (true, Some(("ProbeWarning", format!("{} probe warning: {why}", kind.as_str()))))
                }
                Outcome::Failure(why) => {
                    (false, Some(("Unhealthy", format!("{} probe failed: {why}", kind.as_str()))))
                }
            };
            Attended { event: Event::ProbeEnded { name, run, kind, succeeded }, told }
        }));
    }

    /// The next that has ended; never when there is none.
    pub(super) async fn next(&mut self) -> Attended {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(attended)) => return attended,
                // Its container has ended.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}
