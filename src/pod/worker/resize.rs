//! Other resources for the running pod.
//!
//! ```text
//! Request::Resize ─► accounts, specification ─┬─► Resized, ResizeCompleted; volumes
//!                    (what fits, at once)     └─► PodResizeInProgress ─► again whenever a container has ended
//! ```

use std::sync::Arc;

use super::Worker;
use crate::pod::control::Note;
use crate::pod::event::Event;
use crate::pod::resize::{self, Resize};

impl Worker {
    /// Gives the containers other resources, or starts them anew where they want that.
    pub(super) fn resize(&mut self, resize: Resize) {
        let restarts = resize.restarts(&self.parts.spec);
        let error = self.actuate(&resize).err();
        for name in restarts {
            self.step(Event::RestartRequested { name });
        }
        let generation = resize.generation;
        self.resizing = error.is_some().then_some(resize);
        self.resized(generation, error);
    }

    /// Brings a resize to its end, once what was in its way may be gone.
    pub(super) fn resume_resize(&mut self) {
        let Some(resize) = self.resizing.take() else { return };
        match self.actuate(&resize) {
            Ok(()) => self.resized(resize.generation, None),
            Err(_) => self.resizing = Some(resize),
        }
    }

    fn resized(&mut self, generation: i64, error: Option<String>) {
        let (warning, reason, message) = match &error {
            None => (false, "ResizeCompleted", format!("Pod resize completed: generation {generation}")),
            Some(error) => (true, "ResizeError", format!("Pod resize error: {error}")),
        };
        let (at, reason) = (jiff::Timestamp::now(), reason.to_owned());
        self.reports.note(Note { at, warning, reason, message, container: None });
        self.step(resize::in_progress(error.clone()));
        self.reports.resized(generation, error);
        self.changed = true;
    }

    /// Changes the accounts, and the specification to what is in force then.
    ///
    /// # Errors
    /// What is in the way of the rest.
    fn actuate(&mut self, resize: &Resize) -> Result<(), String> {
        let mut pod = resize.apply(&self.parts.spec);
        let mut errors = Vec::new();
        if let Err(error) = self.memory.set_limit(pod.resources.memory_limit_bytes) {
            pod.resources.memory_limit_bytes = self.memory.limit();
            errors.push(format!("pod: {error}"));
        }
        for container in resize::containers_mut(&mut pod) {
            if let Some(account) = self.accounts.get(&container.name)
                && let Err(error) = account.resize(&container.resources)
            {
                container.resources.memory_limit_bytes = account.memory.limit();
                errors.push(format!("container {}: {error}", container.name));
            }
        }
        self.parts.spec = Arc::new(pod);
        // Files of the downward API say what the resources are.
        self.live.refresh(&self.parts.spec);
        self.refresh(None);
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }
}
