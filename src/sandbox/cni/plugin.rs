//! One run of a plugin: what it reads, what it says, with bounds of time and size.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::sys::pidfd;

/// The most that a plugin may say on either of its outputs, bytes: a result has some hundred.
const OUTPUT_MAX: usize = 1 << 20;
/// What a pipe takes without blocking once it is writable (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;
/// Of standard error in a message, bytes from its end.
const SHOWN: usize = 500;

/// The specification's error result.
#[derive(Deserialize)]
struct Error {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

/// Runs the plugin at `path`; its result, or why there is none.
pub(super) fn run(
    path: &Path,
    environment: &[(&str, String)],
    input: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, String> {
    let mut child = Command::new(path)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Those that it starts go with it.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    let said = converse(&mut child, input, Instant::now() + timeout);
    if said.is_err() {
        // Its own group, and it has not been waited for: nobody else's.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let said = said.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => format!("no answer within {} seconds", timeout.as_secs_f64()),
        io::ErrorKind::FileTooLarge => format!("it says more than {OUTPUT_MAX} bytes"),
        _ => error.to_string(),
    })?;
    if status.success() { Ok(said.output) } else { Err(explain(status, &said)) }
}

#[derive(Default)]
struct Said {
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// Writes the input and reads both outputs until the plugin has ended. One that it has started may hold its outputs
/// open for longer.
fn converse(child: &mut Child, mut input: &[u8], deadline: Instant) -> io::Result<Said> {
    let process = pidfd::open(child.id() as i32)?;
    let mut stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let mut said = Said::default();
    loop {
        // In the place of one that is closed the process is asked once more; the answer is not looked at.
        let others = [
            (stdin.as_ref().map(AsFd::as_fd), PollFlags::POLLOUT),
            (stdout.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            (stderr.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
        ];
        let is_open = others.map(|(fd, _)| fd.is_some());
        let [first, second, third] =
            others.map(|(fd, flags)| PollFd::new(fd.unwrap_or(process.as_fd()), flags));
        let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN), first, second, third];
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
        }
        let [ended, first, second, third] = polled.map(|fd| fd.any().unwrap_or(true));
        let [writable, output, errors] = [first && is_open[0], second && is_open[1], third && is_open[2]];
        if writable {
            let piece = &input[..input.len().min(PIECE)];
            match stdin.as_mut().map_or(Ok(0), |stdin| stdin.write(piece)) {
                Ok(written) => input = &input[written..],
                // It does not want to read all of it.
                Err(_) => input = &[],
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        if output && read(stdout.as_mut(), &mut said.output)? == 0 {
            stdout = None;
        }
        if errors && read(stderr.as_mut(), &mut said.errors)? == 0 {
            stderr = None;
        }
        if ended && !output && !errors {
            return Ok(said);
        }
    }
}

fn read(from: Option<&mut impl Read>, to: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; PIECE];
    let length = from.map_or(Ok(0), |from| from.read(&mut piece))?;
    to.extend(&piece[..length]);
    if to.len() > OUTPUT_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(length) }
}

fn explain(status: ExitStatus, said: &Said) -> String {
    if let Ok(Error { code, msg, details }) = serde_json::from_slice(&said.output) {
        let mut text = msg;
        if !details.is_empty() {
            let _ = write!(text, ": {details}");
        }
        let _ = write!(text, " (code {code})");
        return text;
    }
    let errors = String::from_utf8_lossy(&said.errors[said.errors.len().saturating_sub(SHOWN)..]);
    format!(
        "{status}, and no error result; {}",
        match errors.trim() {
            "" => "nothing on standard error",
            errors => errors,
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], timeout: Duration) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugin");
        let mut file = std::fs::File::create(&path).unwrap();
        writeln!(file, "#!/bin/sh\n{script}").unwrap();
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        drop(file);
        // Another test's fork may hold the file open for writing for a moment (ETXTBSY).
        loop {
            match run(&path, &[("WORD", "word".into())], input, timeout) {
                Err(error) if error.contains("os error 26") => std::thread::yield_now(),
                result => return result.map(|output| String::from_utf8(output).unwrap()),
            }
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_plugin_reads_all_and_says_its_result() {
        let input = vec![b'x'; 300_000];
        assert_eq!(shell("wc -c; echo $WORD", &input, LONG), Ok("300000\nword\n".into()));
        assert_eq!(shell("echo early", &input, LONG), Ok("early\n".into()));
        let long = shell("head -c 500000 /dev/zero | tr '\\0' y; echo much >&2", b"", LONG).unwrap();
        assert_eq!(long.len(), 500_000);
    }

    #[test]
    fn errors_are_the_plugins_own_words() {
        let said = |script: &str| shell(script, b"{}", LONG).unwrap_err();
        let error =
            r#"echo '{"cniVersion":"1.0.0","code":7,"msg":"bad network","details":"no subnet"}'; exit 1"#;
        assert_eq!(said(error), "bad network: no subnet (code 7)");
        assert_eq!(said("echo oops >&2; exit 3"), "exit status: 3, and no error result; oops");
        assert!(said("kill -9 $$").contains("signal: 9"));
        assert!(run(Path::new("/nonexistent"), &[], b"", LONG).unwrap_err().contains("/nonexistent"));
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        let error = shell("sleep 1000 & sleep 1000", b"", Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("no answer within 0.05 seconds"), "{error}");
        let error = shell("cat /dev/zero", b"", LONG).unwrap_err();
        assert!(error.contains("more than"), "{error}");
        // It has ended; what it started holds its output open.
        assert_eq!(shell("sleep 2 & echo done", b"", LONG), Ok("done\n".into()));
    }
}
