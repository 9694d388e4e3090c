//! The running pod that the command line means.
//!
//! ```text
//! NAME, pod/NAME, NAMESPACE/NAME, UID… ─► records of this host ─► one pod ─► its control socket
//! ```

use super::table::{Align, Table};
use crate::api::client::ClientError;
use crate::api::socket as control;
use crate::paths::Paths;
use crate::sandbox::record::{self, Record};

/// Finds the pod that `wanted` names: `NAME`, `NAMESPACE/NAME`, `pod/NAME` as kubectl has it, or the first letters of
/// its uid; nothing means the only one that runs. `namespace`: that of `--namespace`.
pub fn find(paths: &Paths, wanted: Option<&str>, namespace: Option<&str>) -> anyhow::Result<Record> {
    let serves = |record: &Record| control::connect(&paths.pod_run(&record.uid)).is_ok();
    let mut pods = record::all(&record::directories(paths));
    if let Some(namespace) = namespace {
        pods.retain(|pod| pod.identity.namespace == namespace);
    }
    let plain = |wanted: &str| match wanted.split_once('/') {
        // A namespace may have one of these names.
        Some((kind @ ("pod" | "pods" | "po"), name))
            if !pods.iter().any(|pod| pod.identity.namespace == kind) =>
        {
            name.to_owned()
        }
        _ => wanted.to_owned(),
    };
    let wanted = wanted.map(plain);
    choose(pods, wanted.as_deref(), serves)
}

/// The path of the pod, and of what is below it, in the API.
pub fn path(pod: &Record, below: &str) -> String {
    format!("/api/v1/namespaces/{}/pods/{}{below}", pod.identity.namespace, pod.identity.name)
}

/// An error in asking a pod, with its name.
pub fn about(pod: &Record, error: &ClientError) -> anyhow::Error {
    anyhow::anyhow!("pod {}: {error}", full_name(pod))
}

/// `NAMESPACE/NAME`.
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
}
