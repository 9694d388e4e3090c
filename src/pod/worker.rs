//! The one task that owns a pod's state: inside the pod process, it waits for something to happen, lets
//! the pure machine decide, and acts.
//!
//! ```text
//!   Start  ─► runner task ─► Started ─┐
//!                        └─► Exit ────┤
//!   Stop   ─► its listeners close     ├─► state.step(event, now) ─► actions ─┐
//!   Kill   ─► the runner's future     │                                      │
//!             is dropped              │          ▲                           │
//!   WakeAt ─► timer ──────────────────┤          └───────────────────────────┘
//!   the supervisor's Request, or EOF ─┘
//! ```
//!
//! Hooks and probes run as [attendants](super::attend) of the container's run and end with it.
//!
//! What the supervisor asks ([`Request::Ask`]) is answered in small parts between these.
//!
//! The runner tasks live in a `JoinSet`, which ends them all when the worker is dropped. The worker ends
//! with `Action::Finish`; the supervisor's end of file makes it a kill.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::actions::{Action, StopReason};
use super::answers::Answers;
use super::attend::{Attendants, Attended, Orders};
use super::backoff::BackoffPolicy;
use super::control::{self, Note, Receiver, Request};
use super::event::{Event, Phase, StopCause};
use super::exec::Target;
use super::probing::Place;
use super::reports::Reports;
use super::state::State;
use super::status::{Facts, pod_status};
use super::time::Time;
use crate::container::log::{ContainerLog, Logger};
use crate::container::runner::{self, Program, Setup};
use crate::container::state::{Exit, ExitReason, START_ERROR_EXIT_CODE};
use crate::engine::EpochHandle;
use crate::ipc::{self, Ipc};
use crate::net::{Endpoint, Recording, Stack, Summary};
use crate::spec::{Container, Pod};
use crate::volume::Volumes;

/// Troubles that wait to be passed on. Each is told once per kind and log file.
pub const TROUBLE_QUEUE: usize = 64;

/// What the pod is made of, ready to run.
pub struct Parts {
    /// The pod.
    pub spec: Arc<Pod>,
    /// The linked image of each container, by container name.
    pub programs: BTreeMap<String, Program>,
    /// The pod's volumes, mounted.
    pub volumes: Volumes,
    /// The pod's network.
    pub stack: Arc<Stack>,
    /// What its containers share besides.
    pub ipc: Arc<Ipc>,
    /// Where output goes.
    pub logger: Logger,
    /// The clock that makes guests yield.
    pub epochs: EpochHandle,
    /// What the status says beyond the state.
    pub facts: Facts,
    /// How restarts are delayed.
    pub backoff: BackoffPolicy,
    /// What the logger has to tell the user.
    pub troubles: mpsc::Receiver<control::Event>,
    /// The capture of the memory plane, if there is one.
    pub recording: Option<Recording>,
}

/// Runs the pod to its end and returns the exit code of its supervisor.
///
/// # Errors
/// The control socket cannot be used.
pub async fn run(parts: Parts, control: StdUnixStream) -> std::io::Result<i32> {
    control.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(control)?.into_split();
    // A container's start is heard of before it can start again: one place for each is enough.
    let (started, has_started) = mpsc::channel(parts.spec.all_containers().count().max(1));
    let clock = Clock::new();
    let state = State::new(&parts.spec, parts.backoff, clock.now());
    let mut worker = Worker {
        requests: Receiver::new(read),
        reports: Reports::new(write),
        answers: Answers::default(),
        tasks: JoinSet::new(),
        running: BTreeMap::new(),
        attendants: Attendants::default(),
        wake_at: None,
        phase: None,
        changed: false,
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
    state: State,
    clock: Clock,
    /// One task for each live container; its output names the container.
    tasks: JoinSet<(String, Exit)>,
    running: BTreeMap<String, Running>,
    attendants: Attendants,
    started: mpsc::Sender<String>,
    has_started: mpsc::Receiver<String>,
    wake_at: Option<Duration>,
    /// The last phase that the supervisor was told.
    phase: Option<Phase>,
    /// Whether there is something to tell the supervisor.
    changed: bool,
    /// Whether the supervisor is gone.
    alone: bool,
    requests: Receiver<Request>,
    reports: Reports,
    answers: Answers,
}

/// What the worker holds of a live container.
struct Running {
    task: tokio::task::Id,
    endpoint: Endpoint,
    ipc: ipc::Handle,
    /// Dropping or sending it drops the runner's future.
    kill: Option<oneshot::Sender<()>>,
    ordered: Instant,
    /// Its hooks and probes.
    orders: Orders,
}

/// What the worker waits for.
enum Happening {
    Started(String),
    Ended(String, Exit),
    Attended(Attended),
    Requested(Request),
    SupervisorGone,
    Troubled(control::Event),
    /// The supervisor has read everything.
    Told,
    Woken,
}

impl Worker {
    async fn run(&mut self) -> i32 {
        self.step(Event::SandboxReady);
        loop {
            if let Some(code) = self.state.exit_code(&self.parts.spec) {
                self.report_changes();
                return code.into();
            }
            if self.changed {
                // Events are told before the containers go on, for whoever watches both; the rest after.
                self.reports.flush_now();
                tokio::task::yield_now().await;
                self.report_changes();
            }
            match self.next().await {
                Happening::Started(name) => self.has_started(name),
                Happening::Ended(name, exit) => self.has_ended(name, exit),
                Happening::Attended(attended) => self.attended(attended),
                Happening::Requested(request) => self.requested(request),
                Happening::SupervisorGone => {
                    self.alone = true;
                    self.step(Event::KillRequested { cause: StopCause::Signal(9) });
                }
                Happening::Troubled(event) => self.reports.event(event),
                Happening::Told => {}
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
            request = self.requests.next(), if !self.alone => match request {
                Some(request) => Happening::Requested(request),
                None => Happening::SupervisorGone,
            },
            Some(event) = self.parts.troubles.recv() => Happening::Troubled(event),
            told = self.reports.flush(), if !self.alone && !self.reports.is_empty() => match told {
                Ok(()) => Happening::Told,
                Err(_) => Happening::SupervisorGone,
            },
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

    fn has_started(&mut self, name: String) {
        if let Some(running) = self.running.get(&name) {
            let restarts = self.state.restarts(&self.parts.spec, &name);
            let took = running.ordered.elapsed();
            self.reports.event(control::Event::Started { container: name.clone(), restarts, took });
        }
        self.step(Event::ContainerStarted { name });
    }

    fn has_ended(&mut self, name: String, exit: Exit) {
        if let Some(running) = self.running.remove(&name) {
            running.endpoint.close();
        }
        let container = name.clone();
        let report = control::Event::Ended {
            container: name.clone(),
            code: exit.code.into(),
            reason: exit.reason.as_str().to_owned(),
            message: exit.message.as_deref().and_then(|text| text.lines().next()).map(str::to_owned),
        };
        let event = match exit {
            Exit { reason: ExitReason::FailedToStart(reason), message, .. } => {
                Event::ContainerFailedToStart { name, reason, message: message.unwrap_or_default() }
            }
            exit => Event::ContainerExited { name, exit },
        };
        self.reports.event(report);
        self.step(event);
        let delay = |at: Duration| at.saturating_sub(self.clock.now().mono);
        let delay = self.state.restart_at(&self.parts.spec, &container).map(delay);
        if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
            self.reports.event(control::Event::BackOff { container, delay });
        }
    }

    fn requested(&mut self, request: Request) {
        match request {
            Request::Stop { cause, grace } => {
                let own = self.parts.spec.termination_grace;
                let grace = grace.map_or(own, |shorter| shorter.min(own));
                self.step(Event::StopRequested { cause: cause.into(), grace });
            }
            Request::Kill { cause } => self.step(Event::KillRequested { cause: cause.into() }),
            Request::Ask { id, question } => {
                self.answers.ask(id, question, &self.parts.stack, &self.parts.ipc)
            }
        }
    }

    /// Lets the machine decide about an event and does what it says.
    fn step(&mut self, event: Event) {
        let now = self.clock.now();
        let actions = self.state.step(&self.parts.spec, event, now);
        self.wake_at = None;
        for action in actions {
            match action {
                Action::Start { container, restart } => self.start(container, restart),
                Action::Hook { container, run, hook } => {
                    self.attend(&container, |attendants, orders, spec, place| {
                        attendants.order_hook(orders, spec, run, hook, place);
                    });
                }
                Action::Probe { container, run, kind } => {
                    self.attend(&container, |attendants, orders, spec, place| {
                        attendants.order_probe(orders, spec, run, kind, place);
                    });
                }
                Action::Stop { container, why, .. } => {
                    if let Some(running) = self.running.get(&container) {
                        running.endpoint.stop_listening();
                        running.ipc.stop();
                    }
                    let message = self.killing(&container, why);
                    self.note(false, "Killing", message, &container);
                }
                Action::Kill { container } => {
                    if let Some(running) = self.running.get_mut(&container) {
                        running.kill.take();
                    }
                }
                Action::WakeAt(at) => self.wake_at = Some(at),
                Action::Finish { .. } => {}
            }
        }
        self.changed = true;
    }

    /// Has something done for a live container by an attendant.
    fn attend(&mut self, name: &str, order: impl FnOnce(&mut Attendants, &mut Orders, &Container, Place)) {
        let (Some(running), Some(spec)) = (self.running.get_mut(name), self.parts.spec.container(name))
        else {
            return;
        };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let place = Place {
            stack: Arc::clone(&self.parts.stack),
            address: self.parts.facts.pod_ips.first().copied().unwrap_or(loopback),
            target: Target::new(name),
        };
        order(&mut self.attendants, &mut running.orders, spec, place);
    }

    fn attended(&mut self, Attended { event, told }: Attended) {
        let (Event::HookEnded { name, .. } | Event::ProbeEnded { name, .. }) = &event else { return };
        if let Some((reason, message)) = told {
            self.note(true, reason, message, &name.clone());
        }
        self.step(event);
    }

    /// What the Event says of a container that is asked to end, in the kubelet's words.
    fn killing(&self, container: &str, why: StopReason) -> String {
        match why {
            StopReason::PodEnds => format!("Stopping container {container}"),
            StopReason::ProbeFailed(kind) => {
                let kind = kind.as_str().to_lowercase();
                format!("Container {container} failed {kind} probe, will be restarted")
            }
            StopReason::PostStartFailed => format!("Container {container} failed its PostStart hook"),
            StopReason::Resized => format!("Container {container} resize requires restart"),
        }
    }

    fn note(&mut self, warning: bool, reason: &str, message: String, container: &str) {
        let (at, container) = (jiff::Timestamp::now(), Some(container.to_owned()));
        self.reports.note(Note { at, warning, reason: reason.to_owned(), message, container });
    }

    fn start(&mut self, name: String, restart: u32) {
        let (Some(spec), Some(program)) = (self.parts.spec.container(&name), self.parts.programs.get(&name))
        else {
            return;
        };
        let log = self.parts.logger.container(&name, restart);
        let endpoint = self.parts.stack.attach(&name);
        let ipc = self.parts.ipc.attach();
        let (kill, killed) = oneshot::channel::<()>();
        let run = run_container(
            program.clone(),
            self.parts.epochs.clone(),
            self.setup(spec, program, endpoint.clone(), ipc.clone(), log),
            self.started.clone(),
            name.clone(),
        );
        let ordered = Instant::now();
        let named = name.clone();
        let task = self.tasks.spawn(async move {
            let exit = tokio::select! {
                biased;
                _ = killed => Exit::killed("killed: it did not end by itself"),
                exit = run => exit,
            };
            (named, exit)
        });
        let orders = Orders::default();
        self.running
            .insert(name, Running { task: task.id(), endpoint, ipc, kill: Some(kill), ordered, orders });
    }

    /// Tells the supervisor the status, and the phase when it is another one.
    fn report_changes(&mut self) {
        let phase = self.state.phase(&self.parts.spec);
        let status = pod_status(&self.parts.spec, &self.state, &self.parts.facts);
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            let reason = status.reason.clone();
            self.reports.event(control::Event::Phase { phase: phase.as_str().to_owned(), reason });
        }
        self.reports.status(status);
        self.parts.logger.catch_up();
        self.changed = false;
    }

    /// What one run of a container is given.
    fn setup(
        &self,
        spec: &Container,
        program: &Program,
        endpoint: Endpoint,
        ipc: ipc::Handle,
        log: ContainerLog,
    ) -> Result<Setup, String> {
        let image_entry = || vec![program.name().to_owned()];
        let command = if spec.command.is_empty() { image_entry() } else { spec.command.clone() };
        // Container runtimes set HOSTNAME, and the manifest may say otherwise.
        let hostname = ("HOSTNAME".to_owned(), self.parts.spec.hostname.clone());
        Ok(Setup {
            argv: command.into_iter().chain(spec.args.iter().cloned()).collect(),
            env: std::iter::once(hostname).chain(spec.env.iter().cloned()).collect(),
            working_dir: spec.working_dir.clone(),
            preopens: self.parts.volumes.preopens(spec).map_err(|error| error.to_string())?,
            memory_limit: spec.resources.memory_limit_bytes,
            endpoint,
            ipc,
            log,
        })
    }
}

async fn run_container(
    program: Program,
    epochs: EpochHandle,
    setup: Result<Setup, String>,
    started: mpsc::Sender<String>,
    name: String,
) -> Exit {
    match setup {
        Ok(setup) => {
            let started = async || {
                // There is a place for each container.
                let _ = started.try_send(name);
                // What it says comes after what is said of it.
                tokio::task::yield_now().await;
            };
            epochs.run(runner::run(&program, setup, started)).await
        }
        Err(error) => Exit::start_error(error),
    }
}

/// The two clocks that the pure machine is told the time by.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn now(&self) -> Time {
        Time { mono: self.0.elapsed(), wall: jiff::Timestamp::now() }
    }

    /// Ends at `at` on the monotonic clock, or never.
    fn sleep_until(&self, at: Option<Duration>) -> impl Future<Output = ()> + use<> {
        let at = at.map(|at| tokio::time::Instant::from_std(self.0 + at));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }
}
