//! Another configuration for the running pod.
//!
//! ```text
//! Request::Configure ─► specification ─┬─► volumes made from it, one swap each ─► Configured
//!                                      └─► containers that wait for it
//! ```
//!
//! Variables are those of a container's next run, as in Kubernetes. The kubelet looks at ConfigMaps and Secrets once
//! in a while; here the files are there when the request is answered.

use std::sync::Arc;

use super::Worker;
use crate::pod::control::{Configuration, Report};

impl Worker {
    /// Changes what the pod is configured by, and answers.
    pub(super) fn configure(&mut self, id: u64, configuration: Configuration) {
        let error = self.reconfigure(configuration).err();
        self.reports.tell(&Report::Configured { id, error }, Vec::new());
    }

    fn reconfigure(&mut self, configuration: Configuration) -> Result<(), String> {
        configuration.apply(Arc::make_mut(&mut self.parts.spec))?;
        self.live.refresh(&self.parts.spec);
        let (_, errors) = self.parts.volumes.refresh(&self.parts.spec);
        for error in errors {
            // As the kubelet: what a container has mounted stays as it is (`FailedMountVolume` in
            // `pkg/kubelet/events/event.go`).
            self.note(true, "FailedMount", format!("MountVolume.SetUp failed: {error}"), None);
        }
        self.retry_configuration();
        Ok(())
    }
}
