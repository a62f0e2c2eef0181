"""A VLESS client for tests: one exchange with an echoing target in each mode."""

from __future__ import annotations

import socket
import ssl
import struct
import uuid
from collections.abc import Callable

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


# What an inner TLS 1.3 looks like from outside, with which Vision leaves the outer one.
CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(506)
SERVER_HELLO = (
    bytes.fromhex("160303007a020000760303")
    + bytes(range(32))
    + b"\x20"
    + b"\xee" * 32
    + bytes.fromhex("130100002e002b0002030400330024001d0020")
    + b"\x99" * 32
)
CHANGE_CIPHER_SPEC = bytes.fromhex("140303000101")
SERVER_FLIGHT = SERVER_HELLO + CHANGE_CIPHER_SPEC + b"\x16\x03\x03\x08\x00" + bytes(2048)
CLIENT_FLIGHT = CHANGE_CIPHER_SPEC + b"\x17\x03\x03\x00\x35" + bytes(53)
FIRST_DATA = b"\x17\x03\x03\x01\x4d" + bytes(333)
# What a client and a target have said before the payload that a test counts.
DIRECT_PREFACE = (
    len(CLIENT_HELLO) + len(CLIENT_FLIGHT) + len(FIRST_DATA),
    len(SERVER_FLIGHT) + len(CLIENT_FLIGHT) + len(FIRST_DATA),
)


class DirectClient:
    """A Vision client on a bare socket that leaves TLS in both directions, as soon as it may and as soon as it is told."""

    CONTINUE, END, DIRECT = 0, 1, 2

    def __init__(self, stream: socket.socket, user: str, target: int) -> None:
        self.stream = stream
        self.user = uuid.UUID(user).bytes
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.wire, self.content = b"", b""
        self.head_due, self.is_raw = True, False
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.incoming.write(self.record())
        self.flush()
        head = request(user, TCP, loopback(target), VISION) + self.user
        self.send_tls(head + self.block(self.CONTINUE, CLIENT_HELLO))
        assert self.take(len(SERVER_FLIGHT)) == SERVER_FLIGHT
        self.send_tls(self.block(self.CONTINUE, CLIENT_FLIGHT))
        assert self.take(len(CLIENT_FLIGHT)) == CLIENT_FLIGHT
        self.send_tls(self.block(self.DIRECT, FIRST_DATA))
        assert self.take(len(FIRST_DATA)) == FIRST_DATA
        assert self.is_raw

    def block(self, command: int, content: bytes) -> bytes:
        return struct.pack(">BHH", command, len(content), 50) + content + bytes(50)

    def flush(self) -> None:
        self.stream.sendall(self.outgoing.read())

    def send_tls(self, plaintext: bytes) -> None:
        self.tls.write(plaintext)
        self.flush()

    def receive(self) -> bytes:
        chunk = self.stream.recv(65536)
        if not chunk:
            raise AssertionError("the stream ended early")
        return chunk

    def record(self) -> bytes:
        """One whole record, so that nothing behind the last one gets into TLS."""
        while len(self.wire) < 5 or len(self.wire) < 5 + int.from_bytes(self.wire[3:5], "big"):
            self.wire += self.receive()
        length = 5 + int.from_bytes(self.wire[3:5], "big")
        record, self.wire = self.wire[:length], self.wire[length:]
        return record

    def open_block(self) -> None:
        """A record holds one block, or nothing but what TLS says to itself."""
        self.incoming.write(self.record())
        try:
            plaintext = self.tls.read(1 << 14)
        except ssl.SSLWantReadError:
            return
        if self.head_due:
            self.head_due = False
            assert plaintext[:18] == b"\x00\x00" + self.user
            plaintext = plaintext[18:]
        command, content, padding = struct.unpack(">BHH", plaintext[:5])
        assert len(plaintext) == 5 + content + padding
        self.content += plaintext[5 : 5 + content]
        assert command != self.END
        self.is_raw = command == self.DIRECT
        if self.is_raw:
            self.content, self.wire = self.content + self.wire, b""

    def take(self, count: int) -> bytes:
        parts, have = [self.content], len(self.content)
        while have < count:
            if self.is_raw:
                parts.append(self.receive())
                have += len(parts[-1])
            else:
                self.open_block()
                parts, have = [self.content], len(self.content)
        data = b"".join(parts)
        self.content = data[count:]
        return data[:count]


def echo_direct(stream: socket.socket, user: str, target: int, data: bytes) -> None:
    """All payload behind the switch, where it may be spliced."""
    in_step(stream, DirectClient(stream, user, target), data)


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


# What a session does that is cut in the middle: it sends all of the data, takes a part of the answer, and begins something
# that it never ends. Returns how to take the rest, and that beginning.
Middle = tuple[Callable[[], bytes], bytes]


def part_tcp(stream: socket.socket, user: str, target: int, data: bytes) -> Middle:
    """Plain payload; in TLS a record that is torn."""
    stream.sendall(request(user, TCP, loopback(target)) + data)
    reader = Reader(stream)
    assert reader.take(2) == b"\x00\x00"
    return rest_of(reader, data), torn_record(stream)


def part_vision(stream: socket.socket, user: str, target: int, data: bytes) -> Middle:
    """A block of Vision and what is behind it; then a record that is torn."""
    first, rest = data[:1000], data[1000:]
    block = uuid.UUID(user).bytes + struct.pack(">BHH", 1, len(first), 50) + first + bytes(50)
    stream.sendall(request(user, TCP, loopback(target), VISION) + block + rest)
    return rest_of(VisionReader(stream, user), data), torn_record(stream)


def part_direct(stream: socket.socket, user: str, target: int, data: bytes) -> Middle:
    """Raw bytes, of which none is torn."""
    client = DirectClient(stream, user, target)
    stream.sendall(data)
    return rest_of(client, data), b""


def part_udp(stream: socket.socket, user: str, target: int, data: bytes) -> Middle:
    """Datagrams, one after the other; then one that is torn."""
    pieces = [data[start : start + 1200] for start in range(0, len(data), 1200)]
    stream.sendall(request(user, UDP, loopback(target)))
    reader = Reader(stream)

    def take() -> bytes:
        return reader.take(reader.number())

    for number, piece in enumerate(pieces):
        stream.sendall(struct.pack(">H", len(piece)) + piece)
        if number == 0:
            assert reader.take(2) == b"\x00\x00"
        # The last answer waits for the cut.
        assert number == len(pieces) - 1 or take() == piece
    return take_checked(take, pieces[-1]), struct.pack(">H", 1000) + b"torn"


def part_mux(stream: socket.socket, user: str, target: int, data: bytes) -> Middle:
    """Frames of one session; then the header of one without its content."""
    meta = struct.pack(">HBB", 1, 1, 1) + b"\x01" + loopback(target)
    frame = struct.pack(">H", len(meta)) + meta + struct.pack(">H", len(data)) + data
    stream.sendall(b"\x00" + uuid.UUID(user).bytes + b"\x00" + bytes([MUX]) + frame)
    reader = Reader(stream)
    assert reader.take(2) == b"\x00\x00"

    def take() -> bytes:
        content = b""
        while len(content) < len(data):
            assert reader.take(reader.number())[2:] == b"\x02\x01"
            content += reader.take(reader.number())
        return content

    return take_checked(take, data), struct.pack(">HHBB", 4, 1, 2, 1) + struct.pack(">H", 1000)


def rest_of(reader: Reader | DirectClient, data: bytes) -> Callable[[], bytes]:
    """Takes a quarter now; the rest is for later."""
    quarter = len(data) // 4
    assert reader.take(quarter) == data[:quarter]
    return take_checked(lambda: reader.take(len(data) - quarter), data[quarter:])


def take_checked(take: Callable[[], bytes], expected: bytes) -> Callable[[], bytes]:
    def checked() -> bytes:
        data = take()
        assert data == expected
        return data

    return checked


def torn_record(stream: socket.socket) -> bytes:
    """The beginning of a record where there is TLS; plain payload has nothing that could be torn."""
    return b"\x17\x03\x03\x40\x00torn" if isinstance(stream, ssl.SSLSocket) else b""
