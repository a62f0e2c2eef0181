"""A VLESS client for tests: one exchange with an echoing target in each mode."""

from __future__ import annotations

import socket
import ssl
import struct
import uuid

TCP, UDP, MUX = 1, 2, 3
VISION = b"xtls-rprx-vision"


def loopback(port: int) -> bytes:
    """Port and address of a target on this machine."""
    return struct.pack(">H", port) + b"\x01" + socket.inet_aton("127.0.0.1")


def connect(port: int, tls: bool) -> socket.socket:
    """A connection to the server, in TLS or not."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=60)
    if not tls:
        return stream
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(stream, server_hostname="localhost")


def request(user: str, command: int, target: bytes, flow: bytes = b"") -> bytes:
    """The header of a request."""
    addons = b"\x0a" + bytes([len(flow)]) + flow if flow else b""
    return b"\x00" + uuid.UUID(user).bytes + bytes([len(addons)]) + addons + bytes([command]) + target


class Reader:
    """Takes exactly so many bytes at a time."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.rest = b""

    def take(self, count: int) -> bytes:
        parts, have = [self.rest], len(self.rest)
        while have < count:
            chunk = self.stream.recv(65536)
            if not chunk:
                raise AssertionError(f"the stream ended {count - have} bytes early")
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self.rest = data[count:]
        return data[:count]

    def number(self) -> int:
        return struct.unpack(">H", self.take(2))[0]


# Sent and then awaited at a time: a TLS socket of this Python must not be used by two threads at once, and so much fits
# into the buffers on the way.
CHUNK = 60_000


def in_step(stream: socket.socket, reader: Reader, data: bytes) -> None:
    """Sends all of `data` and takes it back, piece by piece."""
    for start in range(0, len(data), CHUNK):
        piece = data[start : start + CHUNK]
        stream.sendall(piece)
        assert reader.take(len(piece)) == piece


def echo_tcp(stream: socket.socket, user: str, target: int, data: bytes) -> None:
    """Plain payload both ways."""
    first, rest = data[:1000], data[1000:]
    stream.sendall(request(user, TCP, loopback(target)) + first)
    reader = Reader(stream)
    assert reader.take(2) == b"\x00\x00"
    assert reader.take(len(first)) == first
    in_step(stream, reader, rest)


def echo_vision(stream: socket.socket, user: str, target: int, data: bytes) -> None:
    """The first bytes in a padded block each way, the rest behind the block that ends the padding."""
    first, rest = data[:1000], data[1000:]
    block = uuid.UUID(user).bytes + struct.pack(">BHH", 1, len(first), 50) + first + bytes(50)
    stream.sendall(request(user, TCP, loopback(target), VISION) + block)
    reader = VisionReader(stream, user)
    assert reader.take(len(first)) == first
    in_step(stream, reader, rest)


class VisionReader(Reader):
    """Takes payload out of Vision's blocks, and behind the last of them as it comes."""

    def __init__(self, stream: socket.socket, user: str) -> None:
        super().__init__(stream)
        self.payload = b""
        self.is_padded = True
        assert super().take(2) == b"\x00\x00"
        assert super().take(16) == uuid.UUID(user).bytes

    def take(self, count: int) -> bytes:
        while self.is_padded and len(self.payload) < count:
            command, content, padding = struct.unpack(">BHH", super().take(5))
            self.payload += super().take(content)
            super().take(padding)
            self.is_padded = command == 0
        data, self.payload = self.payload[:count], self.payload[count:]
        return data + super().take(count - len(data)) if len(data) < count else data


def echo_udp(stream: socket.socket, user: str, target: int, data: bytes) -> None:
    """Datagrams of at most 1200 bytes, one after the other."""
    stream.sendall(request(user, UDP, loopback(target)))
    reader = Reader(stream)
    for number, start in enumerate(range(0, len(data), 1200)):
        datagram = data[start : start + 1200]
        stream.sendall(struct.pack(">H", len(datagram)) + datagram)
        if number == 0:
            assert reader.take(2) == b"\x00\x00"
        assert reader.take(reader.number()) == datagram


def echo_mux(stream: socket.socket, user: str, target: int, data: bytes) -> None:
    """Two sessions inside one connection, each with half of the bytes."""
    head = b"\x00" + uuid.UUID(user).bytes + b"\x00" + bytes([MUX])
    halves = {1: data[: len(data) // 2], 2: data[len(data) // 2 :]}

    def frame(number: int, status: int, content: bytes, where: bytes = b"") -> bytes:
        meta = struct.pack(">HBB", number, status, 1) + where
        return struct.pack(">H", len(meta)) + meta + struct.pack(">H", len(content)) + content

    stream.sendall(head)
    reader = Reader(stream)
    received = {number: b"" for number in halves}
    sent = {number: 0 for number in halves}
    is_answered = False
    while received != halves:
        for number, half in halves.items():
            start = sent[number]
            if start < len(half):
                piece = half[start : start + 8000]
                is_new = start == 0
                stream.sendall(frame(number, 1 if is_new else 2, piece, b"\x01" + loopback(target) if is_new else b""))
                sent[number] += len(piece)
        if not is_answered:
            assert reader.take(2) == b"\x00\x00"
            is_answered = True
        while any(len(received[number]) < count for number, count in sent.items()):
            meta = reader.take(reader.number())
            number, status, option = struct.unpack(">HBB", meta[:4])
            assert status == 2, f"session {number} ended with {status}"
            if option & 1:
                received[number] += reader.take(reader.number())
