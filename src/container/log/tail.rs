//! The last of what a container said, in memory: what stands for its termination message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::container::message::{LOG_BYTES, LOG_LINES};

/// The last [`LOG_BYTES`] that a container said on both outputs, in the order in which it did. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct LogTail(Arc<Mutex<VecDeque<u8>>>);

impl LogTail {
    pub(in crate::container) fn push(&self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(LOG_BYTES)..];
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = (tail.len() + bytes.len()).saturating_sub(LOG_BYTES);
        tail.drain(..excess);
        tail.extend(bytes);
    }

    /// The last [`LOG_LINES`] of it, what is no UTF-8 replaced. The first line may be cut.
    pub fn text(&self) -> String {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(tail.make_contiguous());
        let ends = text.trim_end_matches('\n').rmatch_indices('\n');
        let start = ends.map(|(at, _)| at + 1).nth(LOG_LINES - 1).unwrap_or(0);
        text[start..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_and_lines_are_kept() {
        let tail = LogTail::default();
        assert_eq!(tail.text(), "");
        tail.push(b"one\n");
        tail.push(b"tw");
        tail.push(b"o");
        assert_eq!(tail.text(), "one\ntwo");

        for line in 1..=200 {
            tail.push(format!("{line}\n").as_bytes());
        }
        let text = tail.text();
        assert_eq!(text.lines().count(), LOG_LINES);
        assert!(text.starts_with("121\n") && text.ends_with("\n200\n"), "{text}");

        tail.push("ä".repeat(LOG_BYTES).as_bytes());
        tail.push(b"x");
        let text = tail.text();
        assert!(text.starts_with('\u{fffd}') && text.ends_with("äx"), "{text}");
    }
}
