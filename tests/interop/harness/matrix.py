"""Which clients, outer layers and flows the relay cases run with."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from dataclasses import dataclass

from .clients import CLIENTS

OUTERS = ("tls", "plain")
FLOWS = ("", "xtls-rprx-vision")


@dataclass(frozen=True)
class Combination:
    """One way from a client to the server."""

    client: str
    outer: str
    flow: str

    def title(self) -> str:
        """A name such as `SingBoxTlsNoFlow`."""
        words = f"{self.client} {self.outer} {self.flow or 'no-flow'}"
        return words.replace("-", " ").title().replace(" ", "")


def combinations() -> Iterator[Combination]:
    """Every combination that the protocol allows: a flow needs TLS underneath."""
    for client in CLIENTS:
        for outer in OUTERS:
            for flow in FLOWS:
                if outer == "tls" or not flow:
                    yield Combination(client, outer, flow)


def spread(cases: type[unittest.TestCase]) -> dict[str, type[unittest.TestCase]]:
    """One subclass of `cases` per combination, with the attribute `way`; for the module to take as its own."""
    made = {}
    for way in combinations():
        name = f"{cases.__name__}{way.title()}"
        made[name] = type(name, (cases,), {"way": way, "__module__": cases.__module__})
    return made
