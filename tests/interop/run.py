"""Runs the interop suite: `python tests/interop/run.py [NAME..]`, all of it without a name.

In CI (`CI=true`) a skipped test is a failure. The last line is `interop: N passed, N failed, N skipped`.
"""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path


class CountingResult(unittest.TextTestResult):
    """Counts the tests that passed, which is not what is left of `testsRun` when a class could not be set up."""

    passed = 0

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.passed += 1
        super().addSuccess(test)


def main(names: list[str]) -> int:
    """Exit status: 0 if at least one test ran, none failed, and none was skipped in CI."""
    here = Path(__file__).parent
    sys.path[:0] = [str(here), str(here.parent / "support")]
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(names) if names else loader.discover(str(here), top_level_dir=str(here))
    result = unittest.TextTestRunner(verbosity=2, resultclass=CountingResult).run(suite)
    assert isinstance(result, CountingResult)
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    for test, reason in result.skipped:
        print(f"skipped: {test}: {reason}")
    print(f"interop: {result.passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not result.passed or (skipped and os.environ.get("CI") == "true") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
