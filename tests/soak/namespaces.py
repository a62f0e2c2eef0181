"""Two network namespaces with the tests' wire between them, and threads that work inside of one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The address of the far end, where the servers and their targets are (tests/support/wire.rs).
FAR = "10.76.0.2"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Manners:
    """What the wire does to packets; shares are of a million."""

    delay_ms: int
    lost_ppm: int
    late_ppm: int
    late_ms: int
    reset_ppm: int
    seed: int


class Wire:
    """The wire; its namespaces are gone after `close`."""

    def __init__(self, program: Path, manners: Manners) -> None:
        numbers = [str(number) for number in vars(manners).values()]
        self._process = subprocess.Popen([program, *numbers], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        names = self._process.stdout.readline().split()
        if len(names) != 2:
            raise OSError("no wire: it needs root, `ip` and /dev/net/tun")
        self.near, self.far = names

    def close(self) -> None:
        """Takes it away."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets, threads and processes that are made meanwhile by this thread belong to `namespace`."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
