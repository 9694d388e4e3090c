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
semaphore. Message: bytes of one at most. Containers: those that have it open. What native processes
have made is shown too; they see message queues and shared memory in the pod's /dev/mqueue and
/dev/shm: peapod exec --native POD -- ls /dev/mqueue.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// The pod's namespace.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show them.
    Ls {
        /// The pod: NAME, pod/NAME, NAMESPACE/NAME or the first letters of its uid [default: the one that runs].
        pod: Option<String>,
        /// Another form than a table.
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<Format>,
    },
    /// Remove the name of one.
    Rm {
        /// The pod: NAME, pod/NAME, NAMESPACE/NAME or the first letters of its uid.
        pod: String,
        /// What it is: queue, memory, semaphore or channel.
        #[arg(value_parser = kind)]
        kind: IpcKind,
        /// Its name, with the slash.
        #[arg(value_parser = name)]
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

fn name(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(format!("a name begins with a slash: /{text}")),
    }
}

/// Asks the pod and prints, or has it remove.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let paths = Paths::from_env();
    let words = match &args.action {
        Action::Ls { pod, .. } => pod.as_slice(),
        Action::Rm { pod, .. } => std::slice::from_ref(pod),
    };
    let pod = target::find(&paths, args.namespace.as_deref(), target::one_name(words)?)?;
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
        Table::new(&["Kind", "Name", "Used", "Message", "Containers", ""].map(|title| (title, Left)));
    for object in &ipc.objects {
        let used = match object.limit {
            Some(limit) => format!("{} of {limit}", object.used),
            None => object.used.to_string(),
        };
        let size = object.message_size.map_or_else(|| "-".to_owned(), |size| size.to_string());
        let containers =
            if object.containers.is_empty() { "-".to_owned() } else { object.containers.join(",") };
        let (kind, note) = (object.kind.as_str().to_owned(), object.note.clone());
        table.row([kind, object.name.clone(), used, size, containers, note]);
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
            containers: limit.map_or_else(Vec::new, |_| vec!["a".to_owned(), "b".to_owned()]),
            note: "1 waits".to_owned(),
        };
        let ipc = PodIpc {
            api_version: String::new(),
            kind: String::new(),
            metadata: Default::default(),
            objects: vec![object(IpcKind::Queue, 1, Some(10)), object(IpcKind::Semaphore, 3, None)],
        };
        let expected = "\
Kind       Name  Used     Message  Containers
queue      /it   1 of 10  10       a,b         1 waits
semaphore  /it   3        -        -           1 waits
";
        assert_eq!(table(&ipc), expected);
    }
}
