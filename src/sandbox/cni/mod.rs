//! A chain of CNI plugins instead of peapod's own network (<https://www.cni.dev/docs/spec/>, 0.3.0 to 1.1.0).
//!
//! ```text
//! <conf dir>/*.conflist ─► Chain::load ─► Attachment::add: ADD plugin by plugin, each gets the result before it
//!                                               │ <run>/pods/<uid>/netns: the pod's network, kept
//!                                               │ <run>/pods/<uid>/cni.json: all that DEL needs
//!                                               ▼
//!                                         Attachment::del: DEL in reverse, each gets the last result
//! ```
//!
//! What there is to undo is written down before the first plugin runs, and the pod's network namespace stays until the
//! last DEL though all its processes are gone: so a crash at any instant leaves what the next sweep needs. Plugins run
//! one at a time while the supervisor waits; it has one thread.

mod config;
mod plugin;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

pub use config::Chain;

use super::host_port::PortMapping;
use super::network::POD_LINK;
use super::record::Identity;
use crate::spec::Protocol;
use crate::sys::namespace;

/// Where plugins are unless told otherwise: the projects' own place, then Debian's.
pub const PLUGIN_DIRECTORIES: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// How long one plugin may take: it may have to ask a network for an address.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);
const FILE: &str = "cni.json";
const NAMESPACE: &str = "netns";
/// The capability for ports of the host (CNI's CONVENTIONS.md).
const PORT_MAPPINGS: &str = "portMappings";
/// Most addresses of a pod that are looked at: Kubernetes knows one of each family, and what the pod process is told
/// has to fit a message.
const MAX_ADDRESSES: usize = 16;

/// A chain of plugins that cannot be used.
#[derive(Debug, Error)]
pub enum CniError {
    /// There is none.
    #[error("{}: no network configuration (*.conflist, *.conf or *.json) there", .0.display())]
    NoConfiguration(PathBuf),
    /// It makes no sense.
    #[error("{}: {message}", path.display())]
    Configuration {
        /// Which.
        path: PathBuf,
        /// The field and what is wrong with it.
        message: String,
    },
    /// A plugin is not there.
    #[error(
        "CNI plugin {plugin} is in none of {directories}: install it, or name its place with --cni-bin-dir"
    )]
    NoPlugin {
        /// Its name.
        plugin: String,
        /// Where it was looked for.
        directories: String,
    },
    /// A plugin says why not.
    #[error("CNI plugin {plugin} cannot {command}: {message}")]
    Refused {
        /// Its name.
        plugin: String,
        /// What it was to do.
        command: &'static str,
        /// Its words.
        message: String,
    },
    /// The pod would have no address.
    #[error("CNI network {0}: its plugins gave the pod no address (ips is empty in the last result)")]
    NoAddress(String),
    /// A file.
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

/// A pod on a network of plugins: all that is needed to take it off again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Attachment {
    chain: Chain,
    /// The pod's directory below `<run>`.
    directory: PathBuf,
    container_id: String,
    arguments: String,
    port_mappings: Vec<Value>,
    /// What the last plugin said.
    result: Option<Value>,
}

impl Attachment {
    /// Of a pod that is about to be put on the network of `chain`.
    pub(super) fn new(
        chain: &Chain,
        directory: &Path,
        uid: &str,
        identity: &Identity,
        host_ports: &[PortMapping],
    ) -> Self {
        let Identity { namespace, name, .. } = identity;
        Self {
            chain: chain.clone(),
            directory: directory.into(),
            container_id: uid.into(),
            arguments: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
                 K8S_POD_INFRA_CONTAINER_ID={uid};K8S_POD_UID={uid}"
            ),
            port_mappings: host_ports.iter().map(port_mapping).collect(),
            result: None,
        }
    }

    /// What a supervisor that is dead has left; nothing where nothing was begun.
    pub(super) fn of_orphan(directory: &Path) -> Option<Self> {
        let left: Self = serde_json::from_slice(&fs::read(directory.join(FILE)).ok()?).ok()?;
        Some(Self { directory: directory.into(), ..left })
    }

    /// Whether ports of the host are wanted and no plugin sees to them.
    pub(super) fn lacks_port_mappings(&self) -> bool {
        !self.port_mappings.is_empty() && !self.chain.maps_ports()
    }

    /// Puts the network namespace of process `pid` on the network; returns its addresses.
    pub(super) fn add(&mut self, pid: i32) -> Result<Vec<IpAddr>, CniError> {
        self.write()?;
        let namespace = self.namespace();
        namespace::keep_network(pid, &namespace).map_err(|source| CniError::File {
            action: "keep the pod's network at",
            path: namespace,
            source,
        })?;
        for index in 0..self.chain.plugins.len() {
            let answer = self.run(index, "ADD")?;
            let name = || self.chain.plugin_name(index);
            let result: Value = serde_json::from_slice(&answer)
                .map_err(|error| refused(name(), "ADD", format!("its result is not JSON: {error}")))?;
            self.result = Some(result);
        }
        self.write()?;
        let addresses = self.result.as_ref().map(addresses).unwrap_or_default();
        if addresses.is_empty() {
            return Err(CniError::NoAddress(self.chain.name.clone()));
        }
        Ok(addresses)
    }

    /// Takes the pod off the network. Goes on after errors; after one, it can be called again.
    pub(super) fn del(&self) -> Vec<CniError> {
        let last_first = (0..self.chain.plugins.len()).rev();
        let mut errors: Vec<_> = last_first.filter_map(|index| self.run(index, "DEL").err()).collect();
        if errors.is_empty() {
            errors.extend(release(&self.directory).err());
        }
        errors
    }

    fn run(&self, index: usize, command: &'static str) -> Result<Vec<u8>, CniError> {
        let name = self.chain.plugin_name(index);
        let path = self.chain.find(index)?;
        let mut runtime = Map::new();
        if !self.port_mappings.is_empty() {
            runtime.insert(PORT_MAPPINGS.into(), Value::Array(self.port_mappings.clone()));
        }
        // DEL knows of results since 0.4.0.
        let result = self.result.as_ref().filter(|_| command == "ADD" || self.chain.is_at_least((0, 4)));
        let input = self.chain.input(index, runtime, result);
        let environment = [
            ("CNI_COMMAND", command.into()),
            ("CNI_CONTAINERID", self.container_id.clone()),
            ("CNI_NETNS", self.namespace().display().to_string()),
            ("CNI_IFNAME", POD_LINK.into()),
            ("CNI_ARGS", self.arguments.clone()),
            ("CNI_PATH", self.chain.search_path()),
        ];
        plugin::run(&path, &environment, input.to_string().as_bytes(), PLUGIN_TIMEOUT)
            .map_err(|message| refused(name, command, message))
    }

    fn namespace(&self) -> PathBuf {
        self.directory.join(NAMESPACE)
    }

    /// At any instant there is the old one or the new one.
    fn write(&self) -> Result<(), CniError> {
        let (path, fresh) = (self.directory.join(FILE), self.directory.join("cni.json.new"));
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        let written = text.and_then(|text| fs::write(&fresh, text)).and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|source| CniError::File { action: "write", path, source })
    }
}

/// Lets go of the network that the directory of a pod keeps, if any.
pub(super) fn release(directory: &Path) -> Result<(), CniError> {
    let path = directory.join(NAMESPACE);
    let released = namespace::release_network(&path);
    released.map_err(|source| CniError::File { action: "let go of the pod's network at", path, source })
}

fn refused(plugin: &str, command: &'static str, message: String) -> CniError {
    CniError::Refused { plugin: plugin.into(), command, message }
}

fn port_mapping(mapping: &PortMapping) -> Value {
    let protocol = if mapping.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    let mut value = json!({
        "hostPort": mapping.host.port,
        "containerPort": mapping.pod_port,
        "protocol": protocol,
    });
    if let Some(ip) = mapping.host.ip {
        value["hostIP"] = ip.to_string().into();
    }
    value
}

/// The pod's addresses in a result: `ips[].address`, behind which is the length of its network's prefix.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let texts = ips.filter_map(|ip| ip.get("address")?.as_str());
    texts.filter_map(|text| text.split('/').next()?.parse().ok()).take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HostPort;

    #[test]
    fn addresses_are_in_the_result_of_every_version() {
        let old = json!({"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1"}]});
        let new =
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}, {"address": "fd00::5/64"}]});
        assert_eq!(addresses(&old), ["10.1.0.5".parse::<IpAddr>().unwrap()]);
        let both: [IpAddr; 2] = ["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(addresses(&new), both);
        for garbage in [json!(null), json!([]), json!({"ips": 7}), json!({"ips": [{"address": "x"}, 3]})] {
            assert!(addresses(&garbage).is_empty(), "{garbage}");
        }
        let many = json!({"ips": vec![json!({"address": "10.1.0.5/16"}); 1000]});
        assert_eq!(addresses(&many).len(), MAX_ADDRESSES);
    }

    #[test]
    fn ports_of_the_host_are_told_as_the_convention_has_it() {
        let host = HostPort { port: 8080, ip: Some("127.0.0.1".parse().unwrap()) };
        let mapping = PortMapping { host, protocol: Protocol::Udp, pod_port: 53 };
        let expected =
            json!({"hostPort": 8080, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"});
        assert_eq!(port_mapping(&mapping), expected);
    }
}
