//! `hostPath`: what has to be at a path of the host, or is created there.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::VolumeError;
use crate::spec::HostPathType;

/// Permissions of a directory that `DirectoryOrCreate` makes.
const DIRECTORY_MODE: u32 = 0o755;
/// Permissions of a file that `FileOrCreate` makes.
const FILE_MODE: u32 = 0o644;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    /// Or anything else that is not a directory.
    File,
}

/// Checks what is at `path` against `kind`, and creates it where `kind` says so
/// (<https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>).
///
/// Unlike containerd, a path of no type that is not there is an error: a directory made for a misspelt
/// path would hide the mistake.
pub(super) fn check_or_create(volume: &str, path: &Path, kind: HostPathType) -> Result<Found, VolumeError> {
    let io = |operation| {
        move |source| VolumeError::Io { volume: volume.to_owned(), operation, path: path.to_owned(), source }
    };
    let found = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Directory,
        Ok(_) => Found::File,
        Err(e) if e.kind() == io::ErrorKind::NotFound => match kind {
            HostPathType::DirectoryOrCreate => {
                create_directory(path).map_err(io("create directory"))?;
                Found::Directory
            }
            HostPathType::FileOrCreate => {
                create_file(path).map_err(io("create file"))?;
                Found::File
            }
            _ => {
                return Err(VolumeError::Missing { volume: volume.to_owned(), path: path.to_owned() });
            }
        },
        Err(source) => return Err(io("read")(source)),
    };
    let expected = match (kind, found) {
        (HostPathType::Directory | HostPathType::DirectoryOrCreate, Found::File) => "directory",
        (HostPathType::File | HostPathType::FileOrCreate, Found::Directory) => "file",
        _ => return Ok(found),
    };
    Err(VolumeError::WrongType { volume: volume.to_owned(), path: path.to_owned(), expected })
}

/// With its parents. Only the directory itself gets its exact mode; the parents are subject to the umask.
fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
}

/// Without its parents, as in Kubernetes.
fn create_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn creates_what_it_is_told_to_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (made_dir, made_file) = (dir.path().join("a/b"), dir.path().join("f"));
        for _ in 0..2 {
            let found = check_or_create("v", &made_dir, HostPathType::DirectoryOrCreate).unwrap();
            assert_eq!((found, mode(&made_dir)), (Found::Directory, 0o755));
            let found = check_or_create("v", &made_file, HostPathType::FileOrCreate).unwrap();
            assert_eq!((found, mode(&made_file)), (Found::File, 0o644));
        }
    }

    #[test]
    fn an_existing_directory_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        check_or_create("v", dir.path(), HostPathType::DirectoryOrCreate).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn what_is_missing_or_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let missing = dir.path().join("missing");
        let says = |path: &Path, kind| check_or_create("data", path, kind).unwrap_err().to_string();
        for kind in [HostPathType::Any, HostPathType::Directory, HostPathType::File] {
            let text = says(&missing, kind);
            assert!(text.contains("\"data\"") && text.contains("missing does not exist"), "{text}");
        }
        assert!(says(&file, HostPathType::Directory).contains("is not a directory"));
        assert!(says(&file, HostPathType::DirectoryOrCreate).contains("is not a directory"));
        assert!(says(dir.path(), HostPathType::File).contains("is not a file"));
        assert!(says(&missing.join("f"), HostPathType::FileOrCreate).contains("cannot create file"));
        assert!(says(&file.join("x"), HostPathType::Any).contains("cannot read"));
    }
}
