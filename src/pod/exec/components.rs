//! Components that lie on the pod's volumes. This process must not compile: the supervisor has it done in a process
//! of its own, from the open file, and hands the machine code back.
//!
//! ```text
//! file ─► known? ─► Wanted ─► worker ─► Report::Prepare + the file ─► supervisor
//!                                       Request::Prepared + code ◄──────┘
//!         Program ◄─ link ◄─ map ◄───────────┘
//! ```

use std::fmt::Display;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::{CannotRun, EXIT_CANNOT_RUN};
use crate::container::runner::{Hosts, Program};
use crate::engine::version::NotAVersion;
use crate::image::Image;
use crate::image::index::Stamp;
use crate::pod::control::Preparation;

/// Components that are asked for at the same time; others wait.
pub const MAX_WANTED: usize = 16;

/// Programs that are kept for the next command, for a probe that runs every second: each is mapped code, which takes
/// memory only for what runs.
const MAX_KNOWN: usize = 16;

/// Exit code when the host is at fault.
const EXIT_HOST: u8 = 125;

/// A component that is to be compiled.
pub struct Wanted {
    /// What the container calls it.
    pub name: String,
    /// Its file.
    pub file: OwnedFd,
    /// Where the answer goes.
    pub answer: oneshot::Sender<(Preparation, Option<OwnedFd>)>,
}

/// Makes programs of components' files. Clones are the same.
#[derive(Clone)]
pub struct Components {
    hosts: Arc<Hosts>,
    wanted: mpsc::Sender<Wanted>,
    known: Arc<Mutex<Vec<(Stamp, Program)>>>,
}

impl Components {
    /// With the way to ask the supervisor.
    pub fn new(hosts: Arc<Hosts>) -> (Self, mpsc::Receiver<Wanted>) {
        let (wanted, receiver) = mpsc::channel(MAX_WANTED);
        (Self { hosts, wanted, known: Arc::default() }, receiver)
    }

    /// The program in `file`, which the container calls `name`.
    pub(super) async fn program(&self, name: &str, file: File) -> Result<Program, CannotRun> {
        let host = |why: &str| CannotRun::new(EXIT_HOST, format!("{name}: {why}"));
        let opened = SystemTime::now();
        let stamp = file.metadata().map(|metadata| Stamp::of(&metadata));
        let stamp = stamp.map_err(|error| host(&error.to_string()))?;
        if let Some(program) = self.known(&stamp) {
            return Ok(program);
        }
        let (answer, prepared) = oneshot::channel();
        let wanted = Wanted { name: name.to_owned(), file: file.into(), answer };
        self.wanted.send(wanted).await.map_err(|_| host("the pod ends"))?;
        let program = match prepared.await.map_err(|_| host("the pod ends"))? {
            (Preparation::Ready { digest, wasi, .. }, Some(code)) => self.link(code, &digest, &wasi, name),
            (Preparation::Ready { .. }, None) => Err(host("the machine code was lost on the way")),
            (Preparation::Refused { code, message }, _) => Err(CannotRun::new(code, message)),
        }?;
        // Had it changed while it was read it would have another stamp.
        if stamp.is_settled(opened) {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_KNOWN {
                known.remove(0);
            }
            known.push((stamp, program.clone()));
        }
        Ok(program)
    }

    /// Maps machine code that the supervisor has handed over, and links it.
    ///
    /// # Errors
    /// It is no machine code, or no program.
    pub fn link(&self, code: OwnedFd, digest: &str, wasi: &str, path: &str) -> Result<Program, CannotRun> {
        let host = |error: &dyn Display| CannotRun::new(EXIT_HOST, format!("{path}: {error}"));
        let version = wasi.parse().map_err(|error: NotAVersion| host(&error))?;
        let engine = self.hosts.engines().get(version).map_err(|error| host(&error))?;
        let image = Image::from_code(engine, code, digest, path.into()).map_err(|error| host(&error))?;
        self.hosts.link(&image).map_err(|error| CannotRun::new(EXIT_CANNOT_RUN, error.to_string()))
    }

    fn known(&self, stamp: &Stamp) -> Option<Program> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(other, _)| other == stamp).map(|(_, program)| program.clone())
    }
}
