//! Images of this machine, and their machine code.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use wasmtime::component::Component;

use super::cache::{self, CacheDir, CacheError};
use super::index::{self, Known, Stamp};
use super::source::{self, Kind, MAX_SOURCE_BYTES};
use super::{CacheUse, Digest, Image, ImageError, Progress, Reference, compile};
use crate::engine::{Each, Engine, Engines, WasiVersion, World, code};

/// Names what is made of a file besides its bytes and wasmtime: the wrapping of core modules, the cache's
/// own layout. To be counted up when one of them changes.
const FORMAT: u32 = 1;

/// Components that a store keeps at hand for containers with the same image. A node has some hundred
/// images at most; beyond that they are mapped again.
const MAX_LOADED: usize = 256;

/// Loads images, compiling each content once per machine.
pub struct Store {
    engines: Engines,
    code: CacheDir,
    index: CacheDir,
    /// The part of a code file's name that stands for each engine.
    keys: Each<String>,
    loaded: Mutex<HashMap<Digest, Component>>,
}

impl Store {
    /// Opens, and where necessary creates, the cache at `cache_dir`. Once a day this also removes old code.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made, or is not safe to run code from.
    pub fn open(cache_dir: &Path, engines: &Engines) -> Result<Self, CacheError> {
        let root = CacheDir::open(cache_dir)?;
        let (code, index) = (root.subdirectory("code")?, root.subdirectory("index")?);
        if root.prune_is_due() {
            code.prune(cache::MAX_BYTES);
            index.prune(index::MAX_BYTES);
        }
        Ok(Self { engines: engines.clone(), code, index, keys: Each::default(), loaded: Mutex::default() })
    }

    /// Loads an image that a container can run; see [`super`] for the way.
    ///
    /// # Errors
    ///
    /// Names the file, what is wrong with it and how to mend it.
    pub fn load(&self, reference: &Reference) -> Result<Image, ImageError> {
        self.load_with(reference, &|_| {})
    }

    /// [`Store::load`] for those who want to know what takes so long.
    ///
    /// # Errors
    ///
    /// As [`Store::load`].
    pub fn load_with(&self, reference: &Reference, progress: Progress<'_>) -> Result<Image, ImageError> {
        let source = Source::open(reference.path())?;
        self.load_source(source, progress)
    }

    /// Loads an image from its open file, which messages call `name`.
    ///
    /// # Errors
    ///
    /// As [`Store::load`].
    pub fn load_file(&self, name: &Path, file: File) -> Result<Image, ImageError> {
        let source = Source::of(name, file, SystemTime::now())?;
        self.load_source(source, &|_| {})
    }

    /// The machine code of an image that was loaded before.
    pub fn code(&self, image: &Image) -> Option<OwnedFd> {
        self.code.open_trusted(&self.code_name(&image.engine, &image.digest)).map(Into::into)
    }

    fn load_source(&self, mut source: Source, progress: Progress<'_>) -> Result<Image, ImageError> {
        let path = source.path.clone();
        let path = path.as_path();
        if let Some(Known { digest, wasi: Some(version) }) = index::lookup(&self.index, &source.stamp) {
            let engine = self.engines.get(version)?;
            if let Some(component) = self.cached(engine, &digest) {
                return self.image(engine, path, digest, component, CacheUse::Hit);
            }
        }
        let bytes = source.read()?;
        let kind = source::kind(&bytes).map_err(|reason| ImageError::rejected(path, reason))?;
        let version = match kind {
            // The adapter that it is wrapped with is written for it.
            Kind::CoreModule => WasiVersion::V02,
            Kind::Component => WasiVersion::of(&bytes),
        };
        let digest = Digest::of(&bytes);
        source.remember(&self.index, &Known { digest, wasi: Some(version) });
        let engine = self.engines.get(version)?;
        if let Some(component) = self.cached(engine, &digest) {
            return self.image(engine, path, digest, component, CacheUse::Hit);
        }
        let unfinished = self.code.begin()?;
        compile::compile(engine, path, &bytes, kind, unfinished.file(), progress)?;
        unfinished.publish(&self.code_name(engine, &digest))?;
        let component = self.cached(engine, &digest).ok_or_else(|| ImageError::Compiler {
            path: path.to_owned(),
            reason: format!("made code that cannot be mapped again from {}", self.code.path().display()),
        })?;
        self.image(engine, path, digest, component, CacheUse::Compiled)
    }

    /// The component for `digest`, if its code is in the cache and sound.
    fn cached(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = loaded.get(digest) {
            return Some(component.clone());
        }
        let code = self.code.open_code(&self.code_name(engine, digest))?;
        // Cut off or of another engine: as good as absent, it will be made anew.
        let component = code::map(engine, &code).ok()?;
        if loaded.len() >= MAX_LOADED {
            loaded.clear();
        }
        loaded.insert(*digest, component.clone());
        Some(component)
    }

    fn code_name(&self, engine: &Engine, digest: &Digest) -> String {
        let key = || engine.code_key((env!("CARGO_PKG_VERSION"), FORMAT));
        let key = self.keys.get_or_make(engine.version(), key);
        format!("{}-{key}.cwasm", digest.hex())
    }

    fn image(
        &self,
        engine: &Engine,
        path: &Path,
        digest: Digest,
        component: Component,
        cache: CacheUse,
    ) -> Result<Image, ImageError> {
        let world = World::of(engine, &component);
        match world.command() {
            Ok(_) => {
                Ok(Image { engine: engine.clone(), component, digest, world, path: path.to_owned(), cache })
            }
            Err(error) => Err(ImageError::World { path: path.to_owned(), error }),
        }
    }
}

/// The file that an image names, opened.
struct Source {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    opened: SystemTime,
}

impl Source {
    fn open(path: &Path) -> Result<Self, ImageError> {
        let opened = SystemTime::now();
        // Non-blocking, so that a FIFO does not hang the open; without meaning for a regular file.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|error| ImageError::read(path, "open", error))?;
        Self::of(path, file, opened)
    }

    fn of(path: &Path, file: File, opened: SystemTime) -> Result<Self, ImageError> {
        let metadata = file.metadata().map_err(|error| ImageError::read(path, "stat", error))?;
        if metadata.is_dir() {
            return Err(ImageError::NeedsBuild(path.to_owned()));
        }
        if !metadata.is_file() {
            return Err(ImageError::rejected(path, "is not a regular file; name a .wasm file"));
        }
        if metadata.len() > MAX_SOURCE_BYTES {
            return Err(too_large(path));
        }
        Ok(Self { path: path.to_owned(), file, stamp: Stamp::of(&metadata), opened })
    }

    fn read(&mut self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        // A file that grows while it is read is no larger for it.
        let read = (&mut self.file).take(MAX_SOURCE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| ImageError::read(&self.path, "read", error))?;
        if bytes.len() as u64 > MAX_SOURCE_BYTES {
            return Err(too_large(&self.path));
        }
        Ok(bytes)
    }

    /// Enters what is known of it into the index, unless the file was changed while it was read.
    fn remember(&self, index: &CacheDir, known: &Known) {
        let unchanged = self.file.metadata().is_ok_and(|metadata| Stamp::of(&metadata) == self.stamp);
        if unchanged {
            index::remember(index, &self.stamp, known, self.opened);
        }
    }
}

fn too_large(path: &Path) -> ImageError {
    ImageError::rejected(
        path,
        format!("is larger than {} MiB, the most that an image can have", MAX_SOURCE_BYTES >> 20),
    )
}

#[cfg(test)]
mod tests;
