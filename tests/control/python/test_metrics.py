"""The metrics as Prometheus' own parsers read them."""

from __future__ import annotations

import urllib.request

import monitor
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from service import VIEW_TOKEN, ServiceCase, open_session, receive, wait_until


class Metrics(ServiceCase):
    def exposition(self, accept: str) -> tuple[str, str]:
        fields = {"Authorization": f"Bearer {VIEW_TOKEN}", "Accept": accept}
        with urllib.request.urlopen(urllib.request.Request(self.url("/metrics"), headers=fields), timeout=10) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    def test_both_formats_are_read_and_say_the_same(self) -> None:
        with open_session(self.port, "ann@example.com", self.echo.port) as client:
            client.sendall(b"x" * 1234)
            receive(client, 2 + 1234)
            wait_until("it is sampled", lambda: self.api("/api/stats")["total_download_bytes"] == 1234)
            kind, text = self.exposition("text/plain")
            self.assertIn("version=0.0.4", kind)
            open_kind, open_text = self.exposition("application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
            self.assertIn("application/openmetrics-text; version=1.0.0", open_kind)
        classic = {family.name: family for family in parse_text(text)}
        families = {family.name: family for family in parse_openmetrics(open_text)}
        self.assertGreater(len(families), 80)
        self.assertEqual(families["vless_payload_bytes"].unit, "bytes")
        for name, family in families.items():
            self.assertTrue(family.documentation, name)
            self.assertIn(family.type, ["counter", "gauge", "histogram", "info"], name)
            other = classic[name] if name in classic else classic[f"{name}_info"]
            volatile = name.startswith(("process_", "vless_monitor", "vless_worker_turn"))
            if family.type != "info" and not volatile:
                mine = sorted((s.name, sorted(s.labels.items()), s.value) for s in family.samples)
                its = sorted((s.name, sorted(s.labels.items()), s.value) for s in other.samples)
                self.assertEqual(mine, its, name)
        dials = families["vless_dial_duration_seconds"].samples
        counts = {s.labels["source"]: s.value for s in dials if s.name.endswith("_count")}
        self.assertEqual(counts["pool"] + counts["new"], 1)
        users = families["vless_user_payload_bytes"].samples
        self.assertEqual({s.value for s in users if s.labels["user"] == "ann@example.com"}, {1234})

    def test_every_known_series_is_there_from_the_start(self) -> None:
        _, text = self.exposition("")
        for line in ['vless_rejected_total{reason="unknown_user"} ', 'vless_dials_total{result="timed_out"} ']:
            self.assertIn(line, text)

    def test_a_name_with_quotes_and_backslashes_survives(self) -> None:
        status, _, body = monitor.get(self.url("/metrics"), VIEW_TOKEN)
        self.assertEqual(status, 200)
        self.assertTrue(body.endswith(b"\n"))


class Names(ServiceCase):
    overrides = {"alerts": [{"name": 'a "quoted" \\ name', "metric": "sessions_percent", "above": 90}]}

    def test_labels_are_escaped(self) -> None:
        _, _, body = monitor.get(self.url("/metrics"), VIEW_TOKEN)
        rules = {
            sample.labels["rule"]
            for family in parse_text(body.decode())
            for sample in family.samples
            if sample.name == "vless_alerts_firing"
        }
        self.assertIn('a "quoted" \\ name', rules)
