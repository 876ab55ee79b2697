"""``make test`` runs every stage, lists which failed, and leaves no processes behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil

from tests.leftovers import RUN_VARIABLE
from tests.waiting import TEST_TIMEOUT

ROOT = Path(__file__).parent.parent.parent
MAKEFILE = """
good:
\t@echo fine
bad:
\t@echo wrong; sh -c 'sleep 1000 & echo started $$!'; exit 3
last:
\t@echo more
"""


def test_all_stages_run_and_failures_are_listed_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "AVATAR_TEST_PATIENCE": "0.01"}
    environment.pop(RUN_VARIABLE, None)  # otherwise this run would end what is left there
    done = subprocess.run(
        [sys.executable, "-m", "tests.stages", "good", "bad", "--beside", "last"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TEST_TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    table = done.stdout[done.stdout.index(" stage ") :]
    assert re.findall(r"^ (\w+) +(passed|FAILED)", table, re.M) == [
        ("good", "passed"),
        ("bad", "FAILED"),
        ("last", "passed"),
    ]
    assert "build/test/bad.log" in table
    assert "==== last\nmore\n" in done.stdout
    log = (tmp_path / "build" / "test" / "bad.log").read_text()
    assert "wrong" in log
    started = int(re.findall(r"started (\d+)", log)[0])
    assert f"{started}: sleep 1000" in log
    assert not psutil.pid_exists(started) or psutil.Process(started).status() == psutil.STATUS_ZOMBIE
