//! `peapod describe POD`: a pod as `kubectl describe pod` shows it, and the timeline of its start.
//!
//! ```text
//! records ─► control socket ─┬─ Pod ──────► the sections of kubectl ─┐
//!                            ├─ EventList ► Events ──────────────────┼─► text
//!                            └─ Timeline ─► Timeline ────────────────┘
//!                                      └──► --trace
//! ```
//!
//! The layout is that of `describePod` in `k8s.io/kubectl/pkg/describe/describe.go`.

pub(super) mod containers;
pub(super) mod object;
mod page;
mod storage;
mod timeline;
mod volumes;

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Event, Pod, PodCondition};

use super::age::{rfc1123z, since};
use super::{Failure, objects, tabs, target, trace};
use crate::api::client;
use crate::api::types::Timeline;
use crate::paths::Paths;
use page::Page;

/// The longest annotation that stays on the line of its key, bytes (`maxAnnotationLen`).
const MAX_ANNOTATION: usize = 140;

/// Where `kubectl apply` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Show a pod that runs: its containers, conditions, volumes and events, and when the steps of its start happened. Or a
/// ConfigMap or a Secret that pods have, a claim (pvc) or a volume (pv).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod describe                when only one pod runs
  peapod describe pod/web -n prod
  peapod describe web --trace start.json    its start for ui.perfetto.dev
  peapod describe configmap web-config      as the pods have it
  peapod describe pvc data                  and the pods that use it")]
pub struct Args {
    /// The pod: NAME, pod NAME, pod/NAME, NAMESPACE/NAME or the first letters of its uid [default: the one that runs];
    /// configmap NAME, secret NAME, pvc NAME, pv NAME.
    #[arg(value_name = "POD", num_args = 0..=2)]
    pod: Vec<String>,
    /// The pod's namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Write when the steps of its start happened in FILE, too, as a trace for ui.perfetto.dev and chrome://tracing.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Asks the pod and prints.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Some((kind, names)) = target::storage(&args.pod)? {
        target::print(&storage::describe(kind, &names, args.namespace.as_deref())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some((kind, names)) = objects::named(&args.pod)? {
        objects::describe(kind, &names, args.namespace.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let paths = Paths::from_env();
    let record = target::find(&paths, args.namespace.as_deref(), target::one_name(&args.pod)?)?;
    let directory = paths.pod_run(&record.uid);
    let path = target::path(&record);
    let gone = || anyhow::anyhow!("pod {} has just ended", target::full_name(&record));
    let pod = target::pod(&paths, &record).ok_or_else(gone)?;
    let about = |error| target::about(&record, &error);
    let selector = format!("involvedObject.name={},involvedObject.uid={}", record.identity.name, record.uid);
    let events = format!("/api/v1/namespaces/{}/events?fieldSelector={selector}", record.identity.namespace);
    // A pod that nobody answers for has neither.
    let events: Option<List<Event>> = client::get(&directory, &events).ok();
    let timeline: Result<Timeline, _> = client::get(&directory, &(path + "/timeline"));
    if let Some(file) = &args.trace {
        trace::write(file, timeline.as_ref().map_err(|error| anyhow::anyhow!("--trace: {error}"))?)?;
    }
    let text = describe(&pod, events.map(|list| list.items), Timestamp::now());
    let timeline = match timeline {
        Ok(timeline) => timeline::describe(&timeline),
        Err(client::ClientError::NotServed) => String::new(),
        Err(error) => return Err(about(error).into()),
    };
    target::print(&(text + &timeline))?;
    Ok(ExitCode::SUCCESS)
}

/// The pod, as kubectl describes it.
fn describe(pod: &Pod, events: Option<Vec<Event>>, now: Timestamp) -> String {
    let mut page = Page::default();
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    identity(&mut page, pod, now);
    if let Some(resources) = &spec.resources {
        page.line(0, "Resources:");
        containers::resources(&mut page, resources, 1);
    }
    let described = |page: &mut Page, label: &str, list: &[_], statuses: Option<Vec<_>>| {
        containers::describe(page, label, list, &statuses.unwrap_or_default(), pod);
    };
    if let Some(init) = spec.init_containers.as_ref().filter(|list| !list.is_empty()) {
        described(&mut page, "Init Containers", init, status.init_container_statuses);
    }
    described(&mut page, "Containers", &spec.containers, status.container_statuses);
    if let Some(ephemeral) = spec.ephemeral_containers.as_ref().filter(|list| !list.is_empty()) {
        let list: Vec<_> = ephemeral.iter().map(containers::of_ephemeral).collect();
        described(&mut page, "Ephemeral Containers", &list, status.ephemeral_container_statuses);
    }
    let conditions = status.conditions.unwrap_or_default();
    if let Some(gates) = spec.readiness_gates.as_ref().filter(|gates| !gates.is_empty()) {
        page.line(0, "Readiness Gates:");
        page.line(1, "Type\tStatus");
        for gate in gates {
            let found = conditions.iter().find(|condition| condition.type_ == gate.condition_type);
            let status = found.map_or("<none>", |condition| &condition.status);
            page.line(1, format!("{} \t{status} ", gate.condition_type));
        }
    }
    if !conditions.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus");
        for PodCondition { type_, status, .. } in &conditions {
            page.line(1, format!("{type_} \t{status} "));
        }
    }
    volumes::describe(&mut page, spec.volumes.as_deref().unwrap_or_default());
    page.line(0, format!("QoS Class:\t{}", status.qos_class.as_deref().unwrap_or_default()));
    labels(&mut page, "Node-Selectors", spec.node_selector.iter().flatten());
    volumes::tolerations(&mut page, spec.tolerations.as_deref().unwrap_or_default());
    let mut text = tabs::align(&page.text(), 0, 2);
    if let Some(events) = events {
        text.push_str(&tabs::align(&event_table(events, now), 0, 2));
    }
    text
}

/// Who the pod is, where, and how it is.
fn identity(page: &mut Page, pod: &Pod, now: Timestamp) {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    page.line(0, format!("Name:\t{}", text(&metadata.name)));
    page.line(0, format!("Namespace:\t{}", text(&metadata.namespace)));
    if let Some(priority) = spec.priority {
        page.line(0, format!("Priority:\t{priority}"));
    }
    for (label, value) in [
        ("Priority Class Name", &spec.priority_class_name),
        ("Runtime Class Name", &spec.runtime_class_name),
        ("Service Account", &spec.service_account_name),
    ] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            page.line(0, format!("{label}:\t{value}"));
        }
    }
    match spec.node_name.as_deref() {
        None | Some("") => page.line(0, "Node:\t<none>"),
        Some(node) => page.line(0, format!("Node:\t{node}/{}", text(&status.host_ip))),
    }
    if let Some(start) = &status.start_time {
        page.line(0, format!("Start Time:\t{}", rfc1123z(start.0)));
    }
    labels(page, "Labels", metadata.labels.iter().flatten());
    annotations(page, metadata.annotations.iter().flatten());
    let phase = text(&status.phase);
    match &metadata.deletion_timestamp {
        Some(at) if !["Succeeded", "Failed"].contains(&&*phase) => {
            page.line(0, format!("Status:\tTerminating (lasts {})", since(Some(at.0), now)));
            let grace = metadata.deletion_grace_period_seconds.unwrap_or_default();
            page.line(0, format!("Termination Grace Period:\t{grace}s"));
        }
        _ => page.line(0, format!("Status:\t{phase}")),
    }
    for (label, value) in [("Reason", &status.reason), ("Message", &status.message)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            page.line(0, format!("{label}:\t{value}"));
        }
    }
    page.line(0, format!("IP:\t{}", text(&status.pod_ip)));
    match status.pod_ips.as_deref() {
        None | Some([]) => page.line(0, "IPs:\t<none>"),
        Some(ips) => {
            page.line(0, "IPs:");
            for ip in ips {
                page.line(1, format!("IP:\t{}", ip.ip));
            }
        }
    }
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    if let Some(owner) = owner {
        page.line(0, format!("Controlled By:\t{}/{}", owner.kind, owner.name));
    }
}

fn labels<'a>(page: &mut Page, title: &str, labels: impl Iterator<Item = (&'a String, &'a String)>) {
    let lines: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    page.list(title, &lines);
}

fn annotations<'a>(page: &mut Page, annotations: impl Iterator<Item = (&'a String, &'a String)>) {
    let mut lines = Vec::new();
    for (key, value) in annotations.filter(|(key, _)| *key != LAST_APPLIED) {
        let value = value.strip_suffix('\n').unwrap_or(value);
        if value.len() + key.len() + 2 > MAX_ANNOTATION || value.contains('\n') {
            lines.push(format!("{key}:"));
            lines.extend(value.split('\n').map(|line| format!("  {}", shorten(line, MAX_ANNOTATION - 2))));
        } else {
            lines.push(format!("{key}: {value}"));
        }
    }
    page.list("Annotations", &lines);
}

fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(limit)])
}

fn event_table(mut events: Vec<Event>, now: Timestamp) -> String {
    let mut page = Page::default();
    if events.is_empty() {
        page.line(0, "Events:\t<none>");
        return page.text();
    }
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    page.line(0, "Events:");
    page.line(1, "Type\tReason\tAge\tFrom\tMessage");
    page.line(1, "----\t------\t----\t----\t-------");
    for event in events {
        let first = since(event.first_timestamp.map(|time| time.0), now);
        let age = match event.count {
            Some(count) if count > 1 => {
                format!("{} (x{count} over {first})", since(event.last_timestamp.map(|time| time.0), now))
            }
            _ => first,
        };
        let from = event.source.and_then(|source| source.component).filter(|from| !from.is_empty());
        let from = from.or(event.reporting_component).unwrap_or_default();
        let [kind, reason, message] =
            [event.type_, event.reason, event.message].map(Option::unwrap_or_default);
        page.line(1, format!("{kind}\t{reason}\t{age}\t{from}\t{}", message.trim()));
    }
    page.text()
}

#[cfg(test)]
mod tests;
