//! What the containers of a pod say: from their output streams to log files and the console.
//!
//! ```text
//!            bounded buffer           logger thread                      0.log (CRI lines)
//! LogStream ────────────────► per (container, stream) line splitter ──┬► rotated at 10 MiB, 5 files
//!  write()   poll_ready()                                             └► console thread ► fd 1, fd 2
//!            is the back-pressure                       per-container backlog is bounded
//! ```
//!
//! Never lost: a full buffer makes its writer wait, it never drops. Never blocking another container:
//! each (container, stream) has a buffer of its own, only its own writer waits for it, and a console that
//! does not read stops neither the files nor a container that has nothing to say. What the disk refuses is
//! counted and reported once; the containers go on.
//!
//! - [`splitter`] cuts bytes into lines and [`cri`] writes one; both are pure.
//! - [`stream`] is the buffer between a container and the thread; `tail` keeps the last of what goes through it.
//! - [`file`](mod@file) is one container's log file with its rotation, [`console`] the terminal or pipe.
//! - [`logger`] is the thread that owns them all.

pub mod console;
pub mod cri;
pub mod file;
pub mod logger;
pub mod splitter;
pub mod stream;
mod tail;

pub use console::Console;
pub use logger::{ContainerLog, LogConfig, LogEvent, Logger};
pub use stream::LogStream;
pub use tail::LogTail;
