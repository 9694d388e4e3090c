//! The threads that wait in the kernel for what native processes do: FUTEX_WAKE at an address that a container waits on.
//!
//! ```text
//!  a container waits ─ its address is not watched ─► the table of a thread, its control word
//!                                                          │
//!             ┌─ look at every address (`super::watch`) ◄──┤
//!             └─► futex_waitv(2): the control word and up to 127 addresses ◄── FUTEX_WAKE of a native process
//! ```
//!
//! A thread is started with the first address and ends when there was none for a while; the [`Watcher`] joins it. What
//! containers notify each other does not come here, but for taking the thread out of the kernel's queue where all who
//! wait are to be woken.
//!
//! Nothing is missed between a look and the wait: the kernel compares each number with what was seen, and who begins to
//! wait on an address that is watched has compared it too, after the look or after the thread was queued.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno as Kernel;

use super::lock;
use super::watch::{Heard, Look, Next, PAUSE, Watch};
use super::words::Words;
use crate::ipc::{Errno, Result};
use crate::sys::affinity;
use crate::sys::futex::{self, Control, MAX_NUMBERS, Number, Woken};

/// Threads of a pod at most: enough for the default bound on waits (4096), each on an address of its own.
const MAX_THREADS: usize = 33;

/// How long a thread without an address waits for one.
const IDLE: Duration = Duration::from_secs(5);

/// The pod's threads.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    threads: Mutex<Vec<Thread>>,
    is_supported: OnceLock<bool>,
}

impl Watcher {
    /// Watches an address for native processes' wake-ups, where the kernel can do that.
    ///
    /// # Errors
    /// [`Errno::NoMemory`] when there are too many, or no thread is to be had.
    pub(super) fn watch(&self, words: &Arc<Words>, offset: u64) -> Result<()> {
        if !self.is_supported.get_or_init(futex::is_supported) {
            return Ok(());
        }
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !lock(&thread.state.table).is_over);
        if threads.iter().any(|thread| thread.state.add(words, offset)) {
            return Ok(());
        }
        if threads.len() >= MAX_THREADS {
            return Err(Errno::NoMemory);
        }
        threads.push(Thread::start(words, offset).map_err(|_| Errno::NoMemory)?);
        Ok(())
    }

    /// Watches no address of these any more.
    pub(super) fn forget(&self, words: &Arc<Words>) {
        for thread in &*lock(&self.threads) {
            thread.state.change(|table| {
                let before = table.all.len();
                table.all.retain(|watched| !Arc::ptr_eq(&watched.words, words));
                table.all.len() < before
            });
        }
    }
}

#[derive(Debug)]
struct Thread {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts with its first address.
    fn start(words: &Arc<Words>, offset: u64) -> io::Result<Self> {
        let state = Arc::<State>::default();
        state.add(words, offset);
        let run = Arc::clone(&state);
        let thread = thread::Builder::new().name("futex".into()).spawn(move || {
            affinity::anywhere();
            run.run();
        })?;
        Ok(Self { state, thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.state.change(|table| {
            table.is_over = true;
            true
        });
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; if it did there would be nothing left to end.
            let _ = thread.join();
        }
    }
}

/// What a thread and the event loop share.
#[derive(Debug, Default)]
struct State {
    control: Arc<Control>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// At most [`MAX_NUMBERS`], each address once.
    all: Vec<Watched>,
    next_id: u64,
    is_over: bool,
}

#[derive(Debug)]
struct Watched {
    id: u64,
    words: Arc<Words>,
    offset: u64,
    watch: Watch,
}

/// What a thread waits on, with the addresses' ids, and until when.
struct Round {
    numbers: Vec<Number>,
    ids: Vec<u64>,
    end: Instant,
}

impl State {
    /// Whether there was room.
    fn add(&self, words: &Arc<Words>, offset: u64) -> bool {
        self.change(|table| {
            let has_room = !table.is_over && table.all.len() < MAX_NUMBERS;
            if has_room {
                let (id, words) = (table.next_id, Arc::clone(words));
                table.next_id += 1;
                table.all.push(Watched { id, words, offset, watch: Watch::new(&self.control) });
            }
            has_room
        })
    }

    /// Changes the table, and tells the thread where it is another one now.
    fn change(&self, change: impl FnOnce(&mut Table) -> bool) -> bool {
        let changed = change(&mut lock(&self.table));
        if changed {
            self.control.wake();
        }
        changed
    }

    /// The thread.
    fn run(&self) {
        let mut woken = None;
        let mut idle = Instant::now() + IDLE;
        loop {
            // Before the table is looked at: what is changed later ends the wait.
            let control = self.control.value();
            let now = Instant::now();
            let Some(round) = self.look(woken, now, &mut idle) else { return };
            let result = self.control.wait(control, &round.numbers, round.end.saturating_duration_since(now));
            woken = match result {
                Ok(Woken::Control) => Some(None),
                Ok(Woken::Number(index)) => Some(round.ids.get(index).copied()),
                Err(error) => {
                    let raw = error.raw_os_error().map(Kernel::from_raw);
                    if !matches!(raw, Some(Kernel::EAGAIN | Kernel::ETIMEDOUT | Kernel::EINTR)) {
                        // A segment has become shorter, which the next look sees; whatever else it is may pass.
                        let _ = self.control.wait(control, &[], PAUSE);
                    }
                    None
                }
            };
        }
    }

    /// Looks at every address. `woken`: whether anything was woken, and which address. None: the thread is over.
    fn look(&self, woken: Option<Option<u64>>, now: Instant, idle: &mut Instant) -> Option<Round> {
        let mut table = lock(&self.table);
        if table.all.is_empty() {
            table.is_over |= *idle <= now;
        } else {
            *idle = now + IDLE;
        }
        if table.is_over {
            return None;
        }
        let mut round = Round { numbers: Vec::new(), ids: Vec::new(), end: *idle };
        table.all.retain_mut(|watched| {
            let heard = match woken {
                None => Heard::Nothing,
                Some(id) if id == Some(watched.id) => Heard::This,
                Some(_) => Heard::Other,
            };
            watched.look(heard, now, &mut round)
        });
        Some(round)
    }
}

impl Watched {
    /// Looks at the address, and adds it to what is waited on; whether it is watched any more.
    fn look(&mut self, heard: Heard, now: Instant, round: &mut Round) -> bool {
        let Look { notified, pass_on, next } = {
            let mut addresses = lock(&self.words.addresses);
            let number = self.words.number(self.offset).ok();
            self.watch.look(&mut addresses, self.offset, number, heard, now)
        };
        if notified {
            self.words.notified.notify_waiters();
        }
        if pass_on {
            self.words.wake(self.offset, 1);
        }
        match next {
            Next::Queue(number, end) => {
                // Gone again since: the next look sees it.
                let Some(mapping) = self.words.mapped() else { return true };
                let (offset, value) = (self.offset as usize, number.to_le());
                round.numbers.push(Number { mapping, offset, value });
                round.ids.push(self.id);
                round.end = end.map_or(round.end, |end| end.min(round.end));
                true
            }
            Next::Pause(end) => {
                round.end = end.min(round.end);
                true
            }
            Next::Leave => false,
        }
    }
}
