"""An echo server and a conversation with one, like the guest in C's."""

import contextlib
import selectors
import socket
import time

import tap

ATTEMPTS = 2000
PAUSE = 0.01
CHUNK = 65536


def serve(port: int) -> int:
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("0.0.0.0", port), backlog=128)
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", port))
    # wasi-libc calls a datagram socket readable that never received anything.
    datagrams.setblocking(False)
    selector.register(listener, selectors.EVENT_READ)
    selector.register(datagrams, selectors.EVENT_READ)
    print(f"listening on {port}", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    print("accept ended")
                    return 0
                selector.register(connection, selectors.EVENT_READ)
            elif key.fileobj is datagrams:
                with contextlib.suppress(BlockingIOError):
                    data, sender = datagrams.recvfrom(CHUNK)
                    datagrams.sendto(data, sender)
            elif not echo(key.fileobj):
                selector.unregister(key.fileobj)
                key.fileobj.close()


def echo(connection: socket.socket) -> bool:
    """Whether there is more to come."""
    try:
        data = connection.recv(CHUNK)
        connection.sendall(data)
    except OSError:
        return False
    return bool(data)


def talk(kind: str, host: str, port: int) -> int:
    address = socket.getaddrinfo(host, port, socket.AF_INET)[0][4]
    if kind == "tcp":
        talk_tcp(address)
    else:
        talk_udp(address)
    return tap.done()


def connect(address: tuple[str, int]) -> socket.socket:
    for _ in range(ATTEMPTS):
        try:
            return socket.create_connection(address)
        except ConnectionRefusedError:
            time.sleep(PAUSE)
    raise TimeoutError(f"nobody listens on {address}")


def receive_exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


def talk_tcp(address: tuple[str, int]) -> None:
    tap.topic("talk tcp")
    with connect(address) as connection:
        connection.sendall(b"hello")
        tap.ok(receive_exactly(connection, 5) == b"hello", "an echo")
        tap.ok(connection.getpeername() == address, "getpeername is the server's address")
        piece = bytes(range(256)) * 64
        intact = True
        for _ in range(64):
            connection.sendall(piece)
            intact = intact and receive_exactly(connection, len(piece)) == piece
        tap.ok(intact, "1 MiB comes back as it went")
        connection.shutdown(socket.SHUT_WR)
        tap.ok(connection.recv(1) == b"", "the end comes back too")


def talk_udp(address: tuple[str, int]) -> None:
    tap.topic("talk udp")
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.settimeout(PAUSE)
        for _ in range(ATTEMPTS):
            one.sendto(b"hello", address)
            try:
                data, sender = one.recvfrom(CHUNK)
                break
            except TimeoutError:
                pass
        tap.ok(data == b"hello" and sender == address, "an echo from the server's address")
        one.settimeout(0.05)
        try:
            while True:
                one.recv(CHUNK)
        except TimeoutError:
            one.settimeout(20)
        size = 0
        while size <= 32768:
            one.sendto(b"x" * size, address)
            tap.ok(one.recv(CHUNK) == b"x" * size, f"{size} bytes")
            size = size * 2 + 1
