//! `peapod get`: the pods that run, as `kubectl get pods` lists them; their ConfigMaps and Secrets; the claims and
//! volumes that there are.
//!
//! ```text
//! pods:            records ─► GET on each control socket ─► row ─► table; or the Pods as they are
//! claims, volumes: see `storage`
//! ```
//!
//! The columns are those of `printPod` in `pkg/printers/internalversion/printers.go`.

mod columns;
mod row;
pub mod storage;
pub mod storage_wire;

use std::cell::Cell;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

pub use self::columns::LabelColumns;
use super::objects::{self, Form, Wanted};
use super::{Failure, all_well, output, tabs, target};
use crate::api::objects::ObjectKind;
use crate::api::selection::{FIELDS, POD_FIELDS, SECRET_FIELDS, Selection};
use crate::paths::Paths;

/// The namespace when none is said.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Show the pods that run, the ConfigMaps or Secrets that they have, or the claims (pvc) and volumes (pv) that there are.
///
/// A pod whose `peapod run` was killed is Unknown until `peapod delete` or the next `peapod run` removes it.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  peapod get                    those of the namespace default
  peapod get pods -A -o wide    all, with their addresses
  peapod get pod/web -o yaml    one with its spec and status
  peapod get -A -o name         names for programs
  peapod get configmaps -o wide the ConfigMaps of the pods in the namespace, and of which pods
  peapod get secret login -o yaml
  peapod get pods -l app=web,tier!=test -L tier
  peapod get pods -A --field-selector status.phase=Running
  peapod get pvc                the claims of the namespace default
  peapod get pvc,pv,cm          several kinds
  peapod get pv                 the volumes behind claims, and those that none has")]
pub struct Args {
    /// pods, pod NAME.., pod/NAME.. or NAMESPACE/NAME [default: all]; configmaps, secrets, pvc or pv, and their names.
    #[arg(value_name = "POD")]
    pods: Vec<String>,
    /// The namespace of pods and claims [default: default].
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Those of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Another form than the table.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Without the line of headings.
    #[arg(long)]
    no_headers: bool,
    /// `KIND/NAME` in the tables, as kubectl has it where there are several kinds.
    #[arg(skip)]
    with_kind: bool,
    /// Whether a table was printed already, of several kinds.
    #[arg(skip)]
    told: Rc<Cell<bool>>,
    /// Those with such labels: app=web, app!=web, 'tier in (front,back)', 'tier notin (test)', app, '!app'; all of
    /// several, with commas.
    #[arg(short = 'l', long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    selector: String,
    /// Those with such fields: status.phase=Running, metadata.name!=web.
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    field_selector: String,
    #[command(flatten)]
    labels: LabelColumns,
}

impl Args {
    /// What is wanted; `fields` are those that the kind can be selected by.
    fn selection(&self, fields: &[&str], names: usize) -> anyhow::Result<Selection> {
        let selection = Selection::parse(&self.selector, &self.field_selector, fields);
        let selection = selection.map_err(|error| anyhow::anyhow!(error))?;
        let is_given = selection != Selection::default();
        anyhow::ensure!(names == 0 || !is_given, "name cannot be provided when a selector is specified");
        Ok(selection)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// More columns.
    Wide,
    /// The objects, in JSON.
    Json,
    /// The objects, in YAML.
    Yaml,
    /// pod/NAME, configmap/NAME or secret/NAME, one a line.
    Name,
}

/// Asks every pod and prints.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let [kinds, names @ ..] = &args.pods[..]
        && kinds.contains(',')
    {
        return run_each(args, kinds, names);
    }
    if let Some((kind, names)) = target::storage(&args.pods)? {
        return storage::run(args, kind, &names);
    }
    if let Some((kind, names)) = objects::named(&args.pods)? {
        let fields = if kind == ObjectKind::Secret { SECRET_FIELDS } else { FIELDS };
        objects::show(
            kind,
            &names,
            &Wanted {
                selection: args.selection(fields, names.len())?,
                labels: &args.labels,
                namespace: args.namespace.as_deref(),
                all_namespaces: args.all_namespaces,
                form: match args.output {
                    None => Form::Table { is_wide: false },
                    Some(Format::Wide) => Form::Table { is_wide: true },
                    Some(Format::Json) => Form::Json,
                    Some(Format::Yaml) => Form::Yaml,
                    Some(Format::Name) => Form::Name,
                },
                with_headings: !args.no_headers,
                with_kind: args.with_kind,
                told: &args.told,
            },
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let paths = Paths::from_env();
    let words: Vec<String> = match &args.pods[..] {
        [kind] if ["pod", "pods", "po"].contains(&&**kind) => Vec::new(),
        words => words.to_vec(),
    };
    let names = target::names(&words)?;
    let selection = args.selection(POD_FIELDS, names.len())?;
    let (mut records, mut failures) = (Vec::new(), Vec::new());
    for name in &names {
        match target::find(&paths, args.namespace.as_deref(), Some(name)) {
            Ok(record) => records.push(record),
            Err(error) => failures.push(error.into()),
        }
    }
    if names.is_empty() {
        let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        records = target::all(&paths);
        records.retain(|pod| args.all_namespaces || pod.identity.namespace == namespace);
        records.sort_by(|a, b| {
            (&a.identity.namespace, &a.identity.name, &a.uid).cmp(&(
                &b.identity.namespace,
                &b.identity.name,
                &b.uid,
            ))
        });
    }
    let mut pods: Vec<Pod> = records.iter().filter_map(|record| target::pod(&paths, record)).collect();
    selection.retain(&mut pods);
    let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let place = (!args.all_namespaces).then_some(namespace);
    let table = table(args, &pods, jiff::Timestamp::now());
    let named = Named { objects: pods, failures };
    print_all(args, "pod", named, names.len() == 1, place, |pod| &pod.metadata, &table)
}

/// Those of several kinds, such as `pvc,pv`.
fn run_each(args: &Args, kinds: &str, names: &[String]) -> Result<ExitCode, Failure> {
    let mut kinds: Vec<&str> = kinds.split(',').filter(|kind| !kind.is_empty()).collect();
    kinds.dedup();
    if let Some(unknown) = kinds.iter().find(|kind| !target::is_kind(kind)) {
        return Err(anyhow::anyhow!("peapod has no resource type {unknown:?}").into());
    }
    if kinds.len() > 1 && matches!(args.output, Some(Format::Json | Format::Yaml)) {
        return Err(anyhow::anyhow!("one kind at a time with --output json or yaml").into());
    }
    for kind in &kinds {
        let pods = std::iter::once((*kind).to_owned()).chain(names.iter().cloned()).collect();
        run(&Args { pods, with_kind: kinds.len() > 1, ..args.clone() })?;
    }
    if kinds.len() > 1 && args.output != Some(Format::Name) && !args.told.get() {
        let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        nothing_found((!args.all_namespaces).then_some(namespace));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says that there is none, of a namespace or at all.
pub fn nothing_found(namespace: Option<&str>) {
    let place = namespace.map(|namespace| format!(" in {namespace} namespace.")).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "No resources found{place}");
}

/// Prints a table; those of several kinds have an empty line between them. `told`: whether there was one before.
pub fn print_table(table: &str, told: &Cell<bool>) -> anyhow::Result<()> {
    if told.replace(true) {
        target::print("\n")?;
    }
    target::print(table)
}

/// What there is of what a command names.
pub struct Named<T> {
    objects: Vec<T>,
    /// What is wrong with the rest.
    failures: Vec<Failure>,
}

impl<T> Named<T> {
    /// All of them.
    ///
    /// # Errors
    /// The first that is not there.
    pub fn all(self) -> Result<Vec<T>, Failure> {
        self.failures.into_iter().next().map_or(Ok(self.objects), Err)
    }
}

/// Prints objects in the form that is asked for, and then fails for those that are not there. `place`: the namespace
/// that they were looked for in, where that was one.
fn print_all<T: Serialize>(
    args: &Args,
    kind: &str,
    Named { objects, failures }: Named<T>,
    is_one: bool,
    place: Option<&str>,
    metadata: fn(&T) -> &ObjectMeta,
    table: &str,
) -> Result<ExitCode, Failure> {
    if objects.is_empty() && !failures.is_empty() {
        return all_well(failures).map(|()| ExitCode::SUCCESS);
    }
    match args.output {
        Some(Format::Json) => {
            target::print(&(serde_json::to_string_pretty(&object(objects, is_one)?)? + "\n"))?;
        }
        Some(Format::Yaml) => target::print(&(output::yaml(&object(objects, is_one)?) + "\n"))?,
        Some(Format::Name) => {
            let names = objects.iter().filter_map(|object| metadata(object).name.as_deref());
            target::print(&names.map(|name| format!("{kind}/{name}\n")).collect::<String>())?;
        }
        // Of several kinds it is said once, where there is nothing of any (`Run` of `pkg/cmd/get/get.go`).
        None | Some(Format::Wide) if objects.is_empty() && args.with_kind => {}
        None | Some(Format::Wide) if objects.is_empty() => nothing_found(place),
        None | Some(Format::Wide) => print_table(table, &args.told)?,
    }
    all_well(failures).map(|()| ExitCode::SUCCESS)
}

/// One object, or a List of them as kubectl prints it.
fn object<T: Serialize>(mut objects: Vec<T>, is_one: bool) -> serde_json::Result<Value> {
    if is_one && objects.len() == 1 {
        return serde_json::to_value(objects.remove(0));
    }
    let items = serde_json::to_value(objects)?;
    Ok(json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}))
}

fn table(args: &Args, pods: &[Pod], now: jiff::Timestamp) -> String {
    let is_wide = args.output == Some(Format::Wide);
    let mut text = String::new();
    let mut line = |namespace: &str, cells: Vec<String>| {
        let namespace = args.all_namespaces.then(|| namespace.to_owned());
        let cells: Vec<_> = namespace.into_iter().chain(cells).collect();
        text.push_str(&(cells.join("\t") + "\n"));
    };
    if !args.no_headers {
        let wide: &[&str] = if is_wide { &["IP", "NODE", "NOMINATED NODE", "READINESS GATES"] } else { &[] };
        let headings = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"].iter().chain(wide);
        let headings = headings.map(|heading| (*heading).to_owned());
        line("NAMESPACE", headings.chain(args.labels.headings()).collect());
    }
    for pod in pods {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut cells = row::cells(pod, is_wide, now);
        if args.with_kind {
            cells[0].insert_str(0, "pod/");
        }
        let labels = args.labels.cells(pod.metadata.labels.as_ref());
        line(namespace, cells.into_iter().chain(labels).collect());
    }
    tabs::align(&text, 6, 3)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn it_looks_as_kubectl_has_it() {
        let pod = |namespace: &str, name: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {
                    "name": name, "namespace": namespace, "creationTimestamp": "2026-11-20T16:00:00Z"
                },
                "spec": {"nodeName": "node", "containers": [{"name": "a"}]},
                "status": {
                    "phase": "Running", "podIPs": [{"ip": "10.201.0.7"}, {"ip": "fd00::7"}],
                    "containerStatuses": [{
                        "name": "a", "ready": true, "restartCount": 3, "image": "", "imageID": "",
                        "state": {"running": {}},
                        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-20T16:04:50Z"}},
                    }],
                },
            }))
            .unwrap()
        };
        let now = "2026-11-20T16:05:00Z".parse().unwrap();
        let pods = [pod("default", "web"), pod("prod", "a-long-name")];
        let shown = |words: &[&str]| table(&Line::parse_from(["get"].iter().chain(words)).args, &pods, now);
        let expected = "\
NAME          READY   STATUS    RESTARTS      AGE
web           1/1     Running   3 (10s ago)   5m
a-long-name   1/1     Running   3 (10s ago)   5m
";
        assert_eq!(shown(&[]), expected);
        let expected = "\
default   web           1/1   Running   3 (10s ago)   5m    10.201.0.7   node   <none>   <none>
prod      a-long-name   1/1   Running   3 (10s ago)   5m    10.201.0.7   node   <none>   <none>
";
        assert_eq!(shown(&["-A", "-o", "wide", "--no-headers"]), expected);
        let expected = "\
NAME          READY   STATUS    RESTARTS      AGE   LABELS
web           1/1     Running   3 (10s ago)   5m    app=web,tier=
a-long-name   1/1     Running   3 (10s ago)   5m    <none>
";
        let labels = [("tier", ""), ("app", "web")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut pods = pods.clone();
        pods[0].metadata.labels = Some(labels.into());
        let shown = |words: &[&str]| table(&Line::parse_from(["get"].iter().chain(words)).args, &pods, now);
        assert_eq!(shown(&["--show-labels"]), expected);
        let lines = shown(&["-L", "app,example.com/part", "--show-labels"]);
        assert!(
            lines.starts_with(
                "NAME          READY   STATUS    RESTARTS      AGE   APP      PART     LABELS\n"
            ),
            "{lines}"
        );
        assert!(lines.contains("5m    web      <none>   app=web,tier=\n"), "{lines}");
        assert!(lines.contains("5m    <none>   <none>   <none>\n"), "{lines}");
    }
}
