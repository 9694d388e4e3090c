//! `peapod patch POD [--subresource status|resize] -p PATCH`, as `kubectl patch`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{Failure, target};
use crate::api::client;
use crate::api::patch::PatchType;
use crate::paths::Paths;

/// Change a pod that runs: its labels and annotations; conditions of its status, such as its readinessGates; its resources.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod patch web -p '{\"metadata\":{\"labels\":{\"tier\":\"front\"}}}'
  peapod patch web --subresource status \\
    -p '{\"status\":{\"conditions\":[{\"type\":\"example.com/warm\",\"status\":\"True\"}]}}'
  peapod patch web --subresource resize \\
    -p '{\"spec\":{\"containers\":[{\"name\":\"web\",\"resources\":{\"limits\":{\"cpu\":\"200m\"}}}]}}'")]
pub struct Args {
    /// The pod: NAME, pod NAME, pod/NAME, NAMESPACE/NAME or the first letters of its uid.
    #[arg(value_name = "POD", num_args = 1..=2)]
    pod: Vec<String>,
    /// The pod's namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// What of the pod [default: its labels and annotations].
    #[arg(long, value_name = "PART")]
    subresource: Option<Part>,
    /// The patch, in JSON or YAML.
    #[arg(short, long, required_unless_present = "patch_file", conflicts_with = "patch_file")]
    patch: Option<String>,
    /// A file with the patch; - reads standard input.
    #[arg(long, value_name = "FILE")]
    patch_file: Option<PathBuf>,
    /// strategic merges lists by their items' keys, merge replaces them (RFC 7386).
    #[arg(long = "type", value_name = "TYPE", default_value = "strategic")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Part {
    /// Conditions that are not peapod's own.
    Status,
    /// CPU and memory of containers.
    Resize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Strategic,
    Merge,
}

/// Asks the pod's supervisor.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => read(file).with_context(|| format!("cannot read {}", file.display()))?,
        (None, None) => String::new(),
    };
    // JSON is YAML.
    let patch: Value = serde_yaml::from_str(&text).context("the patch is neither JSON nor YAML")?;
    let paths = Paths::from_env();
    let pod = target::find(&paths, args.namespace.as_deref(), target::one_name(&args.pod)?)?;
    let (part, kind) = match (args.subresource, args.kind) {
        (part, Kind::Strategic) => (part, PatchType::Strategic),
        (part, Kind::Merge) => (part, PatchType::Merge),
    };
    let path = match part {
        None => target::path(&pod),
        Some(Part::Status) => target::path(&pod) + "/status",
        Some(Part::Resize) => target::path(&pod) + "/resize",
    };
    let directory = paths.pod_run(&pod.uid);
    let answer: Result<Pod, _> = client::patch(&directory, &path, kind, patch.to_string());
    answer.map_err(|error| target::refused(&pod, &error))?;
    target::print(&format!("pod/{} patched\n", pod.identity.name))?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    }
}
