//! Files of a volume against raw wasmtime-wasi: the same component (`tests/guests/filebench` for WASI 0.2,
//! `filebench-p3` for 0.3), the same directory, one run, one machine.
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
//! The rounds alternate, so that a busy machine slows all down alike; medians are compared. Each runs on a thread of
//! its own: peapod's event loop may have chosen a CPU for itself.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
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
use peapod::pod::launch::{EVENT_INTERVAL, event_loop};
use peapod::spec::User;
use peapod::volume::Preopen;
use tokio::runtime::{Builder, Runtime};
use wasmtime::Store;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView, p2, p3};

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

/// A component under raw wasmtime-wasi, linked.
enum RawCommand {
    P2(p2::bindings::CommandPre<Raw>),
    P3(p3::bindings::CommandPre<Raw>),
}

/// A guest, compiled and linked for both.
struct Guest {
    version: &'static str,
    peapod: Program,
    raw: RawCommand,
}

/// The guest of either version, and what they are run by.
struct Programs {
    ticker: EpochTicker,
    guests: [Guest; 2],
}

impl Programs {
    fn build() -> anyhow::Result<Self> {
        let built = support::guests::build("wasm32-wasip2", &["filebench", "filebench-p3"]);
        let (file_p2, file_p3) = (built.join("filebench.wasm"), built.join("filebench_p3.wasm"));
        let engines = Engines::default();
        let hosts = Hosts::new(&engines);
        let store = image::Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("files"), &engines)?;
        let link = |path: &Path| anyhow::Ok(hosts.link(&store.load(&Reference::Local(path.to_owned()))?)?);
        let p2 = {
            let raw = wasmtime::Engine::default();
            let mut linker = Linker::new(&raw);
            p2::add_to_linker_async(&mut linker)?;
            let component = linker.instantiate_pre(&Component::from_file(&raw, &file_p2)?)?;
            RawCommand::P2(p2::bindings::CommandPre::new(component)?)
        };
        let p3 = {
            let mut config = wasmtime::Config::new();
            config.wasm_component_model_async(true);
            let raw = wasmtime::Engine::new(&config)?;
            let mut linker = Linker::new(&raw);
            p2::add_to_linker_async(&mut linker)?;
            p3::add_to_linker(&mut linker)?;
            let component = linker.instantiate_pre(&Component::from_file(&raw, &file_p3)?)?;
            RawCommand::P3(p3::bindings::CommandPre::new(component)?)
        };
        let guests = [
            Guest { version: "WASI 0.2", peapod: link(&file_p2)?, raw: p2 },
            Guest { version: "WASI 0.3", peapod: link(&file_p3)?, raw: p3 },
        ];
        Ok(Self { ticker: EpochTicker::start(&engines)?, guests })
    }
}

fn main() -> anyhow::Result<()> {
    let rounds = rounds()?;
    let programs = Programs::build()?;
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777))?;
    let mut users = FileUsers::new(1);
    let own = users.of("own", &User::default())?;
    let is_root = nix::unistd::geteuid().is_root();
    let other = User { uid: Some(USER), ..User::default() };
    let user = is_root.then(|| users.of("user", &other)).transpose()?;
    for guest in &programs.guests {
        for (command, count, bytes) in SCENARIOS {
            let mut took: [Vec<Duration>; 3] = Default::default();
            for _ in 0..rounds {
                let args = || ["filebench", command, MOUNT, &count.to_string()].map(str::to_owned).to_vec();
                // Another user's files could not be written to.
                let round = |run: &(dyn Fn() -> anyhow::Result<String> + Sync)| {
                    for name in ["written", "read", "small"] {
                        let _ = std::fs::remove_file(directory.path().join(name));
                    }
                    let ended = thread::scope(|scope| scope.spawn(run).join());
                    number(&ended.ok().context("panicked")??, command)
                };
                let contained = |user| in_container(&programs.ticker, guest, directory.path(), args(), user);
                took[0].push(round(&|| contained(&own))?);
                took[1].push(round(&|| runtime()?.block_on(raw(guest, directory.path(), args())))?);
                if let Some(user) = &user {
                    took[2].push(round(&|| contained(user))?);
                }
            }
            show(&format!("{command}, {}", guest.version), bytes, took);
        }
    }
    Ok(())
}

/// As a pod process makes its own, with nothing that places threads.
fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?)
}

/// A container without a pod's namespaces: they are not what is measured.
fn in_container(
    ticker: &EpochTicker,
    guest: &Guest,
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
    let exit = event_loop()?.block_on(async {
        let run = runner::run(&guest.peapod, &Call::Main, setup, stdio, async || {});
        ticker.handle().run(run).await
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
async fn raw(guest: &Guest, directory: &Path, argv: Vec<String>) -> anyhow::Result<String> {
    let output = MemoryOutputPipe::new(1 << 16);
    let mut wasi = WasiCtx::builder();
    wasi.args(&argv).stdout(output.clone()).inherit_stderr();
    wasi.preopened_dir(directory, MOUNT, FsPerms::ReadWrite)?;
    let data = Raw { wasi: wasi.build(), table: ResourceTable::new() };
    let ended = match &guest.raw {
        RawCommand::P2(program) => {
            let mut store = Store::new(program.engine(), data);
            let command = program.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await?
        }
        RawCommand::P3(program) => {
            let mut store = Store::new(program.engine(), data);
            let command = program.instantiate_async(&mut store).await?;
            store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await).await??
        }
    };
    if ended.is_err() {
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

fn show(what: &str, bytes: u32, took: [Vec<Duration>; 3]) {
    let median = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    };
    let [Some(peapod), Some(wasmtime), user] = took.map(median) else { return };
    println!("\n{what}");
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
