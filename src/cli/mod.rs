//! The command line: one file per subcommand.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | the pod Succeeded, or the command did |
//! | 1–255 | the exit code of the container that made the pod Fail (134: trapped, 137: killed or out of memory) |
//! | 1 | `apply`, `label` or `annotate` was refused, or there is no such ConfigMap or Secret, as kubectl has it |
//! | 2 | the manifest, or the command line, is wrong |
//! | 124 | `--timeout` was over |
//! | 125 | peapod or the host could not do it |
//! | 126 | an image is there but cannot run |
//! | 127 | an image is not there |
//! | 129, 130, 143 | stopped by the terminal's end (SIGHUP), by Ctrl-C (SIGINT), by SIGTERM |

mod additions;
mod age;
mod answer;
mod apply;
mod check;
mod claims;
mod completions;
mod debug;
mod delete;
mod describe;
mod display;
mod exec;
mod get;
mod images;
mod ipc;
mod journal;
mod label;
mod load;
mod native;
mod objects;
mod output;
mod patch;
mod prepare;
mod progress;
mod run;
mod ss;
mod startup;
mod supervise;
mod table;
mod tabs;
mod target;
#[cfg(test)]
mod testing;
mod trace;
mod version;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::sandbox::SandboxError;
use crate::sandbox::record::RecordError;

/// Exit code for a bad manifest, as for a bad command line.
const EXIT_BAD_MANIFEST: u8 = 2;
/// Exit code when something is asked of pods that run, or of claims, and cannot be had: as kubectl has it.
const EXIT_REFUSED: u8 = 1;
/// Exit code when peapod itself or the host fails, as podman-run(1) has it.
const EXIT_HOST: u8 = 125;
/// Exit code when an image is there but cannot run.
const EXIT_IMAGE: u8 = 126;

/// Run Kubernetes Pods whose containers are WebAssembly components.
///
/// A pod is a logical host: its containers share one IP address, localhost, volumes and hostname, and
/// live and die together, inside a Linux network namespace and cgroup of their own.
#[derive(Parser)]
#[command(name = "peapod", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  peapod run --build guest-examples/quickstart/pod.yaml   build the guests, run the pod
  peapod run pod.yaml -o yaml > result.yaml               the final Pod with its status
  cat pod.yaml | peapod run -                             a manifest from standard input
  peapod check pod.yaml                                   report every mistake, run nothing
  peapod get -A                                           the pods that run
  peapod get pvc                                          the claims, with or without pods
  peapod describe web                                     one of them, its events and its start
  peapod apply -f config.yaml                             other ConfigMaps and Secrets for running pods
  peapod ss web -a                                        the sockets of a running pod's containers
  peapod ipc ls web                                       its queues, shared memory, semaphores, channels
  peapod exec web -c app -- app.wasm --check              run a command in a running container

Directories:                                     without root:
  /run/peapod        live pods, their addresses  $XDG_RUNTIME_DIR/peapod
  /var/lib/peapod    their volumes, all claims   ~/.local/state/peapod
  /var/cache/peapod  compiled images             ~/.cache/peapod
  PEAPOD_ROOT=DIR puts all three below DIR.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more; twice: say everything. PEAPOD_LOG=FILTER sets it in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Get(get::Args),
    Describe(describe::Args),
    Ss(ss::Args),
    Ipc(ipc::Args),
    Apply(apply::Args),
    Label(label::LabelArgs),
    Annotate(label::AnnotateArgs),
    Patch(patch::Args),
    Delete(delete::Args),
    Exec(exec::Args),
    Debug(debug::Args),
    Version(version::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    PrepareImage(prepare::Args),
}

/// Parses the arguments, runs the subcommand, and maps what it returns to an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    init_tracing(cli.verbose);
    let result = match cli.command {
        Command::Run(args) => run::run(args, cli.verbose),
        Command::Check(args) => check::run(&args),
        Command::Get(args) => as_kubectl(get::run(&args)),
        Command::Describe(args) => as_kubectl(describe::run(&args)),
        Command::Ss(args) => ss::run(&args),
        Command::Ipc(args) => ipc::run(&args),
        Command::Apply(args) => apply::run(&args),
        Command::Label(args) => label::label(&args),
        Command::Annotate(args) => label::annotate(&args),
        Command::Patch(args) => as_kubectl(patch::run(&args)),
        Command::Delete(args) => as_kubectl(delete::run(&args)),
        Command::Exec(args) => exec::run(args),
        Command::Debug(args) => debug::run(args, cli.verbose),
        Command::Version(args) => version::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::PrepareImage(args) => prepare::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            // Standard error may be gone; there is nobody left to tell then.
            let _ = writeln!(std::io::stderr(), "peapod: {}{}", told(&failure.error), advice(&failure.error));
            ExitCode::from(failure.code)
        }
    }
}

/// What kubectl has, too, ends with its exit code.
fn as_kubectl(result: Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    result.map_err(|failure| match failure.code {
        EXIT_HOST => Failure { code: EXIT_REFUSED, ..failure },
        _ => failure,
    })
}

/// Why a subcommand failed, and the exit code that says so.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }
}

/// Whatever has no code of its own is the host's trouble.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(EXIT_HOST, error)
    }
}

/// What went wrong with some of the things that a command names, once the others are done: as kubectl, with the exit
/// code of the first.
///
/// # Errors
/// All of them, if there is any.
fn all_well(mut failures: Vec<Failure>) -> Result<(), Failure> {
    if failures.len() < 2 {
        return failures.pop().map_or(Ok(()), Err);
    }
    let code = failures[0].code;
    let texts: Vec<_> = failures.iter().map(|failure| told(&failure.error)).collect();
    Err(Failure::new(code, anyhow::anyhow!(texts.join("\n"))))
}

/// An error and its causes, each once: most of peapod's own errors end with their cause already.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match &*told {
        "" => cause,
        _ if told.ends_with(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

/// What the command line's user can do about an error, where the error itself cannot know.
fn advice(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(SandboxError::Record(RecordError::Running(_))) => {
            "; wait until it has ended, or leave out metadata.uid: every run gets a fresh one"
        }
        _ => "",
    }
}

/// `1 container`, `2 containers`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn init_tracing(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "peapod=info,warn",
        _ => "peapod=debug,info",
    };
    let filter = EnvFilter::try_from_env("PEAPOD_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::cni::CniError;

    #[test]
    fn a_cause_is_told_once() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let repeats = CniError::File { action: "read", path: "/cni".into(), source: missing() };
        let error = anyhow::Error::new(repeats).context("--cni-conf-dir");
        assert_eq!(told(&error), format!("--cni-conf-dir: cannot read /cni: {}", missing()));
        let plain = anyhow::Error::new(missing()).context("cannot look");
        assert_eq!(told(&plain), format!("cannot look: {}", missing()));
    }

    #[test]
    fn a_uid_in_use_comes_with_advice() {
        let failure = Failure::from(SandboxError::from(RecordError::Running("u1".to_owned())));
        assert!(advice(&failure.error).contains("metadata.uid"));
        assert_eq!(advice(&anyhow::anyhow!("something else")), "");
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        assert_eq!(counted(0, "volume"), "0 volumes");
        assert_eq!(counted(1, "init container"), "1 init container");
    }
}
