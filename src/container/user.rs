//! The users that containers work with files as: `runAsUser` and its like.
//!
//! ```text
//! spec::User ─► FileUsers::of ─► FileUser ─┬─ peapod's own: the event loop's blocking pool
//!                                          └─ another: Threads, a pool whose threads are that user (sys::user)
//! guest's file operation ─► FileUser::run ─► wasmtime-wasi ─► spawn_blocking on the pool of the user
//! ```
//!
//! One process runs all containers of a pod, and its files are opened by threads of tokio's blocking pool. A user
//! that is not peapod's own has a pool to itself, so that the kernel decides what it may do, as it does for a
//! process. Only what goes by path or needs permission runs there: reads and writes of files that are open already
//! may come from any thread.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::spec::{Pod, User};
use crate::sys::user::{has_group, has_user, work_as};

/// Most threads of one user: enough that the operations of a pod's containers do not wait for each other, and few
/// beside those that the pod's cgroup allows (`cgroup::PIDS`).
const THREADS: usize = 16;

/// The users of a pod's containers that are not peapod's own. There are no more than there are containers.
#[derive(Debug, Default)]
pub struct FileUsers(HashMap<Identity, FileUser>);

/// Who works with files for one container. Clones are the same. The default is peapod's own user.
#[derive(Debug, Clone, Default)]
pub struct FileUser(Option<Arc<Threads>>);

/// A user as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Identity {
    /// `None`: peapod's own user. Groups beside those of root, or of a user who cannot take any, change nothing.
    fn of(user: &User) -> Option<Self> {
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let (uid, gid) = user.ids(own.0, own.1);
        ((uid, gid) != own).then(|| Self { uid, gid, groups: user.groups.clone() })
    }

    /// Whether this user namespace has it, with all its groups.
    fn exists(&self) -> io::Result<bool> {
        let mut groups = self.groups.iter().chain([&self.gid]);
        Ok(has_user(self.uid)?
            && groups.try_fold(true, |all, group| Ok::<_, io::Error>(all && has_group(*group)?))?)
    }

    fn assume(&self) -> io::Result<()> {
        work_as(self.uid, self.gid, &self.groups)
    }
}

impl FileUsers {
    /// Who works with files for a container of this user: peapod itself where its user namespace has no other.
    ///
    /// # Errors
    /// This process may not work as another user, or has no thread left.
    pub fn of(&mut self, user: &User) -> io::Result<FileUser> {
        let Some(identity) = Identity::of(user) else { return Ok(FileUser::default()) };
        if let Some(known) = self.0.get(&identity) {
            return Ok(known.clone());
        }
        if !identity.exists()? {
            return Ok(FileUser::default());
        }
        let made = FileUser(Some(Arc::new(Threads::new(identity.clone())?)));
        self.0.insert(identity, made.clone());
        Ok(made)
    }
}

/// What of a pod's users is ignored because this user namespace has no other than peapod's own, for the user to read:
/// as without root. `None`: nothing.
pub fn ignored(pod: &Pod) -> Option<String> {
    let unknown = |user: &User| Identity::of(user).is_some_and(|identity| !identity.exists().unwrap_or(true));
    let fs_group = pod.fs_group.is_some_and(|group| !has_group(group.gid).unwrap_or(true));
    (fs_group || pod.all_containers().any(|container| unknown(&container.user))).then(|| {
        "not root: no runAsUser, runAsGroup or fsGroup; files are yours, as whom they are used".into()
    })
}

impl FileUser {
    /// Polls a file operation so that what it gives to the blocking pool runs as the user.
    pub async fn run<F: Future>(&self, operation: F) -> F::Output {
        let Some(threads) = &self.0 else { return operation.await };
        let mut operation = pin!(operation);
        poll_fn(|cx| {
            let _entered = threads.handle.enter();
            operation.as_mut().poll(cx)
        })
        .await
    }

    /// [`Self::run`] of an operation that does not wait.
    pub fn call<T>(&self, operation: impl FnOnce() -> T) -> T {
        let _entered = self.0.as_ref().map(|threads| threads.handle.enter());
        operation()
    }
}

/// A blocking pool whose threads are one user: of a runtime that nothing else runs on.
#[derive(Debug)]
struct Threads {
    handle: Handle,
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    fn new(user: Identity) -> io::Result<Self> {
        // A thread of the pool could tell nobody that it cannot become the user.
        let tried = user.clone();
        let trial = thread::Builder::new().name("user".into()).spawn(move || tried.assume())?;
        trial.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))?;
        let become_user = move || {
            if user.assume().is_err() {
                // It has worked before; whatever is wrong now, nothing runs as root instead.
                std::process::abort();
            }
        };
        let runtime = Builder::new_current_thread()
            .thread_name("user")
            .max_blocking_threads(THREADS)
            .on_thread_start(become_user)
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Threads {
    /// Does not wait: what still runs belongs to a container that is gone.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn user(uid: u32) -> User {
        User { uid: Some(uid), ..User::default() }
    }

    #[test]
    fn each_operation_runs_as_its_user_on_one_event_loop() {
        if !crate::testing::needs_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let write = |name: &'static str| {
            let path = dir.path().join(name);
            async move { tokio::task::spawn_blocking(move || fs::write(path, "x")).await.unwrap() }
        };
        let event_loop = Builder::new_current_thread().enable_all().build().unwrap();
        event_loop.block_on(async {
            let mut users = FileUsers::default();
            let (a, b) = (users.of(&user(1001)).unwrap(), users.of(&user(1002)).unwrap());
            let (a, b, own) = tokio::join!(a.run(write("a")), b.run(write("b")), write("own"));
            a.and(b).and(own).unwrap();
            // The same user has the same threads.
            users.of(&user(1001)).unwrap();
            assert_eq!(users.0.len(), 2);
            // As root, groups change nothing.
            let root = User { uid: Some(0), groups: vec![5], ..User::default() };
            assert!(users.of(&root).unwrap().0.is_none());
            // Dropped in an event loop, it does not panic.
        });
        for (name, uid) in [("a", 1001), ("b", 1002), ("own", 0)] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().uid(), uid, "{name}");
        }
    }
}
