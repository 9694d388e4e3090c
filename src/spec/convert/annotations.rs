//! The annotations that peapod itself understands: those below `peapod.dev/`.
//!
//! | annotation | what |
//! |---|---|
//! | `network.<container>` | what one container may do on the network: [`container_network`] |
//! | `ipc.<limit>` | how much `peapod:ipc` the pod may use: [`crate::spec::ipc`] |
//! | `config.<container>` | the ConfigMaps that one container finds in `wasi:config`: [`config`] |
//! | `keyvalue`, `keyvalue.<bucket>` | the volumes that `wasi:keyvalue` is in: [`keyvalue`] |

pub(super) mod config;
mod keyvalue;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::Report;
use super::volume::Volumes;
use crate::manifest::{FieldPath, closest};
use crate::spec::container_network::{self, ContainerNetwork};
use crate::spec::quantity::Quantity;
use crate::spec::{ConfigMap, IpcLimits, KeyValueVolumes};

/// The prefix of peapod's own annotations; everything below it is known, or an error.
pub(super) const PREFIX: &str = "peapod.dev/";
const NETWORK: &str = "network.";
const IPC: &str = "ipc.";
const CONFIG: &str = "config.";
const KEYVALUE: &str = "keyvalue";

/// What the annotations say.
#[derive(Default)]
pub(super) struct Annotated {
    /// Of each container, see [`container_network`].
    pub(super) networks: BTreeMap<String, ContainerNetwork>,
    /// Of the pod.
    pub(super) ipc: IpcLimits,
    /// ConfigMaps by container.
    pub(super) config: BTreeMap<String, Vec<String>>,
    /// Of the pod.
    pub(super) key_value: KeyValueVolumes,
}

/// What the annotations refer to.
pub(super) struct Around<'a> {
    pub(super) containers: &'a [&'a str],
    pub(super) volumes: &'a Volumes,
    pub(super) config_maps: &'a BTreeMap<String, Arc<ConfigMap>>,
}

/// Reads peapod's own annotations.
pub(super) fn convert(
    annotations: &BTreeMap<String, String>,
    around: &Around<'_>,
    report: &mut Report,
) -> Annotated {
    let path = FieldPath::root().field("metadata").field("annotations");
    let mut annotated = Annotated::default();
    let own = annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    for (key, name, value) in own {
        let path = path.field(key);
        if let Err(errors) = read(name, value, around, &mut annotated) {
            errors.iter().for_each(|error| report.error(&path, error));
        }
    }
    annotated
}

/// The container whose `wasi:config` an annotation is about: the one kind that may change while the pod runs.
pub(super) fn config_of(annotation: &str) -> Option<&str> {
    annotation.strip_prefix(PREFIX)?.strip_prefix(CONFIG)
}

/// Reads one; all that is wrong with it.
fn read(name: &str, value: &str, around: &Around<'_>, annotated: &mut Annotated) -> Result<(), Vec<String>> {
    if let Some(limit) = name.strip_prefix(IPC)
        && IpcLimits::names().any(|known| known == limit)
    {
        set_limit(&mut annotated.ipc, limit, value).map_err(|error| vec![error])?;
    } else if let Some(container) = name.strip_prefix(NETWORK) {
        known_container(container, around.containers)?;
        let network = container_network::parse(value)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        annotated.networks.insert(container.to_owned(), network);
    } else if let Some(container) = name.strip_prefix(CONFIG) {
        let (containers, config_maps) = (around.containers, around.config_maps);
        let names = config::parse(container, value, containers, config_maps)?;
        annotated.config.insert(container.to_owned(), names);
    } else if name == KEYVALUE {
        annotated.key_value.all = Some(keyvalue::volume(value, around)?);
    } else if let Some(bucket) = name.strip_prefix(KEYVALUE).and_then(|rest| rest.strip_prefix('.')) {
        crate::spec::keyvalue::bucket(bucket).map_err(|error| vec![error])?;
        annotated.key_value.buckets.insert(bucket.to_owned(), keyvalue::volume(value, around)?);
    } else {
        return Err(vec![unknown(name, around)]);
    }
    Ok(())
}

fn unknown(name: &str, around: &Around<'_>) -> String {
    let of_containers = around
        .containers
        .iter()
        .flat_map(|container| [NETWORK, CONFIG].map(|kind| format!("{kind}{container}")));
    let limits = IpcLimits::names().map(|limit| format!("{IPC}{limit}"));
    let known: Vec<String> = of_containers.chain(limits).chain([KEYVALUE.to_owned()]).collect();
    match closest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("unknown annotation, did you mean {PREFIX}{meant}?"),
        None => {
            let known = [
                format!("{NETWORK}<container>"),
                format!("{IPC}<limit>"),
                format!("{CONFIG}<container>"),
                KEYVALUE.to_owned(),
                format!("{KEYVALUE}.<bucket>"),
            ];
            format!("unknown annotation, known here: {PREFIX}{}", known.join(&format!(", {PREFIX}")))
        }
    }
}

fn known_container(container: &str, containers: &[&str]) -> Result<(), Vec<String>> {
    if containers.contains(&container) {
        return Ok(());
    }
    let hint = crate::manifest::hint(container, containers.iter().copied());
    let names = containers.join(", ");
    Err(vec![format!("there is no container {container:?}{hint} (one of: {names})")])
}

/// A limit is a number, or a quantity such as `1Mi`.
fn set_limit(limits: &mut IpcLimits, limit: &str, value: &str) -> Result<(), String> {
    let quantity: Quantity = value.parse().map_err(|error| format!("{error}"))?;
    if quantity.is_negative() || !quantity.is_whole() {
        return Err(format!("{value:?} is not a whole number, 0 or more"));
    }
    limits.set(limit, quantity.ceil())
}
