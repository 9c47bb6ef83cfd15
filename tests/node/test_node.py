"""Flows of contract §7 through the unchanged official Node client. Each test in a *.test.mjs file is one
test here.

Node's test runner runs once, against one service, and gives all results. The tests are skipped, with the
reason, where Node or the client (`npm ci` in this directory) is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from ledger.accounts import SCOPES
from tests.api.conftest import check_log
from tests.api.service import Registrar, Service
from tests.conftest import Cluster

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.test.mjs"))
NODE = shutil.which("node")
NODE_MAJOR_MIN = 20
RUN_SECONDS = 300

_NAME = re.compile(r"""^test\((?:'(.+?)'|"(.+?)"), """, re.MULTILINE)
NAMES = [
    (file.name.removesuffix(".test.mjs"), one or other)
    for file in FILES
    for one, other in _NAME.findall(file.read_text())
]


def find_missing_node() -> str:
    """Why tests with the Node client cannot run here; empty if they can."""
    if NODE is None:
        return f"no Node here (Debian: apt-get install nodejs npm); {NODE_MAJOR_MIN} or newer is needed"
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        return f"Node {version} is here; the official client needs {NODE_MAJOR_MIN} or newer"
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]["stripe"]
    installed = HERE / "node_modules" / "stripe" / "package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != pinned:
        return f"the official Node client {pinned} is not installed: npm ci --prefix tests/node"
    return ""


class Outcomes(NamedTuple):
    """The failure of each test by its name, empty if it passed; and the runner's whole output, for people."""

    failures: Mapping[str, str]
    output: str


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster) -> Iterator[Outcomes]:
    if missing := find_missing_node():
        pytest.skip(missing)
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        service = Service(
            dsn, Path(place), LEDGER_WEBHOOK_RETRY_SECONDS_TEST="1.1,60", LEDGER_WEBHOOK_POLL_MS="100"
        )
        registrar = Registrar(dsn)
        operator = registrar.key(registrar.account().id, "rk", scopes=SCOPES)[1]
        registrar.close()
        try:
            outcomes = _run({"LEDGER_URL": service.url, "LEDGER_OPERATOR_KEY": operator})
        finally:
            service.stop()
        yield outcomes
        check_log(service.log)


def _run(environment: Mapping[str, str]) -> Outcomes:
    assert NODE is not None
    run = subprocess.run(
        [
            NODE, "--test",
            "--test-reporter=junit", "--test-reporter-destination=stdout",
            "--test-reporter=spec", "--test-reporter-destination=stderr",
            *(file.name for file in FILES),
        ],
        cwd=HERE,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )  # fmt: skip
    assert run.stdout, run.stderr
    failures = {}
    for case in ElementTree.fromstring(run.stdout).iter("testcase"):
        output = [failure.text or failure.get("message") or "" for failure in case.findall("failure")]
        failures[case.attrib["name"]] = "\n".join(output).strip()
    return Outcomes(failures, run.stderr)


@pytest.mark.parametrize(("group", "name"), NAMES, ids=[f"{group}: {name}" for group, name in NAMES])
def test_node(outcomes: Outcomes, group: str, name: str) -> None:
    if name not in outcomes.failures:
        pytest.fail(f"{group}.test.mjs did not run it:\n{outcomes.output}", pytrace=False)
    if outcomes.failures[name]:
        pytest.fail(outcomes.failures[name], pytrace=False)


def test_every_node_test_is_reported(outcomes: Outcomes) -> None:
    assert sorted(outcomes.failures) == sorted(name for _, name in NAMES), outcomes.output


def test_the_lock_file_has_no_download_urls() -> None:
    lock = (HERE / "package-lock.json").read_text()
    assert "://" not in lock
    assert '"resolved"' not in lock
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert {f"node_modules/{name}" for name in pinned} == json.loads(lock)["packages"].keys() - {""}
