//! One guest for the tests and measurements of `peapod:ipc`: does one thing, named by its first argument.
//!
//! What it got is a line on stdout. An error is a line on stderr, `ipc: <command>: ECODE: text`, with exit code 1.
//! Names begin with their slash.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use peapod_ipc::bindings::peapod::ipc::shared_memory::Segment;
use peapod_ipc::bindings::wasi::io::poll::poll;
use peapod_ipc::{Channel, Error, Queue, Semaphore, SharedMemory};

/// Round trips that are not counted: the first ones meet cold caches.
const WARM_UP: u32 = 1000;
/// A message of the measurements, bytes.
const SMALL: usize = 64;
/// A message of bulk data, bytes.
const LARGE: usize = 64 * 1024;
/// How long a command waits for what another container makes.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome = Result<(), Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipc: {}: {error}", words.first().unwrap_or(&""));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Outcome {
    match *words {
        // Message queues.
        ["queue-create", name, messages, size] => {
            let queue = Queue::create(name, number(messages), number(size))?;
            println!("created {name}");
            rest_unless(queue.len().is_err())
        }
        ["queue-send", name, text, priority] => {
            Queue::create(name, 10, 8192)?.send(text.as_bytes(), number(priority))
        }
        ["queue-receive", name, count] => {
            let queue = Queue::create(name, 10, 8192)?;
            println!("receiving");
            for _ in 0..number(count) {
                let message = queue.receive()?;
                println!("got {} {}", String::from_utf8_lossy(&message.data), message.priority);
            }
            Ok(())
        }
        // Fills a queue and goes on sending.
        ["queue-flood", name] => {
            let queue = Queue::create(name, 2, 64)?;
            queue.send(b"flood", 0)?;
            queue.send(b"flood", 0)?;
            println!("full");
            loop {
                queue.send(b"flood", 0)?;
            }
        }
        ["queue-missing", name] => match Queue::open(name) {
            Err(_) => Ok(()),
            Ok(_) => panic!("it is there"),
        },
        ["queue-exists", name] => Queue::open(name).map(|_| println!("there")),
        // Shared memory.
        ["memory-write", name, text] => {
            let memory = SharedMemory::create(name, 4096)?;
            memory.write_at(text.as_bytes(), 8)?;
            memory.u32_at(0).fetch_add(1)?;
            memory.u32_at(0).notify_all()?;
            println!("wrote");
            Ok(())
        }
        ["memory-read", name, length] => {
            let memory = SharedMemory::create(name, 4096)?;
            while memory.u32_at(0).load()? == 0 {
                memory.u32_at(0).wait_timeout(0, PATIENCE)?;
            }
            let mut bytes = vec![0; number(length) as usize];
            memory.read_at(&mut bytes, 8)?;
            println!("read {}", String::from_utf8_lossy(&bytes));
            Ok(())
        }
        ["memory-add", name, count] => {
            let memory = SharedMemory::create(name, 4096)?;
            for _ in 0..number(count) {
                memory.u64_at(16).fetch_add(1)?;
            }
            println!("added, {}", memory.u64_at(16).load()?);
            Ok(())
        }
        ["memory-hold", name] => {
            let memory = SharedMemory::create(name, 4096)?;
            memory.u32_at(0).fetch_add(1)?;
            println!("mapped");
            rest_unless(false)
        }
        // Adds again and again; says when the memory is gone, and when it is there again.
        ["memory-touch", name] => {
            let memory = SharedMemory::create(name, 8192)?;
            let far = memory.u32_at(8188);
            far.fetch_add(1)?;
            println!("touching");
            let lost = loop {
                if let Err(error) = far.fetch_add(1) {
                    break error;
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            println!("lost: {lost:?}");
            memory.resize(8192)?;
            println!("again: {}", far.fetch_add(1)?);
            Ok(())
        }
        // Opens until it may not, says how many it has, and keeps them, or traps as often as that; segments without a
        // name.
        ["hoard", kind, most, mount, ref times @ ..] => {
            if let [times] = *times {
                let ends = format!("{mount}/{kind}");
                let before = std::fs::read(&ends).unwrap_or_default().len();
                if before >= number(times) as usize {
                    println!("ended {before} times");
                    return Ok(());
                }
                std::fs::write(&ends, vec![b'x'; before + 1]).expect("count");
            }
            let coming = format!("{mount}/coming");
            std::fs::write(&coming, "hoarded").expect("write");
            let (mut taken, most) = (0, number(most));
            let refusal = loop {
                if taken == most {
                    break "no more wanted".to_owned();
                }
                let one = match kind {
                    "queues" => Queue::create("/hoard", 1, 8).map(std::mem::forget),
                    _ => SharedMemory::create("/hoard", 4096).and_then(|memory| {
                        memory.u32_at(0).fetch_add(1)?;
                        std::mem::forget(memory);
                        SharedMemory::unlink("/hoard")
                    }),
                };
                match one {
                    Ok(()) => taken += 1,
                    Err(error) => break error.to_string(),
                }
            };
            // That takes no descriptor.
            std::fs::rename(&coming, format!("{mount}/hoarded")).expect("rename");
            println!("hoarded {taken} {kind}, then {refusal}");
            if !times.is_empty() {
                std::process::abort();
            }
            rest_unless(false)
        }
        // Follows a number that a native process counts up, and says in another one how far it has come.
        ["memory-answer", name, count] => {
            let memory = SharedMemory::create(name, 4096)?;
            let (theirs, ours) = (memory.u32_at(0), memory.u32_at(4));
            println!("answering");
            for seen in 0..number(count) {
                while theirs.load()? == seen {
                    if seen % 2 == 0 {
                        theirs.wait(seen)?;
                    } else {
                        memory.as_resource().subscribe(0, seen).map_err(Error)?.block();
                    }
                }
                ours.store(seen + 1)?;
                ours.notify_all()?;
            }
            println!("answered");
            Ok(())
        }
        // Semaphores.
        ["semaphore-hold", name, end] => {
            let semaphore = Semaphore::create(name, 1)?;
            let _held = semaphore.acquire()?;
            println!("held");
            match end {
                "trap" => std::process::abort(),
                // Until its memory limit is exceeded, and it is killed.
                "oom" => {
                    let mut all = Vec::new();
                    loop {
                        all.push(vec![7u8; 1 << 20]);
                    }
                }
                "return" => {
                    _held.forget();
                    Ok(())
                }
                _ => rest_unless(false),
            }
        }
        ["semaphore-take", name, times] => {
            let semaphore = Semaphore::create(name, 1)?;
            for _ in 0..number(times) {
                let _held = semaphore.acquire()?;
            }
            println!("taken");
            Ok(())
        }
        // Channels.
        ["channel-send", name, count] => {
            let sender = Channel::new(name).sender()?;
            for n in 0..number(count) {
                sender.send(format!("message {n}").as_bytes())?;
            }
            println!("sent");
            Ok(())
        }
        ["channel-receive", name] => {
            let (mut count, mut last) = (0, Vec::new());
            for message in Channel::new(name).receiver()? {
                last = message?;
                count += 1;
            }
            println!("received {count}, last {}", String::from_utf8_lossy(&last));
            Ok(())
        }
        ["channel-send-all", name, receivers] => {
            let sender = Channel::to_all(name, 4, 64).sender()?;
            let ready = Semaphore::create_counter("/ready", 0)?;
            ready.acquire_many(number(receivers))?.forget();
            for n in 0..100 {
                sender.send(format!("message {n}").as_bytes())?;
            }
            Ok(())
        }
        ["channel-receive-all", name] => {
            let receiver = Channel::to_all(name, 4, 64).receiver()?;
            Semaphore::create_counter("/ready", 0)?.release(1)?;
            println!("received {} of all", receiver.count());
            Ok(())
        }
        // Ends.
        ["victim", end] => victim(end),
        ["survivor"] => survivor(),
        // Waits.
        ["wait", kind] => wait(kind),
        ["poll"] => poll_all(),
        ["limit", kind] => limit(kind),
        // Measurements: what one takes, nanoseconds.
        ["channel-echo"] => {
            let (receiver, sender) = (Channel::new("/ping").receiver()?, Channel::new("/pong").sender()?);
            while let Some(message) = receiver.receive()? {
                sender.send(&message)?;
            }
            Ok(())
        }
        ["channel-round-trip", count] => {
            let (sender, receiver) = (Channel::new("/ping").sender()?, Channel::new("/pong").receiver()?);
            let message = [7; SMALL];
            measure("channel-round-trip", count, || {
                sender.send(&message)?;
                receiver.receive().map(drop)
            })
        }
        ["queue-echo"] => {
            let (ping, pong) = (Queue::create("/ping", 10, 64)?, Queue::create("/pong", 10, 64)?);
            loop {
                let message = ping.receive()?.data;
                pong.send(&message, 0)?;
                if message[0] == 0 {
                    return Ok(());
                }
            }
        }
        ["queue-round-trip", count] => {
            let (ping, pong) = (Queue::create("/ping", 10, 64)?, Queue::create("/pong", 10, 64)?);
            measure("queue-round-trip", count, || {
                ping.send(&[7; SMALL], 0)?;
                pong.receive().map(drop)
            })?;
            ping.send(&[0; SMALL], 0)?;
            pong.receive().map(drop)
        }
        ["fetch-add", count] => {
            let memory = SharedMemory::create("/counter", 4096)?;
            let number = memory.u64_at(0);
            measure("fetch-add", count, || number.fetch_add(1).map(drop))
        }
        ["channel-sink"] => {
            let receiver = Channel::to_one("/bulk", 16, LARGE as u32).receiver()?;
            let done = Channel::new("/done").sender()?;
            while receiver.receive()?.is_some() {}
            done.send(b"done")
        }
        ["channel-bulk", mebibytes] => {
            let sender = Channel::to_one("/bulk", 16, LARGE as u32).sender()?;
            let done = Channel::new("/done").receiver()?;
            let data = vec![7; LARGE];
            let start = Instant::now();
            for _ in 0..number(mebibytes) * (1 << 20) / LARGE as u32 {
                sender.send(&data)?;
            }
            drop(sender);
            done.receive()?;
            println!("channel-bulk {}", start.elapsed().as_nanos() / u128::from(number(mebibytes)));
            Ok(())
        }
        _ => {
            eprintln!("ipc: unknown command {words:?}");
            std::process::exit(1)
        }
    }
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

fn rest_unless(over: bool) -> Outcome {
    while !over {
        std::thread::sleep(Duration::from_secs(3600));
    }
    Ok(())
}

fn measure(what: &str, count: &str, mut once: impl FnMut() -> Outcome) -> Outcome {
    let count = number(count);
    for _ in 0..WARM_UP {
        once()?;
    }
    let start = Instant::now();
    for _ in 0..count {
        once()?;
    }
    println!("{what} {}", start.elapsed().as_nanos() / u128::from(count));
    Ok(())
}

/// Ends while it holds a semaphore, has a segment mapped, and messages are on their way.
fn victim(end: &str) -> Outcome {
    let semaphore = Semaphore::create("/victim", 1)?;
    let _held = semaphore.acquire()?;
    let memory = SharedMemory::create("/victim", 4096)?;
    memory.u32_at(0).fetch_add(1)?;
    // A channel goes with its last end: the survivor has one before this one goes.
    Semaphore::create_counter("/survivor-is-there", 0)?.acquire()?.forget();
    let sender = Channel::new("/victim").sender()?;
    sender.send(b"whole")?;
    Semaphore::create_counter("/in-position", 0)?.release(1)?;
    let queue = Queue::create("/victim", 1, 64)?;
    queue.send(b"whole", 0)?;
    println!("in position");
    match end {
        "trap" => std::process::abort(),
        "exit" => std::process::exit(1),
        // Until its memory limit is exceeded, and it is killed.
        "oom" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![7u8; 1 << 20]);
            }
        }
        // In the middle of a send, whatever it is asked, until it is killed.
        _ => loop {
            let _ = queue.send_timeout(b"never", 0, PATIENCE);
        },
    }
}

/// Finds everything in order after a victim.
fn survivor() -> Outcome {
    let receiver = Channel::new("/victim").receiver()?;
    Semaphore::create_counter("/survivor-is-there", 0)?.release(1)?;
    Semaphore::create_counter("/in-position", 0)?.acquire()?.forget();
    let semaphore = Semaphore::create("/victim", 1)?;
    let _held = semaphore.acquire_timeout(PATIENCE)?;
    let memory = SharedMemory::create("/victim", 4096)?;
    assert_eq!(memory.u32_at(0).fetch_add(1)?, 1);
    assert_eq!(receiver.receive_timeout(PATIENCE)?.as_deref(), Some(&b"whole"[..]));
    assert_eq!(receiver.receive_timeout(PATIENCE)?, None);
    let queue = Queue::create("/victim", 1, 64)?;
    assert_eq!(queue.receive_timeout(PATIENCE)?.data, b"whole");
    assert!(queue.try_receive().is_err(), "half a send is none");
    queue.send(b"on", 0)?;
    assert_eq!(queue.receive()?.data, b"on");
    println!("survived");
    Ok(())
}

/// Waits until the container is asked to end, and says what the wait said.
fn wait(kind: &str) -> Outcome {
    let memory = SharedMemory::create("/wait", 4096)?;
    let queue = Queue::create("/wait", 1, 8)?;
    let semaphore = Semaphore::create("/wait", 0)?;
    let receiver = Channel::new("/wait").receiver()?;
    println!("waiting");
    let result = match kind {
        "memory" => memory.u32_at(0).wait(0).map(drop),
        "queue" => queue.receive().map(drop),
        "semaphore" => semaphore.acquire().map(drop),
        "channel" => receiver.receive().map(drop),
        "poll" => {
            let segment: &Segment = memory.as_resource();
            let all = [
                segment.subscribe(0, 0).map_err(Error)?,
                queue.as_resource().subscribe_readable(),
                semaphore.as_resource().subscribe(),
            ];
            let ready = poll(&all.iter().collect::<Vec<_>>());
            println!("ready: {ready:?}");
            queue.try_receive().map(drop)
        }
        _ => panic!("unknown kind {kind:?}"),
    };
    println!("ended: {:?}", result.expect_err("nothing came"));
    Ok(())
}

/// Pollables are ready when they should be, and not before.
fn poll_all() -> Outcome {
    let queue = Queue::create("/poll", 1, 8)?;
    let (readable, writable) =
        (queue.as_resource().subscribe_readable(), queue.as_resource().subscribe_writable());
    assert!(!readable.ready() && writable.ready());
    queue.send(b"x", 0)?;
    assert!(readable.ready() && !writable.ready());
    let semaphore = Semaphore::create("/poll", 0)?;
    let permit = semaphore.as_resource().subscribe();
    assert!(!permit.ready());
    semaphore.release(1)?;
    permit.block();
    let memory = SharedMemory::create("/poll", 64)?;
    let address = memory.as_resource().subscribe(0, 0).map_err(Error)?;
    assert!(!address.ready());
    assert_eq!(memory.u32_at(0).notify_all()?, 1);
    assert!(address.ready());
    let sender = Channel::to_one("/poll", 1, 8).sender()?;
    let receiver = Channel::new("/poll").receiver()?.into_resource();
    let message = receiver.subscribe();
    assert!(!message.ready());
    sender.send(b"x")?;
    assert!(message.ready());
    let sender = sender.into_resource();
    let room = sender.subscribe();
    assert!(!room.ready());
    drop(message);
    receiver.try_receive().map_err(Error)?;
    assert!(room.ready());
    println!("polled");
    Ok(())
}

/// Opens until it may not; says how often, and why.
fn limit(kind: &str) -> Outcome {
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
    let why = loop {
        let name = format!("/limit-{}", kept.len());
        let opened: Result<Box<dyn std::any::Any>, Error> = match kind {
            "semaphores" => Semaphore::create(&name, 0).map(|it| Box::new(it) as _),
            "queues" => Queue::create(&name, 1, 8).map(|it| Box::new(it) as _),
            "segments" => SharedMemory::create(&name, 8).map(|it| Box::new(it) as _),
            "channels" => Channel::new(&name).sender().map(|it| Box::new(it) as _),
            "handles" => Semaphore::create("/limit", 0).map(|it| Box::new(it) as _),
            "memory" => SharedMemory::create(&name, 16 << 20).map(|it| Box::new(it) as _),
            _ => panic!("unknown kind {kind:?}"),
        };
        match opened {
            Ok(it) => kept.push(it),
            Err(error) => break error,
        }
    };
    println!("opened {}, then {why:?}", kept.len());
    Ok(())
}
