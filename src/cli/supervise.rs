//! The supervisor's watch over a running pod.
//!
//! ```text
//!   SIGINT, SIGTERM, SIGHUP ─► Stop, the second time Kill ─┐
//!   --timeout ───────────────► Stop ───────────────────────┼─► control socket ─► pod process
//!   grace and patience over ─► SIGKILL                     │
//!   control socket ◄── events (shown), status (kept) ◄─────┘
//!   control socket ◄── resized ─► the cgroup's limits
//!   cgroup ◄── out of memory ─► counted as outlived when the pod process lives on
//!   API on <run>/pods/<uid>/control.sock ◄─► Questions ◄─► control socket
//!                    its components ─► prepare (a process) ─┘
//! ```
//!
//! A pod process that dies without last words still gets a status: the last one known, with what ran
//! marked as ended.

use std::cell::RefCell;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::answer::{About, Desk, Inquiry, Outgoing, Questions, Relabel};
use super::display::Display;
use super::startup::Startup;
use crate::api::{server, socket};
use crate::manifest::Manifest;
use crate::pod::actions::MIN_STOP_WINDOW;
use crate::pod::control::{Event, PodTimeline, Receiver, Report, Request, Sender, StopCause};
use crate::pod::resize::Resizer;
use crate::spec;
use crate::sys::notices::Notices;

/// How long a pod process may take to end its containers at once, before it is killed itself.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A pod process that lives so long after the kernel has killed a process of its pod for want of memory was not that
/// process.
const OUTLIVED: Duration = Duration::from_secs(1);
/// What `peapod delete` counts as.
const SIGTERM: u8 = 15;

/// A grace period that is longer than the clock can say: 136 years.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Requests that wait for a pod process which does not read; no more is asked of it then than to end.
const MAX_REQUESTS: usize = 64;

/// What a closed output counts as.
const SIGPIPE: u8 = 13;

/// How a pod's run ended.
pub enum End {
    /// The pod process said so.
    Finished { status: Box<PodStatus>, exit_code: i32, timeline: PodTimeline },
    /// The pod process died without last words; the latest status that it had sent, and how many processes of the
    /// pod the kernel had killed for want of memory that it outlived.
    Died { status: Option<Box<PodStatus>>, outlived: u64 },
}

/// Watches a pod until its process ends. `kill` ends the process at once.
pub struct Watch<'a> {
    pub display: &'a Display,
    pub timeout: Option<Duration>,
    /// The pod's grace period.
    pub grace: Duration,
    /// How long the pod may take to end beyond its grace, once it was asked to; its process is killed then.
    pub patience: Duration,
    pub kill: &'a dyn Fn(),
    /// Sees to the cgroup when the pod's resources change.
    pub resizer: RefCell<Resizer<'a>>,
    /// How many processes of the pod the kernel has killed for want of memory.
    pub oom_kills: &'a dyn Fn() -> u64,
    /// Says when that may have changed.
    pub oom_notices: Option<OwnedFd>,
    /// The pod as it was submitted.
    pub pod: &'a Pod,
    /// All of its manifest, as it is written.
    pub manifest: &'a Manifest,
    /// Writes its labels where other pods find them.
    pub relabel: Relabel<'a>,
    /// The supervisor's part of its timeline.
    pub startup: &'a Startup,
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
            let (over, is_over) = oneshot::channel::<Infallible>();
            match self.control_socket() {
                Ok(listener) => {
                    let end = async { drop(is_over.await) };
                    drop(servers.spawn(server::serve(listener, desk, end)));
                }
                Err(error) => {
                    self.display.warning(format!("no control socket for `peapod ss` and its like: {error}"))
                }
            }
            let resize = |pod: &spec::Pod| self.resizer.borrow_mut().begin(pod);
            let mut questions = Questions::new(About {
                pod: self.pod,
                spec: self.spec,
                directory: self.manifest_dir,
                startup: self.startup,
                manifest: self.manifest,
                resize: &resize,
                relabel: self.relabel,
            });
            let end =
                self.watch(Receiver::new(read), Sender::new(write), signals, inquiries, &mut questions).await;
            // What has its answer is told it; nobody else gets one any more.
            let pod = questions.into_pod();
            drop(over);
            while servers.join_next().await.is_some() {}
            Ok((end?, pod))
        })
    }

    /// The grace that a request gives the pod, if it ends it.
    fn grace_of(&self, request: &Request) -> Option<Duration> {
        match request {
            Request::Stop { grace, .. } => Some(grace.unwrap_or(self.grace)),
            Request::Kill { .. } => Some(Duration::ZERO),
            _ => None,
        }
    }

    fn control_socket(&self) -> std::io::Result<UnixListener> {
        let listener = socket::bind(self.directory)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    async fn watch(
        &self,
        mut reports: Receiver<Report>,
        mut requests: Sender<Request>,
        mut signals: Signals,
        mut inquiries: mpsc::Receiver<Inquiry>,
        questions: &mut Questions<'_>,
    ) -> anyhow::Result<End> {
        let timeout = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut stop = Stop::No;
        let mut last: Option<Box<PodStatus>> = None;
        let mut timeline = PodTimeline::default();
        let notices = self.oom_notices.as_ref().and_then(|notices| notices.try_clone().ok());
        let notices = notices.and_then(|notices| Notices::new(notices).ok());
        let (mut outlived, mut outlives) = (0, None);
        loop {
            let request = tokio::select! {
                biased;
                report = reports.next() => match report {
                    Some((Report::Event(event), _)) => {
                        self.display.event(&event);
                        questions.reported(&event);
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
                        questions.status_is_known();
                        None
                    }
                    Some((Report::Noted(note), _)) => {
                        questions.noted(note);
                        None
                    }
                    Some((Report::Resized { .. }, _)) => {
                        if let Err(error) = self.resizer.borrow_mut().settle() {
                            self.display.warning(format!("the pod's cgroup keeps its limits: {error}"));
                        }
                        None
                    }
                    Some((Report::Timeline(told), _)) => {
                        timeline = told;
                        None
                    }
                    Some((Report::Answer { id, part }, _)) => {
                        questions.answered(id, part);
                        None
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
                    Some((Report::Configured { id, error }, _)) => {
                        questions.configured(id, error, last.as_deref())
                    }
                    Some((Report::Finished { status, exit_code }, _)) => {
                        return Ok(End::Finished { status, exit_code, timeline });
                    }
                    None => return Ok(End::Died { status: last, outlived }),
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
                () = notice(notices.as_ref()) => {
                    outlives = Some(Instant::now() + OUTLIVED);
                    None
                }
                () = at(outlives) => {
                    outlives = None;
                    outlived = (self.oom_kills)();
                    None
                }
                () = requests.flush(), if requests.waiting() > 0 => None,
                Some(inquiry) = inquiries.recv(), if requests.waiting() < MAX_REQUESTS => {
                    let request = match &inquiry {
                        Inquiry::Delete(grace, _) => stop.delete(*grace, self),
                        _ => None,
                    };
                    if let Some(grace) = request.as_ref().and_then(|request| self.grace_of(request)) {
                        questions.is_deleted(grace);
                    }
                    let answered = questions.inquire(inquiry, last.as_deref());
                    request.map(bare).or(answered)
                }
                outgoing = questions.next(), if requests.waiting() < MAX_REQUESTS => Some(outgoing),
            };
            if let Some(grace) = request.as_ref().and_then(|(request, _)| self.grace_of(request)) {
                questions.is_deleted(grace);
            }
            if let Some((request, carried)) = request {
                requests.push(&request, carried);
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
                *self = Self::Graceful(now + watch.grace + watch.patience);
                let grace = watch.grace.max(MIN_STOP_WINDOW).as_secs();
                watch.display.note(match cause {
                    StopCause::Timeout => format!("stopping: the time is over, {grace} s of grace"),
                    StopCause::Signal(_) => format!("stopping: {grace} s of grace; again to end at once"),
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

    /// The next step when somebody deletes the pod, whose grace may only shrink by that.
    fn delete(&mut self, grace: Option<Duration>, watch: &Watch<'_>) -> Option<Request> {
        let now = Instant::now();
        let asked = grace.unwrap_or(watch.grace);
        let kill_at = now.checked_add(asked.saturating_add(watch.patience)).unwrap_or(now + FOREVER);
        let cause = StopCause::Signal(SIGTERM);
        match self {
            Self::No | Self::Graceful(_) if asked.is_zero() => {
                *self = Self::AtOnce(now + PATIENCE);
                watch.display.note("deleted: stopping at once");
                Some(Request::Kill { cause })
            }
            Self::Graceful(before) if *before <= kill_at => None,
            Self::No | Self::Graceful(_) => {
                *self = Self::Graceful(kill_at);
                watch.display.note(format!("deleted: stopping, {} s of grace", asked.as_secs()));
                Some(Request::Stop { cause, grace: Some(asked) })
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

/// The next notice; never where there are none.
async fn notice(notices: Option<&Notices>) {
    match notices {
        Some(notices) if notices.next().await.is_ok() => {}
        _ => std::future::pending().await,
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
