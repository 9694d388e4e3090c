//! Which object a document is, and what to do about one that peapod does not take.

use super::error::FieldError;
use super::node::Node;
use super::suggest;

/// The objects that a manifest may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    PersistentVolume,
    Service,
    NetworkPolicy,
}

const KINDS: [(&str, Kind); 7] = [
    ("Pod", Kind::Pod),
    ("ConfigMap", Kind::ConfigMap),
    ("Secret", Kind::Secret),
    ("PersistentVolumeClaim", Kind::PersistentVolumeClaim),
    ("PersistentVolume", Kind::PersistentVolume),
    ("Service", Kind::Service),
    ("NetworkPolicy", Kind::NetworkPolicy),
];

impl Kind {
    /// As it stands in `kind`.
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networking.k8s.io/v1",
            _ => "v1",
        }
    }
}

/// Reads `apiVersion` and `kind`.
pub(super) fn classify(root: &Node) -> Result<Kind, Vec<FieldError>> {
    if !matches!(root, Node::Map(_)) {
        return Err(vec![FieldError::new(
            "",
            format!(
                "expected a mapping that begins with `apiVersion: v1` and `kind: Pod`, found {}",
                root.describe()
            ),
        )]);
    }
    let kind = match root.get("kind") {
        Some(Node::String(name)) => match KINDS.iter().find(|(known, _)| known == name) {
            Some((_, kind)) => Ok((*kind, name)),
            // A wrong apiVersion beside a wrong kind is that kind's right one.
            None => return Err(vec![FieldError::new("kind", other_kind(name))]),
        },
        None | Some(Node::Null) => Err(FieldError::new("kind", "required; for a pod write `kind: Pod`")),
        Some(other) => {
            Err(FieldError::new("kind", format!("expected a string such as Pod, found {}", other.describe())))
        }
    };
    let right = kind.as_ref().map_or("v1", |(kind, _)| kind.api_version());
    let version = match root.get("apiVersion") {
        Some(Node::String(version)) if version == right => Ok(()),
        Some(Node::String(version)) => Err(FieldError::new(
            "apiVersion",
            match &kind {
                Ok((_, name)) => {
                    format!("a {name} is of apiVersion {right}, not {version:?}; write `apiVersion: {right}`")
                }
                Err(_) => format!("unknown version {version:?}; write `apiVersion: v1`"),
            },
        )),
        None | Some(Node::Null) => {
            Err(FieldError::new("apiVersion", format!("required; write `apiVersion: {right}`")))
        }
        Some(other) => Err(FieldError::new(
            "apiVersion",
            format!("expected the string {right}, found {}", other.describe()),
        )),
    };
    match (kind, version) {
        (Ok((kind, _)), Ok(())) => Ok(kind),
        (kind, version) => Err(version.err().into_iter().chain(kind.err()).collect()),
    }
}

fn other_kind(name: &str) -> String {
    match name {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            format!("peapod runs Pods, not a {name}; use the {name}'s spec.template as a Pod")
        }
        "CronJob" => {
            "peapod runs Pods, not a CronJob; use the CronJob's spec.jobTemplate.spec.template as a Pod"
                .to_owned()
        }
        "PodTemplate" => "peapod runs Pods; use the PodTemplate's template as a Pod".to_owned(),
        "List" | "PodList" => {
            format!("a {name} holds several objects; write each as a document of its own, divided by `---`")
        }
        "Ingress" => {
            format!(
                "peapod has no {name}; remove this document (containers of a pod reach each other on localhost)"
            )
        }
        _ => {
            let known = KINDS.iter().map(|(known, _)| *known);
            match suggest::closest(name, known) {
                Some(meant) => format!("unknown kind {name:?}, did you mean {meant}?"),
                None => format!(
                    "peapod runs a Pod, with ConfigMap, Secret, PersistentVolumeClaim, PersistentVolume, Service and NetworkPolicy beside it, not a {name:?}; remove this document"
                ),
            }
        }
    }
}
