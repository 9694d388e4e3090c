//! The events of a pod of `peapod run`, in the kubelet's words (`pkg/kubelet/events/event.go`).
//!
//! ```text
//! control::Event (what is shown, too) ─┬─► Occurrence ─► api::events::Events
//! control::Note (for the events alone) ┘
//! ```
//!
//! What the pod process reports anyway is not reported twice: a container's start says that it was pulled, created
//! and started, which costs the pod process nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as wire;

use crate::api::events::{Events, Occurrence};
use crate::container::state::ExitReason;
use crate::pod::control::{Event, Note};

/// Keeps the events of one pod.
pub struct Journal {
    events: Events,
    /// How long each image took that had to be compiled, by its name, until that is told.
    compiled: BTreeMap<String, Duration>,
}

impl Journal {
    /// The journal of a pod that this host has accepted; `compiled`: the images that had to be, by container.
    pub fn new(pod: &wire::Pod, host: &str, compiled: BTreeMap<String, Duration>) -> Self {
        let by_image = |(container, took): (String, _)| (image(pod, &container).to_owned(), took);
        let compiled = compiled.into_iter().map(by_image).collect();
        let mut journal = Self { events: Events::new(pod, host), compiled };
        let metadata = &pod.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let namespace = metadata.namespace.as_deref().unwrap_or("default");
        journal.add(pod, None, "Scheduled", format!("Successfully assigned {namespace}/{name} to {host}"));
        journal
    }

    /// Something that the pod process reports for whoever watches.
    pub fn event(&mut self, pod: &wire::Pod, event: &Event) {
        match event {
            Event::Started { container, .. } => {
                self.created(pod, container);
                self.add(pod, Some(container), "Started", format!("Started container {container}"));
            }
            Event::Ended { container, reason, message, .. } if !has_run(reason) => {
                self.created(pod, container);
                let message = message.as_deref().unwrap_or(reason);
                self.warn(pod, container, "Failed", format!("Error: {message}"));
            }
            Event::BackOff { container, .. } => {
                let metadata = &pod.metadata;
                let message = format!(
                    "Back-off restarting failed container {container} in pod {}_{}({})",
                    metadata.name.as_deref().unwrap_or_default(),
                    metadata.namespace.as_deref().unwrap_or("default"),
                    metadata.uid.as_deref().unwrap_or_default()
                );
                self.warn(pod, container, "BackOff", message);
            }
            _ => {}
        }
    }

    /// Something that it reports for the events alone.
    pub fn note(&mut self, pod: &wire::Pod, note: Note) {
        let Note { at, warning, reason, message, container } = note;
        self.events.record(pod, Occurrence { at, warning, reason, message, container });
    }

    /// All events.
    pub fn list(&self) -> Vec<wire::Event> {
        self.events.list()
    }

    fn created(&mut self, pod: &wire::Pod, container: &str) {
        let image = image(pod, container);
        let pulled = match self.compiled.remove(image) {
            Some(took) => format!("Container image {image:?} compiled in {:.3}s", took.as_secs_f64()),
            None => format!("Container image {image:?} already present on machine"),
        };
        self.add(pod, Some(container), "Pulled", pulled);
        self.add(pod, Some(container), "Created", format!("Created container: {container}"));
    }

    fn add(&mut self, pod: &wire::Pod, container: Option<&str>, reason: &str, message: String) {
        let (at, container) = (Timestamp::now(), container.map(str::to_owned));
        let reason = reason.to_owned();
        self.events.record(pod, Occurrence { at, warning: false, reason, message, container });
    }

    fn warn(&mut self, pod: &wire::Pod, container: &str, reason: &str, message: String) {
        let (at, container) = (Timestamp::now(), Some(container.to_owned()));
        let reason = reason.to_owned();
        self.events.record(pod, Occurrence { at, warning: true, reason, message, container });
    }
}

/// Whether a container that ended for this reason ever ran.
fn has_run(reason: &str) -> bool {
    [ExitReason::Completed, ExitReason::Error, ExitReason::OomKilled].iter().any(|ran| ran.as_str() == reason)
}

/// `image` of a container.
fn image<'a>(pod: &'a wire::Pod, container: &str) -> &'a str {
    let Some(spec) = &pod.spec else { return "" };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let named = containers.map(|container| (&container.name, &container.image));
    let later = spec.ephemeral_containers.iter().flatten().map(|later| (&later.name, &later.image));
    let image =
        named.chain(later).find(|(name, _)| *name == container).and_then(|(_, image)| image.as_deref());
    image.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> wire::Pod {
        let mut pod = wire::Pod::default();
        pod.metadata.name = Some("web".to_owned());
        pod.metadata.uid = Some("u1".to_owned());
        pod.spec.get_or_insert_default().containers = vec![wire::Container {
            name: "main".to_owned(),
            image: Some("./main.wasm".to_owned()),
            ..wire::Container::default()
        }];
        pod
    }

    fn told(journal: &Journal) -> Vec<(String, String, i32)> {
        let told = |event: wire::Event| (event.reason.unwrap(), event.message.unwrap(), event.count.unwrap());
        journal.list().into_iter().map(told).collect()
    }

    #[test]
    fn a_crash_loop_reads_as_the_kubelets() {
        let pod = pod();
        let compiled = BTreeMap::from([("main".to_owned(), Duration::from_millis(1500))]);
        let mut journal = Journal::new(&pod, "node", compiled);
        let container = || "main".to_owned();
        for restarts in 0..3 {
            journal.event(&pod, &Event::Started { container: container(), restarts, took: Duration::ZERO });
            let (code, reason) = (7, "Error".to_owned());
            journal.event(&pod, &Event::Ended { container: container(), code, reason, message: None });
            journal.event(&pod, &Event::BackOff { container: container(), delay: Duration::ZERO });
        }
        let expected = [
            ("Scheduled", "Successfully assigned default/web to node", 1),
            ("Pulled", "Container image \"./main.wasm\" compiled in 1.500s", 1),
            ("Created", "Created container: main", 3),
            ("Started", "Started container main", 3),
            ("BackOff", "Back-off restarting failed container main in pod web_default(u1)", 3),
            ("Pulled", "Container image \"./main.wasm\" already present on machine", 2),
        ];
        let expected =
            expected.map(|(reason, message, count)| (reason.to_owned(), message.to_owned(), count));
        assert_eq!(told(&journal), expected);
    }

    #[test]
    fn a_container_that_cannot_start_has_failed() {
        let mut journal = Journal::new(&pod(), "node", BTreeMap::new());
        let message = Some("cannot open the mount /data".to_owned());
        let reason = "StartError".to_owned();
        journal.event(&pod(), &Event::Ended { container: "main".to_owned(), code: 128, reason, message });
        let last = told(&journal).pop().unwrap();
        assert_eq!(last, ("Failed".to_owned(), "Error: cannot open the mount /data".to_owned(), 1));
    }
}
