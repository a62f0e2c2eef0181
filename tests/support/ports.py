"""Ports for programs that a test starts, and ports that nobody listens on."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from pathlib import Path

# What is below is often taken by services of the machine.
LOWEST = 10_000
# Less room than this does not keep test programs that run side by side apart.
FEWEST = 1_000

_given = itertools.count()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody uses, and that no other call in this process returns.

    A port that the kernel chose once it may choose again, for any connection that goes out. It chooses from one range
    only, so a port outside of it stays free until its use.
    """
    room = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - LOWEST
    if room < FEWEST:
        return _bound(0, kind)
    # Processes with ids next to each other begin far from each other; 7919 is a prime number.
    first = os.getpid() * 7919
    for _ in range(room):
        with contextlib.suppress(OSError):
            return _bound(LOWEST + (first + next(_given)) % room, kind)
    raise OSError("no port is free")


def _bound(port: int, kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
        probe.bind(("127.0.0.1", port))
        return probe.getsockname()[1]
