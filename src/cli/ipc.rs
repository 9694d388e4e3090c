//! `peapod ipc ls POD`, `peapod ipc rm POD KIND NAME`: what the containers of a pod share, as ipcs(1) and ipcrm(1)
//! show and remove the kernel's.
//!
//! ```text
//! which pod ─► its control socket ─┬─ GET ────► PodIpc ─► table, or JSON
//!                                  └─ DELETE ─► done
//! ```

use std::process::ExitCode;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::table::{Align, Table};
use super::{Failure, target};
use crate::api::client;
use crate::api::server::encode;
use crate::api::types::{IpcKind, PodIpc};
use crate::paths::Paths;

/// Show and remove the message queues, shared memory, semaphores and channels of a running pod.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod ipc ls                       of the one pod that runs
  peapod ipc ls prod/web -o json      everything, for programs
  peapod ipc rm web queue /jobs       remove a name; who has the object open goes on

Used: messages in a queue or channel and how many fit; bytes of shared memory; free permits of a
semaphore. Message queues that native processes have made are in /dev/mqueue:
nsenter -t PID -m -i ls /dev/mqueue.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show them.
    Ls {
        /// The pod: NAME, NAMESPACE/NAME or the first letters of its uid [default: the one that runs].
        pod: Option<String>,
        /// Another form than a table.
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<Format>,
    },
    /// Remove the name of one.
    Rm {
        /// The pod: NAME, NAMESPACE/NAME or the first letters of its uid.
        pod: String,
        /// What it is: queue, memory, semaphore or channel.
        #[arg(value_parser = kind)]
        kind: IpcKind,
        /// Its name, with the slash.
        name: String,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The PodIpc object of the API.
    Json,
}

fn kind(text: &str) -> Result<IpcKind, String> {
    let found = IpcKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| "one of: queue, memory, semaphore, channel".to_owned())
}

/// Asks the pod and prints, or has it remove.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let paths = Paths::from_env();
    let wanted = match &args.action {
        Action::Ls { pod, .. } => pod.as_deref(),
        Action::Rm { pod, .. } => Some(pod.as_str()),
    };
    let pod = target::find(&paths, None, wanted)?;
    let path = target::path(&pod) + "/ipc";
    let directory = paths.pod_run(&pod.uid);
    match &args.action {
        Action::Ls { output, .. } => {
            let ipc: PodIpc = client::get(&directory, &path).map_err(|error| target::about(&pod, &error))?;
            target::print(&match output {
                Some(Format::Json) => serde_json::to_string_pretty(&ipc)? + "\n",
                None => table(&ipc),
            })?;
        }
        Action::Rm { kind, name, .. } => {
            let path = format!("{path}/{}/{}", kind.as_str(), encode(name));
            let removed = client::delete::<Status>(&directory, &path);
            removed.map_err(|error| target::about(&pod, &error))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(ipc: &PodIpc) -> String {
    use Align::Left;
    if ipc.objects.is_empty() {
        return "nothing is shared\n".to_owned();
    }
    let mut table =
        Table::new(&[("Kind", Left), ("Name", Left), ("Used", Left), ("Message", Left), ("", Left)]);
    for object in &ipc.objects {
        let used = match object.limit {
            Some(limit) => format!("{} of {limit}", object.used),
            None => object.used.to_string(),
        };
        let size = object.message_size.map_or_else(|| "-".to_owned(), |size| size.to_string());
        table.row([object.kind.as_str().to_owned(), object.name.clone(), used, size, object.note.clone()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::IpcObject;

    #[test]
    fn a_table_is_aligned() {
        let object = |kind, used, limit| IpcObject {
            kind,
            name: "/it".to_owned(),
            used,
            limit,
            message_size: limit,
            note: "2 handles".to_owned(),
        };
        let ipc = PodIpc {
            api_version: String::new(),
            kind: String::new(),
            metadata: Default::default(),
            objects: vec![object(IpcKind::Queue, 1, Some(10)), object(IpcKind::Semaphore, 3, None)],
        };
        let expected = "\
Kind       Name  Used     Message
queue      /it   1 of 10  10       2 handles
semaphore  /it   3        -        2 handles
";
        assert_eq!(table(&ipc), expected);
    }
}
