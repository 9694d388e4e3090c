//! From a validated pod and its linked images to a running pod process.
//!
//! ```text
//! supervisor: Plan ─► sandbox::create ─► Sandbox (watched by whoever launched it)
//!                          │ fork
//! pod process:             └─► volumes ─► network, logger, ticker ─► worker::run ─► exit
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::backoff::BackoffPolicy;
use super::control::{self, Report};
use super::status::Facts;
use super::worker::{self, Parts};
use crate::container::log::file::Rotation;
use crate::container::log::{Console, LogConfig, LogEvent, Logger};
use crate::container::runner::Program;
use crate::engine::{Engine, EpochTicker};
use crate::net::{Stack, StackConfig};
use crate::sandbox::{self, Inside, Sandbox, SandboxError};
use crate::spec::Pod;
use crate::spec::qos::QosClass;
use crate::volume::{VolumeError, Volumes};

/// Exit code of a pod process that could not begin; its supervisor has the reason.
const EXIT_NOT_BEGUN: i32 = 125;

/// Everything a pod process needs, ready before it exists.
pub struct Plan {
    /// The pod.
    pub spec: Arc<Pod>,
    /// The linked image of each container, by container name.
    pub programs: BTreeMap<String, Program>,
    /// The engine that they were linked for.
    pub engine: Engine,
    /// Where the containers' output appears besides their log files.
    pub console: Option<Console>,
    /// Where the log files are, when not in the pod's own directory, which goes with it.
    pub log_dir: Option<PathBuf>,
    /// How restarts are delayed.
    pub backoff: BackoffPolicy,
}

/// Makes the pod's sandbox and starts it there. This process must be single-threaded.
///
/// # Errors
/// See [`sandbox::create`]. What fails later, inside, comes as [`Report::Failed`].
pub fn launch(plan: Plan, config: &sandbox::Config<'_>) -> Result<Sandbox, SandboxError> {
    sandbox::create(config, |inside| begin(plan, inside))
}

/// Why a pod process cannot begin.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("cannot start the pod process's {what}: {error}")]
    Start { what: &'static str, error: io::Error },
}

/// The pod process, from here to its end.
fn begin(plan: Plan, inside: Inside) -> i32 {
    let control = inside.control.try_clone();
    match run(plan, inside) {
        Ok(code) => code,
        Err(error) => {
            if let Ok(mut control) = control {
                let message = control::encode(&Report::Failed { message: error.to_string() });
                // A supervisor that is gone needs no reason.
                let _ = io::Write::write_all(&mut control, &message);
            }
            EXIT_NOT_BEGUN
        }
    }
}

fn run(plan: Plan, inside: Inside) -> Result<i32, BeginError> {
    let Plan { spec, programs, engine, console, log_dir, backoff } = plan;
    let Inside { control, addresses, pod_dir, .. } = inside;
    let start = |what| move |error| BeginError::Start { what, error };

    let mut volumes = Volumes::prepare(&spec, &pod_dir)?;
    volumes.mount_memory()?;
    let stack = Stack::new(StackConfig {
        addresses: addresses.clone(),
        hostname: spec.hostname.clone(),
        host_aliases: spec.host_aliases.clone(),
        ..StackConfig::default()
    });
    let (tell, troubles) = mpsc::channel(worker::TROUBLE_QUEUE);
    let logger = Logger::start(LogConfig {
        dir: log_dir.unwrap_or_else(|| pod_dir.join("logs")),
        rotation: Rotation::default(),
        console,
        on_event: Box::new(move |event| {
            // Told once per kind and file; what finds no place in the queue is one of many like it.
            let _ = tell.try_send(trouble(event));
        }),
    })
    .map_err(start("logger"))?;
    let ticker = EpochTicker::start(&engine).map_err(start("ticker"))?;
    let facts = Facts {
        pod_ips: addresses,
        qos_class: QosClass::of(&spec).as_str().to_owned(),
        image_ids: programs
            .iter()
            .map(|(name, program)| (name.clone(), program.digest().to_owned()))
            .collect(),
        ..Facts::default()
    };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(start("event loop"))?;
    let parts =
        Parts { spec, programs, volumes, stack, logger, epochs: ticker.handle(), facts, backoff, troubles };
    let code = runtime.block_on(worker::run(parts, control)).map_err(start("control socket"))?;
    // Work on the blocking pool belongs to containers that are gone.
    runtime.shutdown_background();
    Ok(code)
}

/// What the supervisor is told of the logger's trouble.
fn trouble(event: LogEvent) -> control::Event {
    match event {
        LogEvent::ConsoleGone { .. } => control::Event::OutputClosed,
        LogEvent::File { container, error } => {
            control::Event::Warning(format!("the log of container {container}: {error}"))
        }
    }
}
