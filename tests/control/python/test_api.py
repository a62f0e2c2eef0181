"""The API as scripts use it, and that all places tell the same bytes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request

import monitor
import vless
from prometheus_client.parser import text_string_to_metric_families
from service import ADMIN_TOKEN, USERS, VIEW_TOKEN, ServiceCase, UdpEcho, open_session, receive, wait_until
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


class Bytes(ServiceCase):
    """Sessions in every mode, some of which are cut after their exchange."""

    modes = {"tcp": vless.echo_tcp, "udp": vless.echo_udp, "mux": vless.echo_mux}
    sessions = int(os.environ.get("CONTROL_SESSIONS", "200"))

    def exchange(self, rng: random.Random, number: int) -> tuple[str, str, int]:
        """One session; returns whose it was, how, and what it moved each way."""
        mode = rng.choice(list(self.modes))
        user = "ben" if mode == "vision" else "ann@example.com"
        size = rng.choice([2, 100, 5000, 70_000] if mode == "udp" else [2, 100, 5000, 70_000, 300_000])
        with vless.connect(self.port, bool(self.tls)) as stream:
            target = self.udp_echo.port if mode == "udp" else self.echo.port
            self.modes[mode](stream, USERS[user], target, rng.randbytes(size))
            if number % 20 == 0:
                address = stream.getsockname()
                self.cut(f"{address[0]}:{address[1]}", stream)
        return user, mode, size

    def test_all_places_tell_the_bytes_that_clients_moved(self) -> None:
        type(self).udp_echo = UdpEcho()
        moved = {user: 0 for user in USERS}
        moved_by_udp = 0
        lock, failures = threading.Lock(), []
        sessions = self.sessions // 4 * 4

        def work(seed: int) -> None:
            nonlocal moved_by_udp
            rng = random.Random(seed)
            for number in range(sessions // 4):
                try:
                    user, mode, size = self.exchange(rng, number)
                except Exception as error:
                    failures.append(f"{seed}.{number}: {error!r}")
                    return
                with lock:
                    moved[user] += size
                    moved_by_udp += size if mode == "udp" else 0

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

        total = sum(moved.values())
        stats = wait_until("all sessions have ended", lambda: self.stats_after(sessions))
        self.assertEqual((stats["total_upload_bytes"], stats["total_download_bytes"]), (total, total))
        for user in stats["users"]:
            expected = moved[user["email"]]
            self.assertEqual((user["total_upload_bytes"], user["total_download_bytes"]), (expected, expected))
        for window in ["1h", "24h", "30d", "1y"]:
            points = self.api(f"/api/history?range={window}")["points"]
            self.assertEqual(sum(point["upload_bytes"] for point in points), total, window)
            for user, expected in moved.items():
                points = self.api(f"/api/history?range={window}&user={user}")["points"]
                self.assertEqual(sum(point["download_bytes"] for point in points), expected, window)
        self.check_metrics(moved, moved_by_udp)
        self.check_access_log(moved)
        self.check_state(moved)
        url = f"ws://127.0.0.1:{self.monitor_port}/ws"
        with connect(url, additional_headers={"Authorization": f"Bearer {VIEW_TOKEN}"}, max_size=None) as feed:
            feed.recv(timeout=10)
            snapshot = json.loads(feed.recv(timeout=10))["payload"]
        self.assertEqual((snapshot["total_upload_bytes"], snapshot["total_download_bytes"]), (total, total))
        for user in snapshot["users"]:
            expected = moved[user["email"]]
            self.assertEqual((user["total_upload_bytes"], user["total_download_bytes"]), (expected, expected))

    def cut(self, address: str, client: object) -> None:
        listed = wait_until("the session is listed", lambda: [
            line for line in self.api("/api/connections?limit=1000")["connections"] if line["client"] == address
        ])
        request = urllib.request.Request(
            self.url(f"/api/connections/{listed[0]['id']}"),
            method="DELETE",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        started = time.monotonic()
        with urllib.request.urlopen(request, timeout=10) as answer:
            self.assertEqual(json.load(answer)["cut"], 1)
        try:
            self.assertEqual(client.recv(1), b"")
        except ConnectionResetError:
            pass
        self.assertLess(time.monotonic() - started, 3)

    def stats_after(self, sessions: int) -> dict | None:
        """What is told when so many sessions have come and gone."""
        stats = self.api("/api/stats")
        return stats if sum(stats["closed"].values()) == sessions and stats["active_connections"] == 0 else None

    def check_metrics(self, moved: dict[str, int], moved_by_udp: int) -> None:
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
        for direction in ["uplink", "downlink"]:
            self.assertEqual(directions[direction], sum(moved.values()))
            self.assertEqual(methods["udp", direction], moved_by_udp)
            self.assertEqual({user: users[user, direction] for user in moved}, moved)
        self.assertGreater(moved_by_udp, 0)

    def check_access_log(self, moved: dict[str, int]) -> None:
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]
        sessions = [line for line in lines if "uplink_bytes" in line]
        for key in ["uplink_bytes", "downlink_bytes"]:
            logged = {user: sum(line[key] for line in sessions if line["user"] == user) for user in moved}
            self.assertEqual(logged, moved, key)

    def check_state(self, moved: dict[str, int]) -> None:
        total = sum(moved.values())
        # The file does not say ids, so users are told apart by what they moved.
        expected = sorted((count, count) for count in moved.values() if count)

        def saved() -> bool:
            _, body = (self.folder / "state.json").read_text().split("\n", 1)
            state = json.loads(body)
            users = sorted((user["upload_bytes"], user["download_bytes"]) for user in state["users"])
            is_total = (state["upload_bytes"], state["download_bytes"]) == (total, total)
            return is_total and [user for user in users if user != (0, 0)] == expected

        wait_until("the state file has all bytes", saved)


class BytesOverTls(Bytes):
    tls = {"enabled": True}
    flows = {"ben": "xtls-rprx-vision"}
    modes = Bytes.modes | {"vision": vless.echo_vision}


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
