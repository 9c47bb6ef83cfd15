"""Redaction jobs through the pre-release Python client, unmodified (contract §2.15). Each flow of
programs/redaction_flows.py is one test here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.api.service import Registrar, Service
from tests.clients.program import SCRIPTS, find_python, needs, run_to_success

RELEASE = "16.1.0b1"
SCRIPT = SCRIPTS / "redaction_flows.py"
FLOWS = re.findall(r"^(?:async )?def (flow_\w+)\(", SCRIPT.read_text(), re.M)
# Methods of the classes that have to do with redaction jobs, and the sources that call them.
METHODS = re.compile(r"(?:async )?def (\w+)\(")

pytestmark = needs(f"stripe-{RELEASE}")


@pytest.fixture(scope="module")
def outcomes(
    service: Service, registrar: Registrar, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str]:
    """The failure of each flow by its name, empty if it passed."""
    place: Path = tmp_path_factory.mktemp("flows")
    settings = {"STRIPE_KEY": registrar.account().secret, "STRIPE_BASE": service.url}
    run_to_success([find_python(f"stripe-{RELEASE}"), SCRIPT, place / "results.json"], place, settings)
    results = json.loads((place / "results.json").read_text())
    assert results["version"] == RELEASE
    outcomes: Mapping[str, str] = results["outcomes"]
    return outcomes


@pytest.mark.parametrize("flow", FLOWS)
def test_flow(outcomes: Mapping[str, str], flow: str) -> None:
    if outcomes[flow]:
        pytest.fail(outcomes[flow], pytrace=False)


def test_every_method_of_the_client_is_called() -> None:
    package = next((find_python(f"stripe-{RELEASE}").parents[1] / "lib").glob("*/site-packages/stripe"))
    called = SCRIPT.read_text()
    missing = set()
    for file in (package / "privacy").glob("_redaction_job*.py"):
        for name in METHODS.findall(file.read_text()):
            if not name.startswith("_") and not re.search(rf"\.{name}\(", called):
                missing.add(name)
    assert missing == set()
