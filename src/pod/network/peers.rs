//! The pods that NetworkPolicies select: found by their records, and watched as they come and go.
//!
//! ```text
//! <run>/pods            inotify: a directory appears or vanishes ─┐
//! <run>/pods/<uid>      inotify: record.json is renamed into it ──┴─► read the records ─► addresses of each selector
//! ```
//!
//! A pod's record has its addresses before its containers start, and another pod's filter has them as soon as its
//! event loop comes round: about a millisecond later on an idle machine. Until then its packets are not let in: a
//! connection that it tries sooner is delayed by TCP's first retransmission, 1 s. Where the kernel lets nothing more be
//! watched (`fs.inotify.max_user_instances`, `max_user_watches`), the records are looked at twice a second.

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
    /// Looks at the pods whose directories are below `directory` ([`record::directories`]), and from now on watches
    /// them.
    pub fn new(directory: &Path, selectors: Vec<PodSelector>) -> Self {
        let directory = directory.to_owned();
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
                let seen: Result<Vec<bool>, Errno> =
                    found.iter().map(|event| self.see(event, events.inotify(), &mut watched)).collect();
                match seen {
                    Ok(changes) if !changes.contains(&true) => {}
                    Ok(_) => tell(self.addresses()),
                    Err(_) => {
                        // Some may have been seen before that.
                        self.read_all();
                        tell(self.addresses());
                        break;
                    }
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
    fn see(&mut self, event: &InotifyEvent, inotify: &Inotify, watched: &mut Watched) -> Result<bool, Errno> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            watch_all(inotify, &self.directory, watched)?;
            return Ok(self.read_all());
        }
        if let Some(uid) = watched.get(&event.wd).cloned() {
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                watched.remove(&event.wd);
                return Ok(self.forget(&uid));
            }
            return Ok(self.read(&uid));
        }
        // In the directory of all pods.
        let Some(uid) = event.name.clone().and_then(|name| name.into_string().ok()) else { return Ok(false) };
        watch_one(inotify, &self.directory, uid.clone(), watched)?;
        // The record may have been written before it was watched.
        Ok(self.read(&uid))
    }

    /// Reads every record; whether anything is different.
    fn read_all(&mut self) -> bool {
        let records = record::all(&self.directory);
        let found = records.into_iter().filter_map(|record| Some((record.uid.clone(), self.select(record)?)));
        let fresh: BTreeMap<_, _> = found.collect();
        let changed = fresh != self.records;
        self.records = fresh;
        changed
    }

    /// Reads one record; whether anything is different.
    fn read(&mut self, uid: &str) -> bool {
        match record::read(&self.directory.join(uid)).and_then(|(record, _)| self.select(record)) {
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
        let by: Vec<_> = self
            .selectors
            .iter()
            .enumerate()
            .filter(|(_, one)| selects(one))
            .map(|(place, _)| place)
            .collect();
        (!by.is_empty() && !addresses.is_empty()).then_some(Selected { addresses, by })
    }
}

impl Watch {
    fn new(directory: &Path) -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(directory, appears)?;
        let mut watched = Watched::new();
        watch_all(&inotify, directory, &mut watched)?;
        Ok(Self { inotify, watched })
    }
}

fn watch_all(inotify: &Inotify, directory: &Path, watched: &mut Watched) -> Result<(), Errno> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut uids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    uids.try_for_each(|uid| watch_one(inotify, directory, uid, watched))
}

/// Watches one pod's directory. `IN_IGNORED` says that it is gone.
fn watch_one(inotify: &Inotify, directory: &Path, uid: String, watched: &mut Watched) -> Result<(), Errno> {
    let written = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
    match inotify.add_watch(&directory.join(&uid), written) {
        Ok(descriptor) => watched.insert(descriptor, uid),
        // Gone already, or a file.
        Err(Errno::ENOENT | Errno::ENOTDIR) => None,
        Err(error) => return Err(error),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::paths::Paths;
    use crate::sandbox::record::{Identity, Owner};
    use crate::spec::network_policy::{Condition, LabelSelector, Namespaces, Requirement};

    struct World {
        _directory: tempfile::TempDir,
        paths: Paths,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let paths = Paths::resolve(0, |_| Some(directory.path().into()));
            fs::create_dir_all(record::directories(&paths)).unwrap();
            Self { _directory: directory, paths }
        }

        /// A pod that begins: its directory, then its record, then the record with its address.
        fn pod(&self, uid: &str, role: &str, address: &str) -> Owner {
            let owner = Owner::take(&self.paths, uid).unwrap();
            let identity = Identity {
                namespace: "default".into(),
                labels: [("role".to_owned(), role.to_owned())].into(),
                ..Identity::default()
            };
            let record = Record { uid: uid.into(), identity, ..Record::default() };
            owner.write(&record).unwrap();
            owner.write(&Record { addresses: vec![ip(address)], ..record }).unwrap();
            owner
        }

        fn peers(&self) -> Peers {
            let with_role = |role: &str| PodSelector {
                namespaces: Namespaces::Named("default".into()),
                pods: LabelSelector {
                    requirements: vec![Requirement {
                        key: "role".into(),
                        condition: Condition::In([role.to_owned()].into()),
                    }],
                },
            };
            Peers::new(&record::directories(&self.paths), vec![with_role("friend"), with_role("foe")])
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn remove(owner: Owner) {
        fs::remove_dir_all(owner.directory()).unwrap();
    }

    /// Waits until the addresses are these.
    async fn expect(told: &mut tokio::sync::mpsc::Receiver<Vec<Vec<IpAddr>>>, expected: [&[&str]; 2]) {
        let expected: Vec<Vec<IpAddr>> =
            expected.iter().map(|list| list.iter().map(|text| ip(text)).collect()).collect();
        let come = async { while told.recv().await.expect("followed") != expected {} };
        tokio::time::timeout(Duration::from_secs(30), come).await.expect("in time");
    }

    async fn pods_come_and_go(watched: bool) {
        let world = World::new();
        let one = world.pod("u1", "friend", "10.0.0.1");
        let mut peers = world.peers();
        assert_eq!(peers.addresses(), [vec![ip("10.0.0.1")], vec![]]);
        if !watched {
            peers.watch = None;
        }
        let (sender, mut told) = tokio::sync::mpsc::channel(100);
        let follow = peers.follow(move |addresses| sender.try_send(addresses).expect("a place"));
        let script = async {
            let two = world.pod("u2", "friend", "fd00::2");
            let _stranger = world.pod("u3", "stranger", "10.0.0.3");
            expect(&mut told, [&["10.0.0.1", "fd00::2"], &[]]).await;
            let foe = world.pod("u4", "foe", "10.0.0.4");
            expect(&mut told, [&["10.0.0.1", "fd00::2"], &["10.0.0.4"]]).await;
            let role = |role: &str| [("role".to_owned(), role.to_owned())].into();
            two.relabel(&role("foe")).unwrap();
            expect(&mut told, [&["10.0.0.1"], &["fd00::2", "10.0.0.4"]]).await;
            two.relabel(&role("friend")).unwrap();
            expect(&mut told, [&["10.0.0.1", "fd00::2"], &["10.0.0.4"]]).await;
            remove(one);
            expect(&mut told, [&["fd00::2"], &["10.0.0.4"]]).await;
            remove(two);
            remove(foe);
            expect(&mut told, [&[], &[]]).await;
        };
        tokio::select! {
            () = follow => unreachable!("it never ends"),
            () = script => {}
        }
    }

    #[tokio::test]
    async fn pods_are_seen_to_come_and_go() {
        pods_come_and_go(true).await;
    }

    #[tokio::test]
    async fn pods_are_seen_without_inotify_too() {
        pods_come_and_go(false).await;
    }
}
