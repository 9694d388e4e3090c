//! The file descriptors of the pod process, which its containers share.
//!
//! ```text
//! RLIMIT_NOFILE ─ reserve ─► Descriptors ─┬─ half: equal parts, one guaranteed to each container
//!                                         └─ half: for those who want more, each up to half of what is left
//! a container's sockets, files, queues ─► Share ─► Descriptor, given back when it is dropped
//! ```
//!
//! The kernel counts a process's descriptors, not a container's: without shares one container that opens files without
//! end would leave none to the others, to the pod's network and to its supervisor. A container has one share, however
//! many runs and commands it has at a time. The rule, `may_take`, is pure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

/// One in so many of the process's descriptors is for the process itself: logs, mounts, the supervisor's connection,
/// probes, lookups of names, directories that are open while a path is followed.
const RESERVE: usize = 4;

/// Descriptors at most that containers share, where RLIMIT_NOFILE knows no end: an open file takes almost a kilobyte, here
/// and of the pod's kernel memory.
const MOST: usize = 1 << 16;

/// Those of one pod; clones are the same.
#[derive(Debug, Clone)]
pub struct Descriptors(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    bounds: Bounds,
    taken: Mutex<Taken>,
}

/// What is fixed for the pod's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// Each container can have as many, whatever the others do.
    guaranteed: usize,
    /// Beyond that, all together.
    surplus: usize,
}

#[derive(Debug, Default)]
struct Taken {
    /// By each container that has any.
    by_container: HashMap<Arc<str>, usize>,
    /// Beyond what is guaranteed, all together.
    surplus: usize,
}

impl Bounds {
    /// For so many containers in a process that may open `files` files.
    fn new(files: u64, containers: usize) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let shared = (files - files.div_ceil(RESERVE)).min(MOST);
        // Two parts more: for the probes, and for ephemeral containers, which come later.
        let guaranteed = shared / 2 / (containers + 2);
        Self { guaranteed, surplus: shared / 2 }
    }
}

/// Whether a container that has `own` may have one more, where all together have `surplus` beyond what is guaranteed:
/// of that it gets no more than it leaves.
fn may_take(bounds: Bounds, own: usize, surplus: usize) -> bool {
    own < bounds.guaranteed || own - bounds.guaranteed < bounds.surplus.saturating_sub(surplus)
}

impl Default for Descriptors {
    /// Those of this process, for a pod of one container.
    fn default() -> Self {
        Self::of_process(1)
    }
}

impl Descriptors {
    /// What this process may open (getrlimit(2)) for a pod of so many containers.
    pub fn of_process(containers: usize) -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        Self::with(Bounds::new(files, containers))
    }

    fn with(bounds: Bounds) -> Self {
        Self(Arc::new(Pool { bounds, taken: Mutex::default() }))
    }

    /// So many for each container and no more.
    #[cfg(test)]
    pub(crate) fn guaranteed(each: usize) -> Self {
        Self::with(Bounds { guaranteed: each, surplus: 0 })
    }

    /// The share of a container, always the same for the same name.
    pub fn share(&self, container: &str) -> Share {
        Share { pool: Arc::clone(&self.0), container: container.into() }
    }
}

/// What one container may have of a pod's descriptors; clones are the same.
#[derive(Debug, Clone)]
pub struct Share {
    pool: Arc<Pool>,
    container: Arc<str>,
}

/// The right to one descriptor, given back when it is dropped.
#[derive(Debug)]
pub struct Descriptor(Share);

impl Share {
    /// One more descriptor. `None`: the container has its share.
    pub fn take(&self) -> Option<Descriptor> {
        let mut taken = self.taken();
        let own = taken.by_container.get(&self.container).copied().unwrap_or_default();
        if !may_take(self.pool.bounds, own, taken.surplus) {
            return None;
        }
        taken.surplus += usize::from(own >= self.pool.bounds.guaranteed);
        taken.by_container.insert(Arc::clone(&self.container), own + 1);
        Some(Descriptor(self.clone()))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.pool.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let Share { pool, container } = &self.0;
        let mut taken = self.0.taken();
        let Some(own) = taken.by_container.get_mut(container) else { return };
        *own -= 1;
        let own = *own;
        if own == 0 {
            taken.by_container.remove(container);
        }
        taken.surplus -= usize::from(own >= pool.bounds.guaranteed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_container_alone_gets_more_than_its_part_and_never_all() {
        for (files, most) in [(0, 0), (1, 0), (1024, 320), (20_000, 6250), (u64::MAX, 27_306)] {
            let share = Descriptors::with(Bounds::new(files, 1)).share("a");
            let kept: Vec<_> = std::iter::from_fn(|| share.take()).collect();
            assert!(kept.len().abs_diff(most) <= 1, "{} of {files}", kept.len());
        }
    }

    #[test]
    fn a_container_has_one_share_and_what_is_dropped_may_be_taken_again() {
        let pod = Descriptors::guaranteed(2);
        let (run, command) = (pod.share("a"), pod.share("a"));
        let first = run.take().expect("one");
        let _second = command.take().expect("two");
        assert!(run.take().is_none() && command.take().is_none());
        drop(first);
        assert!(run.take().is_some());
        assert!(pod.share("b").take().is_some());
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take(usize),
        Drop(usize),
    }

    fn steps() -> impl Strategy<Value = (usize, u64, Vec<Step>)> {
        (1_usize..6, 0_u64..400).prop_flat_map(|(containers, files)| {
            let step = prop_oneof![
                3 => (0..containers).prop_map(Step::Take),
                1 => (0..containers).prop_map(Step::Drop)
            ];
            (Just(containers), Just(files), vec(step, 0..600))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nobody_takes_what_is_guaranteed_to_another((containers, files, steps) in steps()) {
            let bounds = Bounds::new(files, containers);
            let pod = Descriptors::with(bounds);
            let shares: Vec<_> = (0..containers).map(|n| pod.share(&n.to_string())).collect();
            let mut held: Vec<Vec<Descriptor>> = shares.iter().map(|_| Vec::new()).collect();
            for step in steps {
                match step {
                    Step::Take(n) => {
                        let got = shares[n].take();
                        prop_assert!(got.is_some() || held[n].len() >= bounds.guaranteed);
                        held[n].extend(got);
                    }
                    Step::Drop(n) => drop(held[n].pop()),
                }
                let all: usize = held.iter().map(Vec::len).sum();
                let unused: usize = held.iter().map(|h| bounds.guaranteed.saturating_sub(h.len())).sum();
                // The process itself has its reserve, and each container can have what is guaranteed to it.
                let reserve = usize::try_from(files).unwrap().div_ceil(RESERVE);
                prop_assert!(all + unused + reserve <= usize::try_from(files).unwrap());
            }
            drop(held);
            let taken = pod.0.taken.lock().unwrap();
            prop_assert!(taken.surplus == 0 && taken.by_container.is_empty());
        }
    }
}
