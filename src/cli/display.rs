//! What `peapod run` shows of the pod's life, on standard error: with colour on a terminal, plain in a
//! pipe. Lines have the form of the containers' log lines, under the name `peapod`.

use std::fmt::Display as Show;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::container::log::console::colour_is_wanted;
use crate::pod::control::Event;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Writes the lines.
pub struct Display {
    /// When the pod was accepted.
    begun: Instant,
    colour: bool,
    verbose: bool,
}

impl Display {
    pub fn new(verbose: u8) -> Self {
        Self {
            begun: Instant::now(),
            colour: colour_is_wanted() && std::io::stderr().is_terminal(),
            verbose: verbose > 0,
        }
    }

    /// A step on the way to the running pod, and how long it took.
    pub fn step(&self, name: &str, detail: impl Show, took: Duration) {
        self.line(format_args!("{name:<9}{detail} {}", self.paint(DIM, milliseconds(took))));
    }

    /// The same for work that takes seconds.
    pub fn work(&self, name: &str, detail: impl Show, took: Duration) {
        let took = self.paint(DIM, format_args!("{:.2} s", took.as_secs_f64()));
        self.line(format_args!("{name:<9}{detail} {took}"));
    }

    /// Work that begins and may take minutes.
    pub fn begin(&self, name: &str, detail: impl Show) {
        self.line(format_args!("{name:<9}{detail} {}", self.paint(DIM, "…")));
    }

    /// A step, shown only with -v.
    pub fn detail(&self, name: &str, took: Duration) {
        if self.verbose {
            self.line(self.paint(DIM, format_args!("         {name} {}", milliseconds(took))));
        }
    }

    /// Something of little interest, shown only with -v.
    pub fn aside(&self, text: impl Show) {
        if self.verbose {
            self.line(self.paint(DIM, format_args!("         {text}")));
        }
    }

    /// Where the pod answers, and its ports.
    pub fn address(&self, address: impl Show, ports: &[String]) {
        let ports: String = ports.iter().map(|port| format!("  {port}")).collect();
        self.line(format_args!("{:<9}{}{ports}", "address", self.paint(BOLD, address)));
    }

    pub fn warning(&self, text: impl Show) {
        self.line(format_args!("{}: {text}", self.paint(YELLOW, "warning")));
    }

    pub fn error(&self, text: impl Show) {
        self.line(format_args!("{}: {text}", self.paint(RED, "error")));
    }

    pub fn note(&self, text: impl Show) {
        self.line(text);
    }

    /// Something that the pod process reports.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Phase { phase, reason } => {
                let colour = match phase.as_str() {
                    "Running" | "Succeeded" => GREEN,
                    "Failed" => RED,
                    _ => DIM,
                };
                let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                let after = self.paint(DIM, format_args!("after {}", milliseconds(self.begun.elapsed())));
                self.line(format_args!("{:<9}{}{reason} {after}", "phase", self.paint(colour, phase)));
            }
            Event::Started { container, restarts, took } => {
                let again = if *restarts > 0 { format!(" (restart {restarts})") } else { String::new() };
                self.line(format_args!(
                    "{:<9}{container}{again} {}",
                    "started",
                    self.paint(DIM, milliseconds(*took))
                ));
            }
            Event::Ended { container, code, reason, message } => {
                let colour = if *code == 0 { GREEN } else { RED };
                let message = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
                let what = format!("{reason}, exit code {code}");
                self.line(format_args!("{:<9}{container} {}{message}", "ended", self.paint(colour, what)));
            }
            Event::BackOff { container, delay } => {
                let delay = delay.as_secs_f64();
                self.line(format_args!("{:<9}{container} starts again in {delay:.0} s", "back-off"));
            }
            Event::OutputClosed { error } => {
                self.warning(format!("the containers' output cannot be written any more: {error}"));
            }
            Event::Warning(text) => self.warning(text),
        }
    }

    fn paint(&self, style: &str, text: impl Show) -> String {
        if self.colour { format!("{style}{text}{RESET}") } else { text.to_string() }
    }

    fn line(&self, text: impl Show) {
        let line = format!("{} {text}\n", self.paint(BOLD, "peapod │"));
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Milliseconds, or seconds from one on.
fn milliseconds(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    }
}
