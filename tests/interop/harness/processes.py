"""Child processes with a log, a readiness check, a deadline for everything and a certain end.

A child never outlives the test run: it is killed by its own process id, at the latest by the kernel when the
test process dies (`setpriv --pdeathsig`).
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
TAIL_LINES = 40

_SETPRIV = shutil.which("setpriv")


class ChildFailed(Exception):
    """A child did not start, died, or did not do in time what it was waited for; the text ends with its log."""


class Child:
    """A running program whose output goes to `NAME.out` and `NAME.err` in `folder`."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path) -> None:
        self.name = name
        self.stdout_path = folder / f"{name}.out"
        self.stderr_path = folder / f"{name}.err"
        # The signal is sent when the starting thread ends, so children are started from the main thread only.
        leash = [_SETPRIV, "--pdeathsig", "KILL", "--"] if _SETPRIV else []
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self._process = subprocess.Popen(
                [*leash, *map(str, command)], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """Process id (`setpriv` replaces itself with the command, so this is the command's own)."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll()

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns once `condition` holds; raises if the child dies first or `timeout_s` passes."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.poll() is not None:
                raise ChildFailed(f"{self.name} exited with {self.poll()} before {what}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self.name}: {what} did not happen within {timeout_s} s\n{self.tail()}")
            time.sleep(0.01)

    def wait_for_port(self, port: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns once 127.0.0.1:`port` accepts a TCP connection."""
        self.wait_until(lambda: port_accepts(port), f"port {port} accepts", timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Exit status once it has ended by itself; raises `ChildFailed` after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"{self.name} still runs after {timeout_s} s\n{self.tail()}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to this process and no other."""
        self._process.send_signal(number)

    def stop(self) -> int:
        """TERM, then KILL if that takes more than `STOP_TIMEOUT_S`; the exit status."""
        if self.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()
        return self._process.returncode

    def kill(self) -> None:
        """Ends it at once; does nothing if it has ended already."""
        atexit.unregister(self.kill)
        if self.poll() is None:
            self._process.kill()
        self._process.wait()

    def stdout(self) -> str:
        """Everything written to standard output so far."""
        return self.stdout_path.read_text(errors="replace")

    def stderr(self) -> str:
        """Everything written to standard error so far."""
        return self.stderr_path.read_text(errors="replace")

    def tail(self) -> str:
        """The last lines of both outputs, for a failure message."""
        parts = []
        for label, text in (("stdout", self.stdout()), ("stderr", self.stderr())):
            if text:
                lines = text.splitlines()[-TAIL_LINES:]
                parts.append(f"--- {self.name} {label}, last {len(lines)} lines\n" + "\n".join(lines))
        return "\n".join(parts) or f"--- {self.name} wrote nothing"


def port_accepts(port: int) -> bool:
    """Whether 127.0.0.1:`port` accepts a TCP connection right now."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
