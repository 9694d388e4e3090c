//! Containers that are added to the running pod.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Worker;
use crate::pod::additions;
use crate::pod::control::Addition;
use crate::pod::event::Event;

impl Worker {
    /// Adds an ephemeral container to the pod; the machine decides about its start.
    pub(super) fn add_ephemeral(&mut self, addition: Addition, carried: Vec<OwnedFd>) -> Result<(), String> {
        if self.state.is_ending() {
            return Err("the pod is ending".to_owned());
        }
        let container = additions::check(&addition, &self.parts.spec)?;
        let code = carried.into_iter().next().ok_or("the machine code was lost on the way")?;
        let path = addition.path.to_string_lossy();
        let program = self.execs.components().link(code, &addition.digest, &addition.wasi, &path);
        let program = program.map_err(|error| error.message)?;
        self.parts.facts.image_ids.insert(container.name.clone(), program.digest().to_owned());
        self.parts.programs.insert(container.name.clone(), program);
        let pod = Arc::make_mut(&mut self.parts.spec);
        pod.ephemeral_containers.push(container);
        pod.generation = pod.generation.max(addition.generation);
        self.step(Event::EphemeralAdded);
        Ok(())
    }
}
