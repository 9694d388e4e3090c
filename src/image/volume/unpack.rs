//! Unpacks tar archives of strangers into a directory.
//!
//! All is made through the directory's handle, beneath which every path is resolved. An archive is refused as a whole
//! when a name in it is absolute or has `..`, when a link of it would be written through to the outside, when it has
//! devices, FIFOs or what is no file, and when it is too large. Symbolic links are kept as they are, wherever they
//! lead: a guest cannot follow one out of its mount. Owners are not kept, set-user-ID bits neither.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use tar::{Archive, Entry, EntryType};

use super::meter::Bounded;
use crate::image::ImageError;

/// Bytes that one volume may have when it is unpacked: more than any model that fits beside a pod, less than what a
/// bomb has to offer.
const MAX_BYTES: u64 = 64 << 30;

/// Files, directories and links that one volume may have: several times those of a distribution.
const MAX_ENTRIES: u64 = 1 << 20;

/// Bytes of one entry's header with its long names and extended attributes, which are held in memory.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// What hides a file of the layers below (OCI image specification, layer.md, "Whiteouts").
const WHITEOUT: &str = ".wh.";
/// What hides all of a directory's.
const OPAQUE: &str = ".wh..wh..opq";

/// What the archives are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All there is.
    Archive,
    /// Layers, in order: whiteouts take away what those before had.
    Layers,
}

/// Unpacks archives into one directory, within one bound.
pub(super) struct Unpacker<'p> {
    /// For messages.
    path: &'p Path,
    kind: Kind,
    bytes: u64,
    entries: u64,
    /// The paths of this layer, which its own whiteouts do not take away.
    own: HashSet<PathBuf>,
}

/// Why an archive is refused.
enum Refusal {
    Io(io::Error),
    Because(String),
}

impl Refusal {
    /// Said of the entry `name` of the archive at `path`.
    fn of(self, path: &Path, name: &str) -> ImageError {
        let reason = match self {
            // The archive's fault, or that of a disk that is full.
            Self::Io(error) => format!("cannot unpack {name:?}: {error}"),
            Self::Because(reason) => format!("has {name:?}, {reason}"),
        };
        ImageError::rejected(path, reason)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'p> Unpacker<'p> {
    pub(super) fn new(path: &'p Path, kind: Kind) -> Self {
        Self { path, kind, bytes: 0, entries: 0, own: HashSet::new() }
    }

    /// Unpacks the next archive.
    pub(super) fn unpack(&mut self, reader: impl Read, into: &Dir) -> Result<(), ImageError> {
        self.own.clear();
        let allowance = Rc::new(Cell::new(MAX_HEADER_BYTES));
        let mut archive = Archive::new(Bounded::new(reader, Rc::clone(&allowance)));
        let path = self.path;
        let damaged = |error: io::Error| {
            ImageError::rejected(path, format!("is no archive that can be unpacked: {error}"))
        };
        let mut entries = archive.entries().map_err(damaged)?;
        loop {
            allowance.set(MAX_HEADER_BYTES);
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(damaged)?;
            // Its content is bounded by what is still allowed of it, the padding included.
            allowance.set((MAX_BYTES - self.bytes).saturating_add(MAX_HEADER_BYTES));
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let done = self.entry(&mut entry, into);
            // What was not read of it is read to come to the next.
            let done = done.and_then(|()| Ok(io::copy(&mut entry, &mut io::sink()).map(drop)?));
            done.map_err(|refusal| refusal.of(path, &name))?;
        }
    }

    /// A file that is no archive, by its name.
    pub(super) fn place(&mut self, name: &str, reader: &mut impl Read, into: &Dir) -> Result<(), ImageError> {
        let placed = relative(Path::new(name)).and_then(|path| {
            self.count(1)?;
            self.file(&path, 0o644, reader, into)
        });
        placed.map_err(|refusal| refusal.of(self.path, name))
    }

    fn count(&mut self, more: usize) -> Result<(), Refusal> {
        self.entries += more as u64;
        if self.entries > MAX_ENTRIES {
            return Err(Refusal::Because(format!("which is one of more than {MAX_ENTRIES} files")));
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, into: &Dir) -> Result<(), Refusal> {
        self.count(1)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = relative(&entry.path()?)?;
        if self.kind == Kind::Layers && self.whiteout(&path, into)? {
            return Ok(());
        }
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        let modified = entry.header().mtime().ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let missing = |parent: &&Path| !parent.as_os_str().is_empty() && !into.is_dir(parent);
        if let Some(parent) = path.parent().filter(missing) {
            // One entry could have a directory for every two bytes of its name.
            self.count(parent.components().count())?;
            into.create_dir_all(parent)?;
        }
        self.remember(&path);
        match kind {
            EntryType::Directory => directory(&path, mode, into)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if entry.size() > MAX_BYTES - self.bytes {
                    return Err(too_large());
                }
                self.file(&path, mode, entry, into)?;
                if let Some(modified) = modified {
                    let modified =
                        cap_fs_ext::SystemTimeSpec::from(cap_std::time::SystemTime::from_std(modified));
                    cap_fs_ext::DirExt::set_times(into, &path, None, Some(modified))?;
                }
            }
            EntryType::Symlink => {
                let target =
                    entry.link_name()?.ok_or_else(|| Refusal::Because("a link to nothing".into()))?;
                clear(&path, into)?;
                into.symlink_contents(&target, &path)?;
            }
            EntryType::Link => {
                let target =
                    entry.link_name()?.ok_or_else(|| Refusal::Because("a link to nothing".into()))?;
                let target = relative(&target)?;
                if !into.symlink_metadata(&target)?.is_file() {
                    return Err(Refusal::Because("a hard link to what is no file".into()));
                }
                if target != path {
                    clear(&path, into)?;
                    into.hard_link(&target, into, &path)?;
                }
            }
            EntryType::Block | EntryType::Char | EntryType::Fifo => {
                return Err(Refusal::Because("a device or FIFO: a volume has files only".into()));
            }
            other => {
                let reason = format!("of the unknown type {:?}", char::from(other.as_byte()));
                return Err(Refusal::Because(reason));
            }
        }
        Ok(())
    }

    /// This path and the directories it lies in belong to the layer.
    fn remember(&mut self, path: &Path) {
        if self.kind == Kind::Layers {
            for part in path.ancestors() {
                if !self.own.insert(part.to_owned()) {
                    break;
                }
            }
        }
    }

    fn file(&mut self, path: &Path, mode: u32, reader: &mut impl Read, into: &Dir) -> Result<(), Refusal> {
        clear(path, into)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).follow(FollowSymlinks::No);
        let mut file = into.open_with(path, &options)?;
        let allowed = MAX_BYTES - self.bytes;
        let written = io::copy(&mut reader.take(allowed + 1), &mut file)?;
        if written > allowed {
            return Err(too_large());
        }
        self.bytes += written;
        // Readable for the one who unpacks it, whatever else.
        Ok(file.set_permissions(Permissions::from_mode(mode | 0o400))?)
    }

    /// Whether it is one, which is done then.
    fn whiteout(&self, path: &Path, into: &Dir) -> Result<bool, Refusal> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
        let parent = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            return self.make_opaque(parent, into).map(|()| true);
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(false) };
        let hidden = relative(Path::new(hidden))?;
        if hidden.components().count() != 1 {
            return Err(Refusal::Because("a whiteout of nothing".into()));
        }
        let hidden = parent.join(hidden);
        if !self.own.contains(&hidden) {
            clear(&hidden, into)?;
        }
        Ok(true)
    }

    fn make_opaque(&self, directory: &Path, into: &Dir) -> Result<(), Refusal> {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let entries = match into.read_dir(here) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = directory.join(entry?.file_name());
            if !self.own.contains(&path) {
                clear(&path, into)?;
            } else if into.symlink_metadata(&path)?.is_dir() {
                self.make_opaque(&path, into)?;
            }
        }
        Ok(())
    }
}

fn too_large() -> Refusal {
    Refusal::Because(format!("with which it is larger than {} GiB", MAX_BYTES >> 30))
}

/// A path beneath the directory, without `.`; the directory itself is empty.
fn relative(path: &Path) -> Result<PathBuf, Refusal> {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => result.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) | Component::ParentDir => {
                let path = path.display();
                return Err(Refusal::Because(format!("whose path {path} is not one inside of the archive")));
            }
        }
    }
    Ok(result)
}

fn directory(path: &Path, mode: u32, into: &Dir) -> Result<(), Refusal> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    if !into.symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        clear(path, into)?;
        into.create_dir(path)?;
    }
    // Whatever else, what is in it can be unpacked.
    Ok(into.set_permissions(path, Permissions::from_mode(mode | 0o700))?)
}

/// Takes away what is at `path`, if anything is. A link is not followed.
fn clear(path: &Path, into: &Dir) -> Result<(), Refusal> {
    if path.as_os_str().is_empty() {
        return Err(Refusal::Because("which is the volume itself, and no directory".into()));
    }
    let there = match into.symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    let removed = if there.is_dir() { into.remove_dir_all(path) } else { into.remove_file(path) };
    Ok(removed?)
}
