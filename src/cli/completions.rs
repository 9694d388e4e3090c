//! `peapod completions SHELL`.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::CommandFactory;

use super::Failure;

/// Print a completion script for a shell.
///
/// For bash: peapod completions bash > /etc/bash_completion.d/peapod
#[derive(clap::Args)]
pub struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut command = super::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "peapod", &mut script);
    let mut out = std::io::stdout().lock();
    match out.write_all(&script).and_then(|()| out.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}
