//! Lives that end in a certain way, and leave a trace in a file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::{About, Failure, Outcome, arg, number, number_or, output};

fn append(path: &str, text: &str) -> Result<(), Failure> {
    let mut file = OpenOptions::new().append(true).create(true).open(path).about(path)?;
    writeln!(file, "{text}").about(path)
}

/// `fail-times PATH TIMES CODE`: ends with the code the first so many times, which it counts in the file, then with 0.
pub fn fail_times(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    let times = number::<usize>(args, 1, "TIMES")?;
    append(path, "run")?;
    let run = fs::read_to_string(path).about(path)?.lines().count();
    println!("run {run}");
    if run <= times { output::exit(&args[2..]) } else { Ok(ExitCode::SUCCESS) }
}

/// `until-stop PORT PATH NAME [CODE]`: writes `NAME starts` to the file, listens until its listener ends as the pod
/// stops, writes `NAME ends` and ends with the code.
pub fn until_stop(args: &[String]) -> Outcome {
    let port = number::<u16>(args, 0, "PORT")?;
    let (path, name) = (arg(args, 1, "PATH")?, arg(args, 2, "NAME")?);
    let listener = TcpListener::bind(("0.0.0.0", port)).about(port)?;
    append(path, &format!("{name} starts"))?;
    println!("listening on {}", listener.local_addr().about(port)?);
    while let Ok((mut stream, _)) = listener.accept() {
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
    }
    append(path, &format!("{name} ends"))?;
    let code = number_or::<u8>(args, 3, "CODE", 0)?;
    output::exit(&[code.to_string()])
}

/// `append-late PATH TEXT MS`: adds a line to the file after a while.
pub fn append_late(args: &[String]) -> Outcome {
    thread::sleep(Duration::from_millis(number(args, 2, "MS")?));
    append(arg(args, 0, "PATH")?, arg(args, 1, "TEXT")?)?;
    Ok(ExitCode::SUCCESS)
}
