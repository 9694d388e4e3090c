//! The annotations that peapod itself understands: those below `peapod.dev/`.

use std::collections::BTreeMap;

use super::report::Report;
use crate::manifest::{FieldPath, closest};
use crate::spec::container_network::{self, ContainerNetwork};

/// The prefix of peapod's own annotations; everything below it is known, or an error.
const PREFIX: &str = "peapod.dev/";
/// Followed by a container's name: see [`container_network`].
const NETWORK: &str = "network.";

/// What [`container_network`] says of each container.
pub(super) fn convert(
    annotations: &BTreeMap<String, String>,
    containers: &[&str],
    report: &mut Report,
) -> BTreeMap<String, ContainerNetwork> {
    let path = FieldPath::root().field("metadata").field("annotations");
    let mut networks = BTreeMap::new();
    let own = annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    for (key, name, value) in own {
        let path = path.field(key);
        let Some(container) = name.strip_prefix(NETWORK) else {
            let known: Vec<String> =
                containers.iter().map(|container| format!("{NETWORK}{container}")).collect();
            let hint = match closest(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean {PREFIX}{meant}?"),
                None => format!("known here: {PREFIX}{NETWORK}<container>"),
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
                networks.insert(container.to_owned(), network);
            }
            Err(errors) => errors.iter().for_each(|error| report.error(&path, error)),
        }
    }
    networks
}
