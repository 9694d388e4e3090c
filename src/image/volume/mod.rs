//! `image` volumes: what a reference names as a directory to read, or as one file.
//!
//! ```text
//! path ─┬─ directory ────────────────────────────────────────────────────────► itself
//!       ├─ directory with oci-layout ─► manifest, its digest ─┬─ in the cache ─► <cache>/volumes/<digest>
//!       ├─ .tar, .tar.gz, .tgz ─► digest (from the index) ────┤
//!       │                                                     └─ unpack ─► .new-… ─► rename ─┘
//!       └─ any other file ───────────────────────────────────────────────────► itself, an artifact
//! ```
//!
//! The cache has each content once, complete from the moment it has its name, and never changes it: pods have it
//! open, and a lock on it as long as they live. What nobody had open for long is removed when something is added.
//! An archive is somebody else's: see `unpack` for what it may not do.

mod meter;
mod oci;
mod unpack;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use flate2::read::MultiGzDecoder;

use self::meter::{Hashing, Ticking};
use self::unpack::{Kind, Unpacker};
use super::cache::{self, CacheDir};
use super::index::{self, Known, Stamp};
use super::{Digest, Event, ImageError, Progress, Reference};

/// Where unpacked content is below the cache.
const DIRECTORY: &str = "volumes";

/// How a directory begins that is being written.
const UNFINISHED: &str = ".new-";

/// What a layer or an archive is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Tar,
    TarGzip,
}

/// The directory or the one file that `reference` stands for; archives and OCI layouts are unpacked into the cache at
/// `cache_dir`, unless they are there already.
///
/// # Errors
/// Names the file, what is wrong with it and how to mend it. Nothing is left of what could not be unpacked.
pub fn resolve(
    cache_dir: &Path,
    reference: &Reference,
    progress: Progress<'_>,
) -> Result<PathBuf, ImageError> {
    let path = reference.path();
    let metadata = fs::metadata(path).map_err(|error| ImageError::read(path, "stat", error))?;
    if metadata.is_dir() {
        if !oci::is_layout(path) {
            return Ok(path.to_owned());
        }
        let layout = oci::Layout::open(path)?;
        return Cache::open(cache_dir)?
            .get(path, &layout.digest(), progress, |into, tick| layout.unpack(into, tick));
    }
    if !metadata.is_file() {
        return Err(ImageError::rejected(path, "is neither a directory nor a regular file"));
    }
    match Packing::of_name(path) {
        Some(packing) => archive(&Cache::open(cache_dir)?, path, packing, progress),
        None => Ok(path.to_owned()),
    }
}

impl Packing {
    fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        match () {
            () if name.ends_with(".tar") => Some(Self::Tar),
            () if name.ends_with(".tar.gz") || name.ends_with(".tgz") => Some(Self::TarGzip),
            () => None,
        }
    }

    fn unpacked<'r>(self, reader: impl Read + 'r) -> Box<dyn Read + 'r> {
        match self {
            Self::Tar => Box::new(reader),
            Self::TarGzip => Box::new(MultiGzDecoder::new(reader)),
        }
    }
}

fn archive(
    cache: &Cache,
    path: &Path,
    packing: Packing,
    progress: Progress<'_>,
) -> Result<PathBuf, ImageError> {
    let opened = SystemTime::now();
    let failed = |operation| move |error| ImageError::read(path, operation, error);
    // Non-blocking, so that a FIFO that has come here does not hang the open.
    let mut options = fs::OpenOptions::new();
    let mut file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed("open"))?;
    let stamp = Stamp::of(&file.metadata().map_err(failed("stat"))?);
    let digest = match index::lookup(&cache.index, &stamp) {
        Some(known) => known.digest,
        None => {
            let mut hashing = Hashing::new(&file);
            io::copy(&mut hashing, &mut io::sink()).map_err(failed("read"))?;
            let digest = hashing.digest();
            if file.metadata().is_ok_and(|metadata| Stamp::of(&metadata) == stamp) {
                index::remember(&cache.index, &stamp, &Known { digest, wasi: None }, opened);
            }
            digest
        }
    };
    cache.get(path, &digest, progress, |into, tick| {
        file.rewind().map_err(failed("read"))?;
        let mut hashing = Hashing::new(&file);
        let outer = cache.begin()?;
        let mut unpacker = Unpacker::new(path, Kind::Archive);
        unpacker.unpack(packing.unpacked(Ticking::new(&mut hashing, tick)), &outer.open()?)?;
        io::copy(&mut hashing, &mut io::sink()).map_err(failed("read"))?;
        if hashing.digest() != digest {
            return Err(ImageError::rejected(path, "was changed while it was read; start again"));
        }
        if !oci::is_layout(&outer.path) {
            return into.replace_by(outer);
        }
        let layout = oci::Layout::open(&outer.path).map_err(|error| within(path, &error))?;
        layout.unpack(into, tick).map_err(|error| within(path, &error))
    })
}

/// An error about something in the archive at `path`.
fn within(path: &Path, error: &ImageError) -> ImageError {
    ImageError::rejected(path, format!("holds an OCI image layout that cannot be used: {error}"))
}

/// The directory with unpacked content.
struct Cache {
    volumes: CacheDir,
    index: CacheDir,
}

/// A directory that is being filled. Removed when dropped before it got its name.
struct Unfinished {
    path: PathBuf,
}

impl Cache {
    fn open(cache_dir: &Path) -> Result<Self, ImageError> {
        let root = CacheDir::open(cache_dir)?;
        Ok(Self { volumes: root.subdirectory(DIRECTORY)?, index: root.subdirectory("index")? })
    }

    /// The directory of `digest`, which `fill` makes if it is not there. `path`: what it is made of.
    fn get(
        &self,
        path: &Path,
        digest: &Digest,
        progress: Progress<'_>,
        fill: impl FnOnce(&mut Unfinished, &dyn Fn()) -> Result<(), ImageError>,
    ) -> Result<PathBuf, ImageError> {
        let named = self.volumes.path().join(digest.hex());
        if let Ok(there) = File::open(&named) {
            // Only pruning looks at it: where it cannot be noted the content goes a little early.
            let _ = there.set_modified(SystemTime::now());
            return Ok(named);
        }
        self.prune();
        let begun = Instant::now();
        progress(Event::Unpacking { path });
        let mut unfinished = self.begin()?;
        fill(&mut unfinished, &|| progress(Event::StillUnpacking { elapsed: begun.elapsed() }))?;
        match fs::rename(&unfinished.path, &named) {
            Err(error) if !named.is_dir() => return Err(ImageError::read(&named, "make", error)),
            // Another process was faster.
            Ok(()) | Err(_) => {}
        }
        progress(Event::Unpacked { path, duration: begun.elapsed() });
        Ok(named)
    }

    fn begin(&self) -> Result<Unfinished, ImageError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self.volumes.path().join(format!("{UNFINISHED}{}-{n}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Unfinished { path }),
                // Left behind by an earlier process with this id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ImageError::read(&path, "make", error)),
            }
        }
    }

    /// Removes what no pod has had open for [`cache::MAX_AGE`], and what crashes left behind. Best effort: what stays
    /// takes room until the next time.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(self.volumes.path()) else { return };
        for entry in entries.flatten() {
            let used = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > cache::MAX_AGE));
            // A pod that uses it has a shared lock on it.
            if is_old && File::open(entry.path()).is_ok_and(|directory| directory.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Unfinished {
    fn open(&self) -> Result<Dir, ImageError> {
        let opened = Dir::open_ambient_dir(&self.path, ambient_authority());
        opened.map_err(|error| ImageError::read(&self.path, "open", error))
    }

    /// What was unpacked elsewhere is what this is to be.
    fn replace_by(&mut self, other: Self) -> Result<(), ImageError> {
        fs::rename(&other.path, &self.path).map_err(|error| ImageError::read(&self.path, "make", error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone when it has got its name. What cannot be removed goes when it is old.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests;
