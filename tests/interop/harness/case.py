"""The base of every test case: a folder, a watchdog, children that end, logs in the failure message."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

from .clients import Client, Outlet, start_client
from .origins import Manner, Origin
from .processes import Child
from .servers import Server, ServerSpec, start_server

# A test that takes longer hangs: the run ends with the stacks of all threads.
WATCHDOG_S = 120

GOOD_UUID = "5783a3e7-e373-51cd-8642-c83782b807c5"
WRONG_UUID = "5783a3e7-e373-51cd-8642-c83782b807c6"


@contextlib.contextmanager
def noted(what: str) -> Iterator[None]:
    """Adds `what` to the text of an exception that passes: a subtest that ends the test."""
    try:
        yield
    except Exception as error:
        error.add_note(f"during {what}")
        raise


class InteropCase(unittest.TestCase):
    """Starts things for a whole class with the class methods below; all of it ends with the class."""

    folder: Path
    children: list[Child]
    numbers: Iterator[int]

    @classmethod
    def setUpClass(cls) -> None:
        cls.children = []
        cls.numbers = itertools.count(1)
        temporary = tempfile.TemporaryDirectory(prefix="interop-")
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)

    @classmethod
    def keep(cls, child: Child) -> Child:
        """Has `child` killed after the class, and its log shown when a test fails."""
        cls.children.append(child)
        cls.addClassCleanup(child.kill)
        return child

    @classmethod
    def drop(cls, child: Child) -> None:
        """Kills `child` now; later failures have nothing to do with it."""
        child.kill()
        cls.children.remove(child)

    @classmethod
    def server(cls, spec: ServerSpec) -> Server:
        """A server that lives until the class ends."""
        started = start_server(f"server{next(cls.numbers)}", spec, cls.folder)
        cls.keep(started.child)
        return started

    @classmethod
    def client(cls, kind: str, outlet: Outlet) -> Client:
        """A client that lives until the class ends."""
        started = start_client(kind, f"{kind}{next(cls.numbers)}", outlet, cls.folder)
        cls.keep(started.child)
        return started

    @classmethod
    def origin(cls, manner: Manner, host: str = "127.0.0.1") -> Origin:
        """An origin that lives until the class ends."""
        started = Origin(manner, host)
        cls.addClassCleanup(started.stop)
        return started

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Runs the test under the watchdog; a failure's text ends with the logs of the class's children."""
        faulthandler.dump_traceback_later(WATCHDOG_S, exit=True)
        known = [] if result is None else [len(result.errors), len(result.failures)]
        try:
            return super().run(result)
        finally:
            faulthandler.cancel_dump_traceback_later()
            if result is not None:
                for entries, count in zip((result.errors, result.failures), known, strict=True):
                    self._append_logs(entries[count:], entries)

    def _append_logs(self, fresh: list[tuple[unittest.TestCase, str]], entries: list) -> None:
        if fresh:
            test, text = fresh[-1]
            entries[-1] = (test, "\n".join([text, *(child.tail() for child in self.children)]))
