//! The pod that a command is about.
//!
//! ```text
//! NAME, pod NAME, pod/NAME, NAMESPACE/NAME or uid ─► the records ─► one of them
//! ```

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, PodIP, PodStatus};

use super::table::{Align, Table};
use super::{EXIT_BAD_MANIFEST, EXIT_HOST, Failure};
use crate::api::client::{self, ClientError};
use crate::api::objects::ObjectKind;
use crate::api::socket as control;
use crate::paths::Paths;
use crate::sandbox::record::{self, Record};

/// HTTP's "Unprocessable Content".
const INVALID: u16 = 422;

/// What kubectl calls pods.
const KINDS: [&str; 3] = ["pod", "pods", "po"];

/// What kubectl calls claims.
const CLAIM_KINDS: [&str; 3] = ["persistentvolumeclaim", "persistentvolumeclaims", "pvc"];

/// What kubectl calls volumes.
const VOLUME_KINDS: [&str; 3] = ["persistentvolume", "persistentvolumes", "pv"];

/// What a command is about, where it is not pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKind {
    /// PersistentVolumeClaims.
    Claims,
    /// PersistentVolumes.
    Volumes,
}

impl StorageKind {
    fn of(word: &str) -> Option<Self> {
        match word {
            word if CLAIM_KINDS.contains(&word) => Some(Self::Claims),
            word if VOLUME_KINDS.contains(&word) => Some(Self::Volumes),
            _ => None,
        }
    }

    /// As kubectl's messages about one have it.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Claims => CLAIM_KINDS[0],
            Self::Volumes => VOLUME_KINDS[0],
        }
    }

    /// As kubectl's messages about all have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Claims => CLAIM_KINDS[1],
            Self::Volumes => VOLUME_KINDS[1],
        }
    }
}

/// Whether kubectl calls something so that peapod has.
pub fn is_kind(word: &str) -> bool {
    KINDS.contains(&word) || StorageKind::of(word).is_some() || ObjectKind::of_word(word).is_some()
}

/// The kind and the names in a command's words that are about claims or volumes: `pvc`, `pvc NAME..` or `pvc/NAME..`.
///
/// # Errors
/// They are about several kinds.
pub fn storage(words: &[String]) -> anyhow::Result<Option<(StorageKind, Vec<&str>)>> {
    if let [first, names @ ..] = words
        && let Some(kind) = StorageKind::of(first)
    {
        return Ok(Some((kind, names.iter().map(String::as_str).collect())));
    }
    let split =
        |word| str::split_once(word, '/').and_then(|(kind, name)| Some((StorageKind::of(kind)?, name)));
    let found: Vec<_> = words.iter().filter_map(|word| split(word)).collect();
    let Some((kind, _)) = found.first().copied() else { return Ok(None) };
    let are_alike = found.len() == words.len() && found.iter().all(|(own, _)| *own == kind);
    anyhow::ensure!(are_alike, "one kind at a time: {}", words.join(", "));
    Ok(Some((kind, found.into_iter().map(|(_, name)| name).collect())))
}

/// Every pod that has a record, and that somebody may answer for.
pub fn all(paths: &Paths) -> Vec<Record> {
    record::all(&record::directories(paths))
}

/// Whether somebody answers for a pod.
pub fn is_served(paths: &Paths, pod: &Record) -> bool {
    control::connect_soon(&paths.pod_run(&pod.uid)).is_ok()
}

/// The one pod that is meant, of this namespace or any.
///
/// # Errors
/// There is none, or more than one.
pub fn find(paths: &Paths, namespace: Option<&str>, wanted: Option<&str>) -> anyhow::Result<Record> {
    let mut pods = all(paths);
    pods.retain(|pod| namespace.is_none_or(|namespace| pod.identity.namespace == namespace));
    choose(pods, wanted, |pod| is_served(paths, pod))
}

/// The path of a pod in the API.
pub fn path(pod: &Record) -> String {
    let identity = &pod.identity;
    format!("/api/v1/namespaces/{}/pods/{}", identity.namespace, identity.name)
}

/// The pod with its status of now. One that nobody answers for is Unknown, with what its record says; `None` when it has
/// ended meanwhile.
pub fn pod(paths: &Paths, record: &Record) -> Option<Pod> {
    match client::get(&paths.pod_run(&record.uid), &path(record)) {
        Ok(pod) => Some(pod),
        Err(_) if !record::exists(paths, &record.uid) => None,
        Err(error) => Some(unknown(record, &error)),
    }
}

fn unknown(record: &Record, error: &ClientError) -> Pod {
    let identity = &record.identity;
    let mut pod = Pod::default();
    pod.metadata.name = Some(identity.name.clone());
    pod.metadata.namespace = Some(identity.namespace.clone());
    pod.metadata.uid = Some(record.uid.clone());
    pod.metadata.labels = Some(identity.labels.clone()).filter(|labels| !labels.is_empty());
    pod.status = Some(PodStatus {
        phase: Some("Unknown".to_owned()),
        message: Some(error.to_string()),
        pod_ip: record.addresses.first().map(ToString::to_string),
        pod_ips: Some(record.addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        ..PodStatus::default()
    });
    pod
}

/// The names in a command's words: `NAME..`, `pod NAME..` or `pod/NAME..`, as kubectl takes them.
///
/// # Errors
/// They name something else than pods.
pub fn names(words: &[String]) -> anyhow::Result<Vec<&str>> {
    let names = match words {
        // A pod may have that name, too.
        [kind, names @ ..] if KINDS.contains(&&**kind) && !names.is_empty() => names,
        words => words,
    };
    names.iter().map(|word| name(word)).collect()
}

/// `NAME` or `NAMESPACE/NAME` of `pod/NAME` and its like.
fn name(word: &str) -> anyhow::Result<&str> {
    match word.split_once('/') {
        Some((kind, name)) if KINDS.contains(&kind) => Ok(name),
        Some((kind, _)) if ["deployment", "deploy", "service", "svc", "job", "node"].contains(&kind) => {
            anyhow::bail!("{word}: peapod has pods only")
        }
        _ => Ok(word),
    }
}

/// The one name in a command's words, if there is any.
///
/// # Errors
/// There are more, or they name something else than a pod.
pub fn one_name(words: &[String]) -> anyhow::Result<Option<&str>> {
    let names = names(words)?;
    anyhow::ensure!(names.len() <= 1, "one pod at a time: {}", names.join(", "));
    Ok(names.first().copied())
}

/// The text that a command prints, for as long as somebody reads.
///
/// # Errors
/// Standard output's, except that its reader has gone.
pub fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// An error in asking `pod`.
pub fn about(pod: &Record, error: &ClientError) -> anyhow::Error {
    anyhow::anyhow!("pod {}: {error}", full_name(pod))
}

/// An error in asking `pod` for a change: what would make it invalid is as wrong in a manifest.
pub fn refused(pod: &Record, error: &ClientError) -> Failure {
    let is_invalid = matches!(error, ClientError::Refused { code: INVALID, .. });
    Failure::new(if is_invalid { EXIT_BAD_MANIFEST } else { EXIT_HOST }, about(pod, error))
}

/// `namespace/name`.
pub fn full_name(pod: &Record) -> String {
    format!("{}/{}", pod.identity.namespace, pod.identity.name)
}

/// The pod that is meant. `serves`: whether somebody answers for a pod.
fn choose(
    mut pods: Vec<Record>,
    wanted: Option<&str>,
    serves: impl Fn(&Record) -> bool,
) -> anyhow::Result<Record> {
    let Some(wanted) = wanted else {
        pods.retain(serves);
        return match pods.len() {
            0 => anyhow::bail!("no pod runs; start one with: peapod run FILE"),
            1 => Ok(pods.remove(0)),
            _ => anyhow::bail!("several pods run; say which:\n{}", list(&pods)),
        };
    };
    let named = |pod: &Record| wanted == pod.identity.name || wanted == full_name(pod);
    let by_name = pods.iter().any(named);
    let (mut meant, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| match by_name {
        true => named(pod),
        false => !wanted.is_empty() && pod.uid.starts_with(wanted),
    });
    if meant.len() > 1 && meant.iter().any(&serves) {
        // What a run that was killed has left behind does not make a name ambiguous.
        meant.retain(&serves);
    }
    match meant.len() {
        0 => {
            let running: Vec<_> = others.into_iter().filter(serves).collect();
            anyhow::ensure!(!running.is_empty(), "no pod {wanted:?}: no pod runs");
            anyhow::bail!("no pod {wanted:?}; there are\n{}", list(&running))
        }
        1 => Ok(meant.remove(0)),
        count => anyhow::bail!("{count} pods are meant by {wanted:?}; say which:\n{}", list(&meant)),
    }
}

/// The pods, one a line, as they can be named.
fn list(pods: &[Record]) -> String {
    let mut names: Vec<_> = pods.iter().map(|pod| (full_name(pod), &pod.uid)).collect();
    names.sort();
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    for (name, uid) in names {
        table.row([format!("  {name}"), uid.clone()]);
    }
    table.to_string().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_and_volumes_are_named_as_kubectl_names_them() {
        let named = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let found = storage(&words).map_err(|error| error.to_string());
            found.map(|found| found.map(|(kind, names)| (kind, names.join(" "))))
        };
        for words in [&["pvc", "a", "b"][..], &["pvc/a", "persistentvolumeclaims/b"]] {
            assert_eq!(named(words), Ok(Some((StorageKind::Claims, "a b".to_owned()))), "{words:?}");
        }
        assert_eq!(named(&["pv"]), Ok(Some((StorageKind::Volumes, String::new()))));
        assert_eq!(named(&["web", "pod/a"]), Ok(None));
        assert_eq!(named(&[]), Ok(None));
        assert!(named(&["pvc/a", "pv/b"]).is_err());
        assert!(named(&["web", "pvc/a"]).is_err());
    }

    fn pod(namespace: &str, name: &str, uid: &str) -> Record {
        let identity = record::Identity {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ..record::Identity::default()
        };
        Record { uid: uid.to_owned(), identity, ..Record::default() }
    }

    fn pods() -> Vec<Record> {
        vec![pod("default", "web", "a1b2"), pod("prod", "web", "a1c3"), pod("default", "a1", "dead")]
    }

    #[test]
    fn a_pod_is_named_by_name_by_namespace_or_by_uid() {
        let uid = |wanted| choose(pods(), Some(wanted), |_| true).map(|pod| pod.uid);
        assert_eq!(uid("prod/web").unwrap(), "a1c3");
        assert_eq!(uid("a1").unwrap(), "dead", "a name comes before a uid");
        assert_eq!(uid("a1b").unwrap(), "a1b2");
        let ambiguous = uid("web").unwrap_err().to_string();
        assert_eq!(
            ambiguous,
            "2 pods are meant by \"web\"; say which:\n  default/web  a1b2\n  prod/web     a1c3"
        );
        let unknown = uid("wbe").unwrap_err().to_string();
        assert!(unknown.starts_with("no pod \"wbe\"; there are\n"), "{unknown}");
        assert!(unknown.contains("default/a1"), "{unknown}");
        assert!(uid("").is_err());
    }

    #[test]
    fn pods_that_nobody_serves_are_not_in_the_way() {
        let only = |uid: &'static str| move |pod: &Record| pod.uid == uid;
        assert_eq!(choose(pods(), Some("web"), only("a1c3")).unwrap().uid, "a1c3");
        assert_eq!(choose(pods(), None, only("dead")).unwrap().uid, "dead");
        assert!(choose(pods(), None, |_| true).unwrap_err().to_string().contains("say which"));
        assert!(choose(vec![], None, |_| true).unwrap_err().to_string().contains("no pod runs"));
        assert!(choose(pods(), Some("x"), |_| false).unwrap_err().to_string().contains("no pod runs"));
        // One that is named is asked, so that the error says what is wrong with it.
        assert_eq!(choose(pods(), Some("a1"), |_| false).unwrap().uid, "dead");
    }

    #[test]
    fn pods_are_named_as_kubectl_names_them() {
        let named = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            names(&words).map(|names| names.join(" ")).map_err(|error| error.to_string())
        };
        for words in [&["web"][..], &["pod", "web"], &["pods", "web"], &["po/web"], &["pod/web"]] {
            assert_eq!(named(words), Ok("web".to_owned()), "{words:?}");
        }
        assert_eq!(named(&["pod", "a", "b"]), Ok("a b".to_owned()));
        assert_eq!(named(&["prod/web"]), Ok("prod/web".to_owned()));
        assert_eq!(named(&["pod"]), Ok("pod".to_owned()), "a name, too");
        assert!(named(&["svc/web"]).unwrap_err().contains("pods only"));
        assert!(one_name(&["a".to_owned(), "b".to_owned()]).is_err());
        assert_eq!(one_name(&[]).unwrap(), None);
    }
}
