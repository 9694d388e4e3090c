//! One guest for most tests: does one thing that a container may do, named by its first argument.
//!
//! Results go to stdout, one per line, flushed before anything blocks; an error goes to stderr as
//! `probe: <what>: <error kind> (<raw OS error>): <text>` with exit code 1. The table [`COMMANDS`]
//! is the manual.

mod attack;
mod cpu;
mod fs;
mod grpc;
mod health;
mod hoard;
mod hostile;
mod http;
mod life;
mod net;
mod output;
mod paths;
mod tcp;
mod timer;
mod udp;

use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;
use std::{env, io};

/// How a command ends.
type Outcome = Result<ExitCode, Failure>;

/// Why a command failed.
struct Failure(String);

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what an I/O error was about.
trait About<T> {
    fn about(self, what: impl Display) -> Result<T, Failure>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {}", described(&error))))
    }
}

/// `<kind> (<raw OS error>): <text>`, as every command prints an I/O error.
fn described(error: &io::Error) -> String {
    let raw = error.raw_os_error().map_or("-".into(), |code| code.to_string());
    format!("{:?} ({raw}): {error}", error.kind())
}

/// A command: its name, its arguments for the usage text, and what runs it.
struct Command {
    name: &'static str,
    usage: &'static str,
    run: fn(&[String]) -> Outcome,
}

const fn command(name: &'static str, usage: &'static str, run: fn(&[String]) -> Outcome) -> Command {
    Command { name, usage, run }
}

const COMMANDS: &[Command] = &[
    // Output and exit.
    command("hello", "", output::hello),
    command("exit", "CODE", output::exit),
    command("print", "LINES", output::print),
    command("print-partial", "[TEXT]", output::print_partial),
    command("print-both", "[LINES]", output::print_both),
    command("flood", "BYTES", output::flood),
    command("env", "[NAME]", output::env),
    command("args", "[WORD..]", output::args),
    command("cwd", "", output::cwd),
    command("stdin", "", output::stdin),
    command("fail-times", "PATH TIMES CODE", life::fail_times),
    command("until-stop", "PORT PATH NAME [CODE]", life::until_stop),
    command("append-late", "PATH TEXT MS", life::append_late),
    command("cat", "", output::cat),
    // CPU and memory.
    command("trap", "[unreachable|panic|oob|stack]", cpu::trap),
    command("spin", "", cpu::spin),
    command("work", "[calls]", cpu::work),
    command("alloc", "[MIB]", cpu::alloc),
    // Time.
    command("sleep", "MS", timer::sleep),
    command("tick", "MS COUNT", timer::tick),
    // Files.
    command("ls", "PATH", fs::ls),
    command("read", "PATH", fs::read),
    command("write", "PATH TEXT", fs::write),
    command("append", "PATH TEXT", fs::append),
    command("fill", "PATH MIB", fs::fill),
    command("mkdir", "PATH", fs::mkdir),
    command("symlink", "TARGET LINK", fs::symlink),
    command("escape", "PATH", fs::escape),
    command("may", "PATH..", fs::may),
    command("await-file", "PATH", fs::await_file),
    command("follow", "PATH LAST", fs::follow),
    command("read-all", "PATH..", fs::read_all),
    command("attack", "MOUNT SEED OPERATIONS BASE", attack::attack),
    // TCP. Servers print `listening on ADDRESS` first; an address is HOST:PORT.
    command("serve", "PORT|ADDRESS [CONNECTIONS]", tcp::serve),
    command("accept-until-error", "PORT|ADDRESS", tcp::accept_until_error),
    command("bind", "ADDRESS", tcp::bind),
    command("connect", "ADDRESS TEXT [--retry MS]", tcp::connect),
    command("http-get", "ADDRESS PATH [--retry MS]", tcp::http_get),
    command("pingpong", "ADDRESS COUNT [--retry MS]", tcp::pingpong),
    command("bulk-recv", "PORT|ADDRESS", tcp::bulk_recv),
    command("bulk-send", "ADDRESS MIB [--retry MS]", tcp::bulk_send),
    // Servers that are probed. HEALTH is [--healthy-after MS] [--healthy-until MS] [--healthy-while PATH].
    command("http-serve", "PORT|ADDRESS [HEALTH]", http::serve),
    command("grpc-health", "PORT|ADDRESS [HEALTH]", grpc::health),
    // UDP and names.
    command("udp-echo", "PORT|ADDRESS [DATAGRAMS]", udp::echo),
    command("udp-send", "ADDRESS TEXT [--retry MS]", udp::send),
    command("open-sockets", "", udp::open_sockets),
    command("resolve", "NAME", net::resolve),
    command("udp-until-error", "PORT|ADDRESS", udp::until_error),
    // Runs and their ends.
    command("last-words", "PATH TEXT CODE", life::last_words),
    command("nth-run", "DIRECTORY [LAST]", life::nth_run),
    // Bad behaviour, and its victims.
    command("open-connections", "", hostile::open_connections),
    command("open-listeners", "", hostile::open_listeners),
    command("udp-flood", "ADDRESS", hostile::udp_flood),
    command("udp-deaf", "PORT|ADDRESS", hostile::udp_deaf),
    command("never-read", "ADDRESS [--retry MS]", hostile::never_read),
    command("press", "PORT|ADDRESS", hostile::press),
    command("die-midway", "ADDRESS trap|exit|oom [--retry MS]", hostile::die_midway),
    command("bereaved", "PORT|ADDRESS", hostile::bereaved),
    command("hoard", "KIND MOUNT MOST [trap|oom TIMES]", hoard::hoard),
    command("many-files", "DIRECTORY COUNT", hoard::many_files),
    command("count-entries", "DIRECTORY", hoard::count_entries),
    command("use-files", "DIRECTORY ROUNDS [OPEN]", hoard::use_files),
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else { return usage() };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else { return usage() };
    match (command.run)(rest) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("probe: {name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: probe COMMAND, one of:");
    for command in COMMANDS {
        eprintln!("  {} {}", command.name, command.usage);
    }
    ExitCode::FAILURE
}

/// The argument at `index`.
fn arg<'a>(args: &'a [String], index: usize, name: &str) -> Result<&'a str, Failure> {
    args.get(index).map(String::as_str).ok_or_else(|| Failure(format!("argument {name} is missing")))
}

/// The argument at `index` as a number.
fn number<T: std::str::FromStr>(args: &[String], index: usize, name: &str) -> Result<T, Failure> {
    let text = arg(args, index, name)?;
    text.parse().map_err(|_| Failure(format!("{name}: {text:?} is not a number in range")))
}

/// The argument at `index` as a number, or `default` when it is absent.
fn number_or<T: std::str::FromStr>(
    args: &[String],
    index: usize,
    name: &str,
    default: T,
) -> Result<T, Failure> {
    if index < args.len() { number(args, index, name) } else { Ok(default) }
}
