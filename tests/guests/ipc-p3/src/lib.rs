//! `peapod:ipc` from a guest of WASI 0.3: `async func`s and `stream<u8>`.

use std::fmt::Debug;
use std::time::Instant;

use peapod_ipc::Channel;
use peapod_ipc::bindings::peapod::ipc::channel::Delivery;
use peapod_ipc::bindings::peapod::ipc::types::OpenFlags;
use peapod_ipc::bindings::peapod::ipc::{channel, channel_async, semaphore, semaphore_async};
use peapod_ipc::bindings::wit_stream;
use wasip3::cli::{environment, stderr, stdout};

wasip3::cli::command::export!(Guest);

struct Guest;

/// What a bulk transfer writes and reads at a time, bytes.
const CHUNK: usize = 64 * 1024;

impl wasip3::exports::cli::run::Guest for Guest {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        let words: Vec<&str> = args[1..].iter().map(String::as_str).collect();
        match command(&words).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let (mut bytes, reader) = wasip3::wit_stream::new();
                let done = stderr::write_via_stream(reader);
                bytes.write_all(format!("ipc-p3: {error}\n").into_bytes()).await;
                drop(bytes);
                let _ = done.await;
                Err(())
            }
        }
    }
}

async fn command(words: &[&str]) -> Result<(), String> {
    match *words {
        ["send", name, mebibytes] => send(name, mebibytes).await,
        ["receive", name] => receive(name).await,
        ["tasks"] => tasks().await,
        _ => Err(format!("unknown command {words:?}")),
    }
}

fn failed<T, E: Debug>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{error:?}"))
}

async fn say(what: &str) {
    let (mut bytes, reader) = wasip3::wit_stream::new();
    let done = stdout::write_via_stream(reader);
    bytes.write_all(format!("{what}\n").into_bytes()).await;
    drop(bytes);
    let _ = done.await;
}

/// So many bytes as a stream; says what a mebibyte took, nanoseconds, until the receiver has all.
async fn send(name: &str, mebibytes: &str) -> Result<(), String> {
    let mebibytes: u32 = failed(mebibytes.parse())?;
    let sender = failed(Channel::to_one(name, 16, CHUNK as u32).sender())?.into_resource();
    let done = failed(Channel::new("/done").receiver())?.into_resource();
    let start = Instant::now();
    let (mut bytes, reader) = wit_stream::new();
    let sent = channel_async::send_bytes(sender, reader);
    let mut data = vec![7; CHUNK];
    for _ in 0..mebibytes * (1 << 20) / CHUNK as u32 {
        let (_, mut rest) = bytes.write(data).await;
        while rest.remaining() > 0 {
            (_, rest) = bytes.write_buf(rest).await;
        }
        data = rest.into_vec();
        data.resize(CHUNK, 7);
    }
    drop(bytes);
    failed(sent.await)?;
    failed(channel_async::receive(&done, None).await)?;
    say(&format!("channel-bulk {}", start.elapsed().as_nanos() / u128::from(mebibytes))).await;
    Ok(())
}

async fn receive(name: &str) -> Result<(), String> {
    let receiver = failed(Channel::to_one(name, 16, CHUNK as u32).receiver())?.into_resource();
    let done = failed(Channel::new("/done").sender())?.into_resource();
    let (mut bytes, ended) = channel_async::receive_bytes(receiver);
    let (mut count, mut buffer) = (0, Vec::with_capacity(CHUNK));
    loop {
        let (_, got) = bytes.read(buffer).await;
        buffer = got;
        if buffer.is_empty() {
            break;
        }
        count += buffer.len();
        buffer.clear();
    }
    failed(ended.await)?;
    failed(channel_async::send(&done, b"done".to_vec(), None).await)?;
    say(&format!("received {count} bytes")).await;
    Ok(())
}

/// Several tasks of one guest wait at the same time.
async fn tasks() -> Result<(), String> {
    let attributes = channel::Attributes { delivery: Delivery::ToOne, max_messages: 1, message_size: 8 };
    let sender = failed(channel::Sender::open("/tasks", Some(attributes)))?;
    let receiver = failed(channel::Receiver::open("/tasks", None))?;
    let semaphore = failed(semaphore::Semaphore::open("/tasks", OpenFlags::CREATE, 0, true))?;
    let (received, acquired) = futures::join!(
        async {
            failed(semaphore_async::acquire(&semaphore, 1, None).await)?;
            failed(channel_async::send(&sender, b"x".to_vec(), None).await)
        },
        async {
            failed(semaphore.release(1))?;
            failed(channel_async::receive(&receiver, None).await)
        },
    );
    received?;
    if acquired? != Some(b"x".to_vec()) {
        return Err("another message".to_owned());
    }
    say("tasks done").await;
    Ok(())
}
