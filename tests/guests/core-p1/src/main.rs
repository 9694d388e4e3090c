//! A core module for WASI preview 1, to be wrapped into a component at load.
//!
//! `core-p1 hello | args | read PATH | exit N | trap`

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        [] | ["hello"] => println!("hello from preview 1"),
        ["args", ..] => args.iter().for_each(|arg| println!("{arg}")),
        ["read", path] => match std::fs::read_to_string(path) {
            Ok(text) => print!("{text}"),
            Err(error) => {
                eprintln!("core-p1: {path}: {error}");
                return ExitCode::FAILURE;
            }
        },
        ["exit", code] => return code.parse::<u8>().map_or(ExitCode::FAILURE, ExitCode::from),
        ["trap"] => trap_in_preview_1(),
        _ => {
            eprintln!("usage: core-p1 hello | args WORD.. | read PATH | exit N | trap");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

#[inline(never)]
fn trap_in_preview_1() {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable()
}
