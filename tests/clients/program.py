"""The programs that `make clients` installs, each in an environment of its own, and how a test runs one.

A program runs as its users run it: unmodified, with nothing but its settings. It can reach this machine only:
an address elsewhere ends at a closed port.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.api.service import ROOT

HERE = Path(__file__).parent
SCRIPTS = HERE / "programs"
INSTALLED = ROOT / ".clients"
SYNC_ENGINE = "sync-engine"
RUN_SECONDS = 300
ENDING = 4000
"""Characters of a failed program's output to show."""
NODE_MAJOR_MIN = 20
NOWHERE = "http://127.0.0.1:9"


def needs(name: str) -> pytest.MarkDecorator:
    """Skips tests of a program that is not installed, or in another release than the one that is pinned."""
    wanted, installed = HERE / "requirements" / f"{name}.txt", INSTALLED / name / ".installed"
    if name == SYNC_ENGINE:
        wanted = HERE / name / "package-lock.json"
    is_here = installed.exists() and installed.read_text() == wanted.read_text()
    return pytest.mark.skipif(not is_here, reason=f"{name} is not here, or in another release: make clients")


def find_python(name: str) -> Path:
    """The interpreter of a program's environment."""
    return INSTALLED / name / "bin" / "python"


def find_node() -> str:
    """Node. Skips the test where it is missing or too old."""
    node = shutil.which("node")
    if node is None:
        pytest.skip(f"no Node here (Debian: apt-get install nodejs npm); {NODE_MAJOR_MIN} or newer is needed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        pytest.skip(f"Node {version} is here; {NODE_MAJOR_MIN} or newer is needed")
    return node


def build_environment(place: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a program: its home is `place`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "TMPDIR": str(place),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "https_proxy": NOWHERE,
        "no_proxy": "",
    } | dict(settings)


def run_program(
    command: Sequence[str | Path], place: Path, settings: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end in the folder `place`."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=place,
        env=build_environment(place, settings),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def run_to_success(command: Sequence[str | Path], place: Path, settings: Mapping[str, str]) -> str:
    """Run a program that must end with status 0, and return what it printed."""
    completed = run_program(command, place, settings)
    ending = completed.stdout[-ENDING:] + completed.stderr[-ENDING:]
    assert completed.returncode == 0, ending
    return completed.stdout
