"""A running server, a target behind it, and a VLESS client in a few lines."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import uuid
from pathlib import Path
from typing import Any

import monitor
import vless
from ports import free_port

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = str(Path(os.environ.get("VLESS_RUST", ROOT / "target/release/vless-rust")).resolve())
PATIENCE_S = 30

USERS = {"ann@example.com": "5783a3e7-e373-51cd-8642-c83782b807c5", "ben": "0b0b9d3c-4f0e-4b58-9a57-0d6b9f5c2a11"}
VIEW_TOKEN = "looks-0123456789abcdef"
ADMIN_TOKEN = "changes-0123456789abcdef"


def wait_until(what: str, condition: Any) -> Any:
    """The first true value of `condition()`."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain until {what}")


class Echo(socketserver.ThreadingTCPServer):
    """Sends back what it gets."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while data := self.request.recv(65536):
                    self.request.sendall(data)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]


class InnerTls(Echo):
    """Answers a ClientHello as a server with TLS 1.3 does, and then sends back what it gets."""

    class Handler(Echo.Handler):
        def handle(self) -> None:
            # A spare connection of the server's ends without a word.
            with contextlib.suppress(OSError, AssertionError):
                receive(self.request, len(vless.CLIENT_HELLO))
                self.request.sendall(vless.SERVER_FLIGHT)
                super().handle()


def open_session(server_port: int, user: str, target_port: int) -> socket.socket:
    """A connection through the server; the answer's header is read."""
    client = socket.create_connection(("127.0.0.1", server_port), timeout=PATIENCE_S)
    address = b"\x01" + socket.inet_aton("127.0.0.1")
    client.sendall(b"\x00" + uuid.UUID(USERS[user]).bytes + b"\x00\x01" + struct.pack(">H", target_port) + address)
    return client


def receive(client: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < count:
        chunk = client.recv(count - len(data))
        if not chunk:
            raise AssertionError(f"the stream ended after {len(data)} of {count} bytes")
        data += chunk
    return data


class UdpEcho:
    """Sends datagrams back."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = self.socket.recvfrom(65536)
                self.socket.sendto(data, sender)


class ServiceCase(unittest.TestCase):
    """One server for all tests of a class."""

    overrides: dict[str, Any] = {}
    tls: dict[str, Any] = {}
    flows: dict[str, str] = {}

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory(prefix="control-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.port, cls.monitor_port = free_port(), free_port()
        cls.echo = Echo()
        cls.addClassCleanup(cls.echo.server_close)
        cls.addClassCleanup(cls.echo.shutdown)
        config = {
            "server": {"listen": "127.0.0.1", "port": cls.port},
            "users": [{"uuid": id, "email": email, "flow": cls.flows.get(email, "")} for email, id in USERS.items()],
            "tls": cls.tls,
            "outbound": {"allow": ["127.0.0.0/8"]},
            # All clients have one address here.
            "limits": {"handshakes_per_source_max": 0},
            "monitoring": {
                "port": cls.monitor_port,
                "token": VIEW_TOKEN,
                "admin_token": ADMIN_TOKEN,
                "state_interval": 1,
            }
            | cls.overrides,
            "log": {"level": "debug", "file": "log", "access": True, "format": "json"},
        }
        (cls.folder / "config.json").write_text(json.dumps(config))
        os.chmod(cls.folder / "config.json", 0o600)
        cls.start()

    @classmethod
    def start(cls) -> None:
        cls.server = subprocess.Popen([PROGRAM, "run", "config.json"], cwd=cls.folder, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.server.wait)
        cls.addClassCleanup(cls.server.kill)
        wait_until("the server is ready", lambda: monitor.get(cls.url("/readyz"), None)[0] == 200)

    @classmethod
    def url(cls, path: str) -> str:
        return f"http://127.0.0.1:{cls.monitor_port}{path}"

    def api(self, path: str) -> Any:
        status, _, body = monitor.get(self.url(path), ADMIN_TOKEN)
        self.assertEqual(status, 200, body)
        return json.loads(body)
