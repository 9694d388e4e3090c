//! ConfigMaps and Secrets: what a pod's configuration comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The objects of the pod's namespace that the pod can refer to. They change while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// By name.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// By name.
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

/// A validated ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// `data`. Its keys and those of `binary_data` are different.
    pub data: BTreeMap<String, String>,
    /// `binaryData`, decoded: for volumes only.
    pub binary_data: BTreeMap<String, Vec<u8>>,
    /// `immutable`: its data cannot change any more.
    pub immutable: bool,
}

impl ConfigMap {
    /// Every key with its bytes, as volumes have them; ordered by key in `data`, then in `binaryData`.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let text = self.data.iter().map(|(key, text)| (key.as_str(), text.as_bytes()));
        text.chain(self.binary_data.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice())))
    }
}

/// A validated Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// `data`, decoded, with `stringData` written over it.
    pub data: BTreeMap<String, Vec<u8>>,
    /// `immutable`: its data cannot change any more.
    pub immutable: bool,
}

/// Without its values: they must not reach a log.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { data, immutable } = self;
        f.debug_struct("Secret")
            .field("keys", &data.keys().collect::<Vec<_>>())
            .field("immutable", immutable)
            .finish()
    }
}
