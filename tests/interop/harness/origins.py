"""Local servers that the proxied connections end at: HTTP, HTTPS and a few TCP manners. Loopback only."""

from __future__ import annotations

import hashlib
import http.server
import socket
import socketserver
import ssl
import struct
import threading
import urllib.parse
from collections.abc import Callable

from .bodies import chunks
from .certificates import Certificate

TIMEOUT_S = 60.0
BACKLOG = 512
GREETING = b"220 origin ready\r\n"

Manner = Callable[[socket.socket], None]


class Origin:
    """A threaded server on a port of its own choice; counts the connections it accepted."""

    def __init__(self, manner: Manner, host: str = "127.0.0.1") -> None:
        self._server = _Server(manner, host)
        self.host = host
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def accepted(self) -> int:
        """Connections accepted so far."""
        return self._server.accepted

    def stop(self) -> None:
        """Stops accepting; connections under way end with their threads."""
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    """One daemon thread per connection; a connection's error ends that connection silently."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = BACKLOG

    def __init__(self, manner: Manner, host: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.manner = manner
        self.accepted = 0
        super().__init__((host, 0), _Connection)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accepts; only the accepting thread counts."""
        accepted = super().get_request()
        self.accepted += 1
        return accepted

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is normal here; what matters is what the client side saw."""


class _Connection(socketserver.BaseRequestHandler):
    server: _Server

    def setup(self) -> None:
        self.request.settimeout(TIMEOUT_S)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self) -> None:
        self.server.manner(self.request)


def http_manner(stream: socket.socket) -> None:
    """HTTP/1.1 with keep-alive: GET /SEED/SIZE answers that body, PUT answers the SHA-256 of what it got."""
    # The handler never uses its server, and there is no HTTPServer here.
    _Http(stream, stream.getpeername(), None)  # type: ignore[arg-type]


def https_manner(certificate: Certificate, version: ssl.TLSVersion) -> Manner:
    """The same behind TLS of exactly this version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificate.cert_path, certificate.key_path)

    def manner(stream: socket.socket) -> None:
        # The handshake belongs in the connection's own thread, not in the accepting one.
        with context.wrap_socket(stream, server_side=True) as secure:
            http_manner(secure)

    return manner


def echo_manner(stream: socket.socket) -> None:
    """Sends back what it receives until the end of the stream."""
    while data := stream.recv(1 << 16):
        stream.sendall(data)


def greeting_manner(stream: socket.socket) -> None:
    """Speaks first, as SMTP and SSH servers do, then echoes."""
    stream.sendall(GREETING)
    echo_manner(stream)


def resetting_manner(stream: socket.socket) -> None:
    """Waits for the first bytes, then answers with a RST."""
    stream.recv(1 << 16)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


class _Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without a buffer each header line would be a segment of its own.
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        seed, size = urllib.parse.unquote(self.path).strip("/").rsplit("/", 1)
        self._answer_head(int(size))
        for chunk in chunks(seed, int(size)):
            self.wfile.write(chunk)

    def do_PUT(self) -> None:
        total = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            part = self.rfile.read(min(left, 1 << 18))
            if not part:
                raise ConnectionError("request body ended early")
            total.update(part)
            left -= len(part)
        digest = total.hexdigest().encode()
        self._answer_head(len(digest))
        self.wfile.write(digest)

    def _answer_head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """No access log."""
