//! `peapod delete POD`: ends a pod, as kubectl does. `peapod delete configmap NAME` takes it from the pods;
//! `peapod delete pvc NAME` deletes a claim that no pod uses.
//!
//! ```text
//! records ─┬► DELETE on its control socket ─► its directory is gone
//!          └► nobody answers, nobody owns it: cleaned up after, here and now
//! claims, volumes ─► the registry, here and now
//! ```

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::get::DEFAULT_NAMESPACE;
use super::target::StorageKind;
use super::{Failure, all_well, objects, target};
use crate::api::client::{self, ClientError};
use crate::paths::Paths;
use crate::sandbox;
use crate::sandbox::record::{self, Record};
use crate::volume::claims;

/// How often to look whether the pod is gone.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long a supervisor that does not answer any more may take to remove its pod: it waits for volumes on slow disks.
const REMOVAL: Duration = Duration::from_secs(30);

/// End a pod that runs, and wait until it is gone.
///
/// It ends as by SIGTERM: its containers have its terminationGracePeriodSeconds, or --grace-period, and `peapod run`
/// exits with 143 unless all of them end well. Deleting it again with a shorter grace period shortens it. A pod whose
/// `peapod run` was killed is removed at once.
///
/// A ConfigMap or a Secret is taken from the pods of its namespace: volumes keep the files that they have unless it is
/// optional, and containers that need it do not start any more.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod delete web                      within its grace period
  peapod delete pod/web --grace-period=5
  peapod delete web --now                within one second
  peapod delete web --grace-period=0 --force    at once
  peapod delete configmap web-config     from the pods that have it
  peapod delete pvc data                 a claim, with its data")]
pub struct Args {
    /// The pods: NAME, pod NAME, pod/NAME, NAMESPACE/NAME or the first letters of a uid; configmap, secret, pvc or pv and NAME...
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// The namespace of pods [default: any] and claims [default: default].
    #[arg(short, long)]
    namespace: Option<String>,
    /// Seconds to end in; -1: the pod's own.
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// One second.
    #[arg(long, conflicts_with = "force")]
    now: bool,
    /// At once, without grace.
    #[arg(long)]
    force: bool,
    /// Whether to wait until it is gone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    wait: bool,
    /// Waits no longer than this many seconds; 0: for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,
}

/// Asks the supervisors, and waits.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    // A pod may have the name of a kind, too.
    if let Some((kind, names)) = objects::named(&args.pods)?.filter(|(_, names)| !names.is_empty()) {
        objects::delete(args.namespace.as_deref(), kind, &names)?;
        return Ok(ExitCode::SUCCESS);
    }
    let grace = grace(args)?;
    let paths = Paths::from_env();
    // A pod may have the name of a kind, too.
    if let Some((kind, names)) = target::storage(&args.pods)?.filter(|(_, names)| !names.is_empty()) {
        return delete_storage(args, &paths, kind, &names);
    }
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for name in target::names(&args.pods)? {
        match delete(args, &paths, name, grace) {
            Ok(pod) => deleted.push(pod),
            Err(failure) => failures.push(failure),
        }
    }
    if args.wait {
        failures.extend(wait(&paths, &deleted, args.timeout).err().map(Failure::from));
    }
    all_well(failures).map(|()| ExitCode::SUCCESS)
}

/// Asks the supervisor of a pod to end it, or removes what is left of one that has none.
fn delete(args: &Args, paths: &Paths, name: &str, grace: Option<u32>) -> Result<Record, Failure> {
    let pod = target::find(paths, args.namespace.as_deref(), Some(name))?;
    let parameters = grace.map(|seconds| format!("?gracePeriodSeconds={seconds}")).unwrap_or_default();
    let path = target::path(&pod) + &parameters;
    let answer: Result<Pod, _> = client::delete(&paths.pod_run(&pod.uid), &path);
    match answer {
        Ok(_) => {}
        // It has just ended by itself.
        Err(ClientError::NotServed) if !record::exists(paths, &pod.uid) => {}
        Err(ClientError::NotServed) => remove(paths, &pod)?,
        Err(error) => return Err(target::about(&pod, &error).into()),
    }
    let force = if args.force { "force " } else { "" };
    let identity = &pod.identity;
    target::print(&format!(
        "pod {:?} {force}deleted from {} namespace\n",
        identity.name, identity.namespace
    ))?;
    Ok(pod)
}

/// Deletes claims or volumes.
fn delete_storage(
    args: &Args,
    paths: &Paths,
    kind: StorageKind,
    names: &[&str],
) -> Result<ExitCode, Failure> {
    let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let mut failures = Vec::new();
    for name in names {
        let (deleted, place) = match kind {
            StorageKind::Claims => {
                let key = (namespace.to_owned(), (*name).to_owned());
                (claims::delete_claim(paths, &key), format!(" from {namespace} namespace"))
            }
            StorageKind::Volumes => (claims::delete_volume(paths, name).map(|()| None), String::new()),
        };
        match deleted {
            Ok(warning) => {
                target::print(&format!("{} {name:?} deleted{place}\n", kind.singular()))?;
                if let Some(warning) = warning {
                    writeln!(std::io::stderr(), "warning: {warning}")?;
                }
            }
            Err(error) => failures.push(error.into()),
        }
    }
    all_well(failures).map(|()| ExitCode::SUCCESS)
}

/// The grace period, seconds, as kubectl takes its options (`pkg/cmd/delete/delete.go`).
fn grace(args: &Args) -> anyhow::Result<Option<u32>> {
    anyhow::ensure!(
        !args.now || args.grace_period < 0,
        "--now and --grace-period cannot be specified together"
    );
    Ok(match (args.grace_period, args.now, args.force) {
        (_, true, _) => Some(1),
        (..0, _, true) => Some(0),
        (..0, _, false) => None,
        // Without --force somebody may not have meant it.
        (0, _, false) => Some(1),
        (seconds, _, force) => {
            anyhow::ensure!(
                !force || seconds == 0,
                "--force and --grace-period greater than 0 cannot be specified together"
            );
            Some(u32::try_from(seconds)?)
        }
    })
}

/// Removes what is left of a pod whose `peapod run` was killed, unless somebody else is about to.
fn remove(paths: &Paths, pod: &Record) -> anyhow::Result<()> {
    let end = Instant::now() + REMOVAL;
    let swept = loop {
        if let Some(swept) = sandbox::sweep_pod(paths, &pod.uid)? {
            break swept;
        }
        if !record::exists(paths, &pod.uid) {
            return Ok(());
        }
        // It has only just begun, or its end hangs.
        if target::is_served(paths, pod) || Instant::now() >= end {
            return Err(target::about(pod, &ClientError::NotServed));
        }
        std::thread::sleep(INTERVAL);
    };
    match swept.errors.first() {
        None => Ok(()),
        Some(error) => anyhow::bail!(
            "left of pod {}, not removed: {error}; delete it again, or the next `peapod run` tries",
            target::full_name(pod)
        ),
    }
}

/// Waits until nothing of the pods is left.
fn wait(paths: &Paths, pods: &[Record], timeout: u64) -> anyhow::Result<()> {
    let end = (timeout > 0).then(|| Instant::now() + Duration::from_secs(timeout));
    for pod in pods {
        let mut served = Instant::now();
        while record::exists(paths, &pod.uid) {
            let now = Instant::now();
            if target::is_served(paths, pod) {
                served = now;
            }
            anyhow::ensure!(
                now < served + REMOVAL,
                "pod {}: something of it is left, and nobody answers for it any more; if its `peapod run` was \
                 killed, the next one removes it",
                target::full_name(pod)
            );
            let timed_out = end.is_some_and(|end| now >= end);
            anyhow::ensure!(!timed_out, "timed out waiting for pod {} to be gone", target::full_name(pod));
            std::thread::sleep(INTERVAL);
        }
    }
    Ok(())
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
    fn the_options_are_kubectls() {
        let of = |words: &[&str]| {
            let args = Line::parse_from(["delete", "web"].iter().chain(words)).args;
            grace(&args).ok()
        };
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&["--grace-period=5"]), Some(Some(5)));
        assert_eq!(of(&["--grace-period=0"]), Some(Some(1)));
        assert_eq!(of(&["--grace-period", "-1"]), Some(None));
        assert_eq!(of(&["--now"]), Some(Some(1)));
        assert_eq!(of(&["--force"]), Some(Some(0)));
        assert_eq!(of(&["--force", "--grace-period=0"]), Some(Some(0)));
        assert_eq!(of(&["--force", "--grace-period=5"]), None);
        assert_eq!(of(&["--now", "--grace-period=5"]), None);
        let wait = |words: &[&str]| Line::parse_from(["delete", "web"].iter().chain(words)).args.wait;
        assert!(wait(&[]) && wait(&["--wait"]) && !wait(&["--wait=false"]));
    }
}
