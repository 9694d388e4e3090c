//! Progress of long work before the pod runs: building guests, compiling components. A spinner on a
//! terminal, nothing in a pipe.
//!
//! The spinner is turned by the events themselves: a thread of its own would be a second thread in the
//! zygote.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::image::Event;

/// Shows what [`crate::image`] is busy with.
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Hidden unless standard error is a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Takes in what happens.
    pub fn show(&self, event: Event<'_>) {
        match event {
            Event::InstallingTarget { target } => {
                self.0.println(format!("installing Rust's target {target} (rustup target add {target})"));
            }
            // cargo shows its own progress.
            Event::Building { path } => self.0.println(format!("building {}", path.display())),
            Event::Built { path, duration } => {
                self.0.println(format!("built {} in {}", path.display(), seconds(duration)));
            }
            Event::Compiling { path, size } => {
                let kib = size.div_ceil(1024);
                self.0.set_message(format!("compiling {} ({kib} KiB) to machine code", path.display()));
                self.0.tick();
            }
            Event::StillCompiling { .. } => self.0.tick(),
            Event::Compiled { path, duration } => {
                self.0.println(format!("compiled {} in {}", path.display(), seconds(duration)));
                self.0.set_message("");
            }
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
