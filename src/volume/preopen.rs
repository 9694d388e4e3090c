//! What a container is given of the pod's volumes.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use super::VolumeError;
use super::error::SubPathStep;
use super::files::{FileMount, Place, place_of};
use super::prepare::{Prepared, Volumes, Writers, io_error};
use super::projected::Generation;
use crate::spec::environment::Files;
use crate::spec::{Container, Mount};

/// Where the pod's own files are: `hosts`, `resolv.conf`, `hostname`.
pub const ETC: &str = "/etc";

/// One directory that a container can open.
#[derive(Debug)]
pub struct Preopen {
    /// Where the container sees it: `mountPath`, or the directory that one of a file lies in.
    pub guest_path: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// See [`Preopen::is_of_files`].
    pub(super) is_tree: bool,
    dir: Dir,
    /// What the directory is a part of, where that would go with an update.
    _generation: Option<Generation>,
}

impl Preopen {
    /// A directory to write to that is no volume.
    pub fn new(guest_path: String, dir: Dir) -> Self {
        Self { guest_path, read_only: false, is_tree: false, dir, _generation: None }
    }

    /// Whether it is there for mounts of single files only. It has a file for the container's last words, if their
    /// path is in it.
    pub fn is_of_files(&self) -> bool {
        self.is_tree
    }

    pub(super) fn set_dir(&mut self, dir: Dir) {
        self.dir = dir;
    }

    /// Another handle of the directory.
    ///
    /// # Errors
    /// Too many files are open.
    pub fn try_clone_dir(&self) -> io::Result<Dir> {
        self.dir.try_clone()
    }

    /// A path to open the directory again by. It leads to the directory that was resolved, whatever has
    /// been renamed or linked since; it is good for as long as this value lives, in this process, where
    /// `/proc` is mounted (proc_pid_fd(5)).
    pub fn host_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.dir.as_raw_fd()).into()
    }

    /// Opens a file below the directory for reading; a symlink that leads out is refused. A FIFO does not make
    /// this wait.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        self.dir.open_with(path, &options).map(cap_std::fs::File::into_std)
    }

    /// The directory itself.
    #[cfg(test)]
    fn dir(&self) -> &Dir {
        &self.dir
    }
}

impl Volumes {
    /// The directories for `mounts`, those of `container` as [resolved](crate::spec::environment::resolve) for this
    /// run, in their order. A `subPath` that is missing is made, with the volume's permissions, as the kubelet does;
    /// it is resolved beneath its volume, and a symlink that leads out is refused. Mounts of single files are
    /// put in place (`files`): in the directories that they lie in, or in directories of their own, which follow.
    ///
    /// After them comes `/etc` with the pod's own files, unless a mount is there or is everything, `/`. A mount
    /// below it, such as `/etc/app`, goes with it: a path is looked up in the longest that fits.
    ///
    /// The last one is the working directory, `.`: a wasi-libc that does not ask for `initial-cwd` finds relative
    /// paths there. A working directory that is missing is made, as container runtimes do.
    ///
    /// For every start of the container anew, when nothing of it runs: volumes change between runs, and the files of
    /// the run before lose their places.
    pub fn preopens(&self, container: &Container, mounts: &[Mount]) -> Result<Vec<Preopen>, VolumeError> {
        // What is opened of a projected volume is of the generation that is the last one now.
        let generations = self.generations.lock();
        let last = |volume: &str| generations.get(volume).and_then(|all| all.last()).cloned();
        let (mut preopens, mut files) = (Vec::new(), Vec::new());
        for mount in mounts {
            match self.open(container, mount, &last)? {
                Opened::Directory(preopen) => preopens.push(preopen),
                Opened::File(file) => files.push(file),
            }
        }
        let is_everything = preopens.iter().any(|preopen| preopen.guest_path == "/");
        let place = Place { container, root: self.files.join(&container.name), etc: self.etc.as_ref() };
        place.put(&files, &mut preopens)?;
        let working_dir = working_dir(container, &preopens)?;
        let working_dir = working_dir.map(|preopen| {
            let mount = container.working_dir.as_deref().and_then(|path| container.mount_of(path));
            let generation = mount.and_then(|(mount, _)| last(&mount.volume));
            Preopen { _generation: generation, ..preopen }
        });
        if !is_everything && !preopens.iter().any(|preopen| preopen.guest_path == ETC) {
            preopens.extend(self.etc(container)?);
        }
        preopens.extend(working_dir);
        Ok(preopens)
    }

    fn etc(&self, container: &Container) -> Result<Option<Preopen>, VolumeError> {
        let dir = self.etc.as_ref().map(Dir::try_clone).transpose();
        let dir = dir.map_err(|source| VolumeError::Etc { container: container.name.clone(), source })?;
        Ok(dir.map(|dir| Preopen { read_only: true, ..Preopen::new(ETC.to_owned(), dir) }))
    }

    /// `last`: the generation of a volume that is there.
    fn open<'m>(
        &self,
        container: &Container,
        mount: &'m Mount,
        last: &dyn Fn(&str) -> Option<Generation>,
    ) -> Result<Opened<'m>, VolumeError> {
        let refused = |(step, source)| VolumeError::SubPath {
            step,
            container: container.name.clone(),
            volume: mount.volume.clone(),
            mount_path: mount.path.clone(),
            sub_path: mount.sub_path.clone().unwrap_or_default(),
            source,
        };
        let prepare = |error| (SubPathStep::Prepare, error);
        let file = |file: File, path, read_only| {
            Ok(Opened::File(FileMount { mount, file: file.into(), path, read_only }))
        };
        match self.by_name.get(&mount.volume) {
            Some(Prepared::Open { path, dir, writers }) => {
                let is_read_only = mount.read_only || *writers != Writers::Containers;
                let opened = match &mount.sub_path {
                    None => dir.try_clone().map_err(prepare),
                    Some(sub_path) => match open_sub_path(dir, sub_path, *writers != Writers::Nobody) {
                        Err((SubPathStep::Prepare, error))
                            if error.kind() == io::ErrorKind::NotADirectory =>
                        {
                            let opened = place_of(dir, sub_path).map_err(prepare).map_err(refused)?;
                            return file(opened, path.join(sub_path), is_read_only);
                        }
                        opened => opened,
                    },
                };
                let opened = opened.map_err(refused)?;
                let preopen = Preopen::new(mount.path.clone(), opened);
                let part = mount.sub_path.as_ref();
                let generation = part.and_then(|_| last(&mount.volume));
                let preopen = Preopen { read_only: is_read_only, _generation: generation, ..preopen };
                Ok(Opened::Directory(preopen))
            }
            Some(Prepared::File { .. }) if mount.sub_path.is_some() => {
                Err(refused(prepare(io::ErrorKind::NotADirectory.into())))
            }
            Some(Prepared::File { path }) => {
                let mut options = std::fs::OpenOptions::new();
                let opened = options.read(true).custom_flags(libc::O_PATH).open(path);
                let opened = opened.map_err(io_error(&mount.volume, "open", path))?;
                file(opened, path.clone(), mount.read_only)
            }
            Some(Prepared::Memory { .. }) | None => Err(VolumeError::NotReady {
                container: container.name.clone(),
                volume: mount.volume.clone(),
                mount_path: mount.path.clone(),
            }),
        }
    }
}

/// What a mount is of.
enum Opened<'m> {
    Directory(Preopen),
    File(FileMount<'m>),
}

fn working_dir<'p>(container: &Container, preopens: &'p [Preopen]) -> Result<Option<Preopen>, VolumeError> {
    let Some(path) = container.working_dir.as_deref() else { return Ok(None) };
    let below =
        |preopen: &'p Preopen| Some((preopen, Path::new(path).strip_prefix(&preopen.guest_path).ok()?));
    let around = preopens.iter().filter_map(below);
    let Some((preopen, rest)) = around.max_by_key(|(preopen, _)| preopen.guest_path.len()) else {
        return Ok(None);
    };
    let dir = match rest.as_os_str().is_empty() {
        true => preopen.dir.try_clone(),
        false => open_sub_path(&preopen.dir, rest, !preopen.read_only).map_err(|(_, error)| error),
    };
    let dir = dir.map_err(|source| VolumeError::WorkingDir {
        container: container.name.clone(),
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(Preopen { read_only: preopen.read_only, ..Preopen::new(".".to_owned(), dir) }))
}
/// The largest file of variables, bytes: as much as a ConfigMap may hold.
const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

impl Files for Volumes {
    fn read(&self, volume: &str, path: &Path) -> Result<Option<String>, String> {
        let Some(directory) = self.directory(volume) else { return Ok(None) };
        let mut options = OpenOptions::new();
        // A FIFO, which a guest cannot make but a process of the host, must not make the pod wait.
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = match directory.open_with(path, &options) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if !file.metadata().map_err(|error| error.to_string())?.is_file() {
            return Err("it is no regular file".to_owned());
        }
        let mut text = String::new();
        let read = file.take(MAX_ENV_FILE_BYTES + 1).read_to_string(&mut text);
        read.map_err(|error| error.to_string())?;
        if text.len() as u64 > MAX_ENV_FILE_BYTES {
            return Err(format!("it has more than {} KiB", MAX_ENV_FILE_BYTES >> 10));
        }
        Ok(Some(text))
    }
}

/// A directory beneath `dir`, made where it is missing and `may_make` says so.
fn open_sub_path(dir: &Dir, sub_path: &Path, may_make: bool) -> Result<Dir, (SubPathStep, io::Error)> {
    match dir.open_dir(sub_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = match may_make {
                true => dir.create_dir_all(sub_path),
                false => Err(error),
            };
            let made = made.and_then(|()| {
                dir.set_permissions(sub_path, dir.dir_metadata()?.permissions())?;
                dir.open_dir(sub_path)
            });
            made.map_err(|error| (SubPathStep::Create, error))
        }
        opened => opened.map_err(|error| (SubPathStep::Prepare, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::spec::{HostPathType, Pod, Role, Volume, VolumeSource};
    use crate::testing::spec as testing;
    use crate::volume::Bound;

    fn pod(volumes: Vec<(&str, VolumeSource)>, mounts: Vec<Mount>) -> Pod {
        let volume = |(name, source): (&str, VolumeSource)| Volume { name: name.to_owned(), source };
        let web = Container { mounts, ..testing::container("web", Role::Main) };
        Pod { volumes: volumes.into_iter().map(volume).collect(), ..testing::pod([web]) }
    }

    fn at(volume: &str, path: &str, sub_path: Option<&str>) -> Mount {
        Mount {
            volume: volume.into(),
            path: path.into(),
            sub_path: sub_path.map(PathBuf::from),
            sub_path_expr: None,
            read_only: path.ends_with("ro"),
        }
    }

    const DISK: VolumeSource = VolumeSource::EmptyDir { memory: false, size_limit: None };

    fn host(path: impl Into<PathBuf>, kind: HostPathType) -> VolumeSource {
        VolumeSource::HostPath { path: path.into(), kind }
    }

    fn preopens(pod: &Pod, pod_dir: &Path) -> Result<Vec<Preopen>, VolumeError> {
        Volumes::prepare(pod, pod_dir, &Bound::new())
            .unwrap()
            .preopens(&pod.containers[0], &pod.containers[0].mounts)
    }

    #[test]
    fn an_empty_dir_is_made_where_the_kubelet_has_it_and_all_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(vec![("data", DISK)], vec![at("data", "/a", None), at("data", "/ro", None)]);
        let preopens = preopens(&pod, dir.path()).unwrap();
        let made = dir.path().join("volumes/kubernetes.io~empty-dir/data");
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o7777, 0o777);
        preopens[0].dir().write("f", "shared").unwrap();
        assert_eq!(fs::read_to_string(made.join("f")).unwrap(), "shared");
        assert_eq!(fs::read_to_string(preopens[1].host_path().join("f")).unwrap(), "shared");
        assert_eq!((preopens[0].guest_path.as_str(), preopens[0].read_only), ("/a", false));
        assert_eq!((preopens[1].guest_path.as_str(), preopens[1].read_only), ("/ro", true));
    }

    #[test]
    fn etc_is_given_to_containers_that_have_none() {
        let dir = tempfile::tempdir().unwrap();
        let etc = || Dir::open_ambient_dir(dir.path(), cap_std::ambient_authority()).unwrap();
        let paths = |mounts: &[&str], working_dir: Option<&str>| {
            let mounts = mounts.iter().map(|path| at("data", path, None)).collect();
            let mut pod = pod(vec![("data", DISK)], mounts);
            pod.containers[0].working_dir = working_dir.map(Into::into);
            let mut volumes = Volumes::prepare(&pod, dir.path(), &Bound::new()).unwrap();
            volumes.offer_etc(etc());
            let preopens = volumes.preopens(&pod.containers[0], &pod.containers[0].mounts).unwrap();
            assert!(preopens.iter().all(|p| p.read_only == (p.guest_path == "/etc")));
            preopens.into_iter().map(|preopen| preopen.guest_path).collect::<Vec<_>>()
        };
        assert_eq!(paths(&[], None), ["/etc"]);
        assert_eq!(paths(&["/a"], Some("/a")), ["/a", "/etc", "."]);
        assert_eq!(paths(&["/etc/app"], Some("/etc/app/x")), ["/etc/app", "/etc", "."]);
        assert_eq!(paths(&["/etcetera"], None), ["/etcetera", "/etc"]);
    }

    #[test]
    fn a_mount_at_etc_or_of_everything_wins() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["/", "/etc"] {
            let pod = pod(vec![("data", DISK)], vec![at("data", path, None)]);
            let mut volumes = Volumes::prepare(&pod, dir.path(), &Bound::new()).unwrap();
            volumes.offer_etc(Dir::open_ambient_dir(dir.path(), cap_std::ambient_authority()).unwrap());
            let preopens = volumes.preopens(&pod.containers[0], &pod.containers[0].mounts).unwrap();
            assert_eq!(preopens.len(), 1);
            assert!(!preopens[0].read_only);
        }
    }

    #[test]
    fn a_host_path_is_the_directory_itself() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("www")).unwrap();
        let pod = pod(
            vec![("www", host(dir.path().join("www"), HostPathType::Directory))],
            vec![at("www", "/www", None)],
        );
        let preopens = preopens(&pod, Path::new("/nowhere")).unwrap();
        preopens[0].dir().write("index.html", "hi").unwrap();
        assert!(dir.path().join("www/index.html").exists());
    }

    #[test]
    fn a_sub_path_is_made_and_a_later_rename_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(vec![("data", DISK)], vec![at("data", "/a", Some("x/y"))]);
        let preopens = preopens(&pod, dir.path()).unwrap();
        let root = dir.path().join("volumes/kubernetes.io~empty-dir/data");
        assert_eq!(fs::metadata(root.join("x/y")).unwrap().permissions().mode() & 0o7777, 0o777);
        fs::rename(root.join("x/y"), root.join("z")).unwrap();
        symlink("/etc", root.join("x/y")).unwrap();
        fs::write(preopens[0].host_path().join("f"), "").unwrap();
        assert!(root.join("z/f").exists());
    }

    #[test]
    fn a_sub_path_cannot_leave_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("vol")).unwrap();
        fs::create_dir(dir.path().join("secret")).unwrap();
        symlink("../secret", dir.path().join("vol/out")).unwrap();
        symlink("/etc", dir.path().join("vol/abs")).unwrap();
        for sub_path in ["out", "abs", "out/new", "abs/new"] {
            let volume = ("data", host(dir.path().join("vol"), HostPathType::Any));
            let pod = pod(vec![volume], vec![at("data", "/a", Some(sub_path))]);
            let text = preopens(&pod, dir.path()).unwrap_err().to_string();
            assert!(
                text.contains("\"web\"") && text.contains("\"data\"") && text.contains("subPath"),
                "{text}"
            );
        }
        assert_eq!(fs::read_dir(dir.path().join("secret")).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_a_tmpfs_of_its_size_in_the_mount_namespace_alone() {
        let dir = tempfile::tempdir().unwrap();
        let memory = |size_limit| VolumeSource::EmptyDir { memory: true, size_limit };
        let pod = pod(
            vec![("sized", memory(Some(1 << 20))), ("free", memory(Some(0)))],
            vec![at("sized", "/s", None), at("free", "/f", None)],
        );
        let mut volumes = Volumes::prepare(&pod, dir.path(), &Bound::new()).unwrap();
        assert!(matches!(
            volumes.preopens(&pod.containers[0], &pod.containers[0].mounts),
            Err(VolumeError::NotReady { .. })
        ));
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
                let preopens = volumes.preopens(&pod.containers[0], &pod.containers[0].mounts).unwrap();
                let stat = nix::sys::statfs::fstatfs(preopens[0].dir()).unwrap();
                assert_eq!(stat.filesystem_type(), nix::sys::statfs::TMPFS_MAGIC);
                assert_eq!(stat.blocks() * stat.block_size() as u64, 1 << 20);
                preopens[0].dir().write("fits", vec![0; 1 << 19]).unwrap();
                let full = preopens[0].dir().write("too-much", vec![0; 1 << 20]).unwrap_err();
                assert_eq!(full.kind(), io::ErrorKind::StorageFull);
                let free = nix::sys::statfs::fstatfs(preopens[1].dir()).unwrap();
                assert!(free.blocks() * free.block_size() as u64 > 1 << 20);
            });
        });
        let outside = dir.path().join("volumes/kubernetes.io~empty-dir/sized");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0, "seen in that namespace only");
    }

    #[test]
    fn files_of_variables_are_read_within_their_volume() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(vec![("data", DISK)], vec![]);
        let volumes = Volumes::prepare(&pod, dir.path(), &Bound::new()).unwrap();
        let data = dir.path().join("volumes/kubernetes.io~empty-dir/data");
        fs::write(data.join("app.env"), "A='1'").unwrap();
        fs::write(data.join("big.env"), vec![b'#'; (1 << 20) + 1]).unwrap();
        fs::write(data.join("raw.env"), [0xff]).unwrap();
        fs::create_dir(data.join("dir")).unwrap();
        symlink("/etc/passwd", data.join("out.env")).unwrap();
        nix::unistd::mkfifo(&data.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let read = |path: &str| volumes.read("data", Path::new(path));
        assert_eq!(read("app.env"), Ok(Some("A='1'".into())));
        assert_eq!(read("none.env"), Ok(None));
        assert_eq!(volumes.read("none", Path::new("app.env")), Ok(None));
        for path in ["big.env", "raw.env", "dir", "out.env", "fifo"] {
            assert!(read(path).is_err(), "{path}: {:?}", read(path));
        }
    }
}
