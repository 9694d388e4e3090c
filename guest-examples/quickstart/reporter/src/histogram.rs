//! The round trips of the last minutes.

use std::collections::VecDeque;
use std::time::Duration;

/// Round trips remembered: five minutes of them at one every two seconds.
const WINDOW: usize = 150;
/// Upper bounds of the buckets, microseconds; the last bucket takes what is above.
const BOUNDS_US: [u64; 9] = [50, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000];

/// A rolling window of round trips.
#[derive(Default)]
pub struct Histogram {
    window: VecDeque<Duration>,
}

/// One bar: its label and how many round trips it holds.
pub struct Bucket {
    pub label: String,
    pub count: usize,
}

impl Histogram {
    /// Adds one, and forgets the oldest when the window is full.
    pub fn record(&mut self, round_trip: Duration) {
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(round_trip);
    }

    /// The smallest value that `percent` of the window does not exceed; 100 is the maximum.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted: Vec<_> = self.window.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The bars, from fast to slow.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut counts = [0; BOUNDS_US.len() + 1];
        for round_trip in &self.window {
            let index = BOUNDS_US.partition_point(|&bound| u128::from(bound) < round_trip.as_micros());
            counts[index] += 1;
        }
        let labels = BOUNDS_US.iter().map(|&bound| format!("≤ {}", unit(bound)));
        let above = BOUNDS_US.last().map(|&bound| format!("> {}", unit(bound)));
        labels.chain(above).zip(counts).map(|(label, count)| Bucket { label, count }).collect()
    }
}

fn unit(micros: u64) -> String {
    if micros < 1_000 { format!("{micros} µs") } else { format!("{} ms", micros / 1_000) }
}
