"""What an operator is given: client configurations that real clients load as they are, and a probe that finds the culprit."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import unittest

import yaml
from harness import origins
from harness.bodies import sha256_of
from harness.case import GOOD_UUID, WRONG_UUID, InteropCase, noted
from harness.certificates import make_certificate
from harness.http import ProxiedConnection
from harness.processes import Child
from harness.programs import Json, start_sing_box, start_xray, vless_rust_path
from harness.servers import IS_OURS, KINDS, LOOPBACK, ServerSpec, start_server
from ports import free_port

VISION = "xtls-rprx-vision"
SIZE = 1 << 20


@unittest.skipUnless(IS_OURS, "a reference server writes no client configurations")
class ClientFiles(InteropCase):
    """`init --yes`, then `link --format KIND`: the file goes into the client as it is, but for the port of its proxy."""

    # What makes the configuration, and what is typed.
    made_by: tuple[str, ...] = ("init", "--yes")
    typed = ""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.home = cls.folder / "server"
        cls.home.mkdir()
        cls.told(*cls.made_by)
        path = cls.home / "config.json"
        config = json.loads(path.read_text())
        config["server"] |= {"port": free_port(), "public_ip": "127.0.0.1"}
        config["outbound"] = {"allow": LOOPBACK}
        config["monitoring"] = {"enabled": False}
        path.write_text(json.dumps(config))
        started = cls.keep(Child("server", [vless_rust_path(), "run"], cls.home))
        started.wait_for_port(config["server"]["port"])

    def test_xray_loads_its_file(self) -> None:
        config = json.loads(self.told("link", "--format", "xray"))
        port = config["inbounds"][0]["port"] = free_port()
        self.fetches(start_xray("xray-file", config, self.folder), port, config)

    def test_sing_box_loads_its_file(self) -> None:
        config = json.loads(self.told("link", "--format", "sing-box"))
        port = config["inbounds"][0]["listen_port"] = free_port()
        self.fetches(start_sing_box("sing-box-file", config, self.folder), port, config)

    def test_no_file_allows_insecure_connections_and_each_has_the_pin(self) -> None:
        for kind, pin in [
            ("xray", "pinnedPeerCertSha256"),
            ("sing-box", "certificate_public_key_sha256"),
            ("mihomo", "    fingerprint: "),
        ]:
            with self.subTest(kind):
                text = self.told("link", "--format", kind)
                self.assertIn(pin, text)
                self.assertNotIn("insecure", text.lower())
                self.assertNotIn("skip-cert-verify", text)

    def test_mihomo_could_read_its_file(self) -> None:
        # There is no mihomo to ask: another reader of YAML, and the keys that its documentation has.
        text = yaml.safe_load(self.told("link", "--format", "mihomo"))
        self.assertLessEqual(set(text), {"mixed-port", "bind-address", "mode", "log-level", "proxies", "rules"})
        (proxy,) = text["proxies"]
        types = {
            **dict.fromkeys(["name", "type", "server", "uuid", "network", "packet-encoding", "servername"], str),
            **dict.fromkeys(["client-fingerprint", "flow", "fingerprint"], str),
            **{"port": int, "udp": bool, "tls": bool, "alpn": list},
        }
        self.assertEqual({key: type(value) for key, value in proxy.items()}, types)
        self.assertEqual((proxy["type"], proxy["network"], proxy["packet-encoding"]), ("vless", "tcp", "xudp"))
        self.assertRegex(proxy["fingerprint"], "^[0-9a-f]{64}$")
        self.assertEqual(text["rules"], [f"MATCH,{proxy['name']}"])

    def fetches(self, client: Child, port: int, config: Json) -> None:
        self.keep(client)
        client.wait_for_port(port)
        target = self.origin(origins.http_manner)
        with contextlib.closing(ProxiedConnection(port, target.host, target.port)) as connection:
            self.assertEqual(connection.get_sha256("file", SIZE), sha256_of("file", SIZE), config)

    @classmethod
    def told(cls, *arguments: str) -> str:
        command = [vless_rust_path(), *arguments]
        done = subprocess.run(
            command, cwd=cls.home, input=cls.typed, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout


class WizardByEnter(ClientFiles):
    """The same after the wizard, whose every question was answered with Enter."""

    made_by = ("init", "--lang", "en")
    typed = "\n" * 40


@unittest.skipUnless(IS_OURS, "the probe is ours, whatever the server is")
class Probe(InteropCase):
    """`probe LINK` before three kinds of servers: right links pass, and of wrong ones the right side is named."""

    def test_right_links_pass(self) -> None:
        for kind in KINDS:
            world = World(self, kind)
            for name, link in [("plain", world.plain()), ("tls", world.tls()), ("vision", world.vision())]:
                with noted(f"{kind} {name}"):
                    report = world.probed(link)
                    self.assertTrue(report["ok"], report)
                    if name == "vision":
                        self.assertIn("both directions left TLS", json.dumps(report))

    def test_the_culprit_is_named(self) -> None:
        named = 0
        for kind in KINDS:
            world = World(self, kind)
            closed = free_port()
            for case, link, side in [
                ("another id", world.tls(uuid=WRONG_UUID), "the link"),
                ("another id with a flow", world.vision(uuid=WRONG_UUID), "the link"),
                ("another certificate", world.vision(pin="0" * 64), "the link"),
                ("a flow that the account lacks", world.tls(flow=VISION), "the link"),
                ("no flow where the account has one", world.vision(flow=""), "the link"),
                ("no TLS to a server with TLS", world.tls(security="none"), "the link"),
                ("TLS to a server without", world.plain(security="tls"), "the server"),
                ("nobody listens", world.tls(port=closed), "the server"),
                ("another kind of server", world.tls(port=world.web.port), "the server"),
                ("a target that nobody serves", world.tls(), "the target"),
            ]:
                with self.subTest(f"{kind}: {case}"):
                    via = f"http://127.0.0.1:{closed}/" if "target" in case else None
                    report = world.probed(link, via)
                    self.assertFalse(report["ok"], report)
                    self.assertEqual(report["fault"]["side"], side, report)
                    self.assertTrue(report["fault"]["remedy"], report)
                    named += 1
        self.assertGreaterEqual(named, 15)


class World:
    """Servers of one kind with one user each, and what they are asked for."""

    def __init__(self, case: InteropCase, kind: str) -> None:
        certificate = make_certificate(case.folder, f"probe-{kind}")
        self.pin = certificate.sha256_hex()

        def port(name: str, spec: ServerSpec) -> int:
            server = start_server(f"{kind}-{name}-{free_port()}", spec, case.folder, kind)
            case.keep(server.child)
            return server.port

        self.plain_port = port("plain", ServerSpec(GOOD_UUID))
        self.tls_port = port("tls", ServerSpec(GOOD_UUID, certificate=certificate))
        self.vision_port = port("vision", ServerSpec(GOOD_UUID, VISION, certificate))
        self.web = case.origin(origins.http_manner)
        self.secure_web = case.origin(origins.https_manner(certificate, ssl.TLSVersion.TLSv1_3))

    def plain(self, security: str = "none") -> str:
        return self.link(self.plain_port, GOOD_UUID, "", security, self.pin)

    def tls(self, uuid: str = GOOD_UUID, flow: str = "", security: str = "tls", port: int = 0) -> str:
        return self.link(port or self.tls_port, uuid, flow, security, self.pin)

    def vision(self, uuid: str = GOOD_UUID, flow: str = VISION, pin: str = "") -> str:
        return self.link(self.vision_port, uuid, flow, "tls", pin or self.pin)

    @staticmethod
    def link(port: int, uuid: str, flow: str, security: str, pin: str) -> str:
        tls = f"&sni=localhost&pcs={pin}" if security == "tls" else ""
        flow = f"&flow={flow}" if flow else ""
        return f"vless://{uuid}@127.0.0.1:{port}?encryption=none{flow}&security={security}{tls}&type=tcp#probe"

    def probed(self, link: str, via: str | None = None) -> Json:
        via = via or f"https://127.0.0.1:{self.secure_web.port}/x/1000"
        # Nobody answers there: UDP is tried last and fails nothing.
        command = [vless_rust_path(), "probe", link, "--via", via, "--dns", "127.0.0.1:9", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        return json.loads(done.stdout)
