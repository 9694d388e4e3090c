//! Runs of a container and their ends.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::{About, Failure, Outcome, arg, number, number_or, output};

/// Between two looks at a file.
const LOOK: Duration = Duration::from_millis(5);
/// What every run listens on.
const PORT: u16 = 7000;

/// `last-words PATH TEXT CODE`: writes the text to the file, which exists, and ends with that exit code.
pub fn last_words(args: &[String]) -> Outcome {
    let (path, text) = (arg(args, 0, "PATH")?, arg(args, 1, "TEXT")?);
    let mut file = OpenOptions::new().append(true).open(path).about(path)?;
    file.write_all(text.as_bytes()).about(path)?;
    wasip2::cli::exit::exit_with_code(number(args, 2, "CODE")?);
    Ok(ExitCode::SUCCESS)
}

/// `nth-run DIRECTORY [LAST]`: counts its runs in a file of the directory and in memory, and prints both. Listens, and
/// goes on while the directory has a file `hold-N` for its Nth run. Fails before the LAST run.
pub fn nth_run(args: &[String]) -> Outcome {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let directory = Path::new(arg(args, 0, "DIRECTORY")?);
    let path = directory.join("runs");
    let last = number_or::<u64>(args, 1, "LAST", 0)?;
    let mut file = OpenOptions::new().create(true).append(true).open(&path).about(path.display())?;
    file.write_all(b".").about(path.display())?;
    let run = file.metadata().about(path.display())?.len();
    let _listener = TcpListener::bind(("0.0.0.0", PORT)).about("listen")?;
    let _socket = UdpSocket::bind(("0.0.0.0", PORT)).about("bind")?;
    println!("run {run} of the volume, {} of the memory", RUNS.fetch_add(1, Ordering::Relaxed) + 1);
    while directory.join(format!("hold-{run}")).exists() {
        thread::sleep(LOOK);
    }
    Ok(if run < last { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

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
