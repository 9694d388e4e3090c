//! Files of a volume against raw wasmtime-wasi: the same component (`tests/guests/filebench`, WASI 0.2), the same
//! directory, one run, one machine.
//!
//! ```text
//! cargo bench --bench files [-- --rounds N]
//! ```
//!
//! | contender | what it is |
//! |---|---|
//! | peapod | a container as in a pod, its mount a directory |
//! | peapod, a user | the same with a `runAsUser` (root only) |
//! | wasmtime | wasmtime-wasi as its book would have you write it |
//!
//! The rounds alternate, so that a busy machine slows all down alike; medians are compared.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use peapod::container::log::file::Rotation;
use peapod::container::log::{Console, LogConfig, Logger};
use peapod::container::runner::{self, Call, Hosts, Program, Setup, Stdio};
use peapod::container::stop::StopSignal;
use peapod::container::user::{FileUser, FileUsers};
use peapod::engine::{Engines, EpochTicker, MemoryAccount};
use peapod::image::{self, Reference};
use peapod::net::{Stack, StackConfig};
use peapod::pod::launch::EVENT_INTERVAL;
use peapod::spec::User;
use peapod::volume::Preopen;
use tokio::runtime::{Builder, Runtime};
use wasmtime::Store;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView, p2};

#[path = "support/pod.rs"]
mod pod;
#[path = "../tests/support/mod.rs"]
mod support;

/// Where the guest sees the directory.
const MOUNT: &str = "/v";
/// What peapod may take of wasmtime's time: what `README.md` promises.
const AIM: f64 = 1.05;
/// The user of the contender that has one.
const USER: u32 = 1000;

/// Command, count and bytes of one, 0 for what has none.
const SCENARIOS: [(&str, u32, u32); 6] = [
    ("write-1m", 128, 1 << 20),
    ("read-1m", 128, 1 << 20),
    ("write-4k", 4000, 4 << 10),
    ("read-4k", 4000, 4 << 10),
    ("open-read", 2000, 0),
    ("stat", 4000, 0),
];

/// The data of a store of raw wasmtime.
struct Raw {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Raw {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The guest, compiled and linked for both.
struct Programs {
    ticker: EpochTicker,
    peapod: Program,
    engine: wasmtime::Engine,
    raw: p2::bindings::CommandPre<Raw>,
}

impl Programs {
    fn build() -> anyhow::Result<Self> {
        let file = support::guests::build("wasm32-wasip2", &["filebench"]).join("filebench.wasm");
        let engines = Engines::default();
        let store = image::Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("files"), &engines)?;
        let peapod = Hosts::new(&engines).link(&store.load(&Reference::Local(file.clone()))?)?;
        let raw = wasmtime::Engine::default();
        let mut linker = Linker::new(&raw);
        p2::add_to_linker_async(&mut linker)?;
        let component = linker.instantiate_pre(&Component::from_file(&raw, &file)?)?;
        let ticker = EpochTicker::start(&engines)?;
        Ok(Self { ticker, peapod, raw: p2::bindings::CommandPre::new(component)?, engine: raw })
    }
}

fn main() -> anyhow::Result<()> {
    let rounds = rounds()?;
    let programs = Programs::build()?;
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777))?;
    let mut users = FileUsers::default();
    let is_root = nix::unistd::geteuid().is_root();
    let user = is_root.then(|| users.of(&User { uid: Some(USER), ..User::default() })).transpose()?;
    for (command, count, bytes) in SCENARIOS {
        let mut took: [Vec<Duration>; 3] = Default::default();
        for _ in 0..rounds {
            let args = || ["filebench", command, MOUNT, &count.to_string()].map(str::to_owned).to_vec();
            // Another user's files could not be written to.
            let round = |run: &dyn Fn() -> anyhow::Result<String>| {
                for name in ["written", "read", "small"] {
                    let _ = std::fs::remove_file(directory.path().join(name));
                }
                number(&run()?, command)
            };
            let own = FileUser::default();
            took[0].push(round(&|| in_container(&programs, directory.path(), args(), &own))?);
            took[1].push(round(&|| runtime()?.block_on(raw(&programs, directory.path(), args())))?);
            if let Some(user) = &user {
                took[2].push(round(&|| in_container(&programs, directory.path(), args(), user))?);
            }
        }
        show(command, bytes, took);
    }
    Ok(())
}

/// As a pod process makes its own.
fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?)
}

/// A container without a pod's namespaces: they are not what is measured.
fn in_container(
    programs: &Programs,
    directory: &Path,
    argv: Vec<String>,
    user: &FileUser,
) -> anyhow::Result<String> {
    let (mut output, stdout) = std::io::pipe()?;
    let logs = tempfile::tempdir()?;
    let logger = Logger::start(LogConfig {
        dir: logs.path().into(),
        rotation: Rotation::default(),
        console: Some(Console::new(File::from(OwnedFd::from(stdout)), File::create("/dev/null")?)),
        on_event: Box::new(|_| {}),
    })?;
    let mount = Dir::open_ambient_dir(directory, ambient_authority())?;
    let setup = Setup {
        argv,
        env: vec![],
        working_dir: None,
        user: user.clone(),
        preopens: [Preopen::new(MOUNT.into(), mount)].into(),
        memory: Arc::new(MemoryAccount::new(None)),
        endpoint: Stack::new(StackConfig::default()).attach("bench"),
        ipc: peapod::ipc::Ipc::new(Default::default(), "/dev/shm".into()).attach("bench"),
        descriptors: peapod::descriptors::Descriptors::default().share("bench"),
        key_value: pod::key_value(),
        about: pod::about("bench")?,
        stop: StopSignal::never(),
        marks: runner::Marks::default(),
    };
    let stdio = Stdio::Log(logger.container("bench", 0));
    let exit = runtime()?.block_on(async {
        let run = runner::run(&programs.peapod, &Call::Main, setup, stdio, async || {});
        programs.ticker.handle().run(run).await
    });
    logger.finish();
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    if exit.code != 0 {
        bail!("ended with {exit:?}");
    }
    Ok(text.replace("[bench] ", ""))
}

/// The component under raw wasmtime-wasi.
async fn raw(programs: &Programs, directory: &Path, argv: Vec<String>) -> anyhow::Result<String> {
    let output = MemoryOutputPipe::new(1 << 16);
    let mut wasi = WasiCtx::builder();
    wasi.args(&argv).stdout(output.clone()).inherit_stderr();
    wasi.preopened_dir(directory, MOUNT, FsPerms::ReadWrite)?;
    let mut store = Store::new(&programs.engine, Raw { wasi: wasi.build(), table: ResourceTable::new() });
    let command = programs.raw.instantiate_async(&mut store).await?;
    if command.wasi_cli_run().call_run(&mut store).await?.is_err() {
        bail!("{argv:?} failed");
    }
    Ok(String::from_utf8(output.contents().to_vec())?)
}

/// The number that the guest printed behind the word.
fn number(output: &str, word: &str) -> anyhow::Result<Duration> {
    let value = output.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    let nanos = value.and_then(|value| value.trim().parse().ok());
    Ok(Duration::from_nanos(nanos.with_context(|| format!("the guest did not say {word:?}, but: {output}"))?))
}

fn show(command: &str, bytes: u32, took: [Vec<Duration>; 3]) {
    let median = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    };
    let [Some(peapod), Some(wasmtime), user] = took.map(median) else { return };
    println!("\n{command}");
    let contenders = [("peapod", Some(peapod)), ("wasmtime", Some(wasmtime)), ("peapod, a user", user)];
    for (name, took) in contenders.into_iter().filter_map(|(name, took)| Some((name, took?))) {
        let micros = took.as_secs_f64() * 1e6;
        let speed =
            if bytes > 0 { format!("{:>9.0} MB/s", f64::from(bytes) / micros) } else { String::new() };
        let ratio = took.as_secs_f64() / wasmtime.as_secs_f64();
        println!("  {name:16} {micros:>10.2} µs{speed}  {ratio:.3} of wasmtime (aim: {AIM})");
    }
}

fn rounds() -> anyhow::Result<usize> {
    let mut arguments = std::env::args().skip(1);
    let mut rounds = 11;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                rounds = number.filter(|rounds| *rounds > 0).context("--rounds takes a number")?;
            }
            // What cargo bench adds.
            "--bench" => {}
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(rounds)
}
