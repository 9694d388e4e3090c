//! What a run of a container has of its pod, where there is none.

use std::sync::Arc;

use peapod::container::about::{About, LivePod};
use peapod::keyvalue::KeyValue;
use peapod::spec::{Options, convert};

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: bench}
spec: {containers: [{name: main, image: ./main.wasm}]}
";

/// Who the container is.
pub fn about(container: &str) -> anyhow::Result<Arc<About>> {
    let pod = LivePod::new(Arc::new(convert::load(MANIFEST.as_bytes(), &Options::default())?.pod));
    let (around, container) = (Default::default(), container.to_owned());
    Ok(Arc::new(About { pod, around, container, restarts: 0, env: vec![] }))
}

/// Its key-value stores, which nobody uses.
pub fn key_value() -> Arc<KeyValue> {
    Arc::new(KeyValue::without_volumes("/nonexistent".into()))
}
