//! Attacks on mounts: guests that try random paths while the host changes the tree below them.
//!
//! ```text
//! base ─┬─ mount ─┬─ swap0..   : exchanged again and again: a directory, a link out of the mount
//!       │         └─ dir/deep  : moved away, while guests walk through it, and back: its `..` is beside secrets then
//!       ├─ away ──── the same as outside
//!       └─ outside ─┬─ secret  : a file that is never to be read, changed or linked
//!                   └─ canary  : a device, so that no guest could have made one
//! ```
//!
//! Set `PEAPOD_SEED` to try the same paths again; what the host does meanwhile is never the same.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::support::{directory, needs_root, run};

const SECRET: &str = "SECRET-OF-THE-HOST";
/// Bytes in the secret file; no other file has as many.
const SECRET_SIZE: usize = 7919;
/// Of each container.
const OPERATIONS: u64 = 30_000;
/// The attackers: the guest and its user.
const ATTACKERS: [(&str, &str); 6] = [
    ("probe", ""),
    ("probe", ""),
    ("probe", "runAsUser: 1000"),
    ("p3", ""),
    ("p3", ""),
    ("p3", "runAsUser: 1000"),
];
/// Beside the mount, and never to be reached.
const HIDDEN: [&str; 2] = ["outside", "away"];
/// Files there.
const SECRETS: [&str; 4] = ["secret", "file", "new", "dir/file"];
/// What is exchanged, below the mount.
const SWAPPED: [&str; 6] = ["swap0", "swap1", "swap2", "swap3", "dir/swap4", "dir/deep/swap5"];

fn secret() -> String {
    format!("{SECRET:.<SECRET_SIZE$}")
}

/// A mount, and beside it what must not be reached.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = directory();
        let base = directory.path();
        for made in ["mount/dir/deep", "outside/dir/deep", "away/dir"] {
            fs::create_dir_all(base.join(made)).unwrap();
        }
        let secret = secret();
        for (hidden, name) in HIDDEN.iter().flat_map(|hidden| SECRETS.map(|name| (hidden, name))) {
            let path = base.join(hidden).join(name);
            fs::write(&path, &secret).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        }
        fs::write(base.join("mount/file"), "inside").unwrap();
        fs::set_permissions(base.join("mount/file"), Permissions::from_mode(0o666)).unwrap();
        for hidden in HIDDEN {
            let (canary, mode) = (base.join(hidden).join("canary"), Mode::from_bits_truncate(0o666));
            mknod(&canary, SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
        }
        // All that permissions could prevent is to be prevented by something else.
        for name in [
            ".",
            "mount",
            "mount/dir",
            "mount/dir/deep",
            "outside",
            "outside/dir",
            "outside/dir/deep",
            "away",
            "away/dir",
        ] {
            fs::set_permissions(base.join(name), Permissions::from_mode(0o777)).unwrap();
        }
        Self { directory }
    }

    fn base(&self) -> &Path {
        self.directory.path()
    }

    fn mount(&self) -> PathBuf {
        self.base().join("mount")
    }

    /// Every file of a tree and all that can be seen of it but when it was read.
    fn tree(&self, name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let mut left = vec![self.base().join(name)];
        while let Some(path) = left.pop() {
            let m = fs::symlink_metadata(&path).unwrap();
            let times = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
            let facts = (m.ino(), m.mode(), m.nlink(), m.uid(), m.gid(), m.size(), times);
            let content = if m.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            seen.push(format!("{} {facts:?} {:?}", path.display(), OsStr::from_bytes(&content)));
            if m.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        seen.sort_unstable();
        seen
    }

    /// What is beside the directory that is moved away and back is still what it was.
    fn expect_away(&self) {
        for name in SECRETS {
            let path = self.base().join("away").join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), secret(), "{name}");
            assert_eq!(fs::metadata(&path).unwrap().nlink(), 1, "{name}");
        }
        let entries = fs::read_dir(self.base().join("away")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "deep");
        names.sort_unstable();
        assert_eq!(names, ["canary", "dir", "file", "new", "secret"]);
    }

    /// Names in the base itself.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.base()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

/// Exchanges directories and links in a mount until it is dropped.
struct Swapper {
    end: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(world: &World, seed: u64) -> Self {
        let (end, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (base, mount) = (world.base().to_owned(), world.mount());
        // By these, whatever link the guests put in their places.
        let [parent, away] = [mount.join("dir"), base.join("away")].map(|path| File::open(path).unwrap());
        let (ended, counted) = (Arc::clone(&end), Arc::clone(&swaps));
        let run = move || {
            let outside = base.join("outside");
            let targets: Vec<PathBuf> = vec![
                outside.clone(),
                outside.join("secret"),
                outside.join("dir"),
                base.clone(),
                "..".into(),
                "../outside".into(),
                "../../outside".into(),
                "/".into(),
                "/proc/self/root".into(),
                format!("/proc/self/root{}", outside.display()).into(),
                "/proc/self/cwd".into(),
                "/proc/self/fd".into(),
                "dir".into(),
                ".".into(),
                "swap1".into(),
                "file".into(),
            ];
            let mut random = seed | 1;
            let mut next = |below: usize| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 8) as usize % below
            };
            // Beside the mount, so that the guests do not find it.
            let spare = base.join("spare");
            while !ended.load(Ordering::Relaxed) {
                let place = mount.join(SWAPPED[next(SWAPPED.len())]);
                let _ = fs::create_dir_all(&spare);
                let _ = symlink(&targets[next(targets.len())], &place);
                if let Some(parent) = place.parent() {
                    let _ = fs::create_dir(parent);
                }
                // A link becomes a directory and back while the guests walk over it.
                for _ in 0..4 {
                    if renameat2(AT_FDCWD, &spare, AT_FDCWD, &place, RenameFlags::RENAME_EXCHANGE).is_ok() {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                let _ = fs::remove_file(&place);
                let _ = fs::rename(&spare, &place);
                let _ = fs::remove_file(&spare);
                // A directory that guests have open, or are in the middle of, is somewhere else.
                if renameat(&parent, "deep", &away, "deep").is_ok() {
                    std::thread::yield_now();
                    if renameat(&away, "deep", &parent, "deep").is_err() {
                        let _ = fs::remove_dir_all(base.join("away/deep"));
                    }
                }
                // A file inside whose other name is outside, and for a moment one outside that was inside.
                let _ = fs::hard_link(mount.join("file"), base.join("away/hard"));
                let _ = fs::rename(base.join("away/hard"), base.join("away/harder"));
                let _ = fs::remove_file(base.join("away/hard"));
                let _ = fs::remove_file(base.join("away/harder"));
            }
            let _ = fs::remove_file(&spare);
            let _ = fs::remove_dir_all(&spare);
        };
        Self { end, swaps, thread: Some(std::thread::spawn(run)) }
    }

    fn stop(mut self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn seed() -> u64 {
    let set = std::env::var("PEAPOD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = set.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x5eed);
    eprintln!("PEAPOD_SEED={seed}");
    seed
}

/// A pod of all attackers on one mount.
fn attackers(world: &World, seed: u64, read_only: bool, operations: u64) -> String {
    attackers_of(&world.mount(), world, seed, read_only, operations)
}

/// The same, with another mount.
fn attackers_of(mount: &Path, world: &World, seed: u64, read_only: bool, operations: u64) -> String {
    let containers: String = (0..)
        .zip(ATTACKERS)
        .map(|(index, (guest, user))| {
            format!(
                "  - {{name: a{index}, image: {{{guest}}}, args: [attack, /v, '{}', '{operations}', {}], \
                 securityContext: {{{user}}}, volumeMounts: [{{name: v, mountPath: /v, readOnly: {read_only}}}]}}\n",
                seed.wrapping_mul(31).wrapping_add(index) >> 1,
                world.base().display(),
            )
        })
        .collect();
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: escapes}}
spec:
  restartPolicy: Never
  containers:
{containers}  volumes: [{{name: v, hostPath: {{path: {}}}}}]
",
        mount.display()
    )
}

/// Without this, a guest that looks at nothing would pass the others.
#[test]
fn an_attack_notices_what_it_reaches() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let text = attackers_of(world.base(), &world, seed(), true, OPERATIONS / 6);
    let finished = run(&text, &["--timeout", "300s"]).expect_code(1);
    for how in ["stat", "read", "list"] {
        assert!(finished.stdout.contains(&format!("ESCAPED \"{how} ")), "{how}:\n{}", finished.stdout);
    }
}

#[test]
fn no_random_path_leads_out_while_links_are_swapped_in() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    let seed = seed();
    let (outside, names) = (world.tree("outside"), world.names());
    let swapper = Swapper::start(&world, seed);
    let begun = Instant::now();
    let finished = run(&attackers(&world, seed, false, OPERATIONS), &["--timeout", "300s"]);
    let swaps = swapper.stop();
    eprintln!("{:?}, {swaps} swaps\n{}", begun.elapsed(), finished.stdout);
    let finished = finished.expect_code(0);
    assert_eq!(finished.stdout.matches(&format!("{OPERATIONS} operations")).count(), ATTACKERS.len());
    assert!(swaps > 1000, "{swaps} swaps are no race");
    assert_eq!(world.tree("outside"), outside);
    assert_eq!(world.names(), names);
    world.expect_away();
}

#[test]
fn nothing_changes_in_a_mount_to_read() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    symlink("../outside", world.mount().join("swap0")).unwrap();
    symlink("/proc/self/root", world.mount().join("swap1")).unwrap();
    symlink("dir", world.mount().join("swap2")).unwrap();
    fs::hard_link(world.mount().join("file"), world.mount().join("hard")).unwrap();
    let before = (world.tree("outside"), world.tree("mount"), world.names());
    run(&attackers(&world, seed(), true, OPERATIONS / 6), &["--timeout", "300s"]).expect_code(0);
    assert_eq!((world.tree("outside"), world.tree("mount"), world.names()), before);
}

#[test]
fn a_sub_path_that_is_swapped_between_restarts_stays_inside() {
    if !needs_root() {
        return;
    }
    let world = World::new();
    for name in SWAPPED {
        fs::create_dir(world.mount().join(name)).unwrap();
    }
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: swapped}}
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: a, image: {{probe}}, args: [read, /v/secret], volumeMounts: [{{name: v, mountPath: /v, subPath: swap0}}]}}
  - {{name: b, image: {{probe}}, args: [ls, /v], volumeMounts: [{{name: v, mountPath: /v, subPath: dir/swap4}}]}}
  - {{name: c, image: {{probe}}, args: [write, /v/new, x], volumeMounts: [{{name: v, mountPath: /v, subPath: swap1}}]}}
  # One that waits as its subPath leads out is tried again when another ends.
  - {{name: d, image: {{probe}}, args: [hello]}}
  volumes: [{{name: v, hostPath: {{path: {}}}}}]
",
        world.mount().display()
    );
    let outside = world.tree("outside");
    let swapper = Swapper::start(&world, seed());
    let finished = run(&text, &["--timeout", "6s", "--backoff-base", "1ms"]);
    swapper.stop();
    assert!(!finished.stdout.contains(SECRET) && !finished.stdout.contains("canary"), "{}", finished.stdout);
    assert_eq!(world.tree("outside"), outside);
}
