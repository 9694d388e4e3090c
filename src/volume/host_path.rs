//! `hostPath`: what has to be at a path of the host, or is created there.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
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
    let wrong = |advice| VolumeError::WrongType {
        volume: volume.to_owned(),
        path: path.to_owned(),
        expected: kubelet_word(kind),
        advice,
    };
    let found = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return match kind {
                HostPathType::DirectoryOrCreate => {
                    create_directory(path).map_err(io("create directory")).map(|()| Found::Directory)
                }
                HostPathType::FileOrCreate => {
                    create_file(path).map_err(io("create file")).map(|()| Found::File)
                }
                HostPathType::Any => {
                    Err(VolumeError::Missing { volume: volume.to_owned(), path: path.to_owned() })
                }
                HostPathType::Directory => {
                    Err(wrong("it does not exist; create it, or set type: DirectoryOrCreate"))
                }
                HostPathType::File => Err(wrong("it does not exist; create it, or set type: FileOrCreate")),
                HostPathType::Socket => Err(wrong("it does not exist; start what listens on it first")),
                HostPathType::CharDevice | HostPathType::BlockDevice => {
                    Err(wrong("it does not exist; check the path, and that the device is there"))
                }
            };
        }
        Err(source) => return Err(io("read")(source)),
    };
    // As the kubelet sees it, a socket or a device is a file.
    let fits = match kind {
        HostPathType::Any => true,
        HostPathType::Directory | HostPathType::DirectoryOrCreate => found.is_dir(),
        HostPathType::File | HostPathType::FileOrCreate => !found.is_dir(),
        HostPathType::Socket => found.is_socket(),
        HostPathType::CharDevice => found.is_char_device(),
        HostPathType::BlockDevice => found.is_block_device(),
    };
    match fits {
        true if found.is_dir() => Ok(Found::Directory),
        true => Ok(Found::File),
        false => Err(wrong(match () {
            () if found.is_dir() => "a directory is there; set type: Directory, or correct the path",
            () if found.is_socket() => "a socket is there; set type: Socket, or correct the path",
            () if found.is_char_device() => {
                "a character device is there; set type: CharDevice, or correct the path"
            }
            () if found.is_block_device() => {
                "a block device is there; set type: BlockDevice, or correct the path"
            }
            () => "a file is there; set type: File, or correct the path",
        })),
    }
}

/// What the kubelet calls what `kind` asks for.
fn kubelet_word(kind: HostPathType) -> &'static str {
    match kind {
        HostPathType::Directory | HostPathType::DirectoryOrCreate => "directory",
        HostPathType::Any | HostPathType::File | HostPathType::FileOrCreate => "file",
        HostPathType::Socket => "socket file",
        HostPathType::CharDevice => "character device",
        HostPathType::BlockDevice => "block device",
    }
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
        let text = says(&missing, HostPathType::Any);
        assert!(text.contains("\"data\"") && text.contains("missing does not exist"), "{text}");
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, kind, wanted, there) in [
            (&missing, HostPathType::Directory, "directory", "DirectoryOrCreate"),
            (&missing, HostPathType::File, "file", "FileOrCreate"),
            (&missing, HostPathType::Socket, "socket file", "start what listens"),
            (&missing, HostPathType::BlockDevice, "block device", "does not exist"),
            (&file, HostPathType::Directory, "directory", "a file is there"),
            (&file, HostPathType::DirectoryOrCreate, "directory", "a file is there"),
            (&file, HostPathType::Socket, "socket file", "set type: File"),
            (&file, HostPathType::CharDevice, "character device", "a file is there"),
            (&socket, HostPathType::BlockDevice, "block device", "set type: Socket"),
            (&"/dev/null".into(), HostPathType::BlockDevice, "block device", "set type: CharDevice"),
            (&dir.path().to_owned(), HostPathType::File, "file", "a directory is there"),
        ] {
            let text = says(path, kind);
            let check = format!("hostPath type check failed: {} is not a {wanted}: ", path.display());
            assert!(text.contains(&check) && text.contains(there), "{text}");
        }
        let found = |path: &Path, kind| check_or_create("data", path, kind).unwrap();
        assert_eq!(found(&socket, HostPathType::Socket), Found::File);
        assert_eq!(found(&socket, HostPathType::File), Found::File);
        assert_eq!(found(Path::new("/dev/null"), HostPathType::CharDevice), Found::File);
        assert!(says(&missing.join("f"), HostPathType::FileOrCreate).contains("cannot create file"));
        assert!(says(&file.join("x"), HostPathType::Any).contains("cannot read"));
    }
}
