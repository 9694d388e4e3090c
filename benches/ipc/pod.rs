//! Containers of one pod, without its namespaces: they are not what is measured.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use peapod::container::log::file::Rotation;
use peapod::container::log::{Console, LogConfig, Logger};
use peapod::container::runner::{self, Call, Hosts, Program, Setup, Stdio};
use peapod::container::stop::StopSignal;
use peapod::engine::{Engines, EpochTicker, MemoryAccount};
use peapod::image::{self, Reference};
use peapod::ipc::Ipc;
use peapod::net::{Stack, StackConfig};
use peapod::pod::launch::EVENT_INTERVAL;

#[path = "../../tests/support/guests.rs"]
mod guests;
#[path = "../support/pod.rs"]
mod support;

#[derive(Clone, Copy)]
pub enum Guest {
    Ipc,
    IpcP3,
    Netbench,
    NetbenchP3,
}

pub struct Programs {
    ticker: EpochTicker,
    programs: [Program; 4],
}

impl Programs {
    pub fn build() -> anyhow::Result<Self> {
        guests::build("wasm32-wasip2", &["ipc"]);
        guests::build("wasm32-wasip2", &["ipc-p3"]);
        let built = guests::build("wasm32-wasip2", &["netbench", "netbench-p3"]);
        let engines = Engines::default();
        let hosts = Hosts::new(&engines);
        let store = image::Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("ipc"), &engines)?;
        let link = |file: &str| anyhow::Ok(hosts.link(&store.load(&Reference::Local(built.join(file)))?)?);
        let programs =
            [link("ipc.wasm")?, link("ipc_p3.wasm")?, link("netbench.wasm")?, link("netbench_p3.wasm")?];
        Ok(Self { ticker: EpochTicker::start(&engines)?, programs })
    }
}

/// A pod's shared parts.
struct Pod {
    stack: Arc<Stack>,
    ipc: Arc<Ipc>,
    logger: Logger,
    output: std::io::PipeReader,
    _directory: tempfile::TempDir,
}

impl Pod {
    fn new() -> anyhow::Result<Self> {
        let (output, stdout) = std::io::pipe()?;
        let directory = tempfile::tempdir_in("/dev/shm")?;
        let logger = Logger::start(LogConfig {
            dir: directory.path().join("logs"),
            rotation: Rotation::default(),
            console: Some(Console::new(File::from(OwnedFd::from(stdout)), File::create("/dev/null")?)),
            on_event: Box::new(|_| {}),
        })?;
        let ipc = Ipc::new(Default::default(), directory.path().into());
        Ok(Self { stack: Stack::new(StackConfig::default()), ipc, logger, output, _directory: directory })
    }

    /// Runs one container to its end.
    fn container(
        &self,
        programs: &'static Programs,
        guest: Guest,
        name: &'static str,
        args: &[&str],
    ) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let about = support::about(name);
        let setup = |about| Setup {
            argv: std::iter::once(name).chain(args.iter().copied()).map(str::to_owned).collect(),
            env: vec![],
            working_dir: None,
            user: Default::default(),
            preopens: [].into(),
            memory: Arc::new(MemoryAccount::new(None)),
            endpoint: self.stack.attach(name),
            ipc: self.ipc.attach(name),
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
            let program = &programs.programs[guest as usize];
            let run = runner::run(program, &Call::Main, setup, stdio, async || {});
            let exit = programs.ticker.handle().run(run).await;
            if exit.code == 0 { Ok(()) } else { bail!("{name} ended with {exit:?}") }
        }
    }

    /// The number that the client printed behind the word.
    fn number(self, word: &str) -> anyhow::Result<Duration> {
        let Self { mut output, logger, .. } = self;
        logger.finish();
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        let value = text.lines().find_map(|line| line.strip_prefix("[client] ")?.strip_prefix(word));
        let nanos = value.and_then(|value| value.trim().parse().ok());
        Ok(Duration::from_nanos(nanos.with_context(|| format!("no {word:?} in {text}"))?))
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?)
}

/// A server and a client; what the client measured.
pub fn run(
    programs: &'static Programs,
    guest: Guest,
    server: &[&str],
    client: &[&str],
) -> anyhow::Result<Duration> {
    let pod = Pod::new()?;
    runtime()?.block_on(async {
        let serve = tokio::spawn(pod.container(programs, guest, "server", server));
        let measure = tokio::spawn(pod.container(programs, guest, "client", client));
        measure.await??;
        serve.await?
    })?;
    pod.number(if client[0] == "send" { "channel-bulk" } else { client[0] })
}

/// One container.
pub fn run_alone(programs: &'static Programs, guest: Guest, client: &[&str]) -> anyhow::Result<Duration> {
    let pod = Pod::new()?;
    runtime()?.block_on(pod.container(programs, guest, "client", client))?;
    pod.number(client[0])
}

/// Bulk by TCP between two containers.
pub fn run_tcp(programs: &'static Programs, guest: Guest, mebibytes: &str) -> anyhow::Result<Duration> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let (port, address) = (port.to_string(), format!("127.0.0.1:{port}"));
    run(programs, guest, &["sink", &port], &["bulk", &address, mebibytes])
}
