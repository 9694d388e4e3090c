//! What the pure machine says is done.
//!
//! ```text
//! event ─► State::step ─┬─► Start ─────────► a runner task, or the next event: it is configured wrongly
//!                       ├─► Hook, Probe ───► an attendant of the container's run
//!                       ├─► Stop ──────────► its StopSender, its listeners, its waits for IPC
//!                       ├─► Kill ──────────► the runner's future is dropped
//!                       └─► WakeAt ────────► the timer
//! ```

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::container::stop::Stop;
use crate::pod::actions::{Action, StopReason};
use crate::pod::attend::{Attendants, Orders};
use crate::pod::control::Note;
use crate::pod::event::Event;
use crate::pod::probing::Place;
use crate::pod::status::DEADLINE_MESSAGE;
use crate::spec::{Container, Pod, RestartPolicy, Role};

impl Worker {
    /// Lets the machine decide about an event and does what it says, and so about what comes of that at once.
    pub(super) fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.step_once(event, &mut events);
        }
        let (state, spec) = (&self.state, &self.parts.spec);
        self.parts.timeline.look_for_ready(|container| state.is_ready(spec, container));
        self.changed = true;
    }

    /// `then`: where what comes of it at once is added. At most one for each container: one that could not be started is
    /// not started again at once.
    fn step_once(&mut self, event: Event, then: &mut VecDeque<Event>) {
        let now = self.clock.now();
        let missed = self.state.has_missed_deadline();
        let actions = self.state.step(&self.parts.spec, event, now);
        if self.state.has_missed_deadline() && !missed {
            self.note(false, "DeadlineExceeded", DEADLINE_MESSAGE.to_owned(), None);
        }
        self.note_killing();
        self.wake_at = None;
        for action in actions {
            match action {
                Action::Start { container, restart } => then.extend(self.start(container, restart)),
                Action::Hook { container, run, hook } => {
                    self.attend(&container, |attendants, orders, spec, place| {
                        attendants.order_hook(orders, spec, run, hook, place);
                    });
                }
                Action::Probe { container, run, kind } => {
                    self.attend(&container, |attendants, orders, spec, place| {
                        attendants.order_probe(orders, spec, run, kind, place);
                    });
                }
                Action::Stop { container, deadline, why } => {
                    let Some(running) = self.running.get(&container) else { continue };
                    // Asked again, it has another deadline.
                    if running.stop.ask(Stop { deadline, reason: why }) {
                        running.endpoint.stop_listening();
                        running.ipc.stop();
                    }
                }
                Action::Kill { container } => {
                    if let Some(running) = self.running.get_mut(&container) {
                        running.kill.take();
                    }
                }
                Action::WakeAt(at) => self.wake_at = Some(at),
                Action::Finish { .. } => {}
            }
        }
    }

    /// Has something done for a live container by an attendant.
    fn attend(&mut self, name: &str, order: impl FnOnce(&mut Attendants, &mut Orders, &Container, Place)) {
        let (Some(running), Some(spec)) = (self.running.get_mut(name), self.parts.spec.container(name))
        else {
            return;
        };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let place = Place {
            stack: Arc::clone(&self.parts.stack),
            address: self.parts.facts.pod_ips.first().copied().unwrap_or(loopback),
            target: running.target.clone(),
            patience: Duration::ZERO,
        };
        order(&mut self.attendants, &mut running.orders, spec, place);
    }

    /// Tells of each container that begins to end: before its `preStop` hook runs and its turn comes (`killContainer`
    /// in `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
    fn note_killing(&mut self) {
        let pod = Arc::clone(&self.parts.spec);
        let mut told = Vec::new();
        for (container, why) in self.state.ending(&pod) {
            if let Some(running) = self.running.get_mut(&container.name)
                && !std::mem::replace(&mut running.is_ending, true)
            {
                told.push((container.name.clone(), killing(&pod, container, why)));
            }
        }
        for (container, message) in told {
            self.note(false, "Killing", message, Some(&container));
        }
    }

    pub(super) fn note(&mut self, warning: bool, reason: &str, message: String, container: Option<&str>) {
        let (at, container) = (jiff::Timestamp::now(), container.map(str::to_owned));
        self.reports.note(Note { at, warning, reason: reason.to_owned(), message, container });
    }
}

/// What the Event says of a container that begins to end, in the kubelet's words (`computePodActions` and
/// `computeInitContainerActions` in `pkg/kubelet/kuberuntime`).
fn killing(pod: &Pod, container: &Container, why: StopReason) -> String {
    let name = &container.name;
    match why {
        StopReason::PodEnds => format!("Stopping container {name}"),
        StopReason::ProbeFailed(kind) => {
            let kind = kind.as_str().to_lowercase();
            let is_restarted = container.restart_policy.unwrap_or(pod.restart_policy) != RestartPolicy::Never;
            match container.role {
                Role::Init | Role::Sidecar => format!("Init container {name} failed {kind} probe"),
                _ if is_restarted => format!("Container {name} failed {kind} probe, will be restarted"),
                _ => format!("Container {name} failed {kind} probe"),
            }
        }
        StopReason::PostStartFailed => "FailedPostStartHook".to_owned(),
        StopReason::Resized => format!("Container {name} resize requires restart"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ProbeKind;
    use crate::testing::spec as testing;

    #[test]
    fn a_container_that_fails_a_probe_is_said_to_be_restarted_only_when_it_will_be() {
        let liveness = StopReason::ProbeFailed(ProbeKind::Liveness);
        let mut pod =
            testing::pod([testing::container("log", Role::Sidecar), testing::container("web", Role::Main)]);
        let told = |pod: &Pod, index: usize, why| killing(pod, pod.all_containers().nth(index).unwrap(), why);
        pod.restart_policy = RestartPolicy::OnFailure;
        assert_eq!(told(&pod, 1, liveness), "Container web failed liveness probe, will be restarted");
        assert_eq!(told(&pod, 0, liveness), "Init container log failed liveness probe");
        pod.restart_policy = RestartPolicy::Never;
        assert_eq!(told(&pod, 1, liveness), "Container web failed liveness probe");
        pod.containers[0].restart_policy = Some(RestartPolicy::Always);
        assert_eq!(told(&pod, 1, liveness), "Container web failed liveness probe, will be restarted");
        assert_eq!(told(&pod, 1, StopReason::PodEnds), "Stopping container web");
    }
}
