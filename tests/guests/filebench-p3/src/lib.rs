//! Measures files from inside a guest of WASI 0.3. The commands and what they print are those of `filebench`, beside
//! which this is measured: see there.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use wasip3::cli::{environment, stderr, stdout};
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::wit_stream;

wasip3::cli::command::export!(Guest);

struct Guest;

impl wasip3::exports::cli::run::Guest for Guest {
    async fn run() -> Result<(), ()> {
        let (mut bytes, reader) = wit_stream::new();
        let result = command(&environment::get_arguments()[1..]).await;
        let (done, text) = match &result {
            Ok(text) => (stdout::write_via_stream(reader), text.clone()),
            Err(error) => (stderr::write_via_stream(reader), format!("filebench-p3: {error}\n")),
        };
        bytes.write_all(text.into_bytes()).await;
        drop(bytes);
        let _ = done.await;
        result.map(drop).map_err(drop)
    }
}

/// The large buffer, bytes.
const LARGE: usize = 1 << 20;
/// The small one, bytes.
const SMALL: usize = 4 << 10;

type Result<T, E = String> = std::result::Result<T, E>;

async fn command(args: &[String]) -> Result<String> {
    let [command, mount, count] = args else { return Err("COMMAND MOUNT COUNT".into()) };
    let mut mounts = preopens::get_directories().into_iter();
    let (directory, _) = mounts.find(|(_, path)| path == mount).ok_or_else(|| format!("no mount {mount}"))?;
    let count: u32 = count.parse().map_err(|_| format!("{count:?} is not a number"))?;
    let took = match command.as_str() {
        "write-1m" => write(&directory, "written", LARGE, count).await?,
        "read-1m" => read(&directory, LARGE, count).await?,
        "write-4k" => write(&directory, "written", SMALL, count).await?,
        "read-4k" => read(&directory, SMALL, count).await?,
        "open-read" => open_read(&directory, count).await?,
        "stat" => stat(&directory, count).await?,
        other => return Err(format!("unknown command {other:?}")),
    };
    Ok(format!("{command} {}\n", took.as_nanos() / u128::from(count)))
}

fn failed<T, E: Debug>(result: Result<T, E>) -> Result<T> {
    result.map_err(|error| format!("{error:?}"))
}

async fn create(directory: &Descriptor, name: &str) -> Result<Descriptor> {
    let open = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    failed(directory.open_at(PathFlags::SYMLINK_FOLLOW, name.into(), open, DescriptorFlags::WRITE).await)
}

async fn open(directory: &Descriptor, name: &str) -> Result<Descriptor> {
    let (follow, none) = (PathFlags::SYMLINK_FOLLOW, OpenFlags::empty());
    failed(directory.open_at(follow, name.into(), none, DescriptorFlags::READ).await)
}

async fn write(directory: &Descriptor, name: &str, size: usize, count: u32) -> Result<Duration> {
    let file = create(directory, name).await?;
    let mut data = vec![7; size];
    let (mut bytes, reader) = wit_stream::new();
    let begun = Instant::now();
    let done = file.write_via_stream(reader, 0);
    for _ in 0..count {
        let (_, mut rest) = bytes.write(data).await;
        while rest.remaining() > 0 {
            (_, rest) = bytes.write_buf(rest).await;
        }
        data = rest.into_vec();
        // SAFETY: it has not grown or shrunk since it was made, with all of its bytes written.
        unsafe { data.set_len(size) };
    }
    drop(bytes);
    failed(done.await)?;
    Ok(begun.elapsed())
}

async fn read(directory: &Descriptor, size: usize, count: u32) -> Result<Duration> {
    write(directory, "read", size, count).await?;
    let file = open(directory, "read").await?;
    let mut buffer = Vec::with_capacity(size);
    let begun = Instant::now();
    let (mut bytes, done) = file.read_via_stream(0);
    for _ in 0..count {
        buffer.clear();
        while buffer.len() < size {
            let before = buffer.len();
            (_, buffer) = bytes.read(buffer).await;
            if buffer.len() == before {
                return Err("the file ends too early".into());
            }
        }
    }
    let took = begun.elapsed();
    drop(bytes);
    failed(done.await)?;
    Ok(took)
}

async fn small(directory: &Descriptor) -> Result<()> {
    let file = create(directory, "small").await?;
    let (mut bytes, reader) = wit_stream::new();
    let done = file.write_via_stream(reader, 0);
    bytes.write_all(vec![7; 100]).await;
    drop(bytes);
    failed(done.await)
}

async fn open_read(directory: &Descriptor, count: u32) -> Result<Duration> {
    small(directory).await?;
    let mut buffer = Vec::with_capacity(100);
    let begun = Instant::now();
    for _ in 0..count {
        let file = open(directory, "small").await?;
        let (mut bytes, _) = file.read_via_stream(0);
        buffer.clear();
        (_, buffer) = bytes.read(buffer).await;
        if buffer.len() != 100 {
            return Err("the file is not as written".into());
        }
    }
    Ok(begun.elapsed())
}

async fn stat(directory: &Descriptor, count: u32) -> Result<Duration> {
    small(directory).await?;
    let begun = Instant::now();
    for _ in 0..count {
        failed(directory.stat_at(PathFlags::SYMLINK_FOLLOW, "small".into()).await)?;
    }
    Ok(begun.elapsed())
}
