//! When what happened on the way to the running pod, inside of the pod process.
//!
//! ```text
//! launch ─► step ───────────────────────────┐
//! worker ─► ordered, started, ready, ended ─┼─► Timeline ─► control::PodTimeline, when somebody asks
//! runner ─► Marks ──────────────────────────┘
//! ```
//!
//! A mark is an `Instant`: `CLOCK_MONOTONIC`, which the supervisor's are too, so that both are on one axis. Kept are the
//! first run of each container and its latest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::control::PodTimeline;
use crate::api::types::{ContainerTimeline, RunTimeline, TimelineStep};
use crate::container::runner::Marks;

/// The pod process's part of the timeline.
#[derive(Debug)]
pub struct Timeline {
    /// Where the axis begins.
    origin: Instant,
    /// At most one for each step of [`super::launch`].
    steps: Vec<Step>,
    containers: BTreeMap<String, Runs>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    from: Instant,
    to: Instant,
}

#[derive(Debug)]
struct Runs {
    first: Run,
    latest: Option<Run>,
}

impl Runs {
    fn current(&mut self) -> &mut Run {
        self.latest.as_mut().unwrap_or(&mut self.first)
    }
}

#[derive(Debug)]
struct Run {
    restart: u32,
    ordered: Instant,
    marks: Marks,
    started: Option<Instant>,
    ready: Option<Instant>,
    ended: Option<Instant>,
}

impl Timeline {
    /// A timeline whose axis begins at `origin`.
    pub fn new(origin: Instant) -> Self {
        Self { origin, steps: Vec::new(), containers: BTreeMap::new() }
    }

    /// A step that began at `from` has ended. Returns its end: where the next may begin.
    pub fn step(&mut self, name: &'static str, from: Instant) -> Instant {
        let to = Instant::now();
        self.steps.push(Step { name, from, to });
        to
    }

    /// A container is started. Returns the marks that its runner makes.
    pub(super) fn ordered(&mut self, container: &str, restart: u32) -> Marks {
        let marks = Marks::default();
        let ordered = Instant::now();
        let run = Run { restart, ordered, marks: marks.clone(), started: None, ready: None, ended: None };
        match self.containers.get_mut(container) {
            Some(runs) => runs.latest = Some(run),
            None => {
                self.containers.insert(container.to_owned(), Runs { first: run, latest: None });
            }
        }
        marks
    }

    /// The worker has heard that its code runs.
    pub(super) fn started(&mut self, container: &str) {
        if let Some(runs) = self.containers.get_mut(container) {
            runs.current().started.get_or_insert_with(Instant::now);
        }
    }

    /// Its run is over.
    pub(super) fn ended(&mut self, container: &str) {
        if let Some(runs) = self.containers.get_mut(container) {
            runs.current().ended.get_or_insert_with(Instant::now);
        }
    }

    /// Notes which of the running containers that were not ready are so now.
    pub(super) fn look_for_ready(&mut self, is_ready: impl Fn(&str) -> bool) {
        for (container, runs) in &mut self.containers {
            let run = runs.current();
            if run.ready.is_none() && run.started.is_some() && run.ended.is_none() && is_ready(container) {
                run.ready = Some(Instant::now());
            }
        }
    }

    /// What is known by now.
    pub(super) fn told(&self) -> PodTimeline {
        let steps = self.steps.iter().map(|step| span(self.origin, step.name, step.from, step.to));
        let containers = self.containers.iter().map(|(name, runs)| ContainerTimeline {
            name: name.clone(),
            image: None,
            runs: std::iter::once(&runs.first).chain(&runs.latest).map(|run| run.told(self.origin)).collect(),
        });
        PodTimeline { steps: steps.collect(), containers: containers.collect() }
    }
}

impl Run {
    fn told(&self, origin: Instant) -> RunTimeline {
        let moment = |name, at: Option<Instant>| at.map(|at| span(origin, name, at, at));
        let instantiate = self.marks.instantiation().map(|(from, to)| span(origin, "instantiate", from, to));
        let mut steps: Vec<_> = [
            moment("start", Some(self.ordered)),
            instantiate,
            moment("first host call", self.marks.first_host_call()),
            moment("started", self.started),
            moment("ready", self.ready),
            moment("ended", self.ended),
        ]
        .into_iter()
        .flatten()
        .collect();
        steps.sort_by_key(|step| step.at_micros);
        RunTimeline { restart: self.restart, steps }
    }
}

/// A step from `from` to `to` on the axis that begins at `origin`.
pub fn span(origin: Instant, name: &str, from: Instant, to: Instant) -> TimelineStep {
    TimelineStep {
        name: name.to_owned(),
        at_micros: micros(from.saturating_duration_since(origin)),
        took_micros: micros(to.saturating_duration_since(from)),
        detail: None,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_and_the_latest_are_kept() {
        let origin = Instant::now();
        let mut timeline = Timeline::new(origin);
        let next = timeline.step("volumes", origin);
        timeline.step("network", next);
        for restart in 0..5 {
            timeline.ordered("web", restart);
            timeline.look_for_ready(|_| true);
            timeline.started("web");
            timeline.look_for_ready(|_| restart != 3);
            timeline.ended("web");
            timeline.look_for_ready(|_| true);
        }
        timeline.started("unknown");
        let PodTimeline { steps, containers } = timeline.told();
        assert_eq!(steps.iter().map(|step| &*step.name).collect::<Vec<_>>(), ["volumes", "network"]);
        assert!(steps[0].at_micros == 0 && steps[1].at_micros >= steps[0].took_micros);
        let [web] = &containers[..] else { panic!("{containers:?}") };
        let runs: Vec<_> = web.runs.iter().map(|run| run.restart).collect();
        assert_eq!(runs, [0, 4]);
        let names: Vec<_> = web.runs[1].steps.iter().map(|step| &*step.name).collect();
        assert_eq!(names, ["start", "started", "ready", "ended"]);
        assert!(web.runs[1].steps.is_sorted_by_key(|step| step.at_micros));
    }

    #[test]
    fn a_run_that_never_was_ready_is_not_called_so() {
        let mut timeline = Timeline::new(Instant::now());
        timeline.ordered("web", 0);
        timeline.ended("web");
        timeline.look_for_ready(|_| true);
        let names: Vec<_> =
            timeline.told().containers[0].runs[0].steps.iter().map(|s| s.name.clone()).collect();
        assert_eq!(names, ["start", "ended"]);
    }
}
