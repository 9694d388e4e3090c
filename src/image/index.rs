//! What is known of files that have not changed, so that starting an image need not read it.
//!
//! One small file for each: its name says which file in which state, its content is the digest and,
//! for a component, the WASI that it needs. A file
//! is known by device, inode, size and both timestamps. ctime cannot be set by anybody, so content that
//! was changed in secret has another; but a change within the clock's granularity after the file was
//! read would leave it the same. Like git ("racily clean", Documentation/technical/racy-git.txt), the
//! index does not take in files that were changed just now.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cache::CacheDir;
use super::digest::Digest;
use crate::engine::WasiVersion;

/// The coarsest timestamps of a file system in use (FAT: 2 s).
pub const RACY: Duration = Duration::from_secs(2);

/// Bytes of an entry: 64 digits, a space, a version.
const LENGTH: u64 = 68;

/// Bytes of all entries together: 4096 files at 68 bytes each (and a block of the disk each).
pub const MAX_BYTES: u64 = 4096 * LENGTH;

/// The state of a file: the same stamp, the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970.
    modified: i128,
    /// Nanoseconds since 1970.
    changed: i128,
}

impl Stamp {
    /// Of an open file's metadata.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a change right after `now` would show as another stamp.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
        self.modified.max(self.changed) + RACY.as_nanos() as i128 <= now
    }

    fn entry(&self) -> String {
        let Self { device, inode, size, modified, changed } = self;
        format!("{device:x}-{inode:x}-{size:x}-{modified:x}-{changed:x}")
    }
}

/// What is known of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its digest.
    pub digest: Digest,
    /// The WASI that it needs, where it was looked at as a component.
    pub wasi: Option<WasiVersion>,
}

impl Known {
    fn from_entry(text: &str) -> Option<Self> {
        let (digest, wasi) = match text.split_once(' ') {
            Some((digest, wasi)) => (digest, Some(wasi.parse().ok()?)),
            None => (text, None),
        };
        Some(Self { digest: digest.parse().ok()?, wasi })
    }

    fn entry(&self) -> String {
        let wasi = self.wasi.map_or_else(String::new, |version| format!(" {version}"));
        self.digest.hex() + &wasi
    }
}

/// What is known of the file in state `stamp`.
pub fn lookup(index: &CacheDir, stamp: &Stamp) -> Option<Known> {
    let mut text = String::new();
    // More is no entry of ours.
    index.open_trusted(&stamp.entry())?.take(LENGTH + 1).read_to_string(&mut text).ok()?;
    Known::from_entry(&text)
}

/// Remembers `known` of the file in state `stamp`, which was taken before the file was read at `now` or
/// later. Best effort: without the entry the file is read again.
pub fn remember(index: &CacheDir, stamp: &Stamp, known: &Known, now: SystemTime) {
    if stamp.is_settled(now) {
        let _ = index.write(&stamp.entry(), known.entry().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changed_just_now_is_not_settled() {
        let stamp = Stamp { device: 1, inode: 2, size: 3, modified: 5_000_000_000, changed: 6_000_000_000 };
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert!(!stamp.is_settled(at(6_000)));
        assert!(!stamp.is_settled(at(7_999)));
        assert!(stamp.is_settled(at(8_000)));
        assert!(!stamp.is_settled(at(1_000)), "a clock that was set back");
        assert!(!stamp.is_settled(UNIX_EPOCH - Duration::from_secs(1)), "a clock before 1970");
    }

    #[test]
    fn an_entry_and_back() {
        let digest = Digest::of(b"");
        for wasi in [None, Some(WasiVersion::V02), Some(WasiVersion::V03)] {
            let known = Known { digest, wasi };
            assert!(known.entry().len() as u64 <= LENGTH);
            assert_eq!(Known::from_entry(&known.entry()), Some(known));
        }
        for bad in ["", " ", " 0.2", &format!("{} ", digest.hex()), &format!("{} 0.4", digest.hex())] {
            assert_eq!(Known::from_entry(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_part_of_the_state_counts() {
        let stamp = Stamp { device: 1, inode: 2, size: 3, modified: 5, changed: 6 };
        for other in [
            Stamp { device: 9, ..stamp.clone() },
            Stamp { inode: 9, ..stamp.clone() },
            Stamp { size: 9, ..stamp.clone() },
            Stamp { modified: 9, ..stamp.clone() },
            Stamp { changed: 9, ..stamp.clone() },
        ] {
            assert_ne!(stamp.entry(), other.entry());
        }
    }
}
