//! One run of a container: what it is given, and the task that runs it.
//!
//! ```text
//! Action::Start ─► resolve: env, command, mounts ──┬─► ConfigurationFailed: nothing has been begun
//!                  preopens of its mounts ─────────┤
//!                  account (kept from run to run) ─┤
//!                  log, endpoint, ipc, stop, marks ┼─► Setup ─┬─► task: runner::run ─► Exit (+ last words)
//!                  message file ───────────────────┘          └─► Target: hooks, probes and commands
//! ```

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::Worker;
use crate::container::about::About;
use crate::container::account::Account;
use crate::container::log::ContainerLog;
use crate::container::message::LastWords;
use crate::container::runner::{self, Call, Marks, Program, Setup, Stdio};
use crate::container::state::Exit;
use crate::container::stop::{self, StopSender, StopSignal};
use crate::engine::{EpochHandle, MemoryAccount};
use crate::ipc;
use crate::net::Endpoint;
use crate::pod::attend::Orders;
use crate::pod::control;
use crate::pod::event::Event;
use crate::pod::exec::{self, Target};
use crate::spec::Container;
use crate::spec::environment::{self, Resolved};
use crate::volume::Preopen;

/// What the worker holds of a live container.
pub(super) struct Running {
    pub(super) task: tokio::task::Id,
    pub(super) endpoint: Endpoint,
    pub(super) ipc: ipc::Handle,
    /// Dropping or sending it drops the runner's future.
    pub(super) kill: Option<oneshot::Sender<()>>,
    pub(super) ordered: Instant,
    /// Asks the guest to end.
    pub(super) stop: StopSender,
    /// Whether it has been told of that it begins to end.
    pub(super) is_ending: bool,
    /// Its hooks, probes and commands.
    pub(super) orders: Orders,
    /// Where these run; `None` when its start fails.
    pub(super) target: Option<Target>,
}

/// What one run of a container has of its own.
struct Own {
    memory: Arc<MemoryAccount>,
    endpoint: Endpoint,
    ipc: ipc::Handle,
    stop: StopSignal,
    marks: Marks,
    /// Or why it cannot have them.
    preopens: Result<Vec<Preopen>, String>,
}

impl Worker {
    /// Starts a container. Returns what happened, where that is known at once: it cannot be started as it is
    /// configured.
    pub(super) fn start(&mut self, name: String, restart: u32) -> Option<Event> {
        let pod = Arc::clone(&self.parts.spec);
        let (Some(spec), Some(program)) = (pod.container(&name), self.parts.programs.get(&name).cloned())
        else {
            return None;
        };
        let resolved = environment::resolve(spec, &pod, &self.parts.around, &self.parts.volumes);
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => return Some(self.misconfigured(name, error.to_string())),
        };
        let preopens = match self.parts.volumes.preopens(spec, &resolved.mounts) {
            // It may be mended.
            Err(error) if error.is_of_configuration() => {
                return Some(self.misconfigured(name, error.to_string()));
            }
            preopens => preopens.map_err(|error| error.to_string()),
        };
        self.misconfigured.remove(&name);
        let account = self.account(spec);
        let log = self.parts.logger.container(&name, restart);
        let endpoint = self.parts.stack.attach(&name);
        let ipc = self.parts.ipc.attach(&name);
        let (stop, stopping) = stop::channel(self.clock.0);
        let own = Own {
            memory: Arc::clone(&account.memory),
            endpoint: endpoint.clone(),
            ipc: ipc.clone(),
            stop: stopping,
            marks: self.parts.timeline.ordered(&name, restart),
            preopens,
        };
        let (setup, words) = match self.setup(spec, restart, resolved, &program, &log, own) {
            Ok((setup, words)) => (Ok(setup), Some(words)),
            Err(error) => (Err(error), None),
        };
        let target = setup.as_ref().ok().map(|setup| {
            Target::new(
                &name,
                exec::Parts {
                    program: program.clone(),
                    setup: setup.clone(),
                    stack: Arc::clone(&self.parts.stack),
                    epochs: self.parts.epochs.clone(),
                    account: Arc::clone(&account),
                    components: self.execs.components().clone(),
                },
            )
        });
        let (kill, killed) = oneshot::channel::<()>();
        let run = run_container(
            program,
            account,
            self.parts.epochs.clone(),
            setup,
            log,
            self.started.clone(),
            name.clone(),
        );
        let ordered = Instant::now();
        let named = name.clone();
        let task = self.tasks.spawn(async move {
            let exit = tokio::select! {
                biased;
                _ = killed => Exit::killed("killed: it did not end by itself"),
                exit = run => exit,
            };
            (named, words.into_iter().fold(exit, |exit, words| words.complete(exit)))
        });
        let orders = Orders::default();
        self.running.insert(
            name,
            Running {
                task: task.id(),
                endpoint,
                ipc,
                kill: Some(kill),
                ordered,
                stop,
                is_ending: false,
                orders,
                target,
            },
        );
        None
    }

    /// Tries again to start what could not be started as it is configured: something that containers are configured
    /// from has changed, or may have.
    pub(super) fn retry_configuration(&mut self) {
        if !self.misconfigured.is_empty() {
            self.step(Event::ConfigurationChanged);
        }
    }

    /// A container that cannot be started as it is configured (`startContainer` in
    /// `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
    fn misconfigured(&mut self, name: String, message: String) -> Event {
        self.note(true, "Failed", format!("Error: {message}"), Some(&name));
        // It is tried again and again; the user is told when there is something new to tell.
        if self.misconfigured.insert(name.clone(), message.clone()).as_ref() != Some(&message) {
            let text = format!("container {name}: CreateContainerConfigError: {message}");
            self.reports.event(control::Event::Warning(text));
        }
        Event::ConfigurationFailed { name, message }
    }

    /// What one run of a container is given.
    fn setup(
        &mut self,
        spec: &Container,
        restarts: u32,
        resolved: Resolved,
        program: &Program,
        log: &ContainerLog,
        own: Own,
    ) -> Result<(Setup, LastWords), String> {
        let Own { memory, endpoint, ipc, stop, marks, preopens } = own;
        let image_entry = || vec![program.name().to_owned()];
        let Resolved { env, command, args, mounts } = resolved;
        let spec = &Container { mounts, ..spec.clone() };
        let command = if command.is_empty() { image_entry() } else { command };
        // Container runtimes set HOSTNAME, and the manifest may say otherwise.
        let hostname = ("HOSTNAME".to_owned(), self.parts.spec.hostname.clone());
        let mut preopens = preopens?;
        let tail = spec.termination_message.falls_back_to_logs.then(|| log.tail());
        let words = self.parts.messages.for_run(spec, tail, &mut preopens);
        let words = words.map_err(|error| {
            format!("cannot make {} for its last words: {error}", spec.termination_message.path)
        })?;
        let about = About {
            pod: self.live.clone(),
            around: self.parts.around.clone(),
            container: spec.name.clone(),
            restarts,
            env: env.clone(),
        };
        let user = self.users.of(&spec.name, &spec.user);
        let user = user.map_err(|error| format!("cannot work with files as its user: {error}"))?;
        let setup = Setup {
            argv: command.into_iter().chain(args).collect(),
            env: std::iter::once(hostname).chain(env).collect(),
            working_dir: spec.working_dir.clone(),
            user,
            preopens: preopens.into(),
            memory,
            endpoint,
            ipc,
            descriptors: self.parts.descriptors.share(&spec.name),
            key_value: Arc::clone(&self.parts.key_value),
            about: about.into(),
            stop,
            marks,
        };
        Ok((setup, words))
    }

    /// What the container's instances are charged to.
    fn account(&mut self, spec: &Container) -> Arc<Account> {
        let memory = &self.memory;
        let account = || Arc::new(Account::new(&spec.resources, memory));
        Arc::clone(self.accounts.entry(spec.name.clone()).or_insert_with(account))
    }
}

async fn run_container(
    program: Program,
    account: Arc<Account>,
    epochs: EpochHandle,
    setup: Result<Setup, String>,
    log: ContainerLog,
    started: mpsc::Sender<String>,
    name: String,
) -> Exit {
    match setup {
        Ok(setup) => {
            let started = async || {
                // There is a place for each container.
                let _ = started.try_send(name);
                // What it says comes after what is said of it.
                tokio::task::yield_now().await;
            };
            let run = runner::run(&program, &Call::Main, setup, Stdio::Log(log), started);
            account.cpu.run(epochs.run(run)).await
        }
        Err(error) => Exit::start_error(error),
    }
}
