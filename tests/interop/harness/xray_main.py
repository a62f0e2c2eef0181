"""Runs Xray-core, which is a Python module and not a program: `python xray_main.py CONFIG.json`.

It needs a process of its own: the call below never comes back, and the module can be neither stopped nor
started twice. It ignores SIGTERM, so the parent kills it.
"""

import sys
from pathlib import Path

import xray

xray.startFromJSON(Path(sys.argv[1]).read_text())
