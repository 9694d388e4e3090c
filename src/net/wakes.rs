//! Wakers collected under a lock and called after it.

use std::task::Waker;

/// Wakers kept without an allocation: reader, writer and connector of both ends of a connection.
const INLINE: usize = 6;

/// Wakes what it holds when it is dropped. Make it before taking the lock, so that it is dropped
/// after: a waker may run arbitrary code, which may want the same lock.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    inline: [Option<Waker>; INLINE],
    len: usize,
    more: Vec<Waker>,
}

impl Wakes {
    pub(super) fn add(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        match self.inline.get_mut(self.len) {
            Some(slot) => {
                *slot = Some(waker);
                self.len += 1;
            }
            None => self.more.push(waker),
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let inline = self.inline.iter_mut().take(self.len).filter_map(Option::take);
        inline.chain(self.more.drain(..)).for_each(Waker::wake);
    }
}

/// Keeps the waker of the last poll, without cloning one that is kept already.
pub(super) fn remember(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(kept) => kept.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}
