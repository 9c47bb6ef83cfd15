"""Flows of contract §7 through older releases of the official Python client, which write booleans as `True`
and still have `save`. Each flow of programs/sdk_flows.py is one test here for each release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.api.service import Registrar, Service
from tests.clients.program import SCRIPTS, find_python, needs, run_to_success

RELEASES = ("5.0.0", "12.0.0")
SCRIPT = SCRIPTS / "sdk_flows.py"
FLOWS = re.findall(r"^def (flow_\w+)\(", SCRIPT.read_text(), re.M)


@pytest.fixture(scope="module", params=[pytest.param(one, marks=needs(f"stripe-{one}")) for one in RELEASES])
def outcomes(
    request: pytest.FixtureRequest,
    service: Service,
    registrar: Registrar,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, str]:
    """The failure of each flow by its name, empty if it passed."""
    python = find_python(f"stripe-{request.param}")
    place: Path = tmp_path_factory.mktemp("flows")
    settings = {"STRIPE_KEY": registrar.account().secret, "STRIPE_BASE": service.url}
    run_to_success([python, SCRIPT, place / "results.json"], place, settings)
    results = json.loads((place / "results.json").read_text())
    assert results["version"] == request.param
    outcomes: Mapping[str, str] = results["outcomes"]
    return outcomes


@pytest.mark.parametrize("flow", FLOWS)
def test_release(outcomes: Mapping[str, str], flow: str) -> None:
    if outcomes[flow]:
        pytest.fail(outcomes[flow], pytrace=False)
