//! Commands of probes and hooks (`pkg/probe/exec/exec.go`, `pkg/kubelet/lifecycle/handlers.go`).

use std::time::Duration;

use super::{Outcome, Place, go};

/// Runs a probe's command; when its time is over, it is killed and has failed.
pub(super) async fn probe(command: &[String], place: &Place, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, place.target.run_captured(command)).await {
        Ok(Ok((exit, _))) if exit.code == 0 => Outcome::Success,
        Ok(Ok((_, output))) => Outcome::Failure(output),
        Ok(Err(why)) => Outcome::Failure(why),
        Err(_) => Outcome::Failure(format!(
            "command timed out: {:?} timed out after {}",
            command.join(" "),
            go::duration(timeout)
        )),
    }
}

/// Runs a hook's command.
///
/// # Errors
/// Why it could not be run, or how it failed.
pub(super) async fn hook(command: &[String], place: &Place) -> Result<(), String> {
    let (exit, output) = place.target.run_captured(command).await?;
    if exit.code == 0 {
        return Ok(());
    }
    Err(format!("command '{}' exited with {}: {output}", command.join(" "), exit.code))
}
