//! Makes a sandbox: the supervisor's half of the sequence in [`super`]'s header.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use super::cgroup::{self, Entry};
use super::cni::Attachment;
use super::host_port::HeldPorts;
use super::ipam::{IpamError, Leases};
use super::network::{self, HostNetwork, PodNetworks};
use super::process::{self, Entered, Go, Setup, Told};
use super::record::{self, Owner};
use super::remove::{self, Holdings, Process};
use super::{Config, Host, Sandbox, SandboxError, Step};
use crate::spec::NetworkMode;
use crate::sys::clone;
use crate::sys::netlink::Socket;
use crate::sys::pidfd::Exit;

/// How many addresses may turn out to be another's before giving up: each try costs a message to the kernel.
const ADDRESS_TRIES: usize = 64;

/// Makes the sandbox and starts the pod process, which runs `child` inside and exits with what it returns. This
/// process must be single-threaded, and should have blocked the signals that would end it: the child inherits
/// the mask.
///
/// # Errors
/// When a step fails: everything made before it has been undone, or is named in [`SandboxError::RollBack`].
pub fn create(config: &Config<'_>, child: impl FnOnce(Entered) -> i32) -> Result<Sandbox, SandboxError> {
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
    child: impl FnOnce(Entered) -> i32,
    holdings: &mut Holdings,
    clock: &mut Clock,
) -> Result<Built, SandboxError> {
    let mut warnings = Vec::new();
    let Host { privileged, ref hierarchy } = *config.host;
    let linked = privileged && config.network == NetworkMode::Pod;
    warnings.extend(missing(config, privileged, hierarchy.is_some()));
    if config.network == NetworkMode::None && !config.host_ports.is_empty() {
        warnings.push("hostPort leads nowhere: the pod has no network".into());
    }

    // The record names things before they exist.
    holdings.cgroups = hierarchy.as_ref().map(|hierarchy| hierarchy.paths(config.uid)).unwrap_or_default();
    let (link, mac) = network::names(config.uid);
    let plugins = config.cni.filter(|_| linked);
    let has_link = linked && plugins.is_none();
    holdings.link = has_link.then(|| link.clone());
    holdings.owner.write(&holdings.record(&config.identity))?;
    record::private_directory(&config.paths.pod_state(config.uid))?;
    if linked {
        holdings.ports = HeldPorts::bind(config.host_ports, network::has_ipv6())?;
    }
    clock.lap(Step::Own);
    config.passed(Step::Own)?;

    let entry = match hierarchy {
        Some(hierarchy) => cgroup::create(hierarchy, config.uid, &config.limits, &mut warnings)?,
        None => Entry::None,
    };
    holdings.cgroups.retain(|path| path.exists());
    clock.lap(Step::Cgroup);
    config.passed(Step::Cgroup)?;

    // Kept until the pod is on its way: dropping this process's copy may take its time.
    let mut child = Some(child);
    let (control, pid) = fork(config, &mut child, holdings, entry, privileged)?;
    clock.lap(Step::Clone);
    config.passed(Step::Clone)?;

    // Beside the making of the pod's network namespace.
    let mut lan = if has_link { Some(Lan::open(config, holdings, &mut warnings)?) } else { None };
    clock.lap(Step::Lease);
    config.passed(Step::Lease)?;
    if let Some(lan) = &lan {
        let _held = network::lock_host()?;
        warnings.extend(network::masquerade(lan.has_ipv6));
        clock.lap(Step::Masquerade);
    }
    config.passed(Step::Masquerade)?;

    expect_entered(&control, holdings)?;
    clock.lap(Step::Enter);
    config.passed(Step::Enter)?;

    let mut go = Go {
        host_addresses: match &lan {
            Some(lan) => lan.host.addresses(),
            // Of interest, but not worth a failure.
            None => host_addresses().unwrap_or_default(),
        },
        ..Go::default()
    };
    let mut connected = None;
    if let Some(lan) = &mut lan {
        let index = match network::create_pair(&mut lan.socket, &link, mac, pid, lan.mtu, lan.has_ipv6) {
            // The pod process has ended: what it said before explains why.
            Err(error) if error.is_no_process() => {
                return Err(not_begun(process::listen(&control)?, holdings)?);
            }
            result => result?,
        };
        clock.lap(Step::Link);
        config.passed(Step::Link)?;
        go.addresses = lan.route(config, holdings, index, mac)?;
        go.has_link = true;
        clock.lap(Step::Route);
        config.passed(Step::Route)?;
        if !config.host_ports.is_empty() {
            let _held = network::lock_host()?;
            // They are part of the way out, which the last pod may have taken along before this one had a route.
            network::masquerade(lan.has_ipv6);
            holdings.has_forwarding = true;
            network::forward(config.host_ports, &go.addresses, &link, index, &lan.host)?;
            clock.lap(Step::HostPorts);
        }
        config.passed(Step::HostPorts)?;
        connected = Some((lan, index));
    }

    if let Some(chain) = plugins {
        let directory = holdings.owner.directory();
        let attachment = Attachment::new(chain, directory, config.uid, &config.identity, config.host_ports);
        if attachment.lacks_port_mappings() {
            warnings.push("hostPort leads nowhere: no CNI plugin has the capability portMappings".into());
        }
        // Whatever fails, there is something to take back.
        go.addresses = holdings.attachment.insert(attachment).add(pid)?;
        holdings.addresses.clone_from(&go.addresses);
        clock.lap(Step::Link);
    }

    // From here on beside the pod process's own part. When that has failed, what it says explains why.
    if process::go(&control, &go).is_ok() {
        let carries = match connected {
            Some((lan, index)) => {
                // The last pod out may have taken the way out along before this one's route said that it is used.
                let held = network::lock_host()?;
                network::masquerade(lan.has_ipv6);
                drop(held);
                network::wait_up(&mut lan.socket, index, Some(control.as_fd()))?
            }
            None => true,
        };
        if carries {
            let _ = process::up(&control);
        }
        holdings.owner.write(&holdings.record(&config.identity))?;
    }
    match process::listen(&control)? {
        Told::Ready(inside) => warnings.extend(inside),
        told => return Err(not_begun(told, holdings)?),
    }
    clock.lap(Step::Ready);
    config.passed(Step::Ready)?;
    Ok(Built { control, addresses: go.addresses, warnings, pid })
}

/// By which addresses others know this host.
fn host_addresses() -> Result<Vec<IpAddr>, SandboxError> {
    Ok(network::host_network(&mut Socket::route()?)?.addresses())
}

/// Waits for the pod process to be in its namespaces.
fn expect_entered(control: &UnixStream, holdings: &mut Holdings) -> Result<(), SandboxError> {
    match process::listen(control)? {
        Told::Entered => Ok(()),
        told => Err(not_begun(told, holdings)?),
    }
}

/// Why the pod process does not go on.
fn not_begun(told: Told, holdings: &mut Holdings) -> Result<SandboxError, SandboxError> {
    let exit = match told {
        Told::Failed(reason) => return Ok(SandboxError::Inside(reason)),
        Told::Ended => remove::wait(&mut holdings.process)?,
        Told::Entered | Told::Ready(_) => return Ok(SandboxError::Ended("it spoke out of turn".into())),
    };
    let how = match exit {
        Some(Exit::Code(code)) => format!("exit code {code}"),
        Some(Exit::Signal(signal)) => format!("signal {signal}"),
        None => "gone".into(),
    };
    Ok(SandboxError::Ended(how))
}

/// What this machine does not let the pod have, in one line.
fn missing(config: &Config<'_>, privileged: bool, has_cgroups: bool) -> Option<String> {
    let mut missing = Vec::new();
    if !privileged && config.network == NetworkMode::Pod {
        missing.push("no address that the host reaches (loopback only)");
        if !config.host_ports.is_empty() {
            missing.push("no hostPort");
        }
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
    child: &mut Option<impl FnOnce(Entered) -> i32>,
    holdings: &mut Holdings,
    entry: Entry,
    privileged: bool,
) -> Result<(UnixStream, i32), SandboxError> {
    let (control, inner) = UnixStream::pair()?;
    let mut inherited = vec![control.as_raw_fd(), holdings.owner.lock().as_raw_fd()];
    inherited.extend(holdings.ports.descriptors());
    let mut namespaces = CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID;
    namespaces.set(CloneFlags::CLONE_NEWUSER, !privileged);
    let (directory, tasks) = entry.split();
    // The child closes its copy of a v2 directory, through which it has entered.
    inherited.extend(directory.as_ref().map(AsRawFd::as_raw_fd));
    let setup = Setup {
        hostname: &config.identity.hostname,
        shm_bytes: config.shm_bytes,
        oom_score_adj: config.oom_score_adj,
        own_network: config.network != NetworkMode::Host,
        own_user: (!privileged).then(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())),
        pod_dir: config.paths.pod_state(config.uid),
        inherited,
        fail: config.fail_at == Some(Step::Inside),
    };
    // Only the child's copy of this takes anything out.
    let spawned = clone::spawn(namespaces, directory.as_ref().map(AsFd::as_fd), || {
        child.take().map_or(process::EXIT_FAILED, |child| process::run(setup, tasks, inner, child))
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
    networks: PodNetworks,
    has_ipv6: bool,
    taken: HashSet<Ipv4Addr>,
    leased: Ipv4Addr,
    /// Of the host's way out, bytes.
    mtu: Option<u32>,
}

impl Lan {
    /// Chooses the networks and leases an address.
    fn open(
        config: &Config<'_>,
        holdings: &mut Holdings,
        warnings: &mut Vec<String>,
    ) -> Result<Self, SandboxError> {
        let mut socket = Socket::route()?;
        let host = network::host_network(&mut socket)?;
        let (networks, messages) = config.pod_networks.choose(&host.routes);
        warnings.extend(messages);
        let has_ipv6 = network::has_ipv6();
        let taken = host.taken();
        let leased = Leases::of(config.paths).acquire(networks.v4, config.uid, &taken)?;
        holdings.leases = vec![leased];
        let mtu = host.uplink().and_then(|uplink| network::mtu(&mut socket, uplink).ok().flatten());
        Ok(Self { socket, host, networks, has_ipv6, taken, leased, mtu })
    }

    /// Routes the pod's addresses to its link: the leased one and the one that belongs to it, or the next when another
    /// set of peapod's directories has taken them meanwhile.
    fn route(
        &mut self,
        config: &Config<'_>,
        holdings: &mut Holdings,
        index: u32,
        mac: network::Mac,
    ) -> Result<Vec<IpAddr>, SandboxError> {
        let leases = Leases::of(config.paths);
        for _ in 0..ADDRESS_TRIES {
            let addresses = self.addresses();
            match network::configure_host(&self.host, &mut self.socket, index, &addresses, mac) {
                Err(error) if error.is_taken() => {}
                result => {
                    result?;
                    holdings.addresses.clone_from(&addresses);
                    return Ok(addresses);
                }
            }
            self.taken.insert(self.leased);
            let other = leases.acquire(self.networks.v4, config.uid, &self.taken)?;
            holdings.leases.push(other);
            leases.release(std::mem::replace(&mut self.leased, other), config.uid)?;
            holdings.leases.swap_remove(0);
        }
        Err(IpamError::Exhausted(self.networks.v4).into())
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let v6 = self.has_ipv6.then(|| network::embed(self.networks.v6, self.leased).into());
        [IpAddr::V4(self.leased)].into_iter().chain(v6).collect()
    }
}

/// Times the steps.
pub(super) struct Clock {
    last: Instant,
    pub(super) laps: Vec<(&'static str, Duration)>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), laps: Vec::with_capacity(Step::ALL.len()) }
    }

    pub(super) fn lap(&mut self, step: Step) {
        let now = Instant::now();
        self.laps.push((step.name(), now - self.last));
        self.last = now;
    }
}
