//! The supervisor's part of a pod's timeline, and the whole of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::types::{API_VERSION, Timeline, TimelineStep};
use crate::pod::control::PodTimeline;
use crate::pod::timeline::span;

/// The detail of an image's step when it was not in the cache.
const COMPILED: &str = "compiled";

/// What the supervisor does on the way to the running pod, on an axis that begins with it.
pub struct Startup {
    origin: Instant,
    began: jiff::Timestamp,
    steps: Vec<TimelineStep>,
    /// How each container's image came to be machine code.
    images: BTreeMap<String, TimelineStep>,
}

impl Startup {
    /// The axis begins now.
    pub fn new() -> Self {
        let (origin, began) = (Instant::now(), jiff::Timestamp::now());
        Self { origin, began, steps: Vec::new(), images: BTreeMap::new() }
    }

    /// Where the axis begins.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// When that was by the wall clock.
    pub fn began(&self) -> jiff::Timestamp {
        self.began
    }

    /// A step that began at `from` has ended.
    pub fn step(&mut self, name: &str, from: Instant) {
        self.steps.push(span(self.origin, name, from, Instant::now()));
    }

    /// A moment.
    pub fn moment(&mut self, name: &str) {
        let now = Instant::now();
        self.steps.push(span(self.origin, name, now, now));
    }

    /// Steps one after the other, the last of which has just ended.
    pub fn laps(&mut self, laps: &[(&'static str, Duration)]) {
        let whole: Duration = laps.iter().map(|(_, took)| *took).sum();
        let mut from = Instant::now().checked_sub(whole).unwrap_or(self.origin);
        for (name, took) in laps {
            self.steps.push(span(self.origin, &format!("sandbox: {name}"), from, from + *took));
            from += *took;
        }
    }

    /// A container's image is there.
    pub fn image(&mut self, container: &str, from: Instant, to: Instant, compiled: bool) {
        let detail = if compiled { COMPILED } else { "AOT hit" };
        let step = TimelineStep { detail: Some(detail.to_owned()), ..span(self.origin, "image", from, to) };
        self.images.insert(container.to_owned(), step);
    }

    /// How long the images took that had to be compiled, by container.
    pub fn compiled(&self) -> BTreeMap<String, Duration> {
        let compiled = self.images.iter().filter(|(_, step)| step.detail.as_deref() == Some(COMPILED));
        compiled.map(|(name, step)| (name.clone(), Duration::from_micros(step.took_micros))).collect()
    }

    /// The whole timeline, with the pod process's part as far as it is known.
    pub fn timeline(&self, pod: &Pod, inside: PodTimeline) -> Timeline {
        let ObjectMeta { name, namespace, uid, .. } = pod.metadata.clone();
        let PodTimeline { steps, mut containers } = inside;
        for container in &mut containers {
            container.image = self.images.get(&container.name).cloned();
        }
        containers.sort_by_key(|container| place(pod, &container.name));
        Timeline {
            api_version: API_VERSION.to_owned(),
            kind: "PodTimeline".to_owned(),
            metadata: ObjectMeta { name, namespace, uid, ..ObjectMeta::default() },
            began: self.began,
            supervisor: self.steps.clone(),
            pod: steps,
            containers,
        }
    }
}

/// Where a container stands in the pod: init containers first, ephemeral ones last.
fn place(pod: &Pod, container: &str) -> Option<(usize, usize)> {
    let spec = pod.spec.as_ref()?;
    let at = |list: &[Container]| list.iter().position(|one| one.name == container);
    let init = at(spec.init_containers.as_deref().unwrap_or_default()).map(|place| (0, place));
    let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
    let ephemeral = || ephemeral.iter().position(|one| one.name == container).map(|place| (2, place));
    init.or(at(&spec.containers).map(|place| (1, place))).or_else(ephemeral)
}
