"""Real clients over a bad wire for a long time: nothing may be lost, and nothing may grow.

`target/venv/bin/python tests/soak/run.py --seconds 600`, as root. Xray-core and sing-box reach two of our servers, one
with TLS and one without, over the wire in user space, which delays, loses, reorders and resets. Meanwhile the
configuration is reloaded and users come and go. It fails when bytes are wrong, when memory, descriptors, pipes or
gauges grow, or when something is left in the end. The samples are in `target/soak/` as CSV and as a picture.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests/interop"), str(ROOT / "tests/support")]

from harness import origins  # noqa: E402
from harness.certificates import Certificate, make_certificate  # noqa: E402
from harness.clients import Outlet, start_client  # noqa: E402
from harness.processes import Child  # noqa: E402
from harness.programs import Json, start_vless_rust, vless_rust_path  # noqa: E402
from load import Load, Targets, acts_of_stranger, acts_of_user  # noqa: E402
from namespaces import FAR, Manners, Wire, inside  # noqa: E402
from test_udp import Echo  # noqa: E402
from trend import Watch, write_csv, write_svg  # noqa: E402

VISION, PLAIN = "5783a3e7-e373-51cd-8642-c83782b807c5", "6783a3e7-e373-51cd-8642-c83782b807c5"
TLS_PORT, PLAIN_PORT = 8443, 8444
SAMPLE_S, CHANGE_S = 5.0, 15.0
WORKERS = 2
# Longer than anything of a session that is over may stay: sockets with a Global ID have two minutes.
EMPTY_S = 180.0
# Descriptors that each worker opens when it needs them for the first time, and keeps: a copy of that of its epoll with
# its first UDP socket, and the socket by which it asks the kernel what of a connection is not acknowledged
# (NETLINK_SOCK_DIAG). It keeps eight empty pipes, too (`src/io/splice.rs`).
KEPT = Counter({"anon_inode:[eventpoll]": WORKERS, "netlink, protocol 4": WORKERS, "pipe": WORKERS * 8 * 2})
PAGE = b"<!doctype html><title>Welcome</title><p>Nothing to see here.</p>\n" * 40
MANNERS = Manners(delay_ms=10, lost_ppm=2000, late_ppm=5000, late_ms=15, reset_ppm=60, seed=14)


class Served:
    """One of our servers in the far namespace, whose configuration and users change."""

    def __init__(self, name: str, folder: Path, port: int, certificate: Certificate | None) -> None:
        self.name, self.folder, self.round = name, folder / name, 0
        self.folder.mkdir()
        (self.folder / "page.html").write_bytes(PAGE)
        self.port, self.certificate = port, certificate
        self.metrics_port = port + 1000
        self.child: Child = start_vless_rust(name, self.config(), self.folder)
        self.file = self.folder / f"{name}.json"
        self.child.wait_until(lambda: _accepts(FAR, port), "it accepts")
        self.child.wait_until(lambda: _accepts("127.0.0.1", self.metrics_port), "its metrics can be read")

    def config(self) -> Json:
        """The configuration of this round; it is another one in the next."""
        vision = "xtls-rprx-vision" if self.certificate else ""
        config: Json = {
            "server": {"listen": FAR, "port": self.port, "workers": WORKERS},
            "users": [
                {"uuid": VISION, "email": "vision", "flow": vision},
                {"uuid": PLAIN, "email": "plain", "flow": ""},
            ],
            "monitoring": {"port": self.metrics_port},
            "outbound": {"allow": ["127.0.0.0/8"]},
            "limits": {"handshakes_per_source_max": 0, "sessions_per_user_max": 1000 + self.round % 2},
            "timeouts": {"idle": 20 + self.round % 3, "half_close": 10, "write_stall": 15, "drain": 1},
            "performance": {"udp_timeout": 20, "splice": True},
            "fallbacks": [{"dest": "builtin", "root": "page.html"}],
        }
        if self.certificate:
            files = {"cert_file": self.certificate.cert_path, "key_file": self.certificate.key_path}
            config["tls"] = {"enabled": True, "alpn": ["http/1.1"]} | {key: str(path) for key, path in files.items()}
        return config

    def change(self) -> None:
        """Another configuration, and another user."""
        self.round += 1
        self.file.write_text(json.dumps(self.config()))
        self.child.send_signal(signal.SIGHUP)
        self._user("add", f"guest-{self.round}", "--quota", "1GB")
        if self.round > 5:
            self._user("remove", f"guest-{self.round - 5}")

    def _user(self, *arguments: str) -> None:
        command = [vless_rust_path(), "user", *arguments, "-c", self.file]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=self.folder)


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def start_load(wire: Wire, folder: Path, certificate: Certificate, targets: Targets, pause_s: float) -> Load:
    """The clients in the near namespace, and who uses them."""
    pin, load = certificate.sha256_hex(), Load(pause_s)
    mux = {"mux": {"enabled": True, "concurrency": 8, "xudpConcurrency": 16}}
    vision = "xtls-rprx-vision"
    outlets = [
        ("xray", "xray-vision", Outlet(TLS_PORT, VISION, vision, pin, host=FAR)),
        ("xray", "xray-mux", Outlet(TLS_PORT, PLAIN, "", pin, outbound=mux, host=FAR)),
        ("xray", "xray-plain", Outlet(PLAIN_PORT, VISION, "", host=FAR)),
        ("sing-box", "sing-box-vision", Outlet(TLS_PORT, VISION, vision, pin, host=FAR)),
        ("sing-box", "sing-box-plain", Outlet(PLAIN_PORT, PLAIN, "", host=FAR)),
    ]
    with inside(wire.near):
        for number, (kind, name, outlet) in enumerate(outlets):
            client = start_client(kind, name, outlet, folder)
            for thread in range(2):
                load.add(name, 10 * number + thread, acts_of_user(client.port, targets))
        page = hashlib.sha256(PAGE).hexdigest()
        for thread in range(2):
            load.add("stranger", 1000 + thread, acts_of_stranger(TLS_PORT, PLAIN_PORT, page))
    return load


def watch(wire: Wire, served: list[Served], watches: list[Watch], seconds: float) -> None:
    """Looks and changes until the time is over."""
    begin = time.monotonic()
    next_change = begin + CHANGE_S
    with inside(wire.far):
        while (passed := time.monotonic() - begin) < seconds:
            for one in watches:
                one.look(passed)
            if time.monotonic() > next_change:
                next_change += CHANGE_S
                random.choice(served).change()
            time.sleep(SAMPLE_S)


def left_behind(wire: Wire, watches: list[Watch], before: dict[str, Counter[str]], at_s: float) -> list[str]:
    """What is still there after everybody has gone and had time to."""
    found: list[str] = []
    deadline = time.monotonic() + EMPTY_S
    with inside(wire.far):
        while time.monotonic() < deadline:
            found = []
            for one in watches:
                end = one.look(at_s)
                one.samples.pop()
                gauges = ("sessions", "targets", "udp", "buffers_kib", "waiting", "pipes_held")
                for name in gauges:
                    if value := getattr(end, name):
                        found.append(f"{one.name}: {name} is {value:g} in the end")
                spares = Counter({"tcp, state 01": int(end.spares)})
                more = one.kinds() - before[one.name] - KEPT - spares
                found += [f"{one.name}: {count} more in the end than before: {kind}" for kind, count in more.items()]
            if not found:
                break
            time.sleep(SAMPLE_S)
    return found


def soak(seconds: float, pause_s: float, out: Path) -> list[str]:
    """Runs it, writes what was seen, and returns what is wrong."""
    with tempfile.TemporaryDirectory(prefix="soak-") as text:
        folder = Path(text)
        wire = Wire(ROOT / "target/debug/examples/wire", MANNERS)
        try:
            certificate = make_certificate(folder, "localhost")
            with inside(wire.far):
                served = [
                    Served("tls", folder, TLS_PORT, certificate),
                    Served("plain", folder, PLAIN_PORT, None),
                ]
                manners = (origins.http_manner, origins.echo_manner)
                http, echo = (origins.Origin(manner) for manner in manners)
                targets = Targets(http.port, echo.port, Echo().port)
                watches = [Watch(one.name, one.child.pid, one.metrics_port) for one in served]
                before = {one.name: one.kinds() for one in watches}
            load = start_load(wire, folder, certificate, targets, pause_s)
            watch(wire, served, watches, seconds)
            load.stop()
            wrong = [*load.wrong, *left_behind(wire, watches, before, seconds)]
            wrong += [f"{one.name} ended:\n{one.child.tail()}" for one in served if one.child.poll() is not None]
        finally:
            wire.close()
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "soak.csv", watches)
    write_svg(out / "soak.svg", watches, f"{seconds / 60:.0f} minutes of mixed traffic over a bad wire")
    report(load, served, watches, seconds)
    return wrong + [fault for one in watches for fault in one.growth()]


def report(load: Load, served: list[Served], watches: list[Watch], seconds: float) -> None:
    """Says what was done and seen."""
    print(f"{seconds:.0f} s: {sum(load.done.values())} things done, {sum(load.broken.values())} broken by the wire, "
          f"{load.bytes >> 20} MiB of payload, {sum(one.round for one in served)} reloads with user changes")
    for name in sorted(load.done | load.broken):
        print(f"  {name}: {load.done[name]} done, {load.broken[name]} broken")
    for one in watches:
        print(one.summary())
        print(f"  CPU: {one.samples[-1].cpu_s - one.samples[0].cpu_s:.1f} s")


def main() -> int:
    """Exit status: 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two things that one thread does")
    parser.add_argument("--out", type=Path, default=ROOT / "target/soak")
    arguments = parser.parse_args()
    wrong = soak(arguments.seconds, arguments.pause, arguments.out)
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"soak: {'failed' if wrong else 'passed'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
