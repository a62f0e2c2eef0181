"""The SOCKS5 half that the tests speak themselves (RFC 1928, no authentication, CONNECT only)."""

from __future__ import annotations

import ipaddress
import socket
import struct

TIMEOUT_S = 20.0


class SocksRefused(OSError):
    """The proxy answered the CONNECT with a reply other than success."""


def dial(proxy_port: int, host: str, port: int, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """A socket that carries bytes to `host`:`port` through the proxy at 127.0.0.1:`proxy_port`.

    `timeout_s` stays on the socket as the limit of each later call. A reply of success says little: Xray answers at
    once and sing-box after its TLS handshake with the server. VLESS has no reply, so a target that cannot be had
    shows as an early end of the stream.
    """
    stream = socket.create_connection(("127.0.0.1", proxy_port), timeout=timeout_s)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(b"\x05\x01\x00")
        if receive_exactly(stream, 2) != b"\x05\x00":
            raise SocksRefused("proxy wants authentication")
        stream.sendall(b"\x05\x01\x00" + _address(host) + struct.pack("!H", port))
        _version, reply, _reserved, kind = receive_exactly(stream, 4)
        length = {1: 4, 4: 16}.get(kind) or receive_exactly(stream, 1)[0]
        receive_exactly(stream, length + 2)
        if reply != 0:
            raise SocksRefused(f"CONNECT answered with {reply}")
    except BaseException:
        stream.close()
        raise
    return stream


def receive_exactly(stream: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes; raises `ConnectionError` if the stream ends before."""
    parts = bytearray()
    while len(parts) < count:
        part = stream.recv(min(count - len(parts), 1 << 16))
        if not part:
            raise ConnectionError(f"stream ended after {len(parts)} of {count} bytes")
        parts += part
    return bytes(parts)


def _address(host: str) -> bytes:
    """Address type and address: IPv4, IPv6, or a name that the far end is to resolve."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return bytes([3, len(name)]) + name
    return bytes([1 if address.version == 4 else 4]) + address.packed


class UdpAssociation:
    """A UDP socket whose datagrams the proxy relays (UDP ASSOCIATE); it lives as long as its TCP connection."""

    def __init__(self, proxy_port: int, timeout_s: float = TIMEOUT_S) -> None:
        self._control = socket.create_connection(("127.0.0.1", proxy_port), timeout=timeout_s)
        self._control.sendall(b"\x05\x01\x00")
        if receive_exactly(self._control, 2) != b"\x05\x00":
            raise SocksRefused("proxy wants authentication")
        self._control.sendall(b"\x05\x03\x00" + _address("0.0.0.0") + b"\0\0")
        _version, reply, _reserved, kind = receive_exactly(self._control, 4)
        length = {1: 4, 4: 16}.get(kind) or receive_exactly(self._control, 1)[0]
        bound = receive_exactly(self._control, length + 2)
        if reply != 0:
            raise SocksRefused(f"UDP ASSOCIATE answered with {reply}")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.connect(("127.0.0.1", struct.unpack("!H", bound[-2:])[0]))
        self.socket.settimeout(timeout_s)

    def send(self, host: str, port: int, payload: bytes) -> None:
        """Sends one datagram to `host`:`port`."""
        self.socket.send(b"\0\0\0" + _address(host) + struct.pack("!H", port) + payload)

    def receive(self) -> tuple[str, int, bytes]:
        """The next datagram with the host and port it is from."""
        datagram = self.socket.recv(1 << 16)
        kind = datagram[3]
        if kind == 3:
            end = 5 + datagram[4]
            host = datagram[5:end].decode("ascii")
        else:
            end = 4 + {1: 4, 4: 16}[kind]
            host = str(ipaddress.ip_address(datagram[4:end]))
        return host, struct.unpack("!H", datagram[end : end + 2])[0], datagram[end + 2 :]

    def close(self) -> None:
        """Ends the association."""
        self.socket.close()
        self._control.close()
