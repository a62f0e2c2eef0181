"""Deterministic bodies of any size that are never held in memory as a whole."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

CHUNK_BYTES = 1 << 16


def chunks(seed: str, size: int) -> Iterator[bytes]:
    """The body of `size` bytes that belongs to `seed`; no two chunks of it are alike, so order matters."""
    for index, offset in enumerate(range(0, size, CHUNK_BYTES)):
        length = min(CHUNK_BYTES, size - offset)
        yield hashlib.shake_128(f"{seed}/{index}".encode()).digest(length)


@functools.lru_cache(maxsize=256)
def sha256_of(seed: str, size: int) -> str:
    """Hex SHA-256 of that body."""
    total = hashlib.sha256()
    for chunk in chunks(seed, size):
        total.update(chunk)
    return total.hexdigest()
