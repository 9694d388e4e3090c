//! `peapod exec --native`: a command of the host in the pod's namespaces and cgroup.
//!
//! ```text
//! record ─► the pod process ─► its namespaces ─► /dev/mqueue ─► fork ─► its cgroups ─► exec ─► exit code
//! ```
//!
//! This process itself moves to the namespaces, so that standard input, output and error, and the terminal, are simply
//! inherited. What it starts is in the pod's pid namespace, and therefore ends with the pod. Only that is in the pod's
//! cgroup: whatever happens there, this process lives to say how it ended. When the cgroup is out of memory, the
//! command is what the kernel ends first, before the pod.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::exec::warn;
use super::{EXIT_IMAGE, Failure, target};
use crate::paths::Paths;
use crate::sandbox::dev;
use crate::sandbox::record::Record;
use crate::sys::{enter, process};

/// What of the environment goes into the pod: what concerns the terminal and the language.
const KEPT: [&str; 6] = ["TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "TZ"];

/// Where commands are found.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Exit code for a command that is not there.
const EXIT_NOT_FOUND: u8 = 127;

/// Runs the command to its end.
pub fn run(paths: &Paths, pod: &Record, words: &[String]) -> Result<ExitCode, Failure> {
    let name = target::full_name(pod);
    let ended = || anyhow::anyhow!("pod {name}: it does not run any more");
    let pid = pod.pid.ok_or_else(ended)?;
    let process = enter::Process::open(pid).map_err(|_| ended())?;
    // The pid is the recorded process's, and stays so.
    if process::start_time(pid) != pod.started {
        return Err(ended().into());
    }
    let rights =
        || format!("pod {name}: cannot enter it; that takes the rights of the user who runs it, or root's");
    let procs = |cgroup: &PathBuf| {
        let open = File::options().write(true).open(cgroup.join("cgroup.procs"));
        open.with_context(|| format!("pod {name}: cannot join its cgroup {}", cgroup.display()))
    };
    // Paths of the host, which the pod does not see.
    let cgroups: Vec<_> = pod.cgroups.iter().map(procs).collect::<Result<_, _>>()?;
    process::volunteer_for_oom();
    // Entering leaves the working directory.
    let work = std::path::absolute(paths.pod_run(&pod.uid)).context("the working directory")?;
    process.enter().with_context(rights)?;
    if let Err(error) = dev::ensure_mqueue(&work) {
        warn(&format!("the pod's message queues are not to be seen in {}: {error}", dev::MQUEUE));
    }

    let (program, arguments) = words.split_first().ok_or_else(|| anyhow::anyhow!("no command was given"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env_clear().envs(environment(pod));
    enter::end_with_this_process(&mut command);
    enter::begin_in(&mut command, cgroups);
    // Ctrl-C is the command's to handle.
    let keys = SigSet::from_iter([Signal::SIGINT, Signal::SIGQUIT]);
    let mask = keys.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("cannot block signals")?;
    enter::begin_with_signals(&mut command, mask);
    let mut child = command.spawn().map_err(|error| {
        let code = if error.kind() == io::ErrorKind::NotFound { EXIT_NOT_FOUND } else { EXIT_IMAGE };
        Failure::new(code, anyhow::Error::new(error).context(format!("{program:?} of the host")))
    })?;
    let status = child.wait().context("cannot wait for the command")?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from((code & 0xff) as u8))
}

fn environment(pod: &Record) -> Vec<(String, OsString)> {
    let kept = KEPT.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)));
    let own = [("PATH", PATH), ("HOME", "/"), ("HOSTNAME", &pod.identity.hostname)];
    let own = own.map(|(name, value)| (name.to_owned(), value.into()));
    kept.chain(own).collect()
}
