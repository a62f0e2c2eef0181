"""What is watched of a server, whether it grows, and how that looks: CSV and SVG."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import statistics
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

WIDTH, HEIGHT, LEFT = 900, 110, 90

# The beginning is left out: memory comes to where it stays, and clients to what they keep.
JUDGED_FROM = 1 / 2
# Of each window of the judged part the least value counts: what is there while the fewest are served. Whatever is not
# given back raises it, and how many happen to be served does not.
WINDOW_S = 30.0
WINDOWS_MIN = 6


@dataclass(frozen=True)
class Sample:
    """One look at a server."""

    at_s: float
    resident_kib: float
    descriptors: float
    udp: float
    pipes: float
    pipes_held: float
    sessions: float
    targets: float
    buffers_kib: float
    waiting: float
    spares: float
    accepted: float
    turn_mean_us: float
    cpu_s: float

    @property
    def unnamed(self) -> float:
        """Descriptors that are none of the things that come and go with sessions."""
        return self.descriptors - self.udp - self.pipes - self.sessions - self.targets - self.spares


# How fast the floor of each may rise, per thousand sessions. A kibibyte that is left after every session makes 1000
# KiB. Without it two servers on a busy machine had 270 and 420 in their first ten minutes, while the allocator still
# spreads. The others go up and down with what is under way, and are judged to the last one when everybody has gone.
PER_THOUSAND_MAX = {
    "resident_kib": 700,
    "unnamed": 30,
    "udp": 30,
    "pipes": 10,
    "pipes_held": 3,
    "sessions": 10,
    "targets": 10,
    "buffers_kib": 100,
    "waiting": 3,
    "spares": 10,
}
# Shown, and not judged: a machine may have other things to do.
SHOWN = (*PER_THOUSAND_MAX, "turn_mean_us")
# Fewer than this in the part that is judged say nothing.
SESSIONS_MIN = 500


def slope(points: list[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs (Theil and Sen), which a fifth of odd points does not change."""
    pairs = [(one, other) for one, other in itertools.combinations(points, 2) if other[0] > one[0]]
    return statistics.median((other[1] - one[1]) / (other[0] - one[0]) for one, other in pairs)


class Watch:
    """Looks at one process again and again."""

    def __init__(self, name: str, pid: int, metrics_port: int) -> None:
        self.name, self.pid, self.port = name, pid, metrics_port
        self.samples: list[Sample] = []
        self._turns = (0.0, 0.0)

    def look(self, at_s: float) -> Sample:
        """Takes a sample; from inside the server's namespace."""
        metrics = self._metrics()
        links = self._links()
        udp = {f"socket:[{line.split()[9]}]" for name in ("udp", "udp6") for line in self._net(name)}
        turns = (metrics["vless_worker_turn_seconds_sum"], metrics["vless_worker_turn_seconds_count"])
        spent, count = (now - before for now, before in zip(turns, self._turns, strict=True))
        self._turns = turns
        sample = Sample(
            at_s=round(at_s, 1),
            resident_kib=int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4,
            descriptors=len(links),
            udp=sum(link in udp for link in links),
            pipes=sum(link.startswith("pipe:") for link in links),
            pipes_held=metrics["vless_pipes_held"],
            sessions=metrics["vless_sessions"],
            targets=metrics["vless_targets_connected"],
            buffers_kib=metrics["vless_buffers_held_bytes"] / 1024,
            waiting=metrics["vless_sessions_awaiting_buffer"],
            spares=metrics["vless_spares_idle"],
            accepted=metrics["vless_sessions_opened_total"],
            turn_mean_us=round(spent / count * 1e6, 2) if count else 0.0,
            cpu_s=metrics["process_cpu_seconds_total"],
        )
        self.samples.append(sample)
        return sample

    def kinds(self) -> Counter[str]:
        """How many descriptors there are of each kind; of a TCP socket, with its state as the kernel numbers it."""
        sockets = {line.split()[9]: name for name in ("udp", "udp6") for line in self._net(name)}
        for name in ("tcp", "tcp6"):
            sockets |= {words[9]: f"{name}, state {words[3]}" for words in map(str.split, self._net(name))}
        sockets |= {line.split()[6]: "unix" for line in self._net("unix")}
        sockets |= {words[9]: f"netlink, protocol {words[1]}" for words in map(str.split, self._net("netlink"))}
        return Counter(_kind(link, sockets) for link in self._links())

    def _links(self) -> list[str]:
        links = []
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{self.pid}/fd/{number}"))
        return links

    def _net(self, name: str) -> list[str]:
        return Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]

    def _metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs if "{" not in name}

    def floors(self, name: str) -> list[tuple[float, float]]:
        """The least value of each window of the part that is judged, with the thousands of sessions until then."""
        windows: dict[int, list[Sample]] = {}
        begin = self.samples[-1].at_s * JUDGED_FROM
        for sample in self.samples:
            if sample.at_s >= begin:
                windows.setdefault(int((sample.at_s - begin) / WINDOW_S), []).append(sample)
        return [
            (samples[-1].accepted / 1000, min(getattr(sample, name) for sample in samples))
            for _, samples in sorted(windows.items())
        ]

    def growth(self) -> list[str]:
        """What grows and should not."""
        floors = self.floors("sessions")
        sessions = (floors[-1][0] - floors[0][0]) * 1000
        if len(floors) < WINDOWS_MIN or sessions < SESSIONS_MIN:
            return [f"{self.name}: {len(floors)} windows with {sessions:.0f} sessions are too few for a trend"]
        slopes = {name: slope(self.floors(name)) for name in PER_THOUSAND_MAX}
        return [
            f"{self.name}: {name} grows by {slopes[name]:.2f} per thousand sessions, more than {most:g}"
            for name, most in PER_THOUSAND_MAX.items()
            if slopes[name] > most
        ]

    def summary(self) -> str:
        """Each figure: its floor at the beginning and at the end of the part that is judged, and its slope."""
        per_hour = self.samples[-1].accepted / self.samples[-1].at_s * 3600
        lines = [f"{self.name}: {self.samples[-1].accepted:.0f} sessions, {per_hour:.0f} per hour"]
        for name in SHOWN:
            floors = self.floors(name)
            most = max(getattr(s, name) for s in self.samples)
            rise = slope(floors) if len(floors) > 1 else 0.0
            lines.append(
                f"  {name}: floor {floors[0][1]:g} to {floors[-1][1]:g}, {rise:+.2f} per thousand sessions, "
                f"{rise * per_hour / 1000:+.1f} per hour; most {most:g}"
            )
        return "\n".join(lines)


def _kind(link: str, sockets: dict[str, str]) -> str:
    """What a descriptor is, by where its link in /proc leads."""
    name, _, number = link.partition(":[")
    if name == "socket":
        return sockets.get(number[:-1], "socket of no table")
    return "pipe" if name == "pipe" else link


def write_csv(path: Path, watches: list[Watch]) -> None:
    """All samples of all servers."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["server", *(field.name for field in fields(Sample))])
        writer.writeheader()
        for watch in watches:
            writer.writerows({"server": watch.name} | asdict(sample) for sample in watch.samples)


def write_svg(path: Path, watches: list[Watch], title: str) -> None:
    """A panel for each figure, with a line for each server."""
    colours = ("#1f6feb", "#d1242f")
    panels = list(SHOWN)
    height = 40 + len(panels) * (HEIGHT + 24)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="10" y="18" font-size="13">{title}</text>'
    ]
    for number, watch in enumerate(watches):
        parts.append(f'<text x="{WIDTH - 160 + number * 80}" y="18" fill="{colours[number % 2]}">{watch.name}</text>')
    end = max(watch.samples[-1].at_s for watch in watches)
    for index, name in enumerate(panels):
        top = 40 + index * (HEIGHT + 24)
        most = max(getattr(s, name) for watch in watches for s in watch.samples) or 1
        parts.append(
            f'<text x="10" y="{top + 12}">{name}</text><text x="10" y="{top + 28}">{most:g}</text>'
            f'<text x="10" y="{top + HEIGHT}">0</text><path d="M{LEFT} {top}V{top + HEIGHT}H{WIDTH - 10}" '
            f'fill="none" stroke="#999"/>'
        )
        for number, watch in enumerate(watches):
            points = " ".join(
                f"{LEFT + s.at_s / end * (WIDTH - LEFT - 10):.1f},{top + HEIGHT * (1 - getattr(s, name) / most):.1f}"
                for s in watch.samples
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[number % 2]}"/>')
    parts.append(f'<text x="{WIDTH - 110}" y="{height - 4}">{end / 60:.0f} minutes</text></svg>')
    path.write_text("\n".join(parts))
