"""`ledger erase` and `ledger hold`, as an operator calls them beside a running service."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.api.service import SERVICE_KEY, Service, ok
from tests.privacy.conftest import JOBS, PreviewCaller
from tests.serving.process import run_ledger
from tests.webhooks.receiver import wait_until

WHY = "request 4711"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(service: Service, tmp_path: Path) -> Run:
    """Runs a command of `ledger` on the service's database."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {
            "database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True,
        }  # fmt: skip
        return run_ledger(tmp_path / "data", *arguments, **settings)

    return run


def succeed(run: Run, *arguments: str) -> Any:
    """The answer of a command as JSON."""
    ended = run(*arguments, "--json")
    assert ended.returncode == 0, ended
    return json.loads(ended.stdout)


def refuse(run: Run, *arguments: str) -> str:
    """What a refused command says: one line."""
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def count_jobs(preview: PreviewCaller) -> int:
    return len(ok(preview.get(JOBS))["data"])


def test_a_customer_is_erased_and_the_command_waits(preview: PreviewCaller, run: Run) -> None:
    customer = preview.customer(name="Ada Lovelace", source="tok_visa")["id"]
    ok(preview.post("/v1/charges", {"amount": 900, "currency": "usd", "customer": customer}))
    job = succeed(run, "erase", customer, "--why", WHY, "--yes", "--wait")
    assert (job["status"], job["reason"], job["objects"]) == ("succeeded", WHY, {"customers": [customer]})
    assert job["reached"] == {"customer": 1, "charge": 1}
    assert "@" in job["requested_by"]
    assert sum(job["counts"].values()) > 0
    assert "Ada" not in preview.get(f"/v1/customers/{customer}").text
    shown = run("erase", "show", job["id"])
    assert (shown.returncode, "succeeded" in shown.stdout) == (0, True), shown
    assert f"ledger erase certificate {job['id']}" in shown.stdout
    again = run("erase", customer, "--why", WHY, "--dry-run")
    assert (again.returncode, f"{customer} has been erased before" in again.stdout) == (0, True), again
    listed = succeed(run, "erase", "list", "--status", "succeeded", "--limit", "50")["data"]
    assert job["id"] in [each["id"] for each in listed]
    assert job["id"] in run("erase", "list").stdout


def upload(preview: PreviewCaller) -> str:
    """A file that may be evidence, and has a link."""
    form = {"purpose": "dispute_evidence", "file_link_data[create]": "true"}
    files = {"file": ("receipt.pdf", b"%PDF-1.4")}
    headers = {"authorization": f"Bearer {preview.key}"}
    return str(ok(preview.http.post("/v1/files", data=form, files=files, headers=headers))["id"])


def test_a_dry_run_says_what_it_reaches_and_changes_nothing(preview: PreviewCaller, run: Run) -> None:
    customer = preview.customer(source="tok_createDispute")["id"]
    ok(preview.post("/v1/charges", {"amount": 900, "currency": "usd", "customer": customer}))
    held = {
        "amount": 900, "currency": "usd", "customer": customer, "payment_method": "pm_card_visa",
    }  # fmt: skip
    intent = ok(preview.post("/v1/payment_intents", held))["id"]
    (dispute,) = ok(preview.get("/v1/disputes"))["data"]
    for name in ("receipt", "refund_policy"):
        evidence = {f"evidence[{name}]": upload(preview), "submit": "false"}
        ok(preview.post(f"/v1/disputes/{dispute['id']}", evidence))
    ended = run("erase", "object", customer, "--why", WHY, "--dry-run", "--fix", "--json")
    assert ended.returncode == 1
    preview_shown = json.loads(ended.stdout)
    assert preview_shown["redaction"] is None
    assert preview_shown["reached"] == {
        "customer": 1, "charge": 1, "dispute": 1, "payment_intent": 1, "file": 2, "file_link": 2,
    }  # fmt: skip
    assert preview_shown["canceled_payment_intents"] == [intent]
    assert [each["object_type"] for each in preview_shown["obstacles"]] == ["dispute"]
    text = run("erase", "--why", WHY, "--dry-run", customer).stdout
    assert "1 charge, 1 customer, 1 dispute, 2 files, 2 file links, 1 payment intent" in text
    assert len(re.findall("^In the way: ", text, re.M)) == 2
    assert count_jobs(preview) == 0


def test_what_stands_in_the_way_is_said_and_nothing_is_erased(preview: PreviewCaller, run: Run) -> None:
    customer = preview.customer(name="Ada Lovelace")["id"]
    held = succeed(run, "hold", "place", customer, "--reason", "Ada sues")
    assert (held["active"], held["reason"]) == (True, "Ada sues")
    line = refuse(run, "erase", customer, "--why", WHY, "--yes")
    assert "nothing was erased" in line
    assert "legal hold" in line
    wait_until(lambda: customer in run("hold", "list").stdout)
    assert "already" in refuse(run, "hold", "place", customer, "--reason", "again")
    assert not succeed(run, "hold", "release", customer, "--reason", "it is settled")["active"]
    wait_until(lambda: customer not in run("hold", "list").stdout)
    listed = succeed(run, "hold", "list", "--all")["data"]
    assert (customer, "Ada sues") in [(each["held_object"]["id"], each["reason"]) for each in listed]
    assert ok(preview.get(f"/v1/customers/{customer}"))["name"] == "Ada Lovelace"


def test_on_an_upgraded_database_rows_in_the_clear_are_named(
    preview: PreviewCaller, run: Run, service: Service
) -> None:
    customer = preview.customer()["id"]
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute("UPDATE ledger.key_migration SET position = (SELECT position FROM ledger.head)")
        try:
            dry_run = run("erase", customer, "--why", WHY, "--dry-run").stdout
            job = succeed(run, "erase", customer, "--why", WHY, "--yes", "--wait")
            shown = run("erase", "show", job["id"]).stdout
            certificate = run("erase", "certificate", job["id"]).stdout
        finally:
            conn.execute("UPDATE ledger.key_migration SET position = 0")
    assert {"customers_g1", "feed_g1"} <= set(job["clear_generations"])
    for text in (dry_run, shown, certificate):
        assert re.search("[Nn]ot reached:? files of .*customers_g1, .*ledger projections rebuild --all", text)
    assert succeed(run, "erase", "show", job["id"])["clear_generations"] == []


def test_without_a_terminal_the_command_needs_a_yes(preview: PreviewCaller, run: Run) -> None:
    customer = preview.customer()["id"]
    line = refuse(run, "erase", customer, "--why", WHY)
    assert f"{customer} would be erased for good: 1 customer." in line
    assert "--yes" in line
    (job,) = ok(preview.get(JOBS))["data"]
    assert job["status"] == "canceled"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("erase", "cus_nobody", "--why", WHY, "--yes"), "there is no object cus_nobody"),
        (("erase", "show", "prj_nothing"), "there is no redaction job prj_nothing"),
        (("erase", "cus_nobody", "--why", " ", "--yes"), "--why: one line"),
        (("erase", "cus_nobody", "--why", "x" * 501, "--yes"), "--why: one line"),
        (("erase", "list", "--status", "done"), "--status: must be one of"),
        (("hold", "place", "du_nothing", "--reason", "x"), "no object du_nothing. What can be held is"),
        (("hold", "release", "cus_nobody", "--reason", "x"), "there is no legal hold of cus_nobody"),
    ],
)
def test_bad_arguments_are_refused(run: Run, arguments: tuple[str, ...], words: str) -> None:
    assert words in refuse(run, *arguments)


def test_a_mistyped_command_is_no_customer(run: Run) -> None:
    ended = run("erase", "lsit")
    assert ended.returncode == 2
    assert "Did you mean: ledger erase list?" in ended.stderr


def test_what_belongs_to_a_customer_or_is_no_root_is_not_erased(preview: PreviewCaller, run: Run) -> None:
    dispute = preview.dispute()
    line = refuse(run, "erase", dispute["id"], "--why", WHY, "--yes")
    assert "cannot be erased by itself" in line
    line = refuse(run, "hold", "place", dispute["id"], "--reason", "x")
    assert f"{dispute['id']} (dispute) cannot be held by itself" in line
    customer = preview.customer(source="tok_visa")["id"]
    charge = ok(preview.post("/v1/charges", {"amount": 900, "currency": "usd", "customer": customer}))["id"]
    assert "redact the customer instead" in refuse(run, "erase", charge, "--why", WHY, "--yes")
