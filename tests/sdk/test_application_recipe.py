"""The recipe of docs/testing.md as it stands: an application's tests start a service and end it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
RUN_SECONDS = 300


def test_the_recipe_runs_as_it_stands_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for name, code in re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)```", DOCUMENT.read_text(), re.M | re.S):
        (tmp_path / name).write_text(code)
    (tmp_path / "ledger").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ledger "$@"\n')
    (tmp_path / "ledger").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")} | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(DOCUMENT.parents[1]),
        "TMPDIR": "/tmp",
        "LEDGER_WORKERS": "0",  # one process starts sooner than two
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
