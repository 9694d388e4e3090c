"""peapod:ipc from Python: does one thing, named by its first argument."""

import sys

from componentize_py_types import Err
from wit_world.imports import channel, message_queue, semaphore, shared_memory
from wit_world.imports.types import Access, Errno, OpenFlags

SECOND = 1_000_000_000


def talk() -> None:
    """Answers a Rust container by every kind."""
    queue = message_queue.Queue.open("/py-q", Access.READ_WRITE, OpenFlags.CREATE, None)
    queue.send(b"from python", 5, None)
    with semaphore.Semaphore.open("/py-s", OpenFlags.CREATE, 1, True) as lock:
        lock.acquire(1, None)
        memory = shared_memory.Segment.open("/py-m", Access.READ_WRITE, OpenFlags.CREATE, 4096)
        memory.write(8, b"python")
        memory.fetch_add_u32(0, 1)
        memory.notify(0, 0xFFFFFFFF)
        lock.release(1)
    receiver = channel.Receiver.open("/py-c", None)
    count = 0
    while receiver.receive(60 * SECOND) is not None:
        count += 1
    print(f"python received {count}")


def errors() -> None:
    try:
        message_queue.Queue.open("/none", Access.READ_ONLY, OpenFlags(0), None)
    except Err as error:
        assert error.value == Errno.ENOENT
        print("python: ENOENT")


def main() -> int:
    commands = {"talk": talk, "errors": errors}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        print("usage: talk | errors", file=sys.stderr)
        return 1
    commands[sys.argv[1]]()
    return 0
