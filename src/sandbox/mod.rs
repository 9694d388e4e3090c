//! A pod's place in the kernel: its namespaces, cgroup, network and process; made with roll-back, removed
//! collecting errors, cleaned up after a crash.
//!
//! ```text
//! supervisor (single-threaded)                        pod process
//!  own <run>/pods/<uid>, record
//!  ports of the host, held
//!  cgroup + limits
//!  clone3 ───────────────────────────────────────────► enters its cgroup, makes its network namespace
//!  address lease, masquerade
//!  veth pair, host routes      ◄──────────"entered"──  mounts, hostname, child(Entered): prepares itself
//!  (or CNI plugins)
//!  ports of the host, forwarded
//!  "go": the addresses ──────────────────────────────► addresses, default routes, waits for its end of the link
//!  waits for the host's end
//!  "up" ─────────────────────────────────────────────►
//!  Sandbox ◄────────────────────────────────"ready"──  begins
//! ```
//!
//! Everything made is named by the pod's uid, so that it can be found again whoever died when: [`Sandbox::remove`],
//! the roll-back of a failed [`create()`] and [`sweep()`] are one and the same code, which tolerates that things are
//! not there.
//!
//! Without the privileges the pod gets a user namespace, loopback and no cgroup; [`Sandbox::warnings`] says so.

pub mod cgroup;
pub mod cni;
pub mod dev;
pub mod host_port;
pub mod ipam;
pub mod network;
pub mod oom;
pub mod record;

mod create;
mod error;
mod floor;
mod process;
mod remove;
mod sweep;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

pub use create::create;
pub use error::SandboxError;
pub use floor::{Floor, floor};
pub use process::{Entered, Inside, NotBegun};
pub use remove::RemoveError;
pub use sweep::{Swept, sweep, sweep_pod};

use crate::paths::Paths;
use crate::spec::NetworkMode;
use crate::sys::pidfd::{self, Exit};
use crate::sys::process::oom_score_adj;
use cgroup::{CgroupError, Limits};
use host_port::PortMapping;
use network::PodNetworks;
use remove::{Holdings, Process};

/// What this machine offers to pods: found by looking, once.
#[derive(Debug, Clone)]
pub struct Host {
    /// Whether this process may make namespaces, links and cgroups without a user namespace.
    privileged: bool,
    hierarchy: Option<cgroup::Hierarchy>,
}

impl Host {
    /// Looks.
    pub fn look() -> Self {
        let privileged = crate::sys::process::is_privileged();
        let hierarchy = if privileged { cgroup::Hierarchy::find() } else { None };
        Self { privileged, hierarchy }
    }
}

/// What a pod's sandbox is to be.
#[derive(Debug, Clone)]
pub struct Config<'a> {
    /// The machine.
    pub host: &'a Host,
    /// peapod's directories.
    pub paths: &'a Paths,
    /// `metadata.uid`: names cgroup, directories and link.
    pub uid: &'a str,
    /// Who the pod is: its hostname, and what other pods find in its record.
    pub identity: record::Identity,
    /// Which network it gets.
    pub network: NetworkMode,
    /// Where addresses come from, unless the host routes them elsewhere.
    pub pod_networks: PodNetworks,
    /// The ports of the host that lead to the pod's; they need [`NetworkMode::Pod`].
    pub host_ports: &'a [PortMapping],
    /// The plugins that see to the pod's network instead, for [`NetworkMode::Pod`].
    pub cni: Option<&'a cni::Chain>,
    /// The cgroup's limits.
    pub limits: Limits,
    /// How early the kernel ends the pod process when memory runs out: [`oom::score_adj`].
    pub oom_score_adj: i32,
    /// Size of `/dev/shm`, bytes.
    pub shm_bytes: u64,
    /// For tests: fail right after this step.
    #[doc(hidden)]
    pub fail_at: Option<Step>,
}

impl Config<'_> {
    fn passed(&self, step: Step) -> Result<(), SandboxError> {
        if self.fail_at == Some(step) { Err(SandboxError::Failpoint(step)) } else { Ok(()) }
    }
}

/// The steps of [`create`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ownership, record and directories.
    Own,
    /// The cgroup.
    Cgroup,
    /// The pod process.
    Clone,
    /// The address lease.
    Lease,
    /// The way out.
    Masquerade,
    /// The pod process is in its namespaces.
    Enter,
    /// The link.
    Link,
    /// The host's routes.
    Route,
    /// The ports of the host.
    HostPorts,
    /// The pod process's own part, before it is told to go.
    Inside,
    /// The pod process has begun.
    Ready,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 11] = [
        Self::Own,
        Self::Cgroup,
        Self::Clone,
        Self::Lease,
        Self::Masquerade,
        Self::Enter,
        Self::Link,
        Self::Route,
        Self::HostPorts,
        Self::Inside,
        Self::Ready,
    ];

    /// Its name in [`Sandbox::timings`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Lease => "lease",
            Self::Cgroup => "cgroup",
            Self::Clone => "clone",
            Self::Enter => "enter",
            Self::Link => "link",
            Self::Route => "route",
            Self::HostPorts => "host ports",
            Self::Inside => "inside",
            Self::Masquerade => "masquerade",
            Self::Ready => "ready",
        }
    }
}

/// A pod's place in the kernel, and its process. Dropping it removes everything, errors going to the log.
#[derive(Debug)]
pub struct Sandbox {
    /// The supervisor's end of the pod process's control socket: nothing of [`create`]'s is left in it.
    pub control: UnixStream,
    /// The pod's addresses: none without a network of its own that the host reaches.
    pub addresses: Vec<IpAddr>,
    /// What this machine did not let the pod have, one line each.
    pub warnings: Vec<String>,
    /// How long each step took, in order.
    pub timings: Vec<(&'static str, Duration)>,
    /// The pod's directory `<state>/pods/<uid>`.
    pub pod_dir: PathBuf,
    pid: i32,
    holdings: Holdings,
    exit: Option<Exit>,
}

impl Sandbox {
    /// The pod process's pid in the host's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The pod process's descriptor, readable when it has ended; `None` once it was waited for.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.holdings.process {
            Process::Child { pidfd, .. } => Some(pidfd.as_fd()),
            Process::None | Process::Orphan { .. } => None,
        }
    }

    /// The pod's cgroups: one with v2, one for each controller with v1; those that this machine let us make.
    pub fn cgroups(&self) -> &[PathBuf] {
        &self.holdings.cgroups
    }

    /// Changes the limits of the pod's cgroups. Without any there is nothing to do.
    ///
    /// # Errors
    /// See [`cgroup::resize`].
    pub fn resize(&self, limits: &Limits) -> Result<(), CgroupError> {
        cgroup::resize(&self.holdings.cgroups, limits)
    }

    /// Writes the pod's labels into its record, where the other pods find them.
    ///
    /// # Errors
    /// The record's file.
    pub fn relabel(&self, labels: &BTreeMap<String, String>) -> Result<(), record::RecordError> {
        self.holdings.owner.relabel(labels)
    }

    /// The pod process's `oom_score_adj` as it is: to lower it takes CAP_SYS_RESOURCE. `None` when it has ended.
    pub fn oom_score_adj(&self) -> Option<i32> {
        oom_score_adj(self.pid)
    }

    /// Kills the pod process and whatever else is in the pod's cgroup.
    ///
    /// # Errors
    /// pidfd_send_signal(2)'s. A pod process that has ended is no error.
    pub fn kill(&self) -> io::Result<()> {
        for path in &self.holdings.cgroups {
            cgroup::kill(path);
        }
        self.pidfd().map_or(Ok(()), |pidfd| pidfd::signal(pidfd, Signal::SIGKILL))
    }

    /// Waits until the pod process has ended.
    ///
    /// # Errors
    /// waitid(2)'s.
    pub fn wait(&mut self) -> io::Result<Exit> {
        if let Some(exit) = remove::wait(&mut self.holdings.process)? {
            self.exit = Some(exit);
        }
        self.exit.ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
    }

    /// [`Sandbox::wait`] without waiting: `None` while it runs.
    ///
    /// # Errors
    /// waitid(2)'s.
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        if let Some(exit) = remove::try_wait(&mut self.holdings.process)? {
            self.exit = Some(exit);
        }
        Ok(self.exit)
    }

    /// How many processes of the pod, native ones included, the kernel killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        cgroup::oom_kills(&self.holdings.cgroups)
    }

    /// See [`cgroup::oom_notices`].
    pub fn oom_notices(&self) -> Option<OwnedFd> {
        cgroup::oom_notices(&self.holdings.cgroups)
    }

    /// Ends what still runs and removes everything; returns what could not be removed. Takes 20 to 40 ms with a
    /// network of its own, which is how long the kernel takes to end a network namespace.
    #[must_use = "these things are still there"]
    pub fn remove(mut self) -> Vec<RemoveError> {
        self.holdings.remove()
    }
}
