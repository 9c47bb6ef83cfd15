"""The units of systemd, read by `systemd-analyze`, and what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.settings import KNOWN
from tests.serving.process import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
RUNNING = [unit for unit in UNITS if "migrate" not in unit.name]
INSTALLED = "/opt/ledger/bin/ledger"
EXPOSURE_MAX = 20  # of 100; a service without any of these rules has 96

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="no systemd-analyze here (Debian: apt-get install systemd)",
)


def read_service(unit: Path) -> dict[str, str]:
    """The options of a unit's section `Service`; the last one of several of a name."""
    section = unit.read_text().partition("\n[Service]\n")[2].partition("\n[")[0]
    return dict(re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE))


def place_units(place: Path) -> list[str]:
    """Copies of the units that run a program which is here, each with an instance if it is a template."""
    executable = place / "ledger"
    executable.write_text(f"#!{sys.executable}\n")
    executable.chmod(0o755)
    names = []
    for unit in UNITS:
        (place / unit.name).write_text(unit.read_text().replace(INSTALLED, str(executable)))
        names.append(unit.name.replace("@.", "@4242."))
    return [str(place / name) for name in names]


@needs_systemd
def test_systemd_reads_the_units_without_a_complaint(tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *place_units(tmp_path)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@needs_systemd
def test_the_units_leave_little_of_the_machine_open(tmp_path: Path) -> None:
    for unit in place_units(tmp_path):
        judged = subprocess.run(
            [
                "systemd-analyze",
                "security",
                "--offline=yes",
                f"--threshold={EXPOSURE_MAX}",
                "--no-pager",
                unit,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr


def test_each_unit_runs_a_command_of_its_name() -> None:
    commands = {unit.name: read_service(unit)["ExecStart"] for unit in UNITS}
    assert commands == {
        "ledger-api@.service": f"{INSTALLED} api",
        "ledger-feed-publisher@.service": f"{INSTALLED} feed publish",
        "ledger-migrate.service": f"{INSTALLED} migrate",
        "ledger-worker@.service": f"{INSTALLED} worker",
        "ledger.service": f"{INSTALLED} serve",
    }


@pytest.mark.parametrize("unit", RUNNING, ids=[unit.name for unit in RUNNING])
def test_a_unit_starts_again_and_stops_its_processes_in_order(unit: Path) -> None:
    service = read_service(unit)
    assert (service["Restart"], service["KillMode"]) == ("always", "mixed")
    drain = re.search(r"^LEDGER_DRAIN_SECONDS=(\d+)$", (FOLDER / "ledger.env").read_text(), re.MULTILINE)
    assert drain is not None
    assert int(service["TimeoutStopSec"].removesuffix("s")) >= int(drain[1]) + 10


def test_files_of_settings_name_settings_and_hold_no_secret() -> None:
    for file in FOLDER.glob("*.env"):
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        settings = dict(line.split("=", 1) for line in lines)
        assert settings.keys() <= KNOWN
        if "example" in file.name:
            assert set(settings.values()) == {""}
    for unit in UNITS:
        text = unit.read_text()
        assert set(re.findall(r"LEDGER_[A-Z_]+[A-Z]", text)) <= KNOWN
        assert "SECRET" not in text
