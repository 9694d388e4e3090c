//! `peapod completions SHELL`.

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
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}
