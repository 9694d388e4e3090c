"""The standard library's socket module against itself: what it does on Linux."""

import contextlib
import errno
import select
import socket

import tap

FAMILIES = {4: (socket.AF_INET, "127.0.0.1", "0.0.0.0"), 6: (socket.AF_INET6, "::1", "::")}
PATIENCE = 20


def run() -> int:
    for version, (family, loopback, wildcard) in FAMILIES.items():
        print(f"# IPv{version}")
        bind(family, loopback, wildcard)
        connect(family, loopback)
        streams(family, loopback)
        back_pressure(family, loopback)
        timeouts(family, loopback)
        udp(family, loopback)
    names()
    return tap.done()


def listening(family: int, loopback: str) -> socket.socket:
    """socket.create_server without the options that wasi-libc does not have (IPV6_V6ONLY)."""
    listener = socket.socket(family)
    listener.bind((loopback, 0))
    listener.listen()
    return listener


@contextlib.contextmanager
def pair(family: int, loopback: str):
    with listening(family, loopback) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
    with client, server:
        yield client, server


def bind(family: int, loopback: str, wildcard: str) -> None:
    tap.topic("bind")
    with listening(family, loopback) as first:
        port = first.getsockname()[1]
        tap.ok(port != 0, "port 0 chooses one")
        for host in (loopback, wildcard):
            with socket.socket(family) as second:
                tap.fails(errno.EADDRINUSE, f"{host} is in use", lambda: second.bind((host, port)))
    with socket.socket(family) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((loopback, port))
        again.listen()
        tap.ok(again.getsockname()[1] == port, "free when the listener is closed")
    with socket.socket(family) as elsewhere:
        foreign = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
        tap.fails(errno.EADDRNOTAVAIL, "a foreign address", lambda: elsewhere.bind((foreign, 0)))


def connect(family: int, loopback: str) -> None:
    tap.topic("connect")
    with listening(family, loopback) as listener:
        at = listener.getsockname()
        with socket.create_connection(at[:2]) as client:
            server, sender = listener.accept()
            with server:
                tap.ok(client.getsockname() == sender, "accept gives the client's address")
                tap.ok(client.getpeername() == at == server.getsockname(), "both know the server's")
    with socket.socket(family) as client:
        tap.fails(ConnectionRefusedError, "nobody listens", lambda: client.connect(at))


def streams(family: int, loopback: str) -> None:
    tap.topic("streams")
    with pair(family, loopback) as (client, server):
        client.sendall(b"one\ntwo\n")
        client.shutdown(socket.SHUT_WR)
        with server.makefile("rb") as reader:
            tap.ok(reader.readlines() == [b"one\n", b"two\n"], "makefile reads lines to the end")
        tap.fails(BrokenPipeError, "send after shutdown", lambda: client.send(b"x"))
        server.sendall(b"answer")
        tap.ok(client.recv(100) == b"answer", "the other direction is open")
        server.close()
        tap.ok(client.recv(1) == b"", "the end")
    with pair(family, loopback) as (client, server):
        buffer = bytearray(8)
        client.sendall(b"abcd")
        tap.ok(server.recv_into(buffer, 8) == 4 and buffer[:4] == b"abcd", "recv_into")
        tap.ok(client.sendall(b"") is None, "an empty sendall")
        server.close()

        def until_it_fails() -> None:
            for _ in range(1000):
                client.send(b"x")

        tap.fails(ConnectionError, "send to who is gone", until_it_fails)


def back_pressure(family: int, loopback: str) -> None:
    tap.topic("back-pressure")
    block, limit = bytes(65536), 64 << 20
    with pair(family, loopback) as (client, server):
        client.setblocking(False)
        sent = 0
        try:
            while sent < limit:
                sent += client.send(block)
            tap.ok(False, "the buffers are without end")
        except BlockingIOError:
            tap.ok(sent > 0, "a full buffer is BlockingIOError")
        tap.ok(select.select([], [client], [], 0)[1] == [], "and not writable")
        client.shutdown(socket.SHUT_WR)
        received = 0
        while data := server.recv(65536):
            received += len(data)
        tap.ok(received == sent, "all arrives")


def timeouts(family: int, loopback: str) -> None:
    tap.topic("time-outs")
    with listening(family, loopback) as listener:
        listener.settimeout(0.01)
        tap.fails(TimeoutError, "accept", listener.accept)
        listener.setblocking(False)
        tap.fails(BlockingIOError, "accept without waiting", listener.accept)
    with pair(family, loopback) as (client, server):
        client.settimeout(0.01)
        tap.fails(TimeoutError, "recv", lambda: client.recv(1))
        server.sendall(b"x")
        client.settimeout(PATIENCE)
        tap.ok(client.recv(1) == b"x", "recv in time")
        tap.ok(select.select([client], [], [], 0)[0] == [], "select: nothing there")
        server.sendall(b"y")
        tap.ok(select.select([client], [], [], PATIENCE)[0] == [client], "select: something there")


def udp(family: int, loopback: str) -> None:
    tap.topic("udp")
    with socket.socket(family, socket.SOCK_DGRAM) as one, socket.socket(family, socket.SOCK_DGRAM) as two:
        one.bind((loopback, 0))
        at = one.getsockname()
        for data in (b"first", b"", b"x" * 60000):
            tap.ok(two.sendto(data, at) == len(data), f"{len(data)} bytes sent")
            got, sender = one.recvfrom(65536)
            tap.ok(got == data and sender[1] == two.getsockname()[1], "and received, with the sender's port")
        one.sendto(b"back", sender)
        tap.ok(two.recv(10) == b"back", "and back")
        too_much = b"x" * 65536
        tap.fails(errno.EMSGSIZE, "too large", lambda: two.sendto(too_much, at))
        one.settimeout(0.01)
        tap.fails(TimeoutError, "recv in time", lambda: one.recv(1))


def names() -> None:
    tap.topic("names")
    hosts = {entry[4][0] for entry in socket.getaddrinfo("localhost", 80)}
    tap.ok(hosts == {"127.0.0.1", "::1"}, "localhost is both loopback addresses")
    tap.fails(socket.gaierror, "no such host", lambda: socket.getaddrinfo("no-such-host.invalid", 80))
    with listening(socket.AF_INET, "127.0.0.1") as listener:
        with socket.create_connection(("localhost", listener.getsockname()[1])) as client:
            tap.ok(client.getpeername()[0] == "127.0.0.1", "connect by name")
