//! The annotations that peapod itself understands: those below `peapod.dev/`.

use std::collections::BTreeMap;

use super::report::Report;
use crate::manifest::{FieldPath, closest};
use crate::spec::IpcLimits;
use crate::spec::container_network::{self, ContainerNetwork};
use crate::spec::quantity::Quantity;

/// The prefix of peapod's own annotations; everything below it is known, or an error.
pub(super) const PREFIX: &str = "peapod.dev/";
/// Followed by a container's name: see [`container_network`].
const NETWORK: &str = "network.";
/// Followed by the name of a limit: see [`crate::spec::ipc`].
const IPC: &str = "ipc.";

/// What the annotations say.
#[derive(Default)]
pub(super) struct Annotated {
    /// Of each container, see [`container_network`].
    pub(super) networks: BTreeMap<String, ContainerNetwork>,
    /// Of the pod.
    pub(super) ipc: IpcLimits,
}

/// Reads peapod's own annotations.
pub(super) fn convert(
    annotations: &BTreeMap<String, String>,
    containers: &[&str],
    report: &mut Report,
) -> Annotated {
    let path = FieldPath::root().field("metadata").field("annotations");
    let mut annotated = Annotated::default();
    let own = annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    for (key, name, value) in own {
        let path = path.field(key);
        if let Some(limit) = name.strip_prefix(IPC)
            && IpcLimits::names().any(|known| known == limit)
        {
            if let Err(error) = set_limit(&mut annotated.ipc, limit, value) {
                report.error(&path, error);
            }
            continue;
        }
        let Some(container) = name.strip_prefix(NETWORK) else {
            let networks = containers.iter().map(|container| format!("{NETWORK}{container}"));
            let known: Vec<String> =
                networks.chain(IpcLimits::names().map(|limit| format!("{IPC}{limit}"))).collect();
            let hint = match closest(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean {PREFIX}{meant}?"),
                None => format!("known here: {PREFIX}{NETWORK}<container>, {PREFIX}{IPC}<limit>"),
            };
            report.error(&path, format_args!("unknown annotation, {hint}"));
            continue;
        };
        if !containers.contains(&container) {
            let hint = crate::manifest::hint(container, containers.iter().copied());
            let names = containers.join(", ");
            report.error(&path, format_args!("there is no container {container:?}{hint} (one of: {names})"));
            continue;
        }
        match container_network::parse(value) {
            Ok(network) => {
                annotated.networks.insert(container.to_owned(), network);
            }
            Err(errors) => errors.iter().for_each(|error| report.error(&path, error)),
        }
    }
    annotated
}

/// A limit is a number, or a quantity such as `1Mi`.
fn set_limit(limits: &mut IpcLimits, limit: &str, value: &str) -> Result<(), String> {
    let quantity: Quantity = value.parse().map_err(|error| format!("{error}"))?;
    if quantity.is_negative() || !quantity.is_whole() {
        return Err(format!("{value:?} is not a whole number, 0 or more"));
    }
    limits.set(limit, quantity.ceil())
}
