//! What a recipe makes of a directory, and whether that is still what it would make.
//!
//! ```text
//! sources, tool, options ─► digest ─┬─ the output's inputs file says the same ─► fresh
//!                                   └─ make ─► output ─► inputs file
//! ```
//!
//! For tools that know nothing of freshness; cargo does. Everything lies in `target` below the source, so
//! that a second project, checkout or copy has its own, and removing that directory is a clean build.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{Digest, ImageError};
use super::tools::lock;
use super::{Built, build_error};

/// Files of source in one directory tree; more is somebody's home directory rather than a program.
const MAX_FILES: usize = 10_000;

/// Directories in directories that are searched for source.
const MAX_DEPTH: usize = 16;

/// The directory below the source that holds what was built.
const TARGET: &str = "target";

/// The files of a directory tree with one of these extensions, in order. `target` and hidden directories
/// are left out.
pub(super) fn sources(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, ImageError> {
    let mut files = Vec::new();
    collect(directory, extensions, MAX_DEPTH, &mut files).map_err(|error| match error {
        Walk::TooMuch => build_error(
            directory,
            format!("has more than {MAX_FILES} files of source, or more than {MAX_DEPTH} directories deep"),
        ),
        Walk::Io(path, error) => build_error(directory, format!("cannot read {}: {error}", path.display())),
    })?;
    files.sort();
    Ok(files)
}

enum Walk {
    TooMuch,
    Io(PathBuf, io::Error),
}

fn collect(
    directory: &Path,
    extensions: &[&str],
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), Walk> {
    let at = |error| Walk::Io(directory.to_owned(), error);
    for entry in fs::read_dir(directory).map_err(at)? {
        let entry = entry.map_err(at)?;
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if entry.file_type().map_err(at)?.is_dir() {
            if !hidden && name != TARGET && name != "__pycache__" && name != "node_modules" {
                collect(&path, extensions, depth.checked_sub(1).ok_or(Walk::TooMuch)?, files)?;
            }
        } else if path.extension().and_then(OsStr::to_str).is_some_and(|found| extensions.contains(&found)) {
            if files.len() == MAX_FILES {
                return Err(Walk::TooMuch);
            }
            files.push(path);
        }
    }
    Ok(())
}

/// Makes `<directory>/target/<name of the directory>.wasm` with `make`, unless it is there already and was
/// made of the same: of `sources` with the same content and of what `with` says, tools and options. `make`
/// gets an empty directory to work in and the path of the file to write.
pub(super) fn make(
    directory: &Path,
    sources: &[PathBuf],
    with: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(), ImageError>,
) -> Result<Built, ImageError> {
    let failed = |path: &Path, operation, error: io::Error| {
        build_error(directory, format!("cannot {operation} {}: {error}", path.display()))
    };
    let target = directory.join(TARGET);
    fs::create_dir_all(&target).map_err(|error| failed(&target, "create", error))?;
    let file = target.join(file_name(directory));
    let lock_file = file.with_added_extension("lock");
    // A second build of the same directory waits here and then finds everything done.
    let _lock = lock(&lock_file).map_err(|error| failed(&lock_file, "lock", error))?;

    let inputs = inputs(directory, sources, with)?;
    let inputs_file = file.with_added_extension("inputs");
    if file.is_file() && fs::read_to_string(&inputs_file).is_ok_and(|known| known == inputs) {
        return Ok(Built { file, fresh: true });
    }
    let work = file.with_added_extension("work");
    match fs::remove_dir_all(&work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&work, "remove", error));
        }
        _ => fs::create_dir(&work).map_err(|error| failed(&work, "create", error))?,
    }
    let made = work.join("made.wasm");
    let result = make(&work, &made).and_then(|()| {
        // The inputs last: without them the next build makes everything anew.
        let _ = fs::remove_file(&inputs_file);
        fs::rename(&made, &file).map_err(|error| failed(&made, "rename", error))?;
        fs::write(&inputs_file, &inputs).map_err(|error| failed(&inputs_file, "write", error))
    });
    let _ = fs::remove_dir_all(&work);
    result.map(|()| Built { file, fresh: false })
}

fn file_name(directory: &Path) -> OsString {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let mut name = directory.file_name().unwrap_or(OsStr::new("guest")).to_owned();
    name.push(".wasm");
    name
}

/// One line for the tools, one for each file: its digest and its path.
fn inputs(directory: &Path, sources: &[PathBuf], with: &str) -> Result<String, ImageError> {
    let mut lines = format!("{with}\n");
    for path in sources {
        let content = fs::read(path)
            .map_err(|error| build_error(directory, format!("cannot read {}: {error}", path.display())))?;
        let name = path.strip_prefix(directory).unwrap_or(path);
        lines.push_str(&format!("{} {}\n", Digest::of(&content), name.display()));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn names(files: &[PathBuf], below: &Path) -> Vec<String> {
        files.iter().map(|path| path.strip_prefix(below).unwrap().display().to_string()).collect()
    }

    #[test]
    fn sources_are_found_in_order_and_built_things_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.c", "a.h", "sub/c.c", "target/old.c", ".git/x.c", "__pycache__/y.c", "readme.md"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = sources(dir.path(), &["c", "h"]).unwrap();
        assert_eq!(names(&found, dir.path()), ["a.h", "b.c", "sub/c.c"]);
    }

    #[test]
    fn an_output_is_made_once_for_the_same_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a.c");
        fs::write(&source, "one").unwrap();
        let made = Cell::new(0);
        let build = |with: &str| {
            let sources = [source.clone()];
            make(dir.path(), &sources, with, |work, file| {
                made.set(made.get() + 1);
                assert_eq!(fs::read_dir(work).unwrap().count(), 0);
                fs::write(file, "wasm").unwrap();
                Ok(())
            })
            .unwrap()
        };
        let first = build("cc 1");
        assert!(!first.fresh && first.file.starts_with(dir.path().join("target")));
        assert!(build("cc 1").fresh);
        assert!(!build("cc 2").fresh, "another compiler");
        fs::write(&source, "two").unwrap();
        assert!(!build("cc 2").fresh, "another source");
        fs::remove_file(&first.file).unwrap();
        assert!(!build("cc 2").fresh, "the output is gone");
        assert_eq!(made.get(), 4);
    }

    #[test]
    fn a_build_that_failed_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let fails = || make(dir.path(), &[], "cc", |_, _| Err(build_error(dir.path(), "no"))).is_err();
        assert!(fails() && fails());
        let works = |_: &_, file: &Path| {
            fs::write(file, "").unwrap();
            Ok(())
        };
        assert!(!make(dir.path(), &[], "cc", works).unwrap().fresh);
    }
}
