//! The page: HTML without scripts; the style sheet is the init container's.

use std::env;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::histogram::{Bucket, Histogram};
use crate::micros;
use crate::visit::Visit;

/// Everything a page shows.
pub struct Page<'a> {
    pub beat: u64,
    pub histogram: &'a Histogram,
    pub visit: &'a Visit,
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pod = escaped(&env::var("HOSTNAME").unwrap_or("quickstart".into()));
        let uptime = spoken(self.visit.uptime);
        write!(
            f,
            r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2">
<title>{pod} · peapod</title>
<link rel="stylesheet" href="style.css">
<main>
  <h1>{pod}</h1>
  <p class="sub">One Kubernetes pod, three WebAssembly components: one network namespace, one cgroup, one volume.</p>
  <div class="cards">
    <div class="card"><b>{last:.1} µs</b><span>last GET, all in memory</span></div>
    <div class="card"><b>{p50:.1} µs</b><span>median round trip</span></div>
    <div class="card"><b>{requests}</b><span>requests served</span></div>
    <div class="card"><b>{uptime}</b><span>up</span></div>
  </div>
  <section class="card">
    <h2>Round trips over 127.0.0.1</h2>
    <div class="bars">"#,
            last = micros(self.visit.round_trip),
            p50 = micros(self.histogram.percentile(50)),
            requests = self.visit.requests,
        )?;
        bars(f, &self.histogram.buckets())?;
        write!(
            f,
            r#"</div>
  </section>
  <section class="card">
    <h2>What runs here</h2>
    <dl>
      <dt>prepare</dt><dd>init container: wrote the style sheet and the first page, then ended</dd>
      <dt>web</dt><dd>serves the volume on port 8080; it may read it, not write</dd>
      <dt>reporter</dt><dd>sidecar: visits web over localhost every 2 s and wrote this page</dd>
    </dl>
  </section>
  <footer>Page {beat}, {now} UTC. The figures as JSON: <a href="stats">/stats</a></footer>
</main>
</html>
"#,
            beat = self.beat,
            now = time_of_day(SystemTime::now()),
        )
    }
}

fn bars(f: &mut Formatter<'_>, buckets: &[Bucket]) -> fmt::Result {
    let tallest = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    for Bucket { label, count } in buckets {
        // Percent of the box's height; the rest is for the two lines of text.
        let height = count * 65 / tallest;
        write!(f, "\n      <div>{count}<i style=\"height:{height}%\"></i>{label}</div>")?;
    }
    writeln!(f)
}

/// `1 h 02 min`, `3 min 05 s` or `42 s`.
fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `HH:MM:SS`.
fn time_of_day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
