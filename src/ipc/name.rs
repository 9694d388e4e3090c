//! The names of objects, as POSIX has them.

use std::ffi::CString;

use super::{Errno, Result};

/// Bytes behind the slash (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// `/name`: a slash and 1 to 255 bytes without a slash, but for `/.` and `/..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Errno::Invalid`], [`Errno::NameTooLong`].
    pub fn new(name: &str) -> Result<Self> {
        let rest = name.strip_prefix('/').ok_or(Errno::Invalid)?;
        match rest {
            "" | "." | ".." => Err(Errno::Invalid),
            _ if rest.contains(['/', '\0']) => Err(Errno::Invalid),
            _ if rest.len() > NAME_MAX => Err(Errno::NameTooLong),
            _ => Ok(Self(name.to_owned())),
        }
    }

    /// With its slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a name in a directory.
    pub(super) fn file_name(&self) -> &str {
        &self.0[1..]
    }

    /// For the kernel.
    pub(super) fn to_c(&self) -> Result<CString> {
        CString::new(self.0.as_str()).map_err(|_| Errno::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_posix_names() {
        let longest = format!("/{}", "n".repeat(255));
        for good in ["/a", "/jobs", "/...", "/ä b", longest.as_str()] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "/", "a", "/a/b", "//", "/.", "/..", "/a\0b", "a/"] {
            assert_eq!(Name::new(bad), Err(Errno::Invalid), "{bad:?}");
        }
        assert_eq!(Name::new(&format!("{longest}n")), Err(Errno::NameTooLong));
    }
}
