//! The files of the pod that say what names mean: `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`.
//!
//! ```text
//! the host's resolv.conf ─┐
//! the pod's spec ─────────┴─► Etc::prepare ─► files in <run>/pods/<uid>/etc ─► bind mounts over the host's (native processes)
//!                                 │                                └─► read-only preopen /etc  (Wasm guests)
//! addresses ──────────────────────┴─► finish ─► hosts, and the same as NamesConfig for the network
//! ```
//!
//! Everything but the addresses is written while the supervisor makes the pod's link. The mounts are in the pod's own
//! mount namespace: the host's files stay as they are.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::net::NamesConfig;
use crate::net::names::{Hosts, ResolvConf, is_stub};
use crate::spec::{DnsPolicy, NetworkMode, Pod, VolumeSource};
use crate::sys::mount;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What systemd-resolved asks itself, for those who do not reach its stub on 127.0.0.53.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";
const HOSTS: &str = "/etc/hosts";
const HOSTNAME: &str = "/etc/hostname";

/// What follows where there is nobody to ask.
const UNRESOLVED: &str = "names of other machines do not resolve";

/// For all users, as on every Linux.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// The files cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the pod's {}: {source}", path.display())]
pub struct EtcError {
    path: PathBuf,
    source: io::Error,
}

/// The pod's files, all but the addresses in them.
#[derive(Debug)]
pub struct Etc {
    directory: PathBuf,
    hosts: File,
    /// The host's own, for a pod on its network.
    host: Option<String>,
    resolv_conf: ResolvConf,
    unreachable: Option<String>,
    /// What the user is to know.
    pub warnings: Vec<String>,
}

impl Etc {
    /// Writes the files below `run_dir`, the directory of the pod's record, and puts them over the host's. To be
    /// called once, in the pod's own mount namespace, with its mounts private.
    ///
    /// # Errors
    /// When they cannot be written. That a machine has no such file to cover, or forbids it, is none.
    pub fn prepare(pod: &Pod, run_dir: &Path) -> Result<Self, EtcError> {
        // What the host has is read before it is covered.
        let (resolv_conf, unreachable, warnings) = resolv_conf(pod, |path| fs::read_to_string(path).ok());
        let host = (pod.network == NetworkMode::Host).then(|| fs::read_to_string(HOSTS).unwrap_or_default());
        let directory = run_dir.join("etc");
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| EtcError { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&directory)
            .map_err(error(&directory))?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            write(&path, text).map_err(error(&path))
        };
        write("hostname", &format!("{}\n", pod.hostname))?;
        write("resolv.conf", &resolv_conf.text())?;
        let hosts = write("hosts", "")?;
        for (name, covered) in [("hostname", HOSTNAME), ("resolv.conf", RESOLV_CONF), ("hosts", HOSTS)] {
            let covered = Path::new(covered);
            if is_given_to_guests(pod, covered) {
                continue;
            }
            if let Err(error) = mount::bind(&directory.join(name), covered) {
                tracing::debug!(file = %covered.display(), %error, "native processes see the host's");
            }
        }
        Ok(Self { directory, hosts, host, resolv_conf, unreachable, warnings })
    }

    /// The directory for [`crate::volume::Volumes::offer_etc`].
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> Result<Dir, EtcError> {
        let opened = Dir::open_ambient_dir(&self.directory, ambient_authority());
        opened.map_err(|source| EtcError { path: self.directory.clone(), source })
    }

    /// Writes what depends on the pod's addresses; what the network is to resolve.
    pub fn finish(mut self, pod: &Pod, addresses: &[IpAddr]) -> NamesConfig {
        let hosts = match &self.host {
            Some(host) => Hosts::of_host(host, &pod.host_aliases),
            None => Hosts::of_pod(&pod.own_names(), addresses, &pod.host_aliases),
        };
        if let Err(error) = self.hosts.write_all(hosts.text().as_bytes()) {
            tracing::warn!("cannot write the pod's {HOSTS}: {error}");
        }
        // A container of the pod may be its nameserver.
        let is_alone = pod.network != NetworkMode::Host
            && addresses.is_empty()
            && !self.resolv_conf.nameservers.iter().any(is_stub);
        let alone = || format!("{UNRESOLVED}: the pod has no network but its loopback");
        let unreachable = if is_alone { Some(alone()) } else { self.unreachable };
        NamesConfig { hosts, resolv_conf: self.resolv_conf, unreachable, ..NamesConfig::default() }
    }
}

/// What becomes of the host's resolv.conf for a pod; why there is nobody to ask, if so; and what was left out. `read`
/// is the host's files.
fn resolv_conf(
    pod: &Pod,
    read: impl Fn(&Path) -> Option<String>,
) -> (ResolvConf, Option<String>, Vec<String>) {
    let parsed = |path: &str| read(Path::new(path)).map(|text| ResolvConf::parse(&text)).unwrap_or_default();
    let is_alone = pod.network != NetworkMode::Host;
    let mut host = match pod.dns.policy {
        DnsPolicy::None => ResolvConf::default(),
        _ => parsed(RESOLV_CONF),
    };
    let mut why = "this machine's /etc/resolv.conf names no nameserver";
    if is_alone && host.without(is_stub) && host.nameservers.is_empty() {
        why = "this machine's nameserver is on its loopback, which the pod does not reach";
        let mut resolved = parsed(RESOLVED_CONF);
        resolved.without(is_stub);
        host.nameservers = resolved.nameservers;
    } else if !is_alone && host.nameservers.is_empty() && pod.dns.policy != DnsPolicy::None {
        // glibc's default.
        host.nameservers.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let cluster = pod.knows_cluster().then_some(pod.namespace.as_str());
    let (conf, warnings) = host.for_pod(&pod.dns, cluster);
    let unreachable = conf
        .nameservers
        .is_empty()
        .then(|| format!("{UNRESOLVED}: {why}; give the pod a nameserver in spec.dnsConfig.nameservers"));
    (conf, unreachable, warnings)
}

/// Whether a guest sees this file of the host's in a hostPath, where it is to be the host's.
fn is_given_to_guests(pod: &Pod, file: &Path) -> bool {
    let mut paths = pod.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::HostPath { path, .. } => Some(path),
        _ => None,
    });
    // A link leads to what is covered.
    paths.any(|path| {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        file.starts_with(path) || real(file).starts_with(real(path))
    })
}

/// Makes a file for all users, whatever the umask.
fn write(path: &Path, text: &str) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RestartPolicy;

    fn pod(network: NetworkMode, policy: DnsPolicy, nameservers: &[&str]) -> Pod {
        let nameservers = nameservers.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut pod = crate::pod::model_tests::pod(RestartPolicy::Never, "M:a");
        pod.namespace = "team".into();
        pod.network = network;
        pod.dns = crate::spec::Dns { hostname: "web".into(), policy, nameservers, ..pod.dns };
        pod
    }

    fn conf(pod: &Pod, host: &str, resolved: Option<&str>) -> (String, Option<String>) {
        let read = |path: &Path| match path.to_str().unwrap() {
            RESOLV_CONF => Some(host.to_owned()),
            RESOLVED_CONF => resolved.map(str::to_owned),
            path => panic!("{path}"),
        };
        let (conf, unreachable, warnings) = resolv_conf(pod, read);
        assert!(warnings.is_empty());
        (conf.text(), unreachable)
    }

    const STUB: &str = "nameserver 127.0.0.53\nsearch corp.example\noptions edns0\n";

    #[test]
    fn a_stub_on_the_hosts_loopback_is_replaced_by_what_it_asks() {
        let own = pod(NetworkMode::Pod, DnsPolicy::Default, &[]);
        let (text, unreachable) = conf(&own, STUB, Some("nameserver 10.0.0.53\nnameserver 127.0.0.1\n"));
        assert_eq!(text, "search corp.example\nnameserver 10.0.0.53\noptions edns0\n");
        assert_eq!(unreachable, None);
        let (text, unreachable) = conf(&own, STUB, None);
        assert!(!text.contains("nameserver"), "{text}");
        assert!(unreachable.unwrap().contains("on its loopback"));
        let (text, unreachable) = conf(&own, "nameserver 127.0.0.1\nnameserver 10.0.0.54\n", None);
        assert_eq!((text.as_str(), unreachable), ("nameserver 10.0.0.54\n", None));
        assert!(conf(&own, "", None).1.unwrap().contains("names no nameserver"));
    }

    #[test]
    fn on_the_hosts_network_its_loopback_is_reached() {
        let hosted = pod(NetworkMode::Host, DnsPolicy::ClusterFirst, &[]);
        let (text, unreachable) = conf(&hosted, STUB, None);
        assert_eq!(
            (text.as_str(), unreachable),
            (
                STUB.replace(
                    "nameserver 127.0.0.53\nsearch corp.example\n",
                    "search corp.example\nnameserver 127.0.0.53\n"
                )
                .as_str(),
                None
            )
        );
        let with = pod(NetworkMode::Host, DnsPolicy::ClusterFirstWithHostNet, &[]);
        assert!(conf(&with, STUB, None).0.starts_with("search team.svc.cluster.local svc.cluster.local"));
        assert_eq!(conf(&hosted, "", None), ("nameserver 127.0.0.1\n".to_owned(), None));
    }

    #[test]
    fn a_pods_own_nameserver_may_be_on_its_loopback() {
        let none = pod(NetworkMode::None, DnsPolicy::None, &["127.0.0.1"]);
        assert_eq!(conf(&none, STUB, None), ("nameserver 127.0.0.1\n".to_owned(), None));
    }

    #[test]
    fn files_of_the_host_that_a_guest_is_given_stay_the_hosts() {
        let mut pod = pod(NetworkMode::Pod, DnsPolicy::Default, &[]);
        let mut mount = |path: &str| {
            let kind = crate::spec::HostPathType::Any;
            let source = VolumeSource::HostPath { path: path.into(), kind };
            pod.volumes = vec![crate::spec::Volume { name: "v".into(), source }];
            is_given_to_guests(&pod, Path::new(HOSTS))
        };
        assert!(mount("/etc") && mount("/") && mount("/etc/hosts"));
        assert!(!mount("/etc/ssl") && !mount("/var") && !mount("/etcetera"));
    }
}
