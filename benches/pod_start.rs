//! How long a pod takes to start: from an accepted manifest to the first byte of its container's output.
//!
//! Measured in one run, taking turns, so that the machine's mood hits all alike:
//!
//! * **floor**: the kernel's share: the same namespaces, veth pair, cgroup and a bare fork whose child
//!   writes one byte;
//! * **pod**: a whole pod with network and cgroup, its image's machine code mapped from the cache on disk;
//!   nothing is warm but the zygote (engine and linker);
//! * **hot**: the same with the image already mapped and linked in the zygote;
//! * **podman**: `podman run --rm` of a busybox image, where podman and the image are installed.
//!
//! ```console
//! # cargo bench --bench pod_start -- [--rounds N] [--pause MS] [--steps]
//! ```
//!
//! Starts are paced: an isolated start meets cold caches and idle cores, which a tight loop hides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use peapod::container::log::Console;
use peapod::container::runner::{Hosts, Program};
use peapod::engine::Engines;
use peapod::image;
use peapod::paths::Paths;
use peapod::pod::backoff::BackoffPolicy;
use peapod::pod::launch::{Plan, launch};
use peapod::pod::storage;
use peapod::sandbox;
use peapod::sandbox::cgroup::Limits;
use peapod::sandbox::oom;
use peapod::sandbox::record::Identity;
use peapod::spec::Pod;
use peapod::spec::convert;

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: bench}
spec:
  restartPolicy: Never
  containers:
  - name: hello
    image: ./hello.wasm
    resources: {limits: {cpu: '1', memory: 64Mi}}
";

/// A guest that says something and waits to be killed, so that its end costs the measurement nothing.
const GUEST: &str =
    "fn main() { println!(\"hello\"); loop { std::thread::sleep(std::time::Duration::MAX) } }";

fn main() -> anyhow::Result<()> {
    let options = Options::from_arguments()?;
    if !nix::unistd::geteuid().is_root() {
        bail!("a pod's network and cgroup need root: run this benchmark as root");
    }
    let zygote = Zygote::new()?;
    zygote.hot_start(&mut Steps::default()).context("the first start")?;

    let podman_cgroups = PodmanCgroups::before();
    let podman = podman_works();
    let mut series: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut steps = Steps::default();
    for _ in 0..options.rounds {
        let mut measure = |name, took: Duration| {
            series.entry(name).or_default().push(took);
            std::thread::sleep(options.pause);
        };
        let floor = sandbox::floor()?;
        steps.add("floor", &floor.phases);
        measure("floor", floor.total);
        measure("pod", zygote.cold_start(&mut steps)?);
        measure("hot", zygote.hot_start(&mut Steps::default())?);
        if podman {
            measure("podman", podman_start()?);
        }
    }
    drop(podman_cgroups);
    report(&mut series);
    if options.steps {
        steps.report();
    }
    Ok(())
}

struct Options {
    rounds: usize,
    pause: Duration,
    steps: bool,
}

impl Options {
    fn from_arguments() -> anyhow::Result<Self> {
        let mut options = Self { rounds: 50, pause: Duration::from_millis(100), steps: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|text| text.parse().ok());
            match argument.as_str() {
                "--rounds" => options.rounds = number().context("--rounds takes a number")?,
                "--pause" => {
                    let pause = number().context("--pause takes milliseconds")?;
                    options.pause = Duration::from_millis(pause as u64);
                }
                "--steps" => options.steps = true,
                // What cargo bench adds.
                "--bench" => {}
                other => bail!("unknown argument {other}"),
            }
        }
        Ok(options)
    }
}

/// What `peapod run` holds before it accepts a manifest.
struct Zygote {
    host: sandbox::Host,
    paths: Paths,
    hosts: Arc<Hosts>,
    store: image::Store,
    spec: Arc<Pod>,
    hot: Program,
}

impl Zygote {
    fn new() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pod_start");
        std::fs::create_dir_all(&root)?;
        build_guest(&root)?;
        // The records of pods are on a tmpfs, as /run is nearly everywhere.
        let run = "/dev/shm/peapod-bench".into();
        let paths = Paths { run, state: root.join("state"), cache: root.join("cache") };
        let engines = Engines::default();
        let hosts = Arc::new(Hosts::new(&engines));
        let store = image::Store::open(&paths.cache, &engines)?;
        let options = convert::Options { manifest_dir: root, ..Default::default() };
        let spec = Arc::new(convert::load(MANIFEST.as_bytes(), &options)?.pod);
        let hot = hosts.link(&store.load(&spec.containers[0].image)?)?;
        Ok(Self { host: sandbox::Host::look(), paths, hosts, store, spec, hot })
    }

    /// A start whose image comes from the cache on disk.
    fn cold_start(&self, steps: &mut Steps) -> anyhow::Result<Duration> {
        let accepted = Instant::now();
        let program = self.hosts.link(&self.store.load(&self.spec.containers[0].image)?)?;
        steps.add("pod", &[("image", accepted.elapsed())]);
        self.start(program, accepted, steps)
    }

    /// A start whose image is mapped and linked already.
    fn hot_start(&self, steps: &mut Steps) -> anyhow::Result<Duration> {
        self.start(self.hot.clone(), Instant::now(), steps)
    }

    /// Starts the pod, waits for its first byte, and removes it.
    fn start(&self, program: Program, accepted: Instant, steps: &mut Steps) -> anyhow::Result<Duration> {
        let (mut output, pod_output) = std::io::pipe()?;
        let plan = Plan {
            spec: Arc::clone(&self.spec),
            programs: BTreeMap::from([(self.spec.containers[0].name.clone(), program)]),
            hosts: Arc::clone(&self.hosts),
            console: Some(Console::new(File::from(OwnedFd::from(pod_output)), File::open("/dev/null")?)),
            log_dir: None,
            pcap: None,
            backoff: BackoffPolicy::default(),
            storage_period: storage::PERIOD,
            origin: Instant::now(),
            tells_timeline: false,
            bound: Default::default(),
        };
        let config = sandbox::Config {
            host: &self.host,
            paths: &self.paths,
            uid: &self.spec.uid,
            identity: Identity::of(&self.spec),
            network: self.spec.network,
            pod_networks: sandbox::network::PodNetworks::default(),
            host_ports: &[],
            cni: None,
            limits: Limits::for_pod(&self.spec),
            oom_score_adj: oom::score_adj(&self.spec),
            shm_bytes: 64 << 20,
            fail_at: None,
        };
        let sandbox = launch(plan, &config)?;
        output.read_exact(&mut [0]).context("the guest said nothing")?;
        let took = accepted.elapsed();
        let known = steps.add("pod", &sandbox.timings);
        steps.add("pod", &[("the rest, to the first byte", took.saturating_sub(known))]);
        let left = sandbox.remove();
        if !left.is_empty() {
            bail!("not removed: {left:?}");
        }
        Ok(took)
    }
}

fn build_guest(directory: &Path) -> anyhow::Result<()> {
    let source = directory.join("hello.rs");
    if std::fs::read_to_string(&source).is_ok_and(|text| text == GUEST)
        && directory.join("hello.wasm").exists()
    {
        return Ok(());
    }
    std::fs::write(&source, GUEST)?;
    let status = Command::new("rustc")
        .args(["--edition", "2024", "--target", "wasm32-wasip2", "-O", "-C", "strip=debuginfo", "-o"])
        .arg(directory.join("hello.wasm"))
        .arg(&source)
        .status()
        .context("rustc, which builds the guest")?;
    if !status.success() {
        bail!("the guest does not build: is the target installed? (rustup target add wasm32-wasip2)");
    }
    Ok(())
}

/// Whether podman can run the image; says why it is not measured.
fn podman_works() -> bool {
    let first = Command::new("podman").args(["run", "--rm", PODMAN_IMAGE, "echo", "hello"]).output();
    let why = match first {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    println!("podman: not measured, {PODMAN_IMAGE} does not run: {why}");
    false
}

const PODMAN_IMAGE: &str = "docker.io/library/busybox:latest";

/// From the command to the first byte of `echo`.
fn podman_start() -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut podman = Command::new("podman")
        .args(["run", "--rm", PODMAN_IMAGE, "echo", "hello"])
        .stdout(Stdio::piped())
        .spawn()?;
    podman.stdout.as_mut().context("a pipe")?.read_exact(&mut [0])?;
    let took = begin.elapsed();
    podman.wait()?;
    Ok(took)
}

/// podman never removes the parent of its containers' cgroups. Where it was made here, this does.
struct PodmanCgroups(Vec<PathBuf>);

impl PodmanCgroups {
    /// Looks for what is not there yet.
    fn before() -> Self {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let roots = hierarchies.map(|hierarchy| hierarchy.path()).chain(["/sys/fs/cgroup".into()]);
        Self(roots.map(|root| root.join("libpod_parent")).filter(|parent| !parent.exists()).collect())
    }
}

impl Drop for PodmanCgroups {
    fn drop(&mut self) {
        for parent in &self.0 {
            for child in std::fs::read_dir(parent).into_iter().flatten().flatten() {
                // The directory of a container that has ended; a cgroup's files cannot be removed, and need not be.
                let _ = std::fs::remove_dir(child.path());
            }
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// The order of the report.
const SERIES: [&str; 4] = ["floor", "pod", "hot", "podman"];

fn report(series: &mut BTreeMap<&str, Vec<Duration>>) {
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let mut floor = None;
    println!("{:<8} {:>10} {:>10} {:>10}   p50 against the floor", "", "min µs", "p50 µs", "p90 µs");
    for name in SERIES {
        let Some(times) = series.get_mut(name) else { continue };
        times.sort();
        let at = |percent: usize| micros(times[(times.len() - 1) * percent / 100]);
        let floor = *floor.get_or_insert(at(50));
        println!("{name:<8} {:>10.0} {:>10.0} {:>10.0}   {:.2} ×", at(0), at(50), at(90), at(50) / floor);
    }
}

/// Where the time goes: each step's samples, in the order in which they were first seen.
#[derive(Default)]
struct Steps(Vec<(&'static str, &'static str, Vec<Duration>)>);

impl Steps {
    /// Adds one start's steps and returns their sum.
    fn add(&mut self, series: &'static str, laps: &[(&'static str, Duration)]) -> Duration {
        for (step, took) in laps {
            match self.0.iter_mut().find(|(of, name, _)| of == &series && name == step) {
                Some((_, _, samples)) => samples.push(*took),
                None => self.0.push((series, step, vec![*took])),
            }
        }
        laps.iter().map(|(_, took)| *took).sum()
    }

    fn report(&mut self) {
        for (series, step, samples) in &mut self.0 {
            samples.sort();
            println!("{series:<8} {:>10.0} µs  {step}", samples[samples.len() / 2].as_secs_f64() * 1e6);
        }
    }
}
