//! What is served: the files of the volume, and `/stats` as JSON.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use crate::http::{self, Request, Response};

/// The files and the figures.
pub struct Site {
    root: PathBuf,
    started: Instant,
    requests: u64,
    bytes: u64,
}

impl Site {
    /// Serves the files under `root`.
    pub fn new(root: PathBuf) -> Site {
        Site { root, started: Instant::now(), requests: 0, bytes: 0 }
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Answers one request.
    pub fn respond(&mut self, request: &Request) -> Response {
        self.requests += 1;
        let mut response = match request {
            Request::Refused(status) => Response::text(status),
            Request::Get { path, head_only } => {
                let response = if path == "/stats" { self.stats() } else { self.file(path) };
                Response { head_only: *head_only, ..response }
            }
        };
        // The reporter reads these two.
        response.headers = format!(
            "x-requests: {}\r\nx-uptime-ms: {}\r\n",
            self.requests,
            self.started.elapsed().as_millis()
        );
        self.bytes += response.body.len() as u64;
        response
    }

    fn file(&self, path: &str) -> Response {
        let relative = Path::new(if path == "/" { "index.html" } else { &path[1..] });
        // The host keeps a guest inside its volume anyway; this keeps a visitor inside the site.
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Response::text(http::NOT_FOUND);
        }
        match fs::read(self.root.join(relative)) {
            Ok(body) => Response { content_type: content_type(relative), body, ..Response::text(http::OK) },
            Err(error) if error.kind() == ErrorKind::NotFound => Response::text(http::NOT_FOUND),
            Err(error) => {
                eprintln!("web: {}: {error}", relative.display());
                Response::text(http::FAILED)
            }
        }
    }

    fn stats(&self) -> Response {
        let body = format!(
            "{{\"pod\":\"{}\",\"requests\":{},\"bytes\":{},\"uptimeMs\":{}}}\n",
            env::var("HOSTNAME").unwrap_or_default().escape_default(),
            self.requests,
            self.bytes,
            self.started.elapsed().as_millis(),
        );
        Response { content_type: "application/json", body: body.into_bytes(), ..Response::text(http::OK) }
    }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
