//! Volumes of a pod: from the specification to the directories that its containers open.
//!
//! ```text
//! pod process: Volumes::set_up
//!  prepare ───────────────────────► mount_memory ───────────► refresh ───────────► preopens, for each container
//!  emptyDir made, hostPath checked   tmpfs, in the pod's       files of configMap,  subPath resolved, a directory
//!  and opened                        mount namespace, opened   secret and the like  handle for each mount, single
//!        └──► ownership, with fsGroup ◄──┴─────────────────────────────┘            files put in place
//! ```
//!
//! While containers run, [`Refresh`] is run again by another thread whenever the pod is configured anew.
//!
//! What outlives the pod, [`claims`], the supervisor has found before.
//!
//! Every directory is opened once and only ever reached through that handle, so that nobody who renames or
//! links things on the host meanwhile can send a container elsewhere. Directories made here are in the
//! pod's state directory and go with it.

pub mod claims;
mod error;
mod files;
mod host_path;
mod ownership;
mod preopen;
mod prepare;
mod projected;
pub mod usage;

pub use error::{VolumeError, VolumeErrors};
pub use preopen::{ETC, Preopen};
pub use prepare::{Bound, BoundDirectory, Volumes};
pub use projected::{PayloadError, Refresh};
