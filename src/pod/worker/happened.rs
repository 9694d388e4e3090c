//! What becomes of that which has happened: an event for the pure machine, and what the supervisor is told.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::start::Running;
use super::{Parts, Worker};
use crate::container::state::{Exit, ExitReason};
use crate::container::words::may_deceive;
use crate::pod::attend::Attended;
use crate::pod::control::{self, Report, Request};
use crate::pod::event::Event;
use crate::pod::exec::Order;

/// Characters of a message that are told when a container ends; the status has all of it.
const MAX_HEADLINE: usize = 200;

impl Worker {
    pub(super) fn has_started(&mut self, name: String) {
        self.parts.timeline.started(&name);
        if let Some(running) = self.running.get(&name) {
            let restarts = self.state.restarts(&self.parts.spec, &name);
            let took = running.ordered.elapsed();
            self.reports.event(control::Event::Started { container: name.clone(), restarts, took });
        }
        self.step(Event::ContainerStarted { name });
    }

    pub(super) fn has_ended(&mut self, name: String, exit: Exit) {
        self.parts.timeline.ended(&name);
        if let Some(running) = self.running.remove(&name) {
            running.endpoint.close();
        }
        self.resume_resize();
        let container = name.clone();
        let report = control::Event::Ended {
            container: name.clone(),
            code: exit.code.into(),
            reason: exit.reason.as_str().to_owned(),
            message: exit.message.as_deref().and_then(headline),
        };
        let event = match exit {
            Exit { reason: ExitReason::FailedToStart(reason), message, .. } => {
                Event::ContainerFailedToStart { name, reason, message: message.unwrap_or_default() }
            }
            exit => Event::ContainerExited { name, exit },
        };
        self.reports.event(report);
        self.step(event);
        // It may have written what others wait for; the kubelet syncs the pod then as well.
        self.retry_configuration();
        let delay = |at: Duration| at.saturating_sub(self.clock.now().mono);
        let delay = self.state.restart_at(&self.parts.spec, &container).map(delay);
        if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
            self.reports.event(control::Event::BackOff { container, delay });
        }
    }

    pub(super) fn attended(&mut self, Attended { event, told }: Attended) {
        let (Event::HookEnded { name, .. } | Event::ProbeEnded { name, .. }) = &event else { return };
        if let Some((reason, message)) = told {
            self.note(true, reason, message, Some(&name.clone()));
        }
        self.step(event);
        self.resume_resize();
    }

    pub(super) fn evicted(&mut self, message: String) {
        // One that ends already is told of as what it ends for.
        if !self.state.is_ending() {
            self.note(true, "Evicted", message.clone(), None);
            self.step(Event::Evicted { message });
        }
    }

    pub(super) fn requested(&mut self, request: Request, carried: Vec<OwnedFd>) {
        match request {
            Request::Stop { cause, grace } => {
                let own = self.parts.spec.termination_grace;
                let grace = grace.unwrap_or(own);
                self.step(Event::StopRequested { cause: cause.into(), grace });
            }
            Request::Kill { cause } => self.step(Event::KillRequested { cause: cause.into() }),
            Request::Resize(resize) => self.resize(resize.into()),
            Request::Configure { id, configuration } => self.configure(id, configuration),
            Request::SetConditions(conditions) => {
                for condition in conditions {
                    self.step(Event::ConditionSet(condition.into()));
                }
            }
            Request::Ask { id, question } => {
                let Parts { stack, timeline, ipc, .. } = &self.parts;
                self.answers.ask(id, question, stack, timeline, ipc);
            }
            Request::Exec { id, container, command, stdin, stdout, stderr } => {
                let order = Order { id, command, wanted: [stdin, stdout, stderr], carried };
                let running = self.running.get_mut(&container);
                let run = running.and_then(|Running { target, orders, .. }| Some((target.as_ref()?, orders)));
                self.execs.begin(run, order, &mut self.reports);
            }
            Request::CancelExec { id } => self.execs.cancel(id),
            Request::Prepared { id, outcome } => self.execs.prepared(id, outcome, carried),
            Request::AddEphemeral { id, addition } => {
                let error = self.add_ephemeral(*addition, carried).err();
                self.reports.tell(&Report::EphemeralAdded { id, error }, Vec::new());
            }
        }
    }
}

/// The first line of a message, for a line on the user's terminal: a guest may have written it.
fn headline(message: &str) -> Option<String> {
    let line = message.lines().find(|line| !line.trim().is_empty())?;
    let shown = line.chars().take(MAX_HEADLINE).map(|c| if may_deceive(c) { '\u{fffd}' } else { c });
    Some(shown.collect())
}
