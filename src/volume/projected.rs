//! `configMap`, `secret`, `downwardAPI` and `projected`: files made from objects and fields.
//!
//! ```text
//! prepare: a directory, as the kubelet has it; secrets, downward API and projected: to be covered by a tmpfs
//!    ▼
//! Refresh: sources + Pod ─► payload: files with bytes and modes ─► writer: a new generation, one swap
//!    ▲                                                                 │ the one before is removed,
//!    └─ before containers start, and whenever the pod has changed      ▼ unless a subPath mount holds it
//! ```
//!
//! A thousand files take a tenth of a second on a disk: while containers run, [`Refresh::run`] is for another thread
//! than theirs.
//!
//! Guests only read. A mount of a part of such a volume, and a working directory in it, stay with the files that
//! were there when the container started, as in Kubernetes; [`Generation`] keeps them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::Dir;

use super::VolumeError;
use super::ownership::{self, Access};
use super::prepare::{EMPTY_DIR_MODE, Prepared, Volumes, Writers, always, io_error, open};
use crate::spec::environment::Allocatable;
use crate::spec::volume::ProjectedPlugin;
use crate::spec::{Pod, Volume, VolumeSource};
use writer::Written;

mod payload;
mod writer;
#[cfg(test)]
mod writer_tests;

pub use payload::PayloadError;

/// One state of a volume's files. Its directory stays for as long as somebody has it.
pub(super) type Generation = Arc<OsString>;

/// Of each projected volume, the files that are there, the last ones, and before them those that containers still see.
/// Locked by who changes what is there, and by who opens a part of it: for moments.
#[derive(Debug, Clone, Default)]
pub(super) struct Generations(Arc<Mutex<BTreeMap<String, Vec<Generation>>>>);

impl Generations {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Generation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away what nobody sees any more of a volume.
    fn unseen(&self, volume: &str) -> Vec<Generation> {
        let mut all = self.lock();
        let Some(own) = all.get_mut(volume) else { return Vec::new() };
        let Some(now) = own.pop() else { return Vec::new() };
        let (unseen, seen) = std::mem::take(own).into_iter().partition(|own| Arc::strong_count(own) == 1);
        *own = seen;
        own.push(now);
        unseen
    }
}

/// Makes the files of a pod's projected volumes. Blocks.
#[derive(Debug)]
pub struct Refresh {
    /// Those that are open, with their paths.
    directories: BTreeMap<String, (PathBuf, Dir)>,
    generations: Generations,
    node: Allocatable,
}

/// Makes the directory for `volume` below `pod_dir`. What is in it, [`Volumes::refresh`] makes.
pub(super) fn prepare(
    volume: &Volume,
    plugin: ProjectedPlugin,
    pod_dir: &Path,
) -> Result<Prepared, VolumeError> {
    // The kubelet's names, and which of them it has in memory (`wrappedVolumeSpec` of each in `pkg/volume`).
    let (directory, memory) = match plugin {
        ProjectedPlugin::ConfigMap => ("kubernetes.io~configmap", false),
        ProjectedPlugin::Secret => ("kubernetes.io~secret", true),
        ProjectedPlugin::DownwardApi => ("kubernetes.io~downward-api", true),
        ProjectedPlugin::Projected => ("kubernetes.io~projected", true),
    };
    let name = &volume.name;
    let path = pod_dir.join("volumes").join(directory).join(name);
    fs::create_dir_all(&path).map_err(io_error(name, "create directory", &path))?;
    let mode = Permissions::from_mode(EMPTY_DIR_MODE);
    fs::set_permissions(&path, mode).map_err(io_error(name, "set the permissions of", &path))?;
    match memory {
        true => Ok(Prepared::Memory { path, size: None, writers: Writers::Peapod }),
        false => open(name, &path, Writers::Peapod),
    }
}

impl Volumes {
    /// What makes the files of the volumes of `pod`. To be run by one thread at a time.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn refresh(&self, pod: &Pod) -> Result<Refresh, VolumeError> {
        let mut directories = BTreeMap::new();
        for Volume { name, source } in &pod.volumes {
            if let VolumeSource::Projected { .. } = source
                && let Some(Prepared::Open { path, dir, .. }) = self.by_name.get(name)
            {
                let dir = dir.try_clone().map_err(io_error(name, "open", path))?;
                directories.insert(name.clone(), (path.clone(), dir));
            }
        }
        Ok(Refresh { directories, generations: self.generations.clone(), node: self.node })
    }
}

impl Refresh {
    /// Whether there are no such volumes.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Makes the files of every such volume, for the first time or again where what they are made from has
    /// changed: objects, labels, annotations and resources of `pod`. One swap for each volume, so that readers see
    /// all of the old or all of the new. Returns the volumes that were changed, and what went wrong; those keep
    /// their files.
    pub fn run(&self, pod: &Pod) -> (Vec<String>, Vec<VolumeError>) {
        let (mut changed, mut errors) = (Vec::new(), Vec::new());
        for volume in &pod.volumes {
            match self.refresh_one(volume, pod) {
                Ok(true) => changed.push(volume.name.clone()),
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        (changed, errors)
    }

    fn refresh_one(&self, volume: &Volume, pod: &Pod) -> Result<bool, VolumeError> {
        let VolumeSource::Projected { plugin: _, sources, default_mode } = &volume.source else {
            return Ok(false);
        };
        let name = &volume.name;
        let Some((path, dir)) = self.directories.get(name) else { return Ok(false) };
        let payload = payload::payload(sources, *default_mode, pod, &self.node);
        let payload = payload.map_err(|error| VolumeError::Payload { volume: name.clone(), error })?;
        let written = writer::write(
            dir,
            &payload,
            || own(path, pod),
            |generation, swap| {
                let mut generations = self.generations.lock();
                swap()?;
                generations.entry(name.clone()).or_default().push(Arc::new(generation.to_owned()));
                Ok(())
            },
        );
        for generation in self.generations.unseen(name) {
            // What stays of it is in nobody's way, and goes with the pod.
            let _ = writer::discard(dir, &generation);
        }
        let written = written.map_err(io_error(name, "write the files of", path))?;
        Ok(matches!(written, Written::Changed { .. }))
    }
}

/// Gives the files below `volume` to the pod's `fsGroup`; without one they are the pod process's, which made them.
fn own(volume: &Path, pod: &Pod) -> io::Result<()> {
    match pod.fs_group {
        Some(group) => ownership::give(volume, always(group), Access::ReadOnly),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::spec::environment::{Field, ObjectKind, ObjectRef};
    use crate::spec::volume::{DownwardContent, DownwardFile};
    use crate::spec::{ConfigMap, Container, Mount, Projection, Role, Secret};
    use crate::testing::spec as testing;
    use crate::volume::{Bound, Preopen};

    fn object(kind: ObjectKind) -> Projection {
        let object = ObjectRef { kind, name: "o".into(), optional: false };
        Projection::Object { object, items: None }
    }

    /// A pod with a volume `v` that is mounted at `/v`, and its part `sub_path` at `/part`.
    fn pod(plugin: ProjectedPlugin, source: Projection, sub_path: Option<&str>) -> Pod {
        let at = |path: &str, sub_path: Option<PathBuf>| Mount {
            volume: "v".into(),
            path: path.into(),
            sub_path,
            sub_path_expr: None,
            read_only: false,
        };
        let mut mounts = vec![at("/v", None)];
        mounts.extend(sub_path.map(|part| at("/part", Some(part.into()))));
        let mut pod = testing::pod([Container { mounts, ..testing::container("web", Role::Main) }]);
        let source = VolumeSource::Projected { plugin, sources: vec![source], default_mode: 0o640 };
        pod.volumes = vec![Volume { name: "v".into(), source }];
        pod
    }

    fn set(pod: &mut Pod, data: &[(&str, &str)]) {
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        let map = ConfigMap { data: data.collect(), ..ConfigMap::default() };
        pod.objects.config_maps.insert("o".into(), Arc::new(map));
    }

    fn refreshed(volumes: &Volumes, pod: &Pod) -> bool {
        let (changed, errors) = volumes.refresh(pod).unwrap().run(pod);
        assert!(errors.is_empty(), "{errors:?}");
        !changed.is_empty()
    }

    fn preopens(volumes: &Volumes, pod: &Pod) -> Vec<Preopen> {
        volumes.preopens(&pod.containers[0], &pod.containers[0].mounts).unwrap()
    }

    fn read(preopen: &Preopen, path: &str) -> io::Result<String> {
        preopen.try_clone_dir()?.read_to_string(path)
    }

    #[test]
    fn a_config_map_is_where_the_kubelet_has_it_and_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut pod = pod(ProjectedPlugin::ConfigMap, object(ObjectKind::ConfigMap), None);
        set(&mut pod, &[("a", "1"), ("b", "1")]);
        let volumes = Volumes::prepare(&pod, dir.path(), &Bound::new()).unwrap();
        assert!(refreshed(&volumes, &pod));
        assert!(!refreshed(&volumes, &pod), "nothing has changed");
        let file = dir.path().join("volumes/kubernetes.io~configmap/v/a");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o640);
        let preopens = preopens(&volumes, &pod);
        assert!(preopens[0].read_only, "whatever the mount says");
        let mut held = preopens[0].open(Path::new("a")).unwrap();
        set(&mut pod, &[("a", "2")]);
        assert!(refreshed(&volumes, &pod));
        assert_eq!(read(&preopens[0], "a").unwrap(), "2");
        assert_eq!(read(&preopens[0], "b").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(io::read_to_string(&mut held).unwrap(), "1", "an open file stays as it was");
        pod.objects.config_maps.clear();
        let (changed, errors) = volumes.refresh(&pod).unwrap().run(&pod);
        assert_eq!(changed, [""; 0]);
        assert_eq!(errors[0].to_string(), "volume \"v\": configmap \"o\" not found");
        assert_eq!(read(&preopens[0], "a").unwrap(), "2", "they keep their files");
    }

    #[test]
    fn a_part_stays_as_it_was_for_as_long_as_a_container_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let source = |value: &str| {
            let content = DownwardContent::Field(Field::Label(value.to_owned()));
            Projection::DownwardApi(vec![DownwardFile { path: "sub/file".into(), content, mode: None }])
        };
        // On disk, which needs no root.
        let mut pod = pod(ProjectedPlugin::ConfigMap, source("l"), Some("sub"));
        pod.labels.insert("l".into(), "1".into());
        let volumes = Volumes::prepare(&pod, dir.path(), &Bound::new()).unwrap();
        refreshed(&volumes, &pod);
        let root = dir.path().join("volumes/kubernetes.io~configmap/v");
        let generations = || {
            let names = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("..2")).count()
        };
        let first = preopens(&volumes, &pod);
        for value in ["2", "3"] {
            pod.labels.insert("l".into(), value.into());
            refreshed(&volumes, &pod);
        }
        let second = preopens(&volumes, &pod);
        let texts = |preopens: &[Preopen]| {
            (read(&preopens[0], "sub/file").unwrap(), read(&preopens[1], "file").unwrap())
        };
        assert_eq!(texts(&first), ("3".into(), "1".into()));
        assert_eq!(texts(&second), ("3".into(), "3".into()));
        assert_eq!(generations(), 2);
        drop((first, second));
        pod.labels.insert("l".into(), "4".into());
        refreshed(&volumes, &pod);
        assert_eq!(generations(), 1);
    }

    #[test]
    fn secrets_are_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut pod = pod(ProjectedPlugin::Secret, object(ObjectKind::Secret), None);
        let secret = Secret { data: [("key".into(), b"hush".to_vec())].into(), immutable: false };
        pod.objects.secrets.insert("o".into(), Arc::new(secret));
        let mut volumes = Volumes::prepare(&pod, dir.path(), &Bound::new()).unwrap();
        assert_eq!(volumes.refresh(&pod).unwrap().run(&pod).0, [""; 0], "not before there is a tmpfs");
        if !crate::testing::needs_root() {
            return;
        }
        // A mount namespace belongs to a thread; this one's, and all that is mounted in it, ends with it.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                    .unwrap();
                assert!(volumes.mount_memory().is_empty());
                assert!(refreshed(&volumes, &pod));
                let preopens = preopens(&volumes, &pod);
                assert_eq!(read(&preopens[0], "key").unwrap(), "hush");
                assert!(preopens[0].read_only);
            });
        });
        let outside = dir.path().join("volumes/kubernetes.io~secret/v");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0, "nothing on the disk");
    }
}
