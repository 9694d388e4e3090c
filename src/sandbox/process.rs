//! The pod process from its first instruction to its first container: it enters its namespaces and cgroup
//! while it has one thread.
//!
//! ```text
//! forked ─► cgroup, network namespace ─"entered"─► mounts, hostname ─► child(Entered)
//!                    │                                   │                  │ begin
//!                    │                                   │                  ▼
//!                    │                                   │      ─"go"─► addressed ─"up"─► "ready"
//!                    └───────────────────────────────────┴──────────────────┴─► "failed", exit
//! ```
//!
//! The network namespace, which takes the kernel longest, is made while the supervisor chooses the address
//! and sees to the way out; what the child prepares before it calls [`Entered::begin`], while the supervisor
//! makes the link.
//!
//! On the control socket: a tag, the length of what follows (u32, little-endian), and that. The
//! pod process says "entered" when the link can be made; the supervisor "go" with the addresses, then "up" when
//! its end of the link is; the pod process answers "ready" or "failed". After that the socket is the caller's.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cgroup::Entry;
use super::dev::MQUEUE;
use super::network::{self, KERNEL_EPHEMERAL_PORTS};
use crate::sys::netlink::Socket;
use crate::sys::{clone, mount, namespace, process};

const ENTERED: u8 = b'E';
const GO: u8 = b'G';
const UP: u8 = b'U';
const READY: u8 = b'R';
const FAILED: u8 = b'F';
/// The longest message, bytes: a few addresses or lines of text.
const MESSAGE_MAX: usize = 16 * 1024;
/// How long the pod process may take for its part, which takes milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The exit code of a pod process that could not be prepared.
pub(super) const EXIT_FAILED: i32 = 1;

/// The parameter for [`KERNEL_EPHEMERAL_PORTS`], of both families.
const EPHEMERAL_PORTS: &str = "ipv4/ip_local_port_range";

const NONSENSE: &str = "the supervisor's message makes no sense";

/// A pod process in its namespaces and cgroup, with one thread still. Its network may not be there yet.
#[derive(Debug)]
pub struct Entered {
    control: UnixStream,
    pod_dir: PathBuf,
    /// Configures the pod's own network, if it has one. Not before "go": the kernel does one such thing at
    /// a time, and the supervisor is making the link.
    network: Option<Socket>,
    warnings: Vec<String>,
}

/// What the pod process has when it begins.
#[derive(Debug)]
pub struct Inside {
    /// Its end of the control socket. End of file: the supervisor is dead.
    pub control: UnixStream,
    /// The pod's addresses; none without a network of its own that the host reaches.
    pub addresses: Vec<IpAddr>,
    /// The host's addresses, the primary one of each family.
    pub host_addresses: Vec<IpAddr>,
    /// The pod's directory `<state>/pods/<uid>`.
    pub pod_dir: PathBuf,
}

/// The pod process cannot begin; the supervisor has been told why, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBegun;

impl Entered {
    /// The pod's directory `<state>/pods/<uid>`.
    pub fn pod_dir(&self) -> &Path {
        &self.pod_dir
    }

    /// Waits until the pod's network carries packets and tells the supervisor that the pod begins.
    ///
    /// # Errors
    /// See [`NotBegun`].
    pub fn begin(mut self) -> Result<Inside, NotBegun> {
        match self.connect() {
            Ok(Go { addresses, host_addresses, .. }) => {
                send(&self.control, READY, self.warnings.join("\n").as_bytes()).map_err(|_| NotBegun)?;
                let Self { control, pod_dir, .. } = self;
                Ok(Inside { control, addresses, host_addresses, pod_dir })
            }
            Err(reason) => {
                self.refuse(&reason);
                Err(NotBegun)
            }
        }
    }

    /// Tells the supervisor why the pod cannot begin: [`super::create`] fails with that.
    pub fn refuse(self, reason: &str) {
        // Nobody listens any more: then nobody needs to know.
        let _ = send(&self.control, FAILED, reason.as_bytes());
    }

    /// What the supervisor says, once the addresses work.
    fn connect(&mut self) -> Result<Go, String> {
        let go = Go::decode(&expect(&self.control, GO)?).ok_or(NONSENSE)?;
        if let Some(mut socket) = self.network.take() {
            let addresses = if go.has_link { &go.addresses[..] } else { &[] };
            network::configure_pod(&mut socket, addresses).map_err(|error| error.to_string())?;
        }
        expect(&self.control, UP)?;
        Ok(go)
    }
}

/// What the pod process needs to know before it can be told anything.
pub(super) struct Setup<'a> {
    pub(super) hostname: &'a str,
    pub(super) shm_bytes: u64,
    pub(super) oom_score_adj: i32,
    pub(super) own_network: bool,
    /// The user and group to map in a user namespace of its own.
    pub(super) own_user: Option<(u32, u32)>,
    pub(super) pod_dir: PathBuf,
    /// The supervisor's descriptors.
    pub(super) inherited: Vec<RawFd>,
    /// A test's wish.
    pub(super) fail: bool,
}

/// The pod process.
pub(super) fn run(
    setup: Setup<'_>,
    tasks: Entry,
    control: UnixStream,
    child: impl FnOnce(Entered) -> i32,
) -> i32 {
    let mut entered =
        Entered { control, pod_dir: setup.pod_dir.clone(), network: None, warnings: Vec::new() };
    match enter(&setup, tasks, &mut entered) {
        Ok(()) => child(entered),
        Err(reason) => {
            entered.refuse(&reason);
            EXIT_FAILED
        }
    }
}

/// Everything that needs no answer from the supervisor; says what failed.
fn enter(setup: &Setup<'_>, tasks: Entry, entered: &mut Entered) -> Result<(), String> {
    clone::close_inherited(&setup.inherited);
    // A supervisor that died before this shows as end of file later.
    namespace::die_with_parent()
        .map_err(|error| format!("cannot ask to end with the supervisor: {error}"))?;
    // To lower it takes CAP_SYS_RESOURCE: refused, it stays, and the supervisor can see that it did.
    let _ = process::set_oom_score_adj(setup.oom_score_adj);
    tasks.enter().map_err(|error| format!("cannot enter the pod's cgroup: {error}"))?;
    drop(tasks);
    if let Some((uid, gid)) = setup.own_user {
        namespace::map_own_user(uid, gid).map_err(|error| explain(setup, "map the user", error))?;
    }
    if setup.own_network {
        namespace::new_network().map_err(|error| explain(setup, "make a network namespace", error))?;
    }
    // A supervisor that is gone is noticed when it should answer.
    let _ = send(&entered.control, ENTERED, &[]);
    namespace::set_hostname(setup.hostname).map_err(|error| explain(setup, "set the hostname", error))?;
    mounts(setup, &mut entered.warnings)?;
    if setup.own_network {
        entered.network = Some(Socket::route().map_err(|error| error.to_string())?);
        if let Err(error) = namespace::set_network_parameter(EPHEMERAL_PORTS, KERNEL_EPHEMERAL_PORTS) {
            entered.warnings.push(format!("cannot set the pod's range of ephemeral ports: {error}"));
        }
    }
    if setup.fail { Err("failed on purpose".into()) } else { Ok(()) }
}

/// The supervisor's next message, which has to be of this kind.
fn expect(control: &UnixStream, tag: u8) -> Result<Vec<u8>, String> {
    match receive(control) {
        Ok(Some((got, payload))) if got == tag => Ok(payload),
        Ok(Some(_)) => Err(NONSENSE.into()),
        Ok(None) => Err("the supervisor has ended".into()),
        Err(error) => Err(format!("control socket: {error}")),
    }
}

fn mounts(setup: &Setup<'_>, warnings: &mut Vec<String>) -> Result<(), String> {
    mount::make_private().map_err(|error| explain(setup, "make the mounts private", error))?;
    match mount::tmpfs("/dev/shm", setup.shm_bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            warnings.push("the pod has no /dev/shm: this machine has none".into());
        }
        result => result.map_err(|error| explain(setup, "mount /dev/shm", error))?,
    }
    // Where this machine has no such directory, the first native command makes one.
    match mount::mqueue(MQUEUE.as_ref()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => warnings.push(format!(
            "native processes in the pod do not see its message queues: cannot mount {MQUEUE}: {error}"
        )),
        _ => {}
    }
    if let Err(error) = mount::proc() {
        warnings.push(format!("native processes in the pod see the host's /proc: cannot mount it: {error}"));
    }
    Ok(())
}

fn explain(setup: &Setup<'_>, action: &str, error: io::Error) -> String {
    let advice = if setup.own_user.is_some() && namespace::is_refusal(&error) {
        "; user namespaces are restricted here: run as root, or set sysctl \
         kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
    } else {
        ""
    };
    format!("cannot {action}: {error}{advice}")
}

/// What the pod process says of itself.
pub(super) enum Told {
    /// It is in its namespaces: the link can be made.
    Entered,
    /// It begins; what it did not get.
    Ready(Vec<String>),
    /// It ends, and why.
    Failed(String),
    /// It ended without a word.
    Ended,
}

/// In the supervisor: all that the pod process needs from outside is there.
pub(super) fn go(control: &UnixStream, go: &Go) -> io::Result<()> {
    send(control, GO, &go.encode())
}

/// In the supervisor: the host's side is ready to carry the pod's packets.
pub(super) fn up(control: &UnixStream) -> io::Result<()> {
    send(control, UP, &[])
}

/// In the supervisor: waits for the next that the pod process says.
pub(super) fn listen(control: &UnixStream) -> io::Result<Told> {
    control.set_read_timeout(Some(READY_TIMEOUT))?;
    let message = match receive(control) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let seconds = READY_TIMEOUT.as_secs();
            return Ok(Told::Failed(format!(
                "it is not ready after {seconds} seconds; does a volume's storage hang?"
            )));
        }
        message => message?,
    };
    control.set_read_timeout(None)?;
    Ok(match message {
        None => Told::Ended,
        Some((tag, payload)) => {
            let text = String::from_utf8_lossy(&payload).into_owned();
            match tag {
                ENTERED => Told::Entered,
                READY => Told::Ready(text.lines().map(str::to_owned).collect()),
                FAILED => Told::Failed(text),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    })
}

fn send(mut control: &UnixStream, tag: u8, payload: &[u8]) -> io::Result<()> {
    let payload = &payload[..payload.len().min(MESSAGE_MAX)];
    let length = (payload.len() as u32).to_le_bytes();
    control.write_all(&[&[tag][..], &length, payload].concat())
}

/// The next message; `None` when the other side has ended.
fn receive(mut control: &UnixStream) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; 5];
    match control.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let [tag, length @ ..] = header;
    let length = u32::from_le_bytes(length) as usize;
    if length > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length];
    control.read_exact(&mut payload)?;
    Ok(Some((tag, payload)))
}

/// What the pod process needs to know of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Go {
    /// The pod's addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// The host's.
    pub(super) host_addresses: Vec<IpAddr>,
    /// Whether the addresses are to be set on a link that is there.
    pub(super) has_link: bool,
}

impl Go {
    /// Whether there is a link, how many addresses the pod has, and all addresses, each behind its length in bytes.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.has_link), self.addresses.len() as u8];
        for address in self.addresses.iter().chain(&self.host_addresses) {
            match address {
                IpAddr::V4(address) => {
                    bytes.push(4);
                    bytes.extend(address.octets());
                }
                IpAddr::V6(address) => {
                    bytes.push(16);
                    bytes.extend(address.octets());
                }
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[has_link, own], mut bytes) = bytes.split_first_chunk()?;
        let mut addresses = Vec::new();
        while let Some((length, rest)) = bytes.split_first() {
            let (address, rest) = rest.split_at_checked(usize::from(*length))?;
            addresses.push(match *length {
                4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
                16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
                _ => return None,
            });
            bytes = rest;
        }
        let own = usize::from(own);
        let host_addresses = (own <= addresses.len()).then(|| addresses.split_off(own))?;
        Some(Self { addresses, host_addresses, has_link: has_link != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way() {
        let addresses = vec!["10.201.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let host_addresses = vec!["192.0.2.1".parse().unwrap()];
        let go = Go { addresses, host_addresses, has_link: true };
        assert_eq!(Go::decode(&go.encode()), Some(go));
        assert_eq!(Go::decode(&Go::default().encode()), Some(Go::default()));
        for garbage in [&[][..], &[0], &[0, 1], &[0, 0, 4, 1, 2], &[0, 0, 5, 1, 2, 3, 4, 5], &[0, 0, 0]] {
            assert_eq!(Go::decode(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn messages_are_framed_and_end_of_file_is_seen() {
        let (one, other) = UnixStream::pair().unwrap();
        send(&one, FAILED, b"no luck").unwrap();
        assert!(matches!(listen(&other).unwrap(), Told::Failed(text) if text == "no luck"));
        send(&one, READY, b"a\nb").unwrap();
        assert!(matches!(listen(&other).unwrap(), Told::Ready(lines) if lines == ["a", "b"]));
        (&one).write_all(&[READY, 255, 255, 255, 255]).unwrap();
        assert!(listen(&other).is_err());
        drop(one);
        assert!(matches!(listen(&other).unwrap(), Told::Ended));
    }
}
