//! The terminal or pipe on which the lines of all containers appear, each with its container's name.
//!
//! ```text
//! logger thread ─► push ─┬─ the console is ready, and nothing waits ────────────────────────► fd 1, fd 2
//!                        └─► one queue in order, a backlog count per container ─► thread ─┘
//! ```
//!
//! A thread of its own once it is needed, because a terminal that is stopped and a pipe that nobody reads block in write(2):
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

/// What a pipe that is ready takes at once, bytes (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

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
    /// This process's standard output and standard error, coloured where they are a terminal and
    /// [`colour_is_wanted`].
    pub fn stdio() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let mut console = Self::new(stdout.into(), stderr.into());
        if !colour_is_wanted() {
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

    /// Whether it takes up to [`PIPE_BUF`] bytes without making the writer wait (pipe(7); a terminal that was
    /// stopped with Ctrl-S is not ready).
    fn is_ready(&self, output: Output) -> bool {
        let file = match output {
            Output::Stdout => &self.stdout,
            Output::Stderr => &self.stderr,
        };
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO) == Ok(1)
    }

    fn write(&mut self, output: Output, lines: &[u8]) -> io::Result<()> {
        match output {
            Output::Stdout => write_all(&mut self.stdout, lines),
            Output::Stderr => write_all(&mut self.stderr, lines),
        }
    }
}

/// Whether the environment does not say `NO_COLOR` (<https://no-color.org>).
pub fn colour_is_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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

/// The logger's end of the console.
///
/// Lines that the console takes at once are written straight away. Others are queued for a thread, which is
/// started then: it may wait for the console as long as it takes.
pub(super) struct ConsoleWriter {
    shared: Arc<Shared>,
    colour: [bool; 2],
    /// Containers met so far: a container keeps its colour when it is restarted.
    names: Vec<String>,
    logger: Thread,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Whoever writes holds it.
    console: Mutex<Console>,
    queue: Mutex<Queue>,
    filled: Condvar,
    gone: AtomicBool,
    on_gone: Box<dyn Fn(io::Error) + Send + Sync>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Whether the thread writes what it took.
    writing: bool,
    closed: bool,
}

impl Queue {
    /// Whether nothing waits to be written.
    fn is_idle(&self) -> bool {
        self.runs.is_empty() && !self.writing
    }
}

/// Part of the queue: lines of one container for one output, up to `end`.
#[derive(Debug)]
struct Run {
    end: usize,
    output: Output,
    backlog: Arc<AtomicUsize>,
}

impl ConsoleWriter {
    /// Unparks `logger` when there is room again and calls `on_gone` once, when the console is gone.
    pub(super) fn new(
        console: Console,
        logger: Thread,
        on_gone: impl Fn(io::Error) + Send + Sync + 'static,
    ) -> Self {
        let colour = console.colour;
        let shared = Arc::new(Shared {
            console: Mutex::new(console),
            queue: Mutex::default(),
            filled: Condvar::new(),
            gone: AtomicBool::new(false),
            on_gone: Box::new(on_gone),
        });
        Self { shared, colour, names: Vec::new(), logger, thread: None }
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
    pub(super) fn push(&mut self, lane: &Lane, output: Output, lines: &[u8]) {
        if lines.is_empty()
            || self.shared.gone.load(Ordering::Acquire)
            || self.shared.write_now(output, lines)
        {
            return;
        }
        if self.thread.is_none() {
            let (shared, logger) = (Arc::clone(&self.shared), self.logger.clone());
            match thread::Builder::new().name("log-console".into()).spawn(move || shared.run(&logger)) {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => return self.shared.give_up(error),
            }
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
    /// Writes the lines when nothing waits before them and the console takes them without making us wait;
    /// `false` when they have to be queued.
    fn write_now(&self, output: Output, lines: &[u8]) -> bool {
        if lines.len() > PIPE_BUF || !self.lock().is_idle() {
            return false;
        }
        let Ok(mut console) = self.console.try_lock() else { return false };
        if !console.is_ready(output) {
            return false;
        }
        if let Err(error) = console.write(output, lines) {
            self.give_up(error);
        }
        true
    }

    /// The console is gone: nobody waits for it any more.
    fn give_up(&self, error: io::Error) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            *self.lock() = Queue { closed: true, ..Queue::default() };
            (self.on_gone)(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements that could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes all; `false` once the queue is closed and empty.
    fn take(&self, into: &mut Queue) -> bool {
        into.bytes.clear();
        into.runs.clear();
        let mut queue = self.lock();
        queue.writing = false;
        while queue.runs.is_empty() {
            if queue.closed {
                return false;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut queue.bytes, &mut into.bytes);
        std::mem::swap(&mut queue.runs, &mut into.runs);
        queue.writing = true;
        true
    }

    fn run(&self, logger: &Thread) {
        let mut taken = Queue::default();
        while self.take(&mut taken) {
            let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
            let mut start = 0;
            // Neighbours for the same output go out together.
            for runs in taken.runs.chunk_by(|a, b| a.output == b.output) {
                let Some(last) = runs.last() else { continue };
                if let Err(error) = console.write(last.output, &taken.bytes[start..last.end]) {
                    self.give_up(error);
                    logger.unpark();
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
        (ConsoleWriter::new(console, thread::current(), on_gone), went)
    }

    fn push(writer: &mut ConsoleWriter, lane: &Lane, output: Output, content: &str) {
        let mut lines = Vec::new();
        lane.append_line(&mut lines, output, content.as_bytes());
        writer.push(lane, output, &lines);
    }

    #[test]
    fn lines_go_to_their_output_with_the_containers_name() {
        let ((mut out, stdout), (mut err, stderr)) = (pipe(), pipe());
        let (mut writer, _went) = start(Console::new(stdout, stderr));
        let (web, db) = (writer.lane("web"), writer.lane("db"));
        push(&mut writer, &web, Output::Stdout, "hello");
        push(&mut writer, &db, Output::Stderr, "oh");
        push(&mut writer, &web, Output::Stdout, "bye");
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
        push(&mut writer, &lane, Output::Stdout, "hello");
        assert_eq!(went.recv().unwrap().kind(), io::ErrorKind::BrokenPipe);
        for _ in 0..100 {
            push(&mut writer, &lane, Output::Stdout, &"x".repeat(BACKLOG_BYTES));
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
        push(&mut writer, &lane, Output::Stdout, &"x".repeat(1 << 20));
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
