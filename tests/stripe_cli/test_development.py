"""`ledger serve` with its own database, as a developer runs it: the command that it prints, `stripe login`,
and the Stripe CLI over a Unix socket."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import place  # noqa: F401  # fixture
from tests.serving.process import ServeProcess, run_serve
from tests.stripe_cli.cli import RefusingProxy, StripeCli, needs_stripe_cli
from tests.stripe_cli.test_triggers import trigger

# ruff: noqa: F811
pytestmark = needs_stripe_cli


@pytest.fixture(scope="module")
def developed(place: Path) -> Iterator[ServeProcess]:
    with run_serve(place / "data", unix_socket=place / "api.sock") as service:
        yield service


@pytest.fixture
def keys(developed: ServeProcess) -> dict[str, str]:
    """What the service has written for the developer."""
    document: dict[str, str] = json.loads((developed.data_dir / "dev-keys.json").read_text())
    return document


def test_the_printed_command_listens(developed: ServeProcess, proxy: RefusingProxy, tmp_path: Path) -> None:
    (line,) = [line for line in developed.output.splitlines() if "stripe listen" in line]
    setting, program, *arguments = shlex.split(line.partition("(docs/")[0])
    assert program == "stripe"
    cli = StripeCli(tmp_path, "", setting.removeprefix("STRIPE_API_KEY="), proxy)
    with cli.start(*arguments) as listener:
        listener.wait_for("Ready!")
        cli.url = developed.url
        customer = cli.call("customers", "create")
        (event,) = cli.call("events", "list", "--type", "customer.created", "--limit", "1")["data"]
        assert event["data"]["object"]["id"] == customer["id"]
        listener.wait_for(f"customer.created.*{event['id']}")


def test_a_login_gets_keys_that_work(
    developed: ServeProcess, keys: dict[str, str], proxy: RefusingProxy, tmp_path: Path
) -> None:
    cli = StripeCli(tmp_path, developed.url, "", proxy)
    assert "You have not configured API keys yet" in cli.run("get", "/v1/customers").errors
    begun: dict[str, Any] = cli.run("login", "--dashboard-base", developed.url).answer
    (poll_url,) = re.findall(r"--complete '?(http\S+?)'?$", begun["next_step"])
    with cli.start("--dashboard-base", developed.url, "login", "--complete", poll_url) as waiting:
        _confirm(begun["browser_url"], begun["verification_code"], keys["account"])
        ended = waiting.wait()
    assert ended.status == 0, ended
    assert keys["account"] in ended.output + ended.errors
    customer = cli.call("customers", "create", "--name", "Jenny")
    assert cli.call("get", customer["id"], STRIPE_API_KEY=keys["secret"]) == customer


def _confirm(page: str, code: str, account: str) -> None:
    """What a person does in a browser."""
    with httpx.Client() as browser:
        shown = browser.get(page).text
        assert code in shown
        (token,) = re.findall(r'name="token" value="([^"]+)"', shown)
        origin = {"origin": page.partition("/stripecli")[0]}
        assert (
            browser.post(page, data={"token": token, "account": account}, headers=origin).status_code == 200
        )


def test_a_unix_socket_needs_no_address(
    developed: ServeProcess, keys: dict[str, str], place: Path, proxy: RefusingProxy, tmp_path: Path
) -> None:
    settings = {"STRIPE_CLI_UNIX_SOCKET": str(place / "api.sock"), "HTTPS_PROXY": "", "HTTP_PROXY": ""}
    cli = StripeCli(tmp_path, "", keys["secret"], proxy, settings)
    with cli.listen() as listener:
        customer = cli.call("customers", "create", "--name", "Jenny")
        trigger(cli, "customer.deleted")
        listener.wait_for("customer.deleted")
        assert cli.call("get", customer["id"])["name"] == "Jenny"
