"""What is watched of a server, whether it grows, and how that looks: CSV and SVG."""

from __future__ import annotations

import csv
import os
import statistics
import urllib.request
from dataclasses import asdict, dataclass, fields
from pathlib import Path

# The beginning is left out: memory comes to where it stays, and clients to what they keep.
WARM_UP = 1 / 3
WIDTH, HEIGHT, LEFT = 900, 110, 90


@dataclass(frozen=True)
class Sample:
    """One look at a server."""

    at_s: float
    resident_kib: float
    descriptors: float
    pipes: float
    pipes_held: float
    sessions: float
    targets: float
    buffers_kib: float
    waiting: float
    spares: float
    turn_mean_us: float
    cpu_s: float


# By how much the last third may be above the second: so many times, and so much.
MAY_GROW = {
    "resident_kib": (1.10, 2048),
    "descriptors": (1.25, 40),
    "pipes": (1.0, 16),
    "pipes_held": (1.0, 4),
    "sessions": (1.25, 20),
    "targets": (1.25, 20),
    "buffers_kib": (1.5, 1024),
    "waiting": (1.0, 1),
    "spares": (1.0, 20),
    "turn_mean_us": (2.0, 100),
}


class Watch:
    """Looks at one process again and again."""

    def __init__(self, name: str, pid: int, metrics_port: int) -> None:
        self.name, self.pid, self.port = name, pid, metrics_port
        self.samples: list[Sample] = []
        self._turns = (0.0, 0.0)

    def look(self, at_s: float) -> Sample:
        """Takes a sample; from inside the server's namespace."""
        metrics = self._metrics()
        links = []
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                links.append(os.readlink(f"/proc/{self.pid}/fd/{number}"))
            except FileNotFoundError:
                continue
        turns = (metrics["vless_worker_turn_seconds_sum"], metrics["vless_worker_turn_seconds_count"])
        spent, count = (now - before for now, before in zip(turns, self._turns, strict=True))
        self._turns = turns
        sample = Sample(
            at_s=round(at_s, 1),
            resident_kib=int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4,
            descriptors=len(links),
            pipes=sum(link.startswith("pipe:") for link in links),
            pipes_held=metrics["vless_pipes_held"],
            sessions=metrics["vless_sessions"],
            targets=metrics["vless_targets_connected"],
            buffers_kib=metrics["vless_buffers_held_bytes"] / 1024,
            waiting=metrics["vless_sessions_awaiting_buffer"],
            spares=metrics["vless_spares_idle"],
            turn_mean_us=round(spent / count * 1e6, 2) if count else 0.0,
            cpu_s=metrics["process_cpu_seconds_total"],
        )
        self.samples.append(sample)
        return sample

    def _metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs if "{" not in name}

    def growth(self) -> list[str]:
        """What has grown and should not have."""
        last = self.samples[-1].at_s
        second, third = (
            [s for s in self.samples if last * part <= s.at_s < last * (part + 1 / 3) + 0.1]
            for part in (WARM_UP, 2 / 3)
        )
        found = []
        for name, (times, more) in MAY_GROW.items():
            before, after = (statistics.median(getattr(s, name) for s in part) for part in (second, third))
            if after > before * times + more:
                found.append(f"{self.name}: {name} grew from {before:g} to {after:g}")
        return found

    def summary(self) -> str:
        """First, middle and last third of everything, by their medians."""
        last = self.samples[-1].at_s
        lines = []
        for name in MAY_GROW:
            thirds = []
            for part in range(3):
                inside = [s for s in self.samples if last * part / 3 <= s.at_s <= last * (part + 1) / 3]
                thirds.append(statistics.median(getattr(s, name) for s in inside))
            most = max(getattr(s, name) for s in self.samples)
            lines.append(f"  {name}: {thirds[0]:g}, {thirds[1]:g}, {thirds[2]:g}; most {most:g}")
        return f"{self.name}, medians of the three thirds:\n" + "\n".join(lines)


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
    panels = list(MAY_GROW)
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
