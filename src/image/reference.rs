//! What `image:` names. [`crate::spec`] reads it from the manifest.

use std::path::{Path, PathBuf};

/// A parsed `image:` of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A path of this machine, absolute: a component, a core module, or a directory of guest source.
    Local(PathBuf),
}

impl Reference {
    /// The path, for a local one.
    pub fn path(&self) -> &Path {
        match self {
            Self::Local(path) => path,
        }
    }
}
