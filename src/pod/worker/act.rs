//! What the pure machine says is done.
//!
//! ```text
//! event ─► State::step ─┬─► Start ─────────► a runner task
//!                       ├─► Hook, Probe ───► an attendant of the container's run
//!                       ├─► Stop ──────────► its StopSender, its listeners
//!                       ├─► Kill ──────────► the runner's future is dropped
//!                       └─► WakeAt ────────► the timer
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Worker;
use crate::container::stop::Stop;
use crate::pod::actions::{Action, StopReason};
use crate::pod::attend::{Attendants, Orders};
use crate::pod::control::Note;
use crate::pod::event::Event;
use crate::pod::probing::Place;
use crate::pod::status::DEADLINE_MESSAGE;
use crate::spec::Container;

impl Worker {
    /// Lets the machine decide about an event and does what it says.
    pub(super) fn step(&mut self, event: Event) {
        let now = self.clock.now();
        let (missed, evicted) = (self.state.has_missed_deadline(), evicted(&event));
        let actions = self.state.step(&self.parts.spec, event, now);
        if let Some(message) = evicted {
            self.note(true, "Evicted", message, None);
        }
        if self.state.has_missed_deadline() && !missed {
            self.note(false, "DeadlineExceeded", DEADLINE_MESSAGE.to_owned(), None);
        }
        self.wake_at = None;
        for action in actions {
            match action {
                Action::Start { container, restart } => self.start(container, restart),
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
                        let message = self.killing(&container, why);
                        self.note(false, "Killing", message, Some(&container));
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
        let (state, spec) = (&self.state, &self.parts.spec);
        self.parts.timeline.look_for_ready(|container| state.is_ready(spec, container));
        self.changed = true;
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
        };
        order(&mut self.attendants, &mut running.orders, spec, place);
    }

    /// What the Event says of a container that is asked to end, in the kubelet's words.
    fn killing(&self, container: &str, why: StopReason) -> String {
        match why {
            StopReason::PodEnds => format!("Stopping container {container}"),
            StopReason::ProbeFailed(kind) => {
                let kind = kind.as_str().to_lowercase();
                format!("Container {container} failed {kind} probe, will be restarted")
            }
            StopReason::PostStartFailed => format!("Container {container} failed its PostStart hook"),
            StopReason::Resized => format!("Container {container} resize requires restart"),
        }
    }

    pub(super) fn note(&mut self, warning: bool, reason: &str, message: String, container: Option<&str>) {
        let (at, container) = (jiff::Timestamp::now(), container.map(str::to_owned));
        self.reports.note(Note { at, warning, reason: reason.to_owned(), message, container });
    }
}

/// The eviction's message, if that is what happened.
fn evicted(event: &Event) -> Option<String> {
    match event {
        Event::Evicted { message } => Some(message.clone()),
        _ => None,
    }
}
