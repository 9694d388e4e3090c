//! `peapod run FILE`: the supervisor of one pod, in the foreground.
//!
//! ```text
//! load ─► claims ─► build, compile, link ─► sandbox (fork) ─► supervise ─► remove ─► exit code
//! └───────────── single-threaded: this process is the zygote ──────────┘
//! ```

mod args;

pub use args::Args;
use args::STDOUT;

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::{self as wire, PodStatus};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::display::Display;
use super::images::{Images, Made};
use super::startup::Startup;
use super::supervise::{End, PATIENCE, Watch};
use super::{EXIT_BAD_MANIFEST, EXIT_HOST, Failure, claims, counted, load, output, trace};
use crate::container::log::Console;
use crate::container::state::KILLED_EXIT_CODE;
use crate::engine::Engines;
use crate::paths::Paths;
use crate::pod::actions::MIN_STOP_WINDOW;
use crate::pod::backoff::BackoffPolicy;
use crate::pod::control::PodTimeline;
use crate::pod::death::status_after_death;
use crate::pod::launch::{Plan, launch};
use crate::pod::resize::Resizer;
use crate::pod::storage;
use crate::sandbox::cgroup::Limits;
use crate::sandbox::cni::{Chain, CniError, PLUGIN_DIRECTORIES};
use crate::sandbox::host_port::PortMapping;
use crate::sandbox::network::PodNetworks;
use crate::sandbox::oom;
use crate::sandbox::record::Identity;
use crate::sandbox::{self, Sandbox};
use crate::spec::convert::Converted;
use crate::spec::{NetworkMode, Pod, Protocol};
use crate::sys::pidfd::Exit;
use crate::volume::Bound;

/// Size of a pod's /dev/shm, bytes: what container runtimes give.
const SHM_BYTES: u64 = 64 << 20;

/// Runs the pod; see the module's header.
pub fn run(args: Args, verbose: u8) -> Result<ExitCode, Failure> {
    args.check().map_err(|error| Failure::new(EXIT_BAD_MANIFEST, error))?;
    let display = Display::new(verbose);
    let paths = Paths::from_env();

    let mut startup = Startup::new();
    let clock = Instant::now();
    let overrides = load::Overrides { name: args.name.clone(), network: args.network.map(Into::into) };
    let Converted { pod, wire, manifest, warnings } = load::manifest(&args.file, overrides)?;
    for warning in &warnings {
        display.warning(warning);
    }
    let what =
        format!("{}/{}, {}", pod.namespace, pod.name, counted(pod.all_containers().count(), "container"));
    display.step("manifest", what, clock.elapsed());
    startup.step("manifest", clock);
    startup.moment("accepted");

    let clock = Instant::now();
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
    startup.step("sweep", clock);
    let chain = load_chain(&args).context("--cni-conf-dir")?;
    let clock = Instant::now();
    // Held until all of the pod is gone.
    let held = claims::hold(&paths, &pod, &display)?;
    if !held.bound.is_empty() {
        startup.step("claims", clock);
    }
    let plan = prepare(&args, &paths, pod, held.bound.clone(), &display, &mut startup)?;
    let spec = Arc::clone(&plan.spec);
    raise_open_files();
    let signals = block_signals()?;
    let clock = Instant::now();
    let host = sandbox::Host::look();
    let host_ports = PortMapping::of(&spec);
    let config = sandbox_config(&host, &paths, &args, &spec, &host_ports, chain.as_ref());
    let mut sandbox = launch(plan, &config)?;
    startup.step("sandbox", clock);
    startup.laps(&sandbox.timings);
    let leads = chain.as_ref().is_none_or(Chain::maps_ports);
    let host_ports = if leads { &host_ports[..] } else { &[] };
    show_sandbox(&sandbox, &spec, host_ports, clock.elapsed(), &display);

    let set_limits = |limits: &Limits| sandbox.resize(limits);
    let control = sandbox.control.try_clone().context("cannot duplicate the control socket")?;
    let watch = Watch {
        display: &display,
        timeout: args.timeout,
        grace: spec.termination_grace,
        patience: PATIENCE + MIN_STOP_WINDOW * (1 + spec.init_containers.len() as u32),
        kill: &|| {
            let _ = sandbox.kill();
        },
        oom_kills: &|| sandbox.oom_kills(),
        oom_notices: sandbox.oom_notices(),
        resizer: Resizer::new(&spec, &set_limits).into(),
        pod: &wire,
        manifest: &manifest,
        relabel: &|labels| sandbox.relabel(labels),
        startup: &startup,
        spec: &spec,
        directory: &paths.pod_run(&spec.uid),
        manifest_dir: &load::directory_of(&args.file)?,
    };
    let (end, wire) = watch.run(control, || signals.restore())?;
    if let Some(path) = &args.trace {
        write_trace(path, &startup, &wire, &end, &display);
    }
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
fn prepare(
    args: &Args,
    paths: &Paths,
    pod: Pod,
    bound: Bound,
    display: &Display,
    startup: &mut Startup,
) -> Result<Plan, Failure> {
    let clock = Instant::now();
    let engines = Engines::default();
    let mut images = Images::new(&engines, paths, args.build, display)?;
    let programs = images.programs(&pod)?;
    if let Some(warning) = engines.warning() {
        display.warning(warning);
    }
    let mut bound = bound;
    bound.extend(images.volumes(&pod)?);
    display.step("images", images.summary(), clock.elapsed());
    startup.step("images", clock);
    for container in pod.all_containers() {
        if let Some(Made { from, to, compiled }) = images.made(container) {
            startup.image(&container.name, from, to, compiled);
        }
    }

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
        hosts: images.hosts(),
        console: Some(console.context("cannot use standard output")?),
        pcap: args.pcap.as_deref().map(open_pcap).transpose()?,
        log_dir: log_dir.transpose().context("--log-dir: cannot make the pod's directory there")?,
        backoff: BackoffPolicy::with_base(args.backoff_base),
        storage_period: args.storage_period.unwrap_or(storage::PERIOD),
        origin: startup.origin(),
        tells_timeline: args.trace.is_some(),
        bound,
    })
}

/// The file of `--trace`. That it cannot be written does not fail a pod that has ended.
fn write_trace(path: &Path, startup: &Startup, pod: &wire::Pod, end: &End, display: &Display) {
    let inside = match end {
        End::Finished { timeline, .. } => timeline.clone(),
        End::Died { .. } => PodTimeline::default(),
    };
    if let Err(error) = trace::write(path, &startup.timeline(pod, inside)) {
        display.warning(format!("--trace: {error:#}"));
    }
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
        oom_score_adj: oom::score_adj(pod),
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
    if sandbox.oom_score_adj().is_some_and(|score| score != oom::score_adj(pod)) {
        display.aside("oom_score_adj stays as it is: to lower it takes CAP_SYS_RESOURCE");
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
        End::Finished { status, exit_code, .. } => {
            Ok((Some(*status), u8::try_from(exit_code).unwrap_or(EXIT_HOST)))
        }
        End::Died { status, outlived } => {
            // It may live on and only have said what could not be understood.
            sandbox.kill().context("cannot kill the pod process")?;
            let exit = sandbox.wait().context("cannot wait for the pod process")?;
            // Of those that were killed, the last.
            let out_of_memory = exit == Exit::Signal(libc::SIGKILL) && sandbox.oom_kills() > outlived;
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
