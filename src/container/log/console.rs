//! The terminal or pipe on which the lines of all containers appear, each with its container's name.
//!
//! ```text
//! logger thread ─► push: one queue in order, a backlog count per container ─► console thread ─► fd 1, fd 2
//! ```
//!
//! A thread of its own, because a terminal that is stopped and a pipe that nobody reads block in write(2):
//! that must hold up neither the log files nor a container that is silent. A container whose backlog is
//! full is not read until the console has caught up.
//!
//! The console is open until a write fails (the reader of the pipe went away); then it is gone for good.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cri::Output;

/// What one container may have in the console's queue before the logger stops reading its streams, in
/// bytes. One more batch of the logger may come on top.
pub const BACKLOG_BYTES: usize = 64 * 1024;

/// The colours of the prefixes (SGR foreground), by the container's number: those that are legible on
/// light and on dark.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Where lines go to be seen by a human or a pipe.
#[derive(Debug)]
pub struct Console {
    stdout: File,
    stderr: File,
    colour: [bool; 2],
}

impl Console {
    /// This process's standard output and standard error, coloured where they are a terminal and the
    /// environment does not say `NO_COLOR` (<https://no-color.org>).
    pub fn stdio() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let mut console = Self::new(stdout.into(), stderr.into());
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            console.colour = [false; 2];
        }
        Ok(console)
    }

    /// Standard error for both, where standard output is for something else.
    pub fn stderr() -> io::Result<Self> {
        let Self { stderr, colour: [_, colour], .. } = Self::stdio()?;
        Ok(Self { stdout: stderr.try_clone()?, stderr, colour: [colour; 2] })
    }

    /// These two files, coloured where they are a terminal.
    pub fn new(stdout: File, stderr: File) -> Self {
        let colour = [stdout.is_terminal(), stderr.is_terminal()];
        Self { stdout, stderr, colour }
    }

    fn write(&mut self, output: Output, lines: &[u8]) -> io::Result<()> {
        match output {
            Output::Stdout => write_all(&mut self.stdout, lines),
            Output::Stderr => write_all(&mut self.stderr, lines),
        }
    }
}

/// `write_all` that also waits where whoever shares the terminal has made it non-blocking.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// One container's place on the console: its prefix and how much of it waits to be written.
#[derive(Debug)]
pub(super) struct Lane {
    /// By [`Output`]: stdout, stderr.
    prefixes: [String; 2],
    backlog: Arc<AtomicUsize>,
}

impl Lane {
    /// Appends a line, with prefix and newline, to `lines`.
    pub(super) fn append_line(&self, lines: &mut Vec<u8>, output: Output, content: &[u8]) {
        lines.extend_from_slice(self.prefixes[output as usize].as_bytes());
        lines.extend_from_slice(content);
        lines.push(b'\n');
    }
}

/// The logger's end of the console's queue, and the owner of its thread.
#[derive(Debug)]
pub(super) struct ConsoleWriter {
    shared: Arc<Shared>,
    colour: [bool; 2],
    /// Containers met so far: a container keeps its colour when it is restarted.
    names: Vec<String>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    closed: bool,
}

/// Part of the queue: lines of one container for one output, up to `end`.
#[derive(Debug)]
struct Run {
    end: usize,
    output: Output,
    backlog: Arc<AtomicUsize>,
}

impl ConsoleWriter {
    /// Starts the thread. It unparks `logger` when there is room again and calls `on_gone` when the console
    /// is gone.
    pub(super) fn start(
        console: Console,
        logger: Thread,
        on_gone: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            gone: AtomicBool::new(false),
        });
        let colour = console.colour;
        let thread = thread::Builder::new().name("log-console".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(console, &logger, on_gone)
        })?;
        Ok(Self { shared, colour, names: Vec::new(), thread: Some(thread) })
    }

    /// A place for one more run of a container.
    pub(super) fn lane(&mut self, container: &str) -> Lane {
        let number = self.names.iter().position(|name| name == container).unwrap_or_else(|| {
            self.names.push(container.to_owned());
            self.names.len() - 1
        });
        let code = COLOURS[number % COLOURS.len()];
        let prefixes = self.colour.map(|colour| match colour {
            true => format!("\x1b[{code}m[{container}]\x1b[0m "),
            false => format!("[{container}] "),
        });
        Lane { prefixes, backlog: Arc::default() }
    }

    /// Whether the container's share of the queue is used up.
    pub(super) fn is_full(&self, lane: &Lane) -> bool {
        lane.backlog.load(Ordering::Acquire) >= BACKLOG_BYTES && !self.shared.gone.load(Ordering::Acquire)
    }

    /// Hands over whole lines.
    pub(super) fn push(&self, lane: &Lane, output: Output, lines: &[u8]) {
        if lines.is_empty() || self.shared.gone.load(Ordering::Acquire) {
            return;
        }
        lane.backlog.fetch_add(lines.len(), Ordering::AcqRel);
        let mut queue = self.shared.lock();
        queue.bytes.extend_from_slice(lines);
        let end = queue.bytes.len();
        queue.runs.push(Run { end, output, backlog: Arc::clone(&lane.backlog) });
        drop(queue);
        self.shared.filled.notify_one();
    }
}

impl Drop for ConsoleWriter {
    /// Waits until everything is written, or the console is gone.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread does not panic; if it did, its message has been printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements that could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes all; `false` once the queue is closed and empty.
    fn take(&self, into: &mut Queue) -> bool {
        into.bytes.clear();
        into.runs.clear();
        let mut queue = self.lock();
        while queue.runs.is_empty() {
            if queue.closed {
                return false;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut queue.bytes, &mut into.bytes);
        std::mem::swap(&mut queue.runs, &mut into.runs);
        true
    }

    fn run(&self, mut console: Console, logger: &Thread, on_gone: impl FnOnce(io::Error)) {
        let mut taken = Queue::default();
        while self.take(&mut taken) {
            let mut start = 0;
            // Neighbours for the same output go out together.
            for runs in taken.runs.chunk_by(|a, b| a.output == b.output) {
                let Some(last) = runs.last() else { continue };
                if let Err(error) = console.write(last.output, &taken.bytes[start..last.end]) {
                    self.gone.store(true, Ordering::Release);
                    *self.lock() = Queue { closed: true, ..Queue::default() };
                    logger.unpark();
                    on_gone(error);
                    return;
                }
                for run in runs {
                    run.backlog.fetch_sub(run.end - start, Ordering::AcqRel);
                    start = run.end;
                }
                logger.unpark();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;

    use super::*;

    fn pipe() -> (File, File) {
        let (read, write) = nix::unistd::pipe().unwrap();
        (read.into(), write.into())
    }

    fn start(console: Console) -> (ConsoleWriter, mpsc::Receiver<io::Error>) {
        let (gone, went) = mpsc::channel();
        let on_gone = move |error| gone.send(error).unwrap();
        (ConsoleWriter::start(console, thread::current(), on_gone).unwrap(), went)
    }

    fn push(writer: &ConsoleWriter, lane: &Lane, output: Output, content: &str) {
        let mut lines = Vec::new();
        lane.append_line(&mut lines, output, content.as_bytes());
        writer.push(lane, output, &lines);
    }

    #[test]
    fn lines_go_to_their_output_with_the_containers_name() {
        let ((mut out, stdout), (mut err, stderr)) = (pipe(), pipe());
        let (mut writer, _went) = start(Console::new(stdout, stderr));
        let (web, db) = (writer.lane("web"), writer.lane("db"));
        push(&writer, &web, Output::Stdout, "hello");
        push(&writer, &db, Output::Stderr, "oh");
        push(&writer, &web, Output::Stdout, "bye");
        drop(writer);
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "[web] hello\n[web] bye\n");
        text.clear();
        err.read_to_string(&mut text).unwrap();
        assert_eq!(text, "[db] oh\n");
        assert_eq!(web.backlog.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_terminal_gets_colours() {
        let terminal = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let (_read, stderr) = pipe();
        let (mut writer, _went) = start(Console::new(terminal, stderr));
        let mut line = Vec::new();
        let lane = writer.lane("web");
        lane.append_line(&mut line, Output::Stdout, b"hello");
        assert_eq!(line, b"\x1b[36m[web]\x1b[0m hello\n");
        line.clear();
        lane.append_line(&mut line, Output::Stderr, b"hello");
        assert_eq!(line, b"[web] hello\n");
        let code = |lane: Lane| lane.prefixes[0][2..4].to_owned();
        assert_eq!(["web", "db", "web"].map(|name| code(writer.lane(name))), ["36", "33", "36"]);
    }

    #[test]
    fn a_reader_that_went_away_is_told_once_and_blocks_nobody() {
        let ((out, stdout), (_err, stderr)) = (pipe(), pipe());
        drop(out);
        let (mut writer, went) = start(Console::new(stdout, stderr));
        let lane = writer.lane("web");
        push(&writer, &lane, Output::Stdout, "hello");
        assert_eq!(went.recv().unwrap().kind(), io::ErrorKind::BrokenPipe);
        for _ in 0..100 {
            push(&writer, &lane, Output::Stdout, &"x".repeat(BACKLOG_BYTES));
            assert!(!writer.is_full(&lane));
        }
        drop(writer);
        assert!(went.recv().is_err());
    }

    #[test]
    fn a_non_blocking_pipe_gets_everything() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let ((mut out, stdout), (_err, stderr)) = (pipe(), pipe());
        fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let (mut writer, _went) = start(Console::new(stdout, stderr));
        let lane = writer.lane("web");
        push(&writer, &lane, Output::Stdout, &"x".repeat(1 << 20));
        assert!(writer.is_full(&lane));
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        drop(writer);
        assert_eq!(reader.join().unwrap(), "[web] \n".len() + (1 << 20));
    }
}
