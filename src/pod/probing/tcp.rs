//! Connections of probes: that one comes to be is all (`pkg/probe/tcp/tcp.go`).

use std::time::Duration;

use super::connection::dial;
use super::{Outcome, Place, go};

/// Connects to `host`, which is the pod when absent, and closes the connection at once.
pub(super) async fn probe(host: Option<&str>, port: u16, place: &Place, timeout: Duration) -> Outcome {
    let own = place.address.to_string();
    let host = host.filter(|host| !host.is_empty()).unwrap_or(&own);
    match tokio::time::timeout(timeout, dial(place, host, port)).await {
        Ok(Ok(_connection)) => Outcome::Success,
        Ok(Err(why)) => Outcome::Failure(why),
        Err(_) => Outcome::Failure(go::dial_timed_out(host, port)),
    }
}
