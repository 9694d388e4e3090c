//! What a pod holds on this host, and how all of it goes: the one way for a pod that has ended, a creation that
//! failed half-way and a pod whose supervisor was killed.
//!
//! ```text
//! processes ─► cgroups ─► files ─► host ports ─► link (goes with its namespace) ─► leases ─► way out, if last ─► record
//! ```
//!
//! Every step tolerates that its thing was never made. None stops because one before it failed; every error is
//! collected. The record goes last, so that a crash at any instant leaves what the next sweep needs.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use thiserror::Error;

use super::cgroup::{self, CgroupError};
use super::cni::{self, CniError};
use super::host_port::HeldPorts;
use super::ipam::{IpamError, Leases};
use super::network::{self, NetworkError};
use super::record::{Identity, Owner, Record, RecordError};
use super::tree::{self, TreeError};
use crate::paths::Paths;
use crate::sys::netlink::Socket;
use crate::sys::pidfd::{self, Exit};
use crate::sys::process;

/// How long a killed process may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Something of a pod that could not be removed.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// The pod process.
    #[error("pod process {pid}: {source}")]
    Process {
        /// Its pid.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Link, masquerade or forwarding.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network of plugins.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// An address lease.
    #[error(transparent)]
    Lease(#[from] IpamError),
    /// A directory.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The record or its lock.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The pod process, as its owner knows it.
#[derive(Debug)]
pub(super) enum Process {
    /// None yet, or reaped.
    None,
    /// A child of this process, not yet reaped.
    Child { pid: i32, pidfd: OwnedFd },
    /// The child of a supervisor that is dead.
    Orphan { pid: i32, started: u64 },
}

/// All that a pod holds. Dropping it removes all of it.
#[derive(Debug)]
pub(super) struct Holdings {
    pub(super) paths: Paths,
    pub(super) uid: String,
    pub(super) owner: Owner,
    pub(super) process: Process,
    pub(super) cgroups: Vec<PathBuf>,
    /// The network of plugins, where the pod is on one.
    pub(super) attachment: Option<cni::Attachment>,
    /// The host's end of the link, where the pod has one.
    pub(super) link: Option<String>,
    /// The leased addresses.
    pub(super) leases: Vec<Ipv4Addr>,
    /// All that the pod answers to.
    pub(super) addresses: Vec<IpAddr>,
    /// The ports of the host.
    pub(super) ports: HeldPorts,
    /// Whether some may lead to the pod.
    pub(super) has_forwarding: bool,
    removed: bool,
}

impl Holdings {
    /// Of a pod that is about to be made.
    pub(super) fn new(paths: &Paths, uid: &str, owner: Owner) -> Self {
        Self {
            paths: paths.clone(),
            uid: uid.into(),
            owner,
            process: Process::None,
            cgroups: vec![],
            attachment: None,
            link: None,
            leases: vec![],
            addresses: vec![],
            ports: HeldPorts::default(),
            has_forwarding: false,
            removed: false,
        }
    }

    /// Of a pod whose supervisor is dead: what its record says where that is believable, and what follows from
    /// its uid.
    pub(super) fn of_orphan(paths: &Paths, uid: &str, owner: Owner) -> Self {
        let record = owner.read().unwrap_or_default();
        let mut holdings = Self::new(paths, uid, owner);
        holdings.cgroups =
            cgroup::Hierarchy::find().map(|hierarchy| hierarchy.paths(uid)).unwrap_or_default();
        for path in record.cgroups {
            if cgroup::is_of_pod(&path, uid) && !holdings.cgroups.contains(&path) {
                holdings.cgroups.push(path);
            }
        }
        if let (Some(pid), Some(started)) = (record.pid, record.started)
            && pid > 1
        {
            holdings.process = Process::Orphan { pid, started };
        }
        holdings.attachment = cni::Attachment::of_orphan(holdings.owner.directory());
        let leases = Leases::of(paths).all().into_iter();
        holdings.leases = leases.filter(|(_, owner)| owner == uid).map(|(address, _)| address).collect();
        holdings.addresses = match record.addresses {
            none if none.is_empty() => holdings.leases.iter().copied().map(IpAddr::V4).collect(),
            addresses => addresses,
        };
        if record.link.is_some() || !holdings.leases.is_empty() {
            holdings.link = Some(network::names(uid).0);
            holdings.has_forwarding = true;
        }
        holdings
    }

    /// The record of this.
    pub(super) fn record(&self, identity: &Identity) -> Record {
        let pid = match self.process {
            Process::Child { pid, .. } | Process::Orphan { pid, .. } => Some(pid),
            Process::None => None,
        };
        Record {
            uid: self.uid.clone(),
            identity: identity.clone(),
            pid,
            started: pid.and_then(process::start_time),
            cgroups: self.cgroups.clone(),
            link: self.link.clone(),
            addresses: self.addresses.clone(),
        }
    }

    /// Removes everything. A second call has nothing to do.
    pub(super) fn remove(&mut self) -> Vec<RemoveError> {
        if std::mem::replace(&mut self.removed, true) {
            return vec![];
        }
        let mut errors = Vec::new();
        self.end_processes(&mut errors);
        for path in &self.cgroups {
            errors.extend(cgroup::remove(path).err().map(RemoveError::from));
        }
        errors.extend(tree::remove(&self.paths.pod_state(&self.uid)).into_iter().map(RemoveError::from));
        self.leave_network(&mut errors);
        // With something left, the record stays too: a later sweep tries again.
        if errors.is_empty() {
            self.remove_record(&mut errors);
        }
        errors
    }

    fn end_processes(&mut self, errors: &mut Vec<RemoveError>) {
        // All at once; the pod process alone would leave native ones that were entered into the pod.
        for path in &self.cgroups {
            cgroup::kill(path);
        }
        let (pid, ended) = match std::mem::replace(&mut self.process, Process::None) {
            Process::None => return,
            Process::Child { pid, pidfd } => (pid, kill(&pidfd).and_then(|()| pidfd::wait(&pidfd).map(drop))),
            Process::Orphan { pid, started } => (pid, kill_orphan(pid, started)),
        };
        errors.extend(ended.err().map(|source| RemoveError::Process { pid, source }));
    }

    fn leave_network(&mut self, errors: &mut Vec<RemoveError>) {
        match self.attachment.take() {
            Some(attachment) => errors.extend(attachment.del().into_iter().map(RemoveError::from)),
            // It may have been kept without a word about it.
            None => errors.extend(cni::release(self.owner.directory()).err().map(RemoveError::from)),
        }
        let Some(link) = self.link.take() else { return };
        // An address may be given to the next pod only when nothing leads to this one any more.
        let mut gone = Ok(());
        if self.has_forwarding {
            gone = network::lock_host().and_then(|_held| network::stop_forwarding(&link, &self.addresses));
        }
        gone = network::wait_gone(&link).and(gone);
        let leases = Leases::of(&self.paths);
        match gone {
            Ok(()) => {
                for address in self.leases.drain(..) {
                    errors.extend(leases.release(address, &self.uid).err().map(RemoveError::from));
                }
            }
            Err(error) => errors.push(error.into()),
        }
        leases.tidy();
        errors.extend(stop_masquerade().err().map(RemoveError::from));
        self.ports = HeldPorts::default();
    }

    fn remove_record(&self, errors: &mut Vec<RemoveError>) {
        let held = self.owner.hold_others_off();
        errors.extend(tree::remove(self.owner.directory()).into_iter().map(RemoveError::from));
        errors.extend(held.err().map(RemoveError::from));
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        for error in self.remove() {
            tracing::warn!("pod {}: {error}", self.uid);
        }
    }
}

/// Waits for the child, when it has not been reaped yet.
pub(super) fn wait(process: &mut Process) -> io::Result<Option<Exit>> {
    let Process::Child { pidfd, .. } = process else { return Ok(None) };
    let exit = pidfd::wait(&*pidfd)?;
    *process = Process::None;
    Ok(Some(exit))
}

/// [`wait`] without waiting.
pub(super) fn try_wait(process: &mut Process) -> io::Result<Option<Exit>> {
    let Process::Child { pidfd, .. } = process else { return Ok(None) };
    let exit = pidfd::try_wait(&*pidfd)?;
    if exit.is_some() {
        *process = Process::None;
    }
    Ok(exit)
}

fn kill_orphan(pid: i32, started: u64) -> io::Result<()> {
    let pidfd = match pidfd::open(pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        opened => opened?,
    };
    // Asked after opening: the descriptor stays with the process that the answer is about.
    if process::start_time(pid) == Some(started) { kill(&pidfd) } else { Ok(()) }
}

/// Kills a process and waits until it has ended, with a bound.
fn kill(process: &OwnedFd) -> io::Result<()> {
    pidfd::signal(process, Signal::SIGKILL)?;
    let deadline = Instant::now() + END_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "does not end though killed")),
            Ok(_) => return Ok(()),
        }
    }
}

fn stop_masquerade() -> Result<(), NetworkError> {
    let _held = network::lock_host()?;
    let host = network::host_network(&mut Socket::route()?)?;
    network::stop_when_unused(&host)
}
