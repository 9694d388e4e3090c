//! Files, and attempts to reach those that are none of the container's.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use crate::{About, Outcome, arg, described, number};

const MIB: usize = 1024 * 1024;
/// Between two looks of [`await_file`].
const LOOK: Duration = Duration::from_millis(5);

/// `ls PATH`: the names, sorted; directories end in `/`, links in `@`.
pub fn ls(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    let mut names = Vec::new();
    for entry in fs::read_dir(path).about(path)? {
        let entry = entry.about(path)?;
        let kind = entry.file_type().about(entry.path().display())?;
        let mark = if kind.is_dir() {
            "/"
        } else if kind.is_symlink() {
            "@"
        } else {
            ""
        };
        names.push(format!("{}{mark}", entry.file_name().to_string_lossy()));
    }
    names.sort_unstable();
    names.iter().for_each(|name| println!("{name}"));
    Ok(ExitCode::SUCCESS)
}

/// `read PATH`: the file's text.
pub fn read(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    print!("{}", fs::read_to_string(path).about(path)?);
    Ok(ExitCode::SUCCESS)
}

/// `write PATH TEXT`: replaces the file's content with the text and a newline.
pub fn write(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    fs::write(path, format!("{}\n", arg(args, 1, "TEXT")?)).about(path)?;
    println!("wrote {path}");
    Ok(ExitCode::SUCCESS)
}

/// `append PATH TEXT`: adds a line to the file, which is created when absent.
pub fn append(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).about(path)?;
    writeln!(file, "{}", arg(args, 1, "TEXT")?).about(path)?;
    println!("appended to {path}");
    Ok(ExitCode::SUCCESS)
}

/// `fill PATH MIB`: a new file of this many MiB, and a line for every 4 MiB.
pub fn fill(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    let mut file = fs::File::create(path).about(path)?;
    let block = vec![0; MIB];
    for written in 1..=number::<usize>(args, 1, "MIB")? {
        file.write_all(&block).about(path)?;
        if written.is_multiple_of(4) {
            println!("{written} MiB");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `mkdir PATH`: one directory.
pub fn mkdir(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    fs::create_dir(path).about(path)?;
    println!("created {path}");
    Ok(ExitCode::SUCCESS)
}

/// `symlink TARGET LINK`: a symbolic link.
pub fn symlink(args: &[String]) -> Outcome {
    let (target, link) = (arg(args, 0, "TARGET")?, arg(args, 1, "LINK")?);
    make_link(Path::new(target), Path::new(link)).about(link)?;
    println!("linked {link}");
    Ok(ExitCode::SUCCESS)
}

/// `may PATH..`: a line for each: whether it can be read, and appended to.
pub fn may(args: &[String]) -> Outcome {
    for path in args {
        let answer =
            |result: std::io::Result<()>| result.map_or_else(|error| described(&error), |()| "yes".into());
        let reads = answer(fs::read(path).map(drop));
        let writes = answer(fs::OpenOptions::new().append(true).open(path).map(drop));
        println!("{path}: read {reads}; write {writes}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `await-file PATH`: waits until the file exists, then prints it.
pub fn await_file(args: &[String]) -> Outcome {
    let path = arg(args, 0, "PATH")?;
    while !fs::exists(path).about(path)? {
        thread::sleep(LOOK);
    }
    read(args)
}

/// `follow PATH LAST`: prints the file's text whenever it is another, until it is `LAST`; then what a handle says
/// that was opened at the start.
pub fn follow(args: &[String]) -> Outcome {
    let (path, last) = (arg(args, 0, "PATH")?, arg(args, 1, "LAST")?);
    let mut held = fs::File::open(path).about(path)?;
    let mut seen = String::new();
    while seen != *last {
        match fs::read_to_string(path) {
            Ok(text) if text != seen => {
                println!("now {text}");
                seen = text;
            }
            Ok(_) => thread::sleep(LOOK),
            // Between two steps of its path it became another.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).about(path),
        }
    }
    println!("held {}", std::io::read_to_string(&mut held).about(path)?);
    Ok(ExitCode::SUCCESS)
}

/// `read-all PATH..`: of each file the path and its bytes, as text where they are text.
pub fn read_all(args: &[String]) -> Outcome {
    for path in args {
        let bytes = fs::read(path).about(path)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => println!("{path}: {}", text.escape_debug()),
            Err(_) => println!("{path}: {bytes:?}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `escape PATH`: tries every way out of the mount at `PATH` to the host's `/etc/passwd` and into the
/// host's `/tmp`. Prints a line per attempt; exit code 0 when all failed, 1 when one succeeded.
pub fn escape(args: &[String]) -> Outcome {
    let mount = PathBuf::from(arg(args, 0, "PATH")?);
    let up = "../".repeat(16);
    let secret = Path::new("etc/passwd");

    let mut attempts = vec![
        ("absolute".to_owned(), read_attempt(Path::new("/etc/passwd"))),
        ("working directory".into(), read_attempt(&PathBuf::from(&up).join(secret))),
        ("dots".into(), read_attempt(&mount.join(&up).join(secret))),
        ("dots below".into(), read_attempt(&mount.join("nowhere").join(&up).join(secret))),
        ("proc root".into(), read_attempt(&Path::new("/proc/self/root").join(secret))),
        ("list root".into(), fs::read_dir("/").map(drop)),
        ("list above".into(), fs::read_dir(mount.join("..")).map(drop)),
        ("write above".into(), fs::write(mount.join("../escaped-by-dots"), "escaped")),
        ("write absolute".into(), fs::write("/tmp/escaped-by-absolute-path", "escaped")),
        ("rename out".into(), rename_out(&mount)),
        ("hard link in".into(), hard_link_in(&mount)),
    ];
    let links = [("absolute", PathBuf::from("/etc/passwd")), ("relative", PathBuf::from(&up).join(secret))];
    for (name, target) in links {
        let link = mount.join(format!("link-{name}"));
        // A host that refuses such a link at once is as good as one that refuses to follow it.
        attempts.push((format!("{name} link"), make_link(&target, &link).and_then(|()| read_attempt(&link))));
        let _ = fs::remove_file(&link);
    }
    for (name, target) in [("absolute", PathBuf::from("/")), ("relative", PathBuf::from(&up))] {
        let link = mount.join(format!("link-to-{name}-directory"));
        let through = make_link(&target, &link).and_then(|()| read_attempt(&link.join(secret)));
        attempts.push((format!("through {name} directory link"), through));
        let _ = fs::remove_file(&link);
    }
    attempts.push(("change directory".into(), env::set_current_dir("/").and_then(|()| read_attempt(secret))));

    let mut escaped = false;
    for (name, result) in attempts {
        match result {
            Ok(()) => {
                escaped = true;
                println!("{name}: ESCAPED");
            }
            Err(error) => println!("{name}: refused, {}", described(&error)),
        }
    }
    println!("{}", if escaped { "escaped" } else { "contained" });
    Ok(if escaped { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read_attempt(path: &Path) -> std::io::Result<()> {
    fs::read(path).map(drop)
}

fn rename_out(mount: &Path) -> std::io::Result<()> {
    let inside = mount.join("renamed-out");
    fs::write(&inside, "escaped")?;
    let result = fs::rename(&inside, mount.join("../renamed-out"));
    let _ = fs::remove_file(&inside);
    result
}

fn hard_link_in(mount: &Path) -> std::io::Result<()> {
    let inside = mount.join("linked-in");
    let result = fs::hard_link(mount.join("../../../../../../../../etc/passwd"), &inside);
    let _ = fs::remove_file(&inside);
    result
}

#[cfg(target_os = "wasi")]
fn make_link(target: &Path, link: &Path) -> std::io::Result<()> {
    #[expect(deprecated, reason = "std::os::wasi::fs::symlink_path is not stable")]
    fs::soft_link(target, link)
}

#[cfg(not(target_os = "wasi"))]
fn make_link(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}
