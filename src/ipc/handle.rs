//! One run of a container, as the IPC knows it.
//!
//! ```text
//!  Running ── stop ──► Stopping ── a wait failed with ECANCELED ──► told: waits with a timeout wait again
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::holders::Holders;
use super::{Errno, Ipc, Result};
use crate::descriptors::{Descriptor, Share};

/// One run of a container; clones are the same run.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) ipc: Arc<Ipc>,
    run: Arc<Run>,
}

#[derive(Debug)]
struct Run {
    container: Arc<str>,
    descriptors: Share,
    stop: Arc<Stop>,
    /// Whether it heard of its stop.
    told: AtomicBool,
    /// Objects that it has open.
    open: AtomicUsize,
}

#[derive(Debug, Default)]
struct Stop {
    asked: AtomicBool,
    notify: Notify,
}

impl Handle {
    pub(super) fn new(ipc: Arc<Ipc>, container: &str) -> Self {
        let descriptors = ipc.descriptors.share(container);
        Self::with_stop(ipc, container.into(), descriptors, Arc::default())
    }

    /// The handle of a command in the same container: its open objects are its own, and it is asked to end with
    /// the container.
    pub fn for_command(&self) -> Self {
        let (container, stop) = (Arc::clone(&self.run.container), Arc::clone(&self.run.stop));
        let descriptors = self.run.descriptors.clone();
        Self::with_stop(Arc::clone(&self.ipc), container, descriptors, stop)
    }

    fn with_stop(ipc: Arc<Ipc>, container: Arc<str>, descriptors: Share, stop: Arc<Stop>) -> Self {
        let (told, open) = (AtomicBool::new(false), AtomicUsize::new(0));
        let run = Run { container, descriptors, stop, told, open };
        Self { ipc, run: Arc::new(run) }
    }

    /// The container is asked to end: what waits fails with [`Errno::Canceled`], and what would begin to wait. Once it
    /// has been told so, only what would wait without a timeout.
    pub fn stop(&self) {
        self.run.stop.asked.store(true, Ordering::Release);
        self.run.stop.notify.notify_waiters();
    }

    /// Whether it was stopped.
    pub fn is_stopping(&self) -> bool {
        self.run.stop.asked.load(Ordering::Acquire)
    }

    /// Whether a wait of this run failed because of its stop.
    pub(super) fn was_told(&self) -> bool {
        self.run.told.load(Ordering::Relaxed)
    }

    /// Tells the run of its stop.
    pub(super) fn tell(&self) -> Errno {
        self.run.told.store(true, Ordering::Relaxed);
        Errno::Canceled
    }

    /// Ends when the container is asked to end.
    pub(super) async fn stopped(&self) {
        let stopped = self.run.stop.notify.notified();
        if !self.is_stopping() {
            stopped.await;
        }
    }

    /// A place for one more open object.
    ///
    /// # Errors
    /// [`Errno::TooManyHandles`].
    pub(super) fn place(&self) -> Result<Place> {
        let limit = self.ipc.limits.handles as usize;
        let one_more = |open: usize| (open < limit).then_some(open + 1);
        self.run
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Errno::TooManyHandles)?;
        Ok(Place { handle: self.clone(), object: None, descriptor: None })
    }

    /// The same for an object that is a file descriptor.
    ///
    /// # Errors
    /// [`Errno::TooManyHandles`].
    pub(super) fn file_place(&self) -> Result<Place> {
        let descriptor = self.run.descriptors.take().ok_or(Errno::TooManyHandles)?;
        let mut place = self.place()?;
        place.descriptor = Some(descriptor);
        Ok(place)
    }
}

/// An open object's place among those of its run, and the way to the run.
#[derive(Debug)]
pub(super) struct Place {
    handle: Handle,
    /// Where the object shows who has it open.
    object: Option<Arc<Holders>>,
    /// Given back after the object is closed.
    descriptor: Option<Descriptor>,
}

impl Place {
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The container that has it.
    pub(super) fn container(&self) -> &Arc<str> {
        &self.handle.run.container
    }

    /// It is this object's.
    pub(super) fn of(mut self, object: &Arc<Holders>) -> Self {
        object.add(self.container());
        self.object = Some(Arc::clone(object));
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(object) = &self.object {
            object.remove(self.container());
        }
        self.handle.run.open.fetch_sub(1, Ordering::Relaxed);
    }
}
