//! Address leases: who has which address of the pod network.
//!
//! ```text
//! candidates (pure): the address after the last one given, and so on round ─► lease: one symlink each
//! ```
//!
//! A lease is a symbolic link `<run>/net/leases/<address>` whose target is the pod's uid: symlink(2) makes name
//! and content in one step and fails when it exists, so that concurrent runs and a crash at any instant leave
//! either no lease or a whole one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use thiserror::Error;

use crate::paths::Paths;

/// Addresses at the beginning of a network that no pod gets: the network's own and the one that people take
/// for its router.
const RESERVED_FIRST: u32 = 2;

/// An address that cannot be leased.
#[derive(Debug, Error)]
pub enum IpamError {
    /// Every address is taken.
    #[error("no free address in {0}: end other pods, or choose a larger network with --pod-cidr")]
    Exhausted(Ipv4Net),
    /// The leases cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What failed.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The addresses of `network` in the order in which to try them: from the one after `last` to the end, then
/// from the beginning. Never the first two nor the broadcast address.
pub fn candidates(network: Ipv4Net, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
    let first = u64::from(u32::from(network.network())) + u64::from(RESERVED_FIRST);
    let end = u64::from(u32::from(network.broadcast()));
    let count = end.saturating_sub(first);
    let start = last.map(|last| u64::from(u32::from(last)) + 1).filter(|next| (first..end).contains(next));
    let offset = start.map_or(0, |start| start - first);
    (0..count).map(move |step| Ipv4Addr::from((first + (offset + step) % count) as u32))
}

/// The leases of one set of peapod's directories.
#[derive(Debug)]
pub struct Leases {
    directory: PathBuf,
    last: PathBuf,
}

impl Leases {
    /// Those below `paths`.
    pub fn of(paths: &Paths) -> Self {
        let net = paths.run.join("net");
        Self { directory: net.join("leases"), last: net.join("last") }
    }

    /// Leases the next free address of `network` for pod `uid`. An address in `taken` is not free.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`]; the files'.
    pub fn acquire(
        &self,
        network: Ipv4Net,
        uid: &str,
        taken: &HashSet<Ipv4Addr>,
    ) -> Result<Ipv4Addr, IpamError> {
        self.make_directory()?;
        // Only a hint: lost or stale, it makes the search longer.
        let last = fs::read_to_string(&self.last).ok().and_then(|last| last.parse().ok());
        for address in candidates(network, last).filter(|address| !taken.contains(address)) {
            let path = self.directory.join(address.to_string());
            let mut made = symlink(uid, &path);
            if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                // The end of the last pod has just tidied up.
                self.make_directory()?;
                made = symlink(uid, &path);
            }
            match made {
                Ok(()) => {
                    self.remember(address);
                    return Ok(address);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(file_error("make", &path, error)),
            }
        }
        Err(IpamError::Exhausted(network))
    }

    /// Gives one address of pod `uid` back; another pod's stays. Given back already is success.
    ///
    /// # Errors
    /// The file's.
    pub fn release(&self, address: Ipv4Addr, uid: &str) -> Result<(), IpamError> {
        let path = self.directory.join(address.to_string());
        match fs::read_link(&path) {
            Ok(owner) if owner == Path::new(uid) => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(file_error("remove", &path, error))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Every lease: address and the pod's uid.
    pub fn all(&self) -> Vec<(Ipv4Addr, String)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let owner = fs::read_link(entry.path()).ok()?;
                Some((entry.file_name().to_str()?.parse().ok()?, owner.to_str()?.to_owned()))
            })
            .collect()
    }

    /// Removes the directories when nothing is leased any more.
    pub fn tidy(&self) {
        if fs::remove_dir(&self.directory).is_ok() {
            let _ = fs::remove_file(&self.last);
            if let Some(net) = self.directory.parent() {
                let _ = fs::remove_dir(net);
            }
        }
    }

    fn make_directory(&self) -> Result<(), IpamError> {
        fs::create_dir_all(&self.directory).map_err(|error| file_error("make", &self.directory, error))
    }

    fn remember(&self, address: Ipv4Addr) {
        let _ = fs::write(&self.last, address.to_string());
    }
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> IpamError {
    IpamError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_search_goes_round() {
        let order: Vec<_> = candidates(net("10.0.0.0/29"), Some("10.0.0.4".parse().unwrap())).collect();
        assert_eq!(order, [5, 6, 2, 3, 4].map(|host| Ipv4Addr::new(10, 0, 0, host)));
    }

    #[test]
    fn tiny_networks_have_no_addresses() {
        for text in ["10.0.0.0/31", "10.0.0.0/32"] {
            assert_eq!(candidates(net(text), None).count(), 0, "{text}");
        }
        assert_eq!(candidates(net("10.0.0.0/30"), None).collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 2)]);
        assert_eq!(candidates(net("0.0.0.0/0"), None).next(), Some(Ipv4Addr::new(0, 0, 0, 2)));
    }

    proptest! {
        #[test]
        fn every_usable_address_comes_once(base: u32, last: u32, bits in 24u8..=32) {
            let network = Ipv4Net::new(base.into(), bits).unwrap().trunc();
            let all: Vec<_> = candidates(network, Some(last.into())).collect();
            let distinct: HashSet<_> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len());
            prop_assert_eq!(all.len(), (1usize << (32 - bits)).saturating_sub(3));
            prop_assert!(all.iter().all(|address| network.contains(address)
                && *address != network.network() && *address != network.broadcast()));
        }
    }

    #[test]
    fn leases_are_exclusive_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(0, |_| Some(directory.path().into()));
        fs::create_dir_all(&paths.run).unwrap();
        let leases = Leases::of(&paths);
        let network = net("10.0.0.0/29");
        let taken = HashSet::from([Ipv4Addr::new(10, 0, 0, 3)]);
        let got: Vec<_> = (0..4).map(|_| leases.acquire(network, "a", &taken).unwrap()).collect();
        assert_eq!(got, [2, 4, 5, 6].map(|host| Ipv4Addr::new(10, 0, 0, host)));
        assert!(matches!(leases.acquire(network, "a", &taken), Err(IpamError::Exhausted(_))));
        leases.release(got[1], "b").unwrap();
        assert!(leases.acquire(network, "b", &taken).is_err(), "another pod's lease was given back");
        leases.release(got[1], "a").unwrap();
        assert_eq!(leases.acquire(network, "b", &taken).unwrap(), got[1]);
        assert_eq!(leases.all().len(), 4);
        for (address, uid) in leases.all() {
            leases.release(address, &uid).unwrap();
        }
        leases.tidy();
        assert!(!paths.run.join("net").exists());
    }

    #[test]
    fn concurrent_leases_differ() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(0, |_| Some(directory.path().into()));
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let leases = Leases::of(&paths);
                std::thread::spawn(move || {
                    let uid = worker.to_string();
                    let taken = HashSet::new();
                    (0..20)
                        .map(|_| leases.acquire(net("10.0.0.0/24"), &uid, &taken).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let all: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 160);
    }
}
