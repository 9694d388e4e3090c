//! `peapod.dev/config.<container>: name[,name…]`: ConfigMaps that stand beside the Pod, the later ones over the
//! earlier.

use super::Around;

/// The names, in order; all that are wrong.
pub(super) fn parse(value: &str, around: &Around<'_>) -> Result<Vec<String>, Vec<String>> {
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    let errors: Vec<String> = names.iter().filter_map(|name| wrong(name, around)).collect();
    if errors.is_empty() { Ok(names) } else { Err(errors) }
}

fn wrong(name: &str, around: &Around<'_>) -> Option<String> {
    if around.config_maps.contains_key(name) {
        return None;
    }
    if name.is_empty() {
        return Some("expected names of ConfigMaps, with commas between them".to_owned());
    }
    let hint = crate::manifest::hint(name, around.config_maps.keys().map(String::as_str));
    Some(format!(
        "there is no ConfigMap {name:?}{hint}: put it into the manifest, as a document beside the Pod"
    ))
}
