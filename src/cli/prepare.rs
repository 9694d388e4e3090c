//! Components that a running pod wants, made into machine code in a process of their own: the supervisor stays small
//! and answers meanwhile.
//!
//! ```text
//! supervisor: prepared ─► `peapod prepare-image` ─► store: cached, or compile ─► link, as a check ─┐
//!             Preparation + the machine code's file ◄── its standard output, a socket ◄────────────┘
//! ```

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use tokio::net::UnixStream;
use tokio::process::Command;

use super::{EXIT_HOST, EXIT_IMAGE, Failure};
use crate::container::runner::Hosts;
use crate::engine::Engines;
use crate::image::{Image, ImageError, Reference, Store};
use crate::paths::Paths;
use crate::pod::control::{self, Preparation, Receiver};

/// Make machine code of a component for a running pod: peapod's own, for its supervisor.
#[derive(clap::Args)]
pub struct Args {
    /// The component's file, absolute.
    #[arg(long, conflicts_with = "name")]
    path: Option<PathBuf>,
    /// What the component on standard input is called in messages.
    #[arg(long)]
    name: Option<String>,
}

/// A component.
pub enum Component {
    /// An image of this host.
    Path(PathBuf),
    /// An open file of the pod's.
    File { name: String, file: OwnedFd },
}

impl Component {
    /// What it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::File { name, .. } => name.clone(),
        }
    }
}

/// What became of it, with the machine code when all went well.
pub type Prepared = (Preparation, Option<OwnedFd>);

/// Has a component made into machine code. Dropping the future ends the process.
pub async fn prepared(component: Component) -> Prepared {
    let name = component.name();
    match in_process(component).await {
        Ok(prepared) => prepared,
        Err(error) => host_failure(&name, &format!("it cannot be prepared: {error}")),
    }
}

/// The host's fault.
pub fn host_failure(name: &str, why: &str) -> Prepared {
    (Preparation::Refused { code: EXIT_HOST, message: format!("{name}: {why}") }, None)
}

async fn in_process(component: Component) -> io::Result<Prepared> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("prepare-image");
    match component {
        Component::Path(path) => command.arg("--path").arg(path).stdin(Stdio::null()),
        Component::File { name, file } => command.arg("--name").arg(name).stdin(Stdio::from(file)),
    };
    command.stdout(OwnedFd::from(theirs)).kill_on_drop(true);
    let mut child = command.spawn()?;
    // Holds the other end of the socket.
    drop(command);
    ours.set_nonblocking(true)?;
    let (read, _write) = UnixStream::from_std(ours)?.into_split();
    let answer = Receiver::<Preparation>::new(read).next().await;
    let status = child.wait().await?;
    let (preparation, carried) =
        answer.ok_or_else(|| io::Error::other(format!("the process that does it ended with {status}")))?;
    Ok((preparation, carried.into_iter().next()))
}

/// The process.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let socket = StdUnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (preparation, code) = match prepare(args) {
        Ok((image, code)) => {
            let (digest, wasi) = (image.digest.hex(), image.engine.version().to_string());
            (Preparation::Ready { digest, wasi, path: image.path }, Some(code))
        }
        Err(Failure { code, error }) => (Preparation::Refused { code, message: error.to_string() }, None),
    };
    let carried: Vec<_> = code.into_iter().collect();
    control::send_blocking(&socket, &preparation, &carried)?;
    Ok(ExitCode::SUCCESS)
}

fn prepare(args: &Args) -> Result<(Image, OwnedFd), Failure> {
    let paths = Paths::from_env();
    let engines = Engines::default();
    let store = Store::open(&paths.cache, &engines)?;
    let failure = |error: ImageError| Failure::new(error.exit_code(), error);
    let image: Image = match &args.path {
        Some(path) => store.load(&Reference::Local(path.clone())).map_err(failure)?,
        None => {
            let name = args.name.as_deref().unwrap_or("standard input");
            let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            store.load_file(Path::new(name), file).map_err(failure)?
        }
    };
    Hosts::new(&engines).link(&image).map_err(|error| Failure::new(EXIT_IMAGE, error))?;
    let code = store.code(&image);
    let code = code.ok_or_else(|| anyhow::anyhow!("{}: the machine code is gone", image.path.display()))?;
    Ok((image, code))
}
