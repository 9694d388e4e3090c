//! Real guests on the adapters: programs on `std::net`, each in its own store, on one pod's network.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings as wasi_p2;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::stdio::{LogOutput, LogSink};
use super::*;
use crate::container::stop::StopSignal;
use crate::net::names::Hosts;
use crate::net::{NamesConfig, PlaneConfig, Stack, StackConfig};

struct State {
    wasi: WasiCtx,
    sockets: SocketsCtx,
    stop: StopSignal,
    ipc: crate::ipc::Handle,
    about: Arc<crate::container::about::About>,
    config: config::ConfigCtx,
    key_value: keyvalue::KeyValueCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl FilesView for State {
    fn file_user(&mut self) -> crate::container::user::FileUser {
        Default::default()
    }

    fn open_files(&mut self) -> OpenFiles {
        OpenFiles::new(crate::descriptors::Descriptors::default().share("guest"))
    }
}

impl SocketsView for State {
    fn sockets(&mut self) -> SocketsCtxView<'_> {
        SocketsCtxView { ctx: &mut self.sockets, table: &mut self.table }
    }
}

impl PodView for State {
    fn pod(&mut self) -> PodCtxView<'_> {
        PodCtxView { stop: &self.stop, about: &self.about, table: &mut self.table }
    }
}

impl ipc::IpcView for State {
    fn ipc(&mut self) -> ipc::IpcCtxView<'_> {
        ipc::IpcCtxView { handle: &self.ipc, table: &mut self.table }
    }
}

impl config::ConfigView for State {
    fn config(&mut self) -> wasmtime_wasi_config::WasiConfig<'_> {
        self.config.now()
    }
}

impl keyvalue::KeyValueView for State {
    fn key_value(&mut self) -> keyvalue::KeyValueCtxView<'_> {
        keyvalue::KeyValueCtxView { ctx: &self.key_value, table: &mut self.table }
    }
}

/// What a guest printed, and how often it was polled.
#[derive(Clone, Default)]
struct Output {
    text: Arc<(Mutex<Vec<u8>>, Notify)>,
    polls: Arc<AtomicUsize>,
}

impl LogSink for Output {
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(7)
    }

    fn write(&self, bytes: Bytes) {
        self.text.0.lock().expect("lock").extend_from_slice(&bytes);
        self.text.1.notify_waiters();
    }
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.text.0.lock().expect("lock").clone()).expect("text")
    }

    /// Waits for a line that begins so, and returns the rest of it.
    async fn line(&self, prefix: &str) -> String {
        loop {
            let changed = self.text.1.notified();
            let text = self.text();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(rest) = whole.lines().find_map(|l| l.strip_prefix(prefix)) {
                return rest.trim().to_owned();
            }
            changed.await;
        }
    }
}

struct Guests {
    engine: Engine,
    component: Component,
    linker: Linker<State>,
}

/// The guest, compiled once per test process.
fn guests() -> &'static Guests {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wasi/tests/guest.rs");
        let dir = tempfile::tempdir().expect("temporary directory");
        let wasm = dir.path().join("guest.wasm");
        let status = Command::new("rustc")
            .args(["--edition=2024", "--target=wasm32-wasip2", "-Copt-level=1", "-o"])
            .arg(&wasm)
            .arg(source)
            .status()
            .expect("run rustc");
        assert!(status.success(), "rustc failed; is the target there? rustup target add wasm32-wasip2");
        let mut config = Config::new();
        config.concurrency_support(false);
        let engine = Engine::new(&config).expect("engine");
        let component = Component::from_file(&engine, &wasm).expect("component");
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker, WasiVersion::V02).expect("link");
        Guests { engine, component, linker }
    })
}

/// Runs the guest as a container of the pod; the task ends with the guest.
fn start(pod: &Arc<Stack>, args: &[&str]) -> (Output, Endpoint, JoinHandle<bool>) {
    let guests = guests();
    let output = Output::default();
    let endpoint = pod.attach(args[0]);
    let mut wasi = WasiCtx::builder();
    wasi.arg("guest").args(args).stdout(LogOutput::new(output.clone()));
    wasi.stderr(LogOutput::new(output.clone()));
    let sockets = SocketsCtx::new(endpoint.clone());
    let stop = StopSignal::never();
    let ipc = crate::ipc::Ipc::new(Default::default(), "/nonexistent".into()).attach("guest");
    let spec = crate::testing::spec::pod([]);
    let key_value = keyvalue::KeyValueCtx::new(crate::testing::spec::key_value());
    let about = Arc::new(crate::testing::spec::about(spec, args[0]));
    let config = config::ConfigCtx::new(Arc::clone(&about));
    let (wasi, table) = (wasi.build(), ResourceTable::new());
    let state = State { wasi, sockets, stop, ipc, about, config, key_value, table };
    let mut store = Store::new(&guests.engine, state);
    let polls = output.polls.clone();
    let task = tokio::spawn(async move {
        let command =
            wasi_p2::Command::instantiate_async(&mut store, &guests.component, &guests.linker).await;
        let command = command.expect("instantiate");
        let run = command.wasi_cli_run();
        let mut running = pin!(run.call_run(&mut store));
        let result = poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            running.as_mut().poll(cx)
        })
        .await;
        matches!(result, Ok(Ok(())))
    });
    (output, endpoint, task)
}

async fn run(pod: &Arc<Stack>, args: &[&str]) -> String {
    let (output, _endpoint, task) = start(pod, args);
    assert!(task.await.expect("join"), "{args:?} failed: {}", output.text());
    output.text()
}

fn pod(memory: bool) -> Arc<Stack> {
    let planes = PlaneConfig { memory, ..PlaneConfig::default() };
    let hosts = Hosts::of_pod(&["web-0".into()], &[], &[]);
    let names = NamesConfig { hosts, ..NamesConfig::default() };
    Stack::new(StackConfig { names, planes, ..StackConfig::default() })
}

#[tokio::test]
async fn a_guest_serves_another_in_memory_and_a_native_client() {
    let pod = pod(true);
    let (output, endpoint, server) = start(&pod, &["serve", "0.0.0.0:0"]);
    let listening: SocketAddr = output.line("listening").await.parse().expect("address");
    let local = format!("127.0.0.1:{}", listening.port());

    let said = run(&pod, &["client", &local]).await;
    assert!(said.ends_with("same\n"), "{said}");
    let ephemeral = said.split_whitespace().nth(1).and_then(|a| a.parse::<SocketAddr>().ok());
    let port = ephemeral.expect("local address").port();
    assert!(crate::net::ports::EPHEMERAL_PORTS.contains(&port), "the memory plane's range: {port}");

    let mut native = tokio::net::TcpStream::connect(&local).await.expect("connect");
    native.write_all(b"native").await.expect("write");
    native.shutdown().await.expect("shutdown");
    let mut echo = String::new();
    native.read_to_string(&mut echo).await.expect("read");
    assert_eq!(echo, "native");

    assert_eq!(run(&pod, &["bind", &local]).await, "AddrInUse\n");

    // Graceful stop: the plain accept loop gets EINVAL and ends.
    endpoint.stop_listening();
    assert!(server.await.expect("join"), "{}", output.text());
    assert_eq!(output.line("stopped:").await, format!("Some({})", WASI_EINVAL));
    assert_eq!(run(&pod, &["connect", &local]).await, "ConnectionRefused\n");
    drop(endpoint);
    assert!(pod.is_idle());
}

/// EINVAL in WASI's numbering.
const WASI_EINVAL: i32 = 28;

#[tokio::test]
async fn guests_on_the_kernel_plane() {
    let pod = pod(false);
    let (output, _endpoint, server) = start(&pod, &["serve", "127.0.0.1:0"]);
    let local = output.line("listening").await;
    let said = run(&pod, &["client", &local]).await;
    assert!(said.ends_with("same\n"), "{said}");
    server.abort();
}

#[tokio::test]
async fn a_byte_to_and_fro() {
    for memory in [true, false] {
        let pod = pod(memory);
        let (output, _endpoint, server) = start(&pod, &["pong", "127.0.0.1:0"]);
        let local = output.line("listening").await;
        assert_eq!(run(&pod, &["ping", &local]).await, "done\n");
        assert!(server.await.expect("join"));
    }
}

/// A guest that waits costs nothing: its pollables pend.
#[tokio::test]
async fn a_waiting_guest_is_not_polled() {
    for memory in [true, false] {
        let pod = pod(memory);
        let (output, _endpoint, server) = start(&pod, &["pong", "127.0.0.1:0"]);
        let local: SocketAddr = output.line("listening").await.parse().expect("address");
        let idle = async || {
            // Whatever is under way settles; from then on not one poll.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let before = output.polls.load(Ordering::Relaxed);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(output.polls.load(Ordering::Relaxed), before);
        };
        idle().await;
        let client = tokio::net::TcpStream::connect(local).await.expect("connect");
        idle().await;
        drop(client);
        assert!(server.await.expect("join"));
    }
}

#[tokio::test]
async fn a_trap_frees_what_the_container_had() {
    let pod = pod(true);
    let (output, _endpoint, server) = start(&pod, &["serve", "127.0.0.1:0"]);
    let local = output.line("listening").await;
    let (_, endpoint, client) = start(&pod, &["trap", &local]);
    assert!(!client.await.expect("join"));
    assert_eq!(endpoint.socket_count(), 0);
    // The server read the byte and then the end of the stream, and still serves.
    assert!(run(&pod, &["client", &local]).await.ends_with("same\n"));
    server.abort();
}

#[tokio::test]
async fn udp_and_names() {
    let pod = pod(true);
    let (output, _endpoint, server) = start(&pod, &["udp-serve", "127.0.0.1:0"]);
    let local = output.line("listening").await;
    assert_eq!(run(&pod, &["udp-client", &local]).await, "datagram\n");
    assert!(server.await.expect("join"));

    assert!(run(&pod, &["resolve", "localhost"]).await.contains("\"127.0.0.1\""));
    assert!(run(&pod, &["resolve", "web-0"]).await.contains("\"127.0.0.1\""));
    assert!(run(&pod, &["resolve", "not a name"]).await.starts_with("error"));
}
