//! `peapod debug POD --image IMAGE`: an ephemeral container for a running pod.
//!
//! ```text
//! image ─► build, compile (into the cache) ─► EphemeralContainer ─► the pod's control socket ─► the pod
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use k8s_openapi::api::core::v1::{EnvVar, EphemeralContainer, Pod};

use super::display::Display;
use super::images::Images;
use super::{Failure, target};
use crate::api::client;
use crate::engine::Engines;
use crate::image::Reference;
use crate::paths::Paths;

/// Letters of a name that is made up: `k8s.io/apimachinery/pkg/util/rand`.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many of them.
const SUFFIX_LENGTH: usize = 5;

/// Add an ephemeral container to a running pod, to look at it from inside.
///
/// It shares the pod's network, and is started at once and never restarted; the pod's life does not depend on it. What
/// it says appears where `peapod run` shows the containers' output; there is no way to attach to it, -i included:
/// run `peapod exec -i POD -c NAME` for a conversation.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod debug web --image ./tools/net.wasm -- resolve example.com
  peapod debug web --build --image ./tools/net -c net --target app --env LEVEL=debug")]
pub struct Args {
    /// The pod: NAME, pod/NAME, NAMESPACE/NAME or the first letters of its uid [default: the one that runs].
    pod: Option<String>,
    /// The pod's namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The image: a component, or with --build a directory of guest source.
    #[arg(long, value_name = "PATH")]
    image: PathBuf,
    /// Build the image where it is a directory of guest source.
    #[arg(long)]
    build: bool,
    /// The container's name [default: debugger-xxxxx].
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// The container that it is to look at; informational.
    #[arg(long, value_name = "CONTAINER")]
    target: Option<String>,
    /// A variable of its environment; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<EnvVar>,
    /// Accepted because fingers know it: the container has no standard input.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Accepted as -i is: a WebAssembly guest has no terminal.
    #[arg(short, long)]
    tty: bool,
    /// What follows -- are arguments in any case; accepted like the above.
    #[arg(long, hide = true)]
    arguments_only: bool,
    /// Do not say what the name defaults to.
    #[arg(short, long)]
    quiet: bool,
    /// The program's arguments.
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

fn parse_variable(text: &str) -> Result<EnvVar, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok(EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() })
}

/// Adds the container.
pub fn run(args: Args, verbose: u8) -> Result<ExitCode, Failure> {
    let paths = Paths::from_env();
    let record = target::find(&paths, args.namespace.as_deref(), target::one_name(args.pod.as_slice())?)?;
    let image = prepare(&args.image, args.build, &paths, &Display::new(verbose))?;
    let name = args.container.unwrap_or_else(|| {
        let name = default_name();
        if !args.quiet {
            let _ = writeln!(std::io::stdout(), "Defaulting debug container name to {name}.");
        }
        name
    });
    let list = |list: Vec<_>| Some(list).filter(|list| !list.is_empty());
    let container = EphemeralContainer {
        name: name.clone(),
        image: Some(image),
        target_container_name: args.target,
        env: Some(args.env).filter(|env| !env.is_empty()),
        args: list(args.arguments),
        ..EphemeralContainer::default()
    };
    let path = format!("{}/ephemeralcontainers", target::path(&record));
    let added = client::post::<Pod>(&paths.pod_run(&record.uid), &path, &container);
    added.map_err(|error| target::refused(&record, &error))?;
    if (args.stdin || args.tty) && !args.quiet {
        let hint = format!(
            "its output is where `peapod run` shows it; peapod exec -i {} -c {name}",
            record.identity.name
        );
        let _ =
            writeln!(std::io::stderr(), "peapod: no standard input for {name}: {hint} runs a command in it");
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds and compiles the image; the path that the pod knows it by.
fn prepare(image: &Path, build: bool, paths: &Paths, display: &Display) -> Result<String, Failure> {
    let image = std::path::absolute(image).context("--image")?;
    let file = Images::new(&Engines::default(), paths, build, display)?.prepare(&Reference::Local(image))?;
    let path = file.to_str().with_context(|| format!("--image: {} is not UTF-8", file.display()))?;
    Ok(path.to_owned())
}

fn default_name() -> String {
    let random = uuid::Uuid::new_v4().into_bytes();
    let letters = random.iter().take(SUFFIX_LENGTH).map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()]);
    format!("debugger-{}", letters.map(char::from).collect::<String>())
}
