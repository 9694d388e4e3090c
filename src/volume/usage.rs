//! What a directory takes on its disk, counted in steps.
//!
//! ```text
//! Walk::new(dir) ─► step(budget) ─► step(budget) ─► … ─► done: bytes
//!                     each looks at no more than its budget of entries; bytes so far are a lower bound
//! ```
//!
//! Counts as du(1) does: the blocks of every file, directory and link, once for each inode, on the directory's own
//! file system; nothing outside is reached, as links are never followed and each directory is opened through its
//! parent's handle. What changes meanwhile is counted as it was or as it is.

use std::collections::HashSet;
use std::io;

use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, DirEntry, MetadataExt, ReadDir};

/// Unit of `st_blocks`, bytes (stat(3type)).
const BLOCK_BYTES: u64 = 512;

/// Directories in each other that are walked, each of which takes two descriptors. PATH_MAX allows for 2,000 names
/// of one letter; people and programs nest some dozens. Whoever goes deeper wants to hide something: see
/// [`Walk::bytes`].
const MAX_DEPTH: usize = 256;

/// Files with more than one name that are remembered, 16 bytes each; of more, every name counts.
const MAX_LINKED: usize = 65_536;

/// A count under way.
#[derive(Debug)]
pub struct Walk {
    /// The directories being read, the innermost last.
    levels: Vec<Level>,
    device: u64,
    bytes: u64,
    /// Files with more than one name that were counted.
    linked: HashSet<u64>,
}

#[derive(Debug)]
struct Level {
    dir: Dir,
    entries: ReadDir,
}

impl Level {
    fn new(dir: Dir) -> io::Result<Self> {
        Ok(Self { entries: dir.entries()?, dir })
    }
}

impl Walk {
    /// Begins to count.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn new(dir: Dir) -> io::Result<Self> {
        let own = dir.dir_metadata()?;
        Ok(Self {
            levels: vec![Level::new(dir)?],
            device: own.dev(),
            bytes: own.blocks() * BLOCK_BYTES,
            linked: HashSet::new(),
        })
    }

    /// Looks at up to `budget` more entries, which it takes off; whether all have been seen.
    pub fn step(&mut self, budget: &mut usize) -> bool {
        while *budget > 0
            && let Some(level) = self.levels.last_mut()
        {
            match level.entries.next() {
                // One that is gone meanwhile takes nothing.
                Some(entry) => {
                    *budget -= 1;
                    let _ = entry.and_then(|entry| self.count(&entry));
                }
                None => {
                    self.levels.pop();
                }
            }
        }
        self.levels.is_empty()
    }

    /// What has been counted so far. What lies too deep to be counted is more than any limit.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, entry: &DirEntry) -> io::Result<()> {
        let metadata = entry.metadata()?;
        if metadata.dev() != self.device {
            return Ok(());
        }
        if !metadata.is_dir()
            && metadata.nlink() > 1
            && self.linked.len() < MAX_LINKED
            && !self.linked.insert(metadata.ino())
        {
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK_BYTES));
        if metadata.is_dir()
            && let Some(level) = self.levels.last()
        {
            if self.levels.len() == MAX_DEPTH {
                self.bytes = u64::MAX;
                self.levels.clear();
                return Ok(());
            }
            let inner = level.dir.open_dir_nofollow(entry.file_name())?;
            self.levels.push(Level::new(inner)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    use cap_std::ambient_authority;

    use super::*;

    fn walk(path: &Path) -> Walk {
        Walk::new(Dir::open_ambient_dir(path, ambient_authority()).unwrap()).unwrap()
    }

    fn usage(path: &Path) -> u64 {
        let mut walk = walk(path);
        assert!(walk.step(&mut 1_000_000));
        walk.bytes()
    }

    fn du(path: &Path) -> u64 {
        let output = Command::new("du").args(["-s", "-x", "-B", "1"]).arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split('\t').next().unwrap().parse().unwrap()
    }

    #[test]
    fn counts_what_du_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::write(at("a/b/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(at("a/b/file"), at("a/again")).unwrap();
        fs::File::create(at("sparse")).unwrap().set_len(1 << 30).unwrap();
        symlink("/usr", at("a/out")).unwrap();
        symlink("..", at("a/b/c/up")).unwrap();
        let usage = usage(dir.path());
        assert_eq!(usage, du(dir.path()));
        assert!((100_000..200_000).contains(&usage), "{usage}");
    }

    #[test]
    fn goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..50 {
            fs::create_dir(dir.path().join(format!("{name}"))).unwrap();
            fs::write(dir.path().join(format!("{name}/file")), vec![1; 5000]).unwrap();
        }
        let mut walk = walk(dir.path());
        let (mut steps, mut before) = (0, 0);
        while !walk.step(&mut 7) {
            assert!(walk.bytes() >= before);
            before = walk.bytes();
            steps += 1;
        }
        assert_eq!(steps, 100 / 7);
        assert_eq!(walk.bytes(), du(dir.path()));
    }

    #[test]
    fn what_lies_too_deep_is_more_than_any_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("d/".repeat(MAX_DEPTH - 1))).unwrap();
        assert!(usage(dir.path()) < u64::MAX);
        fs::create_dir_all(dir.path().join("d/".repeat(MAX_DEPTH))).unwrap();
        assert_eq!(usage(dir.path()), u64::MAX);
    }
}
