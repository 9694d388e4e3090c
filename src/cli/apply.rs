//! `peapod apply -f FILE`: ConfigMaps, Secrets and the Pod's own labels for pods that run, as kubectl applies them.
//!
//! ```text
//! files ─► documents, all of them valid ─┬─ ConfigMap, Secret ─► every pod of its namespace ─┐
//!          (or nothing is applied)       ├─ Pod ───────────────► the pod of this name ───────┴─► configured
//!                                        ├─ claims, volumes ───► unchanged, where there is the same
//!                                        └─ others ────────────► warning: read once
//! --dry-run=server: asked of the pods in the same way, which change nothing; client: only whether they have it
//! ```

mod files;
mod storage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use self::storage::Storage;
use super::get::DEFAULT_NAMESPACE;
use super::objects::{self, DRY_RUN, refers};
use super::target::StorageKind;
use super::{EXIT_REFUSED, Failure, load, output, target};
use crate::api::client;
use crate::api::objects::ObjectKind;
use crate::api::patch::PatchType;
use crate::manifest::{self, Object};
use crate::paths::Paths;
use crate::spec::convert;

/// Change what pods that run are configured by: ConfigMaps, Secrets, and a Pod's labels, annotations and resources.
///
/// A ConfigMap or Secret goes to every pod that runs in its namespace. Their volumes have it when this command returns;
/// variables are read when a container starts the next time. Nothing is stored: the next `peapod run` begins with what
/// its manifest says. What an earlier apply, or the manifest of `peapod run`, had and FILE has no more is removed; what
/// was set in another way stays. If anything in the files is not valid nothing is applied.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod apply -f config.yaml            ConfigMaps and Secrets, for the pods of their namespaces
  peapod apply -f pod.yaml               the manifest of a pod that runs, edited
  cat config.yaml | peapod apply -f -    from standard input
  peapod apply -R -f config/ --dry-run=server   what would become of all files below a directory
  peapod get configmaps -o yaml          what the pods have now

Exits with 1 when something was refused, or no pod runs that it could be for.")]
pub struct Args {
    /// A file of YAML or JSON, or a directory of such; - reads standard input. May be given more than once.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Directories below directories too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// What to try without changing anything: client, only what would be sent; server, with all checks of the pods.
    #[arg(long, value_name = "HOW", default_value = "none", require_equals = true)]
    dry_run: DryRun,
    /// Print the objects, or only their names, in place of what became of them.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// The namespace of objects that name none [default: default].
    #[arg(short, long)]
    namespace: Option<String>,
}

/// What is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DryRun {
    /// Everything is done.
    None,
    /// Nothing is sent.
    Client,
    /// Nothing is changed.
    Server,
}

impl DryRun {
    /// What kubectl says behind the outcome (`NewDryRunVerifier` and `PrintFlagsWithDryRunStrategy` in
    /// `pkg/cmd/util/helpers.go`).
    fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// KIND/NAME, one a line.
    Name,
    /// The objects, in YAML.
    Yaml,
    /// The objects, in JSON.
    Json,
}

/// One document that is to be applied.
enum Document {
    Object {
        kind: ObjectKind,
        namespace: String,
        name: String,
        object: Value,
    },
    Pod {
        namespace: String,
        name: String,
        pod: Value,
    },
    /// A claim or a volume that there is just so.
    Same {
        kind: StorageKind,
        name: String,
        object: Value,
    },
}

/// Reads all, then applies one after the other.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let refused = |error| Failure::new(EXIT_REFUSED, error);
    let paths = Paths::from_env();
    let (documents, ignored) = documents(args, &paths).map_err(refused)?;
    for name in &ignored {
        warn(&format!(
            "{name} is not applied: it is read when its pod begins; if it has changed delete the pod and run it anew"
        ));
    }
    if documents.is_empty() {
        return Err(refused(anyhow::anyhow!("there is no ConfigMap, Secret or Pod in it")));
    }
    let mut all_well = true;
    let mut objects = Vec::new();
    for document in &documents {
        let (applied, error) = apply(&paths, document, args.dry_run);
        if let Some(Applied { what, outcome, object }) = applied {
            match args.output {
                None => target::print(&format!("{what} {}{}\n", outcome.as_str(), args.dry_run.suffix()))?,
                Some(Format::Name) => target::print(&format!("{what}\n"))?,
                Some(Format::Yaml | Format::Json) => objects.push(object),
            }
        }
        if let Some(error) = error {
            all_well = false;
            let _ = writeln!(std::io::stderr(), "peapod: {error:#}");
        }
    }
    if !objects.is_empty() {
        let list =
            |items: Vec<Value>| json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {}});
        let object = if objects.len() == 1 { objects.remove(0) } else { list(objects) };
        let text = match args.output {
            Some(Format::Json) => serde_json::to_string_pretty(&object)?,
            _ => output::yaml(&object),
        };
        target::print(&(text + "\n"))?;
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
}

fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "Warning: {text}");
}

/// The documents of all files, and what in them cannot be applied.
fn documents(args: &Args, paths: &Paths) -> anyhow::Result<(Vec<Document>, Vec<String>)> {
    let (mut documents, mut ignored, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for file in files::files(&args.file, args.recursive)? {
        let source = match file == Path::new("-") {
            true => "standard input".to_owned(),
            false => file.display().to_string(),
        };
        let text = load::read(&file).with_context(|| format!("cannot read {source}"))?;
        let (objects, errors) = manifest::objects(&text);
        wrong.extend(errors.into_iter().map(|error| format!("{source}: {error}")));
        for (place, object) in objects {
            let place = format!("{source}: {place}");
            match document(object, args.namespace.as_deref(), paths) {
                Ok(Read::Document(document)) => documents.push(document),
                Ok(Read::Ignored(name)) => ignored.push(format!("{place}: the {name}")),
                Err(errors) => wrong.extend(errors.iter().map(|error| format!("{place}: {error}"))),
            }
        }
    }
    ensure!(wrong.is_empty(), "nothing is applied:\n{}", wrong.join("\n"));
    Ok((documents, ignored))
}

enum Read {
    Document(Document),
    /// By its kind.
    Ignored(&'static str),
}

/// Checks one document. `chosen`: the namespace on the command line.
fn document(object: Object, chosen: Option<&str>, paths: &Paths) -> Result<Read, Vec<String>> {
    let invalid =
        |invalid: manifest::Invalid| invalid.errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let value = |value: serde_json::Result<Value>| value.map_err(|error| vec![error.to_string()]);
    Ok(Read::Document(match object {
        Object::ConfigMap(mut object) => {
            let (namespace, name) = place(&mut object.metadata, chosen)?;
            convert::config_map(&object).map_err(invalid)?;
            let object = value(serde_json::to_value(object))?;
            Document::Object { kind: ObjectKind::ConfigMap, namespace, name, object }
        }
        Object::Secret(mut object) => {
            let (namespace, name) = place(&mut object.metadata, chosen)?;
            convert::secret(&object).map_err(invalid)?;
            let object = value(serde_json::to_value(object))?;
            Document::Object { kind: ObjectKind::Secret, namespace, name, object }
        }
        Object::Pod(mut pod) => {
            let (namespace, name) = place(&mut pod.metadata, chosen)?;
            if let Some(spec) = &mut pod.spec {
                // What the pod was given since it began: it stays, also where a later file does not have it.
                (spec.node_name, spec.ephemeral_containers) = (None, None);
            }
            Document::Pod { namespace, name, pod: value(serde_json::to_value(pod))? }
        }
        Object::PersistentVolumeClaim(mut object) => {
            let (namespace, name) = place(&mut object.metadata, chosen)?;
            let own = Storage { kind: StorageKind::Claims, namespace: Some(&namespace), name: &name };
            match own.if_same(paths, &value(serde_json::to_value(object))?) {
                Some(object) => Document::Same { kind: own.kind, name, object },
                None => return Ok(Read::Ignored("PersistentVolumeClaim")),
            }
        }
        Object::PersistentVolume(mut object) => {
            // It is in no namespace.
            object.metadata.namespace = None;
            let (_, name) = place(&mut object.metadata, None)?;
            object.metadata.namespace = None;
            let own = Storage { kind: StorageKind::Volumes, namespace: None, name: &name };
            match own.if_same(paths, &value(serde_json::to_value(object))?) {
                Some(object) => Document::Same { kind: own.kind, name, object },
                None => return Ok(Read::Ignored("PersistentVolume")),
            }
        }
        Object::Other(kind) => return Ok(Read::Ignored(kind)),
    }))
}

/// The namespace and the name of an object, whose metadata keep only what can be applied: what a pod has added to one
/// that it was asked for is its own.
fn place(metadata: &mut ObjectMeta, chosen: Option<&str>) -> Result<(String, String), Vec<String>> {
    let ObjectMeta { name, namespace, generate_name, labels, annotations, .. } = std::mem::take(metadata);
    let namespace = namespace.filter(|own| !own.is_empty());
    let own = match (namespace, chosen) {
        (Some(own), Some(chosen)) if own != chosen => {
            return Err(vec![format!(
                "the namespace from the provided object {own:?} does not match the namespace {chosen:?}. You must \
                 pass '--namespace={own}' to perform this operation."
            )]);
        }
        (Some(own), _) => own,
        (None, chosen) => chosen.unwrap_or(DEFAULT_NAMESPACE).to_owned(),
    };
    let name = match (name.filter(|name| !name.is_empty()), generate_name) {
        (Some(name), _) => name,
        (None, Some(prefix)) => {
            return Err(vec![format!("from {prefix}: cannot use generate name with apply")]);
        }
        (None, None) => return Err(vec!["metadata.name: required".to_owned()]),
    };
    *metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(own.clone()),
        labels,
        annotations,
        ..ObjectMeta::default()
    };
    Ok((own, name))
}

/// What became of an object in one pod, or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    /// In kubectl's words.
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }

    /// What became of it altogether.
    fn with(self, other: Self) -> Self {
        if self == other { self } else { Self::Configured }
    }
}

/// A document that was applied.
struct Applied {
    /// `kind/name`.
    what: String,
    outcome: Outcome,
    /// The object as it is now, or would be.
    object: Value,
}

/// What became of a document, in the pods that took it, and what is wrong in others.
fn apply(paths: &Paths, document: &Document, dry_run: DryRun) -> (Option<Applied>, Option<anyhow::Error>) {
    match document {
        Document::Object { kind, namespace, name, object } => {
            apply_object(paths, *kind, namespace, name, object, dry_run)
        }
        Document::Pod { namespace, name, pod } => match apply_pod(paths, namespace, name, pod, dry_run) {
            Ok(applied) => (Some(applied), None),
            Err(error) => (None, Some(error)),
        },
        Document::Same { kind, name, object } => {
            let what = format!("{}/{name}", kind.singular());
            (Some(Applied { what, outcome: Outcome::Unchanged, object: object.clone() }), None)
        }
    }
}

fn apply_object(
    paths: &Paths,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
    object: &Value,
    dry_run: DryRun,
) -> (Option<Applied>, Option<anyhow::Error>) {
    let what = format!("{}/{name}", kind.singular());
    let (mut applied, mut referred, mut errors) = (None::<Applied>, false, Vec::new());
    for pod in objects::pods(paths, Some(namespace)) {
        let mut apply = || {
            let before = objects::one_of_pod(paths, &pod, kind, name)?;
            let after = match dry_run {
                DryRun::Client => Some(object.clone()),
                _ => objects::apply(paths, &pod, kind, name, object, dry_run == DryRun::Server)?,
            };
            let Some(after) = after else { return Ok(None) };
            referred |= objects::pod_of(paths, &pod)?.is_some_and(|pod| refers(&pod, kind, name));
            let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
            let outcome = match before {
                None => Outcome::Created,
                Some(before) if version(&before) == version(&after) => Outcome::Unchanged,
                Some(_) => Outcome::Configured,
            };
            anyhow::Ok(Some((outcome, after)))
        };
        match apply() {
            Ok(Some((own, object))) => {
                let outcome = applied.as_ref().map_or(own, |before| before.outcome.with(own));
                applied = Some(Applied { what: what.clone(), outcome, object });
            }
            Ok(None) => {}
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    if applied.is_some() && !referred {
        warn(&format!(
            "no pod that runs in namespace {namespace:?} refers to {what}; it is gone when they have ended"
        ));
    }
    let error = match (&applied, &errors[..]) {
        (None, []) => Some(anyhow::anyhow!(
            "{what}: no pod runs in namespace {namespace:?}; ConfigMaps and Secrets stand in the manifest of their \
             pod, and live with it: peapod run FILE"
        )),
        (_, []) => None,
        _ => Some(anyhow::anyhow!("{what}: {}", errors.join("\n"))),
    };
    (applied, error)
}

fn apply_pod(
    paths: &Paths,
    namespace: &str,
    name: &str,
    pod: &Value,
    dry_run: DryRun,
) -> anyhow::Result<Applied> {
    let mut named = objects::pods(paths, Some(namespace));
    named.retain(|pod| pod.identity.name == name);
    let [record] = &named[..] else {
        match named.len() {
            0 => bail!(
                "pod/{name}: it does not run in namespace {namespace:?}; start it with: peapod run FILE"
            ),
            count => bail!("pod/{name}: {count} pods of this name run in namespace {namespace:?}"),
        }
    };
    let applied = |outcome, object| Applied { what: format!("pod/{name}"), outcome, object };
    if dry_run == DryRun::Client {
        return Ok(applied(Outcome::Configured, pod.clone()));
    }
    let what = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone(), pod.spec.clone());
    let before = objects::pod_of(paths, record)?;
    let path = target::path(record) + if dry_run == DryRun::Server { DRY_RUN } else { "" };
    let after: Result<Pod, _> =
        client::patch(&paths.pod_run(&record.uid), &path, PatchType::Apply, pod.to_string());
    let after = after.map_err(|error| target::about(record, &error))?;
    let outcome = match before {
        Some(before) if what(&before) == what(&after) => Outcome::Unchanged,
        _ => Outcome::Configured,
    };
    Ok(applied(outcome, serde_json::to_value(after)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without claims and volumes.
    fn nowhere() -> Paths {
        Paths::resolve(0, |name| (name == "PEAPOD_ROOT").then(|| "/nonexistent".into()))
    }

    fn read(text: &str, namespace: Option<&str>) -> Result<(String, String), Vec<String>> {
        let (mut objects, errors) = manifest::objects(text.as_bytes());
        assert!(errors.is_empty(), "{errors:?}");
        match document(objects.remove(0).1, namespace, &nowhere())? {
            Read::Document(
                Document::Object { namespace, name, .. } | Document::Pod { namespace, name, .. },
            ) => Ok((namespace, name)),
            Read::Document(Document::Same { name, .. }) => Err(vec![format!("there is {name}")]),
            Read::Ignored(kind) => Err(vec![format!("ignored {kind}")]),
        }
    }

    #[test]
    fn an_object_has_its_place() {
        let map = |metadata: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {metadata}}}");
        let place = |namespace: &str, name: &str| Ok((namespace.to_owned(), name.to_owned()));
        assert_eq!(read(&map("{name: a}"), None), place("default", "a"));
        assert_eq!(read(&map("{name: a}"), Some("prod")), place("prod", "a"));
        assert_eq!(read(&map("{name: a, namespace: prod}"), None), place("prod", "a"));
        assert_eq!(read(&map("{name: a, namespace: prod}"), Some("prod")), place("prod", "a"));
        let other = read(&map("{name: a, namespace: prod}"), Some("test")).unwrap_err();
        assert!(other[0].contains("You must pass '--namespace=prod'"), "{other:?}");
        let generated = read(&map("{generateName: a-}"), None).unwrap_err();
        assert_eq!(generated, ["from a-: cannot use generate name with apply"]);
        assert_eq!(read(&map("{}"), None).unwrap_err(), ["metadata.name: required"]);
        let invalid =
            read("{apiVersion: v1, kind: Secret, metadata: {name: A}, stringData: {a/b: ''}}", None);
        assert_eq!(invalid.unwrap_err().len(), 2);
        let service = read("{apiVersion: v1, kind: Service, metadata: {name: a}}", None);
        assert_eq!(service.unwrap_err(), ["ignored Service"]);
    }

    #[test]
    fn what_a_pod_has_added_is_not_applied() {
        let text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, uid: u, resourceVersion: '7', labels: {b: c}}}";
        let (mut objects, _) = manifest::objects(text.as_bytes());
        let Ok(Read::Document(Document::Object { object, .. })) =
            document(objects.remove(0).1, None, &nowhere())
        else {
            panic!()
        };
        let expected = serde_json::json!({"name": "a", "namespace": "default", "labels": {"b": "c"}});
        assert_eq!(object["metadata"], expected);
    }

    #[test]
    fn outcomes_add_up() {
        use Outcome::{Configured, Created, Unchanged};
        assert_eq!(Created.with(Created), Created);
        assert_eq!(Unchanged.with(Unchanged), Unchanged);
        assert_eq!(Created.with(Unchanged), Configured);
        assert_eq!(Configured.as_str(), "configured");
    }
}
