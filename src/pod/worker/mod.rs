//! The one task that owns a pod's state: inside the pod process, it waits for something to happen, lets
//! the pure machine decide, and acts.
//!
//! ```text
//!  Happening                              the pure machine                      act
//!  ───────────────────────────────────────────────────────────────────────────────────────────────
//!  a runner task started, ended ──┐                               ┌─► Start ─► runner task
//!  a hook or probe ended ─────────┤                               ├─► Hook, Probe ─► attendant
//!  the disk's use measured ───────┼─► event ─► state.step(.., now)├─► Stop ─► it is told to end
//!  the timer ─────────────────────┤                               ├─► Kill ─► its future is dropped
//!  the supervisor's request, ─────┤                               └─► WakeAt ─► the timer
//!    or its end of file           │
//!                                 ├─► resize: accounts and specification (again when a container ended)
//!                                 ├─► configure: objects, labels and annotations in the specification; volumes,
//!                                 │   on the blocking pool
//!                                 ├─► ephemeral: one more container in the specification
//!                                 ├─► exec: commands, beside the machine
//!                                 └─► ask: answered in small parts between these
//! ```
//!
//! Hooks and probes run as attendants (`pod::attend`), commands as `Execs`: both belong to one run of a
//! container and end with it.
//!
//! The runner tasks live in a `JoinSet`, which ends them all when the worker is dropped. The worker ends
//! with `Action::Finish`; the supervisor's end of file makes it a kill.

mod act;
mod clock;
mod configure;
mod ephemeral;
mod happened;
mod parts;
mod resize;
mod start;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use self::clock::Clock;
use self::configure::Refreshing;
pub use self::parts::Parts;
use self::start::Running;
use super::additions;
use super::answers::Answers;
use super::attend::{Attendants, Attended};
use super::control::{self, Receiver, Request};
use super::event::{Event, Phase, StopCause};
use super::exec::{Components, ExecEvent, Execs};
use super::reports::Reports;
use super::resize::Resize;
use super::state::State;
use super::status::{self, pod_status};
use super::storage;
use crate::container::about::LivePod;
use crate::container::account::Account;
use crate::container::runner::Hosts;
use crate::container::state::{Exit, START_ERROR_EXIT_CODE};
use crate::container::user::FileUsers;
use crate::engine::MemoryAccount;
use crate::net::{Recording, Summary};
use crate::volume::VolumeError;

/// Troubles that wait to be passed on. Each is told once per kind and log file.
pub const TROUBLE_QUEUE: usize = 64;

/// How long a new status waits to be told, with all that changes meanwhile. A start changes it several times within
/// microseconds, and to write it down takes longer than the guest needs to its first output.
const STATUS_DELAY: Duration = Duration::from_millis(1);

/// Runs the pod to its end and returns the exit code of its supervisor. Images that come later are linked against
/// `hosts`.
///
/// # Errors
/// The control socket cannot be used.
pub async fn run(parts: Parts, hosts: Arc<Hosts>, control: StdUnixStream) -> std::io::Result<i32> {
    let (components, wanted) = Components::new(hosts);
    control.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(control)?.into_split();
    // A container's start is heard of before it can start again: one place for each is enough.
    let places = parts.spec.all_containers().count() + additions::MAX_EPHEMERAL;
    let (started, has_started) = mpsc::channel(places);
    let clock = Clock::new();
    let state = State::new(&parts.spec, parts.backoff, clock.now());
    let memory = Arc::new(MemoryAccount::new(parts.spec.resources.memory_limit_bytes));
    let mut measuring = JoinSet::new();
    let Parts { spec, volumes, key_value, log_dir, storage_period, .. } = &parts;
    let own = key_value.own_directory();
    if let Some(watch) = storage::Watch::new(spec, volumes, log_dir, own, *storage_period)? {
        measuring.spawn(watch.run());
    }
    let users = FileUsers::new(parts.spec.all_containers().count());
    let mut worker = Worker {
        live: LivePod::new(Arc::clone(&parts.spec)),
        measuring,
        requests: Receiver::new(read),
        reports: Reports::new(write),
        answers: Answers::default(),
        tasks: JoinSet::new(),
        running: BTreeMap::new(),
        misconfigured: BTreeMap::new(),
        refreshing: Refreshing::default(),
        resizing: None,
        memory,
        accounts: BTreeMap::new(),
        users,
        attendants: Attendants::default(),
        execs: Execs::new(components, wanted),
        wake_at: None,
        phase: None,
        changed: false,
        status_due: None,
        alone: false,
        started,
        has_started,
        clock,
        state,
        parts,
    };
    let exit_code = worker.run().await;
    let Worker { mut parts, state, mut reports, .. } = worker;
    if let Some(warning) = parts.recording.take().and_then(end_of_capture) {
        reports.event(control::Event::Warning(warning));
    }
    parts.logger.finish();
    while let Ok(trouble) = parts.troubles.try_recv() {
        reports.event(trouble);
    }
    if parts.tells_timeline {
        reports.timeline(parts.timeline.told());
    }
    let status = pod_status(&parts.spec, &state, &parts.facts);
    reports.finish(status, exit_code).await;
    Ok(exit_code)
}

/// Ends the capture; what the user should know of it.
fn end_of_capture(recording: Recording) -> Option<String> {
    let counted = |dropped| format!("{dropped} packets were not recorded");
    match recording.finish() {
        None => Some("--pcap: whoever reads the packets does not; the last ones are not recorded".to_owned()),
        Some(Summary { error: Some(error), dropped, .. }) => {
            Some(format!("--pcap: cannot write: {error}; {}", counted(dropped)))
        }
        Some(Summary { dropped: 0, .. }) => None,
        Some(Summary { dropped, written, .. }) => {
            Some(format!("--pcap: {}, {written} were: the file is slower than the pod", counted(dropped)))
        }
    }
}

struct Worker {
    parts: Parts,
    /// What guests see of the specification: to be refreshed when labels, annotations or objects change.
    live: LivePod,
    state: State,
    clock: Clock,
    /// One task for each live container; its output names the container.
    tasks: JoinSet<(String, Exit)>,
    running: BTreeMap<String, Running>,
    /// Containers that could not be started as they are configured, each with what was said of that last.
    misconfigured: BTreeMap<String, String>,
    refreshing: Refreshing,
    /// One that has not come to its end: a memory limit is below what is in use.
    resizing: Option<Resize>,
    /// Where the pod as a whole has a memory limit, this holds it.
    memory: Arc<MemoryAccount>,
    /// Those of the containers that were ever started.
    accounts: BTreeMap<String, Arc<Account>>,
    users: FileUsers,
    attendants: Attendants,
    /// The watch over the use of the disk, where it is limited.
    measuring: JoinSet<String>,
    execs: Execs,
    started: mpsc::Sender<String>,
    has_started: mpsc::Receiver<String>,
    wake_at: Option<Duration>,
    /// The last phase that the supervisor was told.
    phase: Option<Phase>,
    /// Whether there may be a phase to tell the supervisor, and a status after it.
    changed: bool,
    /// When the supervisor is to be told the status, where it does not know it yet.
    status_due: Option<tokio::time::Instant>,
    /// Whether the supervisor is gone.
    alone: bool,
    requests: Receiver<Request>,
    reports: Reports,
    answers: Answers,
}

/// What the worker waits for.
enum Happening {
    Started(String),
    Ended(String, Exit),
    Attended(Attended),
    /// The pod takes more of the disk than it may.
    Evicted(String),
    Requested(Request, Vec<OwnedFd>),
    Exec(ExecEvent),
    SupervisorGone,
    Troubled(control::Event),
    /// The files of volumes are as the specification says, but for these.
    Refreshed(Result<Vec<VolumeError>, JoinError>),
    /// The supervisor has read everything.
    Told,
    StatusDue,
    Woken,
}

impl Worker {
    async fn run(&mut self) -> i32 {
        self.step(Event::SandboxReady);
        loop {
            if let Some(code) = self.state.exit_code(&self.parts.spec) {
                self.report_phase();
                return code.into();
            }
            if std::mem::take(&mut self.changed) {
                self.report_phase();
                self.status_due.get_or_insert_with(|| tokio::time::Instant::now() + STATUS_DELAY);
                // Events are told before the containers go on, for whoever watches both.
                self.reports.flush_now();
                tokio::task::yield_now().await;
            }
            match self.next().await {
                Happening::Started(name) => self.has_started(name),
                Happening::Ended(name, exit) => self.has_ended(name, exit),
                Happening::Attended(attended) => self.attended(attended),
                Happening::Evicted(message) => self.evicted(message),
                Happening::Requested(request, carried) => self.requested(request, carried),
                Happening::Exec(event) => {
                    self.execs.happened(event, &mut self.reports);
                    // The memory of a command is its container's.
                    self.resume_resize();
                }
                Happening::SupervisorGone => {
                    self.alone = true;
                    self.step(Event::KillRequested { cause: StopCause::Signal(9) });
                }
                Happening::Troubled(event) => self.reports.event(event),
                Happening::Refreshed(ended) => self.refreshed(ended),
                Happening::Told => {}
                Happening::StatusDue => self.report_status(),
                Happening::Woken => self.step(Event::Tick),
            }
        }
    }

    async fn next(&mut self) -> Happening {
        if self.reports.is_empty()
            && !self.alone
            && let Some(part) = self.answers.next()
        {
            self.reports.answer(&part);
            // The containers' turn, between two parts.
            tokio::task::yield_now().await;
        }
        let wake = self.clock.sleep_until(self.wake_at);
        let happening = tokio::select! {
            biased;
            Some(name) = self.has_started.recv() => Happening::Started(name),
            Some(ended) = self.tasks.join_next_with_id() => match ended {
                Ok((_, (name, exit))) => Happening::Ended(name, exit),
                Err(error) => self.task_failed(&error),
            },
            attended = self.attendants.next() => Happening::Attended(attended),
            Some(measured) = self.measuring.join_next() => match measured {
                Ok(message) => Happening::Evicted(message),
                Err(error) => Happening::Troubled(control::Event::Warning(format!(
                    "the use of the disk is not limited any more: peapod failed while measuring it (a bug): {error}"
                ))),
            },
            Some(ended) = self.refreshing.ended() => Happening::Refreshed(ended),
            event = self.execs.next() => Happening::Exec(event),
            request = self.requests.next(), if !self.alone => match request {
                Some((request, carried)) => Happening::Requested(request, carried),
                None => Happening::SupervisorGone,
            },
            Some(event) = self.parts.troubles.recv() => Happening::Troubled(event),
            told = self.reports.flush(), if !self.alone && !self.reports.is_empty() => match told {
                Ok(()) => Happening::Told,
                Err(_) => Happening::SupervisorGone,
            },
            () = due(self.status_due) => Happening::StatusDue,
            () = wake => Happening::Woken,
        };
        if matches!(happening, Happening::Woken) {
            self.wake_at = None;
        }
        happening
    }

    /// A runner task panicked: peapod's own fault, kept to the one container.
    fn task_failed(&self, error: &tokio::task::JoinError) -> Happening {
        let found = self.running.iter().find(|(_, running)| running.task == error.id());
        match found {
            Some((name, _)) => {
                let message = format!("peapod failed while running the container (a bug): {error}");
                let exit = Exit { message: Some(message), ..Exit::with_code(START_ERROR_EXIT_CODE) };
                Happening::Ended(name.clone(), exit)
            }
            None => Happening::Woken,
        }
    }

    /// Tells the supervisor the phase when it is another one.
    fn report_phase(&mut self) {
        let phase = self.state.phase(&self.parts.spec);
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            let (reason, _) = status::reason(&self.state);
            self.reports.event(control::Event::Phase { phase: phase.as_str().to_owned(), reason });
        }
    }

    /// Tells the supervisor the status.
    fn report_status(&mut self) {
        self.status_due = None;
        self.reports.status(pod_status(&self.parts.spec, &self.state, &self.parts.facts));
        self.parts.logger.catch_up();
    }
}

/// Ends at `at`, or never.
async fn due(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
