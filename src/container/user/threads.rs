//! The threads that work with one container's files.
//!
//! ```text
//! operation ─► one of OPERATIONS ─┬─ the loop waits for it, and the near thread is free ─► near: one thread
//!                                 └─ else ─► far: up to FAR threads
//! ```
//!
//! wasmtime-wasi hands system calls to the blocking pool of the runtime that is current; so each of the two is a
//! runtime that nothing else runs on. tokio wakes the thread of a pool that has been idle longest: only a pool of one
//! has a thread whose place is known ([`near`](super::near)).
//!
//! Every container has its own: one whose calls stick (a disk that does not answer) waits for itself, and no other
//! container for it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::Identity;
use super::near::{self, Seat};
use crate::sys::affinity;

/// Most threads of one container beside the near one: enough that its operations seldom wait for each other.
const FAR: usize = 15;

/// Most threads of all containers of a pod, but for pods of more than half as many containers: half of what its cgroup
/// allows (`cgroup::PIDS`), as tokio ends the pod where it gets no thread.
const THREADS: usize = 256;

/// The far threads of each of so many containers.
pub(super) fn far(containers: usize) -> usize {
    (THREADS / containers.max(1)).saturating_sub(1).clamp(1, FAR)
}

/// Most operations of one container that have begun and not ended, those that the guest no longer waits for included:
/// what bounds the queue before its threads. A guest of WASI 0.3 can give up calls as fast as it makes them.
const OPERATIONS: usize = 64;

/// The threads of one container's files, all of which are one user.
#[derive(Debug)]
pub(super) struct Threads {
    near: Pool,
    far: Pool,
    seat: Arc<Seat>,
    near_is_taken: Arc<AtomicBool>,
    operations: Arc<Semaphore>,
}

impl Threads {
    /// Threads that are this user, or peapod itself: one, and so many `far` ones. A user must be one that a thread can
    /// become.
    pub(super) fn new(user: Option<Identity>, far: usize) -> io::Result<Self> {
        let become_user = {
            let user = user.clone();
            move || {
                if user.as_ref().is_some_and(|user| user.assume().is_err()) {
                    // It has worked before; whatever is wrong now, nothing runs as root instead.
                    std::process::abort();
                }
            }
        };
        let seat = Arc::new(Seat::default());
        let near = {
            let (sits, stands, become_user) = (Arc::clone(&seat), Arc::clone(&seat), become_user.clone());
            Pool::new(
                Builder::new_current_thread()
                    .thread_name("file")
                    .max_blocking_threads(1)
                    .on_thread_start(move || {
                        sits.taken();
                        become_user();
                    })
                    .on_thread_stop(move || stands.left()),
            )?
        };
        let far = Pool::new(
            Builder::new_current_thread().thread_name("file").max_blocking_threads(far).on_thread_start(
                move || {
                    affinity::anywhere();
                    become_user();
                },
            ),
        )?;
        let operations = Arc::new(Semaphore::new(OPERATIONS));
        Ok(Self { near, far, seat, near_is_taken: Arc::default(), operations })
    }

    /// Polls an operation so that what it gives to the blocking pool runs on these threads.
    pub(super) async fn run<F: Future>(&self, operation: F) -> F::Output {
        let mut operation = pin!(operation);
        // Never closed.
        let permit = Arc::clone(&self.operations).acquire_owned().await.ok();
        let mut turn = self.turn(permit);
        let output = poll_fn(|cx| {
            let _entered = turn.threads.enter();
            operation.as_mut().poll(cx)
        })
        .await;
        turn.held = None;
        output
    }

    /// Begins what one thread does.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        // It cannot wait for its turn. Of these there are no more than the guest has streams: one waits for its last
        // before the next, also to be dropped.
        let mut turn = self.turn(Arc::clone(&self.operations).try_acquire_owned().ok());
        let held = turn.held.take();
        turn.threads.spawn_blocking(move || {
            let result = work();
            drop(held);
            result
        })
    }

    fn turn(&self, permit: Option<OwnedSemaphorePermit>) -> Turn<'_> {
        let is_near = near::is_idle() && !self.near_is_taken.swap(true, SeqCst);
        if is_near {
            self.seat.join();
        }
        let near = is_near.then(|| Near(Arc::clone(&self.near_is_taken)));
        let threads = if is_near { &self.near.handle } else { &self.far.handle };
        Turn { threads, held: Some(Held { _permit: permit, _near: near }) }
    }
}

/// An operation that has begun.
struct Turn<'a> {
    threads: &'a Handle,
    /// Until it has ended.
    held: Option<Held>,
}

/// What others wait for.
struct Held {
    _permit: Option<OwnedSemaphorePermit>,
    _near: Option<Near>,
}

/// The near thread, taken.
struct Near(Arc<AtomicBool>);

impl Drop for Near {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

impl Drop for Turn<'_> {
    /// Given up: its system call may still be on its thread, or wait for one. What comes behind it in the queue comes
    /// after it has left the queue, and of the one near thread, after it has ended.
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.threads.spawn_blocking(move || drop(held));
        }
    }
}

/// A runtime's blocking pool.
#[derive(Debug)]
struct Pool {
    handle: Handle,
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl Pool {
    fn new(builder: &mut Builder) -> io::Result<Self> {
        let runtime = builder.build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Pool {
    /// Does not wait: what still runs belongs to a container that is gone.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    /// What sticks until it is let go.
    struct Stuck {
        begun: Receiver<()>,
        begins: Sender<()>,
        lets_go: Option<Sender<()>>,
        goes: Arc<Mutex<Receiver<()>>>,
    }

    impl Stuck {
        fn new() -> Self {
            let ((begins, begun), (lets_go, goes)) = (channel(), channel());
            Self { begun, begins, lets_go: Some(lets_go), goes: Arc::new(Mutex::new(goes)) }
        }

        /// An operation that has begun and is no longer waited for; whether it had begun.
        fn give_up(&self, threads: &Threads) -> bool {
            let (begins, goes) = (self.begins.clone(), Arc::clone(&self.goes));
            let operation = async {
                let stick = move || {
                    let _ = begins.send(());
                    // Nothing is sent: it ends with the sender.
                    let _ = goes.lock().map(|goes| goes.recv());
                };
                tokio::task::spawn_blocking(stick).await
            };
            threads.run(operation).now_or_never().is_none() && threads.operations.available_permits() > 0
        }

        fn begun(&self) -> usize {
            let mut count = 0;
            while self.begun.recv_timeout(Duration::from_millis(100)).is_ok() {
                count += 1;
            }
            count
        }
    }

    fn event_loop() -> Runtime {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().on_thread_park(near::sleeps).on_thread_unpark(near::wakes).build().unwrap()
    }

    async fn works(threads: &Threads) -> u32 {
        threads.run(async { tokio::task::spawn_blocking(|| 7).await.unwrap() }).await
    }

    #[test]
    fn what_is_given_up_is_counted_until_it_ends() {
        event_loop().block_on(async {
            let (threads, others) = (Threads::new(None, FAR).unwrap(), Threads::new(None, FAR).unwrap());
            let mut stuck = Stuck::new();
            for _ in 0..=FAR {
                // The loop sleeps between two of them: each could be near.
                near::sleeps();
                assert!(stuck.give_up(&threads));
            }
            assert_eq!(stuck.begun(), FAR + 1, "one thread is near");
            while stuck.give_up(&threads) {}
            assert_eq!(stuck.begun(), 0, "as many threads as there may be");
            assert!(works(&threads).now_or_never().is_none());
            assert_eq!(works(&others).await, 7);
            stuck.lets_go = None;
            assert_eq!(works(&threads).await, 7);
            while threads.operations.available_permits() < OPERATIONS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(!threads.near_is_taken.load(SeqCst));
        });
    }

    #[test]
    fn a_pod_has_so_many_threads_however_many_containers() {
        for (containers, each) in [(0, FAR), (1, FAR), (16, FAR), (17, 14), (100, 1), (1000, 1)] {
            assert_eq!(far(containers), each, "{containers}");
        }
        for containers in 1..=THREADS / 2 {
            assert!(containers * (far(containers) + 1) <= THREADS, "{containers}");
        }
    }

    #[test]
    fn operations_at_once_run_at_once() {
        event_loop().block_on(async {
            let threads = Threads::new(None, FAR).unwrap();
            let barrier = Arc::new(std::sync::Barrier::new(FAR + 1));
            let meet = || {
                near::sleeps();
                let barrier = Arc::clone(&barrier);
                threads.run(async { tokio::task::spawn_blocking(move || barrier.wait()).await })
            };
            futures::future::join_all((0..=FAR).map(|_| meet())).await;
        });
    }
}
