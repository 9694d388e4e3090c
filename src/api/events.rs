//! The events of a pod, as Kubernetes keeps them.
//!
//! ```text
//! Occurrence ─► Events ─┬─ the same again ──────────► count, lastTimestamp
//!                       ├─ much like ten others ────► "(combined from similar events)"
//!                       └─ new ─────────────────────► kept; the oldest goes beyond MAX_EVENTS
//!                             list ─► v1.Event
//! ```
//!
//! What is the same and what is similar: `tools/record/events_cache.go` of client-go.

use std::collections::VecDeque;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Who reports a pod's events: `source.component`.
pub const COMPONENT: &str = "peapod";

/// Events that are kept of a pod, each with a message of at most [`MAX_MESSAGE_BYTES`]: 256 KiB at most. A pod of the
/// usual size has some ten.
pub const MAX_EVENTS: usize = 256;

/// The longest message, bytes: Kubernetes' own bound (`NoteLengthLimit` in `pkg/apis/core/validation/events.go`).
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Events of one reason that are kept apart although only their messages differ (`defaultAggregateMaxEvents`).
const MAX_SIMILAR: usize = 10;

/// How long ago the latest of them may be for the next to be combined (`defaultAggregateIntervalInSeconds`).
const SIMILAR_INTERVAL: SignedDuration = SignedDuration::from_secs(600);

/// Something that happened to the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// When.
    pub at: Timestamp,
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// The rest, for a human.
    pub message: String,
    /// The container that it is about.
    pub container: Option<String>,
}

/// The events of one pod, the oldest first.
#[derive(Debug, Clone)]
pub struct Events {
    pod: ObjectReference,
    host: String,
    kept: VecDeque<Kept>,
    /// The number behind the latest event's name.
    latest_name: i128,
}

#[derive(Debug, Clone)]
struct Kept {
    /// The first occurrence's, or that which stands for many.
    message: String,
    warning: bool,
    reason: String,
    field_path: Option<String>,
    /// Whether it stands for events that are only similar.
    combined: bool,
    first: Timestamp,
    last: Timestamp,
    count: i32,
    name: i128,
}

impl Events {
    /// No events of `pod`, which runs on `host`.
    pub fn new(pod: &Pod, host: &str) -> Self {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        Self { pod: reference, host: host.to_owned(), kept: VecDeque::new(), latest_name: 0 }
    }

    /// Takes in what happened; `pod` knows which kind of container it is about.
    pub fn record(&mut self, pod: &Pod, occurrence: Occurrence) {
        let Occurrence { at, warning, reason, mut message, container } = occurrence;
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        let field_path = container.map(|container| field_path(pod, &container));
        let alike = |kept: &Kept| kept.reason == reason && kept.warning == warning;
        let same = self.kept.iter_mut().find(|kept| {
            !kept.combined && alike(kept) && kept.message == message && kept.field_path == field_path
        });
        if let Some(same) = same {
            return same.again(at);
        }
        let similar =
            self.kept.iter().filter(|kept| alike(kept) && at.duration_since(kept.last) <= SIMILAR_INTERVAL);
        let combined = similar.count() >= MAX_SIMILAR;
        if combined {
            message = format!("(combined from similar events): {message}");
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            if let Some(other) = self.kept.iter_mut().find(|kept| kept.combined && alike(kept)) {
                (other.message, other.field_path) = (message, field_path);
                return other.again(at);
            }
        }
        if self.kept.len() == MAX_EVENTS {
            self.kept.pop_front();
        }
        let name = at.as_nanosecond().max(self.latest_name + 1);
        self.latest_name = name;
        let (first, last, count) = (at, at, 1);
        self.kept.push_back(Kept {
            message,
            warning,
            reason,
            field_path,
            combined,
            first,
            last,
            count,
            name,
        });
    }

    /// All of them.
    pub fn list(&self) -> Vec<Event> {
        self.kept.iter().map(|kept| self.event(kept)).collect()
    }

    fn event(&self, kept: &Kept) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", self.pod.name.as_deref().unwrap_or_default(), kept.name)),
                namespace: self.pod.namespace.clone(),
                creation_timestamp: Some(seconds(kept.first)),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference { field_path: kept.field_path.clone(), ..self.pod.clone() },
            reason: Some(kept.reason.clone()),
            message: Some(kept.message.clone()),
            type_: Some(if kept.warning { "Warning" } else { "Normal" }.to_owned()),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(self.host.clone()),
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.host.clone()),
            first_timestamp: Some(seconds(kept.first)),
            last_timestamp: Some(seconds(kept.last)),
            count: Some(kept.count),
            ..Event::default()
        }
    }
}

impl Kept {
    fn again(&mut self, at: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = self.last.max(at);
    }
}

/// `involvedObject.fieldPath` of a container (`GenerateContainerRef` in `pkg/kubelet/container/ref.go`).
fn field_path(pod: &Pod, container: &str) -> String {
    let spec = pod.spec.as_ref();
    let is_init = spec.and_then(|spec| spec.init_containers.as_ref());
    let is_init = is_init.is_some_and(|list| list.iter().any(|init| init.name == container));
    let is_main = spec.is_some_and(|spec| spec.containers.iter().any(|main| main.name == container));
    let list = match (is_init, is_main) {
        (true, _) => "initContainers",
        (_, true) => "containers",
        _ => "ephemeralContainers",
    };
    format!("spec.{list}{{{container}}}")
}

/// `metav1.Time` has whole seconds.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;

    fn pod() -> Pod {
        let container = |name: &str| Container { name: name.to_owned(), ..Container::default() };
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".to_owned());
        pod.metadata.namespace = Some("prod".to_owned());
        pod.spec = Some(PodSpec {
            init_containers: Some(vec![container("setup")]),
            containers: vec![container("web")],
            ..PodSpec::default()
        });
        pod
    }

    fn unhealthy(second: i64, message: &str) -> Occurrence {
        Occurrence {
            at: Timestamp::from_second(second).unwrap(),
            warning: true,
            reason: "Unhealthy".to_owned(),
            message: message.to_owned(),
            container: Some("web".to_owned()),
        }
    }

    #[test]
    fn the_same_is_counted_and_keeps_its_place() {
        let mut events = Events::new(&pod(), "node");
        for second in [10, 20, 30] {
            events.record(&pod(), unhealthy(second, "Liveness probe failed: no"));
        }
        events.record(&pod(), Occurrence { container: Some("setup".to_owned()), ..unhealthy(31, "x") });
        events.record(&pod(), Occurrence { container: Some("later".to_owned()), ..unhealthy(31, "x") });
        events.record(&pod(), Occurrence { container: None, ..unhealthy(31, "x") });
        let list = events.list();
        let event = &list[0];
        assert_eq!((event.count, list.len()), (Some(3), 4));
        assert_eq!(event.first_timestamp.as_ref().unwrap().0.as_second(), 10);
        assert_eq!(event.last_timestamp.as_ref().unwrap().0.as_second(), 30);
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        let paths: Vec<_> = list.iter().map(|e| e.involved_object.field_path.as_deref()).collect();
        let expected =
            ["spec.containers{web}", "spec.initContainers{setup}", "spec.ephemeralContainers{later}"];
        assert_eq!(paths, [Some(expected[0]), Some(expected[1]), Some(expected[2]), None]);
        let mut names: Vec<_> = list.iter().map(|e| e.metadata.name.clone()).collect();
        names.dedup();
        assert_eq!(names.len(), 4, "{names:?}");
    }

    #[test]
    fn what_differs_in_its_message_only_is_combined_after_ten() {
        let mut events = Events::new(&pod(), "node");
        for port in 0..30 {
            events.record(&pod(), unhealthy(100 + port, &format!("connection from port {port}")));
        }
        let list = events.list();
        assert_eq!(list.len(), MAX_SIMILAR + 1);
        let combined = &list[MAX_SIMILAR];
        assert_eq!(combined.count, Some(20));
        let message = combined.message.as_deref();
        assert_eq!(message, Some("(combined from similar events): connection from port 29"));
        // Not those of long ago.
        events.record(&pod(), unhealthy(10_000, "much later"));
        assert_eq!(events.list().last().unwrap().message.as_deref(), Some("much later"));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut events = Events::new(&pod(), "node");
        for number in 0..2 * MAX_EVENTS as i64 {
            let reason = format!("R{number}");
            events.record(&pod(), Occurrence { reason, ..unhealthy(number, &"ü".repeat(MAX_MESSAGE_BYTES)) });
        }
        let list = events.list();
        assert_eq!(list.len(), MAX_EVENTS);
        assert_eq!(list[0].reason.as_deref(), Some(&*format!("R{MAX_EVENTS}")), "the oldest go");
        assert!(list.iter().all(|event| event.message.as_ref().unwrap().len() <= MAX_MESSAGE_BYTES));
    }
}
