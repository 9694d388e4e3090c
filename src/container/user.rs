//! The users that containers work with files as: `runAsUser` and its like.
//!
//! ```text
//! spec::User ─► FileUsers::of ─► FileUser ─► Threads: those of one container, all of them that user (sys::user)
//! guest's file operation ─► FileUser::run ─► wasmtime-wasi ─► spawn_blocking on a thread of the container
//! ```
//!
//! One process runs all containers of a pod, and its files are opened by threads of blocking pools, of
//! which each container has its own. If its user is not peapod's, its threads are that user, so that the kernel
//! decides what it may do, as it does for a process. What is in memory of a file that is open already is read
//! without them.

pub mod near;
mod threads;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::task::JoinHandle;

use crate::spec::{Pod, User};
use crate::sys::user::{has_group, has_user, work_as};

use threads::Threads;

/// Who works with the files of a pod's containers, by container: over all runs of one, as a call that sticks may
/// outlive its run.
#[derive(Debug)]
pub struct FileUsers {
    users: HashMap<String, (Option<Identity>, FileUser)>,
    /// Threads of each, but for one.
    far: usize,
}

/// Who works with files for one container. Clones are the same. The default has no threads of its own: it works on
/// the blocking pool of the runtime that is current.
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

    /// Makes this thread the user, for good.
    fn assume(&self) -> io::Result<()> {
        work_as(self.uid, self.gid, &self.groups)
    }

    /// Whether a thread can: one of a pool could tell nobody that it cannot.
    fn try_out(&self) -> io::Result<()> {
        let user = self.clone();
        let trial = thread::Builder::new().name("user".into()).spawn(move || user.assume())?;
        trial.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))
    }
}

impl FileUsers {
    /// Those of a pod of so many containers.
    pub fn new(containers: usize) -> Self {
        Self { users: HashMap::new(), far: threads::far(containers) }
    }

    /// Who works with files for the container of this name and user: peapod itself where its user namespace has no
    /// other.
    ///
    /// # Errors
    /// This process may not work as another user, or has no thread left.
    pub fn of(&mut self, container: &str, user: &User) -> io::Result<FileUser> {
        if let Some((_, known)) = self.users.get(container) {
            return Ok(known.clone());
        }
        let identity = match Identity::of(user) {
            Some(other) if other.exists()? => Some(other),
            _ => None,
        };
        if identity.is_some() && !self.users.values().any(|(known, _)| *known == identity) {
            identity.as_ref().map_or(Ok(()), Identity::try_out)?;
        }
        let made = FileUser(Some(Arc::new(Threads::new(identity.clone(), self.far)?)));
        self.users.insert(container.to_owned(), (identity, made.clone()));
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
    /// Polls a file operation so that what it gives to the blocking pool runs as the user. Where the container has too
    /// many that have not ended, it waits for one.
    pub async fn run<F: Future>(&self, operation: F) -> F::Output {
        match &self.0 {
            Some(threads) => threads.run(operation).await,
            None => operation.await,
        }
    }

    /// Begins what one thread does, which goes on whether or not it is waited for.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.0 {
            Some(threads) => threads.spawn(work),
            None => tokio::task::spawn_blocking(work),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use tokio::runtime::Builder;

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
            let mut users = FileUsers::new(1);
            let (a, b) = (users.of("a", &user(1001)).unwrap(), users.of("b", &user(1002)).unwrap());
            let own = users.of("own", &User::default()).unwrap();
            let (a, b, own) = tokio::join!(a.run(write("a")), b.run(write("b")), own.run(write("own")));
            a.and(b).and(own).unwrap();
            // The next run of a container has the same threads, another container of the same user has others.
            let again = users.of("a", &user(1001)).unwrap();
            let other = users.of("c", &user(1001)).unwrap();
            let same = |one: &FileUser, two: &FileUser| {
                matches!((&one.0, &two.0), (Some(one), Some(two)) if Arc::ptr_eq(one, two))
            };
            assert!(same(&again, &users.of("a", &user(1001)).unwrap()) && !same(&again, &other));
            // As root, groups change nothing.
            let root = User { uid: Some(0), groups: vec![5], ..User::default() };
            users.of("root", &root).unwrap();
            assert!(users.users["root"].0.is_none());
            // Dropped in an event loop, it does not panic.
        });
        for (name, uid) in [("a", 1001), ("b", 1002), ("own", 0)] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().uid(), uid, "{name}");
        }
    }
}
