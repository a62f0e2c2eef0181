"""Xray-core and sing-box as SOCKS5 proxies on loopback that forward to a VLESS server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ports import free_port

from .processes import Child
from .programs import Json, start_sing_box, start_xray

CLIENTS = ("xray", "sing-box")


@dataclass(frozen=True)
class Forward:
    """A UDP port of 127.0.0.1 on which a client passes everything on to `host`:`target_port`."""

    port: int
    host: str
    target_port: int


@dataclass(frozen=True)
class Outlet:
    """How a client reaches the server; `pin` (SHA-256 of the DER certificate) is None without TLS.

    `tls_extra` is merged into the client's TLS settings, in that client's own words. The rest is Xray's alone:
    more settings of the account and the outbound, and what it takes to send the TLS connection through another outbound.
    """

    port: int
    uuid: str
    flow: str = ""
    pin: str | None = None
    sni: str = "localhost"
    tls_extra: Json = field(default_factory=dict)
    account: Json = field(default_factory=dict)
    outbounds_extra: tuple[Json, ...] = ()
    sockopt: Json = field(default_factory=dict)
    outbound: Json = field(default_factory=dict)
    forward: Forward | None = None
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Client:
    """A running client whose SOCKS5 inbound is at 127.0.0.1:`port`."""

    child: Child
    port: int


def start_client(kind: str, name: str, outlet: Outlet, folder: Path) -> Client:
    """Starts a client of `kind` (one of `CLIENTS`) and waits until its SOCKS5 port accepts."""
    port = free_port()
    start, configure = {"xray": (start_xray, _xray_config), "sing-box": (start_sing_box, _sing_box_config)}[kind]
    client = Client(start(name, configure(outlet, port), folder), port)
    client.child.wait_for_port(port)
    return client


def _xray_config(outlet: Outlet, port: int) -> Json:
    stream: Json = {"network": "raw", "security": "none"}
    if outlet.pin:
        tls = {"serverName": outlet.sni, "pinnedPeerCertSha256": outlet.pin}
        stream |= {"security": "tls", "tlsSettings": tls | outlet.tls_extra}
    if outlet.sockopt:
        stream["sockopt"] = outlet.sockopt
    user = {"id": outlet.uuid, "encryption": "none", "flow": outlet.flow} | outlet.account
    vless = {
        "protocol": "vless",
        "settings": {"vnext": [{"address": outlet.host, "port": outlet.port, "users": [user]}]},
        "streamSettings": stream,
    } | outlet.outbound
    inbound = {"listen": "127.0.0.1", "port": port, "protocol": "socks", "settings": {"udp": True, "ip": "127.0.0.1"}}
    inbounds = [inbound]
    if forward := outlet.forward:
        door = {"address": forward.host, "port": forward.target_port, "network": "udp"}
        inbounds.append(
            {"listen": "127.0.0.1", "port": forward.port, "protocol": "dokodemo-door", "settings": door}
        )
    return {"log": {"loglevel": "info"}, "inbounds": inbounds, "outbounds": [vless, *outlet.outbounds_extra]}


def _sing_box_config(outlet: Outlet, port: int) -> Json:
    vless: Json = {
        "type": "vless",
        "server": outlet.host,
        "server_port": outlet.port,
        "uuid": outlet.uuid,
        "flow": outlet.flow,
    }
    if outlet.pin:
        # It can pin a public key, not a certificate; what a link carries is the latter.
        vless["tls"] = {"enabled": True, "server_name": outlet.sni, "insecure": True} | outlet.tls_extra
    inbound = {"type": "socks", "listen": "127.0.0.1", "listen_port": port}
    inbounds = [inbound]
    if forward := outlet.forward:
        inbounds.append(
            {
                "type": "direct",
                "listen": "127.0.0.1",
                "listen_port": forward.port,
                "network": "udp",
                "override_address": forward.host,
                "override_port": forward.target_port,
            }
        )
    return {"log": {"level": "info"}, "inbounds": inbounds, "outbounds": [vless]}
