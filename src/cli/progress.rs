//! Progress of long work before the pod runs: building guests, compiling components. One line for each
//! step that was taken; on a terminal also a spinner while there is no other sign of life.
//!
//! ```text
//! build    cargo has the terminal ─► line, unless there was nothing to do
//! compile  spinner                ─► line in its place
//! ```
//!
//! The spinner is turned by the events themselves: a thread of its own would be a second thread in the
//! zygote.

use std::ffi::OsStr;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::display::Display;
use crate::image::Event;

/// Shows what [`crate::image`] is busy with, for one image.
pub struct Spinner<'a> {
    display: &'a Display,
    bar: ProgressBar,
}

impl<'a> Spinner<'a> {
    /// Hidden until something is compiled, and where standard error is no terminal.
    pub fn new(display: &'a Display) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        Self { display, bar }
    }

    /// Takes in what happens.
    pub fn show(&self, event: Event<'_>) {
        match event {
            Event::InstallingTarget { target } => {
                self.display.begin("install", format_args!("Rust's target {target}, with rustup"));
            }
            Event::InstallingTool { name, version } => {
                self.display.begin("install", format_args!("{name} {version}"));
            }
            // On a terminal cargo shows its own progress.
            Event::Building { .. } | Event::Built { fresh: true, .. } => {}
            Event::Built { path, fresh: false, duration } => {
                self.display.work("build", short_name(path), duration);
            }
            Event::Compiling { path, size } => {
                self.bar.set_message(format!("compile  {} {}", short_name(path), kibibytes(size)));
                self.bar.reset_elapsed();
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                self.bar.tick();
            }
            Event::Unpacking { path } => {
                self.bar.set_message(format!("unpack   {}", short_name(path)));
                self.bar.reset_elapsed();
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                self.bar.tick();
            }
            Event::StillCompiling { .. } | Event::StillUnpacking { .. } => self.bar.tick(),
            Event::Unpacked { path, duration } => {
                self.bar.finish_and_clear();
                self.display.work("unpack", short_name(path), duration);
            }
            Event::Compiled { path, size, duration } => {
                self.bar.finish_and_clear();
                let what = format!("{} {}", short_name(path), kibibytes(size));
                self.display.work("compile", what, duration);
            }
        }
    }
}

impl Drop for Spinner<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The last part of a path: enough to recognise an image by.
fn short_name(path: &Path) -> std::path::Display<'_> {
    Path::new(path.file_name().unwrap_or(OsStr::new(path))).display()
}

fn kibibytes(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_their_last_name() {
        for (path, name) in
            [("/a/web", "web"), ("/a/./web/", "web"), ("/a/t/web.wasm", "web.wasm"), ("/a/..", "/a/..")]
        {
            assert_eq!(short_name(Path::new(path)).to_string(), name);
        }
    }
}
