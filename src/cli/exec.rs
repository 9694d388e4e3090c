//! `peapod exec POD -- COMMAND`: a command in a container of a running pod.
//!
//! ```text
//! standard input ─ a thread ─► frames ─► the pod's control socket ─► the command
//! standard output, error ◄──── frames ◄────────┘      its exit code ◄─┘
//! ```

use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{EXIT_HOST, Failure, native, target};
use crate::api::client;
use crate::api::server::{CLOSE, ERROR, ExecOptions, STDERR, STDIN, STDOUT, message};
use crate::container::state::KILLED_EXIT_CODE;
use crate::paths::Paths;

/// Which container a command runs in when nobody says so (`k8s.io/kubectl/pkg/cmd/util/podcmd`).
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Exit code when nobody reads the output any more, as of a command that SIGPIPE ends.
const SIGPIPE_EXIT_CODE: u8 = 128 + 13;

/// Bytes of standard input that are read at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// Pieces of standard input that wait to be sent.
const CHUNKS: usize = 2;

/// Run a command in a container of a running pod.
///
/// The command is a fresh instance of a component, with the container's mounts, environment, working directory,
/// network and limits; it ends with the container. Its first word is one of
/// - the file name of the container's image, with or without .wasm: the image again, with other arguments;
/// - a function that the component exports, or INTERFACE/FUNCTION: func() or func(list<string>), which may return
///   nothing, bool, string, u8, u32, s32, or a result of string, u8, u32, s32 or nothing;
/// - the path of a component on one of the container's mounts, absolute or from workingDir.
///
/// A path (with /, ./ or ../ before it) is looked for on the mounts first; any other word means the image first, then
/// an export, then a file in workingDir.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod exec web -- web.wasm --version            the container's own program
  peapod exec web -c app -- reset-cache all        the export reset-cache(list<string>)
  echo hello | peapod exec -i web -- /tools/wc     a component on a mount, with standard input
  peapod exec --native -t web -- sh                a shell of the host in the pod's namespaces

Exit code: the command's; 127 there is no such command; 126 it cannot be run; 134 it trapped;
137 it was killed, or out of memory; 125 peapod or the host could not do it.")]
pub struct Args {
    /// The pod: NAME, pod/NAME, NAMESPACE/NAME or the first letters of its uid [default: the one that runs].
    pod: Option<String>,
    /// The pod's namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The container [default: the one that the annotation kubectl.kubernetes.io/default-container names, or
    /// the first].
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Pass standard input to the command.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With --native: nothing to do, the terminal is inherited. A WebAssembly guest has no terminal: as -i.
    #[arg(short, long)]
    tty: bool,
    /// Say only what the command says.
    #[arg(short, long)]
    quiet: bool,
    /// Run a command of the host in the pod's namespaces and cgroup. It ends with the pod, or with this command.
    #[arg(long, conflicts_with = "container")]
    native: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let paths = Paths::from_env();
    let record = target::find(&paths, args.namespace.as_deref(), target::one_name(args.pod.as_slice())?)?;
    if args.native {
        return native::run(&paths, &record, &args.command);
    }
    if args.tty && !args.quiet {
        warn("a WebAssembly guest has no terminal: -t only passes standard input, as -i");
    }
    let directory = paths.pod_run(&record.uid);
    let container = match args.container {
        Some(container) => container,
        None => {
            let pod: Pod = client::get(&directory, &target::path(&record))
                .map_err(|error| target::about(&record, &error))?;
            default_container(&pod, args.quiet).context("the pod has no containers")?
        }
    };
    let options = ExecOptions {
        container: Some(container),
        command: args.command,
        stdin: args.stdin || args.tty,
        stdout: true,
        stderr: true,
    };
    let path = format!("{}/exec?{}", target::path(&record), options.query());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let socket = client::open(&directory, &path).await.map_err(|error| target::about(&record, &error))?;
        session(socket, options.stdin).await
    })?;
    if ![0, SIGPIPE_EXIT_CODE].contains(&code) && !args.quiet {
        let _ = writeln!(std::io::stderr(), "command terminated with exit code {code}");
    }
    Ok(ExitCode::from(code))
}

pub(super) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "peapod: {text}");
}

/// As kubectl chooses it (`FindOrDefaultContainerByName` in `pkg/cmd/util/podcmd`).
fn default_container(pod: &Pod, quiet: bool) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let annotated = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER));
    if let Some(annotated) = annotated {
        if spec.containers.iter().any(|container| container.name == *annotated) {
            return Some(annotated.clone());
        }
        warn(&format!(
            "the pod has no container {annotated:?}, which its annotation {DEFAULT_CONTAINER} names"
        ));
    }
    let first = spec.containers.first()?.name.clone();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|other| format!("{} (ephem)", other.name));
    let init = spec.init_containers.iter().flatten().map(|other| format!("{} (init)", other.name));
    let all = spec.containers.iter().map(|other| other.name.clone()).chain(ephemeral).chain(init);
    let all: Vec<_> = all.collect();
    if all.len() > 1 && !quiet {
        let _ = writeln!(std::io::stderr(), "Defaulted container {first:?} out of: {}", all.join(", "));
    }
    Some(first)
}

/// Passes everything on until the command has ended; its exit code.
async fn session(socket: client::Socket, with_stdin: bool) -> anyhow::Result<u8> {
    let (mut to, mut from) = socket.split();
    let (chunks, mut stdin) = mpsc::channel(CHUNKS);
    if with_stdin {
        // Ends with the process: nothing else interrupts a read of standard input.
        std::thread::spawn(move || read_stdin(&chunks));
    } else {
        drop(chunks);
    }
    let sending = async {
        while let Some(chunk) = stdin.recv().await {
            if to.send(message(STDIN, &chunk)).await.is_err() {
                return std::future::pending().await;
            }
        }
        if with_stdin {
            let _ = to.send(message(CLOSE, &[STDIN])).await;
        }
        std::future::pending().await
    };
    let receiving = async {
        while let Some(message) = from.next().await {
            let data = match message {
                Ok(Message::Binary(data)) => data,
                Ok(Message::Close(_)) | Err(_) => break,
                Ok(_) => continue,
            };
            match data.split_first() {
                Some((&STDOUT, bytes)) => match write(&mut std::io::stdout(), bytes) {
                    // `| head` has seen enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(SIGPIPE_EXIT_CODE),
                    written => written.context("standard output")?,
                },
                Some((&STDERR, bytes)) => write(&mut std::io::stderr(), bytes).context("standard error")?,
                Some((&ERROR, status)) => return ended(status),
                _ => {}
            }
        }
        // And with it the command.
        warn("the pod has ended");
        Ok(KILLED_EXIT_CODE)
    };
    tokio::select! {
        code = receiving => code,
        never = sending => never,
    }
}

fn read_stdin(to: &mpsc::Sender<Bytes>) {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; CHUNK_BYTES];
    // What cannot be read is the end.
    while let Ok(count @ 1..) = stdin.read(&mut buffer) {
        if to.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
            return;
        }
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// The exit code in the final Status.
fn ended(status: &[u8]) -> anyhow::Result<u8> {
    let status: Status = serde_json::from_slice(status).context("the pod's answer makes no sense")?;
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let Some(code) = code.and_then(|cause| cause.message.as_deref()?.parse().ok()) else {
        warn(status.message.as_deref().unwrap_or("the command could not be run"));
        return Ok(EXIT_HOST);
    };
    // Others say so on the command's standard error.
    if let (EXIT_HOST | KILLED_EXIT_CODE, Some((_, why))) =
        (code, status.message.as_deref().and_then(|message| message.split_once(": ")))
    {
        warn(why);
    }
    Ok(code)
}
