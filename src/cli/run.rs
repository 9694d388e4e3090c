//! `peapod run FILE`: the supervisor of one pod, in the foreground.
//!
//! ```text
//! load ─► build, compile, link ─► sandbox (fork) ─► supervise ─► remove ─► exit code
//! └──────── single-threaded: this process is the zygote ───────┘
//! ```

use std::fs::File;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ipnet::{Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::PodStatus;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::display::Display;
use super::images::Images;
use super::supervise::{End, PATIENCE, Watch};
use super::{EXIT_BAD_MANIFEST, EXIT_HOST, Failure, counted, load, output};
use crate::container::log::Console;
use crate::container::state::KILLED_EXIT_CODE;
use crate::engine::Engine;
use crate::paths::Paths;
use crate::pod::actions::MIN_STOP_WINDOW;
use crate::pod::backoff::BackoffPolicy;
use crate::pod::death::status_after_death;
use crate::pod::launch::{Plan, launch};
use crate::sandbox::cgroup::Limits;
use crate::sandbox::cni::{Chain, CniError, PLUGIN_DIRECTORIES};
use crate::sandbox::host_port::PortMapping;
use crate::sandbox::network::{PREFIX_V6_MAX, PodNetworks};
use crate::sandbox::record::Identity;
use crate::sandbox::{self, Sandbox};
use crate::spec::convert::Converted;
use crate::spec::{NetworkMode, Pod, Protocol};

/// The name of standard output.
const STDOUT: &str = "-";

/// Size of a pod's /dev/shm, bytes: what container runtimes give.
const SHM_BYTES: u64 = 64 << 20;

/// Run a pod in the foreground until it ends or is stopped.
///
/// The pod gets Linux namespaces and a cgroup of its own. Ctrl-C ends it gracefully within its
/// terminationGracePeriodSeconds, a second Ctrl-C at once; either way nothing of it is left behind.
/// The containers' standard output and error appear on this command's.
///
/// NetworkPolicy documents beside the Pod that select it are enforced. The annotation
/// peapod.dev/network.<container> narrows one container further, inside the pod too: "connect:
/// logs.example.com:443/tcp, localhost:9000; bind: 8080; resolve: none", or none for no network.
#[derive(clap::Args)]
#[command(after_help = "\
Exit code:
  0      the pod Succeeded
  1-255  the failing container's code; 134 trapped, 137 killed or out of memory
  2      bad manifest or command line
  124    --timeout was over
  125    peapod or the host could not do it
  126    an image cannot run
  127    an image is missing
  129    the terminal was closed (SIGHUP)
  130    Ctrl-C (SIGINT)
  143    SIGTERM")]
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
    /// Where pods' IPv4 addresses come from; moved aside when the host already routes it.
    #[arg(long, value_name = "CIDR", default_value_t = PodNetworks::default().v4, value_parser = parse_cidr)]
    pod_cidr: Ipv4Net,
    /// Where pods' IPv6 addresses come from, each the IPv4 address behind this prefix of at most 96 bits;
    /// moved aside when the host already routes it.
    #[arg(long, value_name = "CIDR", default_value_t = PodNetworks::default().v6, value_parser = parse_cidr_v6)]
    pod_cidr_v6: Ipv6Net,
    /// Let CNI plugins see to the pod's network: the first *.conflist, *.conf or *.json of DIR by name.
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are; may be given more than once [default: $CNI_PATH, or /opt/cni/bin and /usr/lib/cni].
    #[arg(long, value_name = "DIR", requires = "cni_conf_dir")]
    cni_bin_dir: Vec<PathBuf>,
    /// Stop the pod after this long: 90, 90s, 5m, 1h30m. Exit code 124.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Print the final Pod with its status on standard output; the containers' output goes to standard
    /// error then.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<output::Format>,
    /// Keep the containers' logs, in CRI format, under DIR/<namespace>_<pod>_<uid>/<container>/.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Record the traffic between the pod's containers, which the kernel never sees, in a file for tcpdump
    /// and Wireshark; - is standard output: `| wireshark -k -i -`.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
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

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::Pod => Self::Pod,
            Network::None => Self::None,
            Network::Host => Self::Host,
        }
    }
}

impl Args {
    fn pcap_is_stdout(&self) -> bool {
        self.pcap.as_deref() == Some(Path::new(STDOUT))
    }

    /// What no option alone shows to be wrong.
    fn check(&self) -> anyhow::Result<()> {
        if self.pcap_is_stdout() {
            anyhow::ensure!(self.output.is_none(), "--pcap - and -o both want standard output");
            let is_terminal = std::io::stdout().is_terminal();
            anyhow::ensure!(!is_terminal, "--pcap -: standard output is a terminal; use a file or a pipe");
        }
        Ok(())
    }
}

/// Runs the pod; see the module's header.
pub fn run(args: Args, verbose: u8) -> Result<ExitCode, Failure> {
    args.check().map_err(|error| Failure::new(EXIT_BAD_MANIFEST, error))?;
    let display = Display::new(verbose);
    let paths = Paths::from_env();

    let clock = Instant::now();
    let overrides = load::Overrides { name: args.name.clone(), network: args.network.map(Into::into) };
    let Converted { pod, wire, warnings } = load::manifest(&args.file, overrides)?;
    for warning in &warnings {
        display.warning(warning);
    }
    let what =
        format!("{}/{}, {}", pod.namespace, pod.name, counted(pod.all_containers().count(), "container"));
    display.step("manifest", what, clock.elapsed());

    for swept in sandbox::sweep(&paths)? {
        let name = swept.name.as_ref().unwrap_or(&swept.uid);
        if swept.errors.is_empty() {
            display.note(format!("cleaned up after pod {name}, whose run was killed"));
        }
        let rest = paths.pod_run(&swept.uid);
        for error in swept.errors {
            display.warning(format!(
                "left of pod {name}, not removed: {error}; the next run tries again, until {} is deleted",
                rest.display()
            ));
        }
    }
    let chain = load_chain(&args).context("--cni-conf-dir")?;
    let plan = prepare(&args, &paths, pod, &display)?;
    let spec = Arc::clone(&plan.spec);
    raise_open_files();
    let signals = block_signals()?;
    let clock = Instant::now();
    let host = sandbox::Host::look();
    let host_ports = PortMapping::of(&spec);
    let config = sandbox_config(&host, &paths, &args, &spec, &host_ports, chain.as_ref());
    let mut sandbox = launch(plan, &config)?;
    let leads = chain.as_ref().is_none_or(Chain::maps_ports);
    let host_ports = if leads { &host_ports[..] } else { &[] };
    show_sandbox(&sandbox, &spec, host_ports, clock.elapsed(), &display);

    let control = sandbox.control.try_clone().context("cannot duplicate the control socket")?;
    let watch = Watch {
        display: &display,
        timeout: args.timeout,
        grace: spec.termination_grace,
        limit: spec.termination_grace + PATIENCE + MIN_STOP_WINDOW * spec.init_containers.len() as u32,
        kill: &|| {
            let _ = sandbox.kill();
        },
        pod: &wire,
        directory: &paths.pod_run(&spec.uid),
    };
    let end = watch.run(control, || signals.restore())?;
    let (status, code) = settle(end, &mut sandbox, &display)?;
    for left in sandbox.remove() {
        display.warning(format!("not removed: {left}; the next run tries again"));
    }
    if let Some(format) = args.output {
        output::print(wire, status, format)?;
    }
    Ok(ExitCode::from(code))
}

/// Everything up to the fork: images, linked, and where output goes.
fn prepare(args: &Args, paths: &Paths, pod: Pod, display: &Display) -> Result<Plan, Failure> {
    let clock = Instant::now();
    let engine = Engine::new()?;
    if let Some(warning) = engine.warning() {
        display.warning(warning);
    }
    let mut images = Images::new(&engine, paths, args.build, display)?;
    let programs = images.programs(&pod)?;
    display.step("images", images.summary(), clock.elapsed());

    let takes_stdout = args.output.is_some() || args.pcap_is_stdout();
    let console = if takes_stdout { Console::stderr() } else { Console::stdio() };
    let log_dir = args.log_dir.as_ref().map(|dir| {
        // The pod process does not share the current directory's meaning.
        let dir = std::path::absolute(dir)?;
        let dir = dir.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid));
        std::fs::create_dir_all(&dir)?;
        Ok::<_, std::io::Error>(dir)
    });
    Ok(Plan {
        spec: Arc::new(pod),
        programs,
        engine,
        console: Some(console.context("cannot use standard output")?),
        pcap: args.pcap.as_deref().map(open_pcap).transpose()?,
        log_dir: log_dir.transpose().context("--log-dir: cannot make the pod's directory there")?,
        backoff: BackoffPolicy::default(),
    })
}

/// The CNI plugins that the command line names.
fn load_chain(args: &Args) -> Result<Option<Chain>, CniError> {
    let Some(directory) = &args.cni_conf_dir else { return Ok(None) };
    let plugins = match (&args.cni_bin_dir[..], std::env::var_os("CNI_PATH")) {
        ([], Some(path)) => std::env::split_paths(&path).collect(),
        ([], None) => PLUGIN_DIRECTORIES.map(PathBuf::from).to_vec(),
        (directories, _) => directories.to_vec(),
    };
    Chain::load(directory, plugins).map(Some)
}

/// The file of `--pcap`.
fn open_pcap(path: &Path) -> anyhow::Result<File> {
    if path != Path::new(STDOUT) {
        return File::create(path).with_context(|| format!("--pcap: cannot write {}", path.display()));
    }
    let stdout = std::io::stdout().as_fd().try_clone_to_owned();
    Ok(stdout.context("--pcap: cannot use standard output")?.into())
}

fn sandbox_config<'a>(
    host: &'a sandbox::Host,
    paths: &'a Paths,
    args: &Args,
    pod: &'a Pod,
    host_ports: &'a [PortMapping],
    cni: Option<&'a Chain>,
) -> sandbox::Config<'a> {
    sandbox::Config {
        host,
        paths,
        uid: &pod.uid,
        identity: Identity::of(pod),
        network: pod.network,
        pod_networks: PodNetworks { v4: args.pod_cidr, v6: args.pod_cidr_v6 },
        host_ports,
        cni,
        limits: Limits::for_pod(pod),
        shm_bytes: SHM_BYTES,
        fail_at: None,
    }
}

fn show_sandbox(sandbox: &Sandbox, pod: &Pod, host_ports: &[PortMapping], took: Duration, display: &Display) {
    for warning in &sandbox.warnings {
        display.warning(warning);
    }
    display.step("sandbox", format!("process {}", sandbox.pid()), took);
    for (step, took) in &sandbox.timings {
        display.detail(step, *took);
    }
    match (pod.network, &sandbox.addresses[..]) {
        (NetworkMode::Host, _) => display.address("the host's own", &ports(pod, "127.0.0.1", host_ports)),
        (_, [first, ..]) => {
            let all: Vec<_> = sandbox.addresses.iter().map(IpAddr::to_string).collect();
            display.address(all.join("  "), &ports(pod, &first.to_string(), host_ports));
        }
        (_, []) => {
            let user = if nix::unistd::geteuid().is_root() { "" } else { " -U --preserve-credentials" };
            let enter = format!("enter it with: nsenter -t {}{user} -n", sandbox.pid());
            display.address("none: loopback only", &[enter]);
        }
    }
}

/// Where the ports that the manifest names answer: the TCP ports by the host that they are reached at, and the ports of
/// the host that lead to the pod.
fn ports(pod: &Pod, host: &str, host_ports: &[PortMapping]) -> Vec<String> {
    let mut shown = Vec::new();
    for container in pod.all_containers() {
        for port in container.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
            let is_http = port.name.as_deref().is_some_and(|name| name.starts_with("http"));
            let scheme = if is_http { "http://" } else { "" };
            let line = format!("{scheme}{host}:{} ({})", port.container_port, container.name);
            // Several ports of the host may lead to one.
            if !shown.contains(&line) {
                shown.push(line);
            }
        }
    }
    shown.extend(host_ports.iter().map(|mapping| format!("host port {mapping} to {}", mapping.pod_port)));
    shown
}

/// Waits for the pod process and says what the run's end means: the final status and the exit code.
fn settle(end: End, sandbox: &mut Sandbox, display: &Display) -> Result<(Option<PodStatus>, u8), Failure> {
    match end {
        End::Finished { status, exit_code } => {
            Ok((Some(*status), u8::try_from(exit_code).unwrap_or(EXIT_HOST)))
        }
        End::Died { status } => {
            // It may live on and only have said what could not be understood.
            sandbox.kill().context("cannot kill the pod process")?;
            let exit = sandbox.wait().context("cannot wait for the pod process")?;
            let out_of_memory = sandbox.oom_killed();
            let why = if out_of_memory { "the pod's cgroup was out of memory" } else { "it was killed" };
            display.error(format!("the pod process ended with code {}: {why}", exit.shell_code()));
            let died =
                status_after_death(status.map(|status| *status), out_of_memory, jiff::Timestamp::now());
            Ok((Some(died), KILLED_EXIT_CODE))
        }
    }
}

/// Lets the pod process have as many sockets and files as the user may: the usual 1,024 are for programs that
/// use select(2). Where that is refused, its guests find out that there are too many (EMFILE).
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The signals that stop a pod, held back from before there is something to undo until the supervisor
/// listens for them. The pod process inherits that: a Ctrl-C on the terminal is the supervisor's to handle.
struct Blocked(SigSet);

impl Blocked {
    fn restore(&self) {
        // Cannot fail: the set is valid.
        let _ = self.0.thread_unblock();
    }
}

fn block_signals() -> anyhow::Result<Blocked> {
    let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE]);
    set.thread_block().context("cannot block signals")?;
    Ok(Blocked(set))
}

/// `90`, `90s`, `1h30m`: seconds, or what Kubernetes' durations look like.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => parse_span(text)?,
    };
    if duration.is_zero() {
        return Err("no pod ends before it begins; leave --timeout out for none".to_owned());
    }
    Ok(duration)
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "expected a duration such as 90s, 5m or 1h30m".to_owned())?;
    let duration = Duration::try_from(span).map_err(|_| "a duration cannot be negative".to_owned())?;
    // Clocks overflow beyond.
    if duration > MAX_TIMEOUT {
        return Err(format!("a duration can be at most {}h", MAX_TIMEOUT.as_secs() / 3600));
    }
    Ok(duration)
}

/// `10.201.0.0/16`.
fn parse_cidr(text: &str) -> Result<Ipv4Net, String> {
    let form = "expected a network such as 10.201.0.0/16";
    let (address, prefix) =
        text.split_once('/').ok_or_else(|| format!("{form}: an address, / and the length of its prefix"))?;
    let address: Ipv4Addr =
        address.parse().map_err(|_| format!("{form}: {address:?} is not an IPv4 address"))?;
    if address.is_multicast()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_broadcast()
    {
        return Err(format!("{form}: {address} is not an address that is routed"));
    }
    let wrong = || format!("{form}: the prefix length {prefix:?} is not a number from 0 to 32");
    let prefix = prefix.parse().map_err(|_| wrong())?;
    Ipv4Net::new(address, prefix).map_err(|_| wrong())
}

/// `fd70:6561:706f:64::/96`.
fn parse_cidr_v6(text: &str) -> Result<Ipv6Net, String> {
    let form = format!("expected a network such as {}", PodNetworks::default().v6);
    let (address, prefix) =
        text.split_once('/').ok_or_else(|| format!("{form}: an address, / and the length of its prefix"))?;
    let address: Ipv6Addr =
        address.parse().map_err(|_| format!("{form}: {address:?} is not an IPv6 address"))?;
    if address.is_multicast()
        || address.is_unicast_link_local()
        || address.is_unspecified()
        || address.is_loopback()
    {
        return Err(format!("{form}: {address} is not an address that is routed"));
    }
    let wrong = || format!("{form}: the prefix length {prefix:?} is not a number from 1 to {PREFIX_V6_MAX}");
    let prefix =
        prefix.parse().ok().filter(|prefix| (1..=PREFIX_V6_MAX).contains(prefix)).ok_or_else(wrong)?;
    Ipv6Net::new(address, prefix).map_err(|_| wrong())
}

/// The longest `--timeout`: 136 years.
const MAX_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_units() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["0", "0s", "", "-5s", "soon", "2562047788015215h", "99999999999999999999"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_network_says_which_part_is_wrong() {
        assert_eq!(parse_cidr("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        for (wrong, words) in [
            ("10.0.0.0/33", "prefix length \"33\""),
            ("10.0.0.0/", "prefix length"),
            ("10.0.0/8", "not an IPv4 address"),
            ("10.0.0.0", "length of its prefix"),
            ("224.0.0.0/8", "not an address that is routed"),
            ("169.254.0.0/16", "not an address that is routed"),
        ] {
            let error = parse_cidr(wrong).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(parse_cidr_v6("fd00::/64"), Ok("fd00::/64".parse().unwrap()));
        for (wrong, words) in [
            ("fd00::/97", "from 1 to 96"),
            ("fd00::/0", "from 1 to 96"),
            ("fd00::", "length of its prefix"),
            ("10.0.0.0/8", "not an IPv6 address"),
            ("fe80::/64", "not an address that is routed"),
        ] {
            let error = parse_cidr_v6(wrong).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
