//! Init container: fills the shared volume before the server and the sidecar start.
//!
//! `prepare [SITE]`: writes `style.css` and a first `index.html`, which the reporter replaces.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

const FILES: [(&str, &str); 2] =
    [("style.css", include_str!("style.css")), ("index.html", include_str!("index.html"))];

fn main() -> ExitCode {
    let site = PathBuf::from(env::args().nth(1).unwrap_or("/site".into()));
    for (name, text) in FILES {
        if let Err(error) = write(&site, name, text) {
            eprintln!("prepare: {}: {error}", site.join(name).display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn write(site: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::write(site.join(name), text)?;
    println!("wrote {} ({} B)", site.join(name).display(), text.len());
    Ok(())
}
