//! What `image:` names.

use std::path::PathBuf;

/// A parsed `image:` of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A path of this machine, absolute: a component, a core module, or a directory of guest source.
    Local(PathBuf),
}
