//! What a pod is configured by, on its way to the pod process.
//!
//! An object comes without its metadata, which nothing in the pod sees: 1 MiB of data (`MAX_OBJECT_BYTES` of
//! `spec::convert`) is at most 6 MiB as JSON (U+0000 is six bytes), within [`super::LINE_LIMIT`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::spec::{Pod, convert};

/// What is different of the pod's configuration.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Configuration {
    /// A ConfigMap; `None`: it is gone.
    ConfigMap(String, Option<Box<wire::ConfigMap>>),
    /// A Secret; `None`: it is gone.
    Secret(String, Option<Box<wire::Secret>>),
    /// The pod's own metadata.
    Metadata {
        /// All labels.
        labels: BTreeMap<String, String>,
        /// All annotations.
        annotations: BTreeMap<String, String>,
        /// What they say of `wasi:config`: [`Pod::config_sources`].
        config_sources: BTreeMap<String, Vec<String>>,
    },
}

impl Configuration {
    /// A ConfigMap of this name.
    pub fn config_map(name: &str, object: Option<wire::ConfigMap>) -> Self {
        let bare = |object| Box::new(wire::ConfigMap { metadata: named(name), ..object });
        Self::ConfigMap(name.to_owned(), object.map(bare))
    }

    /// A Secret of this name. What it is for was checked with its metadata.
    pub fn secret(name: &str, object: Option<wire::Secret>) -> Self {
        let bare = |object| Box::new(wire::Secret { metadata: named(name), type_: None, ..object });
        Self::Secret(name.to_owned(), object.map(bare))
    }

    /// Makes `pod` different by this.
    ///
    /// # Errors
    /// The object is not valid, which its sender has to know; nothing has changed then.
    pub fn apply(self, pod: &mut Pod) -> Result<(), String> {
        match self {
            Self::ConfigMap(name, Some(object)) => {
                let object = convert::config_map(&object).map_err(|invalid| invalid.to_string())?;
                pod.objects.config_maps.insert(name, Arc::new(object));
            }
            Self::ConfigMap(name, None) => drop(pod.objects.config_maps.remove(&name)),
            Self::Secret(name, Some(object)) => {
                let object = convert::secret(&object).map_err(|invalid| invalid.to_string())?;
                pod.objects.secrets.insert(name, Arc::new(object));
            }
            Self::Secret(name, None) => drop(pod.objects.secrets.remove(&name)),
            Self::Metadata { labels, annotations, config_sources } => {
                pod.labels = labels;
                pod.annotations = annotations;
                pod.config_sources = config_sources;
            }
        }
        Ok(())
    }
}

/// Without values: a Secret's must not reach a log.
impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name, _) => write!(f, "ConfigMap({name:?})"),
            Self::Secret(name, _) => write!(f, "Secret({name:?})"),
            Self::Metadata { .. } => f.write_str("Metadata"),
        }
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::super::{LINE_LIMIT, Request, encode};
    use super::*;
    use crate::testing::spec as testing;

    #[test]
    fn the_longest_object_is_one_line() {
        let object = wire::ConfigMap {
            data: Some([("k".to_owned(), "\0".repeat(1 << 20))].into()),
            metadata: ObjectMeta { annotations: Some([("a".repeat(300), "b".into())].into()), ..named("x") },
            ..Default::default()
        };
        let configuration = Configuration::config_map("x", Some(object));
        let line = encode(&Request::Configure { id: 1, configuration });
        assert!(line.len() > 6 << 20 && line.len() < LINE_LIMIT, "{}", line.len());
        let bytes = ByteString(vec![0xff; 1 << 20]);
        let object = wire::Secret { data: Some([("k".to_owned(), bytes)].into()), ..Default::default() };
        let configuration = Configuration::secret("x", Some(object));
        assert!(encode(&Request::Configure { id: 1, configuration }).len() < LINE_LIMIT / 2);
    }

    #[test]
    fn a_pod_is_configured_anew_and_secrets_are_not_shown() {
        let mut pod = testing::pod([]);
        let secret = wire::Secret {
            string_data: Some([("password".to_owned(), "hunter2".to_owned())].into()),
            ..Default::default()
        };
        let configuration = Configuration::secret("login", Some(secret));
        let line = encode(&Request::Configure { id: 7, configuration: configuration.clone() });
        let request: Request = serde_json::from_slice(&line).unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
        configuration.apply(&mut pod).unwrap();
        assert_eq!(pod.objects.secrets["login"].data["password"], b"hunter2");
        Configuration::secret("login", None).apply(&mut pod).unwrap();
        assert!(pod.objects.secrets.is_empty());

        let wrong =
            wire::ConfigMap { data: Some([("a/b".to_owned(), String::new())].into()), ..Default::default() };
        let before = pod.clone();
        let error = Configuration::config_map("x", Some(wrong)).apply(&mut pod).unwrap_err();
        assert!(error.starts_with("data[a/b]: "), "{error}");
        assert_eq!(pod, before);
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let annotations = BTreeMap::new();
        let config_sources = BTreeMap::new();
        Configuration::Metadata { labels: labels.clone(), annotations, config_sources }
            .apply(&mut pod)
            .unwrap();
        assert_eq!(pod.labels, labels);
    }
}
