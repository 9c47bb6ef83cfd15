"""Clients that are generated from the OpenAPI document are typed strictly, and call a real service."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import stripe

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import ROOT, Account, Registrar, Service
from tests.clients.program import INSTALLED, find_node, run_to_success

RECIPE = ROOT / "clients"
BUILD = INSTALLED / "generated"
LOCKS = {
    "python": (RECIPE / "python" / "requirements.txt", BUILD / "python-tools" / ".installed"),
    "typescript": (RECIPE / "typescript" / "package-lock.json", BUILD / "typescript" / ".installed"),
}
NODE_PACKAGES = ("openapi-typescript", "openapi-fetch")
EXPECTED = """\
published: invoice.created true
history: customer.created ['customer.created']
key: ['publish'] active -> expired
error: resource_missing
session: ['claimed']
"""


def needs_tools(language: str) -> pytest.MarkDecorator:
    """Skips the test of a language whose generator is not installed, or in another release."""
    lock, stamp = LOCKS[language]
    is_here = stamp.exists() and stamp.read_text() == lock.read_text()
    return pytest.mark.skipif(not is_here, reason=f"the {language} generator is not here: make clients")


@pytest.fixture(scope="module")
def service(shared_service: Service) -> Service:
    return shared_service


@pytest.fixture
def settings(
    service: Service, account: Account, registrar: Registrar, client: stripe.StripeClient
) -> dict[str, str]:
    """The environment of an example, with the client secret of a new customer session."""
    customer = client.v1.customers.create({"name": "Ada"})
    session = client.v1.customer_sessions.create(
        {"customer": customer.id, "components": {"buy_button": {"enabled": True}}}
    )
    return {
        "API_URL": service.url,
        "API_OPERATOR_KEY": registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1],
        "API_SECRET_KEY": account.secret,
        "API_PUBLISHABLE_KEY": account.publishable,
        "API_CLIENT_SECRET": session.client_secret,
    }


def run_recipe(target: str, place: Path, settings: dict[str, str]) -> str:
    """What the recipe's target prints, with the values as Python shows them."""
    tools = {"BUILD": BUILD, "LEDGER": f"{sys.executable} -m ledger"}
    variables = [f"{name}={value}" for name, value in tools.items()]
    # The releases that are installed are those of the lock files, which may be younger than they.
    installed = [f"--old-file={stamp}" for _, stamp in LOCKS.values()]
    return run_to_success(
        ["make", "--silent", "--no-print-directory", "-C", RECIPE, *variables, *installed, target],
        place,
        settings | {"PYTHONPATH": str(ROOT)},
    )


@needs_tools("python")
def test_the_python_client_is_strictly_typed_and_calls_the_service(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    printed = run_recipe("run-python", tmp_path, settings)
    assert printed.lower().endswith(EXPECTED)


@needs_tools("typescript")
def test_the_typescript_client_is_strictly_typed_and_calls_the_service(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    find_node()
    printed = run_recipe("run-typescript", tmp_path, settings)
    assert re.sub(r"\[ ('\w+(?:\.\w+)*') \]", r"[\1]", printed).endswith(EXPECTED)


def test_the_generators_are_pinned_without_addresses() -> None:
    requirements, lock = (LOCKS[language][0].read_text() for language in ("python", "typescript"))
    assert "://" not in requirements
    for entry in re.split(r"\n(?=\S)", requirements.strip()):
        assert re.match(r"[a-z0-9-]+==\S+ .*\n    --hash=sha256:", entry), entry[:80]
    packages = json.loads(lock)["packages"]
    assert all("resolved" not in package for package in packages.values())
    assert all("integrity" in package for name, package in packages.items() if name)
    document = (ROOT / "docs" / "compatibility.md").read_text()
    generator = re.search(r"^openapi-python-client==(\S+)", requirements, re.M)
    assert generator is not None
    versions = [generator[1], *(packages[f"node_modules/{name}"]["version"] for name in NODE_PACKAGES)]
    for version in versions:
        assert re.search(rf"^\|.*\b{re.escape(version)}\b.*\|$", document, re.M), version
