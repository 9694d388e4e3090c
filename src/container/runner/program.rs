//! Images, linked against the interfaces that peapod offers.

use std::path::{Path, PathBuf};

use wasmtime::component::{InstancePre, Linker};
use wasmtime_wasi::{p2, p3};

use super::Host;
use crate::engine::imports::{self, ImportsError};
use crate::engine::{CommandVersion, Each, Engine, Engines, WorldError};
use crate::image::Image;
use crate::wasi;

/// Why an image cannot be a container of a pod.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The component is not a command.
    #[error("{}: {error}", .path.display())]
    World {
        /// The image's file.
        path: PathBuf,
        /// What it is instead.
        error: WorldError,
    },
    /// The component needs interfaces that peapod does not offer.
    #[error("{}: {error}", .path.display())]
    Imports {
        /// The image's file.
        path: PathBuf,
        /// The interfaces.
        error: ImportsError,
    },
    /// The component's imports or exports have other types than WASI's.
    #[error("{}: does not fit WASI: {error:#}", .path.display())]
    Types {
        /// The image's file.
        path: PathBuf,
        /// What wasmtime says.
        error: wasmtime::Error,
    },
    /// The WASI hosts do not fit the engine: peapod's own fault.
    #[error("cannot set up the WASI hosts: {0:#}")]
    Hosts(wasmtime::Error),
}

/// The interfaces that a guest can import, to link images against: those of an engine are made for its first image,
/// as a rule in the zygote.
pub struct Hosts {
    engines: Engines,
    linkers: Each<Linker<Host>>,
}

impl Hosts {
    /// For the images of these engines.
    pub fn new(engines: &Engines) -> Self {
        Self { engines: engines.clone(), linkers: Each::default() }
    }

    /// The engines that they are for.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Links an image: resolves its imports and checks that it is a command.
    ///
    /// # Errors
    /// The image's world does not run here, or it imports what peapod does not offer.
    pub fn link(&self, image: &Image) -> Result<Program, LinkError> {
        let path = || image.path.clone();
        let types = |error| LinkError::Types { path: path(), error };
        let version = image.world.command().map_err(|error| LinkError::World { path: path(), error })?;
        let linker = self.linkers.get_or_try(image.engine.version(), || linker(&image.engine))?;
        imports::check(linker, &image.component)
            .map_err(|error| LinkError::Imports { path: path(), error })?;
        let pre = linker.instantiate_pre(&image.component).map_err(types)?;
        let entry = match version {
            CommandVersion::V02 => p2::bindings::CommandPre::new(pre).map(Entry::Command02),
            CommandVersion::V03 => p3::bindings::CommandPre::new(pre).map(Entry::Command03),
        };
        Ok(Program {
            engine: image.engine.clone(),
            entry: entry.map_err(types)?,
            name: file_name(&image.path),
            digest: image.digest.to_string(),
        })
    }
}

fn linker(engine: &Engine) -> Result<Linker<Host>, LinkError> {
    let mut linker = Linker::new(engine.wasmtime());
    wasi::add_to_linker(&mut linker, engine.version()).map_err(LinkError::Hosts)?;
    Ok(linker)
}

/// A linked image: what every start of a container instantiates.
#[derive(Clone)]
pub struct Program {
    pub(super) engine: Engine,
    pub(super) entry: Entry,
    name: String,
    digest: String,
}

#[derive(Clone)]
pub(super) enum Entry {
    Command02(p2::bindings::CommandPre<Host>),
    Command03(p3::bindings::CommandPre<Host>),
}

impl Program {
    /// The image's file name: `argv[0]` where the manifest has no `command`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is made into instances, whatever its entry point.
    pub(super) fn instance_pre(&self) -> &InstancePre<Host> {
        match &self.entry {
            Entry::Command02(pre) => pre.instance_pre(),
            Entry::Command03(pre) => pre.instance_pre(),
        }
    }

    /// The image's digest: `imageID` in the status.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "main".into(), |name| name.to_string_lossy().into_owned())
}
