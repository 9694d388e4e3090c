//! The objects, with their waits, as containers of one pod use them.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::*;

/// A pod's IPC with a directory of its own; queues are the machine's, and so have names of their own.
struct Pod {
    ipc: Arc<Ipc>,
    directory: tempfile::TempDir,
}

impl Pod {
    fn new(set: &[(&str, u64)]) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut limits = IpcLimits::default();
        set.iter().for_each(|(name, value)| limits.set(name, *value).unwrap());
        Self { ipc: Ipc::new(limits, PathBuf::from(directory.path())), directory }
    }
}

/// A queue's name that no other test has; the queue goes with it.
struct QueueName(Name);

impl QueueName {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(name(&format!("/peapod-test-{}-{number}", std::process::id())))
    }
}

impl Drop for QueueName {
    fn drop(&mut self) {
        let _ = crate::sys::mqueue::unlink(&self.0.to_c().unwrap());
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The pod's objects; message queues are the machine's.
fn listed(pod: &Pod) -> Vec<Object> {
    pod.ipc.list().into_iter().filter(|object| object.kind != Kind::Queue).collect()
}

fn once<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The highest priority of a message.
const PRIORITY_MAX: u32 = 32_767;

const SOON: Option<Duration> = Some(Duration::from_millis(10));
const LONG: Option<Duration> = Some(Duration::from_secs(60));

#[tokio::test]
async fn a_semaphore_is_acquired_in_turn_and_undone() {
    let pod = Pod::new(&[]);
    let (a, b, c) = (pod.ipc.attach("a"), pod.ipc.attach("b"), pod.ipc.attach("c"));
    let open = |handle: &Handle| handle.open_semaphore(&name("/s"), Open::Create, 2, true).unwrap();
    let (a, b, c) = (open(&a), open(&b), open(&c));
    a.acquire(2, None).await.unwrap();
    assert_eq!(b.try_acquire(1), Err(Errno::Again));
    assert_eq!(b.acquire(1, SOON).await, Err(Errno::TimedOut));
    let mut two = Box::pin(b.acquire(2, None));
    assert!(once(two.as_mut()).is_pending());
    let mut one = Box::pin(c.acquire(1, None));
    assert!(once(one.as_mut()).is_pending());
    a.release(1).unwrap();
    assert!(once(one.as_mut()).is_pending(), "nobody overtakes");
    assert_eq!(c.try_acquire(1), Err(Errno::Again));
    // Its container ends, and gives back what it still holds.
    drop(a);
    two.await.unwrap();
    assert!(once(one.as_mut()).is_pending());
    drop(one);
    drop(b);
    assert_eq!(c.value(), 2);
    assert_eq!(c.release(0), Err(Errno::Invalid));
    let again = pod.ipc.attach("a").open_semaphore(&name("/s"), Open::Exclusive, 1, true);
    assert_eq!(again.unwrap_err(), Errno::Exist);
}

#[tokio::test]
async fn a_wait_that_is_dropped_after_its_turn_gives_it_on() {
    let pod = Pod::new(&[]);
    let handle = pod.ipc.attach("a");
    let semaphore = handle.open_semaphore(&name("/s"), Open::Create, 0, false).unwrap();
    let mut first = Box::pin(semaphore.acquire(1, None));
    let mut second = Box::pin(semaphore.acquire(1, None));
    assert!(once(first.as_mut()).is_pending());
    assert!(once(second.as_mut()).is_pending());
    semaphore.release(1).unwrap();
    drop(first);
    assert_eq!(once(second.as_mut()), Poll::Ready(Ok(())));
    drop(second);
    drop(semaphore);
    assert_eq!(listed(&pod)[0].used, 0, "no undo");
}

#[tokio::test]
async fn stop_ends_every_wait() {
    let pod = Pod::new(&[]);
    let (run, other) = (pod.ipc.attach("run"), pod.ipc.attach("other"));
    let queue_name = QueueName::new();
    let semaphore = run.open_semaphore(&name("/s"), Open::Create, 0, true).unwrap();
    let receiver = run.open_receiver(&name("/c"), None).unwrap();
    let queue = run.open_queue(&queue_name.0, Access::Both, Open::Create, None).unwrap();
    let segment = run.open_segment(&name("/m"), Access::Both, Open::Create, Some(8)).await.unwrap();
    let mut acquire = Box::pin(semaphore.acquire(1, None));
    let mut receive = Box::pin(receiver.receive(LONG));
    let mut from_queue = Box::pin(queue.receive(None));
    let mut address = Box::pin(segment.wait(0, 0, None));
    let mut ready = Box::pin(receiver.ready());
    assert!(once(acquire.as_mut()).is_pending());
    assert!(once(receive.as_mut()).is_pending());
    assert!(once(from_queue.as_mut()).is_pending());
    assert!(once(address.as_mut()).is_pending());
    assert!(once(ready.as_mut()).is_pending());
    assert_eq!(receiver.try_receive(), Err(Errno::Again));
    run.stop();
    assert_eq!(acquire.await, Err(Errno::Canceled));
    assert_eq!(receive.await, Err(Errno::Canceled));
    assert_eq!(from_queue.await, Err(Errno::Canceled));
    assert_eq!(address.await, Err(Errno::Canceled));
    ready.await;
    assert_eq!(receiver.try_receive(), Err(Errno::Canceled));
    assert_eq!(receiver.receive(None).await, Err(Errno::Canceled));
    // A wait with a timeout is bounded anyway, and what is there is had.
    assert_eq!(receiver.receive(SOON).await, Err(Errno::TimedOut));
    other.open_sender(&name("/c"), None).unwrap().try_send("last".into()).unwrap();
    assert_eq!(receiver.receive(None).await, Ok(Some("last".into())));
    assert_eq!(pod.ipc.waits.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_channel_holds_back_ends_and_breaks() {
    let pod = Pod::new(&[]);
    let (a, b) = (pod.ipc.attach("a"), pod.ipc.attach("b"));
    let attributes = ChannelAttributes { delivery: Delivery::ToOne, max_messages: 1, message_size: 4 };
    let sender = a.open_sender(&name("/c"), Some(attributes)).unwrap();
    let receiver = b.open_receiver(&name("/c"), None).unwrap();
    assert_eq!(receiver.attributes(), attributes);
    assert_eq!(sender.try_send("toolong".into()), Err(Errno::MessageSize));
    sender.try_send("1".into()).unwrap();
    assert_eq!(sender.try_send("2".into()), Err(Errno::Again));
    let mut second = Box::pin(sender.send("2".into(), None));
    assert!(once(second.as_mut()).is_pending());
    assert_eq!(receiver.receive(None).await, Ok(Some("1".into())));
    second.await.unwrap();
    drop(sender);
    assert_eq!(receiver.receive(None).await, Ok(Some("2".into())));
    assert_eq!(receiver.receive(None).await, Ok(None), "the end of the stream");
    let sender = a.open_sender(&name("/c"), None).unwrap();
    let mut more = Box::pin(receiver.receive(None));
    assert!(once(more.as_mut()).is_pending(), "the stream goes on");
    sender.try_send("3".into()).unwrap();
    more.await.unwrap();
    drop(receiver);
    assert_eq!(sender.try_send("4".into()), Err(Errno::Pipe));
    drop(sender);
    assert!(listed(&pod).is_empty(), "a channel goes with its last end");
    assert_eq!(b.open_receiver(&name("/c"), None).unwrap().attributes(), ChannelAttributes::default());
}

#[tokio::test]
async fn a_message_to_all_waits_for_the_slowest() {
    let pod = Pod::new(&[]);
    let handle = pod.ipc.attach("a");
    let attributes = ChannelAttributes { delivery: Delivery::ToAll, max_messages: 2, message_size: 64 };
    let sender = handle.open_sender(&name("/c"), Some(attributes)).unwrap();
    let one = handle.open_receiver(&name("/c"), None).unwrap();
    let two = handle.open_receiver(&name("/c"), None).unwrap();
    let wrong = ChannelAttributes { delivery: Delivery::ToOne, ..attributes };
    assert_eq!(handle.open_sender(&name("/c"), Some(wrong)).unwrap_err(), Errno::Invalid);
    sender.try_send("1".into()).unwrap();
    sender.try_send("2".into()).unwrap();
    assert_eq!(one.try_receive(), Ok(Some("1".into())));
    assert_eq!(one.try_receive(), Ok(Some("2".into())));
    assert_eq!(sender.try_send("3".into()), Err(Errno::Again));
    let mut third = Box::pin(sender.send("3".into(), None));
    assert!(once(third.as_mut()).is_pending());
    // The slow one's container is killed.
    drop(two);
    third.await.unwrap();
    assert_eq!(one.try_receive(), Ok(Some(Bytes::from("3"))));
}

#[tokio::test]
async fn a_queue_is_the_kernels() {
    let pod = Pod::new(&[]);
    let (a, b) = (pod.ipc.attach("a"), pod.ipc.attach("b"));
    let queue_name = QueueName::new();
    let attributes = Some(QueueAttributes { max_messages: 1, message_size: 16 });
    assert_eq!(a.open_queue(&queue_name.0, Access::Both, Open::Existing, None).unwrap_err(), Errno::NoEntry);
    let sender = a.open_queue(&queue_name.0, Access::Write, Open::Exclusive, attributes).unwrap();
    let receiver = b.open_queue(&queue_name.0, Access::Read, Open::Create, None).unwrap();
    let native = crate::sys::mqueue::MessageQueue::open(&queue_name.0.to_c().unwrap(), Access::Both, None);
    let native = native.unwrap();
    assert_eq!(receiver.receive(SOON).await, Err(Errno::TimedOut));
    assert_eq!(receiver.try_send(b"x", 0), Err(Errno::Access));
    assert_eq!(sender.try_send(&[0; 17], 0), Err(Errno::MessageSize));
    assert_eq!(sender.try_send(b"x", 32768), Err(Errno::Invalid));

    // A native process sends to one who waits, and makes room for one who waits.
    let mut receive = Box::pin(receiver.receive(None));
    assert!(once(receive.as_mut()).is_pending());
    native.send(b"native", 3).unwrap();
    assert_eq!(receive.await, Ok((b"native".to_vec(), 3)));
    sender.send(b"one", 1, None).await.unwrap();
    receiver.readable().await;
    let mut full = Box::pin(sender.send(b"two", 2, None));
    assert!(once(full.as_mut()).is_pending());
    let mut writable = Box::pin(sender.writable());
    assert!(once(writable.as_mut()).is_pending());
    native.receive(&mut Vec::with_capacity(16)).unwrap();
    writable.await;
    full.await.unwrap();
    assert_eq!(receiver.status().unwrap().messages, 1);

    // The machine may have others.
    let listed = pod.ipc.list().into_iter().find(|object| object.name == queue_name.0.as_str()).unwrap();
    assert_eq!((listed.kind, listed.used, listed.limit), (Kind::Queue, 1, Some(1)));
    assert_eq!(listed.containers, ["a", "b"]);
    pod.ipc.remove(Kind::Queue, queue_name.0.as_str()).unwrap();
    assert_eq!(b.unlink_queue(&queue_name.0), Err(Errno::NoEntry));
    assert_eq!(receiver.try_receive(), Ok((b"two".to_vec(), 2)));
    assert_ne!(pod.ipc.queues.bytes(), 0);
    drop((sender, receiver));
    assert_eq!(pod.ipc.queues.bytes(), 0);
}

#[tokio::test]
async fn a_message_for_a_container_that_waits_overtakes_none_and_is_not_lost() {
    let pod = Pod::new(&[]);
    let (a, b) = (pod.ipc.attach("a"), pod.ipc.attach("b"));
    let queue_name = QueueName::new();
    let attributes = Some(QueueAttributes { max_messages: 1, message_size: 16 });
    let sender = a.open_queue(&queue_name.0, Access::Write, Open::Exclusive, attributes).unwrap();
    let receiver = b.open_queue(&queue_name.0, Access::Read, Open::Existing, None).unwrap();
    let native = crate::sys::mqueue::MessageQueue::open(&queue_name.0.to_c().unwrap(), Access::Both, None);
    let native = native.unwrap();
    let received = |text: &str| (text.as_bytes().to_vec(), 0);
    let mut buffer = Vec::with_capacity(16);
    let waiting = || {
        let mut receive = Box::pin(receiver.receive(LONG));
        assert!(once(receive.as_mut()).is_pending());
        receive
    };

    // Straight to the one who waits; the queue has room for one more.
    let receive = waiting();
    sender.try_send(b"handed", 0).unwrap();
    assert_eq!(sender.status().unwrap().messages, 0);
    sender.try_send(b"queued", 9).unwrap();
    assert_eq!(receive.await, Ok(received("handed")));
    assert_eq!(receiver.try_receive(), Ok((b"queued".to_vec(), 9)));

    // A native process was first.
    let receive = waiting();
    native.send(b"native", 0).unwrap();
    assert_eq!(sender.try_send(b"later", 9), Err(Errno::Again));
    assert_eq!(receive.await, Ok(received("native")));

    // It is known to be empty: a native message is had at once where nobody is to wait.
    let receive = waiting();
    drop(receive);
    native.send(b"native", 0).unwrap();
    assert_eq!(receiver.receive(Some(Duration::ZERO)).await, Ok(received("native")));
    assert_eq!(receiver.receive(Some(Duration::ZERO)).await, Err(Errno::TimedOut));
    native.send(b"native", 0).unwrap();
    assert_eq!(receiver.receive(LONG).await, Ok(received("native")));
    assert_eq!(sender.receive(None).await, Err(Errno::Access));

    // What the kernel would refuse is refused.
    let receive = waiting();
    assert_eq!(sender.try_send(&[0; 17], 0), Err(Errno::MessageSize));
    assert_eq!(sender.try_send(b"x", PRIORITY_MAX + 1), Err(Errno::Invalid));
    assert_eq!(receiver.try_send(b"x", 0), Err(Errno::Access));
    sender.try_send(b"last", PRIORITY_MAX).unwrap();
    assert_eq!(receive.await, Ok((b"last".to_vec(), PRIORITY_MAX)));

    // Who was to have it is killed: the next one gets it, or the queue.
    let (first, second) = (waiting(), waiting());
    sender.try_send(b"again", 0).unwrap();
    drop(first);
    assert_eq!(second.await, Ok(received("again")));
    let killed = waiting();
    sender.try_send(b"back", 0).unwrap();
    drop(killed);
    native.receive(&mut buffer).unwrap();
    assert_eq!(buffer, b"back");

    // And the queue is full meanwhile.
    let killed = waiting();
    sender.try_send(b"kept", 0).unwrap();
    sender.try_send(b"queued", 0).unwrap();
    drop(killed);
    receiver.readable().await;
    assert_eq!(receiver.try_receive(), Ok(received("kept")));
    assert_eq!(receiver.receive(LONG).await, Ok(received("queued")));
    assert_eq!(receiver.try_receive(), Err(Errno::Again));
}

#[tokio::test]
async fn a_segment_is_a_file_that_all_see() {
    let pod = Pod::new(&[]);
    let (a, b) = (pod.ipc.attach("a"), pod.ipc.attach("b"));
    let one = a.open_segment(&name("/m"), Access::Both, Open::Exclusive, Some(4096)).await.unwrap();
    let two = b.open_segment(&name("/m"), Access::Read, Open::Existing, None).await.unwrap();
    let native =
        std::fs::OpenOptions::new().read(true).write(true).open(pod.directory.path().join("m")).unwrap();
    one.write(100, b"bytes").unwrap();
    assert_eq!(two.read(100, 5).unwrap(), b"bytes");
    assert_eq!(two.write(0, b"x"), Err(Errno::Access));
    assert_eq!(two.fetch_add_u32(0, 1), Err(Errno::Access));
    assert_eq!(one.write(4092, b"bytes"), Err(Errno::Fault));
    assert_eq!(one.read(4090, 100).unwrap().len(), 6);
    assert_eq!(one.read(4097, 1), Err(Errno::Fault));
    one.copy_from(102, &one, 100, 5).unwrap();
    assert_eq!(one.read(100, 7).unwrap(), b"bybytes");

    assert_eq!(one.fetch_add_u64(8, 5), Ok(0));
    assert_eq!(one.compare_and_swap_u64(8, 4, 1), Ok(5));
    assert_eq!(one.compare_and_swap_u64(8, 5, u64::MAX), Ok(5));
    assert_eq!(two.load_u64(8), Ok(u64::MAX));
    assert_eq!(one.load_u32(2), Err(Errno::Invalid));
    assert_eq!(one.load_u32(4096), Err(Errno::Fault));
    native.write_all_at(&7u32.to_le_bytes(), 16).unwrap();
    assert_eq!(one.load_u32(16), Ok(7));

    one.resize(3 << 20).await.unwrap();
    assert_eq!(two.fetch_add_u32(2 << 20, 1), Err(Errno::Access));
    assert_eq!(one.fetch_add_u32(2 << 20, 1), Ok(0));
    // A native process makes the file shorter: an error, and nobody dies of it.
    native.set_len(4096).unwrap();
    assert_eq!(one.fetch_add_u32(2 << 20, 1), Err(Errno::Fault));
    assert_eq!(one.fetch_add_u64(8, 2), Ok(u64::MAX));
    assert_eq!(one.load_u64(8), Ok(1));

    a.unlink_segment(&name("/m")).unwrap();
    assert_eq!(one.load_u64(8), Ok(1));
    assert_eq!(
        b.open_segment(&name("/m"), Access::Both, Open::Existing, None).await.unwrap_err(),
        Errno::NoEntry
    );
    std::os::unix::fs::symlink("/etc/passwd", pod.directory.path().join("link")).unwrap();
    let link = b.open_segment(&name("/link"), Access::Both, Open::Create, None).await;
    assert_eq!(link.unwrap_err(), Errno::Access);
}

#[tokio::test]
async fn whoever_waits_on_an_address_is_notified_in_turn() {
    let pod = Pod::new(&[]);
    let (a, b) = (pod.ipc.attach("a"), pod.ipc.attach("b"));
    let one = a.open_segment(&name("/m"), Access::Both, Open::Create, Some(64)).await.unwrap();
    let two = b.open_segment(&name("/m"), Access::Both, Open::Create, None).await.unwrap();
    assert_eq!(one.wait(0, 1, None).await, Ok(WaitResult::Mismatch));
    assert_eq!(one.wait(0, 0, SOON).await, Err(Errno::TimedOut));
    let mut first = Box::pin(one.wait(0, 0, None));
    let mut second = Box::pin(one.wait(0, 0, None));
    let elsewhere = one.begin_wait(4, 0).unwrap();
    assert!(once(first.as_mut()).is_pending());
    assert!(once(second.as_mut()).is_pending());
    // The number stays: a change may end the second wait as well.
    assert_eq!(two.notify(0, 1), Ok(1));
    assert_eq!(first.await, Ok(WaitResult::Notified));
    assert!(once(second.as_mut()).is_pending());
    assert_eq!(two.notify(0, u32::MAX), Ok(1));
    assert_eq!(second.await, Ok(WaitResult::Notified));
    let mut ready = Box::pin(elsewhere.ready());
    assert!(once(ready.as_mut()).is_pending());
    drop(ready);
    drop(elsewhere);
    assert_eq!(two.notify(4, 1), Ok(0));
}

/// A native process's view of a segment.
fn native(pod: &Pod, segment: &str) -> crate::sys::shared::Mapping {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(pod.directory.path().join(segment));
    let file = file.unwrap();
    let length = file.metadata().unwrap().len() as usize;
    crate::sys::shared::Mapping::new(&file, length).unwrap()
}

fn store(native: &crate::sys::shared::Mapping, offset: usize, value: u32) {
    native.with(offset, |number: &AtomicU32| number.store(value.to_le(), Ordering::SeqCst)).unwrap().unwrap();
}

/// A number of addresses that takes more than one thread.
const ADDRESSES: u64 = 300;

#[tokio::test]
async fn a_native_wake_ends_a_containers_wait() {
    assert!(crate::sys::futex::is_supported(), "this test needs futex_waitv(2): Linux 5.16");
    let pod = Pod::new(&[]);
    let a = pod.ipc.attach("a");
    let segment = a.open_segment(&name("/m"), Access::Both, Open::Create, Some(8192)).await.unwrap();
    let native = native(&pod, "m");
    // Changed and woken, at many addresses, of which the kernel tells one at a time.
    let mut waits: Vec<_> = (0..ADDRESSES).map(|n| Box::pin(segment.wait(n * 4, 0, LONG))).collect();
    assert!(waits.iter_mut().all(|wait| once(wait.as_mut()).is_pending()));
    let waker = std::thread::spawn(move || {
        for offset in (0..ADDRESSES as usize).map(|n| n * 4) {
            store(&native, offset, 1);
            native.wake(offset, 1);
        }
        native
    });
    for wait in waits {
        assert_eq!(wait.await, Ok(WaitResult::Notified));
    }
    let native = waker.join().unwrap();
    // Woken without a change, as soon as the thread waits.
    let mut wait = Box::pin(segment.wait(4096, 0, LONG));
    assert!(once(wait.as_mut()).is_pending());
    let waker = std::thread::spawn(move || {
        while native.wake(4096, 1) == 0 {
            std::thread::yield_now();
        }
    });
    assert_eq!(wait.await, Ok(WaitResult::Notified));
    waker.join().unwrap();
}

#[tokio::test]
async fn a_containers_notify_counts_native_waiters_and_not_the_thread_that_watches() {
    assert!(crate::sys::futex::is_supported(), "this test needs futex_waitv(2): Linux 5.16");
    let pod = Pod::new(&[]);
    let (a, b) = (pod.ipc.attach("a"), pod.ipc.attach("b"));
    let one = a.open_segment(&name("/m"), Access::Both, Open::Create, Some(64)).await.unwrap();
    let two = b.open_segment(&name("/m"), Access::Both, Open::Create, None).await.unwrap();
    for _ in 0..50 {
        let mut wait = Box::pin(one.wait(0, 0, LONG));
        assert!(once(wait.as_mut()).is_pending());
        assert_eq!(two.notify(0, u32::MAX), Ok(1));
        assert_eq!(wait.await, Ok(WaitResult::Notified));
        tokio::task::yield_now().await;
    }
    let mapping = Arc::new(native(&pod, "m"));
    let waiter = std::thread::spawn(move || {
        let control = crate::sys::futex::Control::default();
        let number = crate::sys::futex::Number { mapping, offset: 0, value: 0 };
        control.wait(control.value(), &[number], Duration::from_secs(60))
    });
    while two.notify(0, u32::MAX) == Ok(0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(waiter.join().unwrap().unwrap(), crate::sys::futex::Woken::Number(0));
}

#[tokio::test]
async fn what_is_watched_can_shrink_and_go() {
    let pod = Pod::new(&[]);
    let a = pod.ipc.attach("a");
    let segment = a.open_segment(&name("/m"), Access::Both, Open::Create, Some(8192)).await.unwrap();
    let waits = [segment.begin_wait(0, 0).unwrap(), segment.begin_wait(4096, 0).unwrap()];
    // A native process makes it shorter; whoever waits behind the end may be told, and then sees it.
    std::fs::OpenOptions::new().write(true).open(pod.directory.path().join("m")).unwrap().set_len(4).unwrap();
    let third = segment.begin_wait(0, 0).unwrap();
    if crate::sys::futex::is_supported() {
        // The thread looks again as soon as there is something new to watch.
        let other = a.open_segment(&name("/n"), Access::Both, Open::Create, Some(4)).await.unwrap();
        let _new = other.begin_wait(0, 0).unwrap();
        waits[1].ready().await;
    }
    assert_eq!(segment.notify(0, u32::MAX), Ok(2));
    third.ready().await;
    a.unlink_segment(&name("/m")).unwrap();
    drop(segment);
    drop((waits, third));
    // The pod ends with a wait that is watched: its threads are joined.
    let last = a.open_segment(&name("/n"), Access::Both, Open::Create, Some(4)).await.unwrap();
    let wait = last.begin_wait(0, 0).unwrap();
    drop((wait, last, a));
    assert_eq!(Arc::strong_count(&pod.ipc), 1);
}

#[tokio::test]
async fn limits_hold() {
    let pod = Pod::new(&[
        ("handles", 5),
        ("waits", 1),
        ("semaphores", 1),
        ("channels", 1),
        ("channel-bytes", 1000),
        ("segments", 1),
        ("queues", 1),
        ("queue-messages", 10),
        ("queue-bytes", 100),
    ]);
    let (a, b) = (pod.ipc.attach("a"), pod.ipc.attach("b"));
    let semaphore = a.open_semaphore(&name("/s"), Open::Create, 0, true).unwrap();
    assert_eq!(a.open_semaphore(&name("/t"), Open::Create, 0, true).unwrap_err(), Errno::NoSpace);
    let channel =
        |messages| ChannelAttributes { delivery: Delivery::ToOne, max_messages: messages, message_size: 100 };
    assert_eq!(a.open_sender(&name("/c"), Some(channel(11))).unwrap_err(), Errno::NoSpace);
    let sender = a.open_sender(&name("/c"), Some(channel(10))).unwrap();
    assert_eq!(a.open_sender(&name("/d"), Some(channel(1))).unwrap_err(), Errno::NoSpace);
    let _segment = a.open_segment(&name("/m"), Access::Both, Open::Create, None).await.unwrap();
    assert_eq!(
        a.open_segment(&name("/n"), Access::Both, Open::Create, None).await.unwrap_err(),
        Errno::NoSpace
    );
    let (queue_name, other_name) = (QueueName::new(), QueueName::new());
    let make = |name: &QueueName, max_messages, message_size| {
        let attributes = Some(QueueAttributes { max_messages, message_size });
        a.open_queue(&name.0, Access::Both, Open::Create, attributes)
    };
    assert_eq!(make(&queue_name, 11, 1).unwrap_err(), Errno::NoSpace);
    assert_eq!(make(&queue_name, 10, 11).unwrap_err(), Errno::NoSpace);
    assert_eq!(make(&queue_name, 0, 11).unwrap_err(), Errno::Invalid);
    let queue = make(&queue_name, 10, 10).unwrap();
    assert_eq!(make(&other_name, 1, 1).unwrap_err(), Errno::NoSpace);
    // A native process removes it.
    crate::sys::mqueue::unlink(&queue_name.0.to_c().unwrap()).unwrap();
    assert_eq!(make(&other_name, 1, 1).unwrap_err(), Errno::NoSpace, "its bytes are in use");
    drop(queue);
    make(&other_name, 1, 1).unwrap();

    let mut wait = Box::pin(semaphore.acquire(1, None));
    assert!(once(wait.as_mut()).is_pending());
    assert_eq!(semaphore.acquire(1, None).await, Err(Errno::NoMemory));
    let _one = a.open_sender(&name("/c"), None).unwrap();
    let _two = a.open_sender(&name("/c"), None).unwrap();
    assert_eq!(a.open_sender(&name("/c"), None).unwrap_err(), Errno::TooManyHandles);
    b.open_sender(&name("/c"), None).unwrap();
    drop(sender);
    a.open_sender(&name("/c"), None).unwrap();
}

#[tokio::test]
async fn a_command_has_objects_of_its_own_and_the_containers_stop() {
    let pod = Pod::new(&[("handles", 1)]);
    let container = pod.ipc.attach("a");
    let command = container.for_command();
    let theirs = container.open_semaphore(&name("/s"), Open::Create, 1, true).unwrap();
    let own = command.open_semaphore(&name("/s"), Open::Existing, 0, true).unwrap();
    own.try_acquire(1).unwrap();
    drop(own);
    theirs.try_acquire(1).unwrap();
    let own = command.open_semaphore(&name("/s"), Open::Existing, 0, true).unwrap();
    let mut wait = Box::pin(own.acquire(1, None));
    assert!(once(wait.as_mut()).is_pending());
    container.stop();
    assert_eq!(wait.await, Err(Errno::Canceled));
}

/// As when it computed at that moment: each run is told, in whatever wait comes first, and then waits with timeouts.
#[tokio::test]
async fn whoever_did_not_wait_when_it_was_asked_to_end_is_told_in_its_next_wait() {
    let pod = Pod::new(&[]);
    let container = pod.ipc.attach("a");
    let command = container.for_command();
    container.stop();
    for run in [&container, &command] {
        let semaphore = run.open_semaphore(&name("/s"), Open::Create, 1, true).unwrap();
        assert_eq!(semaphore.acquire(1, LONG).await, Ok(()), "what need not wait is done");
        assert_eq!(semaphore.acquire(1, LONG).await, Err(Errno::Canceled));
        assert_eq!(semaphore.acquire(1, SOON).await, Err(Errno::TimedOut));
        assert_eq!(semaphore.acquire(1, None).await, Err(Errno::Canceled));
    }
    let poller = pod.ipc.attach("b");
    poller.stop();
    let semaphore = poller.open_semaphore(&name("/t"), Open::Create, 0, true).unwrap();
    assert_eq!(semaphore.acquire(1, Some(Duration::ZERO)).await, Err(Errno::Canceled));
    assert_eq!(semaphore.acquire(1, Some(Duration::ZERO)).await, Err(Errno::TimedOut));
    assert_eq!(semaphore.try_acquire(1), Err(Errno::Canceled));
}

/// What killing a container is: its future is dropped at whatever it waits for, and everything that it has open.
#[tokio::test]
async fn a_run_that_is_killed_leaves_the_others_working() {
    let pod = Pod::new(&[]);
    let queue_name = QueueName::new();
    let (victim, other) = (pod.ipc.attach("victim"), pod.ipc.attach("other"));
    let attributes = Some(QueueAttributes { max_messages: 1, message_size: 16 });
    let queue = other.open_queue(&queue_name.0, Access::Both, Open::Create, attributes).unwrap();
    let semaphore = other.open_semaphore(&name("/s"), Open::Create, 1, true).unwrap();
    let segment = other.open_segment(&name("/m"), Access::Both, Open::Create, Some(4096)).await.unwrap();
    let receiver = other.open_receiver(&name("/c"), None).unwrap();
    let in_the_middle = {
        let queue_name = queue_name.0.clone();
        tokio::spawn(async move {
            let semaphore = victim.open_semaphore(&name("/s"), Open::Existing, 0, true).unwrap();
            semaphore.acquire(1, None).await.unwrap();
            let segment = victim.open_segment(&name("/m"), Access::Both, Open::Existing, None).await.unwrap();
            segment.fetch_add_u32(0, 1).unwrap();
            let _waits = segment.begin_wait(4, 0).unwrap();
            let sender = victim.open_sender(&name("/c"), None).unwrap();
            sender.send("whole".into(), None).await.unwrap();
            let queue = victim.open_queue(&queue_name, Access::Both, Open::Existing, None).unwrap();
            queue.send(b"whole", 0, None).await.unwrap();
            let _ = queue.send(b"never", 0, None).await;
        })
    };
    queue.readable().await;
    tokio::task::yield_now().await;
    in_the_middle.abort();
    assert!(in_the_middle.await.unwrap_err().is_cancelled());
    semaphore.acquire(1, LONG).await.unwrap();
    assert_eq!(segment.fetch_add_u32(0, 1), Ok(1));
    assert_eq!(segment.notify(4, 9), Ok(0), "it waits no more");
    assert_eq!(receiver.receive(LONG).await, Ok(Some("whole".into())));
    assert_eq!(receiver.receive(LONG).await, Ok(None), "its stream has ended");
    assert_eq!(queue.receive(LONG).await, Ok((b"whole".to_vec(), 0)));
    assert_eq!(queue.try_receive(), Err(Errno::Again), "half a send is none");
    queue.send(b"on", 0, LONG).await.unwrap();
    assert_eq!(pod.ipc.waits.load(Ordering::Relaxed), 0);
}
