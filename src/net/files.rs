//! A container's kernel sockets, each a descriptor of its [share](crate::descriptors). The memory plane's sockets are
//! none: they cost memory, which is bounded by [`super::MAX_SOCKETS`] and the pod's [`budget`](super::budget).

use super::{Error, Result};
use crate::descriptors::{Descriptor, Share};

/// What a container's kernel sockets are taken of.
#[derive(Debug, Clone)]
pub(super) struct Files(Share);

/// The right to one kernel socket, given back when it is dropped.
pub(super) type File = Descriptor;

impl Files {
    pub(super) fn new(share: Share) -> Self {
        Self(share)
    }

    /// # Errors
    /// [`Error::TooManySockets`].
    pub(super) fn take(&self) -> Result<File> {
        self.0.take().ok_or(Error::TooManySockets)
    }

    /// Sees to it that there is one.
    ///
    /// # Errors
    /// [`Error::TooManySockets`].
    pub(super) fn ensure(&self, file: &mut Option<File>) -> Result<()> {
        if file.is_none() {
            *file = Some(self.take()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::Descriptors;

    #[test]
    fn what_is_dropped_may_be_taken_again() {
        let files = Files::new(Descriptors::guaranteed(1).share("a"));
        let mut first = None;
        files.ensure(&mut first).expect("one");
        files.ensure(&mut first).expect("it is there already");
        assert_eq!(files.take().err(), Some(Error::TooManySockets));
        drop(first);
        assert!(files.take().is_ok());
    }
}
