//! The hooks and probes under way.
//!
//! ```text
//! Action::Hook, Action::Probe ─► Attendants::order ─► a task ─► Attended ─► Event, and what to tell
//!                                      │
//!                  Orders, held by the container's run: dropped with it, they end their tasks
//! ```

use std::collections::HashMap;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::event::Event;
use super::probing::{self, FIRST_PATIENCE, Outcome, Place};
use crate::spec::{Container, HookKind, ProbeKind};

/// All that is under way in the pod: at most one hook and one probe of each kind for each container.
#[derive(Default)]
pub(super) struct Attendants {
    tasks: JoinSet<Attended>,
    /// What fails with a task that panics.
    errands: HashMap<Id, Errand>,
}

/// A hook or a probe of one run of a container.
struct Errand {
    container: String,
    run: u32,
    what: What,
}

enum What {
    Hook(HookKind),
    Probe(ProbeKind),
}

/// What is under way for one run of a container.
#[derive(Default)]
pub(super) struct Orders {
    /// At most one: a `postStart` hook is abandoned when `preStop` begins.
    hook: Option<AbortHandle>,
    probes: Vec<AbortHandle>,
    /// The kinds that it has been probed for.
    probed: Vec<ProbeKind>,
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
        let mut place = place;
        if kind == HookKind::PostStart {
            place.patience = FIRST_PATIENCE;
        }
        let name = container.name.clone();
        if let Some(abandoned) = orders.hook.take() {
            abandoned.abort();
        }
        let errand = Errand { container: name.clone(), run, what: What::Hook(kind) };
        orders.hook = Some(self.spawn(errand, async move {
            let error = probing::hook(&hook, &place).await.err();
            hook_ended(name, run, kind, error)
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
        let mut place = place;
        if !orders.probed.contains(&kind) {
            orders.probed.push(kind);
            place.patience = FIRST_PATIENCE;
        }
        let name = container.name.clone();
        orders.probes.retain(|order| !order.is_finished());
        let errand = Errand { container: name.clone(), run, what: What::Probe(kind) };
        orders.probes.push(self.spawn(errand, async move {
            probe_ended(name, run, kind, probing::probe(&probe, &place).await)
        }));
    }

    fn spawn(
        &mut self,
        errand: Errand,
        task: impl Future<Output = Attended> + Send + 'static,
    ) -> AbortHandle {
        let task = self.tasks.spawn(task);
        self.errands.insert(task.id(), errand);
        task
    }

    /// The next that has ended; never when there is none. Safe to cancel.
    pub(super) async fn next(&mut self) -> Attended {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(Ok((task, attended))) => {
                    self.errands.remove(&task);
                    return attended;
                }
                Some(Err(error)) => {
                    let errand = self.errands.remove(&error.id());
                    // Else its container has ended.
                    if error.is_panic()
                        && let Some(errand) = errand
                    {
                        return errand.failed(format!("peapod failed while it ran (a bug): {error}"));
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
}

impl Errand {
    fn failed(self, why: String) -> Attended {
        let Self { container, run, what } = self;
        match what {
            What::Hook(kind) => hook_ended(container, run, kind, Some(why)),
            What::Probe(kind) => probe_ended(container, run, kind, Outcome::Failure(why)),
        }
    }
}

fn hook_ended(name: String, run: u32, hook: HookKind, error: Option<String>) -> Attended {
    // As in `pkg/kubelet/kuberuntime/kuberuntime_container.go`, and why.
    let (reason, what) = match hook {
        HookKind::PostStart => ("FailedPostStartHook", "PostStartHook failed"),
        HookKind::PreStop => ("FailedPreStopHook", "PreStopHook failed"),
    };
    let told = error.as_ref().map(|error| (reason, format!("{what}: {error}")));
    Attended { event: Event::HookEnded { name, run, hook, error }, told }
}

fn probe_ended(name: String, run: u32, kind: ProbeKind, outcome: Outcome) -> Attended {
    let (succeeded, told) = match outcome {
        Outcome::Success => (true, None),
        Outcome::Warning(why) => {
            (true, Some(("ProbeWarning", format!("{} probe warning: {why}", kind.as_str()))))
        }
        Outcome::Failure(why) => {
            (false, Some(("Unhealthy", format!("{} probe failed: {why}", kind.as_str()))))
        }
    };
    Attended { event: Event::ProbeEnded { name, run, kind, succeeded }, told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_that_panics_has_failed_and_one_that_was_abandoned_says_nothing() {
        let mut attendants = Attendants::default();
        let errand =
            |run| Errand { container: "web".to_owned(), run, what: What::Probe(ProbeKind::Liveness) };
        attendants.spawn(errand(1), std::future::pending()).abort();
        attendants.spawn(errand(2), async { panic!("for the test") });
        let Attended { event, told } = attendants.next().await;
        let failed =
            Event::ProbeEnded { name: "web".to_owned(), run: 2, kind: ProbeKind::Liveness, succeeded: false };
        assert_eq!(event, failed);
        assert_eq!(told.unwrap().0, "Unhealthy");
        let more = tokio::time::timeout(std::time::Duration::from_millis(1), attendants.next()).await;
        assert!(more.is_err());
        assert!(attendants.errands.is_empty());
    }
}
