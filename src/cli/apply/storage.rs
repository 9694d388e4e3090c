//! Claims and volumes in what is applied: read when a pod begins, so that all there is to say is whether there is the
//! same already.

use serde_json::Value;

use super::super::get::storage_wire;
use super::super::target::StorageKind;
use crate::paths::Paths;
use crate::volume::claims::registry::Registry;

/// One of a file.
pub struct Storage<'a> {
    pub kind: StorageKind,
    /// Of a claim.
    pub namespace: Option<&'a str>,
    pub name: &'a str,
}

impl Storage<'_> {
    /// The one that there is, where it says all that `wanted` says.
    pub fn if_same(&self, paths: &Paths, wanted: &Value) -> Option<Value> {
        let own = self.existing(paths)?;
        // Annotations say nothing of storage, and are not kept.
        let is_same = says(&own["metadata"]["labels"], &wanted["metadata"]["labels"])
            && says(&own["spec"], &wanted["spec"]);
        is_same.then_some(own)
    }

    fn existing(&self, paths: &Paths) -> Option<Value> {
        if !Registry::exists(paths) {
            return None;
        }
        let registry = Registry::open(paths).ok()?;
        let inventory = registry.inventory();
        match self.kind {
            StorageKind::Claims => {
                let all = storage_wire::claims(inventory);
                let mut own =
                    all.into_iter().filter(|own| own.metadata.namespace.as_deref() == self.namespace);
                serde_json::to_value(own.find(|own| own.metadata.name.as_deref() == Some(self.name))?).ok()
            }
            StorageKind::Volumes => {
                let all = storage_wire::volumes(inventory, |key| registry.data(key));
                let mut own = all.into_iter();
                serde_json::to_value(own.find(|own| own.metadata.name.as_deref() == Some(self.name))?).ok()
            }
        }
    }
}

/// Whether `own` has all that `wanted` has: what is left out has its default.
fn says(own: &Value, wanted: &Value) -> bool {
    match (own, wanted) {
        (_, Value::Null) => true,
        // As Kubernetes' `omitempty` has it.
        (Value::Null, Value::String(wanted)) => wanted.is_empty(),
        (Value::Object(own), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| says(own.get(key).unwrap_or(&Value::Null), wanted))
        }
        (own, wanted) => own == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::says;

    #[test]
    fn what_is_left_out_is_as_it_is() {
        let own = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "resources": {"requests": {"storage": "1Gi"}}});
        assert!(says(&own, &json!({"accessModes": ["ReadWriteOnce"]})));
        assert!(says(&own, &json!({"resources": {"requests": {"storage": "1Gi"}}, "volumeName": null})));
        assert!(!says(&own, &json!({"resources": {"requests": {"storage": "2Gi"}}})));
        assert!(!says(&own, &json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]})));
        assert!(!says(&own, &json!({"volumeName": "other"})));
        assert!(says(&own, &json!({"volumeName": ""})));
    }
}
