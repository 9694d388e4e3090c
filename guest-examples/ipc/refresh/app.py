"""Writes a page anew every so often: `refresh FILE SECONDS`. Another container serves it; they share a semaphore."""

import sys
import time

from componentize_py_types import Err
from wit_world.imports import message_queue, semaphore, shared_memory
from wit_world.imports.types import Access, Errno, OpenFlags

INFO = 1
WRITTEN = 8
PAGE = """<!doctype html>
<title>peapod:ipc</title>
<p>Version {written}. Those before it were served {served} times.</p>
"""


def main() -> int:
    if len(sys.argv) < 3:
        print("usage: refresh FILE SECONDS", file=sys.stderr)
        return 1
    file, seconds = sys.argv[1], float(sys.argv[2])
    attributes = message_queue.Attributes(max_messages=64, message_size=256)
    log = message_queue.Queue.open("/log", Access.WRITE_ONLY, OpenFlags.CREATE, attributes)
    counters = shared_memory.Segment.open("/counters", Access.READ_WRITE, OpenFlags.CREATE, 16)
    page = semaphore.Semaphore.open("/page", OpenFlags.CREATE, 1, True)
    # Never released by anybody: acquiring it takes as long as its timeout, or until the pod stops. A wait with a timeout
    # that begins after that takes its time; an attempt says at once that the pod stops.
    pause = semaphore.Semaphore.open("/pause", OpenFlags.CREATE, 0, False)
    print(f"writing {file} every {seconds} s")
    while not is_stopping(pause):
        written = counters.fetch_add_u64(WRITTEN, 1) + 1
        try:
            page.acquire(1, None)
            try:
                with open(file, "w") as out:
                    out.write(PAGE.format(written=written, served=counters.load_u64(0)))
            finally:
                page.release(1)
            log.send(f"written {written}".encode(), INFO, None)
            pause.acquire(1, int(seconds * 1e9))
        except Err as error:
            if error.value == Errno.ECANCELED:
                return 0
            if error.value != Errno.ETIMEDOUT:
                raise
    return 0


def is_stopping(never: semaphore.Semaphore) -> bool:
    try:
        never.try_acquire(1)
    except Err as error:
        return error.value == Errno.ECANCELED
    return False
