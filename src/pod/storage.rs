//! What a pod takes of the disk, and whether that is more than it may.
//!
//! ```text
//! spec ─► Limits: none ─► nothing is ever measured
//!            │
//!            └─► watch: every period, on the blocking pool, a step of
//!                  Measurement: volumes on disk, containers' logs ─► Used ─► Limits::exceeded ─► Event::Evicted
//! ```
//!
//! As the kubelet does (`localStorageEviction` in `pkg/kubelet/eviction/eviction_manager.go`): first the `sizeLimit`
//! of each emptyDir, then the pod's sum, then each container. What a container itself has of the disk is its logs: a
//! Wasm container has no root file system that it could write to. An emptyDir of `medium: Memory` is bounded by its
//! tmpfs. Key-value stores that are in no volume count to the pod's sum.
//!
//! A guest that makes millions of files holds up nobody: a period's step looks at so many of them only, and the next
//! goes on there. A directory that is over its limit is found so before it is counted to the end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::spec::quantity::Bytes;
use crate::spec::volume::ProjectedPlugin;
use crate::spec::{Container, Pod, Role, VolumeSource};
use crate::volume::Volumes;
use crate::volume::usage::Walk;

/// How often the use is looked at: the kubelet's `evictionMonitoringPeriod` (`pkg/kubelet/kubelet.go`).
pub const PERIOD: Duration = Duration::from_secs(10);

/// Files and directories that are looked at in a period, which takes some 200 ms of one thread.
const ENTRIES: usize = 100_000;

/// What the pod may take of the disk, bytes. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limits {
    /// `sizeLimit` of the emptyDirs on disk that have one, in the manifest's order.
    volumes: Vec<(String, u64)>,
    /// `limits.ephemeral-storage` of the containers together.
    pod: Option<u64>,
    /// And of those that have one.
    containers: Vec<(String, u64)>,
}

impl Limits {
    /// `None`: nothing is limited.
    fn of(pod: &Pod) -> Option<Self> {
        let limit = |container: &Container| container.resources.storage_limit_bytes;
        let sized = pod.volumes.iter().filter_map(|volume| match volume.source {
            VolumeSource::EmptyDir { memory: false, size_limit } => Some((volume.name.clone(), size_limit?)),
            _ => None,
        });
        let containers = pod.all_containers().filter_map(|own| Some((own.name.clone(), limit(own)?)));
        let limits = Self {
            volumes: sized.collect(),
            pod: pod.resources.storage_limit_bytes.or_else(|| sum(pod, limit)),
            containers: containers.collect(),
        };
        let any = !limits.volumes.is_empty() || limits.pod.is_some() || !limits.containers.is_empty();
        any.then_some(limits)
    }

    /// What is exceeded, in the kubelet's words.
    fn exceeded(&self, used: &Used) -> Option<String> {
        let of = |list: &BTreeMap<String, u64>, name: &String| list.get(name).copied().unwrap_or_default();
        for (name, limit) in &self.volumes {
            if of(&used.volumes, name) > *limit {
                let limit = Bytes(*limit);
                return Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". "));
            }
        }
        let all = used.volumes.values().chain(used.logs.values());
        if let Some(limit) = self.pod
            && all.fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)) > limit
        {
            let limit = Bytes(limit);
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
            ));
        }
        for (name, limit) in &self.containers {
            if of(&used.logs, name) > *limit {
                let limit = Bytes(*limit);
                return Some(format!(
                    "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
                ));
            }
        }
        None
    }
}

/// Whether it is on the pod's own disk, as an emptyDir and a configMap are, and secrets are not
/// (`IsLocalEphemeralVolume` in `pkg/volume/util/util.go`).
fn is_on_disk(source: &VolumeSource) -> bool {
    match source {
        VolumeSource::EmptyDir { memory, .. } => !memory,
        VolumeSource::Projected { plugin, .. } => *plugin == ProjectedPlugin::ConfigMap,
        _ => false,
    }
}

/// The containers' limits together, of those that have one (`PodLimits` in
/// `staging/src/k8s.io/component-helpers/resource/helpers.go`).
fn sum(pod: &Pod, limit: impl Fn(&Container) -> Option<u64>) -> Option<u64> {
    let plus = |sum: Option<u64>, own: Option<u64>| match (sum, own) {
        (Some(sum), Some(own)) => Some(sum.saturating_add(own)),
        (sum, own) => sum.or(own),
    };
    let (mut sidecars, mut starting) = (None, None);
    for container in &pod.init_containers {
        let together = plus(sidecars, limit(container));
        starting = starting.max(together);
        if container.role == Role::Sidecar {
            sidecars = together;
        }
    }
    pod.containers.iter().fold(sidecars, |sum, own| plus(sum, limit(own))).max(starting)
}

/// What is taken of the disk, bytes, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Used {
    volumes: BTreeMap<String, u64>,
    logs: BTreeMap<String, u64>,
}

/// Looks at the use of the disk as long as it is polled.
pub(super) struct Watch {
    limits: Limits,
    volumes: Vec<(String, Dir)>,
    /// Container names, and where their logs are; without a name, what is the pod's own.
    logs: Vec<(String, PathBuf)>,
    period: Duration,
}

impl Watch {
    /// For a pod that has limits; `None` for one without.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn new(
        pod: &Pod,
        volumes: &Volumes,
        log_dir: &Path,
        own: Option<&Path>,
        period: Duration,
    ) -> io::Result<Option<Self>> {
        let Some(limits) = Limits::of(pod) else { return Ok(None) };
        let mut watched = Vec::new();
        for volume in &pod.volumes {
            let counts = limits.pod.is_some() || limits.volumes.iter().any(|(name, _)| *name == volume.name);
            if counts
                && is_on_disk(&volume.source)
                && let Some(dir) = volumes.directory(&volume.name)
            {
                watched.push((volume.name.clone(), dir.try_clone()?));
            }
        }
        let logged = pod.all_containers().filter(|_| limits.pod.is_some() || !limits.containers.is_empty());
        let logs = logged.map(|own| (own.name.clone(), log_dir.join(&own.name)));
        let logs = logs.chain(own.map(|own| (String::new(), own.to_owned()))).collect();
        Ok(Some(Self { limits, volumes: watched, logs, period }))
    }

    /// Ends when a limit is exceeded, with what there is to say of it.
    pub(super) async fn run(self) -> String {
        let mut interval = tokio::time::interval(self.period);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one is at once, when there is nothing yet.
        interval.tick().await;
        let mut measurement = Measurement::default();
        loop {
            interval.tick().await;
            if measurement.todo.is_empty() {
                measurement = Measurement::begin(&self.volumes, &self.logs);
            }
            let step = tokio::task::spawn_blocking(move || {
                measurement.step(ENTRIES);
                measurement
            });
            // It cannot panic; were it to, the next one begins anew.
            measurement = step.await.unwrap_or_default();
            if let Some(message) = self.limits.exceeded(&measurement.used) {
                return message;
            }
        }
    }
}

/// One look at everything, in steps.
#[derive(Default)]
struct Measurement {
    /// What is still to be counted, the last one first.
    todo: Vec<(Place, Walk)>,
    used: Used,
}

/// What is counted.
enum Place {
    Volume(String),
    Log(String),
}

impl Measurement {
    /// Of all that is there: a container that was never started has no logs.
    fn begin(volumes: &[(String, Dir)], logs: &[(String, PathBuf)]) -> Self {
        let volumes = volumes.iter().filter_map(|(name, dir)| {
            Some((Place::Volume(name.clone()), Walk::new(dir.try_clone().ok()?).ok()?))
        });
        let logs = logs.iter().filter_map(|(name, path)| {
            let dir = Dir::open_ambient_dir(path, ambient_authority()).ok()?;
            Some((Place::Log(name.clone()), Walk::new(dir).ok()?))
        });
        Self { todo: volumes.chain(logs).collect(), used: Used::default() }
    }

    /// Looks at up to `budget` more entries.
    fn step(&mut self, mut budget: usize) {
        while let Some((place, walk)) = self.todo.last_mut() {
            let done = walk.step(&mut budget);
            let (list, name) = match place {
                Place::Volume(name) => (&mut self.used.volumes, name),
                Place::Log(name) => (&mut self.used.logs, name),
            };
            list.insert(name.clone(), walk.bytes());
            if !done {
                return;
            }
            self.todo.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Volume;
    use crate::testing::spec as testing;

    const MIB: u64 = 1 << 20;

    fn volume(name: &str, memory: bool, size_limit: Option<u64>) -> Volume {
        Volume { name: name.into(), source: VolumeSource::EmptyDir { memory, size_limit } }
    }

    fn pod(limits: &[(&str, Role, Option<u64>)], volumes: Vec<Volume>) -> Pod {
        let containers = limits.iter().map(|(name, role, limit)| {
            let mut container = testing::container(name, *role);
            container.resources.storage_limit_bytes = *limit;
            container
        });
        Pod { volumes, ..testing::pod(containers) }
    }

    fn used(volumes: &[(&str, u64)], logs: &[(&str, u64)]) -> Used {
        let map =
            |list: &[(&str, u64)]| list.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        Used { volumes: map(volumes), logs: map(logs) }
    }

    #[test]
    fn a_pod_without_limits_is_not_measured() {
        let volumes = vec![volume("a", false, None), volume("b", true, Some(1))];
        assert_eq!(Limits::of(&pod(&[("web", Role::Main, None)], volumes)), None);
    }

    #[test]
    fn what_is_exceeded_is_said_in_the_kubelets_words() {
        let volumes = vec![volume("cache", false, Some(MIB)), volume("data", false, None)];
        let limits =
            [("web", Role::Main, Some(MIB)), ("log", Role::Main, Some(MIB)), ("x", Role::Main, None)];
        let limits = Limits::of(&pod(&limits, volumes)).unwrap();
        assert_eq!(limits.pod, Some(2 * MIB));
        assert_eq!(limits.exceeded(&used(&[("cache", MIB)], &[("web", MIB)])), None, "just as much");
        let said = |volumes: &[_], logs: &[_]| limits.exceeded(&used(volumes, logs)).unwrap();
        assert_eq!(
            said(&[("cache", MIB + 1)], &[("web", 5 * MIB)]),
            "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". "
        );
        let pod = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
        assert_eq!(said(&[("data", 2 * MIB)], &[("x", 1)]), pod);
        assert_eq!(said(&[], &[("x", 2 * MIB + 1)]), pod, "logs of one without a limit count for the pod");
        assert_eq!(
            said(&[], &[("web", MIB + 1)]),
            "Container web exceeded its local ephemeral storage limit \"1Mi\". "
        );
        assert_eq!(said(&[("data", u64::MAX)], &[("x", 1)]), pod, "no overflow");
    }

    #[test]
    fn init_containers_run_one_after_another_beside_sidecars() {
        use Role::{Init, Main, Sidecar};
        let sum = |limits: &[_]| Limits::of(&pod(limits, vec![])).unwrap().pod;
        assert_eq!(sum(&[("a", Init, Some(9)), ("b", Init, None), ("c", Main, Some(2))]), Some(9));
        assert_eq!(sum(&[("a", Sidecar, Some(3)), ("b", Init, Some(4)), ("c", Main, Some(2))]), Some(7));
        assert_eq!(sum(&[("a", Sidecar, Some(3)), ("c", Main, Some(9))]), Some(12));
    }

    #[test]
    fn what_is_on_disk_counts() {
        let projected = |plugin| VolumeSource::Projected { plugin, sources: vec![], default_mode: 0 };
        assert!(is_on_disk(&projected(ProjectedPlugin::ConfigMap)));
        for plugin in [ProjectedPlugin::Secret, ProjectedPlugin::DownwardApi, ProjectedPlugin::Projected] {
            assert!(!is_on_disk(&projected(plugin)), "{plugin:?}");
        }
        assert!(is_on_disk(&volume("a", false, None).source));
        assert!(!is_on_disk(&volume("a", true, None).source));
    }

    #[tokio::test]
    async fn a_pod_that_grows_is_seen_in_steps() {
        let pod_dir = tempfile::tempdir().unwrap();
        let logs = pod_dir.path().join("logs");
        let pod = pod(&[("web", Role::Main, Some(MIB))], vec![volume("cache", false, None)]);
        let volumes = Volumes::prepare(&pod, pod_dir.path(), &Default::default()).unwrap();
        std::fs::create_dir_all(logs.join("web")).unwrap();
        let watch = Watch::new(&pod, &volumes, &logs, None, Duration::from_millis(1)).unwrap().unwrap();
        let mut measurement = Measurement::begin(&watch.volumes, &watch.logs);
        measurement.step(1000);
        assert!(measurement.todo.is_empty());
        assert_eq!(watch.limits.exceeded(&measurement.used), None);
        std::fs::write(logs.join("web/0.log"), vec![1; 2 << 20]).unwrap();
        let message = watch.run().await;
        assert!(message.starts_with("Pod ephemeral"), "{message}");
    }
}
