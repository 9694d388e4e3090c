//! The contenders: each runs a server and a client to the client's end and returns what the client printed.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use peapod::container::log::file::Rotation;
use peapod::container::log::{Console, LogConfig, Logger};
use peapod::container::runner::{self, Call, Setup, Stdio};
use peapod::container::stop::StopSignal;
use peapod::engine::MemoryAccount;
use peapod::net::{PlaneConfig, Stack, StackConfig};
use peapod::pod::launch::EVENT_INTERVAL;
use tokio::runtime::{Builder, Runtime};
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

use super::programs::{Programs, Raw, Version};

#[path = "../support/pod.rs"]
mod support;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    Memory,
    Kernel,
    Wasmtime,
    WasmtimePinned,
    WasmtimeThreads,
}

impl Contender {
    pub const ALL: [Self; 5] =
        [Self::Memory, Self::Kernel, Self::Wasmtime, Self::WasmtimePinned, Self::WasmtimeThreads];

    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Kernel => "kernel",
            Self::Wasmtime => "wasmtime",
            Self::WasmtimePinned => "wasmtime, pinned",
            Self::WasmtimeThreads => "wasmtime, threads",
        }
    }

    pub fn run(
        self,
        programs: &'static Programs,
        version: Version,
        server: Vec<String>,
        client: Vec<String>,
    ) -> anyhow::Result<String> {
        match self {
            Self::Memory => in_pod(programs, version, true, server, client),
            Self::Kernel => in_pod(programs, version, false, server, client),
            Self::Wasmtime => runtime()?.block_on(async {
                let serve = tokio::spawn(raw(programs, version, server));
                let measured = raw(programs, version, client).await?;
                serve.await??;
                Ok(measured)
            }),
            Self::WasmtimePinned => pinned(|| on_threads(programs, version, server, client))?,
            Self::WasmtimeThreads => on_threads(programs, version, server, client),
        }
    }
}

/// As a pod process makes its own.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?)
}

/// The two as containers of one pod, without its namespaces: they are not what is measured.
fn in_pod(
    programs: &'static Programs,
    version: Version,
    memory: bool,
    server: Vec<String>,
    client: Vec<String>,
) -> anyhow::Result<String> {
    let pod = Pod::new(memory)?;
    runtime()?.block_on(async {
        let serve = tokio::spawn(pod.container(programs, version, "server", server));
        let measure = tokio::spawn(pod.container(programs, version, "client", client));
        measure.await??;
        serve.await?
    })?;
    pod.output()
}

/// A pod's shared parts.
pub struct Pod {
    stack: Arc<Stack>,
    logger: Logger,
    output: std::io::PipeReader,
    _logs: tempfile::TempDir,
}

impl Pod {
    pub fn new(memory: bool) -> anyhow::Result<Self> {
        let planes = PlaneConfig { memory, ..PlaneConfig::default() };
        let stack = Stack::new(StackConfig { planes, ..StackConfig::default() });
        let (output, stdout) = std::io::pipe()?;
        let logs = tempfile::tempdir()?;
        let logger = Logger::start(LogConfig {
            dir: logs.path().into(),
            rotation: Rotation::default(),
            console: Some(Console::new(File::from(OwnedFd::from(stdout)), File::create("/dev/null")?)),
            on_event: Box::new(|_| {}),
        })?;
        Ok(Self { stack, logger, output, _logs: logs })
    }

    /// Runs one container to its end.
    pub fn container(
        &self,
        programs: &'static Programs,
        version: Version,
        name: &'static str,
        args: Vec<String>,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let about = support::about(name);
        let setup = |about| Setup {
            argv: std::iter::once(name.to_owned()).chain(args).collect(),
            env: vec![],
            working_dir: None,
            user: Default::default(),
            preopens: [].into(),
            memory: Arc::new(MemoryAccount::new(None)),
            endpoint: self.stack.attach(name),
            ipc: peapod::ipc::Ipc::new(Default::default(), "/dev/shm".into()).attach("guest"),
            descriptors: peapod::descriptors::Descriptors::default().share(name),
            key_value: support::key_value(),
            about,
            stop: StopSignal::never(),
            marks: runner::Marks::default(),
        };
        let stdio = Stdio::Log(self.logger.container(name, 0));
        let setup = about.map(setup);
        async move {
            let setup = setup?;
            let run = runner::run(programs.peapod(version), &Call::Main, setup, stdio, async || {});
            let exit = programs.ticker.handle().run(run).await;
            if exit.code == 0 { Ok(()) } else { bail!("{name} ended with {exit:?}") }
        }
    }

    /// What the containers print, while they run.
    pub fn reader(&self) -> std::io::Result<std::io::PipeReader> {
        self.output.try_clone()
    }

    /// What the client printed.
    pub fn output(self) -> anyhow::Result<String> {
        let Self { mut output, logger, .. } = self;
        logger.finish();
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_prefix("[client] "))
            .map(|line| format!("{line}\n"))
            .collect())
    }
}

/// One component under raw wasmtime-wasi.
async fn raw(programs: &'static Programs, version: Version, args: Vec<String>) -> anyhow::Result<String> {
    let output = MemoryOutputPipe::new(1 << 16);
    let mut wasi = WasiCtx::builder();
    wasi.arg("netbench").args(&args).stdout(output.clone()).inherit_stderr().inherit_network();
    wasi.allow_tcp(true);
    let mut store = Store::new(&programs.raw_engine, Raw { wasi: wasi.build(), table: ResourceTable::new() });
    let ended = match version {
        Version::P2 => {
            let command = programs.raw_p2.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await?
        }
        Version::P3 => {
            let command = programs.raw_p3.instantiate_async(&mut store).await?;
            store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await).await??
        }
    };
    if ended.is_err() {
        bail!("{args:?} failed");
    }
    Ok(String::from_utf8(output.contents().to_vec())?)
}

fn on_threads(
    programs: &'static Programs,
    version: Version,
    server: Vec<String>,
    client: Vec<String>,
) -> anyhow::Result<String> {
    std::thread::scope(|scope| {
        let server = scope.spawn(|| runtime()?.block_on(raw(programs, version, server)));
        let measured = runtime()?.block_on(raw(programs, version, client));
        server.join().ok().context("the server panicked")??;
        measured
    })
}

/// Runs this thread, and those that it starts, on one CPU.
fn pinned<T>(run: impl FnOnce() -> T) -> anyhow::Result<T> {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)).context("no CPU")?;
    one.set(first)?;
    sched_setaffinity(this, &one)?;
    let result = run();
    sched_setaffinity(this, &all)?;
    Ok(result)
}
