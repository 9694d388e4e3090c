//! `wasi:sockets` 0.3: asynchronous functions, streams with back-pressure and cancellation, futures that say how a
//! direction ended. Both families. TAP on stdout.

mod address;
mod tcp;
mod udp;

use std::future::Future;
use std::pin::pin;

use futures::future::{Either, select};
use wasip3::clocks::monotonic_clock;
use wasip3::sockets::types::IpAddressFamily;

wasip3::cli::command::export!(Guest);

struct Guest;

/// Nanoseconds after which something that must happen has not happened.
const PATIENCE: u64 = 20_000_000_000;

/// What `future` gives, or nothing when it takes too long.
async fn in_time<T>(future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(monotonic_clock::wait_for(PATIENCE))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

impl wasip3::exports::cli::run::Guest for Guest {
    async fn run() -> Result<(), ()> {
        for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
            tcp::checks(family).await;
            udp::checks(family).await;
        }
        if tap::done() { Ok(()) } else { Err(()) }
    }
}
