//! `peapod run FILE`: the supervisor of one pod, in the foreground.
//!
//! ```text
//! load ─► build, compile, link ─► sandbox (fork) ─► supervise ─► remove ─► exit code
//! └──────── single-threaded: this process is the zygote ───────┘
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use super::display::Display;
use super::{EXIT_HOST, EXIT_TIMEOUT, Failure, load};
use crate::paths::Paths;
use crate::spec::NetworkMode;

/// Run a pod in the foreground until it ends or is stopped.
///
/// The pod gets Linux namespaces and a cgroup of its own. Ctrl-C ends it gracefully within its
/// terminationGracePeriodSeconds, a second Ctrl-C at once; either way nothing of it is left behind.
/// The containers' standard output and error appear on this command's.
#[derive(clap::Args)]
#[command(after_help = "\
Exit code: 0 the pod Succeeded; the failing container's code when it Failed (134 trapped, 137 out of
memory or killed); 2 bad manifest; 124 --timeout; 125 host trouble; 126 an image cannot run; 127 an image
is missing; 130 Ctrl-C; 143 SIGTERM.")]
pub struct Args {
    /// A Pod manifest in YAML or JSON; - reads standard input.
    file: PathBuf,
    /// Build images that are directories of guest source, where missing or older than the source.
    #[arg(long)]
    build: bool,
    /// Run the pod under this name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The pod's network [default: the manifest's: pod, or host with hostNetwork].
    #[arg(long, value_name = "MODE")]
    network: Option<Network>,
    /// Where pods' addresses come from; moved aside when the host already routes it.
    #[arg(long, value_name = "CIDR", default_value = "10.201.0.0/16")]
    pod_cidr: Ipv4Net,
    /// Stop the pod after this long: 90, 90s, 5m, 1h30m. Exit code 124.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Print the final Pod with its status on standard output; the containers' output goes to standard
    /// error then.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
    /// Keep the containers' logs, in CRI format, under DIR/<namespace>_<pod>_<uid>/<container>/.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Network {
    /// A network namespace with an address of its own.
    Pod,
    /// A network namespace with loopback only.
    None,
    /// The host's network.
    Host,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    Yaml,
    Json,
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Pod => Self::Pod,
            Network::None => Self::None,
            Network::Host => Self::Host,
        }
    }
}

/// `90`, `90s`, `1h30m`: seconds, or what Kubernetes' durations look like.
fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "expected a duration such as 90s, 5m or 1h30m".to_owned())?;
    Duration::try_from(span).map_err(|_| "a duration cannot be negative".to_owned())
}
