//! Files of `wasi:filesystem` 0.3.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::wit_stream;

use crate::stdio::Stdout;
use crate::{About, Failure};

/// The mount that a path is on, and the path below it.
fn mounted(path: &str) -> Result<(Descriptor, String), Failure> {
    let below = |mount: &str| path.strip_prefix(mount)?.strip_prefix('/').map(str::to_owned);
    let mut found = preopens::get_directories().into_iter();
    found
        .find_map(|(directory, mount)| Some((directory, below(&mount)?)))
        .ok_or_else(|| format!("{path}: not on a mount"))
}

/// Replaces the file's content.
pub async fn write(path: &str, text: &str, out: &mut Stdout) -> Result<(), Failure> {
    let (directory, below) = mounted(path)?;
    let open = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let file = directory.open_at(PathFlags::SYMLINK_FOLLOW, below, open, DescriptorFlags::WRITE).await;
    let file = file.about(path)?;
    let (mut bytes, reader) = wit_stream::new();
    let done = file.write_via_stream(reader, 0);
    bytes.write_all(text.as_bytes().to_vec()).await;
    drop(bytes);
    done.await.about(path)?;
    out.line(&format!("wrote {path}")).await;
    Ok(())
}

/// Prints the file.
pub async fn read(path: &str, out: &mut Stdout) -> Result<(), Failure> {
    let (directory, below) = mounted(path)?;
    let empty = OpenFlags::empty();
    let file = directory.open_at(PathFlags::SYMLINK_FOLLOW, below, empty, DescriptorFlags::READ).await;
    let file = file.about(path)?;
    let (bytes, done) = file.read_via_stream(0);
    let bytes = bytes.collect().await;
    done.await.about(path)?;
    out.line(&String::from_utf8_lossy(&bytes)).await;
    Ok(())
}

/// Begins so often to open a file for writing, and gives each up at once. Prints how many had to be waited for.
pub async fn give_up(path: &str, count: u64, out: &mut Stdout) -> Result<(), Failure> {
    let (directory, below) = mounted(path)?;
    let mut given_up = 0_u64;
    for _ in 0..count {
        let (empty, flags) = (OpenFlags::empty(), DescriptorFlags::READ | DescriptorFlags::WRITE);
        let mut opening = pin!(directory.open_at(PathFlags::SYMLINK_FOLLOW, below.clone(), empty, flags));
        let waits = poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx).is_pending())).await;
        given_up += u64::from(waits);
    }
    out.line(&format!("gave up {given_up} of {count}")).await;
    Ok(())
}

/// Makes a directory.
pub async fn mkdir(path: &str, out: &mut Stdout) -> Result<(), Failure> {
    let (directory, below) = mounted(path)?;
    directory.create_directory_at(below).await.about(path)?;
    out.line(&format!("created {path}")).await;
    Ok(())
}

/// Prints the names in a directory that is a mount or below one.
pub async fn list(path: &str, out: &mut Stdout) -> Result<(), Failure> {
    let (directory, below) = mounted(&format!("{path}/"))?;
    let below = if below.is_empty() { ".".to_owned() } else { below };
    let flags = DescriptorFlags::READ;
    let directory = directory.open_at(PathFlags::SYMLINK_FOLLOW, below, OpenFlags::DIRECTORY, flags).await;
    let directory = directory.about(path)?;
    let (entries, done) = directory.read_directory();
    let mut names: Vec<_> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
    done.await.about(path)?;
    names.sort_unstable();
    for name in names {
        out.line(&name).await;
    }
    Ok(())
}
