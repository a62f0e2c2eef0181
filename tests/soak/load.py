"""What the clients do: requests, uploads, conversations, datagrams, breaks, and strangers at the door."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from harness import socks
from harness.bodies import chunks, sha256_of
from harness.http import ProxiedConnection
from namespaces import FAR

# The wire breaks connections; what arrives on those that hold must be right all the same.
BROKEN = (ConnectionError, TimeoutError, socks.SocksRefused, ssl.SSLError, OSError)
TIMEOUT_S = 30.0


class WrongBytes(AssertionError):
    """Something arrived that nobody sent."""


@dataclass(frozen=True)
class Targets:
    """Ports of the targets, on the far end's loopback."""

    http: int
    echo: int
    datagrams: int


class Load:
    """Threads that do one thing after the other until `stop`."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s
        self.done: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.bytes = 0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def add(self, name: str, seed: int, acts: list[Callable[[random.Random], int]]) -> None:
        """One more thread that picks from `acts`; each returns the payload bytes that it moved."""
        thread = threading.Thread(target=self._run, args=(name, random.Random(seed), acts), daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Waits for what is under way."""
        self._over.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S * 2)

    def _run(self, name: str, dice: random.Random, acts: list[Callable[[random.Random], int]]) -> None:
        while not self._over.wait(dice.expovariate(1 / self.pause_s)):
            act = dice.choice(acts)
            what = f"{name} {act.__name__}"
            try:
                moved = act(dice)
            except WrongBytes as error:
                self.wrong.append(f"{what}: {error}")
            except BROKEN:
                with self._lock:
                    self.broken[what] += 1
            else:
                with self._lock:
                    self.done[what] += 1
                    self.bytes += moved


def acts_of_user(proxy_port: int, targets: Targets) -> list[Callable[[random.Random], int]]:
    """What a user does through a client's SOCKS5 port."""

    def download(dice: random.Random) -> int:
        size = dice.choice([1000, 60_000, 400_000])
        with contextlib.closing(ProxiedConnection(proxy_port, "127.0.0.1", targets.http)) as connection:
            if connection.get_sha256("soak", size) != sha256_of("soak", size):
                raise WrongBytes(f"a download of {size} bytes")
        return size

    def upload(dice: random.Random) -> int:
        size = dice.choice([1000, 60_000, 300_000])
        with contextlib.closing(ProxiedConnection(proxy_port, "127.0.0.1", targets.http)) as connection:
            connection.connect()
            digest = connection.put_sha256("up", size)
            if digest != sha256_of("up", size):
                raise WrongBytes(f"an upload of {size} bytes")
        return size

    def talk(dice: random.Random) -> int:
        moved = 0
        with socks.dial(proxy_port, "127.0.0.1", targets.echo, TIMEOUT_S) as stream:
            for number in range(dice.randint(1, 6)):
                said = b"".join(chunks(f"talk {number}", dice.randint(1, 5000)))
                stream.sendall(said)
                if socks.receive_exactly(stream, len(said)) != said:
                    raise WrongBytes("an echo")
                moved += 2 * len(said)
                time.sleep(dice.random() / 2)
        return moved

    def leave(dice: random.Random) -> int:
        """Breaks off in the middle of a download."""
        with socks.dial(proxy_port, "127.0.0.1", targets.http, TIMEOUT_S) as stream:
            stream.sendall(b"GET /soak/3000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            socks.receive_exactly(stream, dice.randint(1, 100_000))
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return 0

    def datagrams(dice: random.Random) -> int:
        moved = 0
        with contextlib.closing(socks.UdpAssociation(proxy_port, 3.0)) as association:
            all_said = set()
            for _ in range(dice.randint(1, 10)):
                said = os.urandom(dice.randint(1, 1200))
                all_said.add(said)
                association.send("127.0.0.1", targets.datagrams, said)
                # The wire may lose it, or be so late that the next one is said before.
                with contextlib.suppress(TimeoutError):
                    if (heard := association.receive()[2]) not in all_said:
                        raise WrongBytes("a datagram")
                    moved += 2 * len(heard)
        return moved

    return [download, upload, talk, leave, datagrams]


def acts_of_stranger(tls_port: int, plain_port: int, page: str) -> list[Callable[[random.Random], int]]:
    """What strangers do: they look at the site behind the TLS port, and say nothing or garbage."""

    def visit(_dice: random.Random) -> int:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        with socket.create_connection((FAR, tls_port), TIMEOUT_S) as tcp:
            # A reset by the wire must not be taken for the end of an answer, which is what this class does by default.
            with context.wrap_socket(tcp, server_hostname="localhost", suppress_ragged_eofs=False) as stream:
                stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while part := stream.recv(1 << 16):
                    answer += part
        body = answer.partition(b"\r\n\r\n")[2]
        if hashlib.sha256(body).hexdigest() != page:
            raise WrongBytes(f"the site: {answer[:60]!r}")
        return len(body)

    def garbage(dice: random.Random) -> int:
        with socket.create_connection((FAR, dice.choice([tls_port, plain_port])), TIMEOUT_S) as tcp:
            with contextlib.suppress(ConnectionError):
                tcp.sendall(dice.randbytes(dice.randint(1, 300)))
                while tcp.recv(1 << 12):
                    pass
        return 0

    def silence(dice: random.Random) -> int:
        with socket.create_connection((FAR, dice.choice([tls_port, plain_port])), TIMEOUT_S):
            time.sleep(dice.random() * 10)
        return 0

    return [visit, garbage, silence]
