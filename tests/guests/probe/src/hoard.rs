//! Takes of the host what it can get and keeps it, by the raw calls of WASI 0.2: libc has bounds of its own.

use std::mem::forget;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, thread};

use wasip2::clocks::monotonic_clock;
use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

use crate::{About, Failure, Outcome, arg, cpu, number, number_or};

/// Bytes that a stream is asked for, or given, at a time.
const CHUNK: usize = 64 * 1024;
/// Bytes of one much too large write.
const LARGE: usize = 4 << 20;
/// Between two rounds of who uses files.
const PAUSE: Duration = Duration::from_millis(5);

fn mount(path: &str) -> Result<Descriptor, Failure> {
    let mut mounts = preopens::get_directories().into_iter();
    let mount = mounts.find(|(_, mounted)| mounted == path).map(|(mount, _)| mount);
    mount.ok_or_else(|| Failure(format!("{path}: no mount")))
}

fn open(
    mount: &Descriptor,
    name: &str,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Descriptor, String> {
    let opened = mount.open_at(PathFlags::empty(), name, open, flags);
    opened.map_err(|error| error.name().to_owned())
}

/// `hoard KIND MOUNT MOST [trap|oom TIMES]`: takes up to MOST of a kind until it may not, says how many it has,
/// `hoarded COUNT KIND, then WHY`, makes the file MOUNT/hoarded, and keeps them for ever; or ends so as often as that,
/// and then well.
pub fn hoard(args: &[String]) -> Outcome {
    let (kind, path) = (arg(args, 0, "KIND")?, arg(args, 1, "MOUNT")?);
    let most: usize = number(args, 2, "MOST")?;
    let mount = mount(path)?;
    if let Some(times) = args.get(4) {
        let ends = format!("{path}/{kind}-{}", args[3]);
        let before = fs::read(&ends).unwrap_or_default().len();
        if before >= times.parse().unwrap_or_default() {
            println!("ended {before} times");
            return Ok(ExitCode::SUCCESS);
        }
        fs::write(&ends, vec![b'x'; before + 1]).about(&ends)?;
    }
    let coming = format!("{path}/coming");
    fs::write(&coming, "hoarded").about(&coming)?;
    let file = format!("{path}/hoard");
    fs::write(&file, vec![b'x'; CHUNK]).about(&file)?;
    let file = |flags| open(&mount, "hoard", OpenFlags::empty(), flags).map_err(Failure);
    let (to_read, to_write) = (file(DescriptorFlags::READ)?, file(DescriptorFlags::WRITE)?);
    let mut taken = 0;
    let why = loop {
        if taken == most {
            break "no more wanted".to_owned();
        }
        let one = match kind {
            "files" => open(&mount, "hoard", OpenFlags::empty(), DescriptorFlags::READ).map(forget),
            "directories" => open(&mount, ".", OpenFlags::DIRECTORY, DescriptorFlags::READ).map(forget),
            "listings" => mount.read_directory().map(forget).map_err(|error| error.name().to_owned()),
            "streams" => to_read
                .read_via_stream(0)
                .map(|stream| {
                    // What it has read, nobody takes.
                    let _ = stream.read(CHUNK as u64);
                    forget(stream);
                })
                .map_err(|error| error.name().to_owned()),
            // More than is permitted.
            "writes" => to_write
                .write_via_stream(0)
                .map(|stream| {
                    let _ = stream.check_write();
                    let _ = stream.write(&vec![b'x'; LARGE]);
                    forget(stream);
                })
                .map_err(|error| error.name().to_owned()),
            "timers" => {
                forget(monotonic_clock::subscribe_duration(u64::MAX));
                Ok(())
            }
            _ => return Err(Failure(format!("unknown kind {kind:?}"))),
        };
        match one {
            Ok(()) => taken += 1,
            Err(why) => break why,
        }
    };
    // That takes no descriptor.
    mount.rename_at("coming", &mount, "hoarded").map_err(|error| Failure(error.name().to_owned()))?;
    println!("hoarded {taken} {kind}, then {why}");
    match args.get(3).map(String::as_str) {
        Some("trap") => cpu::trap(&[]),
        Some(_) => cpu::alloc(&[]),
        None => loop {
            thread::sleep(Duration::from_secs(3600));
        },
    }
}

/// `many-files DIRECTORY COUNT`: makes so many empty files with long names.
pub fn many_files(args: &[String]) -> Outcome {
    let path = arg(args, 0, "DIRECTORY")?;
    fs::create_dir_all(path).about(path)?;
    for n in 0..number::<u32>(args, 1, "COUNT")? {
        let file = format!("{path}/{n:0>200}");
        fs::write(&file, "").about(&file)?;
    }
    println!("made files");
    Ok(ExitCode::SUCCESS)
}

/// `count-entries DIRECTORY`: how many there are, and how many of them are files.
pub fn count_entries(args: &[String]) -> Outcome {
    let path = arg(args, 0, "DIRECTORY")?;
    let (mut all, mut files) = (0, 0);
    for entry in fs::read_dir(path).about(path)? {
        all += 1;
        files += u32::from(entry.about(path)?.file_type().about(path)?.is_file());
    }
    println!("{all} entries, {files} files");
    Ok(ExitCode::SUCCESS)
}

/// `use-files DIRECTORY ROUNDS [OPEN]`: again and again makes, reads, lists and removes files in the directory, OPEN at
/// a time; says how long the longest round took.
pub fn use_files(args: &[String]) -> Outcome {
    let path = arg(args, 0, "DIRECTORY")?;
    fs::create_dir_all(path).about(path)?;
    let mut longest = Duration::ZERO;
    for round in 0..number::<u32>(args, 1, "ROUNDS")? {
        let begun = Instant::now();
        let mut kept = Vec::new();
        for n in 0..number_or(args, 2, "OPEN", 8_u32)? {
            let file = format!("{path}/{n}");
            fs::write(&file, "used").about(&file)?;
            kept.push(fs::File::open(&file).about(&file)?);
            let text = fs::read_to_string(&file).about(&file)?;
            assert_eq!(text, "used", "round {round}");
        }
        let listed = fs::read_dir(path).about(path)?.count();
        assert_eq!(listed, kept.len(), "round {round}");
        for n in 0..kept.len() {
            let file = format!("{path}/{n}");
            fs::remove_file(&file).about(&file)?;
        }
        longest = longest.max(begun.elapsed());
        thread::sleep(PAUSE);
    }
    println!("used files, the longest round {} ms", longest.as_millis());
    Ok(ExitCode::SUCCESS)
}
