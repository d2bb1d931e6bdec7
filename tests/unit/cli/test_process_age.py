"""The age counts from the start of the process, and is bounded."""

from __future__ import annotations

import subprocess
import sys

from doorward.cli.process_age import MAX_SECONDS, process_age

SCRIPT = "import time; time.sleep(0.4); from doorward.cli.process_age import process_age; print(process_age())"


def test_it_counts_what_came_before_the_import() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=20, check=True)
    assert 0.4 <= float(ran.stdout) <= MAX_SECONDS


def test_an_old_process_has_time_left() -> None:
    assert 0 <= process_age() <= MAX_SECONDS
