//! Whether a pod refers to a ConfigMap or a Secret.

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod, Volume};

use super::super::describe::containers::of_ephemeral;
use crate::api::objects::ObjectKind;

/// Whether a variable or a volume of the pod comes from the object.
pub fn refers(pod: &Pod, kind: ObjectKind, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let of_container = |container: &Container| {
        container.env.iter().flatten().any(|env| env_refers(env, kind, name))
            || container.env_from.iter().flatten().any(|source| source_refers(source, kind, name))
    };
    spec.volumes.iter().flatten().any(|volume| volume_refers(volume, kind, name))
        || spec.init_containers.iter().flatten().chain(&spec.containers).any(of_container)
        || spec.ephemeral_containers.iter().flatten().any(|own| of_container(&of_ephemeral(own)))
}

fn env_refers(env: &EnvVar, kind: ObjectKind, name: &str) -> bool {
    let Some(from) = &env.value_from else { return false };
    match kind {
        ObjectKind::ConfigMap => from.config_map_key_ref.as_ref().is_some_and(|from| from.name == name),
        ObjectKind::Secret => from.secret_key_ref.as_ref().is_some_and(|from| from.name == name),
    }
}

fn source_refers(source: &EnvFromSource, kind: ObjectKind, name: &str) -> bool {
    match kind {
        ObjectKind::ConfigMap => source.config_map_ref.as_ref().is_some_and(|from| from.name == name),
        ObjectKind::Secret => source.secret_ref.as_ref().is_some_and(|from| from.name == name),
    }
}

fn volume_refers(volume: &Volume, kind: ObjectKind, name: &str) -> bool {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    match kind {
        ObjectKind::ConfigMap => {
            volume.config_map.as_ref().is_some_and(|own| own.name == name)
                || sources.filter_map(|source| source.config_map.as_ref()).any(|own| own.name == name)
        }
        ObjectKind::Secret => {
            volume.secret.as_ref().is_some_and(|own| own.secret_name.as_deref() == Some(name))
                || sources.filter_map(|source| source.secret.as_ref()).any(|own| own.name == name)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_is_looked_at() {
        let map = json!({"name": "x"});
        let places = [
            json!({"volumes": [{"name": "v", "configMap": map}]}),
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "y"}}, {"configMap": map}]}}]}),
            json!({"initContainers": [{"name": "c", "envFrom": [{"configMapRef": map}]}]}),
            json!({"containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "k"}}}]}]}),
            json!({"ephemeralContainers": [{"name": "c", "envFrom": [{"configMapRef": map}]}]}),
        ];
        let pod = |spec: &serde_json::Value| -> Pod {
            let mut spec = spec.clone();
            spec.as_object_mut().unwrap().entry("containers").or_insert_with(|| json!([]));
            serde_json::from_value(json!({"spec": spec})).unwrap()
        };
        for place in &places {
            let of_map = pod(place);
            assert!(refers(&of_map, ObjectKind::ConfigMap, "x"), "{place}");
            assert!(
                !refers(&of_map, ObjectKind::ConfigMap, "z") && !refers(&of_map, ObjectKind::Secret, "x")
            );
            // The same of a Secret, whose volume names it in another field.
            let text = place.to_string().replace("configMap", "secret");
            let text = match place["volumes"][0]["configMap"].is_object() {
                true => text.replace("{\"name\":\"x\"}", "{\"secretName\":\"x\"}"),
                false => text,
            };
            let of_secret = pod(&serde_json::from_str(&text).unwrap());
            assert!(refers(&of_secret, ObjectKind::Secret, "x"), "{text}");
            assert!(!refers(&of_secret, ObjectKind::ConfigMap, "x"), "{text}");
        }
        assert!(!refers(&Pod::default(), ObjectKind::Secret, "x"));
    }
}
