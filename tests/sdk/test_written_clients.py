"""The Python client lines of the README and of `ledger serve`, run as they stand against a real service: they
contact nothing but loopback.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.process import ServeProcess, run_serve

README = Path(__file__).resolve().parents[2] / "README.md"
RUN_SECONDS = 60
# Python imports a module of this name when it starts.
GUARD = """
import sys

def refuse_other_hosts(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", None):
        print("CONTACTED", host, file=sys.stderr)
        sys.stderr.flush()
        raise OSError(f"contacted {host}")

sys.addaudithook(refuse_other_hosts)
"""


@pytest.fixture(scope="module")
def service() -> Iterator[ServeProcess]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        place.chmod(0o755)
        (place / "guard").mkdir()
        (place / "guard" / "sitecustomize.py").write_text(GUARD)
        with run_serve(place / ".ledger") as running:
            yield running


def run_guarded(service: ServeProcess, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder of `.ledger`, with this environment's Python as `python3`."""
    place = service.data_dir.parent
    bin_dir = place / "bin"
    bin_dir.mkdir(exist_ok=True)
    python = bin_dir / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(place / "guard"),
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        command,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def test_the_readme_runs_as_it_stands_and_prints_what_it_shows(service: ServeProcess) -> None:
    section = re.search(r"```python\n(.*?)```\n\n((?:    [^\n]+\n)+)", README.read_text(), re.DOTALL)
    assert section is not None
    run = run_guarded(service, "python3", "-c", section[1])
    assert run.returncode == 0, run.stderr
    assert "CONTACTED" not in run.stderr
    shown = [line.strip() for line in section[2].splitlines()]

    def shape(lines: list[str]) -> list[str]:
        return [re.sub(r"\b(du|evt|req)_\w+", r"\1_", line) for line in lines]

    assert shape(run.stdout.splitlines()) == shape(shown)


def test_the_line_that_serve_prints_runs_as_it_stands(service: ServeProcess) -> None:
    line = re.search(r"python3 -c '.*?'\n", service.output, re.DOTALL)
    assert line is not None
    run = run_guarded(service, "sh", "-c", line[0])
    assert run.returncode == 0, run.stderr
    assert "CONTACTED" not in run.stderr
    assert '"object": "charge"' in run.stdout


def test_a_client_without_all_base_addresses_would_be_noticed(service: ServeProcess) -> None:
    upload = (
        "import io, stripe\n"
        f"client = stripe.StripeClient('sk_test_none', base_addresses={{'api': '{service.url}'}},"
        " max_network_retries=0)\n"
        "client.v1.files.create({'purpose': 'dispute_evidence', 'file': io.BytesIO(b'text')})\n"
    )
    run = run_guarded(service, "python3", "-c", upload)
    assert run.returncode != 0
    assert "CONTACTED files.stripe.com" in run.stderr
