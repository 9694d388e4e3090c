//! A pod's place in the kernel: its namespaces, cgroup, network and process; made with roll-back, removed
//! collecting errors, cleaned up after a crash.
//!
//! ```text
//! supervisor (single-threaded)                        pod process
//!  own <run>/pods/<uid>, record
//!  address lease, cgroup + limits
//!  clone3 ───────────────────────────────────────────► enters its cgroup, mounts, hostname, lo
//!  veth pair, host route
//!  "go": the addresses ──────────────────────────────► address, default route, waits for its end of the link
//!  masquerade, record with the pid,
//!  waits for the host's end
//!  "up" ─────────────────────────────────────────────►
//!  Sandbox ◄────────────────────────────────"ready"── child(Inside), still single-threaded
//! ```
//!
//! Everything made is named by the pod's uid, so that it can be found again whoever died when: [`Sandbox::remove`],
//! the roll-back of a failed [`create`] and [`sweep()`] are one and the same code, which tolerates that things are
//! not there.
//!
//! Without the privileges the pod gets a user namespace, loopback and no cgroup; [`Sandbox::warnings`] says so.

pub mod cgroup;
pub mod ipam;
pub mod network;
pub mod record;

mod floor;
mod process;
mod remove;
mod sweep;
mod tree;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use thiserror::Error;

pub use floor::{Floor, floor};
pub use process::Inside;
pub use remove::RemoveError;
pub use sweep::{Swept, sweep};

use crate::paths::Paths;
use crate::spec::NetworkMode;
use crate::sys::netlink::{NetlinkError, Socket};
use crate::sys::pidfd::{self, Exit};
use crate::sys::{clone, process as proc_info};
use cgroup::{CgroupError, Entry, Hierarchy, Limits};
use ipam::{IpamError, Leases};
use network::{HostNetwork, NetworkError};
use process::{Setup, Told};
use record::{Owner, RecordError};
use remove::{Holdings, Process};

/// How many addresses may turn out to be another's before giving up: each try costs a message to the kernel.
const ADDRESS_TRIES: usize = 64;

/// What a pod's sandbox is to be.
#[derive(Debug, Clone)]
pub struct Config<'a> {
    /// peapod's directories.
    pub paths: &'a Paths,
    /// `metadata.uid`: names cgroup, directories and link.
    pub uid: &'a str,
    /// `metadata.name`, for the record.
    pub name: &'a str,
    /// `metadata.namespace`, for the record.
    pub namespace: &'a str,
    /// The UTS hostname.
    pub hostname: &'a str,
    /// Which network it gets.
    pub network: NetworkMode,
    /// Where addresses come from, unless the host routes it elsewhere.
    pub pod_cidr: Ipv4Net,
    /// The cgroup's limits.
    pub limits: Limits,
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
    /// The address lease.
    Lease,
    /// The cgroup.
    Cgroup,
    /// The pod process.
    Clone,
    /// The link.
    Link,
    /// The host's route.
    Route,
    /// The pod process's own part, before it is told to go.
    Inside,
    /// The way out.
    Masquerade,
    /// The pod process has begun.
    Ready,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::Own,
        Self::Lease,
        Self::Cgroup,
        Self::Clone,
        Self::Link,
        Self::Route,
        Self::Inside,
        Self::Masquerade,
        Self::Ready,
    ];

    /// Its name in [`Sandbox::timings`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Lease => "lease",
            Self::Cgroup => "cgroup",
            Self::Clone => "clone",
            Self::Link => "link",
            Self::Route => "route",
            Self::Inside => "inside",
            Self::Masquerade => "masquerade",
            Self::Ready => "ready",
        }
    }
}

/// A sandbox cannot be made.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The record or its lock.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The address.
    #[error(transparent)]
    Address(#[from] IpamError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// User namespaces are forbidden or used up.
    #[error("cannot make a user namespace: {0}; run as root, or allow them: {advice}", advice = user_namespace_advice(.0))]
    UserNamespace(io::Error),
    /// The process.
    #[error("cannot fork the pod process: {0}")]
    Clone(io::Error),
    /// The pod process says what failed inside.
    #[error("in the pod: {0}")]
    Inside(String),
    /// The pod process ended before it was ready.
    #[error("the pod process ended while it was being set up ({0})")]
    Ended(String),
    /// The control socket failed.
    #[error("control socket of the pod process: {0}")]
    Control(#[from] io::Error),
    /// A test asked for it.
    #[error("failed on purpose after step {0:?}")]
    Failpoint(Step),
    /// And not everything made before could be undone.
    #[error("{cause}; and this could not be undone: {}", join(.left))]
    RollBack {
        /// What failed first.
        cause: Box<SandboxError>,
        /// What is left; the next run tries again.
        left: Vec<RemoveError>,
    },
}

impl From<NetlinkError> for SandboxError {
    fn from(error: NetlinkError) -> Self {
        Self::Network(error.into())
    }
}

fn join(errors: &[RemoveError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn user_namespace_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "sysctl user.max_user_namespaces",
        _ => {
            "sysctl kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), or the container's seccomp profile"
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

    /// Whether the kernel killed a process of the pod for want of memory.
    pub fn oom_killed(&self) -> bool {
        cgroup::oom_kills(&self.holdings.cgroups) > 0
    }

    /// Ends what still runs and removes everything; returns what could not be removed. Takes 20 to 40 ms with a
    /// network of its own, which is how long the kernel takes to end a network namespace.
    #[must_use = "these things are still there"]
    pub fn remove(mut self) -> Vec<RemoveError> {
        self.holdings.remove()
    }
}

/// Makes the sandbox and starts the pod process, which runs `child` inside and exits with what it returns. This
/// process must be single-threaded, and should have blocked the signals that would end it: the child inherits
/// the mask.
///
/// # Errors
/// When a step fails: everything made before it has been undone, or is named in [`SandboxError::RollBack`].
pub fn create(config: &Config<'_>, child: impl FnOnce(Inside) -> i32) -> Result<Sandbox, SandboxError> {
    let mut clock = Clock::start();
    let owner = Owner::take(config.paths, config.uid)?;
    let mut holdings = Holdings::new(config.paths, config.uid, owner);
    match build(config, child, &mut holdings, &mut clock) {
        Ok(built) => Ok(Sandbox {
            control: built.control,
            addresses: built.addresses,
            warnings: built.warnings,
            timings: clock.laps,
            pod_dir: config.paths.pod_state(config.uid),
            pid: built.pid,
            holdings,
            exit: None,
        }),
        Err(cause) => {
            let left = holdings.remove();
            if left.is_empty() {
                Err(cause)
            } else {
                Err(SandboxError::RollBack { cause: Box::new(cause), left })
            }
        }
    }
}

struct Built {
    control: UnixStream,
    addresses: Vec<IpAddr>,
    warnings: Vec<String>,
    pid: i32,
}

fn build(
    config: &Config<'_>,
    child: impl FnOnce(Inside) -> i32,
    holdings: &mut Holdings,
    clock: &mut Clock,
) -> Result<Built, SandboxError> {
    let mut warnings = Vec::new();
    let privileged = proc_info::is_privileged();
    let hierarchy = if privileged { Hierarchy::find() } else { None };
    let linked = privileged && config.network == NetworkMode::Pod;
    warnings.extend(missing(config, privileged, hierarchy.is_some()));

    // The record names things before they exist.
    holdings.cgroups = hierarchy.as_ref().map(|hierarchy| hierarchy.paths(config.uid)).unwrap_or_default();
    let (link, mac) = network::names(config.uid);
    holdings.link = linked.then(|| link.clone());
    holdings.owner.write(&holdings.record(config.name, config.namespace))?;
    record::private_directory(&config.paths.pod_state(config.uid))?;
    clock.lap(Step::Own);
    config.passed(Step::Own)?;

    let mut lan = if linked { Some(Lan::open(config, holdings, &mut warnings)?) } else { None };
    clock.lap(Step::Lease);
    config.passed(Step::Lease)?;

    let entry = match &hierarchy {
        Some(hierarchy) => cgroup::create(hierarchy, config.uid, &config.limits, &mut warnings)?,
        None => Entry::None,
    };
    holdings.cgroups.retain(|path| path.exists());
    clock.lap(Step::Cgroup);
    config.passed(Step::Cgroup)?;

    let (control, pid) = fork(config, child, holdings, entry, privileged, lan.as_ref())?;
    clock.lap(Step::Clone);
    config.passed(Step::Clone)?;

    let mut addresses = Vec::new();
    let mut connected = None;
    if let Some(lan) = &mut lan {
        let index = network::create_pair(&mut lan.socket, &link, mac, pid, lan.mtu)?;
        clock.lap(Step::Link);
        config.passed(Step::Link)?;
        addresses.push(IpAddr::V4(lan.route(config, holdings, index, mac)?));
        clock.lap(Step::Route);
        config.passed(Step::Route)?;
        connected = Some((lan, index));
    }

    // From here on beside the pod process's own part. When that has failed, what it says explains why.
    if process::go(&control, &addresses).is_ok() {
        if connected.is_some() {
            let _held = network::lock_host()?;
            warnings.extend(network::masquerade());
            clock.lap(Step::Masquerade);
        }
        config.passed(Step::Masquerade)?;
        holdings.owner.write(&holdings.record(config.name, config.namespace))?;
        let carries = match connected {
            Some((lan, index)) => network::wait_up(&mut lan.socket, index, Some(control.as_fd()))?,
            None => true,
        };
        if carries {
            let _ = process::up(&control);
        }
    }
    match process::listen(&control)? {
        Told::Ready(inside) => warnings.extend(inside),
        Told::Failed(reason) => return Err(SandboxError::Inside(reason)),
        Told::Ended => {
            let exit = remove::wait(&mut holdings.process)?;
            let how = match exit {
                Some(Exit::Code(code)) => format!("exit code {code}"),
                Some(Exit::Signal(signal)) => format!("signal {signal}"),
                None => "gone".into(),
            };
            return Err(SandboxError::Ended(how));
        }
    }
    clock.lap(Step::Ready);
    config.passed(Step::Ready)?;
    Ok(Built { control, addresses, warnings, pid })
}

/// What this machine does not let the pod have, in one line.
fn missing(config: &Config<'_>, privileged: bool, has_cgroups: bool) -> Option<String> {
    let mut missing = Vec::new();
    if !privileged && config.network == NetworkMode::Pod {
        missing.push("no address that the host reaches (loopback only)");
    }
    if !has_cgroups {
        missing.push("no cgroup and no limits for the pod as a whole");
    }
    let why = if privileged { "no cgroup hierarchy is mounted" } else { "not root" };
    (!missing.is_empty()).then(|| format!("{why}: {}", missing.join(", ")))
}

/// Forks the pod process: the supervisor's end of the control socket, and the pid.
fn fork(
    config: &Config<'_>,
    child: impl FnOnce(Inside) -> i32,
    holdings: &mut Holdings,
    entry: Entry,
    privileged: bool,
    lan: Option<&Lan>,
) -> Result<(UnixStream, i32), SandboxError> {
    let (control, inner) = UnixStream::pair()?;
    let mut inherited = vec![control.as_raw_fd(), holdings.owner.lock().as_raw_fd()];
    inherited.extend(lan.map(|lan| lan.socket.as_fd().as_raw_fd()));
    let mut namespaces = CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID;
    namespaces.set(CloneFlags::CLONE_NEWNET, config.network != NetworkMode::Host);
    namespaces.set(CloneFlags::CLONE_NEWUSER, !privileged);
    let (directory, tasks) = entry.split();
    // The child closes its copy of a v2 directory, through which it has entered.
    inherited.extend(directory.as_ref().map(AsRawFd::as_raw_fd));
    let setup = Setup {
        hostname: config.hostname,
        shm_bytes: config.shm_bytes,
        own_network: config.network != NetworkMode::Host,
        own_user: (!privileged).then(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())),
        pod_dir: config.paths.pod_state(config.uid),
        inherited,
        fail: config.fail_at == Some(Step::Inside),
    };
    let spawned = clone::spawn(namespaces, directory.as_ref().map(AsFd::as_fd), move || {
        process::run(setup, tasks, inner, child)
    });
    let spawned = spawned.map_err(|error| {
        if privileged { SandboxError::Clone(error) } else { SandboxError::UserNamespace(error) }
    })?;
    holdings.process = Process::Child { pid: spawned.pid, pidfd: spawned.pidfd };
    Ok((control, spawned.pid))
}

/// The host's side of the pod network while a pod is being made.
struct Lan {
    socket: Socket,
    host: HostNetwork,
    network: Ipv4Net,
    taken: HashSet<Ipv4Addr>,
    address: Ipv4Addr,
    /// Of the host's way out, bytes.
    mtu: Option<u32>,
}

impl Lan {
    /// Chooses the network and leases an address.
    fn open(
        config: &Config<'_>,
        holdings: &mut Holdings,
        warnings: &mut Vec<String>,
    ) -> Result<Self, SandboxError> {
        let mut socket = Socket::route()?;
        let host = network::host_network(&mut socket)?;
        let (network, message) = network::choose_cidr(config.pod_cidr, &host.routes);
        warnings.extend(message);
        let taken = host.taken();
        let address = Leases::of(config.paths).acquire(network, config.uid, &taken)?;
        holdings.addresses = vec![address];
        let mtu = host.uplink.and_then(|uplink| network::mtu(&mut socket, uplink).ok().flatten());
        Ok(Self { socket, host, network, taken, address, mtu })
    }

    /// Routes the pod's address to its link: the leased one, or the next when another set of peapod's directories
    /// has taken it meanwhile.
    fn route(
        &mut self,
        config: &Config<'_>,
        holdings: &mut Holdings,
        index: u32,
        mac: network::Mac,
    ) -> Result<Ipv4Addr, SandboxError> {
        let leases = Leases::of(config.paths);
        for _ in 0..ADDRESS_TRIES {
            match self.host.configure_host(&mut self.socket, index, self.address, mac) {
                Err(error) if error.is_taken() => {}
                result => return result.map(|()| self.address).map_err(SandboxError::from),
            }
            self.taken.insert(self.address);
            let other = leases.acquire(self.network, config.uid, &self.taken)?;
            holdings.addresses.push(other);
            leases.release(std::mem::replace(&mut self.address, other), config.uid)?;
            holdings.addresses.swap_remove(0);
        }
        Err(IpamError::Exhausted(self.network).into())
    }
}

/// Times the steps.
struct Clock {
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), laps: Vec::with_capacity(Step::ALL.len()) }
    }

    fn lap(&mut self, step: Step) {
        let now = Instant::now();
        self.laps.push((step.name(), now - self.last));
        self.last = now;
    }
}
