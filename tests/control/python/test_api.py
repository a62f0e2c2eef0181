"""The API as scripts use it, and that all places tell the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import NamedTuple

import monitor
import vless
from prometheus_client.parser import text_string_to_metric_families
from service import (
    ADMIN_TOKEN,
    PATIENCE_S,
    USERS,
    VIEW_TOKEN,
    InnerTls,
    ServiceCase,
    UdpEcho,
    open_session,
    receive,
    wait_until,
)
from websockets.sync.client import connect


class MonitoringScript(ServiceCase):
    def test_every_endpoint_is_read_by_a_plain_script(self) -> None:
        bodies = monitor.read_all(self.url(""), VIEW_TOKEN)
        self.assertEqual(len(bodies), len(monitor.ENDPOINTS))
        stats = bodies["/api/stats"]
        for key in ["upload_speed", "download_speed", "total_traffic", "uptime", "memory_usage", "total_memory"]:
            self.assertIsInstance(stats[key], str, key)
        for key in ["upload_bps", "total_upload_bytes", "uptime_seconds", "memory_bytes", "total_memory_bytes"]:
            self.assertIsInstance(stats[key], int, key)
        output = subprocess.run(
            [sys.executable, monitor.__file__, self.url(""), VIEW_TOKEN], capture_output=True, text=True, check=True
        )
        self.assertRegex(output.stdout, r"^serving: \d+/\d+ sessions, ")

    def test_without_a_token_nothing_is_told(self) -> None:
        for path in monitor.ENDPOINTS:
            status, _, _ = monitor.get(self.url(path), None)
            self.assertEqual(status, 200 if path == "/api/session" else 401, path)


class Mode(NamedTuple):
    """A way to move bytes: to an end, or until it is cut in the middle."""

    echo: Callable[..., None]
    part: Callable[..., vless.Middle]
    user: str = "ann@example.com"
    # The client has TLS of its own.
    is_bare: bool = False
    # What it moves each way before the payload.
    preface: tuple[int, int] = (0, 0)


class Moved:
    """What clients moved, to targets and back."""

    def __init__(self) -> None:
        self.by_user = {user: [0, 0] for user in USERS}
        self.by_udp = 0
        # Through sessions that had left TLS, in the direction from the client.
        self.direct = 0
        self.cut_in_the_middle = 0
        self.lock = threading.Lock()

    def add(self, name: str, mode: Mode, size: int, in_the_middle: bool) -> None:
        with self.lock:
            for way in (0, 1):
                self.by_user[mode.user][way] += size + mode.preface[way]
            self.by_udp += size if name == "udp" else 0
            self.direct += size if name == "direct" else 0
            self.cut_in_the_middle += in_the_middle

    def total(self) -> tuple[int, int]:
        up, down = (sum(moved[way] for moved in self.by_user.values()) for way in (0, 1))
        return up, down


class Bytes(ServiceCase):
    """Sessions in every mode. Some are cut after their exchange, and some in the middle of it."""

    modes = {
        "tcp": Mode(vless.echo_tcp, vless.part_tcp),
        "udp": Mode(vless.echo_udp, vless.part_udp),
        "mux": Mode(vless.echo_mux, vless.part_mux),
    }
    sessions = int(os.environ.get("CONTROL_SESSIONS", "200"))

    def exchange(self, rng: random.Random, number: int, moved: Moved) -> None:
        """One session."""
        name = rng.choice(list(self.modes))
        mode = self.modes[name]
        in_the_middle = number % 5 == 1
        # What is not taken before the cut fits into the buffers on the way, and UDP's answers, too.
        sizes = [2, 100, 5000, 30_000] if in_the_middle else [2, 100, 5000, 70_000]
        size = rng.choice(sizes if name == "udp" or in_the_middle else [*sizes, 300_000])
        data = rng.randbytes(size)
        target = {"udp": self.udp_echo, "direct": self.inner_tls}.get(name, self.echo).port
        with vless.connect(self.port, bool(self.tls) and not mode.is_bare) as stream:
            address = stream.getsockname()
            address = f"{address[0]}:{address[1]}"
            if in_the_middle:
                rest, torn = mode.part(stream, USERS[mode.user], target, data)
                expected = (size + mode.preface[0], size + mode.preface[1])
                self.wait_for_bytes(address, expected)
                # Below TLS, if there is any: nobody counts what is not whole.
                socket.socket.sendall(stream, torn) if torn[:1] == b"\x17" else stream.sendall(torn)
                self.cut(address, stream, rest)
            else:
                mode.echo(stream, USERS[mode.user], target, data)
                if number % 20 == 0:
                    self.cut(address, stream)
        moved.add(name, mode, size, in_the_middle)

    def test_all_places_tell_the_bytes_that_clients_moved(self) -> None:
        type(self).udp_echo, type(self).inner_tls = UdpEcho(), InnerTls()
        self.addCleanup(self.inner_tls.server_close)
        self.addCleanup(self.inner_tls.shutdown)
        moved, failures = Moved(), []
        sessions = self.sessions // 4 * 4

        def work(seed: int) -> None:
            rng = random.Random(seed)
            for number in range(sessions // 4):
                try:
                    self.exchange(rng, number, moved)
                except Exception as error:
                    failures.append(f"{seed}.{number}: {error!r}")
                    return

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(moved.cut_in_the_middle, 0)

        stats = wait_until("all sessions have ended", lambda: self.stats_after(sessions))
        self.check_totals(stats, moved)
        for window in ["1h", "24h", "30d", "1y"]:
            self.assertEqual(self.history(f"range={window}"), moved.total(), window)
            for user, expected in moved.by_user.items():
                self.assertEqual(self.history(f"range={window}&user={user}"), tuple(expected), window)
        self.check_metrics(moved)
        self.check_access_log(moved)
        self.check_state(moved)
        url = f"ws://127.0.0.1:{self.monitor_port}/ws"
        with connect(url, additional_headers={"Authorization": f"Bearer {VIEW_TOKEN}"}, max_size=None) as feed:
            feed.recv(timeout=10)
            self.check_totals(json.loads(feed.recv(timeout=10))["payload"], moved)

    def check_totals(self, stats: dict, moved: Moved) -> None:
        self.assertEqual((stats["total_upload_bytes"], stats["total_download_bytes"]), moved.total())
        for user in stats["users"]:
            told = [user["total_upload_bytes"], user["total_download_bytes"]]
            self.assertEqual(told, moved.by_user[user["email"]])

    def history(self, query: str) -> tuple[int, int]:
        points = self.api(f"/api/history?{query}")["points"]
        return sum(point["upload_bytes"] for point in points), sum(point["download_bytes"] for point in points)

    def listed(self, address: str) -> dict | None:
        """The live session of a client."""
        lines = self.api("/api/connections?limit=1000")["connections"]
        return next((line for line in lines if line["client"] == address), None)

    def wait_for_bytes(self, address: str, expected: tuple[int, int]) -> None:
        """Until so many bytes went through a session, each way."""

        def is_there() -> bool:
            line = self.listed(address)
            return line is not None and (line["upload_bytes"], line["download_bytes"]) == expected

        wait_until(f"{expected} bytes went through", is_there)

    def cut(self, address: str, client: socket.socket, rest: Callable[[], bytes] = bytes) -> None:
        """Cuts a session, whose client then takes the rest and the end."""
        listed = wait_until("the session is listed", lambda: self.listed(address))
        request = urllib.request.Request(
            self.url(f"/api/connections/{listed['id']}"),
            method="DELETE",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        started = time.monotonic()
        with urllib.request.urlopen(request, timeout=10) as answer:
            self.assertEqual(json.load(answer)["cut"], 1)
        rest()
        # What came behind whole records may have been in the way of an orderly end.
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(client.recv(1), b"")
        self.assertLess(time.monotonic() - started, PATIENCE_S)

    def stats_after(self, sessions: int) -> dict | None:
        """What is told when so many sessions have come and gone."""
        stats = self.api("/api/stats")
        return stats if sum(stats["closed"].values()) == sessions and stats["active_connections"] == 0 else None

    def check_metrics(self, moved: Moved) -> None:
        _, _, body = monitor.get(self.url("/metrics"), VIEW_TOKEN)
        directions, methods, users = {}, {}, {}
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                direction, bytes_moved = sample.labels.get("direction"), int(sample.value)
                if sample.name == "vless_payload_bytes_total":
                    directions[direction] = directions.get(direction, 0) + bytes_moved
                    methods[sample.labels["method"], direction] = bytes_moved
                elif sample.name == "vless_user_payload_bytes_total":
                    users[sample.labels["user"], direction] = bytes_moved
        for way, direction in enumerate(["uplink", "downlink"]):
            self.assertEqual(directions[direction], moved.total()[way])
            self.assertEqual(methods["udp", direction], moved.by_udp)
            told = {user: users[user, direction] for user in moved.by_user}
            self.assertEqual(told, {user: both[way] for user, both in moved.by_user.items()})
            if self.tls:
                # Behind the switch bytes are passed on as they are, and some of so many are spliced.
                unchanged = methods["copy", direction] + methods["splice", direction]
                self.assertGreaterEqual(unchanged, moved.direct, direction)
                self.assertGreater(methods["splice", direction], 0, direction)
        self.assertGreater(moved.by_udp, 0)

    def check_access_log(self, moved: Moved) -> None:
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]
        sessions = [line for line in lines if "uplink_bytes" in line]
        for way, key in enumerate(["uplink_bytes", "downlink_bytes"]):
            for user, both in moved.by_user.items():
                self.assertEqual(sum(line[key] for line in sessions if line["user"] == user), both[way], key)

    def check_state(self, moved: Moved) -> None:
        # The file does not say ids, so users are told apart by what they moved.
        expected = sorted(tuple(both) for both in moved.by_user.values() if any(both))

        def saved() -> bool:
            _, body = (self.folder / "state.json").read_text().split("\n", 1)
            state = json.loads(body)
            users = sorted((user["upload_bytes"], user["download_bytes"]) for user in state["users"])
            is_total = (state["upload_bytes"], state["download_bytes"]) == moved.total()
            return is_total and [user for user in users if user != (0, 0)] == expected

        wait_until("the state file has all bytes", saved)


class BytesOverTls(Bytes):
    tls = {"enabled": True}
    flows = {"ben": "xtls-rprx-vision"}
    modes = Bytes.modes | {
        "vision": Mode(vless.echo_vision, vless.part_vision, "ben"),
        "direct": Mode(vless.echo_direct, vless.part_direct, "ben", is_bare=True, preface=vless.DIRECT_PREFACE),
    }


class Crash(ServiceCase):
    def test_a_crash_loses_at_most_an_interval_and_no_total_goes_back(self) -> None:
        with open_session(self.port, "ben", self.echo.port) as client:
            client.sendall(b"x" * 1000)
            receive(client, 1002)
        wait_until("it is counted", lambda: self.api("/api/stats")["total_upload_bytes"] == 1000)
        # More than the interval, which is a second.
        time.sleep(2.5)
        self.server.kill()
        self.server.wait()
        type(self).start()
        wait_until("the total is back", lambda: self.api("/api/stats")["total_upload_bytes"] == 1000)


class Secrets(ServiceCase):
    def test_no_answer_and_no_log_line_holds_a_secret(self) -> None:
        for user in USERS:
            with open_session(self.port, user, self.echo.port) as client:
                client.sendall(b"x")
                receive(client, 3)
        monitor.get(self.url("/api/stats"), "wrong-token-0123456789")
        texts = {}
        for token in [None, VIEW_TOKEN]:
            for path in [*monitor.ENDPOINTS, "/metrics", "/", "/healthz", "/nothing", "/api/users/ben/link"]:
                status, fields, body = monitor.get(self.url(path), token)
                texts[path] = f"{status} {fields} {body.decode()}"
        texts["events for the admin"] = json.dumps(self.api("/api/events"))
        texts["stats for the admin"] = json.dumps(self.api("/api/stats"))
        wait_until("the log has the sessions", lambda: (self.folder / "log").read_text().count("uplink_bytes") >= 2)
        wait_until("the state was written", lambda: (self.folder / "state.json").exists())
        texts["log"] = (self.folder / "log").read_text()
        texts["state"] = (self.folder / "state.json").read_text()
        for where, text in texts.items():
            for secret in [VIEW_TOKEN, ADMIN_TOKEN, "wrong-token-0123456789", *USERS.values()]:
                self.assertNotIn(secret, text, where)
                self.assertNotIn(secret.replace("-", ""), text, where)
