//! `--trace`: a timeline as a Chrome trace.
//!
//! ```text
//! Timeline ─► one process, the pod: a track for the supervisor, the pod process and each container ─► traceEvents
//! ```
//!
//! The format: "Trace Event Format" of Chromium's catapult project, the object form. Perfetto and chrome://tracing
//! read it.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::api::types::{Timeline, TimelineStep};

/// The trace's one process.
const PROCESS: u32 = 1;
/// The supervisor's track.
const SUPERVISOR: u32 = 1;
/// The pod process's track.
const POD: u32 = 2;
/// The first container's track.
const CONTAINERS: u32 = 3;

/// Writes a timeline's trace.
///
/// # Errors
/// The file's.
pub fn write(path: &Path, timeline: &Timeline) -> anyhow::Result<()> {
    let text = serde_json::to_string(&trace(timeline))? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn trace(timeline: &Timeline) -> Value {
    let metadata = &timeline.metadata;
    let pod = format!(
        "pod {}/{}",
        metadata.namespace.as_deref().unwrap_or("default"),
        metadata.name.as_deref().unwrap_or_default()
    );
    let mut events = vec![named("process_name", SUPERVISOR, &pod)];
    let mut track = |number: u32, name: &str| {
        events.push(named("thread_name", number, name));
        let order = json!({"sort_index": number});
        events.push(
            json!({"name": "thread_sort_index", "ph": "M", "pid": PROCESS, "tid": number, "args": order}),
        );
    };
    track(SUPERVISOR, "supervisor");
    track(POD, "pod process");
    for (number, container) in (CONTAINERS..).zip(&timeline.containers) {
        track(number, &format!("container {}", container.name));
    }
    events.extend(timeline.supervisor.iter().map(|step| event(step, SUPERVISOR, "supervisor", None)));
    events.extend(timeline.pod.iter().map(|step| event(step, POD, "pod", None)));
    for (number, container) in (CONTAINERS..).zip(&timeline.containers) {
        events.extend(container.image.iter().map(|step| event(step, number, "container", None)));
        for run in &container.runs {
            let steps = run.steps.iter();
            events.extend(steps.map(|step| event(step, number, "container", Some(run.restart))));
        }
    }
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"pod": pod, "uid": metadata.uid, "began": timeline.began.to_string()},
    })
}

/// A metadata event: the name of a process or of a track.
fn named(what: &str, track: u32, name: &str) -> Value {
    json!({"name": what, "ph": "M", "pid": PROCESS, "tid": track, "args": {"name": name}})
}

/// A complete event, or an instant of its track.
fn event(step: &TimelineStep, track: u32, category: &str, restart: Option<u32>) -> Value {
    let mut args = json!({});
    if let Some(detail) = &step.detail {
        args["detail"] = json!(detail);
    }
    if let Some(restart) = restart {
        args["restart"] = json!(restart);
    }
    let mut event = json!({
        "name": step.name,
        "cat": category,
        "pid": PROCESS,
        "tid": track,
        "ts": step.at_micros,
        "args": args,
    });
    if step.took_micros > 0 {
        (event["ph"], event["dur"]) = (json!("X"), json!(step.took_micros));
    } else {
        (event["ph"], event["s"]) = (json!("i"), json!("t"));
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::timeline;

    /// What a reader of the format insists on, for each kind of event.
    fn check(event: &Value) {
        let text = |field: &str| assert!(event[field].is_string(), "{field} of {event}");
        let number = |field: &str| assert!(event[field].is_u64(), "{field} of {event}");
        text("name");
        number("pid");
        number("tid");
        match event["ph"].as_str() {
            Some("M") => assert!(event["args"].is_object()),
            Some("X") => {
                number("ts");
                number("dur");
            }
            Some("i") => {
                number("ts");
                assert_eq!(event["s"], "t");
            }
            other => panic!("{other:?} of {event}"),
        }
    }

    #[test]
    fn every_event_is_one_of_the_format() {
        let trace = trace(&timeline());
        let events = trace["traceEvents"].as_array().unwrap();
        events.iter().for_each(check);
        let names = |phase: &str| {
            let of_phase = events.iter().filter(|event| event["ph"] == phase);
            of_phase.map(|event| event["name"].as_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names("X"), ["manifest", "sandbox", "volumes", "image", "instantiate"]);
        assert_eq!(names("i"), ["accepted", "start", "first host call", "started", "ready"]);
        let tracks: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").collect();
        let tracks: Vec<_> = tracks.iter().map(|event| event["args"]["name"].as_str().unwrap()).collect();
        assert_eq!(tracks, ["supervisor", "pod process", "container web"]);
    }
}
