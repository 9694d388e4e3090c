//! `peapod.dev/config.<container>: name[,name…]`: ConfigMaps that stand beside the Pod, the later ones over the
//! earlier.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::known_container;
use crate::spec::ConfigMap;

/// The names for `container`, in order; all that is wrong.
pub(in super::super) fn parse(
    container: &str,
    value: &str,
    containers: &[&str],
    config_maps: &BTreeMap<String, Arc<ConfigMap>>,
) -> Result<Vec<String>, Vec<String>> {
    known_container(container, containers)?;
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    let errors: Vec<String> = names.iter().filter_map(|name| wrong(name, config_maps)).collect();
    if errors.is_empty() { Ok(names) } else { Err(errors) }
}

fn wrong(name: &str, config_maps: &BTreeMap<String, Arc<ConfigMap>>) -> Option<String> {
    if config_maps.contains_key(name) {
        return None;
    }
    if name.is_empty() {
        return Some("expected names of ConfigMaps, with commas between them".to_owned());
    }
    let hint = crate::manifest::hint(name, config_maps.keys().map(String::as_str));
    Some(format!(
        "there is no ConfigMap {name:?}{hint}: put it into the manifest, as a document beside the Pod"
    ))
}
