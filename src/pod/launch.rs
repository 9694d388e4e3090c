//! From a validated pod and its linked images to a running pod process.
//!
//! ```text
//! supervisor:  Plan ─► sandbox::create ─┬─► the link, its route ─────────► Sandbox (for whoever launched it)
//!                                       │ fork                  │ addresses
//! pod process:                          └─► Prepared: volumes, ─┴─► Network::open ─► worker::run ─► exit
//!                                           network, logger, ticker, event loop
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::backoff::BackoffPolicy;
use super::control;
use super::network::{EtcError, Network, Outside};
use super::node;
use super::status::Facts;
use super::timeline::Timeline;
use super::worker::{self, Parts};
use crate::container::log::file::Rotation;
use crate::container::log::{Console, LogConfig, LogEvent, Logger};
use crate::container::message::Messages;
use crate::container::runner::{Hosts, Program};
use crate::container::user::{self, near};
use crate::descriptors::Descriptors;
use crate::engine::EpochTicker;
use crate::ipc::Ipc;
use crate::keyvalue::KeyValue;
use crate::net::{Recording, Tell};
use crate::sandbox::{self, Entered, Inside, NotBegun, Sandbox, SandboxError};
use crate::spec::environment::Surroundings;
use crate::spec::qos::QosClass;
use crate::spec::{NetworkMode, Pod};
use crate::sys::affinity;
use crate::volume::{Bound, VolumeErrors, Volumes};

/// Exit code of a pod process that could not begin; its supervisor has the reason.
const EXIT_NOT_BEGUN: i32 = 125;

/// Where the pod's shared memory is, a tmpfs of its own (`sandbox::process`).
const SHARED_MEMORY: &str = "/dev/shm";

/// Threads for what the pod does with files, and its key-value stores: the containers have their own
/// (`container::user`). Well below what the pod's cgroup allows (`cgroup::PIDS`).
const BLOCKING_THREADS: usize = 64;

/// Where the containers' termination messages are below the pod's state directory.
const MESSAGES: &str = "messages";

/// Where key-value stores are that are in no volume, there as well.
const KEY_VALUE: &str = "keyvalue";

/// Polls of containers between two looks at timers and I/O, where every container is ready at once. Not fewer:
/// looking takes a microsecond, as much as many a poll. A container that computes for a whole
/// [`EPOCH_TICK`](crate::engine::EPOCH_TICK) ends the round, as it comes back only after the next look.
pub const EVENT_INTERVAL: u32 = 32;

/// Everything a pod process needs, ready before it exists.
pub struct Plan {
    /// The pod.
    pub spec: Arc<Pod>,
    /// The linked image of each container, by container name.
    pub programs: BTreeMap<String, Program>,
    /// What images are linked against, for those that come later, and the engines of all.
    pub hosts: Arc<Hosts>,
    /// Where the containers' output appears besides their log files.
    pub console: Option<Console>,
    /// Where the log files are, when not in the pod's own directory, which goes with it.
    pub log_dir: Option<PathBuf>,
    /// Where the memory plane's traffic is recorded.
    pub pcap: Option<File>,
    /// How restarts are delayed.
    pub backoff: BackoffPolicy,
    /// How often the use of the disk is looked at, where it is limited.
    pub storage_period: Duration,
    /// Where the timeline's axis begins.
    pub origin: Instant,
    /// Whether the supervisor wants the timeline when the pod has ended.
    pub tells_timeline: bool,
    /// The directories of claims and images.
    pub bound: Bound,
}

/// Makes the pod's sandbox and starts it there. This process must be single-threaded.
///
/// # Errors
/// See [`sandbox::create`].
pub fn launch(plan: Plan, config: &sandbox::Config<'_>) -> Result<Sandbox, SandboxError> {
    let outside = Outside::look(&plan.spec, config);
    let around = Surroundings {
        node_name: node::name(),
        allocatable: node::allocatable(&config.paths.state),
        ..Surroundings::default()
    };
    sandbox::create(config, |entered| pod_process(plan, outside, around, entered))
}

/// Why a pod process cannot begin.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Volumes(#[from] VolumeErrors),
    #[error("cannot use the volumes for key-value stores: {0}")]
    KeyValue(io::Error),
    #[error(transparent)]
    Etc(#[from] EtcError),
    #[error("cannot make the place for termination messages: {0}")]
    Messages(io::Error),
    #[error("cannot start the pod process's {what}: {error}")]
    Start { what: &'static str, error: io::Error },
}

/// The pod process, from here to its end.
fn pod_process(plan: Plan, outside: Outside, around: Surroundings, entered: Entered) -> i32 {
    let prepared = match Prepared::new(plan, outside, around, entered.pod_dir()) {
        Ok(prepared) => prepared,
        Err(error) => {
            entered.refuse(&error.to_string());
            return EXIT_NOT_BEGUN;
        }
    };
    match entered.begin() {
        Ok(inside) => prepared.run(inside),
        Err(NotBegun) => EXIT_NOT_BEGUN,
    }
}

/// A pod process with everything but its addresses: the supervisor makes its link meanwhile.
struct Prepared {
    spec: Arc<Pod>,
    programs: BTreeMap<String, Program>,
    hosts: Arc<Hosts>,
    volumes: Volumes,
    key_value: Arc<KeyValue>,
    messages: Messages,
    /// But for addresses.
    around: Surroundings,
    network: Network,
    logger: Logger,
    troubles: mpsc::Receiver<control::Event>,
    recording: Option<Recording>,
    ticker: EpochTicker,
    runtime: Runtime,
    backoff: BackoffPolicy,
    log_dir: PathBuf,
    storage_period: Duration,
    timeline: Timeline,
    tells_timeline: bool,
}

impl Prepared {
    fn new(plan: Plan, outside: Outside, around: Surroundings, pod_dir: &Path) -> Result<Self, BeginError> {
        let Plan { spec, programs, hosts, console, log_dir, pcap, backoff, .. } = plan;
        let Plan { storage_period, origin, tells_timeline, bound, .. } = plan;
        let mut timeline = Timeline::new(origin);
        let begun = Instant::now();
        crate::sys::heap::share_between_threads();
        let start = |what| move |error| BeginError::Start { what, error };
        let (trouble, troubles) = mpsc::channel(worker::TROUBLE_QUEUE);
        let mut volumes = Volumes::set_up(&spec, pod_dir, &bound, around.allocatable)?;
        let key_value =
            KeyValue::new(&spec, &volumes, pod_dir.join(KEY_VALUE)).map_err(BeginError::KeyValue)?;
        if let Some(ignored) = user::ignored(&spec) {
            // The queue is empty yet.
            let _ = trouble.try_send(control::Event::Warning(ignored));
        }
        let containers = spec.all_containers().count();
        let messages = Messages::mount(&pod_dir.join(MESSAGES), containers).map_err(BeginError::Messages)?;
        let begun = timeline.step("volumes", begun);
        let network = Network::prepare(&spec, outside, tell_by(trouble.clone()))?;
        volumes.offer_etc(network.open_etc()?);
        let begun = timeline.step("network files", begun);
        let log_dir = log_dir.unwrap_or_else(|| pod_dir.join("logs"));
        let mut prepared = Self {
            logger: start_logger(log_dir.clone(), console, trouble).map_err(start("logger"))?,
            recording: pcap.map(Recording::start).transpose().map_err(start("capture"))?,
            ticker: EpochTicker::start(hosts.engines()).map_err(start("ticker"))?,
            runtime: event_loop().map_err(start("event loop"))?,
            spec,
            programs,
            hosts,
            volumes,
            key_value: key_value.into(),
            messages,
            around,
            network,
            troubles,
            backoff,
            log_dir,
            storage_period,
            timeline,
            tells_timeline,
        };
        prepared.timeline.step("event loop", begun);
        Ok(prepared)
    }

    fn run(mut self, inside: Inside) -> i32 {
        let begun = Instant::now();
        let Inside { control, addresses, host_addresses, .. } = inside;
        let capture = self.recording.as_ref().map(Recording::capture);
        let descriptors = Descriptors::of_process(self.spec.all_containers().count());
        let (stack, following) = self.network.open(&self.spec, &addresses, capture, descriptors.clone());
        self.timeline.step("network", begun);
        let ipc = self.spec.ipc;
        let facts = facts(&self.spec, &self.programs, addresses, host_addresses);
        let (pod_ips, host_ips) = (facts.pod_ips.clone(), facts.host_ips.clone());
        let parts = Parts {
            around: Surroundings { pod_ips, host_ips, ..self.around },
            facts,
            spec: self.spec,
            programs: self.programs,
            volumes: self.volumes,
            messages: self.messages,
            stack,
            key_value: self.key_value,
            ipc: Ipc::sharing(ipc, SHARED_MEMORY.into(), descriptors.clone()),
            descriptors,
            logger: self.logger,
            epochs: self.ticker.handle(),
            backoff: self.backoff,
            log_dir: self.log_dir,
            storage_period: self.storage_period,
            troubles: self.troubles,
            recording: self.recording,
            timeline: self.timeline,
            tells_timeline: self.tells_timeline,
        };
        let code = self.runtime.block_on(async {
            tokio::select! {
                biased;
                code = worker::run(parts, self.hosts, control) => code,
                // Never ends; dropped with the pod's last container.
                () = following.run() => Ok(EXIT_NOT_BEGUN),
            }
        });
        // Work on the blocking pool belongs to containers that are gone.
        self.runtime.shutdown_background();
        // Without its control socket a pod has no supervisor, and no reason to begin.
        code.unwrap_or(EXIT_NOT_BEGUN)
    }
}

/// What a pod's status says of its surroundings.
fn facts(
    spec: &Pod,
    programs: &BTreeMap<String, Program>,
    addresses: Vec<IpAddr>,
    host_addresses: Vec<IpAddr>,
) -> Facts {
    let image_id = |(name, program): (&String, &Program)| (name.clone(), program.digest().to_owned());
    Facts {
        pod_ips: if spec.network == NetworkMode::Host { host_addresses.clone() } else { addresses },
        host_ips: host_addresses,
        qos_class: QosClass::of(spec).as_str().to_owned(),
        image_ids: programs.iter().map(image_id).collect(),
    }
}

fn start_logger(
    dir: PathBuf,
    console: Option<Console>,
    tell: mpsc::Sender<control::Event>,
) -> io::Result<Logger> {
    Logger::start(LogConfig {
        dir,
        rotation: Rotation::default(),
        console,
        on_event: Box::new(move |event| {
            // Told once per kind and file; what finds no place in the queue is one of many like it.
            let _ = tell.try_send(trouble(event));
        }),
    })
}

/// The runtime that a pod process polls all of its containers on.
///
/// # Errors
/// The process has no descriptor left.
pub fn event_loop() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .max_blocking_threads(BLOCKING_THREADS)
        .on_thread_start(affinity::anywhere)
        .on_thread_park(near::sleeps)
        .on_thread_unpark(near::wakes)
        .build()
}

/// How the network tells the user something: as a warning, by way of the supervisor.
fn tell_by(queue: mpsc::Sender<control::Event>) -> Tell {
    Tell::new(move |text| {
        // What finds no place is one of many like it, and what counts is counted.
        let _ = queue.try_send(control::Event::Warning(text));
    })
}

/// What the supervisor is told of the logger's trouble.
fn trouble(event: LogEvent) -> control::Event {
    match event {
        LogEvent::ConsoleGone { error } => control::Event::OutputClosed { error: error.to_string() },
        LogEvent::File { container, error } => {
            control::Event::Warning(format!("the log of container {container}: {error}"))
        }
    }
}
