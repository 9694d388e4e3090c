//! Takes of the host what it can get and keeps it, by WASI 0.3.

use std::future::poll_fn;
use std::mem::forget;
use std::pin::Pin;
use std::task::Poll;

use wasip3::clocks::monotonic_clock;
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::stdio::Stdout;
use crate::{About, Failure};

async fn open(mount: &Descriptor, name: &str, open: OpenFlags) -> Result<Descriptor, ErrorCode> {
    mount.open_at(PathFlags::empty(), name.to_owned(), open, DescriptorFlags::READ).await
}

/// Takes up to `most` of a kind until it may not, says how many it has, makes the file
/// `hoarded` there, and keeps them for ever.
pub async fn hoard(kind: &str, path: &str, most: usize, out: &mut Stdout) -> Result<(), Failure> {
    let mut mounts = preopens::get_directories().into_iter();
    let mount = mounts.find(|(_, mounted)| mounted == path).map(|(mount, _)| mount);
    let mount = mount.ok_or_else(|| format!("{path}: no mount"))?;
    crate::files::write(&format!("{path}/hoard"), &"x".repeat(64 << 10), out).await?;
    crate::files::write(&format!("{path}/coming"), "hoarded", out).await?;
    let file = open(&mount, "hoard", OpenFlags::empty()).await.about(path)?;
    let mut calls: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    let mut taken = 0;
    let why = loop {
        if taken == most {
            break "no more wanted".to_owned();
        }
        let one = match kind {
            "files" => open(&mount, "hoard", OpenFlags::empty()).await.map(forget),
            // One entry is taken: the rest waits.
            "listings" => {
                let (mut entries, done) = mount.read_directory();
                match entries.next().await {
                    Some(_) => {
                        forget((entries, done));
                        Ok(())
                    }
                    None => done.await.and(Err(ErrorCode::Io)),
                }
            }
            "streams" => {
                let (mut bytes, done) = file.read_via_stream(0);
                match bytes.next().await {
                    Some(_) => {
                        forget((bytes, done));
                        Ok(())
                    }
                    None => done.await.and(Err(ErrorCode::Io)),
                }
            }
            // All at the same time.
            "calls" => {
                let mut call: Pin<Box<dyn Future<Output = ()>>> =
                    Box::pin(async { monotonic_clock::wait_for(u64::MAX / 2).await });
                poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
                calls.push(call);
                Ok(())
            }
            "opens" => {
                let (mount, name) = (&mount, "hoard");
                let mut call: Pin<Box<dyn Future<Output = ()> + '_>> =
                    Box::pin(async move { open(mount, name, OpenFlags::empty()).await.map_or((), forget) });
                poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
                // Never looked at again.
                forget(call);
                Ok(())
            }
            _ => return Err(format!("unknown kind {kind:?}")),
        };
        match one {
            Ok(()) => taken += 1,
            Err(why) => break format!("{why:?}"),
        }
    };
    // That takes no descriptor.
    mount.rename_at("coming".into(), &mount, "hoarded".into()).await.about(path)?;
    out.line(&format!("hoarded {taken} {kind}, then {why}")).await;
    monotonic_clock::wait_for(u64::MAX / 2).await;
    Ok(())
}
