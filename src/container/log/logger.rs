//! The logger of one pod: one thread that takes what the containers say and writes it down.
//!
//! ```text
//! asleep ──(a stream was written, a log closed, the console caught up)──► round: every container once ──► asleep
//!                                                                          └─(finishing and nothing left)──► end
//! ```
//!
//! A round takes all that a container's buffers hold, in the order in which it came, and writes it with one
//! write(2) to its file and one hand-over to the console. A container whose share of the console is used
//! up is left out until the console has caught up: its buffers fill and its own tasks wait.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use jiff::Timestamp;

use super::console::{Console, ConsoleWriter, Lane};
use super::cri::{Output, append_entry};
use super::file::{LogFile, LogFileError, Rotation};
use super::splitter::{LineSplitter, Tag};
use super::stream::{Batch, Feed, LogStream, SOURCES};
use super::tail::LogTail;

/// What a pod's logger is to do.
pub struct LogConfig {
    /// The pod's log directory; each container gets a directory in it.
    pub dir: PathBuf,
    /// When files are put aside.
    pub rotation: Rotation,
    /// Where lines appear besides, if anywhere.
    pub console: Option<Console>,
    /// Told of trouble, once per kind and log file. Called on the logger's threads: it must not block.
    pub on_event: Box<dyn Fn(LogEvent) + Send + Sync>,
}

/// Trouble with a pod's logs.
#[derive(Debug)]
pub enum LogEvent {
    /// A log file cannot be written. Told once per file, though it may go on; [`Logger::lost_entries`] counts.
    File {
        /// Whose file.
        container: String,
        /// What went wrong.
        error: LogFileError,
    },
    /// The console cannot be written any more, as when the reader of a pipe went away. The files go on.
    ConsoleGone {
        /// The system's answer.
        error: io::Error,
    },
}

/// The logger of one pod. Owns its threads: dropping it waits until all is written, as
/// [`Logger::finish`] does.
#[derive(Debug)]
pub struct Logger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The log of one run of a container. Dropping it closes it: what was written until then still reaches the
/// file, and a line without an end is written as a partial one.
#[derive(Debug)]
pub struct ContainerLog {
    feed: Arc<Feed>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Containers that the thread has not met yet.
    joining: Mutex<Vec<Joining>>,
    finishing: AtomicBool,
    lost_entries: AtomicU64,
    lost_bytes: AtomicU64,
}

#[derive(Debug)]
struct Joining {
    name: String,
    restart: u32,
    feed: Arc<Feed>,
}

impl Logger {
    /// Starts the logger's threads. Fails only when the system gives none.
    pub fn start(config: LogConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("log".into()).spawn({
            let shared = Arc::clone(&shared);
            move || Round::new(config, shared).run()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Opens the log of the `restart`-th run of `container`: `<dir>/<container>/<restart>.log`.
    ///
    /// Does no I/O itself and cannot fail: a file that cannot be created is a [`LogEvent::File`]. The file is
    /// created with the first output, or at [`Logger::catch_up`].
    pub fn container(&self, container: &str, restart: u32) -> ContainerLog {
        // `finish` takes the thread together with the logger.
        let thread = self.thread.as_ref().map_or_else(thread::current, |join| join.thread().clone());
        let feed = Arc::new(Feed::new(thread.clone()));
        let joining = Joining { name: container.to_owned(), restart, feed: Arc::clone(&feed) };
        self.shared.joining.lock().unwrap_or_else(PoisonError::into_inner).push(joining);
        ContainerLog { feed }
    }

    /// Has the files of containers created that have said nothing yet.
    pub fn catch_up(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// How many entries no file took.
    pub fn lost_entries(&self) -> u64 {
        self.shared.lost_entries.load(Ordering::Relaxed)
    }

    /// How many bytes came after their log was closed. Counted when a log is done.
    pub fn lost_bytes(&self) -> u64 {
        self.shared.lost_bytes.load(Ordering::Relaxed)
    }

    /// Closes every log, waits until all is written and ends the threads.
    pub fn finish(self) {}
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.shared.finishing.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread does not panic; if it did, its message has been printed.
            let _ = thread.join();
        }
    }
}

impl ContainerLog {
    /// The container's standard output.
    pub fn stdout(&self) -> LogStream {
        self.feed.stream(Output::Stdout)
    }

    /// The container's standard error.
    pub fn stderr(&self) -> LogStream {
        self.feed.stream(Output::Stderr)
    }

    /// The last of what the container says from now on, and after its end.
    pub fn tail(&self) -> LogTail {
        self.feed.tail()
    }

    /// Writes lines of peapod's own, such as a trap's backtrace, as standard error of the container. They
    /// stand between its lines, never within one, and are discarded when the logger is far behind.
    pub fn system(&self, text: &str) {
        self.feed.system(text);
    }
}

impl Drop for ContainerLog {
    fn drop(&mut self) {
        self.feed.close();
    }
}

type OnEvent = Arc<dyn Fn(LogEvent) + Send + Sync>;

/// What the thread owns.
struct Round {
    shared: Arc<Shared>,
    dir: PathBuf,
    rotation: Rotation,
    on_event: OnEvent,
    console: Option<ConsoleWriter>,
    containers: Vec<Container>,
    scratch: Scratch,
}

struct Container {
    name: String,
    feed: Arc<Feed>,
    file: LogFile,
    splitters: [LineSplitter; SOURCES.len()],
    lane: Option<Lane>,
    reported: bool,
}

/// Buffers that every round uses again.
#[derive(Default)]
struct Scratch {
    batches: [Batch; SOURCES.len()],
    entries: Vec<u8>,
    lines: Vec<u8>,
}

impl Round {
    /// Called on the logger's thread.
    fn new(config: LogConfig, shared: Arc<Shared>) -> Self {
        let LogConfig { dir, rotation, console, on_event } = config;
        let on_event: OnEvent = Arc::from(on_event);
        let console = console.map(|console| {
            let tell = Arc::clone(&on_event);
            let on_gone = move |error| tell(LogEvent::ConsoleGone { error });
            ConsoleWriter::new(console, thread::current(), on_gone)
        });
        Self { shared, dir, rotation, on_event, console, containers: Vec::new(), scratch: Scratch::default() }
    }

    fn run(&mut self) {
        loop {
            let finishing = self.shared.finishing.load(Ordering::Acquire);
            self.meet();
            if finishing {
                let open = self.containers.iter().filter(|container| !container.feed.is_closed());
                open.for_each(|container| container.feed.close());
            }
            let mut containers = std::mem::take(&mut self.containers);
            containers.retain_mut(|container| self.visit(container));
            self.containers = containers;
            if finishing && self.containers.is_empty() {
                return;
            }
            // Whoever wrote, closed or made room since the round began has left a token: no wake-up is lost.
            thread::park();
        }
    }

    fn meet(&mut self) {
        let joining =
            std::mem::take(&mut *self.shared.joining.lock().unwrap_or_else(PoisonError::into_inner));
        for Joining { name, restart, feed } in joining {
            let file = LogFile::new(&self.dir, &name, restart, self.rotation);
            let lane = self.console.as_mut().map(|console| console.lane(&name));
            let splitters = Default::default();
            self.containers.push(Container { name, feed, file, splitters, lane, reported: false });
        }
    }

    /// Writes what the container has said; `false` when that was the last of it.
    fn visit(&mut self, container: &mut Container) -> bool {
        if let (Some(console), Some(lane)) = (&self.console, &container.lane)
            && console.is_full(lane)
        {
            return true;
        }
        let closed = container.feed.is_closed();
        if !container.feed.take_dirty() && !closed {
            return true;
        }
        for (source, batch) in self.scratch.batches.iter_mut().enumerate() {
            container.feed.take(source, batch);
        }
        self.write(container, closed);
        self.scratch.batches.iter_mut().for_each(Batch::clear);
        if closed {
            self.shared.lost_bytes.fetch_add(container.feed.discarded(), Ordering::Relaxed);
        }
        !closed
    }

    fn write(&mut self, container: &mut Container, closed: bool) {
        let Scratch { batches, entries, lines } = &mut self.scratch;
        let Container { splitters, lane, .. } = container;
        entries.clear();
        lines.clear();
        let mut console = self.console.as_mut().zip(lane.as_ref());
        let mut last_output = Output::Stdout;
        let mut entry = |at: Timestamp, output: Output, tag: Tag, content: &[u8]| {
            append_entry(entries, at, output, tag, content);
            if let Some((console, lane)) = &mut console {
                if output != last_output {
                    console.push(lane, last_output, lines);
                    lines.clear();
                    last_output = output;
                }
                lane.append_line(lines, output, content);
            }
        };

        let mut sources = batches.each_ref().map(|batch| batch.pieces().peekable());
        loop {
            let next = (0..SOURCES.len())
                .filter_map(|source| sources[source].peek().map(|(piece, _)| (piece.order, source)));
            let Some((_, source)) = next.min() else { break };
            if let Some((piece, bytes)) = sources[source].next() {
                let output = SOURCES[source];
                splitters[source].push(bytes, |tag, content| entry(piece.at, output, tag, content));
            }
        }
        if closed {
            let now = Timestamp::now();
            for (splitter, output) in splitters.iter_mut().zip(SOURCES) {
                splitter.finish(|tag, content| entry(now, output, tag, content));
            }
        }
        if let Some((console, lane)) = &mut console {
            console.push(lane, last_output, lines);
        }

        if let Err(error) = container.file.append(entries, Timestamp::now()) {
            self.shared.lost_entries.fetch_add(error.lost_entries, Ordering::Relaxed);
            if !std::mem::replace(&mut container.reported, true) {
                (self.on_event)(LogEvent::File { container: container.name.clone(), error });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::future::poll_fn;
    use std::io::Read;
    use std::path::Path;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::super::stream::BUFFER_BYTES;
    use super::*;

    fn start(dir: &Path, console: Option<Console>) -> (Logger, mpsc::Receiver<LogEvent>) {
        let (tell, events) = mpsc::channel();
        let on_event = Box::new(move |event| tell.send(event).unwrap());
        let config = LogConfig { dir: dir.to_owned(), rotation: Rotation::default(), console, on_event };
        (Logger::start(config).unwrap(), events)
    }

    /// The entries of a log file without their times, which must parse and not go back.
    fn entries(dir: &Path, name: &str) -> Vec<String> {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let mut last = Timestamp::MIN;
        let entry = |line: &str| {
            let (at, rest) = line.split_once(' ').unwrap();
            let at: Timestamp = at.parse().unwrap();
            assert!(at >= last, "{text}");
            last = at;
            rest.to_owned()
        };
        text.lines().map(entry).collect()
    }

    async fn write(stream: &LogStream, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let room = poll_fn(|cx| stream.poll_ready(cx)).await;
            stream.write(bytes.split_to(room.min(bytes.len())));
        }
    }

    #[test]
    fn what_a_container_says_is_in_its_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (logger, events) = start(dir.path(), None);
        let log = logger.container("web", 3);
        let (out, err) = (log.stdout(), log.stderr());
        out.write("one\ntw".into());
        err.write("warning\nhalf a".into());
        log.system("trap: unreachable\n  at main");
        out.write("o\n".into());
        drop(log);
        logger.finish();
        assert_eq!(
            entries(dir.path(), "web/3.log"),
            [
                "stdout F one",
                "stderr F warning",
                "stderr F trap: unreachable",
                "stderr F   at main",
                "stdout F two",
                "stderr P half a"
            ]
        );
        assert!(events.recv().is_err(), "no trouble");
    }

    #[test]
    fn a_silent_container_has_a_file_and_every_run_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (logger, _events) = start(dir.path(), None);
        let first = logger.container("web", 0);
        let stream = first.stdout();
        drop(first);
        let _second = logger.container("web", 1);
        stream.write("late\n".into());
        logger.finish();
        assert_eq!(entries(dir.path(), "web/0.log"), [""; 0]);
        assert_eq!(entries(dir.path(), "web/1.log"), [""; 0]);
    }

    #[tokio::test]
    async fn nothing_is_lost_under_load() {
        const LINES: usize = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let (logger, _events) = start(dir.path(), None);
        let logs: Vec<_> = ["a", "b", "c"].map(|name| logger.container(name, 0)).into();
        let mut tasks = tokio::task::JoinSet::new();
        for stream in logs.iter().flat_map(|log| [log.stdout(), log.stderr()]) {
            tasks.spawn(async move {
                for n in 0..LINES {
                    write(&stream, format!("line {n}\n").into()).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!((logger.lost_entries(), logger.lost_bytes()), (0, 0));
        logger.finish();
        for name in ["a", "b", "c"] {
            let all = entries(dir.path(), &format!("{name}/0.log"));
            for output in ["stdout", "stderr"] {
                let lines = all.iter().filter(|line| line.starts_with(output));
                let expected = (0..LINES).map(|n| format!("{output} F line {n}"));
                assert!(lines.map(String::as_str).eq(expected));
            }
        }
    }

    #[tokio::test]
    async fn a_console_that_nobody_reads_holds_up_only_who_fills_it() {
        let dir = tempfile::tempdir().unwrap();
        let (read, write_end) = nix::unistd::pipe().unwrap();
        let console =
            Console::new(File::from(write_end), File::options().write(true).open("/dev/null").unwrap());
        let (logger, _events) = start(dir.path(), Some(console));
        // Younger than the logger: a test that fails drops it first, and the console is gone.
        let mut read = File::from(read);
        let (loud, quiet) = (logger.container("loud", 0), logger.container("quiet", 0));

        let flood = tokio::spawn({
            let out = loud.stdout();
            async move { write(&out, "y\n".repeat(1 << 20).into()).await }
        });
        let stream = loud.stdout();
        while stream.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready() {
            tokio::task::yield_now().await;
        }
        write(&quiet.stdout(), "hello\n".into()).await;
        while !fs::read_to_string(dir.path().join("quiet/0.log"))
            .is_ok_and(|log| log.ends_with(" stdout F hello\n"))
        {
            tokio::task::yield_now().await;
        }
        assert!(!flood.is_finished());

        let reader = thread::spawn(move || {
            let mut text = String::new();
            read.read_to_string(&mut text).unwrap();
            text
        });
        flood.await.unwrap();
        drop((loud, quiet));
        logger.finish();
        let text = reader.join().unwrap();
        assert_eq!(text.lines().filter(|line| *line == "[loud] y").count(), 1 << 20);
        assert_eq!(text.lines().filter(|line| *line == "[quiet] hello").count(), 1);
        assert_eq!(text.lines().count(), (1 << 20) + 1);
    }

    #[tokio::test]
    async fn a_console_that_went_away_is_told_and_the_files_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (read, write_end) = nix::unistd::pipe().unwrap();
        drop(read);
        let null = File::options().write(true).open("/dev/null").unwrap();
        let (logger, events) = start(dir.path(), Some(Console::new(File::from(write_end), null)));
        let log = logger.container("web", 0);
        write(&log.stdout(), "x\n".repeat(1 << 18).into()).await;
        drop(log);
        logger.finish();
        let gone = events.recv().unwrap();
        assert!(matches!(gone, LogEvent::ConsoleGone { error } if error.kind() == io::ErrorKind::BrokenPipe));
        assert!(events.recv().is_err(), "told once");
        assert_eq!(entries_over_rotation(dir.path(), "web"), 1 << 18);
    }

    fn entries_over_rotation(dir: &Path, container: &str) -> usize {
        let files = fs::read_dir(dir.join(container)).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().lines().count()).sum()
    }

    #[test]
    fn a_full_disk_is_told_once_counted_and_no_reason_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("web")).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("web/0.log")).unwrap();
        let (logger, events) = start(dir.path(), None);
        let (web, db) = (logger.container("web", 0), logger.container("db", 0));
        let out = web.stdout();
        for _ in 0..50 {
            out.write("x\n".into());
            while out.poll_ready(&mut Context::from_waker(Waker::noop())) != Poll::Ready(BUFFER_BYTES) {
                thread::yield_now();
            }
        }
        db.stdout().write("fine\n".into());
        drop((web, db));
        let shared = Arc::clone(&logger.shared);
        logger.finish();
        assert_eq!(shared.lost_entries.load(Ordering::Relaxed), 50);
        assert!(matches!(events.recv().unwrap(), LogEvent::File { container, .. } if container == "web"));
        assert!(events.recv().is_err(), "told once");
        assert_eq!(entries(dir.path(), "db/0.log"), ["stdout F fine"]);
    }
}
