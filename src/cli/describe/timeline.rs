//! The section `Timeline`: peapod's own, below kubectl's.

use super::page::Page;
use crate::api::types::{Timeline, TimelineStep};
use crate::cli::tabs;

/// When the steps of the pod's start happened, and those of each container's first run and its latest.
pub fn describe(timeline: &Timeline) -> String {
    let mut page = Page::default();
    page.line(0, format!("Timeline:\tmicroseconds since {}", timeline.began));
    let mut text = tabs::align(&page.text(), 0, 2);
    let mut pod: Vec<_> = timeline.supervisor.iter().chain(&timeline.pod).collect();
    pod.sort_by_key(|step| step.at_micros);
    text.push_str(&section("Pod", &pod));
    for container in &timeline.containers {
        for (index, run) in container.runs.iter().enumerate() {
            let title = match run.restart {
                0 => container.name.clone(),
                restart => format!("{} (restart {restart})", container.name),
            };
            let image = container.image.iter().filter(|_| index == 0);
            text.push_str(&section(&title, &image.chain(&run.steps).collect::<Vec<_>>()));
        }
    }
    text
}

fn section(title: &str, steps: &[&TimelineStep]) -> String {
    let mut page = Page::default();
    page.line(1, format!("{title}:"));
    page.line(2, "Step\tAt\tTook\tDetail");
    page.line(2, "----\t--\t----\t------");
    for TimelineStep { name, at_micros, took_micros, detail } in steps {
        let took = if *took_micros > 0 { took_micros.to_string() } else { String::new() };
        page.line(2, format!("{name}\t{at_micros}\t{took}\t{}", detail.as_deref().unwrap_or_default()));
    }
    let aligned = tabs::align(&page.text(), 0, 2);
    aligned.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
