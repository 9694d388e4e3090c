//! Files in their places, in a mount namespace of the test's own.

use std::fs;
use std::os::unix::net::UnixListener;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::spec::{HostPathType, Pod, Role, TerminationMessage, Volume, VolumeSource};
use crate::testing::spec as testing;
use crate::volume::{Bound, Volumes};

/// Does something in a mount namespace, which belongs to a thread and ends with it.
fn alone(test: impl FnOnce() + Send) {
    if !crate::testing::needs_root() {
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
            let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
            test();
        });
        thread.join().unwrap();
    });
}

/// A pod whose volume `dir` is a directory of the host, and `file` a file in it.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("volume/sub")).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/hosts"), "own hosts").unwrap();
        fs::write(dir.path().join("etc/hostname"), "own name").unwrap();
        fs::write(dir.path().join("volume/file"), "file").unwrap();
        fs::write(dir.path().join("volume/sub/other"), "other").unwrap();
        Self { dir }
    }

    fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn pod(&self, mounts: &[(&str, &str, Option<&str>)]) -> Pod {
        let mount = |(volume, path, sub): &(&str, &str, Option<&str>)| Mount {
            volume: (*volume).into(),
            path: path.trim_end_matches(":ro").into(),
            sub_path: sub.map(PathBuf::from),
            sub_path_expr: None,
            read_only: path.ends_with(":ro"),
        };
        let host = |name: &str, path, kind| Volume {
            name: name.to_owned(),
            source: VolumeSource::HostPath { path, kind },
        };
        let web = Container {
            mounts: mounts.iter().map(mount).collect(),
            termination_message: TerminationMessage {
                path: "/dev/termination-log".into(),
                falls_back_to_logs: false,
            },
            ..testing::container("web", Role::Main)
        };
        let volumes = vec![
            host("dir", self.volume(), HostPathType::Directory),
            host("file", self.volume().join("file"), HostPathType::File),
        ];
        Pod { volumes, ..testing::pod([web]) }
    }

    fn preopens(&self, mounts: &[(&str, &str, Option<&str>)]) -> Result<Vec<Preopen>, VolumeError> {
        let pod = self.pod(mounts);
        let mut volumes = Volumes::prepare(&pod, &self.dir.path().join("pod"), &Bound::new()).unwrap();
        volumes.offer_etc(Dir::open_ambient_dir(self.dir.path().join("etc"), ambient_authority()).unwrap());
        volumes.preopens(&pod.containers[0], &pod.containers[0].mounts)
    }
}

fn paths(preopens: &[Preopen]) -> Vec<(&str, bool)> {
    preopens.iter().map(|preopen| (preopen.guest_path.as_str(), preopen.read_only)).collect()
}

fn names(preopen: &Preopen) -> Vec<String> {
    let dir = preopen.try_clone_dir().unwrap();
    let mut names: Vec<_> =
        dir.entries().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn code(result: io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn files_of_one_directory_share_it_and_each_is_as_writable_as_it_is() {
    alone(|| {
        let world = World::new();
        let mounts = [
            ("file", "/app/a", None),
            ("dir", "/app/b:ro", Some("sub/other")),
            ("file", "/app/x/c:ro", None),
        ];
        let preopens = world.preopens(&mounts).unwrap();
        assert_eq!(paths(&preopens), [("/app", false), ("/app/x", true), ("/etc", true)]);
        assert_eq!(names(&preopens[0]), ["a", "b", "x"]);
        let app = preopens[0].try_clone_dir().unwrap();
        assert_eq!(app.read_to_string("a").unwrap(), "file");
        assert_eq!(app.read_to_string("b").unwrap(), "other");
        assert_eq!(app.read_to_string("x/c").unwrap(), "file");
        app.write("a", "changed").unwrap();
        assert_eq!(fs::read_to_string(world.volume().join("file")).unwrap(), "changed");
        assert_eq!(code(app.write("b", "")), Some(libc::EROFS));
        assert_eq!(code(app.write("new", "")), Some(libc::EROFS));
        assert_eq!(code(app.create_dir("x/new")), Some(libc::EROFS));
        assert_eq!(code(app.rename("a", &app, "z")), Some(libc::EROFS));
        assert!(app.remove_file("a").is_err());
    });
}

#[test]
fn a_file_beside_the_pods_own_in_etc_hides_none_but_its_own() {
    alone(|| {
        let world = World::new();
        let preopens =
            world.preopens(&[("file", "/etc/app.conf", None), ("file", "/etc/hosts", None)]).unwrap();
        assert_eq!(paths(&preopens), [("/etc", false)]);
        assert_eq!(names(&preopens[0]), ["app.conf", "hostname", "hosts"]);
        let etc = preopens[0].try_clone_dir().unwrap();
        assert_eq!(etc.read_to_string("hosts").unwrap(), "file");
        assert_eq!(etc.read_to_string("hostname").unwrap(), "own name");
        assert_eq!(code(etc.write("hostname", "")), Some(libc::EROFS));
        assert_eq!(fs::read_dir(world.dir.path().join("etc")).unwrap().count(), 2);
        // Below it is another directory; in the root, too.
        let preopens = world.preopens(&[("file", "/etc/app/conf", None), ("file", "/conf", None)]).unwrap();
        assert_eq!(paths(&preopens), [("/", false), ("/etc/app", false), ("/etc", true)]);
    });
}

#[test]
fn a_file_below_a_mount_is_seen_there_by_that_container_alone() {
    alone(|| {
        let world = World::new();
        let mounts =
            [("dir", "/data", None), ("file", "/data/new/at", None), ("file", "/data/sub/other:ro", None)];
        let preopens = world.preopens(&mounts).unwrap();
        assert_eq!(paths(&preopens), [("/data", false), ("/etc", true)]);
        let data = preopens[0].try_clone_dir().unwrap();
        assert_eq!(data.read_to_string("new/at").unwrap(), "file");
        assert_eq!(data.read_to_string("sub/other").unwrap(), "file");
        assert_eq!(code(data.write("sub/other", "")), Some(libc::EROFS));
        assert_eq!(code(data.rename("new/at", &data, "moved")), Some(libc::EBUSY));
        data.write("shared", "shared").unwrap();
        // The volume has what the container wrote, and empty mount points.
        assert_eq!(fs::read_to_string(world.volume().join("shared")).unwrap(), "shared");
        assert_eq!(fs::read_to_string(world.volume().join("new/at")).unwrap(), "");
        assert_eq!(fs::read_to_string(world.volume().join("sub/other")).unwrap(), "other");
    });
}

#[test]
fn a_read_only_mount_needs_a_file_to_cover() {
    alone(|| {
        let world = World::new();
        let error = world.preopens(&[("dir", "/data:ro", None), ("file", "/data/new", None)]).unwrap_err();
        assert!(error.to_string().contains("read-only and has no file of that name"), "{error}");
        assert!(!world.volume().join("new").exists());
        let mounts = [("dir", "/data:ro", None), ("file", "/data/sub/other", None)];
        let preopens = world.preopens(&mounts).unwrap();
        let data = preopens[0].try_clone_dir().unwrap();
        data.write("sub/other", "through").unwrap();
        assert_eq!(fs::read_to_string(world.volume().join("file")).unwrap(), "through");
        assert_eq!(code(data.write("file", "")), Some(libc::EROFS));
        // Nothing is to be written: WASI refuses it, too.
        let mounts = [("dir", "/data:ro", None), ("file", "/data/sub/other:ro", None)];
        assert_eq!(paths(&world.preopens(&mounts).unwrap())[0], ("/data", true));
    });
}

#[test]
fn what_is_in_the_way_is_named() {
    alone(|| {
        let world = World::new();
        for (mounts, part) in [
            (vec![("file", "/", None)], "give it a name"),
            (vec![("dir", "/data", None), ("file", "/data/sub", None)], "a directory is there"),
            (vec![("file", "/a", None), ("file", "/a/b", None)], "another file is in the way"),
            (
                vec![("file", "/a", Some("x"))],
                "failed to prepare subPath for volumeMount \"file\" of container \"web\": x",
            ),
        ] {
            let text = world.preopens(&mounts).unwrap_err().to_string();
            assert!(text.contains("\"web\"") && text.contains("\"file\"") && text.contains(part), "{text}");
        }
        // A mount point that would lie outside.
        std::os::unix::fs::symlink("/tmp", world.volume().join("out")).unwrap();
        let mounts = [("dir", "/data", None), ("file", "/data/out/escaped-by-mount-point", None)];
        assert!(world.preopens(&mounts).is_err());
        assert!(!Path::new("/tmp/escaped-by-mount-point").exists());
    });
}

#[test]
fn the_next_run_sees_a_replaced_file_and_leaves_no_mounts_of_the_last() {
    alone(|| {
        let world = World::new();
        let pod = world.pod(&[("file", "/app/a", None)]);
        let volumes = Volumes::prepare(&pod, &world.dir.path().join("pod"), &Bound::new()).unwrap();
        let run = || volumes.preopens(&pod.containers[0], &pod.containers[0].mounts).unwrap();
        let mounts = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count();
        let (first, count) = (run(), mounts());
        fs::write(world.volume().join("next"), "next").unwrap();
        fs::rename(world.volume().join("next"), world.volume().join("file")).unwrap();
        assert_eq!(first[0].try_clone_dir().unwrap().read_to_string("a").unwrap(), "file");
        let second = run();
        assert_eq!(second[0].try_clone_dir().unwrap().read_to_string("a").unwrap(), "next");
        assert_eq!(mounts(), count);
    });
}

#[test]
fn last_words_have_a_place_beside_a_device() {
    alone(|| {
        let world = World::new();
        let socket = world.volume().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let mounts = [("dir", "/dev/socket", Some("socket")), ("file", "/dev/a:ro", None)];
        let preopens = world.preopens(&mounts).unwrap();
        assert_eq!(paths(&preopens), [("/dev", false), ("/etc", true)]);
        assert_eq!(names(&preopens[0]), ["a", "socket", "termination-log"]);
        let dev = preopens[0].try_clone_dir().unwrap();
        dev.write("termination-log", "words").unwrap();
        let too_much = dev.write("termination-log", vec![0; 1 << 20]).unwrap_err();
        assert_eq!(too_much.kind(), io::ErrorKind::StorageFull);
        assert_eq!(code(dev.write("other", "")), Some(libc::EROFS));
        assert!(dev.metadata("socket").is_ok());
        assert_eq!(code(dev.open("socket")), Some(libc::ENXIO));
    });
}

#[test]
fn devices_are_seen_and_only_harmless_ones_opened() {
    alone(|| {
        let world = World::new();
        for (device, opens) in [("/dev/null", true), ("/dev/zero", true), ("/dev/kmsg", false)] {
            if !Path::new(device).exists() {
                continue;
            }
            let mut pod = world.pod(&[("device", "/dev/it", None)]);
            let source = VolumeSource::HostPath { path: device.into(), kind: HostPathType::CharDevice };
            pod.volumes.push(Volume { name: "device".into(), source });
            let volumes = Volumes::prepare(&pod, &world.dir.path().join("pod"), &Bound::new()).unwrap();
            let preopens = volumes.preopens(&pod.containers[0], &pod.containers[0].mounts).unwrap();
            let dev = preopens[0].try_clone_dir().unwrap();
            assert!(dev.metadata("it").is_ok());
            let expected = if opens { None } else { Some(libc::EACCES) };
            assert_eq!(code(dev.open("it")), expected, "{device}");
        }
    });
}
