//! Pods and containers for tests: everything absent, to be filled in with `..`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::container::about::{About, LivePod};
use crate::keyvalue::KeyValue;
use crate::spec::{Container, NetworkMode, Pod, Role};

/// A container of which only this is given.
pub(crate) fn container(name: &str, role: Role) -> Container {
    Container {
        name: name.to_owned(),
        role,
        restart_policy: None,
        restart_rules: vec![],
        image_name: format!("./{name}.wasm"),
        image: crate::image::Reference::Local(PathBuf::from(format!("/images/{name}.wasm"))),
        command: vec![],
        args: vec![],
        environment: Default::default(),
        user: Default::default(),
        working_dir: None,
        mounts: vec![],
        ports: vec![],
        resources: Default::default(),
        resize_policy: Default::default(),
        probes: Default::default(),
        hooks: Default::default(),
        termination_message: Default::default(),
        target: None,
    }
}

/// A pod named `p` of these containers, each where its role puts it, without a network.
pub(crate) fn pod(containers: impl IntoIterator<Item = Container>) -> Pod {
    let mut pod = Pod {
        name: "p".into(),
        namespace: "default".into(),
        uid: "uid-1".into(),
        generation: 1,
        labels: Default::default(),
        annotations: Default::default(),
        hostname: "p".into(),
        subdomain: None,
        restart_policy: Default::default(),
        termination_grace: std::time::Duration::from_secs(30),
        active_deadline: None,
        network: NetworkMode::None,
        dns: Default::default(),
        network_rules: Default::default(),
        ipc: Default::default(),
        config_sources: Default::default(),
        key_value: Default::default(),
        host_aliases: vec![],
        init_containers: vec![],
        containers: vec![],
        ephemeral_containers: vec![],
        readiness_gates: vec![],
        resources: Default::default(),
        volumes: vec![],
        user: Default::default(),
        fs_group: None,
        objects: Default::default(),
        storage: Default::default(),
        services: vec![],
        service_links: true,
        service_account: "default".into(),
    };
    for container in containers {
        match container.role {
            Role::Init | Role::Sidecar => pod.init_containers.push(container),
            Role::Main => pod.containers.push(container),
            Role::Ephemeral => pod.ephemeral_containers.push(container),
        }
    }
    pod
}

/// What the first run of a container of `pod` can know.
pub(crate) fn about(pod: Pod, container: &str) -> About {
    let pod = LivePod::new(Arc::new(pod));
    About { pod, around: Default::default(), container: container.to_owned(), restarts: 0, env: vec![] }
}

/// Key-value stores with no place to be in.
pub(crate) fn key_value() -> Arc<KeyValue> {
    Arc::new(KeyValue::without_volumes("/nonexistent".into()))
}
