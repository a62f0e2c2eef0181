"""Accounts and live sessions through the API of a running server."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from service import ADMIN_TOKEN, USERS, ServiceCase, open_session, receive


class Accounts(ServiceCase):
    def change(self, method: str, path: str, body: Any = None, revision: int | None = None) -> tuple[int, Any]:
        fields = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        if revision is not None:
            fields["If-Match"] = f'"{revision}"'
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url(path), data=data, method=method, headers=fields)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def revision(self) -> int:
        return self.api("/api/users")["revision"]

    def test_an_account_is_added_used_cut_and_removed(self) -> None:
        status, added = self.change("POST", "/api/users", {"email": "cas", "note": "new"}, self.revision())
        self.assertEqual(status, 201, added)
        USERS["cas"] = added["uuid"]
        self.addCleanup(USERS.pop, "cas")
        with open_session(self.port, "cas", self.echo.port) as client:
            client.sendall(b"hello")
            self.assertEqual(receive(client, 7)[2:], b"hello")
            self.assertEqual([line["user"] for line in self.api("/api/connections?user=cas")["connections"]], ["cas"])
            started = time.monotonic()
            status, answer = self.change("DELETE", "/api/connections?user=cas")
            self.assertEqual((status, answer["cut"]), (200, 1))
            self.assert_ended(client, started)
        with open_session(self.port, "cas", self.echo.port) as client:
            client.sendall(b"hello")
            receive(client, 7)
            started = time.monotonic()
            status, _ = self.change("DELETE", "/api/users/cas", revision=self.revision())
            self.assertEqual(status, 204)
            self.assert_ended(client, started)
        with open_session(self.port, "cas", self.echo.port) as client:
            self.assert_ended(client, time.monotonic())
        texts = [event["text"] for event in self.api("/api/events")["events"]]
        self.assertTrue(any(text.startswith("1 sessions of cas cut in ") for text in texts), texts)

    def assert_ended(self, client: Any, started: float) -> None:
        try:
            self.assertEqual(client.recv(1), b"")
        except ConnectionResetError:
            pass
        self.assertLess(time.monotonic() - started, 3)

    def test_two_who_change_at_once_never_lose_a_change(self) -> None:
        revision = self.revision()
        status, _ = self.change("POST", "/api/users", {"email": "dan"}, revision)
        self.assertEqual(status, 201)
        status, answer = self.change("PATCH", "/api/users/dan", {"note": "late"}, revision)
        self.assertEqual((status, answer["revision"]), (412, revision + 1), answer)
        status, _ = self.change("PATCH", "/api/users/dan", {"note": "in time"}, revision + 1)
        self.assertEqual(status, 200)
        status, _ = self.change("PATCH", "/api/users/dan", {"note": "without"})
        self.assertEqual(status, 428)

    def test_accounts_of_the_configuration_are_locked(self) -> None:
        status, answer = self.change("PATCH", "/api/users/ben", {"note": "x"}, self.revision())
        self.assertEqual((status, answer["error"]["code"]), (409, "locked"), answer)
        self.assertIn("vless-rust reload", answer["error"]["message"])

    def test_a_client_gets_link_code_and_configurations(self) -> None:
        body = self.api("/api/users/ben/link")
        self.assertTrue(body["link"].startswith(f"vless://{USERS['ben']}@"), body)
        self.assertIn(USERS["ben"], json.dumps(json.loads(body["formats"]["xray"])))
        self.assertIn(USERS["ben"], json.dumps(json.loads(body["formats"]["sing-box"])))
        self.assertIn(USERS["ben"], body["formats"]["mihomo"])
        fields = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        request = urllib.request.Request(self.url("/api/users/ben/qr.svg"), headers=fields)
        with urllib.request.urlopen(request, timeout=10) as answer:
            self.assertEqual(answer.headers["Content-Type"], "image/svg+xml")
            self.assertTrue(answer.read().startswith(b"<svg"))

    def test_a_reload_says_what_changed(self) -> None:
        path = self.folder / "config.json"
        before = path.read_text()
        config = json.loads(before)
        config["users"].append({"uuid": "1f9d6f5e-2c0b-4c19-8a53-6f0a4c3d2e1b", "email": "eve"})
        path.write_text(json.dumps(config))
        try:
            status, answer = self.change("POST", "/api/reload")
            self.assertEqual((status, answer["ok"]), (200, True), answer)
            self.assertIn("eve", [user["email"] for user in self.api("/api/users")["users"]])
            path.write_text("{ broken")
            status, answer = self.change("POST", "/api/reload")
            self.assertEqual(status, 422, answer)
        finally:
            path.write_text(before)
            self.change("POST", "/api/reload")
