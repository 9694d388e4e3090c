//! Changes all files of a volume at once, as `AtomicWriter` does (`pkg/volume/util/atomic_writer.go`).
//!
//! ```text
//! <volume>/name       ─► ..data/name         made when first there, removed with the last file below it
//! <volume>/..data     ─► ..2026_11_20_19_20_30.123456789    replaced with rename(2): old or new
//! <volume>/..2026_…/  name, dir/name, …      one generation of the files, never changed once it is seen
//! ```
//!
//! All links are relative, so that they are followed in a guest's sandbox too.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};

use super::payload::{FileContent, Payload};

/// Leads to the current generation.
const DATA: &str = "..data";
/// Becomes [`DATA`].
const NEW_DATA: &str = "..data_tmp";

/// Permissions of directories: everyone may look.
const DIRECTORY_MODE: u32 = 0o755;

/// What [`write`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The files were the same already.
    Unchanged,
    /// There is another generation.
    Changed {
        /// The directory with the files before, which is still there: for [`discard`].
        before: Option<OsString>,
        /// The directory with the files now.
        now: OsString,
    },
}

/// Makes the files of `volume` those of `payload`. `own` gives the new ones, and all else in the volume, their
/// owner before anyone sees them. `swap` is given the name of their directory, and what makes it the one that is seen:
/// for a caller who has to know of both at the same moment.
///
/// # Errors
/// The file system's. Until the swap nothing has changed then; after it, names may be missing or be too many until the
/// next time.
pub(super) fn write(
    volume: &Dir,
    payload: &Payload,
    own: impl FnOnce() -> io::Result<()>,
    swap: impl FnOnce(&OsStr, &dyn Fn() -> io::Result<()>) -> io::Result<()>,
) -> io::Result<Written> {
    let before = current(volume)?;
    let old = before.as_ref().map(|before| files(volume, before)).transpose()?.unwrap_or_default();
    if let Some(before) = &before
        && old.len() == payload.len()
        && is_unchanged(volume, before, payload)
    {
        // It may have failed the last time.
        return name_all(volume, payload).map(|()| Written::Unchanged);
    }
    let now = new_generation(volume)?;
    let made = fill(volume, &now, payload).and_then(|()| own());
    let made = made.and_then(|()| swap(&now, &|| lead_to(volume, &now)));
    if let Err(error) = made {
        // What is left of it is in nobody's way.
        let _ = discard(volume, &now);
        return Err(error);
    }
    name_all(volume, payload)?;
    Ok(Written::Changed { before, now })
}

/// Removes a generation that nothing leads to any more. One that is gone is no error.
///
/// # Errors
/// The file system's.
pub(super) fn discard(volume: &Dir, generation: &OsStr) -> io::Result<()> {
    match volume.remove_dir_all(generation) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The directory of the files that are there.
fn current(volume: &Dir) -> io::Result<Option<OsString>> {
    match volume.read_link(DATA) {
        Ok(generation) => Ok(Some(generation.into_os_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The paths of all files of a generation. None, when it is gone.
fn files(volume: &Dir, generation: &OsStr) -> io::Result<BTreeSet<PathBuf>> {
    let generation = match volume.open_dir(generation) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        opened => opened?,
    };
    let mut files = BTreeSet::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory.as_path() };
        for entry in generation.read_dir(here)? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

/// Whether each file of `payload` is in the generation with the same bytes. Its mode does not count, which `own` may
/// have changed: a volume's modes are always the same.
fn is_unchanged(volume: &Dir, generation: &OsStr, payload: &Payload) -> bool {
    let same = |(path, file): (&PathBuf, &FileContent)| {
        volume.read(Path::new(generation).join(path)).is_ok_and(|bytes| bytes == file.bytes)
    };
    payload.iter().all(same)
}

/// An empty directory with the time as its name.
fn new_generation(volume: &Dir) -> io::Result<OsString> {
    let mut now = jiff::Timestamp::now();
    loop {
        let name = now.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
        match volume.create_dir(&name) {
            // Two in one step of the clock.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                now = now.saturating_add(jiff::SignedDuration::from_nanos(1)).map_err(io::Error::other)?;
            }
            made => return made.map(|()| name.into()),
        }
    }
}

/// Whatever the umask.
fn fill(volume: &Dir, generation: &OsStr, payload: &Payload) -> io::Result<()> {
    volume.set_permissions(generation, Permissions::from_mode(DIRECTORY_MODE))?;
    let generation = volume.open_dir(generation)?;
    let directories = payload.keys().flat_map(|path| path.ancestors().skip(1));
    // Those above come first.
    let directories: BTreeSet<&Path> = directories.filter(|path| !path.as_os_str().is_empty()).collect();
    for directory in directories {
        generation.create_dir(directory)?;
        generation.set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?;
    }
    for (path, FileContent { bytes, mode }) in payload {
        debug_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
        let mut options = OpenOptions::new();
        let mut file = generation.open_with(path, options.write(true).create_new(true).mode(0o600))?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(*mode))?;
    }
    Ok(())
}

/// Makes this generation the one that is seen.
fn lead_to(volume: &Dir, generation: &OsStr) -> io::Result<()> {
    remove_link(volume, OsStr::new(NEW_DATA))?;
    volume.symlink(generation, NEW_DATA)?;
    volume.rename(NEW_DATA, volume, DATA)
}

/// Has the name of every file, or of its directory, lead to it; other names are removed after that.
fn name_all(volume: &Dir, payload: &Payload) -> io::Result<()> {
    let mut missing: BTreeSet<&OsStr> = payload.keys().filter_map(|path| path.iter().next()).collect();
    let mut gone = Vec::new();
    for entry in volume.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        // Generations and what leads to them.
        let is_own = name.as_encoded_bytes().starts_with(b"..");
        // A directory was made for a `subPath`, and stays, also where a file comes to be of that name: as with the
        // kubelet (`createUserVisibleFiles` in `pkg/volume/util/atomic_writer.go`).
        if !missing.remove(&*name) && !is_own && !entry.file_type()?.is_dir() {
            gone.push(name);
        }
    }
    missing.iter().try_for_each(|name| link(volume, name))?;
    gone.iter().try_for_each(|name| remove_link(volume, name))
}

/// Leaves alone what is there.
fn link(volume: &Dir, name: &OsStr) -> io::Result<()> {
    match volume.symlink(Path::new(DATA).join(name), name) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

fn remove_link(volume: &Dir, name: &OsStr) -> io::Result<()> {
    match volume.remove_file(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
