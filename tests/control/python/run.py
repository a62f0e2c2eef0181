"""Tries the monitoring interface of a real server with programs of others: `python tests/control/python/run.py [NAME..]`.

`VLESS_RUST` names the server's program (default: target/release/vless-rust).
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path


def main(names: list[str]) -> int:
    """Exit status 0 if at least one test ran and none failed."""
    here = str(Path(__file__).parent)
    sys.path[:0] = [here, str(Path(__file__).parents[2] / "support")]
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(names) if names else loader.discover(here, top_level_dir=here)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun > 0 and not result.skipped else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
