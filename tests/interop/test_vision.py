"""That Vision does what it is for, with each real client: inner TLS 1.3 leaves the outer TLS, nothing else does.

The bodies are compared as everywhere; what is new here is what our server counts meanwhile.
"""

from __future__ import annotations

import contextlib
import ssl
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from harness import origins
from harness.bodies import sha256_of
from harness.case import GOOD_UUID, InteropCase
from harness.certificates import Certificate, make_certificate
from harness.clients import CLIENTS, Client, Outlet
from harness.http import ProxiedConnection
from harness.origins import Origin
from harness.servers import IS_OURS, Server, ServerSpec

MIB = 1 << 20
LARGE_SIZE = 100 * MIB
SMALL_SIZE = 32 << 10
PARALLEL = 100
REQUESTS_PER_CONNECTION = 50
FLOW = "xtls-rprx-vision"

# Of a large body, what must at least have gone through kernel pipes.
SPLICED_SHARE = 0.9

Counts = dict[str, int]


class Vision(InteropCase):
    """One server and one client, both with Vision, for all tests of a kind of client."""

    kind: str
    certificate: Certificate
    listener: Server
    proxy: Client

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.certificate = make_certificate(cls.folder, "localhost")
        cls.listener = cls.server(ServerSpec(GOOD_UUID, FLOW, cls.certificate))
        outlet = Outlet(cls.listener.port, GOOD_UUID, FLOW, cls.certificate.sha256_hex())
        cls.proxy = cls.client(cls.kind, outlet)

    def test_large_download_of_inner_tls_1_3_is_spliced(self) -> None:
        origin = self.https_origin(ssl.TLSVersion.TLSv1_3)
        with self.counted() as counts, self.direct_connection(origin) as connection:
            self.assertEqual(connection.get_sha256("get", LARGE_SIZE), sha256_of("get", LARGE_SIZE))
        self.assert_all_direct(counts, 1)
        self.assertGreater(counts["downlink_spliced_bytes"], LARGE_SIZE * SPLICED_SHARE)

    def test_large_upload_of_inner_tls_1_3_is_spliced(self) -> None:
        origin = self.https_origin(ssl.TLSVersion.TLSv1_3)
        with self.counted() as counts, self.direct_connection(origin) as connection:
            self.assertEqual(connection.put_sha256("put", LARGE_SIZE), sha256_of("put", LARGE_SIZE))
        self.assert_all_direct(counts, 1)
        self.assertGreater(counts["uplink_spliced_bytes"], LARGE_SIZE * SPLICED_SHARE)

    def test_each_download_leaves_tls_although_its_client_speaks_once(self) -> None:
        origin = self.https_origin(ssl.TLSVersion.TLSv1_3)
        with self.counted() as counts:
            for _ in range(10):
                self.get(origin, MIB, self.certificate)
        self.assertEqual((counts["vision_requests"], counts["downlinks_direct"]), (10, 10))
        self.assert_adds_up(counts)

    def test_inner_tls_1_2_stays_inside(self) -> None:
        origin = self.https_origin(ssl.TLSVersion.TLSv1_2)
        with self.counted() as counts:
            self.get(origin, MIB, self.certificate)
            self.put(origin, MIB, self.certificate)
        self.assert_none_direct(counts, 2)

    def test_plain_http_stays_inside(self) -> None:
        origin = self.origin(origins.http_manner)
        with self.counted() as counts:
            self.get(origin, MIB)
            self.put(origin, MIB)
        self.assert_none_direct(counts, 2)

    def test_all_of_a_hundred_parallel_connections_leave_tls(self) -> None:
        origin = self.https_origin(ssl.TLSVersion.TLSv1_3)

        def one(index: int) -> None:
            with self.direct_connection(origin) as connection:
                self.assertEqual(connection.put_sha256(f"p{index}", SMALL_SIZE), sha256_of(f"p{index}", SMALL_SIZE))

        with self.counted() as counts, ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(one, range(PARALLEL)))
        self.assert_all_direct(counts, PARALLEL)

    def test_a_connection_that_left_tls_carries_many_requests(self) -> None:
        origin = self.https_origin(ssl.TLSVersion.TLSv1_3)
        with self.counted() as counts, self.direct_connection(origin) as connection:
            stream = connection.sock
            for index in range(REQUESTS_PER_CONNECTION):
                # From one that is copied to one that is spliced.
                size = 1 + 4001 * index
                self.assertEqual(connection.get_sha256(f"k{index}", size), sha256_of(f"k{index}", size))
                self.assertEqual(connection.put_sha256(f"l{index}", size), sha256_of(f"l{index}", size))
            self.assertIs(connection.sock, stream)
        self.assert_all_direct(counts, 1)

    @contextlib.contextmanager
    def direct_connection(self, origin: Origin) -> Iterator[ProxiedConnection]:
        """A connection on which both directions have left TLS.

        When the uplink does is for the client to say. Xray does with a write that is nothing but whole records of
        application data; its first request may come together with the end of the handshake, but the second does not.
        """
        with contextlib.closing(self.connection(origin, self.certificate)) as connection:
            for index in range(2):
                self.assertEqual(connection.get_sha256(f"w{index}", 100), sha256_of(f"w{index}", 100))
            yield connection

    @contextlib.contextmanager
    def counted(self) -> Iterator[Counts]:
        """By how much each counter grew in the block, once the sessions of the block have ended."""
        before = self.listener.counters()
        grown: Counts = {}
        yield grown

        def all_ended() -> bool:
            now = self.listener.counters()
            grown.update({name: now[name] - before[name] for name, count in now.items() if isinstance(count, int)})
            return now["sessions_active"] == 0

        self.listener.child.wait_until(all_ended, "the sessions end", 10)

    def assert_all_direct(self, counts: Counts, sessions: int) -> None:
        """Each of so many sessions has left TLS in both directions."""
        self.assertEqual(counts["vision_requests"], sessions)
        self.assertEqual((counts["uplinks_direct"], counts["downlinks_direct"]), (sessions, sessions))
        self.assert_adds_up(counts)

    def assert_none_direct(self, counts: Counts, sessions: int) -> None:
        """None of so many sessions has left TLS in any direction."""
        self.assertEqual(counts["vision_requests"], sessions)
        self.assertEqual((counts["uplinks_direct"], counts["downlinks_direct"]), (0, 0))
        self.assertEqual((counts["uplink_unchanged_bytes"], counts["downlink_unchanged_bytes"]), (0, 0))
        self.assert_adds_up(counts)

    def assert_adds_up(self, counts: Counts) -> None:
        """Each byte that was spliced passed unchanged, each of those is payload, and there was padding."""
        for direction in ("uplink", "downlink"):
            self.assertLessEqual(counts[f"{direction}_spliced_bytes"], counts[f"{direction}_unchanged_bytes"])
            self.assertLess(counts[f"{direction}_unchanged_bytes"], counts[f"{direction}_bytes"])
            self.assertGreater(counts[f"{direction}_padding_bytes"], 0)

    def get(self, origin: Origin, size: int, trusted: Certificate | None = None) -> None:
        """Fetches a body on a connection of its own."""
        with contextlib.closing(self.connection(origin, trusted)) as connection:
            self.assertEqual(connection.get_sha256("get", size), sha256_of("get", size))

    def put(self, origin: Origin, size: int, trusted: Certificate | None = None) -> None:
        """Sends a body on a connection of its own."""
        with contextlib.closing(self.connection(origin, trusted)) as connection:
            self.assertEqual(connection.put_sha256("put", size), sha256_of("put", size))

    def connection(self, origin: Origin, trusted: Certificate | None = None) -> ProxiedConnection:
        """A connection to `origin` through the client of this class."""
        return ProxiedConnection(self.proxy.port, origin.host, origin.port, trusted)

    def https_origin(self, version: ssl.TLSVersion) -> Origin:
        """An HTTPS origin with the certificate of this class."""
        return self.origin(origins.https_manner(self.certificate, version))


for _kind in CLIENTS:
    _name = f"Vision{_kind.title().replace('-', '')}"
    globals()[_name] = unittest.skipUnless(IS_OURS, "reference servers count nothing")(
        type(_name, (Vision,), {"kind": _kind, "__module__": __name__})
    )
del Vision
