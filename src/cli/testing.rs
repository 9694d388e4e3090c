//! What the tests of several commands show.

use serde_json::json;

use crate::api::types::Timeline;

/// A timeline of one container.
pub fn timeline() -> Timeline {
    let timeline = json!({
        "apiVersion": "peapod.dev/v1alpha1",
        "kind": "PodTimeline",
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "began": "2026-11-20T16:10:38.000123Z",
        "supervisor": [
            {"name": "manifest", "atMicros": 10, "tookMicros": 600},
            {"name": "accepted", "atMicros": 611, "tookMicros": 0},
            {"name": "sandbox", "atMicros": 2000, "tookMicros": 2500},
        ],
        "pod": [{"name": "volumes", "atMicros": 2600, "tookMicros": 40}],
        "containers": [{
            "name": "web",
            "image": {"name": "image", "atMicros": 700, "tookMicros": 1200, "detail": "AOT hit"},
            "runs": [{"restart": 0, "steps": [
                {"name": "start", "atMicros": 4500},
                {"name": "instantiate", "atMicros": 4510, "tookMicros": 35},
                {"name": "first host call", "atMicros": 4560},
                {"name": "started", "atMicros": 4570},
                {"name": "ready", "atMicros": 4571},
            ]}],
        }],
    });
    serde_json::from_value(timeline).expect("a timeline")
}
