//! What the pod process has to tell its supervisor, until it is told.
//!
//! ```text
//! worker ─► event: in order, bounded ──┐
//!        └► status: the latest only ───┴─► flush ─► control socket
//! ```

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::PodStatus;
use tokio::net::unix::OwnedWriteHalf;

use super::control::{self, PodTimeline, Report};

/// Events that wait for a supervisor that does not read; the oldest are dropped beyond it.
const EVENT_QUEUE: usize = 1024;

/// How long the end of the pod waits for a supervisor that does not read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the supervisor is told: events in order, and the latest status. A supervisor that does not read
/// (it may be suspended) never holds the pod up; one that is gone is noticed by [`control::Receiver::next`].
pub(super) struct Reports {
    stream: OwnedWriteHalf,
    events: VecDeque<Line>,
    status: Option<Box<PodStatus>>,
    /// The line being written, and how much of it was.
    line: Line,
    written: usize,
}

/// An encoded message and what it carries.
#[derive(Default)]
struct Line {
    text: Vec<u8>,
    carried: Vec<OwnedFd>,
    /// Somebody waits for it.
    awaited: bool,
}

impl Line {
    fn of(report: &Report) -> Self {
        Self { text: control::encode(report), ..Self::default() }
    }
}

impl Reports {
    pub(super) fn new(stream: OwnedWriteHalf) -> Self {
        Self { stream, events: VecDeque::new(), status: None, line: Line::default(), written: 0 }
    }

    pub(super) fn event(&mut self, event: control::Event) {
        self.push(&Report::Event(event));
    }

    fn push(&mut self, report: &Report) {
        if self.events.len() >= EVENT_QUEUE
            && let Some(oldest) = self.events.iter().position(|line| !line.awaited)
        {
            self.events.remove(oldest);
        }
        self.events.push_back(Line::of(report));
    }

    /// A message that somebody waits for: never dropped. How many there can be is for the caller to bound.
    pub(super) fn tell(&mut self, report: &Report, carried: Vec<OwnedFd>) {
        self.events.push_back(Line { carried, awaited: true, ..Line::of(report) });
    }

    pub(super) fn note(&mut self, note: control::Note) {
        self.push(&Report::Noted(note));
    }

    pub(super) fn resized(&mut self, generation: i64, error: Option<String>) {
        self.push(&Report::Resized { generation, error });
    }

    pub(super) fn timeline(&mut self, timeline: PodTimeline) {
        self.push(&Report::Timeline(timeline));
    }

    /// A part of an answer, when there [is nothing](Self::is_empty) to tell before it.
    pub(super) fn answer(&mut self, answer: &Report) {
        self.events.push_back(Line::of(answer));
    }

    pub(super) fn status(&mut self, status: PodStatus) {
        self.status = Some(Box::new(status));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.line.text.len() && self.events.is_empty() && self.status.is_none()
    }

    /// Writes what the supervisor takes at once.
    pub(super) fn flush_now(&mut self) {
        // A supervisor that is gone is noticed by the next real flush.
        let _ = self.flush().now_or_never();
    }

    /// Writes everything. Safe to cancel: what was written in part goes on from there.
    pub(super) async fn flush(&mut self) -> std::io::Result<()> {
        loop {
            while self.written < self.line.text.len() {
                let Line { text, carried, .. } = &self.line;
                self.written +=
                    control::write_some(self.stream.as_ref(), text, self.written, carried).await?;
            }
            // The other side has its own by now.
            self.line.carried.clear();
            let status = |status| Line::of(&Report::Status(status));
            match self.events.pop_front().or_else(|| self.status.take().map(status)) {
                Some(line) => (self.line, self.written) = (line, 0),
                None => return Ok(()),
            }
        }
    }

    /// Writes everything and the last message, unless the supervisor does not read for a while.
    pub(super) async fn finish(mut self, status: PodStatus, exit_code: i32) {
        self.status = None;
        self.events.push_back(Line::of(&Report::Finished { status: Box::new(status), exit_code }));
        let _ = tokio::time::timeout(LAST_WORDS, self.flush()).await;
    }
}
