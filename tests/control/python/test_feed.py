"""The live feed as two WebSocket implementations of others see it."""

from __future__ import annotations

import json
import socket

from service import VIEW_TOKEN, ServiceCase, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, Request, TextMessage

FIELDS = {"Authorization": f"Bearer {VIEW_TOKEN}"}


class Feed(ServiceCase):
    overrides = {"websocket_max_connections": 3}

    def feed(self, path: str = "/api/ws"):
        url = f"ws://127.0.0.1:{self.monitor_port}{path}"
        return connect(url, additional_headers=FIELDS, max_size=None, compression=None)

    def test_websockets_reads_history_and_snapshots(self) -> None:
        for path in ["/api/ws", "/ws"]:
            with self.feed(path) as feed:
                kinds = [json.loads(feed.recv(timeout=10))["type"] for _ in range(4)]
            self.assertEqual(kinds[0], "history")
            self.assertEqual(kinds[1:], ["stats"] * 3)

    def test_a_snapshot_is_what_the_api_says(self) -> None:
        with self.feed() as feed:
            feed.recv(timeout=10)
            snapshot = json.loads(feed.recv(timeout=10))["payload"]
        self.assertEqual(snapshot.keys(), self.api("/api/stats").keys())
        self.assertEqual([user["uuid"] for user in snapshot["users"]], ["5783a3e7", "0b0b9d3c"])

    def test_pings_and_fragments_are_understood(self) -> None:
        with self.feed() as feed:
            self.assertTrue(feed.ping(b"hello").wait(10))
            feed.send(["a message ", "in three ", "fragments"])
            self.assertTrue(feed.ping(b"again").wait(10))

    def test_too_many_readers_get_1013(self) -> None:
        wait_until("earlier readers are gone", lambda: self.api("/api/stats")["feed_clients"] == 0)
        readers = [self.feed() for _ in range(3)]
        try:
            with self.assertRaises(ConnectionClosed) as raised, self.feed() as surplus:
                surplus.recv(timeout=10)
            self.assertEqual(raised.exception.rcvd.code, 1013)
        finally:
            for reader in readers:
                reader.close()

    def test_wsproto_agrees_on_the_protocol_to_its_end(self) -> None:
        wait_until("earlier readers are gone", lambda: self.api("/api/stats")["feed_clients"] == 0)
        connection = WSConnection(ConnectionType.CLIENT)
        with socket.create_connection(("127.0.0.1", self.monitor_port), timeout=10) as stream:
            fields = [(name.encode(), value.encode()) for name, value in FIELDS.items()]
            host = f"127.0.0.1:{self.monitor_port}"
            stream.sendall(connection.send(Request(host=host, target="/ws", extra_headers=fields)))
            seen, texts, text = [], [], ""
            while CloseConnection not in seen:
                data = stream.recv(65536)
                connection.receive_data(data or None)
                for event in connection.events():
                    seen.append(type(event))
                    if isinstance(event, AcceptConnection):
                        stream.sendall(connection.send(Ping(payload=b"there?")))
                    elif isinstance(event, Ping):
                        stream.sendall(connection.send(event.response()))
                    elif isinstance(event, TextMessage):
                        text += event.data
                        if event.message_finished:
                            texts.append(json.loads(text)["type"])
                            text = ""
                        if len(texts) == 3 and event.message_finished:
                            stream.sendall(connection.send(CloseConnection(code=1000)))
                    elif isinstance(event, CloseConnection):
                        self.assertEqual(event.code, 1000)
        self.assertEqual(seen[0], AcceptConnection)
        self.assertIn(Pong, seen)
        self.assertEqual(texts[0], "history")
