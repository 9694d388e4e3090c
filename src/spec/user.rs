//! Whose the files are that a container makes, and which it may open.

/// The user that a container's file operations are done as: `runAsUser`, `runAsGroup`, `fsGroup` and
/// `supplementalGroups`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    /// `runAsUser`. `None`: peapod's own.
    pub uid: Option<u32>,
    /// `runAsGroup`. `None`: peapod's own, 0 with a `runAsUser`.
    pub gid: Option<u32>,
    /// `fsGroup` and `supplementalGroups`, sorted.
    pub groups: Vec<u32>,
}

/// `fsGroup` of the pod: the group that its volumes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsGroup {
    /// The group.
    pub gid: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`: a volume whose root is right already is left alone.
    pub on_root_mismatch: bool,
}
