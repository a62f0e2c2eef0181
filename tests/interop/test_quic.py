"""A real QUIC connection through each client: the datagrams of a protocol that notices when one is wrong."""

from __future__ import annotations

import asyncio
import hashlib
import socket

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration

from harness.bodies import chunks, sha256_of
from harness.case import GOOD_UUID, InteropCase
from harness.certificates import make_certificate
from harness.clients import Forward, Outlet
from harness.matrix import Combination, spread
from harness.servers import ServerSpec
from ports import free_port

SIZE = 4 << 20
TIMEOUT_S = 60.0


class Quic(InteropCase):
    """One transfer in each direction for each combination; never on port 443, which Vision clients refuse."""

    way: Combination

    def test_a_transfer_in_both_directions_completes(self) -> None:
        certificate = make_certificate(self.folder, "localhost")
        over_tls = self.way.outer == "tls"
        served = self.server(ServerSpec(GOOD_UUID, self.way.flow, certificate if over_tls else None))
        pin = certificate.sha256_hex() if over_tls else None
        origin_port, door_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        forward = Forward(door_port, "127.0.0.1", origin_port)
        self.client(self.way.client, Outlet(served.port, GOOD_UUID, self.way.flow, pin, forward=forward))
        sent, received = asyncio.run(asyncio.wait_for(self.exchange(certificate, origin_port, door_port), TIMEOUT_S))
        self.assertEqual(sent, sha256_of("quic up", SIZE))
        self.assertEqual(received, sha256_of("quic down", SIZE))

    async def exchange(self, certificate, origin_port: int, door_port: int) -> tuple[str, str]:
        """What the origin got and what the client got, as SHA-256."""
        got: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(hashlib.sha256(await reader.read()).hexdigest())
            for chunk in chunks("quic down", SIZE):
                writer.write(chunk)
            writer.write_eof()

        def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(asyncio.ensure_future(answer(reader, writer)))

        tasks: list[asyncio.Future[None]] = []
        offered = QuicConfiguration(is_client=False, alpn_protocols=["interop"])
        offered.load_cert_chain(certificate.cert_path, certificate.key_path)
        origin = await serve("127.0.0.1", origin_port, configuration=offered, stream_handler=on_stream)
        wanted = QuicConfiguration(is_client=True, alpn_protocols=["interop"], server_name="localhost")
        wanted.load_verify_locations(str(certificate.cert_path))
        try:
            async with connect("127.0.0.1", door_port, configuration=wanted) as connection:
                assert isinstance(connection, QuicConnectionProtocol)
                reader, writer = await connection.create_stream()
                for chunk in chunks("quic up", SIZE):
                    writer.write(chunk)
                writer.write_eof()
                received = hashlib.sha256(await reader.read()).hexdigest()
                return await got, received
        finally:
            origin.close()


globals().update(spread(Quic))
del Quic
