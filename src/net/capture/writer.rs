//! The thread that writes the capture file.

use std::fs::File;
use std::io::Write;

use super::Summary;
use super::encode::{FILE_HEADER, record};
use super::queue::Queue;

/// Writes until the queue ends or the file fails. Every batch is written as soon as it is encoded: the file can be
/// read up to there whenever the pod dies.
pub(super) fn run(mut file: File, queue: &Queue) -> Summary {
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
    Summary { written, dropped: queue.done(), error }
}
