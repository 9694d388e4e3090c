//! Images that the running pod needs: of containers that are added to it, and of commands.
//!
//! ```text
//! pod process ─ Prepare + file ──┐                                  ┌─► Prepared + code ─► pod process
//!                                ├─► prepare::prepared (a process) ─┤
//! client ─ EphemeralContainer ───┘   `preparations`                 └─► AddEphemeral + code ─► pod process
//!             └─► check                                                 `additions`: until EphemeralAdded
//! ```

use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use tokio::sync::oneshot;

use super::super::additions;
use super::super::prepare::{self, Component, Prepared};
use super::{MAX_OPEN, Outgoing, Questions};
use crate::api::server::Failure;
use crate::pod::control::{Addition, Preparation, Request};
use crate::spec::Container;

pub(super) struct Adding {
    container: EphemeralContainer,
    checked: Container,
    /// The pod's with it.
    generation: i64,
    answer: oneshot::Sender<Result<Pod, Failure>>,
}

/// What a preparation is for.
pub(super) enum For {
    /// The pod process, which asked with this id.
    PodProcess(u64),
    /// A container that is to be added.
    Addition(Box<EphemeralContainer>, Box<Container>, oneshot::Sender<Result<Pod, Failure>>),
}

/// A panic, which is peapod's own fault, is an answer too: whoever asked waits for one, and has no place for another
/// question until then.
async fn prepared(component: Component) -> Prepared {
    let name = component.name();
    let prepared = AssertUnwindSafe(prepare::prepared(component)).catch_unwind().await;
    prepared.unwrap_or_else(|_| prepare::host_failure(&name, "peapod failed while preparing it (a bug)"))
}

impl Questions<'_> {
    /// Checks the container and has its image prepared.
    pub(super) fn add_ephemeral(
        &mut self,
        container: Box<EphemeralContainer>,
        answer: oneshot::Sender<Result<Pod, Failure>>,
    ) {
        match additions::check(&container, &self.spec, &self.pod, &self.directory) {
            Ok(checked) if self.preparations.len() + self.additions.len() < MAX_OPEN => {
                let component = Component::Path(checked.image.path().to_owned());
                let purpose = For::Addition(container, Box::new(checked), answer);
                self.preparations.spawn(async move { (purpose, prepared(component).await) });
            }
            Ok(_) => {
                let why = "too many containers are being added to the pod already";
                let _ = answer.send(Err(Failure::Unavailable(why.to_owned())));
            }
            Err(failure) => drop(answer.send(Err(failure))),
        }
    }

    /// The pod process wants a component to be compiled.
    pub fn prepare(&mut self, id: u64, name: String, carried: Vec<OwnedFd>) {
        // It asks for few at a time: `MAX_PREPARED` of `pod::exec`.
        self.preparations.spawn(async move {
            let prepared = match carried.into_iter().next() {
                Some(file) => prepared(Component::File { name, file }).await,
                None => prepare::host_failure(&name, "its file was lost on the way"),
            };
            (For::PodProcess(id), prepared)
        });
    }

    pub(super) fn prepared(&mut self, purpose: For, (outcome, code): Prepared) -> Option<Outgoing> {
        let carried: Vec<_> = code.into_iter().collect();
        match (purpose, outcome) {
            (For::PodProcess(id), outcome) => Some((Request::Prepared { id, outcome }, carried)),
            (For::Addition(_, _, answer), Preparation::Refused { message, .. }) => {
                let _ = answer.send(Err(additions::refused(&self.pod, ".image", message)));
                None
            }
            (For::Addition(container, checked, answer), Preparation::Ready { digest, wasi, path }) => {
                let id = self.next_id();
                // Another change may come before the answer: no two have the same one.
                self.spec.generation += 1;
                let generation = self.spec.generation;
                let (added, pod) = ((*container).clone(), self.pod.clone());
                let addition = Addition { container: added, pod, generation, path, digest, wasi };
                let adding = Adding { container: *container, checked: *checked, generation, answer };
                self.additions.insert(id, adding);
                Some((Request::AddEphemeral { id, addition: Box::new(addition) }, carried))
            }
        }
    }

    /// A container was added, or refused.
    pub fn ephemeral_added(&mut self, id: u64, error: Option<String>) {
        let Some(adding) = self.additions.remove(&id) else { return };
        let Adding { container, checked, generation, answer } = adding;
        let _ = answer.send(match error {
            Some(error) => Err(additions::refused(&self.pod, "", error)),
            None => {
                additions::add(&mut self.pod, container, generation);
                self.spec.ephemeral_containers.push(checked);
                Ok(self.pod.clone())
            }
        });
    }
}
