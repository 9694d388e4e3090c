//! The thread that writes the capture file.

use std::fs::File;
use std::io::{self, Write};

use super::encode::{FILE_HEADER, record};
use super::queue::Queue;

/// Writes until the queue ends or the file fails. Every batch is written as soon as it is encoded: the file can be
/// read up to there whenever the pod dies. Returns how many packets it wrote, and why it ended early.
pub(super) fn run(mut file: File, queue: &Queue) -> (u64, Option<io::Error>) {
    let (mut written, mut error) = (0, None);
    let mut batch = Vec::new();
    let mut bytes = FILE_HEADER.to_vec();
    loop {
        if let Err(failed) = file.write_all(&bytes) {
            queue.give_up(batch.len() as u64);
            error = Some(failed);
            break;
        }
        written += batch.len() as u64;
        batch.clear();
        bytes.clear();
        if !queue.take(&mut batch) {
            break;
        }
        for packet in &batch {
            record(packet, &mut bytes);
        }
    }
    queue.done();
    (written, error)
}
