//! What can be wrong with an operation.

use std::io;

/// Result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Nothing of it has happened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No bucket can have this name.
    #[error(
        "no name of a bucket: 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first and last"
    )]
    NoSuchStore,
    /// A key, a value or a batch is beyond its bound.
    #[error("{what}: {found}, at most {most}")]
    TooLarge {
        /// What it is, with its unit.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// How large it may be.
        most: usize,
    },
    /// Something else than a number is to be incremented.
    #[error("the value of {key:?} is no number: decimal digits of a 64-bit integer")]
    NoNumber {
        /// The key.
        key: String,
    },
    /// An increment leads out of the numbers.
    #[error("the value of {key:?} would be beyond 64 bits")]
    Overflow {
        /// The key.
        key: String,
    },
    /// Another process, or another volume of this pod that leads to the same directory, has the file open.
    #[error(
        "{file} is in use: another pod has it open, and one pod at a time can; try again when that pod has ended, \
         or give each pod a volume of its own"
    )]
    InUse {
        /// The file, and the volume that it is in.
        file: String,
    },
    /// The file is no store, or it is damaged.
    #[error(
        "{file} is no key-value store, or damaged ({why}): it is left as it is; move it away to begin anew"
    )]
    Damaged {
        /// The file, and the volume that it is in.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused.
    #[error("cannot use {file}: {source}")]
    Io {
        /// The file, and the volume that it is in.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
    /// peapod's own fault, or the pod ends.
    #[error("the operation was given up: {0}")]
    GivenUp(String),
}

impl Error {
    /// Whether the file has to be opened anew before anything else is done with it.
    pub(super) fn ends_use(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Io { .. })
    }

    /// What redb says of `file`.
    pub(super) fn of(file: &str, error: redb::Error) -> Self {
        let file = file.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse { file },
            redb::Error::Io(source) => Self::from_io(file, source),
            redb::Error::PreviousIo => Self::from_io(file, io::Error::other("it failed before")),
            other => Self::Damaged { file, why: other.to_string() },
        }
    }

    /// Bytes that are missing or make no sense are damage, whatever kind of error they are.
    fn from_io(file: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged { file, why: source.to_string() }
            }
            _ => Self::Io { file, source },
        }
    }
}
