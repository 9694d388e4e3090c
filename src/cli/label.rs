//! `peapod label`, `peapod annotate`: the metadata of pods that run, as `kubectl label` and `kubectl annotate` change
//! them (`k8s.io/kubectl/pkg/cmd/label`, `k8s.io/kubectl/pkg/cmd/annotate`).
//!
//! ```text
//! words ─► pods, KEY=VALUE, KEY- ─► what is there already ─► PATCH on each control socket ─► labeled
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::get::DEFAULT_NAMESPACE;
use super::objects;
use super::{EXIT_REFUSED, Failure, target};
use crate::api::client;
use crate::api::patch::PatchType;
use crate::paths::Paths;
use crate::spec::name;

/// Change the labels of pods that run.
///
/// They are what other pods' NetworkPolicies select by, at once, and what downward API volumes show.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod label pod web tier=front           a new label
  peapod label web tier=back --overwrite    another value
  peapod label pod/web tier-                without it
  peapod label pods --all env=test          of all pods in the namespace
  peapod label pod web --list               those that it has")]
pub struct LabelArgs {
    #[command(flatten)]
    common: Common,
}

/// Change the annotations of pods that run.
///
/// Downward API volumes show them. Those below peapod.dev/ configure peapod itself: peapod.dev/config.CONTAINER says at
/// once which ConfigMaps the container finds in wasi:config; the others are read when the pod begins, and cannot change
/// while it runs.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod annotate pod web note='of Monday'           a new annotation
  peapod annotate web note=other --overwrite         another value
  peapod annotate pod/web note-                      without it
  peapod annotate pod web --list                     those that it has")]
pub struct AnnotateArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Common {
    /// The pods (NAME, pod NAME.., pod/NAME), then KEY=VALUE to set and KEY- to remove.
    #[arg(value_name = "POD|KEY=VALUE|KEY-", required = true)]
    words: Vec<String>,
    /// The pods' namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Also change what is there already.
    #[arg(long)]
    overwrite: bool,
    /// All pods of the namespace.
    #[arg(long)]
    all: bool,
    /// Show those that the pods have then.
    #[arg(long)]
    list: bool,
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Labels,
    Annotations,
}

impl What {
    fn singular(self) -> &'static str {
        match self {
            Self::Labels => "label",
            Self::Annotations => "annotation",
        }
    }

    /// The field of `metadata`.
    fn field(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }

    fn of(self, pod: &Pod) -> BTreeMap<String, String> {
        let map = match self {
            Self::Labels => &pod.metadata.labels,
            Self::Annotations => &pod.metadata.annotations,
        };
        map.clone().unwrap_or_default()
    }
}

/// `peapod label`.
pub fn label(args: &LabelArgs) -> Result<ExitCode, Failure> {
    run(&args.common, What::Labels).map_err(|error| Failure::new(EXIT_REFUSED, error))
}

/// `peapod annotate`.
pub fn annotate(args: &AnnotateArgs) -> Result<ExitCode, Failure> {
    run(&args.common, What::Annotations).map_err(|error| Failure::new(EXIT_REFUSED, error))
}

fn run(args: &Common, what: What) -> anyhow::Result<ExitCode> {
    let (words, changes) = split(&args.words, what)?;
    let changes = Changes::parse(changes, what)?;
    ensure!(args.list || !changes.is_empty(), "at least one {} update is required", what.singular());
    let paths = Paths::from_env();
    let names = match words {
        [kind] if args.all && ["pod", "pods", "po"].contains(&&**kind) => Vec::new(),
        words => target::names(words)?,
    };
    ensure!(
        args.all == names.is_empty(),
        match args.all {
            true => "cannot set --all and name pods at the same time",
            false => "one or more pods must be specified as pod NAME or pod/NAME",
        }
    );
    let mut pods = Vec::new();
    for name in &names {
        pods.push(target::find(&paths, args.namespace.as_deref(), Some(name))?);
    }
    if args.all {
        let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        pods = objects::pods(&paths, Some(namespace));
    }
    for record in &pods {
        let gone = || anyhow::anyhow!("pod {} has just ended", target::full_name(record));
        let before = what.of(&objects::pod_of(&paths, record)?.ok_or_else(gone)?);
        let mut after = before.clone();
        if !changes.is_empty() {
            changes.check(&before, args.overwrite, what)?;
            let missing = changes.removed.iter().filter(|key| !before.contains_key(*key));
            let text: String =
                missing.map(|key| format!("{} {key:?} not found.\n", what.singular())).collect();
            target::print(&text)?;
            let answer: Result<Pod, _> = client::patch(
                &paths.pod_run(&record.uid),
                &target::path(record),
                PatchType::Merge,
                changes.patch(what).to_string(),
            );
            after = what.of(&answer.map_err(|error| target::about(record, &error))?);
        }
        if args.list {
            let lines: String = after.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            target::print(&lines)?;
        } else {
            target::print(&format!("pod/{} {}\n", record.identity.name, word(&before, &after, what)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The words before the first change, and from there (`GetResourcesAndPairs` in
/// `k8s.io/kubectl/pkg/cmd/util/helpers.go`).
fn split(words: &[String], what: What) -> anyhow::Result<(&[String], &[String])> {
    let is_change = |word: &String| word.contains('=') || word.ends_with('-');
    let at = words.iter().position(is_change).unwrap_or(words.len());
    let (pods, changes) = words.split_at(at);
    if let Some(word) = changes.iter().find(|word| !is_change(word)) {
        bail!("all pods must be specified before {} changes: {word}", what.singular());
    }
    Ok((pods, changes))
}

/// What is to be set and removed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    set: BTreeMap<String, String>,
    removed: Vec<String>,
}

impl Changes {
    fn parse(words: &[String], what: What) -> anyhow::Result<Self> {
        let one = what.singular();
        let mut changes = Self::default();
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => {
                    check_key(key, what)?;
                    if what == What::Labels
                        && let Err(why) = name::label_value(value)
                    {
                        bail!("label {key}: {why}");
                    }
                    changes.set.insert(key.to_owned(), value.to_owned());
                }
                None => changes.removed.push(word.trim_end_matches('-').to_owned()),
            }
        }
        if let Some(key) = changes.removed.iter().find(|key| changes.set.contains_key(*key)) {
            bail!("can not both modify and remove the {one} {key} in the same command");
        }
        Ok(changes)
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    /// Refuses to give what is there another value, unless that is meant.
    fn check(&self, before: &BTreeMap<String, String>, overwrite: bool, what: What) -> anyhow::Result<()> {
        let has_other = |(key, value): &(&String, &String)| before.get(*key).is_some_and(|old| old != *value);
        let told: Vec<_> = self
            .set
            .iter()
            .filter(has_other)
            .map(|(key, _)| format!("'{key}' already has a value ({})", before[key]))
            .collect();
        if overwrite || told.is_empty() {
            return Ok(());
        }
        match what {
            What::Labels => bail!("{}, and --overwrite is false", told.join(", ")),
            What::Annotations => bail!(
                "--overwrite is false but found the following declared annotation(s): {}",
                told.join("; ")
            ),
        }
    }

    /// As a JSON merge patch.
    fn patch(&self, what: What) -> Value {
        let set = self.set.iter().map(|(key, value)| (key.clone(), json!(value)));
        let removed = self.removed.iter().map(|key| (key.clone(), Value::Null));
        let map: Map<_, _> = set.chain(removed).collect();
        json!({"metadata": {(what.field()): map}})
    }
}

fn check_key(key: &str, what: What) -> anyhow::Result<()> {
    let checked = match what {
        What::Labels => name::qualified(key),
        What::Annotations => name::qualified(&key.to_lowercase()),
    };
    checked.map_err(|why| anyhow::anyhow!("{} {key:?}: {why}", what.singular()))
}

/// What has become of them, in kubectl's words.
fn word(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, what: What) -> &'static str {
    if what == What::Annotations {
        return "annotated";
    }
    let is_less = before.keys().any(|key| !after.contains_key(key));
    let is_more = after.iter().any(|(key, value)| before.get(key) != Some(value));
    match (is_more, is_less) {
        (true, true) => "modified",
        (true, false) => "labeled",
        (false, true) => "unlabeled",
        (false, false) => "not labeled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn changes(list: &[&str], what: What) -> Result<Changes, String> {
        Changes::parse(&words(list), what).map_err(|error| error.to_string())
    }

    #[test]
    fn pods_come_before_changes() {
        let all = words(&["pod", "web", "a=1", "b-"]);
        let (pods, changes) = split(&all, What::Labels).unwrap();
        assert_eq!((pods, changes), (&words(&["pod", "web"])[..], &words(&["a=1", "b-"])[..]));
        let late = split(&words(&["web", "a=1", "db"]), What::Labels).unwrap_err().to_string();
        assert_eq!(late, "all pods must be specified before label changes: db");
    }

    #[test]
    fn changes_are_read_as_kubectl_reads_them() {
        let parsed = changes(&["a=1", "example.com/b=", "c-"], What::Labels).unwrap();
        assert_eq!(parsed.set, map(&[("a", "1"), ("example.com/b", "")]));
        let patch = json!({"metadata": {"labels": {"a": "1", "example.com/b": "", "c": null}}});
        assert_eq!(parsed.patch(What::Labels), patch);
        let annotated = changes(&["note=a=b c", "URL=x"], What::Annotations).unwrap();
        assert_eq!(annotated.set, map(&[("note", "a=b c"), ("URL", "x")]));
        for wrong in [&["a=b c"][..], &["a b=c"], &["=x"], &["a=1", "a-"], &["a=b=c"]] {
            assert!(changes(wrong, What::Labels).is_err(), "{wrong:?}");
        }
        assert!(changes(&["a b=x"], What::Annotations).unwrap_err().contains("annotation \"a b\""));
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let before = map(&[("a", "1"), ("b", "2")]);
        let check = |list: &[&str], overwrite, what| {
            let parsed = changes(list, what).unwrap();
            parsed.check(&before, overwrite, what).map_err(|error| error.to_string())
        };
        assert_eq!(check(&["a=1", "c=3", "b-"], false, What::Labels), Ok(()));
        assert_eq!(check(&["a=2"], true, What::Labels), Ok(()));
        let refused = check(&["a=2"], false, What::Labels).unwrap_err();
        assert_eq!(refused, "'a' already has a value (1), and --overwrite is false");
        assert_eq!(
            check(&["a=2", "b=3"], false, What::Annotations).unwrap_err(),
            "--overwrite is false but found the following declared annotation(s): 'a' already has a value (1); \
             'b' already has a value (2)"
        );
    }

    #[test]
    fn the_words_are_kubectls() {
        let before = map(&[("a", "1")]);
        let told = |after: &[_]| word(&before, &map(after), What::Labels);
        assert_eq!(told(&[("a", "1")]), "not labeled");
        assert_eq!(told(&[("a", "2")]), "labeled");
        assert_eq!(told(&[("a", "1"), ("b", "2")]), "labeled");
        assert_eq!(told(&[]), "unlabeled");
        assert_eq!(told(&[("b", "1")]), "modified");
        assert_eq!(word(&before, &before, What::Annotations), "annotated");
    }
}
