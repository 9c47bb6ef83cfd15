"""Every command, setting, target and address in the documents is one that exists, and what only looks is run.

- Each `ledger` line is parsed by the real commands, in a block of code with all its arguments.
- Of those in blocks, the commands in RUN are run against a service with a dispute, and must succeed.
- All others are only parsed: they change what others look at, run until they are stopped, or need a file. The
  tests of their area run them.
- Each `curl` line of the README and of docs/audit is run as it stands, in the order of its page.
- The addresses in all other lines are those of routes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import pytest

from tests.api.service import SERVICE_KEY, Account, Registrar, Service
from tests.conftest import Cluster
from tests.deploy.settings import KNOWN
from tests.documents.code_lines import ROOT, Command, commands, documents, lines
from tests.serving.process import run_ledger
from tests.webhooks.receiver import wait_until

NO_COMMANDS = {
    "account": "where postings go", "acts": "of a picture", "pages": "connections", "reads": "connections",
}  # fmt: skip
"""What follows the word `ledger` in code that is no command."""
RUN = {
    "accounts list", "alerts list", "alerts receivers list", "audit accesses", "audit checkpoint",
    "audit diff", "audit export", "audit find", "audit history", "audit keys", "audit list", "audit log",
    "audit object", "audit reconcile", "audit witnesses", "config", "erase exports list", "events list",
    "feed read", "keys create", "keys list", "projections show", "projections status", "projections step",
    "projections verify", "secrets status",
}  # fmt: skip
POSITION = 6
"""Of the event by which the dispute is won, the last one."""
CURL_RUN = ("README.md", "docs/audit")
NO_SETTINGS = {
    "LEDGER_TEST_DATABASE_URL", "LEDGER_ACCOUNTS",  # of the tests, of a module
    "LEDGER_CLIENT_SECRET", "LEDGER_OPERATOR_KEY", "LEDGER_PUBLISHABLE_KEY", "LEDGER_URL",  # of examples
    "LEDGER_SERVICE_HOST", "LEDGER_WEBHOOK_RETRY_SECOND_LIVE",  # examples of names that are no setting
}  # fmt: skip
"""Names like those of settings that are none."""


class Story(NamedTuple):
    """A service with a dispute that was won, and what a reader has for the placeholders of the documents."""

    service: Service
    values: dict[str, str]
    place: Path


@pytest.fixture(scope="module")
def story(cluster: Cluster) -> Iterator[Story]:
    with cluster.create_database() as dsn, TemporaryDirectory() as directory:
        place = Path(directory)
        service = Service(dsn, place)
        registrar = Registrar(dsn)
        account = registrar.account()
        key_id, audit_key = registrar.key(account.id, "rk", scopes=("audit", "personal_data"))
        registrar.close()
        values = _dispute_a_charge(service, account) | {"acct_…": account.id, "key_0352…": key_id}
        _prepare_shell(place, service, account)
        yield Story(service, values | {"$KEY": audit_key, "$URL": service.url}, place)
        service.stop()


def _dispute_a_charge(service: Service, account: Account) -> dict[str, str]:
    """The ids of a customer, its charge, and the dispute, which is won."""
    with httpx.Client(base_url=service.url, auth=(account.secret, ""), timeout=30) as http:
        customer = http.post("/v1/customers", data={"name": "Jenny Rosen"}).json()["id"]
        card = {"amount": "2000", "currency": "usd", "source": "tok_createDispute"}
        charge = http.post("/v1/charges", data=card).json()["id"]
        listed = wait_until(lambda: http.get("/v1/disputes", params={"charge": charge}).json()["data"])
        dispute = listed[0]["id"]
        evidence = {"evidence[uncategorized_text]": "winning_evidence"}
        assert http.post(f"/v1/disputes/{dispute}", data=evidence).status_code == 200
        wait_until(lambda: http.get(f"/v1/disputes/{dispute}").json()["status"] == "won")
    wait_until(lambda: f"ledger_tree_size {POSITION}.0" in httpx.get(f"{service.url}/metrics").text)
    return {"cus_0352…": customer, "cus_…": customer, "ch_…": charge, "du_…": dispute}


def _prepare_shell(place: Path, service: Service, account: Account) -> None:
    """A folder in which the README's lines find keys, and curl fails when an answer is an error."""
    (place / ".ledger").mkdir()
    keys = {"url": service.url, "secret": account.secret, "publishable": account.publishable}
    (place / ".ledger" / "dev-keys.json").write_text(json.dumps(keys))
    (place / ".curlrc").write_text("fail-with-body\nsilent\n")


def _fill_in(text: str, values: dict[str, str]) -> str:
    """A line with what a reader has: ids, this moment, and a position that the log has."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now, text)
    text = re.sub(r"(--at|--since) \d{4}-\d\d-\d\d\b", rf"\1 {now}", text)
    text = text.replace("position:9", "position:4")
    text = re.sub(r"(position:|/proof/)\d{2,}", rf"\g<1>{POSITION}", text)
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def _get_name(command: Command) -> str:
    """The words that name a command: those before its first argument or option."""
    known = max((len(name.split()) for name in RUN if " ".join(command.words).startswith(name)), default=0)
    return " ".join(command.words[:known])


def test_every_ledger_line_is_a_command_with_such_options_and_arguments() -> None:
    called = [each for each in commands() if each.words and each.words[0] not in NO_COMMANDS]
    asked = [{"words": each.words, "whole": each.whole} for each in called]
    parsed = subprocess.run(
        [sys.executable, "-m", "tests.documents.command_parser"],
        cwd=ROOT,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    faults = dict(zip(called, json.loads(parsed.stdout), strict=True))
    wrong = [
        f"{each.place}: ledger {' '.join(each.words)}: {fault}" for each, fault in faults.items() if fault
    ]
    assert wrong == []
    assert len(called) > 150


def test_commands_that_only_look_are_run(story: Story) -> None:
    ran = set()
    for each in dict.fromkeys(commands()):
        words = [_fill_in(word, story.values) for word in each.words]
        name = _get_name(each)
        ends = "--watch" not in words
        if each.whole and name and ends and not any(re.search(r"…|^[A-Z]+$", word) for word in words):
            # In a folder of the test: some write files.
            settings: dict[str, Any] = {
                "database_url": story.service.dsn,
                "secret_key": SERVICE_KEY,
                "test_clock": True,
            }
            ended = run_ledger(story.place / "data", *words, **settings)
            assert ended.returncode == 0, ended
            ran.add(name)
    assert len(ran) >= 10


def test_curl_lines_are_run_as_they_stand(story: Story) -> None:
    blocks: dict[str, list[str]] = {}
    for line in lines():
        if line.in_block and line.place.startswith(CURL_RUN) and re.match(r"curl |KEY=", line.text):
            blocks.setdefault(line.place, []).append(line.text)
    assert len(blocks) >= 5
    for place, written in blocks.items():
        # A line of the README sets KEY; elsewhere it is an auditor's.
        own = {name: value for name, value in story.values.items() if not name.startswith("$")}
        script = "\n".join(_fill_in(text, own) for text in ("set -e", *written))
        script = script.replace("http://127.0.0.1:4242", story.service.url)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=story.place,
            env={
                "PATH": os.environ["PATH"], "HOME": str(story.place),
                "KEY": story.values["$KEY"], "URL": story.values["$URL"],
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{place}\n{script}\n{done.stdout[-300:]}{done.stderr}"


ADDRESS = re.compile(
    r"(?:\$URL|\$\{URL\}|http://(?:127\.0\.0\.1|localhost):\d+)(/(?:internal/)?v1/[^\s\"'?]+)"
)


def test_every_address_that_curl_is_given_is_a_route(story: Story) -> None:
    described = httpx.get(f"{story.service.url}/openapi.json").json()["paths"]
    routes = [re.compile("[^/]+".join(map(re.escape, re.split(r"\{[^}]+\}", path)))) for path in described]
    wrong = [
        f"{line.place}: {path}"
        for line in lines()
        for path in ADDRESS.findall(line.text)
        if not any(route.fullmatch(path) for route in routes)
    ]
    assert wrong == []


MAKE = re.compile(r"(?:[A-Z_]+=\S+ )*make(?: -C (?P<folder>\S+))?(?: --?\w+(?: \d+)?)* (?P<target>[\w./-]+)")


def test_every_target_of_make_exists() -> None:
    named = [(line.place, match) for line in lines() if (match := MAKE.match(line.text))]
    assert len(named) > 20
    unknown = []
    for place, match in named:
        makefile = ROOT / (match["folder"] or "") / "Makefile"
        targets = re.findall(r"^([a-z.][\w./-]*)(?: [\w. /-]+)?:", makefile.read_text(), re.MULTILINE)
        if match["target"] not in targets:
            unknown.append(f"{place}: {match[0]}")
    assert unknown == []


def test_every_setting_in_the_documents_exists() -> None:
    wrong = []
    for name, text in documents().items():
        for match in re.finditer(r"\bLEDGER_[A-Z_]*[A-Z](_…)?", text):
            setting = match[0].removesuffix("…")
            is_known = any(known.startswith(setting) for known in KNOWN) if match[1] else setting in KNOWN
            if not is_known and setting not in NO_SETTINGS:
                wrong.append(f"{name}: {setting}")
    assert wrong == []
