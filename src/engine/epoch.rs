//! The clock that takes the CPU away from a guest.
//!
//! Guest code compares the engine's epoch with its store's deadline on every loop; a store set up with
//! `set_epoch_deadline(1)` and `epoch_deadline_async_yield_and_update(1)` returns to the scheduler at
//! the first such point after a tick. The ticker is a thread of the pod process:
//!
//! ```text
//!            enter(), and the ticker is parked
//!   parked ──────────────────────────────────► ticking ──► one epoch every EPOCH_TICK
//!      ▲                                          │
//!      └────── nobody inside for IDLE_TICKS ──────┘
//! ```
//!
//! A pod that waits (for a connection, a timer) has nobody inside and its ticker sleeps: it costs no
//! wake-up at all. Parking only after some idle ticks spares a pod that is polled often the wake-up
//! of a second thread on each poll.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::Engines;

/// How long a guest may compute before another one gets its turn. A timer of one container is late by
/// at most this for each container that is computing; a yield costs about a microsecond, so that a
/// thousand a second cost a computing guest 0.1 %.
pub const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Ticks with nobody inside before the ticker parks.
const IDLE_TICKS: u32 = 8;

/// Runs the clock of all engines, those that are made later too. Start it in the pod process, after the fork; dropping it stops and
/// joins its thread.
#[derive(Debug)]
pub struct EpochTicker {
    handle: EpochHandle,
    thread: Option<JoinHandle<()>>,
}

/// Tells an [`EpochTicker`] when guest code runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EpochHandle {
    shared: Arc<Shared>,
    ticker: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many threads are inside guest code.
    inside: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
}

impl EpochTicker {
    /// Starts the thread, parked.
    ///
    /// # Errors
    ///
    /// The kernel's, when it refuses the thread.
    pub fn start(engines: &Engines) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let engines = engines.clone();
        let state = Arc::clone(&shared);
        let thread = thread::Builder::new().name("epoch".into()).spawn(move || {
            state.run(|| engines.made().for_each(|engine| engine.wasmtime().increment_epoch()));
        })?;
        let handle = EpochHandle { shared, ticker: thread.thread().clone() };
        Ok(Self { handle, thread: Some(thread) })
    }

    /// For whoever polls guest code.
    pub fn handle(&self) -> EpochHandle {
        self.handle.clone()
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        self.handle.shared.stop.store(true, SeqCst);
        self.handle.ticker.unpark();
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; if it did there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl EpochHandle {
    /// The calling thread is inside guest code until the result is dropped.
    pub fn enter(&self) -> Inside<'_> {
        self.shared.inside.fetch_add(1, SeqCst);
        if self.shared.parked.load(SeqCst) {
            self.ticker.unpark();
        }
        Inside(&self.shared)
    }

    /// Runs `guest`, entering for each poll: while it waits the clock may stand still.
    pub async fn run<F: Future>(&self, guest: F) -> F::Output {
        let mut guest = pin!(guest);
        poll_fn(|cx| {
            let _inside = self.enter();
            guest.as_mut().poll(cx)
        })
        .await
    }
}

/// See [`EpochHandle::enter`].
#[derive(Debug)]
#[must_use = "guest code is only pre-empted while this lives"]
pub struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    /// The thread: calls `tick` every [`EPOCH_TICK`] while somebody is inside.
    fn run(&self, mut tick: impl FnMut()) {
        let mut idle = IDLE_TICKS;
        while !self.stop.load(SeqCst) {
            if self.inside.load(SeqCst) > 0 {
                idle = 0;
            } else if idle < IDLE_TICKS {
                idle += 1;
            } else {
                self.park();
                continue;
            }
            thread::park_timeout(EPOCH_TICK);
            tick();
        }
    }

    /// Sleeps until somebody enters or the ticker is stopped. `parked` is set before the last look at
    /// `inside`, and whoever enters counts itself before looking at `parked`: one of the two sees the
    /// other, and an `unpark` before the `park` makes it return at once.
    fn park(&self) {
        self.parked.store(true, SeqCst);
        if self.inside.load(SeqCst) == 0 && !self.stop.load(SeqCst) {
            thread::park();
        }
        self.parked.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use wasmtime::component::{Component, Linker};

    use super::*;
    use crate::engine::WasiVersion;

    #[test]
    fn an_endless_loop_gives_others_their_turn() {
        let text = r#"(component
            (core module $m (func (export "spin") (loop (br 0))))
            (core instance $i (instantiate $m))
            (func (export "spin") (canon lift (core func $i "spin"))))"#;
        let binary = wat::parse_str(text).unwrap();
        let engines = Engines::default();
        let ticker = EpochTicker::start(&engines).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for version in WasiVersion::ALL {
            let engine = engines.get(version).unwrap().wasmtime();
            let component = Component::new(engine, &binary).unwrap();
            let mut store = wasmtime::Store::new(engine, ());
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
            let linker = Linker::new(engine);
            runtime.block_on(async {
                let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
                let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
                let handle = ticker.handle();
                // On one thread: the timer can only fire if the guest is interrupted, and the loop only
                // ends by being dropped.
                tokio::select! {
                    result = handle.run(spin.call_async(&mut store, ())) => panic!("a loop without an end ended: {result:?}"),
                    () = tokio::time::sleep(5 * EPOCH_TICK) => {}
                }
            });
        }
    }

    #[test]
    fn the_ticker_parks_when_nobody_is_inside_and_wakes_for_whoever_enters() {
        let shared = Arc::new(Shared::default());
        let (ticks, ticked) = mpsc::channel();
        let state = Arc::clone(&shared);
        let thread = thread::spawn(move || state.run(|| ticks.send(()).unwrap()));
        let handle = EpochHandle { shared: Arc::clone(&shared), ticker: thread.thread().clone() };
        for _ in 0..3 {
            while !shared.parked.load(SeqCst) {
                thread::yield_now();
            }
            while ticked.try_recv().is_ok() {}
            let inside = handle.enter();
            ticked.recv().unwrap();
            ticked.recv().unwrap();
            drop(inside);
        }
        let ticker = EpochTicker { handle, thread: Some(thread) };
        drop(ticker);
        assert_eq!(Arc::strong_count(&shared), 1, "the thread is gone");
    }
}
