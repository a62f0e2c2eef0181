"""A monitoring script as an operator would write it, with the standard library alone: `python monitor.py URL [TOKEN]`."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

ENDPOINTS = [
    "/api/stats",
    "/api/user-stats",
    "/api/speed-history",
    "/api/config",
    "/api/performance",
    "/api/connection-pool-stats",
    "/api/memory-pool-stats",
    "/api/connections",
    "/api/history",
    "/api/events",
    "/api/users",
    "/api/session",
]


def get(url: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
    """Status, fields and body."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def read_all(url: str, token: str | None) -> dict[str, object]:
    """The body of every endpoint."""
    bodies = {}
    for path in ENDPOINTS:
        status, fields, body = get(url + path, token)
        if status != 200 or fields["Content-Type"] != "application/json":
            raise SystemExit(f"{path}: {status} {body!r}")
        bodies[path] = json.loads(body)
    return bodies


def report(stats: dict) -> str:
    """One line for a person; every figure is a number of the answer."""
    mib = 1 << 20
    return (
        f"{stats['state']}: {stats['active_connections']}/{stats['max_connections']} sessions, "
        f"{stats['users_online']} users online, up {stats['upload_bps'] / mib:.1f} MiB/s, "
        f"down {stats['download_bps'] / mib:.1f} MiB/s, {stats['memory_bytes'] / mib:.1f} MiB, "
        f"{sum(stats['rejected'].values())} rejected, {len(stats['alerts'])} alerts"
    )


if __name__ == "__main__":
    print(report(read_all(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)["/api/stats"]))
