//! Whether a server is well: what makes the probes of it pass and fail.

use std::fs;
use std::time::{Duration, Instant};

use crate::{Failure, arg, number};

/// Well from so long after the start, for so long, and while a file is there; each only where it was asked for.
pub struct Health {
    started: Instant,
    after: Option<Duration>,
    until: Option<Duration>,
    file: Option<String>,
}

impl Health {
    /// From `--healthy-after MS`, `--healthy-until MS` and `--healthy-while PATH` among the arguments.
    pub fn from(args: &[String]) -> Result<Health, Failure> {
        let place = |name: &str| args.iter().position(|arg| arg == name).map(|index| index + 1);
        let time = |name| place(name).map(|index| number(args, index, name)).transpose();
        let file =
            place("--healthy-while").map(|index| arg(args, index, "--healthy-while").map(str::to_owned));
        Ok(Health {
            started: Instant::now(),
            after: time("--healthy-after")?.map(Duration::from_millis),
            until: time("--healthy-until")?.map(Duration::from_millis),
            file: file.transpose()?,
        })
    }

    /// Whether it is well now.
    pub fn is_well(&self) -> bool {
        let age = self.started.elapsed();
        self.after.is_none_or(|after| age >= after)
            && self.until.is_none_or(|until| age < until)
            && self.file.as_ref().is_none_or(|path| fs::exists(path).unwrap_or(false))
    }
}
