"""The outer TLS handshake in the shapes in which clients really offer it."""

from __future__ import annotations

import contextlib
from typing import Any

from harness import origins
from harness.bodies import sha256_of
from harness.case import GOOD_UUID, InteropCase, noted
from harness.certificates import Certificate, make_certificate
from harness.clients import Client, Outlet
from harness.http import ProxiedConnection
from harness.origins import Origin
from harness.programs import Json, sing_box_tags
from harness.servers import Server, ServerSpec

SIZE = (64 << 10) + 1

# A hello with X25519MLKEM768 is 1.5 to 1.9 KiB, so two segments on a real path. The fingerprint "randomized" is left
# out: now and then it makes a curve list that Xray itself then refuses to dial with.
XRAY_SETTINGS: dict[str, Json] = {
    "chrome with h2": {"fingerprint": "chrome", "alpn": ["h2"]},
    "chrome with http/1.1": {"fingerprint": "chrome", "alpn": ["http/1.1"]},
    "chrome with its own alpn": {"fingerprint": "chrome"},
    "firefox": {"fingerprint": "firefox"},
    "safari": {"fingerprint": "safari"},
    "go's own tls": {"fingerprint": "unsafe"},
    "tls 1.2": {"fingerprint": "unsafe", "maxVersion": "1.2"},
    "x25519 only": {"fingerprint": "unsafe", "curvePreferences": ["X25519"]},
    "p-256 only": {"fingerprint": "unsafe", "curvePreferences": ["CurveP256"]},
    "x25519mlkem768 only": {"fingerprint": "unsafe", "curvePreferences": ["X25519MLKEM768"]},
}
SING_BOX_SETTINGS: dict[str, Json] = {
    "no alpn": {},
    "h2": {"alpn": ["h2"]},
    "http/1.1": {"alpn": ["http/1.1"]},
    "tls 1.2": {"max_version": "1.2"},
    "hello in fragments": {"fragment": True},
    "hello in several records": {"record_fragment": True},
    "hello in fragments and records": {"fragment": True, "record_fragment": True},
    "no server name": {"disable_sni": True},
}
if "with_utls" in sing_box_tags():  # Builds differ in this; Xray's hellos are made by the same library.
    SING_BOX_SETTINGS["chrome"] = {"utls": {"enabled": True, "fingerprint": "chrome"}}


class TlsHello(InteropCase):
    """One server; a client of its own for each shape."""

    certificate: Certificate
    listener: Server
    target: Origin

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.certificate = make_certificate(cls.folder, "localhost")
        cls.listener = cls.server(ServerSpec(GOOD_UUID, certificate=cls.certificate))
        cls.target = cls.origin(origins.http_manner)

    def test_xray_client_hellos_are_understood(self) -> None:
        for name, settings in XRAY_SETTINGS.items():
            with noted(name):
                self.fetch(self.client("xray", self.outlet(settings)))

    def test_xray_client_hello_cut_into_many_records_is_understood(self) -> None:
        cutting = {"fragment": {"packets": "tlshello", "length": "20-60", "interval": "0-1"}}
        cutter = {"protocol": "freedom", "tag": "cutter", "settings": cutting}
        outlet = self.outlet({}, sockopt={"dialerProxy": "cutter"}, outbounds_extra=(cutter,))
        self.fetch(self.client("xray", outlet))

    def test_xray_client_opening_connections_ahead_is_served(self) -> None:
        self.fetch(self.client("xray", self.outlet({}, account={"testpre": 2})))

    def test_sing_box_client_hellos_are_understood(self) -> None:
        for name, settings in SING_BOX_SETTINGS.items():
            with noted(name):
                self.fetch(self.client("sing-box", self.outlet(settings)))

    def test_sing_box_client_that_trusts_the_certificate_file_is_served(self) -> None:
        trusting = {"insecure": False, "certificate_path": str(self.certificate.cert_path)}
        self.fetch(self.client("sing-box", self.outlet(trusting)))

    def test_xray_client_with_another_pin_refuses_the_server(self) -> None:
        wrong = "0" * 64
        suspicious = self.client("xray", Outlet(self.listener.port, GOOD_UUID, pin=wrong))
        with self.assertRaises(ConnectionError):
            self.fetch(suspicious)

    def outlet(self, tls_extra: Json, **more: Any) -> Outlet:
        """The way to the server of this class with `tls_extra` in the client's TLS settings."""
        pin = self.certificate.sha256_hex()
        return Outlet(self.listener.port, GOOD_UUID, pin=pin, tls_extra=tls_extra, **more)

    def fetch(self, proxy: Client) -> None:
        """A body arrives unchanged through `proxy`, which is then no longer needed."""
        with contextlib.closing(ProxiedConnection(proxy.port, self.target.host, self.target.port)) as connection:
            self.assertEqual(connection.get_sha256("hello", SIZE), sha256_of("hello", SIZE))
        self.drop(proxy.child)
