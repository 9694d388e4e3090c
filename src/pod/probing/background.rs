//! What a client of hyper's has to have running beside it, run by the probe itself.
//!
//! ```text
//! connection, and what HTTP/2 spawns ─► Spawner ─► Background::during(exchange): polls all, ends with the exchange
//! ```
//!
//! No task is spawned: a probe that is dropped, because its time is over or its container has ended, takes all of
//! it along.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::rt::Executor;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The futures beside one exchange: a connection, and of HTTP/2 a handful more.
#[derive(Default)]
pub(super) struct Background {
    running: FuturesUnordered<Task>,
    spawner: Spawner,
}

/// Where they come in. It is only used by what [`Background::during`] polls, so that it holds none for long.
#[derive(Clone, Default)]
pub(super) struct Spawner(Arc<Mutex<Vec<Task>>>);

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        let task = Box::pin(async move {
            // How a connection ended is known to the exchange that needed it.
            let _ = future.await;
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

impl Spawner {
    fn take(&self) -> Vec<Task> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Background {
    /// For what is to run beside the exchange.
    pub(super) fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Runs `exchange` to its end, and the others for as long as that takes.
    pub(super) async fn during<T>(&mut self, exchange: impl Future<Output = T>) -> T {
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(output) = exchange.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                self.running.extend(self.spawner.take());
                while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
                let new = self.spawner.take();
                if new.is_empty() {
                    return Poll::Pending;
                }
                self.running.extend(new);
            }
        })
        .await
    }
}
