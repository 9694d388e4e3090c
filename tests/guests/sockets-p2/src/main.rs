//! `wasi:sockets` 0.2 by its raw functions, where the standard library shows nothing of them: the steps of bind,
//! listen and connect, states, options, pollables, stream errors. Both families. TAP on stdout.

mod address;
mod tcp;
mod udp;

use std::process::ExitCode;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::poll::{Pollable, poll};
use wasip2::sockets::network::{ErrorCode, IpAddressFamily};

/// Nanoseconds after which something that must happen has not happened.
const PATIENCE: u64 = 20_000_000_000;

/// Waits for `what`; false when it took too long.
fn in_time(what: &Pollable) -> bool {
    poll(&[what, &subscribe_duration(PATIENCE)])[0] == 0
}

/// Finishes an operation that was started.
fn finish<T>(pollable: &Pollable, mut attempt: impl FnMut() -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    loop {
        match attempt() {
            Err(ErrorCode::WouldBlock) if in_time(pollable) => {}
            Err(ErrorCode::WouldBlock) => return Err(ErrorCode::Timeout),
            result => return result,
        }
    }
}

fn main() -> ExitCode {
    for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
        tcp::checks(family);
        udp::checks(family);
    }
    if tap::done() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
