"""The official Python client's own unmodified tests against the service. Each is one test here.

They come with its source distribution (`make clients` fetches it). They find the server by STRIPE_MOCK_HOST
and STRIPE_MOCK_PORT and use one key and objects with fixed ids, which `ledger import` creates from
seed.ndjson.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.api.conftest import check_log
from tests.api.service import ROOT, SERVICE_KEY, Registrar, Service
from tests.conftest import Cluster
from tests.sdk.selection import Selection, select

HERE = Path(__file__).parent
PINNED = re.findall(r"^(stripe==\S+) --hash=", (HERE / "requirements.txt").read_text(), re.MULTILINE)
SUITE = ROOT / ".clients" / PINNED[0].replace("==", "-")
KEY = "sk_test_123"  # the key that the suite uses
RUN_SECONDS = 300

SELECTION = select(SUITE) if SUITE.exists() else Selection([], {})


@pytest.fixture(scope="module")
def seeded(cluster: Cluster) -> Iterator[str]:
    """The name of a template database with the objects and the key that the suite uses."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        registrar = Registrar(dsn)
        key_id, _ = registrar.key(registrar.account().id)
        registrar.close()
        with psycopg.connect(dsn) as conn:
            digest = hashlib.sha256(KEY.encode()).digest()
            conn.execute("UPDATE ledger.api_keys SET hash = %s WHERE id = %s", (digest, key_id))
        process = subprocess.run(
            [sys.executable, "-m", "ledger", "import", str(HERE / "seed.ndjson")],
            cwd=ROOT,
            env=os.environ
            | {"LEDGER_DATABASE_URL": dsn, "LEDGER_SECRET_KEY": SERVICE_KEY, "LEDGER_DATA_DIR": place},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        yield str(conninfo_to_dict(dsn)["dbname"])


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster, seeded: str) -> Iterator[Mapping[str, str]]:
    """The failure of each test by its name, empty if it passed."""
    outcomes: dict[str, str] = {}
    with ExitStack() as stack:
        for tests in SELECTION.rounds:
            dsn = stack.enter_context(cluster.create_database(template=seeded))
            service = Service(dsn, Path(stack.enter_context(TemporaryDirectory())))
            try:
                outcomes |= _run(service, tests)
            finally:
                service.stop()
            check_log(service.log)
        yield outcomes


def _run(service: Service, tests: Sequence[str]) -> dict[str, str]:
    with TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        run = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "no:cacheprovider",
                "-o", "addopts=", "-o", "junit_family=xunit1", f"--junit-xml={report}",
                "-k", "not trio", *tests,
            ],
            cwd=SUITE,
            env=os.environ
            | {"STRIPE_MOCK_HOST": "127.0.0.1", "STRIPE_MOCK_PORT": str(service.port), "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )  # fmt: skip
        assert report.exists(), run.stdout + run.stderr
        cases = list(ElementTree.parse(report).iter("testcase"))
    assert cases, run.stdout + run.stderr
    outcomes = {}
    for case in cases:
        group = case.attrib["classname"].rpartition(".")[2]
        name = f"{case.attrib['file']}::{group}::{case.attrib['name'].partition('[')[0]}"
        outcomes[name] = "\n".join(failure.text or "?" for failure in case)
    return outcomes


@pytest.mark.skipif(not SUITE.exists(), reason=f"the tests of {PINNED[0]} are not here: make clients")
@pytest.mark.parametrize("name", [name for tests in SELECTION.rounds for name in tests])
def test_of_the_client(outcomes: Mapping[str, str], name: str) -> None:
    assert name in outcomes, f"it was not run: {sorted(outcomes)}"
    if outcomes[name]:
        pytest.fail(outcomes[name], pytrace=False)


def test_it_is_the_suite_of_the_pinned_client() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert PINNED[0] in project["optional-dependencies"]["test"]
