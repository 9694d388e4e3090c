//! Progress of long work before the pod runs: building guests, compiling components. Spinners on a
//! terminal, nothing in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::image::Progress;

/// How often a spinner turns. Its thread lives only while the work does.
const SPIN: Duration = Duration::from_millis(100);

/// Shows what [`crate::image`] is busy with.
pub struct Spinner {
    terminal: bool,
}

impl Spinner {
    pub fn new() -> Self {
        Self { terminal: std::io::IsTerminal::is_terminal(&std::io::stderr()) }
    }
}
