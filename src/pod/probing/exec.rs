//! Commands of probes and hooks (`pkg/probe/exec/exec.go`, `pkg/kubelet/lifecycle/handlers.go`).

use std::time::Duration;

use super::{Outcome, Place, go};
use crate::container::state::Exit;

async fn run(command: &[String], place: &Place) -> Ran {
    match &place.target {
        Some(target) => target.run_captured(command).await,
        None => Err("the container does not run".to_owned()),
    }
}

/// A command's end and its output, or why it could not be run.
type Ran = Result<(Exit, String), String>;

/// Runs a probe's command; when its time is over, it is killed and has failed.
pub(super) async fn probe(command: &[String], place: &Place, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, run(command, place)).await {
        Ok(ran) => judge_probe(ran),
        Err(_) => Outcome::Failure(late(command, timeout)),
    }
}

/// Runs a hook's command.
///
/// # Errors
/// Why it could not be run, or how it failed.
pub(super) async fn hook(command: &[String], place: &Place) -> Result<(), String> {
    judge_hook(command, run(command, place).await)
}

fn judge_probe(ran: Ran) -> Outcome {
    match ran {
        Ok((exit, _)) if exit.code == 0 => Outcome::Success,
        Ok((_, output)) => Outcome::Failure(output),
        Err(why) => Outcome::Failure(why),
    }
}

fn judge_hook(command: &[String], ran: Ran) -> Result<(), String> {
    match ran? {
        (exit, _) if exit.code == 0 => Ok(()),
        (exit, output) => Err(format!("command '{}' exited with {}: {output}", command.join(" "), exit.code)),
    }
}

fn late(command: &[String], timeout: Duration) -> String {
    let timeout = go::duration(timeout);
    format!("command timed out: {:?} timed out after {timeout}", command.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: u8) -> Ran {
        Ok((Exit::with_code(code), "not there\n".to_owned()))
    }

    #[test]
    fn the_exit_code_decides() {
        let command = ["test".to_owned(), "-e".to_owned(), "/x".to_owned()];
        assert_eq!(judge_probe(ran(0)), Outcome::Success);
        assert_eq!(judge_probe(ran(1)), Outcome::Failure("not there\n".to_owned()));
        assert_eq!(judge_probe(Err("why".to_owned())), Outcome::Failure("why".to_owned()));
        assert_eq!(judge_hook(&command, ran(0)), Ok(()));
        let failed = "command 'test -e /x' exited with 137: not there\n".to_owned();
        assert_eq!(judge_hook(&command, ran(137)), Err(failed));
        assert_eq!(judge_hook(&command, Err("why".to_owned())), Err("why".to_owned()));
        let text = late(&command, Duration::from_secs(90));
        assert_eq!(text, "command timed out: \"test -e /x\" timed out after 1m30s");
    }
}
