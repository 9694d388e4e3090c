//! What `command[0]` means.
//!
//! ```text
//! a path: begins with / or ./ or ../ ─► a file on a mount ─► else: ends in the image's name ─► the image
//! a name: the image's, with or without .wasm ─► the image ─► else: an export ─► else: a file in workingDir
//! ```
//!
//! A path never means an export and a name that the image has never means a file, so that what a volume holds
//! cannot change what a command without a path does.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::{CannotRun, EXIT_CANNOT_RUN, EXIT_NOT_FOUND, Target};
use crate::container::runner::{Call, ExportError, Program};

/// Mounts that are peapod's, where no command is looked for by people: the working directory under another name, names
/// and addresses, and the termination message.
const OWN_MOUNTS: [&str; 3] = [".", "/etc", "/dev"];

/// What is run, and how.
pub(super) struct Resolved {
    pub program: Program,
    pub call: Call,
}

impl Target {
    pub(super) async fn resolve(&self, command: &[String]) -> Result<Resolved, CannotRun> {
        let Some(name) = command.first().filter(|name| !name.is_empty()) else {
            return Err(CannotRun::new(EXIT_NOT_FOUND, "no command was given"));
        };
        if is_path(name) {
            return match self.open(name) {
                Ok(file) => self.component(name, file).await,
                Err(error) if is_absent(&error) && self.is_image(name.rsplit('/').next()) => Ok(self.main()),
                Err(error) => Err(self.cannot_open(name, &error)),
            };
        }
        if self.is_image(Some(name)) {
            return Ok(self.main());
        }
        match self.0.parts.program.export(command) {
            Ok(export) => {
                return Ok(Resolved { program: self.0.parts.program.clone(), call: Call::Export(export) });
            }
            Err(ExportError::Missing) => {}
            Err(error) => return Err(CannotRun::new(EXIT_CANNOT_RUN, error.to_string())),
        }
        match self.open(name) {
            Ok(file) => self.component(name, file).await,
            Err(error) => Err(self.cannot_open(name, &error)),
        }
    }

    fn is_image(&self, name: Option<&str>) -> bool {
        let image = self.0.parts.program.name();
        name.is_some_and(|name| name == image || image.strip_suffix(".wasm") == Some(name))
    }

    /// A file of the container: on one of its mounts, which no symlink leads out of.
    fn open(&self, name: &str) -> io::Result<File> {
        let path =
            normalized(&Path::new(self.0.parts.setup.working_dir.as_deref().unwrap_or("/")).join(name));
        let preopens = self.0.parts.setup.preopens.iter();
        let below =
            preopens.filter_map(|preopen| Some((preopen, path.strip_prefix(&preopen.guest_path).ok()?)));
        let (preopen, rest) =
            below.max_by_key(|(preopen, _)| preopen.guest_path.len()).ok_or(ErrorKind::NotFound)?;
        // The mount itself has no name below it.
        let file = preopen.open(if rest.as_os_str().is_empty() { Path::new(".") } else { rest })?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is not a regular file")) }
    }

    async fn component(&self, name: &str, file: File) -> Result<Resolved, CannotRun> {
        let program = self.0.parts.components.program(name, file).await?;
        Ok(Resolved { program, call: Call::Main })
    }

    fn cannot_open(&self, name: &str, error: &io::Error) -> CannotRun {
        let container = &self.0.container;
        if !is_absent(error) {
            return CannotRun::new(EXIT_CANNOT_RUN, format!("{name:?} in container {container}: {error}"));
        }
        let mut there = vec![format!("{} (the image)", self.0.parts.program.name())];
        there.extend(self.0.parts.program.exports().into_iter().map(|name| format!("{name} (an export)")));
        let mounts: Vec<_> =
            self.0.parts.setup.preopens.iter().map(|preopen| preopen.guest_path.as_str()).collect();
        let mounts: Vec<_> = mounts.into_iter().filter(|path| !OWN_MOUNTS.contains(path)).collect();
        there.push(match mounts.is_empty() {
            true => "a component on a mount, but nothing is mounted".to_owned(),
            false => format!("the path of a component on a mount ({})", mounts.join(", ")),
        });
        CannotRun::new(
            EXIT_NOT_FOUND,
            format!("{name:?}: not found in container {container}; there is {}", there.join("; ")),
        )
    }
}

/// Without `.` and `..`: which mount a path is on is decided by its words, as a guest's own paths are. Below the mount
/// there is nothing left to climb.
fn normalized(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
        path
    })
}

fn is_path(name: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| name.starts_with(start))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
