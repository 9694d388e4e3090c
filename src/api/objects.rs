//! ConfigMaps and Secrets of running pods: what can be done to them.

use serde_json::Value;

use super::patch::PatchType;

/// The objects that a pod's configuration comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Text, and bytes for volumes.
    ConfigMap,
    /// The same, kept out of logs.
    Secret,
}

impl ObjectKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ConfigMap, Self::Secret];

    /// As it stands in `kind`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// As kubectl names one.
    pub fn singular(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    /// As it stands in a path.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }

    /// By one of kubectl's words for it.
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "configmap" | "configmaps" | "cm" => Some(Self::ConfigMap),
            "secret" | "secrets" => Some(Self::Secret),
            _ => None,
        }
    }
}

/// What is to be done to an object.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// It appears; it must not be there.
    Create(Value),
    /// It becomes another; it must be there.
    Replace(Value),
    /// It is patched; only [`PatchType::Apply`] makes one that is not there.
    Patch(PatchType, Value),
    /// It disappears.
    Delete,
}

/// Without its values: they may be a Secret's.
impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create(_) => "Create",
            Self::Replace(_) => "Replace",
            Self::Patch(..) => "Patch",
            Self::Delete => "Delete",
        })
    }
}

/// What a change has made of an object.
#[derive(Clone, PartialEq)]
pub struct Changed {
    /// The object as it is now, or was when it disappeared.
    pub object: Value,
    /// Whether it was not there before.
    pub is_new: bool,
}
