//! What the worker holds of all commands: those under way, and what they need of the supervisor.
//!
//! ```text
//! Request::Exec ─► begin ─► Sessions ──┐
//! a probe's, a command's component ────┴─► next ─► ExecEvent ─► happened ─► Report
//! Request::Prepared ─► prepared ─► whoever waits for it
//! ```

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use tokio::sync::{mpsc, oneshot};

use super::{Components, Ended, Order, Sessions, Target, Wanted};
use crate::pod::attend::Orders;
use crate::pod::control::{Preparation, Report};
use crate::pod::reports::Reports;

/// Components that the supervisor compiles at the same time; the next wait in their queue.
const MAX_PREPARED: usize = 4;

/// All commands of the pod.
pub(in crate::pod) struct Execs {
    sessions: Sessions,
    components: Components,
    wanted: mpsc::Receiver<Wanted>,
    next_id: u64,
    prepared: HashMap<u64, oneshot::Sender<(Preparation, Option<OwnedFd>)>>,
}

/// Something happened to a command.
pub(in crate::pod) enum ExecEvent {
    /// It has ended.
    Ended(Ended),
    /// It needs a component.
    Wanted(Wanted),
}

impl Execs {
    pub(in crate::pod) fn new(components: Components, wanted: mpsc::Receiver<Wanted>) -> Self {
        Self { sessions: Sessions::default(), components, wanted, next_id: 0, prepared: HashMap::new() }
    }

    pub(in crate::pod) fn components(&self) -> &Components {
        &self.components
    }

    /// Begins a command in a container's run, or tells why not.
    pub(in crate::pod) fn begin(
        &mut self,
        run: Option<(&Target, &mut Orders)>,
        order: Order,
        reports: &mut Reports,
    ) {
        let Some((target, orders)) = run else {
            let message = Some("the container does not run".to_owned());
            return tell(Ended { id: order.id, code: 125, message }, reports);
        };
        match self.sessions.begin(target, order) {
            Ok(task) => orders.hold(task),
            Err(ended) => tell(ended, reports),
        }
    }

    pub(in crate::pod) fn cancel(&mut self, id: u64) {
        self.sessions.cancel(id);
    }

    /// The next event; never when there is none. Safe to cancel.
    pub(in crate::pod) async fn next(&mut self) -> ExecEvent {
        tokio::select! {
            ended = self.sessions.next() => ExecEvent::Ended(ended),
            Some(wanted) = self.wanted.recv(), if self.prepared.len() < MAX_PREPARED => ExecEvent::Wanted(wanted),
        }
    }

    pub(in crate::pod) fn happened(&mut self, event: ExecEvent, reports: &mut Reports) {
        match event {
            ExecEvent::Ended(ended) => tell(ended, reports),
            ExecEvent::Wanted(Wanted { name, file, answer }) => {
                let id = self.next_id;
                self.next_id += 1;
                self.prepared.insert(id, answer);
                reports.tell(&Report::Prepare { id, name }, vec![file]);
            }
        }
    }

    /// The supervisor's answer.
    pub(in crate::pod) fn prepared(&mut self, id: u64, outcome: Preparation, carried: Vec<OwnedFd>) {
        if let Some(answer) = self.prepared.remove(&id) {
            // A command that has been ended wants no answer.
            let _ = answer.send((outcome, carried.into_iter().next()));
        }
    }
}

fn tell(Ended { id, code, message }: Ended, reports: &mut Reports) {
    reports.tell(&Report::ExecEnded { id, code, message }, Vec::new());
}
