//! The pods that NetworkPolicies select: found by their records, and watched as they come and go.
//!
//! ```text
//! <run>/pods            inotify: a directory appears or vanishes ─┐
//! <run>/pods/<uid>      inotify: record.json is renamed into it ──┴─► read the records ─► addresses of each selector
//! ```
//!
//! A pod's record has its addresses before its containers start, and another pod's filter has them as soon as its
//! event loop comes round: about a millisecond later on an idle machine. Until then its packets are not let in: a
//! connection that it tries sooner is delayed by TCP's first retransmission, 1 s. Where the kernel gives no inotify
//! instance, the records are looked at every [`POLL`].

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::sandbox::record::{self, Record};
use crate::spec::network_policy::PodSelector;
use crate::sys::inotify::Events;

/// How often the records are looked at where they cannot be watched.
const POLL: Duration = Duration::from_millis(500);

/// The pods of this host, as a pod's policies see them.
#[derive(Debug)]
pub struct Peers {
    directory: PathBuf,
    selectors: Vec<PodSelector>,
    watch: Option<Watch>,
    /// By uid; only of pods that some selector selects.
    records: BTreeMap<String, Selected>,
}

#[derive(Debug, PartialEq, Eq)]
struct Selected {
    addresses: Vec<IpAddr>,
    /// Places in [`Peers::selectors`].
    by: Vec<usize>,
}

#[derive(Debug)]
struct Watch {
    inotify: Inotify,
    watched: Watched,
}

/// The uids of the directories that are watched.
type Watched = HashMap<WatchDescriptor, String>;

impl Peers {
    /// Looks at the pods whose records are below `run`, and from now on watches them.
    pub fn new(run: &Path, selectors: Vec<PodSelector>) -> Self {
        let directory = record::pods_below(run);
        let watch = Watch::new(&directory).ok();
        let mut peers = Self { directory, selectors, watch, records: BTreeMap::new() };
        peers.read_all();
        peers
    }

    /// The addresses that each selector stands for now.
    pub fn addresses(&self) -> Vec<Vec<IpAddr>> {
        let mut addresses = vec![Vec::new(); self.selectors.len()];
        for selected in self.records.values() {
            for place in &selected.by {
                addresses[*place].extend(&selected.addresses);
            }
        }
        addresses
    }

    /// Calls `tell` whenever [`Self::addresses`] have changed; never ends.
    pub async fn follow(mut self, mut tell: impl FnMut(Vec<Vec<IpAddr>>)) {
        if let Some(Watch { inotify, mut watched }) = self.watch.take()
            && let Ok(events) = Events::new(inotify)
        {
            while let Ok(found) = events.next().await {
                let mut changed = false;
                for event in found {
                    changed |= self.see(&event, events.inotify(), &mut watched);
                }
                if changed {
                    tell(self.addresses());
                }
            }
        }
        loop {
            tokio::time::sleep(POLL).await;
            if self.read_all() {
                tell(self.addresses());
            }
        }
    }

    /// Whether an event changes anything.
    fn see(&mut self, event: &InotifyEvent, inotify: &Inotify, watched: &mut Watched) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            watched.extend(watch_all(inotify, &self.directory));
            return self.read_all();
        }
        match watched.get(&event.wd).cloned() {
            Some(uid) if event.mask.contains(AddWatchFlags::IN_IGNORED) => {
                watched.remove(&event.wd);
                self.forget(&uid)
            }
            Some(uid) => self.read(&uid),
            // In the directory of all pods.
            None => {
                let Some(uid) = event.name.clone().and_then(|name| name.into_string().ok()) else {
                    return false;
                };
                watched.extend(watch_one(inotify, &self.directory, uid.clone()));
                // The record may have been written before it was watched.
                self.read(&uid)
            }
        }
    }

    /// Reads every record; whether anything is different.
    fn read_all(&mut self) -> bool {
        let records = record::all_below(&self.directory);
        let found = records.into_iter().filter_map(|record| Some((record.uid.clone(), self.select(record)?)));
        let fresh: BTreeMap<_, _> = found.collect();
        let changed = fresh != self.records;
        self.records = fresh;
        changed
    }

    /// Reads one record; whether anything is different.
    fn read(&mut self, uid: &str) -> bool {
        match record::of(&self.directory, uid).and_then(|record| self.select(record)) {
            Some(selected) if self.records.get(uid) == Some(&selected) => false,
            Some(selected) => {
                self.records.insert(uid.to_owned(), selected);
                true
            }
            None => self.forget(uid),
        }
    }

    fn forget(&mut self, uid: &str) -> bool {
        self.records.remove(uid).is_some()
    }

    fn select(&self, record: Record) -> Option<Selected> {
        let Record { identity, addresses, .. } = record;
        let selects = |selector: &PodSelector| selector.selects(&identity.namespace, &identity.labels);
        let by: Vec<_> =
            self.selectors.iter().enumerate().filter(|(_, one)| selects(one)).map(|(place, _)| place).collect();
        (!by.is_empty() && !addresses.is_empty()).then_some(Selected { addresses, by })
    }
}

impl Watch {
    fn new(directory: &Path) -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(directory, appears)?;
        let watched = watch_all(&inotify, directory).collect();
        Ok(Self { inotify, watched })
    }
}

fn watch_all<'a>(
    inotify: &'a Inotify,
    directory: &'a Path,
) -> impl Iterator<Item = (WatchDescriptor, String)> + 'a {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let uids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    uids.filter_map(move |uid| watch_one(inotify, directory, uid))
}

/// Watches one pod's directory. `IN_IGNORED` says that it is gone.
fn watch_one(inotify: &Inotify, directory: &Path, uid: String) -> Option<(WatchDescriptor, String)> {
    let written = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
    // Gone already: then there is nothing to watch.
    Some((inotify.add_watch(&directory.join(&uid), written).ok()?, uid))
}
