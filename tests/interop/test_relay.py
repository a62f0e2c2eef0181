"""What a user does through the proxy, for each client, outer layer and flow.

Half-close is not here: Xray and sing-box clients never pass it on, so only the loopback suite can show it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness import origins, socks
from harness.bodies import chunks, sha256_of
from harness.case import GOOD_UUID, WRONG_UUID, InteropCase, noted
from harness.certificates import Certificate, make_certificate
from harness.clients import Client, Outlet
from harness.http import ProxiedConnection
from harness.matrix import Combination, spread
from harness.origins import Origin
from harness.servers import IS_OURS, ServerSpec

KIB = 1 << 10
MIB = 1 << 20
SMALL_SIZES = (1, KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB)
LARGE_SIZE = 100 * MIB
PARALLEL = 200
REQUESTS_PER_CONNECTION = 100
# How long a client may take to notice that its target is not to be had. Our server dials once; Xray as a server
# tries several times before it gives up.
PROMPT_S = 3 if IS_OURS else 10


class Relay(InteropCase):
    """One server and one client for all tests of a combination."""

    way: Combination
    certificate: Certificate
    outlet: Outlet
    proxy: Client

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.certificate = make_certificate(cls.folder, "localhost")
        over_tls = cls.way.outer == "tls"
        spec = ServerSpec(GOOD_UUID, cls.way.flow, cls.certificate if over_tls else None)
        pin = cls.certificate.sha256_hex() if over_tls else None
        cls.outlet = Outlet(cls.server(spec).port, GOOD_UUID, cls.way.flow, pin)
        cls.proxy = cls.client(cls.way.client, cls.outlet)

    def test_http_bodies_of_every_size_arrive_unchanged(self) -> None:
        self.exchange(self.origin(origins.http_manner), SMALL_SIZES)

    def test_https_bodies_of_every_size_arrive_unchanged(self) -> None:
        self.exchange(self.https_origin(ssl.TLSVersion.TLSv1_3), SMALL_SIZES, self.certificate)

    def test_https_bodies_of_a_tls_1_2_origin_arrive_unchanged(self) -> None:
        self.exchange(self.https_origin(ssl.TLSVersion.TLSv1_2), SMALL_SIZES, self.certificate)

    def test_http_body_of_100_mib_arrives_unchanged(self) -> None:
        self.exchange(self.origin(origins.http_manner), [LARGE_SIZE])

    def test_https_body_of_100_mib_arrives_unchanged(self) -> None:
        self.exchange(self.https_origin(ssl.TLSVersion.TLSv1_3), [LARGE_SIZE], self.certificate)

    def test_two_hundred_connections_are_open_at_once(self) -> None:
        origin = self.origin(origins.echo_manner)
        all_open = threading.Barrier(PARALLEL, timeout=60)

        def one(index: int) -> bool:
            with socks.dial(self.proxy.port, origin.host, origin.port, timeout_s=60) as stream:
                for round_number, size in enumerate((100, 16 * KIB)):
                    sent = b"".join(chunks(f"{index}/{round_number}", size))
                    stream.sendall(sent)
                    if socks.receive_exactly(stream, size) != sent:
                        return False
                    all_open.wait()
            return True

        with ThreadPoolExecutor(PARALLEL) as pool:
            self.assertTrue(all(pool.map(one, range(PARALLEL))))
        self.assertGreaterEqual(origin.accepted, PARALLEL)

    def test_two_hundred_https_fetches_at_once(self) -> None:
        origin = self.https_origin(ssl.TLSVersion.TLSv1_3)

        def one(index: int) -> bool:
            with contextlib.closing(self.connection(origin, self.certificate)) as connection:
                return connection.get_sha256(f"p{index}", 32 * KIB) == sha256_of(f"p{index}", 32 * KIB)

        with ThreadPoolExecutor(PARALLEL) as pool:
            self.assertTrue(all(pool.map(one, range(PARALLEL))))

    def test_one_connection_carries_many_requests(self) -> None:
        origin = self.origin(origins.http_manner)
        with contextlib.closing(self.connection(origin)) as connection:
            connection.connect()
            stream = connection.sock
            for index in range(REQUESTS_PER_CONNECTION):
                size = 1 + 97 * index
                self.assertEqual(connection.get_sha256(f"k{index}", size), sha256_of(f"k{index}", size))
                self.assertEqual(connection.put_sha256(f"l{index}", size), sha256_of(f"l{index}", size))
            self.assertIs(connection.sock, stream)

    def test_origin_may_speak_first(self) -> None:
        origin = self.origin(origins.greeting_manner)
        with socks.dial(self.proxy.port, origin.host, origin.port) as stream:
            self.assertEqual(socks.receive_exactly(stream, len(origins.GREETING)), origins.GREETING)
            stream.sendall(b"EHLO\r\n")
            self.assertEqual(socks.receive_exactly(stream, 6), b"EHLO\r\n")

    def test_8_mib_in_random_pieces_are_echoed_unchanged(self) -> None:
        origin = self.origin(origins.echo_manner)
        seed = f"echo {self.way.title()}"
        size = 8 * MIB
        with socks.dial(self.proxy.port, origin.host, origin.port) as stream:
            sender = threading.Thread(target=_send_in_random_pieces, args=(stream, seed, size), daemon=True)
            sender.start()
            received = hashlib.sha256()
            left = size
            while left:
                part = stream.recv(min(left, 1 << 17))
                self.assertTrue(part, f"stream ended {left} bytes early")
                received.update(part)
                left -= len(part)
            sender.join(socks.TIMEOUT_S)
        self.assertEqual(received.hexdigest(), sha256_of(seed, size))

    def test_ipv6_target_is_reached(self) -> None:
        self.exchange(self.origin(origins.http_manner, "::1"), [KIB])

    def test_domain_target_is_reached(self) -> None:
        origin = self.origin(origins.http_manner)
        with contextlib.closing(ProxiedConnection(self.proxy.port, "localhost", origin.port)) as connection:
            self.assertEqual(connection.get_sha256("name", KIB), sha256_of("name", KIB))

    def test_refused_target_ends_the_connection_promptly(self) -> None:
        with socket.socket() as bound_but_not_listening:
            bound_but_not_listening.bind(("127.0.0.1", 0))
            self.assert_ends_promptly(self.proxy, *bound_but_not_listening.getsockname())

    def test_reset_by_the_target_ends_the_connection_promptly(self) -> None:
        origin = self.origin(origins.resetting_manner)
        self.assert_ends_promptly(self.proxy, origin.host, origin.port)
        self.assertGreaterEqual(origin.accepted, 1)

    def test_wrong_uuid_reaches_nothing_and_harms_nobody(self) -> None:
        origin = self.origin(origins.echo_manner)
        stranger = self.client(self.way.client, Outlet(self.outlet.port, WRONG_UUID, self.way.flow, self.outlet.pin))
        self.assert_ends_promptly(stranger, origin.host, origin.port)
        self.assertEqual(origin.accepted, 0)
        with socks.dial(self.proxy.port, origin.host, origin.port) as stream:
            stream.sendall(b"still here")
            self.assertEqual(socks.receive_exactly(stream, 10), b"still here")

    def exchange(self, origin: Origin, sizes: list[int] | tuple[int, ...], trusted: Certificate | None = None) -> None:
        """GETs and PUTs a body of each size on a connection of its own, up to the first that fails."""
        for size in sizes:
            with noted(f"GET of {size} bytes"), contextlib.closing(self.connection(origin, trusted)) as connection:
                self.assertEqual(connection.get_sha256("get", size), sha256_of("get", size))
            with noted(f"PUT of {size} bytes"), contextlib.closing(self.connection(origin, trusted)) as connection:
                self.assertEqual(connection.put_sha256("put", size), sha256_of("put", size))

    def connection(self, origin: Origin, trusted: Certificate | None = None) -> ProxiedConnection:
        """A connection to `origin` through the client of this class."""
        return ProxiedConnection(self.proxy.port, origin.host, origin.port, trusted)

    def https_origin(self, version: ssl.TLSVersion) -> Origin:
        """An HTTPS origin with the certificate of this class."""
        return self.origin(origins.https_manner(self.certificate, version))

    def assert_ends_promptly(self, proxy: Client, host: str, port: int) -> None:
        """A request to `host`:`port` gets no byte back, and the stream ends instead of hanging."""
        started = time.monotonic()
        answer = b""
        ended = contextlib.suppress(ConnectionError, socks.SocksRefused)
        with ended, socks.dial(proxy.port, host, port, timeout_s=PROMPT_S) as stream:
            stream.sendall(b"anybody there?")
            answer = stream.recv(1)
        self.assertEqual(answer, b"")
        self.assertLess(time.monotonic() - started, PROMPT_S)


def _send_in_random_pieces(stream: socket.socket, seed: str, size: int) -> None:
    """Sends the body of `seed` in writes of 1 byte to 64 KiB; an error shows at the receiving side."""
    dice = random.Random(seed)
    with contextlib.suppress(OSError):
        for chunk in chunks(seed, size):
            while chunk:
                # Small pieces as likely as large ones, so that every record size occurs.
                length = dice.randint(1, 1 << dice.randint(0, 16))
                stream.sendall(chunk[:length])
                chunk = chunk[length:]


globals().update(spread(Relay))
del Relay
