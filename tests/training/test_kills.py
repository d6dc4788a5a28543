"""Work that is killed at any of its file events, before, after or halfway, is resumed bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the harness forks, and looks at /proc")
@pytest.mark.parametrize(("work", "least"), [("train", 60), ("search", 100), ("study", 60)])
def test_a_kill_at_any_file_event_changes_nothing(tmp_path, work, least):
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("kills_for_tests.py")), work, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert int(ended.stdout.split()[-2]) >= least  # "N events": the harness saw what the work does
