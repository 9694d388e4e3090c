//! The one task that owns a pod's state: inside the pod process, it waits for something to happen, lets
//! the pure machine decide, and acts.
//!
//! ```text
//!   Start  ─► runner task ─► Started ─┐
//!                        └─► Exit ────┤
//!   Stop   ─► it is told to end       ├─► state.step(event, now) ─► actions ─┐
//!   Kill   ─► the runner's future     │                                      │
//!             is dropped              │          ▲                           │
//!   WakeAt ─► timer ──────────────────┤          └───────────────────────────┘
//!   the supervisor's Request, or EOF ─┘
//! ```
//!
//! Hooks and probes run as [attendants](super::attend) of the container's run and end with it.
//!
//! Commands run as [`Execs`] for as long as their container's run lives.
//!
//! What the supervisor asks ([`Request::Ask`]) is answered in small parts between these.
//!
//! The runner tasks live in a `JoinSet`, which ends them all when the worker is dropped. The worker ends
//! with `Action::Finish`; the supervisor's end of file makes it a kill.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::actions::{Action, StopReason};
use super::additions;
use super::answers::Answers;
use super::attend::{Attendants, Attended, Orders};
use super::backoff::BackoffPolicy;
use super::control::{self, Addition, Note, Receiver, Report, Request};
use super::event::{Event, Phase, StopCause};
use super::exec::{self, Components, ExecEvent, Execs, Order, Target};
use super::probing::Place;
use super::reports::Reports;
use super::resize::{self, Resize};
use super::state::State;
use super::status::{DEADLINE_MESSAGE, Facts, pod_status};
use super::storage;
use super::time::Time;
use super::timeline::Timeline;
use crate::container::account::Account;
use crate::container::log::{ContainerLog, Logger};
use crate::container::message::{LastWords, Messages};
use crate::container::runner::{self, Call, Hosts, Marks, Program, Setup, Stdio};
use crate::container::state::{Exit, ExitReason, START_ERROR_EXIT_CODE};
use crate::container::stop::{self, Stop, StopSender, StopSignal};
use crate::engine::{EpochHandle, MemoryAccount};
use crate::ipc::{self, Ipc};
use crate::net::{Endpoint, Recording, Stack, Summary};
use crate::spec::{Container, Pod};
use crate::volume::Volumes;

/// Troubles that wait to be passed on. Each is told once per kind and log file.
pub const TROUBLE_QUEUE: usize = 64;

/// Characters of a message that are told when a container ends; the status has all of it.
const MAX_HEADLINE: usize = 200;

/// What the pod is made of, ready to run.
pub struct Parts {
    /// The pod.
    pub spec: Arc<Pod>,
    /// The linked image of each container, by container name.
    pub programs: BTreeMap<String, Program>,
    /// The pod's volumes, mounted.
    pub volumes: Volumes,
    /// Where the containers leave their last words.
    pub messages: Messages,
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
    /// Where the log files are.
    pub log_dir: PathBuf,
    /// How often the use of the disk is looked at.
    pub storage_period: Duration,
    /// What the logger has to tell the user.
    pub troubles: mpsc::Receiver<control::Event>,
    /// The capture of the memory plane, if there is one.
    pub recording: Option<Recording>,
    /// When what happened.
    pub timeline: Timeline,
    /// Whether the supervisor wants that when the pod has ended.
    pub tells_timeline: bool,
}

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
    let Parts { spec, volumes, log_dir, storage_period, .. } = &parts;
    if let Some(watch) = storage::Watch::new(spec, volumes, log_dir, *storage_period)? {
        measuring.spawn(watch.run());
    }
    let mut worker = Worker {
        measuring,
        requests: Receiver::new(read),
        reports: Reports::new(write),
        answers: Answers::default(),
        tasks: JoinSet::new(),
        running: BTreeMap::new(),
        resizing: None,
        memory,
        accounts: BTreeMap::new(),
        attendants: Attendants::default(),
        execs: Execs::new(components, wanted),
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
    state: State,
    clock: Clock,
    /// One task for each live container; its output names the container.
    tasks: JoinSet<(String, Exit)>,
    running: BTreeMap<String, Running>,
    /// One that has not come to its end: a memory limit is below what is in use.
    resizing: Option<Resize>,
    /// Where the pod as a whole has a memory limit, this holds it.
    memory: Arc<MemoryAccount>,
    /// Those of the containers that were ever started.
    accounts: BTreeMap<String, Arc<Account>>,
    attendants: Attendants,
    /// The watch over the use of the disk, where it is limited.
    measuring: JoinSet<String>,
    execs: Execs,
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
    /// Asks the guest to end.
    stop: StopSender,
    /// Its hooks, probes and commands.
    orders: Orders,
    /// Where these run; `None` when its start fails.
    target: Option<Target>,
}

/// What one run of a container has of its own.
struct Own {
    memory: Arc<MemoryAccount>,
    endpoint: Endpoint,
    ipc: ipc::Handle,
    stop: StopSignal,
    marks: Marks,
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
                Happening::Evicted(message) => self.evicted(message),
                Happening::Requested(request, carried) => self.requested(request, carried),
                Happening::Exec(event) => self.execs.happened(event, &mut self.reports),
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
            Some(Ok(message)) = self.measuring.join_next() => Happening::Evicted(message),
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
        self.parts.timeline.started(&name);
        if let Some(running) = self.running.get(&name) {
            let restarts = self.state.restarts(&self.parts.spec, &name);
            let took = running.ordered.elapsed();
            self.reports.event(control::Event::Started { container: name.clone(), restarts, took });
        }
        self.step(Event::ContainerStarted { name });
    }

    fn has_ended(&mut self, name: String, exit: Exit) {
        self.parts.timeline.ended(&name);
        if let Some(running) = self.running.remove(&name) {
            running.endpoint.close();
        }
        self.resume_resize();
        let container = name.clone();
        let report = control::Event::Ended {
            container: name.clone(),
            code: exit.code.into(),
            reason: exit.reason.as_str().to_owned(),
            message: exit.message.as_deref().and_then(headline),
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

    fn requested(&mut self, request: Request, carried: Vec<OwnedFd>) {
        match request {
            Request::Stop { cause, grace } => {
                let own = self.parts.spec.termination_grace;
                let grace = grace.unwrap_or(own);
                self.step(Event::StopRequested { cause: cause.into(), grace });
            }
            Request::Kill { cause } => self.step(Event::KillRequested { cause: cause.into() }),
            Request::Resize(resize) => self.resize(resize.into()),
            Request::SetConditions(conditions) => {
                for condition in conditions {
                    self.step(Event::ConditionSet(condition.into()));
                }
            }
            Request::Ask { id, question } => {
                let Parts { stack, timeline, ipc, .. } = &self.parts;
                self.answers.ask(id, question, stack, timeline, ipc);
            }
            Request::Exec { id, container, command, stdin, stdout, stderr } => {
                let order = Order { id, command, wanted: [stdin, stdout, stderr], carried };
                let running = self.running.get_mut(&container);
                let run = running.and_then(|Running { target, orders, .. }| Some((target.as_ref()?, orders)));
                self.execs.begin(run, order, &mut self.reports);
            }
            Request::CancelExec { id } => self.execs.cancel(id),
            Request::Prepared { id, outcome } => self.execs.prepared(id, outcome, carried),
            Request::AddEphemeral { id, addition } => {
                let error = self.add_ephemeral(*addition, carried).err();
                self.reports.tell(&Report::EphemeralAdded { id, error }, Vec::new());
            }
        }
    }

    /// Gives the containers other resources, or starts them anew where they want that.
    fn resize(&mut self, resize: Resize) {
        let restarts = resize.restarts(&self.parts.spec);
        let error = self.actuate(&resize).err();
        for name in restarts {
            self.step(Event::RestartRequested { name });
        }
        let generation = resize.generation;
        self.resizing = error.is_some().then_some(resize);
        self.resized(generation, error);
    }

    /// Brings a resize to its end, once what was in its way is gone.
    fn resume_resize(&mut self) {
        let Some(resize) = self.resizing.take() else { return };
        match self.actuate(&resize) {
            Ok(()) => {
                self.step(Event::ConditionSet(resize::in_progress(None)));
                self.resized(resize.generation, None);
            }
            Err(_) => self.resizing = Some(resize),
        }
    }

    fn resized(&mut self, generation: i64, error: Option<String>) {
        let (warning, reason, message) = match &error {
            None => (false, "ResizeCompleted", format!("Pod resize completed: generation {generation}")),
            Some(error) => (true, "ResizeError", format!("Pod resize error: {error}")),
        };
        let (at, reason) = (jiff::Timestamp::now(), reason.to_owned());
        self.reports.note(Note { at, warning, reason, message, container: None });
        if let Some(error) = &error {
            self.step(Event::ConditionSet(resize::in_progress(Some(error.clone()))));
        }
        self.reports.resized(generation, error);
        self.changed = true;
    }

    /// Changes the accounts, and the specification to what is in force then.
    ///
    /// # Errors
    /// What is in the way of the rest.
    fn actuate(&mut self, resize: &Resize) -> Result<(), String> {
        let mut pod = resize.apply(&self.parts.spec);
        let mut errors = Vec::new();
        if let Err(error) = self.memory.set_limit(pod.resources.memory_limit_bytes) {
            pod.resources.memory_limit_bytes = self.memory.limit();
            errors.push(format!("pod: {error}"));
        }
        for container in resize::containers_mut(&mut pod) {
            if let Some(account) = self.accounts.get(&container.name)
                && let Err(error) = account.resize(&container.resources)
            {
                container.resources.memory_limit_bytes = account.memory.limit();
                errors.push(format!("container {}: {error}", container.name));
            }
        }
        self.parts.spec = Arc::new(pod);
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    /// Adds an ephemeral container to the pod; the machine decides about its start.
    fn add_ephemeral(&mut self, addition: Addition, carried: Vec<OwnedFd>) -> Result<(), String> {
        if self.state.is_ending() {
            return Err("the pod is ending".to_owned());
        }
        let container = additions::check(&addition, &self.parts.spec)?;
        let code = carried.into_iter().next().ok_or("the machine code was lost on the way")?;
        let path = addition.path.to_string_lossy();
        let program = self.execs.components().link(code, &addition.digest, &path);
        let program = program.map_err(|error| error.message)?;
        self.parts.facts.image_ids.insert(container.name.clone(), program.digest().to_owned());
        self.parts.programs.insert(container.name.clone(), program);
        let pod = Arc::make_mut(&mut self.parts.spec);
        pod.ephemeral_containers.push(container);
        pod.generation += 1;
        self.step(Event::EphemeralAdded);
        Ok(())
    }

    /// Lets the machine decide about an event and does what it says.
    fn step(&mut self, event: Event) {
        let now = self.clock.now();
        let (missed, evicted) = (self.state.has_missed_deadline(), evicted(&event));
        let actions = self.state.step(&self.parts.spec, event, now);
        if let Some(message) = evicted {
            self.note(true, "Evicted", message, None);
        }
        if self.state.has_missed_deadline() && !missed {
            self.note(false, "DeadlineExceeded", DEADLINE_MESSAGE.to_owned(), None);
        }
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
                Action::Stop { container, deadline, why } => {
                    let Some(running) = self.running.get(&container) else { continue };
                    // Asked again, it has another deadline.
                    if running.stop.ask(Stop { deadline, reason: why }) {
                        running.endpoint.stop_listening();
                        running.ipc.stop();
                        let message = self.killing(&container, why);
                        self.note(false, "Killing", message, Some(&container));
                    }
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
        let (state, spec) = (&self.state, &self.parts.spec);
        self.parts.timeline.look_for_ready(|container| state.is_ready(spec, container));
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
            target: running.target.clone(),
        };
        order(&mut self.attendants, &mut running.orders, spec, place);
    }

    fn attended(&mut self, Attended { event, told }: Attended) {
        let (Event::HookEnded { name, .. } | Event::ProbeEnded { name, .. }) = &event else { return };
        if let Some((reason, message)) = told {
            self.note(true, reason, message, Some(&name.clone()));
        }
        self.step(event);
    }

    fn evicted(&mut self, message: String) {
        let (at, reason) = (jiff::Timestamp::now(), "Evicted".to_owned());
        self.reports.note(Note { at, warning: true, reason, message: message.clone(), container: None });
        self.step(Event::Evicted { message });
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

    fn note(&mut self, warning: bool, reason: &str, message: String, container: Option<&str>) {
        let (at, container) = (jiff::Timestamp::now(), container.map(str::to_owned));
        self.reports.note(Note { at, warning, reason: reason.to_owned(), message, container });
    }

    /// What the container's instances are charged to.
    fn account(&mut self, spec: &Container) -> Arc<Account> {
        let memory = &self.memory;
        let account = || Arc::new(Account::new(&spec.resources, memory));
        Arc::clone(self.accounts.entry(spec.name.clone()).or_insert_with(account))
    }

    fn start(&mut self, name: String, restart: u32) {
        let pod = Arc::clone(&self.parts.spec);
        let (Some(spec), Some(program)) = (pod.container(&name), self.parts.programs.get(&name).cloned())
        else {
            return;
        };
        let account = self.account(spec);
        let log = self.parts.logger.container(&name, restart);
        let endpoint = self.parts.stack.attach(&name);
        let ipc = self.parts.ipc.attach();
        let (stop, stopping) = stop::channel(self.clock.0);
        let own = Own {
            memory: Arc::clone(&account.memory),
            endpoint: endpoint.clone(),
            ipc: ipc.clone(),
            stop: stopping,
            marks: self.parts.timeline.ordered(&name, restart),
        };
        let (setup, words) = match self.setup(spec, &program, &log, own) {
            Ok((setup, words)) => (Ok(setup), Some(words)),
            Err(error) => (Err(error), None),
        };
        let target = setup.as_ref().ok().map(|setup| {
            Target::new(
                &name,
                exec::Parts {
                    program: program.clone(),
                    setup: setup.clone(),
                    stack: Arc::clone(&self.parts.stack),
                    epochs: self.parts.epochs.clone(),
                    account: Arc::clone(&account),
                    components: self.execs.components().clone(),
                },
            )
        });
        let (kill, killed) = oneshot::channel::<()>();
        let run = run_container(
            program,
            account,
            self.parts.epochs.clone(),
            setup,
            log,
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
            (named, words.into_iter().fold(exit, |exit, words| words.complete(exit)))
        });
        let orders = Orders::default();
        self.running.insert(
            name,
            Running { task: task.id(), endpoint, ipc, kill: Some(kill), ordered, stop, orders, target },
        );
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
        log: &ContainerLog,
        own: Own,
    ) -> Result<(Setup, LastWords), String> {
        let Own { memory, endpoint, ipc, stop, marks } = own;
        let image_entry = || vec![program.name().to_owned()];
        let command = if spec.command.is_empty() { image_entry() } else { spec.command.clone() };
        // Container runtimes set HOSTNAME, and the manifest may say otherwise.
        let hostname = ("HOSTNAME".to_owned(), self.parts.spec.hostname.clone());
        let mut preopens = self.parts.volumes.preopens(spec).map_err(|error| error.to_string())?;
        let tail = spec.termination_message.falls_back_to_logs.then(|| log.tail());
        let words = self.parts.messages.for_run(spec, tail, &mut preopens);
        let words = words.map_err(|error| {
            format!("cannot make {} for its last words: {error}", spec.termination_message.path)
        })?;
        let setup = Setup {
            argv: command.into_iter().chain(spec.args.iter().cloned()).collect(),
            env: std::iter::once(hostname).chain(spec.env.iter().cloned()).collect(),
            working_dir: spec.working_dir.clone(),
            preopens: preopens.into(),
            memory,
            endpoint,
            ipc,
            stop,
            marks,
        };
        Ok((setup, words))
    }
}

/// The first line of a message, for a line on the user's terminal: a guest may have written it.
fn headline(message: &str) -> Option<String> {
    let line = message.lines().find(|line| !line.trim().is_empty())?;
    let shown = line.chars().take(MAX_HEADLINE).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    Some(shown.collect())
}

/// The eviction's message, if that is what happened.
fn evicted(event: &Event) -> Option<String> {
    match event {
        Event::Evicted { message } => Some(message.clone()),
        _ => None,
    }
}

async fn run_container(
    program: Program,
    account: Arc<Account>,
    epochs: EpochHandle,
    setup: Result<Setup, String>,
    log: ContainerLog,
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
            let run = runner::run(&program, &Call::Main, setup, Stdio::Log(log), started);
            account.cpu.run(epochs.run(run)).await
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
