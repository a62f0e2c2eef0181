"""Our server as a program: its first run, its link, its counters, its end. Reference servers have none of these."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
import ssl
import subprocess
import time
import unittest
from pathlib import Path

from harness import origins, socks
from harness.bodies import chunks, sha256_of
from harness.case import GOOD_UUID, InteropCase, noted
from harness.certificates import make_certificate
from harness.clients import CLIENTS, Client, Outlet
from harness.http import ProxiedConnection
from harness.links import Link, find_link
from harness.processes import Child, port_accepts
from harness.programs import Json, vless_rust_path
from harness.servers import IS_OURS, LOOPBACK, Server, ServerSpec

DEFAULT_PORT = 8443
FIRST_RUN_MAX_S = 1.0
SIZE = (1 << 20) + 1


@unittest.skipUnless(IS_OURS, "a reference server has no first run")
class FirstRun(InteropCase):
    """A stranger starts the binary in an empty folder without a terminal and uses the link that it prints."""

    home: Path
    first: Child
    seconds_to_tls: float
    peer_sha256: str
    link: Link
    first_status: int

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if port_accepts(DEFAULT_PORT):
            raise RuntimeError(f"port {DEFAULT_PORT}, where a first run serves, is taken on this machine")
        cls.home = cls.folder / "home"
        cls.home.mkdir()
        started = time.monotonic()
        cls.first = cls.keep(Child("first", [vless_rust_path()], cls.home))
        cls.first.wait_until(lambda: find_link(cls.first.stdout()) is not None, "a link is printed", 5)
        link = find_link(cls.first.stdout())
        assert link
        cls.link = link
        cls.first.wait_for_port(link.port, 5)
        cls.peer_sha256 = _peer_certificate_sha256(link)
        cls.seconds_to_tls = time.monotonic() - started
        cls.first_status = cls.first.stop()

    def test_tls_is_served_within_a_second(self) -> None:
        self.assertLess(self.seconds_to_tls, FIRST_RUN_MAX_S)

    def test_terminating_it_is_a_success(self) -> None:
        self.assertEqual(self.first_status, 0)

    def test_secrets_are_readable_by_the_owner_only(self) -> None:
        config = self.written_config()
        for path in (self.home / "config.json", self.home / "users.json", self.home / config["tls"]["key_file"]):
            with self.subTest(path.name):
                self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertTrue((self.home / config["tls"]["cert_file"]).exists())

    def test_link_names_the_user_the_port_and_the_certificate(self) -> None:
        config = self.written_config()
        users = json.loads((self.home / config["users_file"]).read_text())["users"]
        self.assertEqual(self.link.uuid, users[0]["uuid"])
        self.assertEqual(self.link.port, config["server"]["port"])
        self.assertEqual(self.link.parameters["pcs"], self.peer_sha256)
        expected = {"encryption": "none", "security": "tls", "type": "tcp", "headerType": "none"}
        self.assertEqual({key: self.link.parameters.get(key) for key in expected}, expected)

    def test_link_command_prints_the_same_link(self) -> None:
        told = subprocess.run(
            [vless_rust_path(), "link"],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
        )
        self.assertEqual(told.returncode, 0, told.stderr)
        self.assertEqual(find_link(told.stdout), self.link)

    def test_link_is_all_that_a_client_needs(self) -> None:
        config = self.written_config()
        config.setdefault("outbound", {})["allow"] = LOOPBACK
        (self.home / "config.json").write_text(json.dumps(config))
        again = self.keep(Child("again", [vless_rust_path(), "run", "config.json"], self.home))
        again.wait_for_port(self.link.port)
        target = self.origin(origins.http_manner)
        for kind in CLIENTS:
            with noted(kind):
                proxy = self.client(kind, _outlet_of_link(kind, self.link))
                with contextlib.closing(ProxiedConnection(proxy.port, target.host, target.port)) as connection:
                    self.assertEqual(connection.get_sha256("link", SIZE), sha256_of("link", SIZE))
        self.assertIsNone(find_link(again.stdout()), "a link is for a new configuration, not for every start")
        self.assertEqual(again.stop(), 0)

    def written_config(self) -> Json:
        """What the first run wrote."""
        return json.loads((self.home / "config.json").read_text())


@unittest.skipUnless(IS_OURS, "a reference server has other counters and another end")
class Service(InteropCase):
    """A server and an Xray client of its own for each test, because most of them end the server."""

    listener: Server
    proxy: Client
    echo: origins.Origin

    def setUp(self) -> None:
        certificate = make_certificate(self.folder, "localhost")
        self.listener = self.server(ServerSpec(GOOD_UUID, certificate=certificate))
        outlet = Outlet(self.listener.port, GOOD_UUID, pin=certificate.sha256_hex())
        self.proxy = self.client("xray", outlet)
        self.echo = self.origin(origins.echo_manner)
        self.addCleanup(self.drop, self.listener.child)
        self.addCleanup(self.drop, self.proxy.child)

    def test_counters_after_usr1_have_the_exact_payload_bytes(self) -> None:
        size = 1_234_567
        with self.dial() as stream:
            self.assert_echoes(stream, size)
        seen: Json = {}

        def both_directions_are_counted() -> bool:
            seen.update(self.listener.counters())
            return _integers(seen).count(size) >= 2

        self.listener.child.wait_until(both_directions_are_counted, f"two counters of {size} bytes", 5)

    def test_log_lines_do_not_tear_the_counters(self) -> None:
        # Each of these connections is worth a log line at debug.
        for _ in range(50):
            for _ in range(10):
                socket.create_connection(("127.0.0.1", self.listener.port)).close()
            self.listener.counters()
        lines = self.listener.child.stderr().splitlines()
        told = [json.loads(line) for line in lines if "uptime_seconds" in line]
        self.assertEqual(len(told), 50)
        self.assertGreaterEqual(sum("not_vless" in line or "client_left" in line for line in lines), 50)

    def test_terminating_it_lets_a_session_finish(self) -> None:
        with self.dial() as stream:
            self.assert_echoes(stream, 1000)
            self.listener.child.send_signal(signal.SIGTERM)
            self.listener.child.wait_until(lambda: not port_accepts(self.listener.port), "the listener closes", 5)
            self.assert_echoes(stream, SIZE)
        self.assertEqual(self.listener.child.wait(10), 0)
        self.assertTrue(self.listener.counter_lines(), "counters at the end")

    def test_second_signal_ends_it_at_once(self) -> None:
        with self.dial() as stream:
            self.assert_echoes(stream, 1000)
            self.listener.child.send_signal(signal.SIGTERM)
            self.listener.child.wait_until(lambda: not port_accepts(self.listener.port), "the listener closes", 5)
            self.listener.child.send_signal(signal.SIGTERM)
            self.listener.child.wait(2)
        last = json.loads(self.listener.counter_lines()[-1])
        self.assertEqual(last["closes"]["shutdown"], 1)
        self.assertEqual((last["sessions_active"], last["buffers_held"]), (0, 0))

    def dial(self) -> socket.socket:
        """A stream to the echoing origin."""
        return socks.dial(self.proxy.port, self.echo.host, self.echo.port)

    def assert_echoes(self, stream: socket.socket, size: int) -> None:
        """`size` bytes come back as they went, in lockstep so that nothing but this is under way."""
        for chunk in chunks("service", size):
            stream.sendall(chunk)
            self.assertEqual(socks.receive_exactly(stream, len(chunk)), chunk)


def _peer_certificate_sha256(link: Link) -> str:
    """SHA-256 of the certificate that the server of `link` shows, asked for on loopback."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = link.parameters.get("sni", link.host)
    stream = socket.create_connection(("127.0.0.1", link.port), timeout=5)
    with context.wrap_socket(stream, server_hostname=name) as secure:
        return hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()


def _outlet_of_link(kind: str, link: Link) -> Outlet:
    """What an importing client makes of `link`; only the host is ours, because nothing may leave this machine."""
    tls: Json = {}
    if alpn := link.parameters.get("alpn"):
        tls["alpn"] = alpn.split(",")
    flow = link.parameters.get("flow", "")
    if kind == "xray":
        tls["fingerprint"] = link.parameters.get("fp", "chrome")
    else:
        flow = flow.removesuffix("-udp443")
    return Outlet(link.port, link.uuid, flow, link.parameters["pcs"], link.parameters.get("sni", link.host), tls)


def _integers(value: object) -> list[int]:
    """Every integer anywhere in a decoded JSON value."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in _integers(part)]
    if isinstance(value, list):
        return [number for part in value for number in _integers(part)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []
