"""The VLESS server in the middle: ours, or a reference server to check the harness itself against.

`INTEROP_SERVER` chooses: `vless-rust` (default), `xray` or `sing-box`.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from .certificates import Certificate
from ports import free_port

from .processes import Child
from .programs import Json, start_sing_box, start_vless_rust, start_xray

SERVER = os.environ.get("INTEROP_SERVER", "vless-rust")
IS_OURS = SERVER == "vless-rust"
LOOPBACK = ["127.0.0.0/8", "::1/128"]


@dataclass(frozen=True)
class ServerSpec:
    """What a server is to offer: one user, one flow ("" for none), TLS if a certificate is given."""

    uuid: str
    flow: str = ""
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Server:
    """A running server on 127.0.0.1:`port`."""

    child: Child
    port: int

    def counters(self) -> Json:
        """All counters, as our server writes them on USR1."""
        known = len(self.counter_lines())
        self.child.send_signal(signal.SIGUSR1)
        self.child.wait_until(lambda: len(self.counter_lines()) > known, "counters after USR1", 5)
        return json.loads(self.counter_lines()[-1])

    def counter_lines(self) -> list[str]:
        """The complete JSON lines on its standard error so far."""
        return [line for line in self.child.stderr().splitlines(True) if line.startswith("{") and line.endswith("\n")]


KINDS = ("vless-rust", "xray", "sing-box")


def start_server(name: str, spec: ServerSpec, folder: Path, kind: str = SERVER) -> Server:
    """Starts a server of `kind` (one of `KINDS`), usually the chosen one, with `spec` and waits until it accepts."""
    port = free_port()
    start, configure = {
        "vless-rust": (start_vless_rust, vless_rust_config),
        "xray": (start_xray, _xray_config),
        "sing-box": (start_sing_box, _sing_box_config),
    }[kind]
    server = Server(start(name, configure(spec, port), folder), port)
    server.child.wait_for_port(port)
    return server


def vless_rust_config(spec: ServerSpec, port: int) -> Json:
    """Our own configuration for `spec`."""
    config: Json = {
        "server": {"listen": "127.0.0.1", "port": port},
        "users": [{"uuid": spec.uuid, "email": "interop@example.com", "flow": spec.flow}],
        "monitoring": {"enabled": False},
        "outbound": {"allow": LOOPBACK},
        # All clients have one address here, and some tests open a hundred connections at once.
        "limits": {"handshakes_per_source_max": 0},
        "log": {"level": "debug"},
    }
    if spec.certificate:
        config["tls"] = {
            "enabled": True,
            "cert_file": str(spec.certificate.cert_path),
            "key_file": str(spec.certificate.key_path),
            "server_name": "localhost",
        }
    return config


def _xray_config(spec: ServerSpec, port: int) -> Json:
    stream: Json = {"network": "raw", "security": "none"}
    if spec.certificate:
        files = {
            "certificateFile": str(spec.certificate.cert_path.resolve()),
            "keyFile": str(spec.certificate.key_path.resolve()),
        }
        stream |= {"security": "tls", "tlsSettings": {"certificates": [files]}}
    inbound = {
        "listen": "127.0.0.1",
        "port": port,
        "protocol": "vless",
        "settings": {"clients": [{"id": spec.uuid, "flow": spec.flow}], "decryption": "none"},
        "streamSettings": stream,
    }
    # Without the rule its freedom refuses private targets that come from a VLESS inbound.
    freedom = {"protocol": "freedom", "settings": {"finalRules": [{"action": "allow"}]}}
    return {"log": {"loglevel": "info"}, "inbounds": [inbound], "outbounds": [freedom]}


def _sing_box_config(spec: ServerSpec, port: int) -> Json:
    inbound: Json = {
        "type": "vless",
        "listen": "127.0.0.1",
        "listen_port": port,
        "users": [{"name": "interop", "uuid": spec.uuid, "flow": spec.flow}],
    }
    if spec.certificate:
        inbound["tls"] = {
            "enabled": True,
            "alpn": ["h2", "http/1.1"],
            "certificate_path": str(spec.certificate.cert_path),
            "key_path": str(spec.certificate.key_path),
        }
    return {"log": {"level": "info"}, "inbounds": [inbound], "outbounds": [{"type": "direct"}]}
