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

use super::control::{self, Line, PodTimeline, Report};

/// Events that wait for a supervisor that does not read; the oldest are dropped beyond it.
const EVENT_QUEUE: usize = 1024;

/// How long the end of the pod waits for a supervisor that does not read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the supervisor is told: events in order, and the latest status. A supervisor that does not read
/// (it may be suspended) never holds the pod up; one that is gone is noticed by [`control::Receiver::next`].
pub(super) struct Reports {
    stream: OwnedWriteHalf,
    events: VecDeque<Waiting>,
    status: Option<Box<PodStatus>>,
    /// The one being written.
    line: Line,
}

/// What waits.
struct Waiting {
    line: Line,
    /// Somebody waits for it.
    awaited: bool,
}

impl Waiting {
    fn of(report: &Report) -> Self {
        Self { line: Line::of(report, Vec::new()), awaited: false }
    }
}

impl Reports {
    pub(super) fn new(stream: OwnedWriteHalf) -> Self {
        Self { stream, events: VecDeque::new(), status: None, line: Line::default() }
    }

    pub(super) fn event(&mut self, event: control::Event) {
        self.push(&Report::Event(event));
    }

    fn push(&mut self, report: &Report) {
        if self.events.len() >= EVENT_QUEUE
            && let Some(oldest) = self.events.iter().position(|waiting| !waiting.awaited)
        {
            self.events.remove(oldest);
        }
        self.events.push_back(Waiting::of(report));
    }

    /// A message that somebody waits for: never dropped. How many there can be is for the caller to bound.
    pub(super) fn tell(&mut self, report: &Report, carried: Vec<OwnedFd>) {
        self.events.push_back(Waiting { line: Line::of(report, carried), awaited: true });
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
        self.events.push_back(Waiting::of(answer));
    }

    pub(super) fn status(&mut self, status: PodStatus) {
        self.status = Some(Box::new(status));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_written() && self.events.is_empty() && self.status.is_none()
    }

    /// Writes what the supervisor takes at once.
    pub(super) fn flush_now(&mut self) {
        // A supervisor that is gone is noticed by the next real flush.
        let _ = self.flush().now_or_never();
    }

    /// Writes everything. Safe to cancel: what was written in part goes on from there.
    pub(super) async fn flush(&mut self) -> std::io::Result<()> {
        loop {
            self.line.write(self.stream.as_ref()).await?;
            let status = |status| Line::of(&Report::Status(status), Vec::new());
            let event = self.events.pop_front().map(|waiting| waiting.line);
            match event.or_else(|| self.status.take().map(status)) {
                Some(line) => self.line = line,
                None => return Ok(()),
            }
        }
    }

    /// Writes everything and the last message, unless the supervisor does not read for a while.
    pub(super) async fn finish(mut self, status: PodStatus, exit_code: i32) {
        self.status = None;
        self.events.push_back(Waiting::of(&Report::Finished { status: Box::new(status), exit_code }));
        let _ = tokio::time::timeout(LAST_WORDS, self.flush()).await;
    }
}
