"""Reads a vless:// share link the way an importing client does."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass

_LINK = re.compile(r"vless://\S+")


@dataclass(frozen=True)
class Link:
    """The parts of a link; `parameters` are percent-decoded."""

    uuid: str
    host: str
    port: int
    parameters: dict[str, str]


def find_link(text: str) -> Link | None:
    """The first vless:// link in `text`, or None. A key that occurs twice is an error."""
    found = _LINK.search(text)
    if not found:
        return None
    parts = urllib.parse.urlsplit(found[0])
    # `+` stands for itself in these links, so this is not form decoding.
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    parameters = {key: urllib.parse.unquote(value) for key, _, value in pairs}
    if len(parameters) != len(pairs):
        raise ValueError(f"a key occurs twice: {parts.query}")
    if not (parts.username and parts.hostname and parts.port):
        raise ValueError(f"user, host or port is missing: {found[0]}")
    return Link(urllib.parse.unquote(parts.username), parts.hostname, parts.port, parameters)
