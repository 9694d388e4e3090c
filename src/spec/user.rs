//! Whose the files are that a container makes, and which it may open.

/// The user, and the group, that files are opened and made as for a container with `runAsNonRoot` and no
/// `runAsUser`, where peapod itself is root: `nobody`, as the kernel calls whom it does not know.
pub const NOBODY: u32 = 65534;

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
    /// `runAsNonRoot`: never root. No image says who its user is: where peapod is root, it is [`NOBODY`].
    pub non_root: bool,
}

impl User {
    /// The numbers of the user and of its group, where peapod's own are these.
    pub fn ids(&self, own_uid: u32, own_gid: u32) -> (u32, u32) {
        match self.uid {
            Some(uid) => (uid, self.gid.unwrap_or(0)),
            None if self.non_root && own_uid == 0 => (NOBODY, self.gid.unwrap_or(NOBODY)),
            None => (own_uid, self.gid.unwrap_or(own_gid)),
        }
    }
}

/// `fsGroup` of the pod: the group that its volumes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsGroup {
    /// The group.
    pub gid: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`: a volume whose root is right already is left alone.
    pub on_root_mismatch: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_is_depends_on_who_peapod_is() {
        let user = |uid, gid, non_root| User { uid, gid, groups: Vec::new(), non_root };
        for (of, as_root, rootless) in [
            (user(None, None, false), (0, 0), (1000, 100)),
            (user(Some(7), None, false), (7, 0), (7, 0)),
            (user(Some(7), Some(8), true), (7, 8), (7, 8)),
            (user(None, Some(8), false), (0, 8), (1000, 8)),
            (user(None, None, true), (NOBODY, NOBODY), (1000, 100)),
            (user(None, Some(8), true), (NOBODY, 8), (1000, 8)),
        ] {
            assert_eq!(of.ids(0, 0), as_root, "{of:?}");
            assert_eq!(of.ids(1000, 100), rootless, "{of:?}");
        }
    }
}
