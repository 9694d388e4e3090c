//! Another configuration for the running pod.
//!
//! ```text
//! Request::Configure ─► specification ─┬─► Refreshing: volumes made from it, one swap each ─► Configured
//! a resize ────────────────────────────┘      └─► containers that wait for it
//! ```
//!
//! Variables are those of a container's next run, as in Kubernetes. The kubelet looks at ConfigMaps and Secrets once
//! in a while; here the files are there when the request is answered.

use std::mem;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::Worker;
use crate::pod::control::{Configuration, Report};
use crate::volume::VolumeError;

/// The files of volumes on their way to what the specification says, on the blocking pool.
#[derive(Debug, Default)]
pub(super) struct Refreshing {
    /// At most one. What went wrong.
    task: JoinSet<Vec<VolumeError>>,
    /// Requests that are answered with it. The supervisor has one open at a time.
    answers: Vec<u64>,
    /// Whether the specification has changed since it began, and the requests that did that.
    next: Option<Vec<u64>>,
}

impl Refreshing {
    /// Waits for the end of what is under way. Safe to cancel.
    pub(super) async fn ended(&mut self) -> Option<Result<Vec<VolumeError>, JoinError>> {
        self.task.join_next().await
    }
}

impl Worker {
    /// Changes what the pod is configured by; answers when its volumes have it.
    pub(super) fn configure(&mut self, id: u64, configuration: Configuration) {
        if let Err(error) = configuration.apply(Arc::make_mut(&mut self.parts.spec)) {
            return self.reports.tell(&Report::Configured { id, error: Some(error) }, Vec::new());
        }
        self.live.refresh(&self.parts.spec);
        self.refresh(Some(id));
    }

    /// Makes the files of volumes what the specification says now.
    pub(super) fn refresh(&mut self, answer: Option<u64>) {
        let refreshing = &mut self.refreshing;
        if !refreshing.task.is_empty() {
            refreshing.next.get_or_insert_default().extend(answer);
            return;
        }
        refreshing.answers.extend(answer);
        match self.parts.volumes.refresh(&self.parts.spec) {
            Ok(refresh) if refresh.is_empty() => self.refreshed(Ok(Vec::new())),
            Ok(refresh) => {
                let spec = Arc::clone(&self.parts.spec);
                refreshing.task.spawn_blocking(move || refresh.run(&spec).1);
            }
            Err(error) => self.refreshed(Ok(vec![error])),
        }
    }

    /// The files are there, or as they were.
    pub(super) fn refreshed(&mut self, ended: Result<Vec<VolumeError>, JoinError>) {
        let errors = match ended {
            Ok(errors) => errors.iter().map(ToString::to_string).collect(),
            Err(error) => vec![format!("peapod failed while writing files (a bug): {error}")],
        };
        for error in errors {
            // As the kubelet: what a container has mounted stays as it is (`FailedMountVolume` in
            // `pkg/kubelet/events/event.go`).
            self.note(true, "FailedMount", format!("MountVolume.SetUp failed: {error}"), None);
        }
        self.retry_configuration();
        for id in mem::take(&mut self.refreshing.answers) {
            self.reports.tell(&Report::Configured { id, error: None }, Vec::new());
        }
        if let Some(answers) = self.refreshing.next.take() {
            self.refreshing.answers = answers;
            self.refresh(None);
        }
    }
}
