"""HTTP and HTTPS requests through a SOCKS5 proxy, hashed as they stream."""

from __future__ import annotations

import hashlib
import http.client
import ssl

from . import socks
from .bodies import chunks
from .certificates import Certificate


class ProxiedConnection(http.client.HTTPConnection):
    """An HTTP/1.1 connection to `host`:`port` through the proxy at `proxy_port`, with TLS if `trusted` is given."""

    # http.client reads a streamed request body in blocks of this size.
    blocksize = 1 << 16

    def __init__(self, proxy_port: int, host: str, port: int, trusted: Certificate | None = None) -> None:
        super().__init__(host, port)
        self._proxy_port = proxy_port
        self._trusted = trusted

    def connect(self) -> None:
        stream = socks.dial(self._proxy_port, self.host, self.port)
        if self._trusted:
            context = ssl.create_default_context(cafile=str(self._trusted.cert_path))
            stream = context.wrap_socket(stream, server_hostname=self.host)
        self.sock = stream

    def get_sha256(self, seed: str, size: int) -> str:
        """Fetches the body of `seed` and `size`; the SHA-256 of what arrived."""
        self.request("GET", f"/{seed}/{size}")
        response = self._response()
        total = hashlib.sha256()
        received = 0
        while part := response.read(1 << 18):
            total.update(part)
            received += len(part)
        if received != size:
            raise ConnectionError(f"{received} of {size} bytes arrived")
        return total.hexdigest()

    def put_sha256(self, seed: str, size: int) -> str:
        """Sends the body of `seed` and `size`; the SHA-256 of what the origin received, as the origin says."""
        self.request("PUT", "/", body=chunks(seed, size), headers={"Content-Length": str(size)})
        return self._response().read().decode()

    def _response(self) -> http.client.HTTPResponse:
        response = self.getresponse()
        if response.status != 200:
            raise ConnectionError(f"status {response.status}")
        return response
