//! Ephemeral containers that are added to the running pod.
//!
//! ```text
//! client ─► supervisor: check, image to machine code ─► Request::AddEphemeral + code
//!                                                            └─► pod process: check again, link, add
//! ```
//!
//! The domain type never crosses between the processes: both convert the wire type.

use super::control::Addition;
use crate::spec::convert::{self, Options};
use crate::spec::{Container, Pod};

/// Ephemeral containers of one pod: as many containers as it may have (`MAX_CONTAINERS` of `spec::convert`).
pub(super) const MAX_EPHEMERAL: usize = 100;

/// The container that is added.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(addition: &Addition, pod: &Pod) -> Result<Container, String> {
    let Addition { container, pod: wire, path, .. } = addition;
    let options = Options { manifest_dir: path.clone(), ..Options::default() };
    let (container, _) =
        convert::ephemeral(container, pod, wire, &options).map_err(|invalid| invalid.to_string())?;
    Ok(container)
}
