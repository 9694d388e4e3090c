//! The supervisor's watch over a running pod.
//!
//! ```text
//!   SIGINT, SIGTERM, SIGHUP ─► Stop, the second time Kill ─┐
//!   --timeout ───────────────► Stop ───────────────────────┼─► control socket ─► pod process
//!   grace and patience over ─► SIGKILL                     │
//!   control socket ◄── events (shown), status (kept) ◄─────┘
//!   API on <run>/pods/<uid>/control.sock ◄─► Questions ◄─► control socket
//!                    its components ─► prepare (a process) ─┘
//! ```
//!
//! A pod process that dies without last words still gets a status: the last one known, with what ran
//! marked as ended.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::answer::{Desk, Inquiry, Outgoing, Questions};
use super::display::Display;
use crate::api::{server, socket};
use crate::pod::control::{self, Event, Receiver, Report, Request, StopCause};
use crate::spec;

/// How long a pod process may take to end its containers at once, before it is killed itself.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a closed output counts as.
const SIGPIPE: u8 = 13;

/// How a pod's run ended.
pub enum End {
    /// The pod process said so.
    Finished { status: Box<PodStatus>, exit_code: i32 },
    /// The pod process died without last words; the latest status that it had sent.
    Died { status: Option<Box<PodStatus>> },
}

/// Watches a pod until its process ends. `kill` ends the process at once.
pub struct Watch<'a> {
    pub display: &'a Display,
    pub timeout: Option<Duration>,
    /// The pod's grace period, to show.
    pub grace: Duration,
    /// How long the pod may take to end once it was asked to; its process is killed then.
    pub limit: Duration,
    pub kill: &'a dyn Fn(),
    /// The pod as it was submitted.
    pub pod: &'a Pod,
    /// The same, validated.
    pub spec: &'a spec::Pod,
    /// Where its control socket goes.
    pub directory: &'a Path,
    /// Where relative images start.
    pub manifest_dir: &'a Path,
}

impl Watch<'_> {
    /// Runs the watch on a runtime of its own; returns when the pod process has closed its end.
    /// Comes with the pod as it was then, without status.
    pub fn run(&self, control: StdUnixStream, unblock_signals: impl FnOnce()) -> anyhow::Result<(End, Pod)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot set up the supervisor's event loop")?;
        runtime.block_on(async {
            let signals = Signals::new().context("cannot handle signals")?;
            unblock_signals();
            control.set_nonblocking(true)?;
            let (read, write) = UnixStream::from_std(control)?.into_split();
            let (desk, inquiries) = Desk::new();
            // Ends with this block.
            let mut servers = JoinSet::new();
            match self.control_socket() {
                Ok(listener) => drop(servers.spawn(server::serve(listener, desk))),
                Err(error) => self.display.warning(format!("no control socket for `peapod ss`: {error}")),
            }
            let mut questions =
                Questions::new(self.pod.clone(), self.spec.clone(), self.manifest_dir.to_owned());
            let end = self.watch(Receiver::new(read), write, signals, inquiries, &mut questions).await;
            Ok((end?, questions.into_pod()))
        })
    }

    fn control_socket(&self) -> std::io::Result<UnixListener> {
        let listener = socket::bind(self.directory)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    async fn watch(
        &self,
        mut reports: Receiver<Report>,
        requests: OwnedWriteHalf,
        mut signals: Signals,
        mut inquiries: mpsc::Receiver<Inquiry>,
        questions: &mut Questions,
    ) -> anyhow::Result<End> {
        let timeout = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut stop = Stop::No;
        let mut last: Option<Box<PodStatus>> = None;
        loop {
            let request = tokio::select! {
                biased;
                report = reports.next() => match report {
                    Some((Report::Event(event), _)) => {
                        self.display.event(&event);
                        match (event, &stop) {
                            // A reader that the same Ctrl-C ended is no second wish to stop.
                            (Event::OutputClosed { .. }, Stop::No) => {
                                stop.next(StopCause::Signal(SIGPIPE), self).map(bare)
                            }
                            _ => None,
                        }
                    }
                    Some((Report::Status(status), _)) => {
                        last = Some(status);
                        None
                    }
                    Some((Report::Noted(_), _)) => None,
                    Some((Report::Answer { id, part }, _)) => {
                        questions.answered(id, part);
                        None
                    }
                    Some((Report::Finished { status, exit_code }, _)) => {
                        return Ok(End::Finished { status, exit_code });
                    }
                    Some((Report::Prepare { id, name }, carried)) => {
                        questions.prepare(id, name, carried);
                        None
                    }
                    Some((Report::ExecEnded { id, code, message }, _)) => {
                        questions.exec_ended(id, code, message);
                        None
                    }
                    Some((Report::EphemeralAdded { id, error }, _)) => {
                        questions.ephemeral_added(id, error);
                        None
                    }
                    None => return Ok(End::Died { status: last }),
                },
                signal = signals.next() => stop.next(StopCause::Signal(signal), self).map(bare),
                () = at(timeout), if matches!(stop, Stop::No) => {
                    stop.next(StopCause::Timeout, self).map(bare)
                }
                () = at(stop.kill_at()) => {
                    self.display.warning("the pod does not end: killing it");
                    (self.kill)();
                    stop = Stop::Killed;
                    None
                }
                Some(inquiry) = inquiries.recv() => questions.inquire(inquiry, last.as_deref()),
                outgoing = questions.next() => Some(outgoing),
            };
            if let Some((request, carried)) = request {
                // A pod that is gone is noticed by the next read.
                let _ = control::send(&requests, &request, &carried).await;
            }
        }
    }
}

/// How far the stop has come.
enum Stop {
    No,
    /// Asked to end gracefully; its process is killed at this time.
    Graceful(Instant),
    /// Asked to end at once; its process is killed at this time.
    AtOnce(Instant),
    Killed,
}

impl Stop {
    /// The next step, when there is reason to stop.
    fn next(&mut self, cause: StopCause, watch: &Watch<'_>) -> Option<Request> {
        let now = Instant::now();
        match self {
            Self::No => {
                *self = Self::Graceful(now + watch.limit);
                watch.display.note(match cause {
                    StopCause::Timeout => {
                        format!("stopping: the time is over, {} s of grace", watch.grace.as_secs())
                    }
                    StopCause::Signal(_) => {
                        format!("stopping: {} s of grace; again to end at once", watch.grace.as_secs())
                    }
                });
                Some(Request::Stop { cause, grace: None })
            }
            Self::Graceful(_) => {
                *self = Self::AtOnce(now + PATIENCE);
                watch.display.note("stopping at once");
                Some(Request::Kill { cause })
            }
            Self::AtOnce(_) | Self::Killed => None,
        }
    }

    fn kill_at(&self) -> Option<Instant> {
        match self {
            Self::Graceful(at) | Self::AtOnce(at) => Some(*at),
            Self::No | Self::Killed => None,
        }
    }
}

/// A request that carries no descriptors.
fn bare(request: Request) -> Outgoing {
    (request, Vec::new())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The signals that stop a pod.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}
