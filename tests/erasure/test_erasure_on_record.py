"""One erasure as an authority sees it: the certificate over HTTP and on disk, checked offline; exports in the
clear that were written again; and the same erasure requested again in a database that was restored."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from ledger.postgres.programs.client import find_newest_program
from tests.api.service import SERVICE_KEY, ok
from tests.conftest import Cluster
from tests.erasure.stage import Stage, start_service
from tests.internal.conftest import InternalClient
from tests.serving.process import run_ledger
from tests.webhooks.receiver import wait_until

MARK = "Ada-on-record"
KEPT = "Grace-on-record"


class Record(NamedTuple):
    """An erased customer, and what was written before and after.

    clear, copy, sealed  exports: in the clear, a copy of that one, and sealed; before the erasure
    backup               a backup from before, with its keys: a dispute is open in it, and a hold is in force
    """

    stage: Stage
    customer: str
    job: str
    clear: Path
    copy: Path
    sealed: Path
    sealed_bytes: bytes
    backup: Path


@pytest.fixture(scope="module")
def record(stage: Stage) -> Record:
    folder = stage.folder
    form = {"name": MARK, "email": f"{MARK}@example.com", "source": "tok_createDispute"}
    customer = ok(stage.raw.post("/v1/customers", form))["id"]
    ok(stage.raw.post("/v1/customers", {"name": KEPT}))
    charge = {"amount": 2000, "currency": "usd", "customer": customer, "description": MARK}
    disputed = ok(stage.raw.post("/v1/charges", charge))["id"]
    stage.wait_for_projections()
    account = ("--account", stage.account.id)
    clear, copy, sealed = (folder / name for name in ("clear.ndjson", "copy.ndjson", "sealed.ndjson"))
    stage.service.run_command("export", str(clear), *account, "--unseal")
    copy.write_bytes(clear.read_bytes())
    assert MARK.encode() in clear.read_bytes()
    stage.service.run_command("audit", "export", "--out", str(sealed), *account)
    backup = folder / "old.dump"
    stage.service.run_command("hold", "place", customer, "--reason", "a case")
    stage.service.run_command("backup", str(backup))
    stage.service.run_command("hold", "release", customer, "--reason", "the case is closed")
    [dispute] = ok(stage.raw.get(f"/v1/disputes?charge={disputed}"))["data"]
    ok(stage.raw.post(f"/v1/disputes/{dispute['id']}/close", {}))
    job = stage.erase(customers=[customer])
    wait_until(lambda: stage.operator.get(f"/erasures/{job}").status_code == 200)
    return Record(stage, customer, job, clear, copy, sealed, sealed.read_bytes(), backup)


def on(dsn: str) -> dict[str, Any]:
    return {"database_url": dsn, "secret_key": SERVICE_KEY}


def run(record: Record, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_ledger(record.stage.folder / "data", *arguments, **on(record.stage.service.dsn))


def test_the_certificate_is_read_over_http_by_its_own_account_only(record: Record) -> None:
    stage, job = record.stage, record.job
    [erasure] = ok(stage.operator.get("/erasures"))["data"]
    assert erasure == ok(stage.operator.get(f"/erasures/{job}"))
    assert (erasure["id"], erasure["subjects"]) == (job, [record.customer])
    assert erasure["data_keys_destroyed"] >= 1
    assert erasure["counts"]["exports"] == 1
    assert erasure["not_reached"] == []
    assert (
        ok(stage.operator.get(f"/erasures?starting_after={erasure['completed']['position']}"))["data"] == []
    )
    note = stage.operator.get(f"/erasures/{job}/certificate").text
    assert note.startswith("ledger/erasure-certificate@v1\n")
    assert MARK not in note
    for name in ("certificate.tlog-proof", "request.tlog-proof"):
        assert stage.operator.get(f"/erasures/{job}/{name}").text.startswith("c2sp.org/tlog-proof@v1\n")
    other = stage.registrar.account()
    stranger = InternalClient(stage.http, stage.registrar.key(other.id, "rk", scopes=("audit",))[1])
    for path in ("", "/certificate", "/certificate.tlog-proof", "/request.tlog-proof"):
        refused = stranger.get(f"/erasures/{job}{path}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "resource_missing")
    assert ok(stranger.get("/erasures"))["data"] == []


def test_what_is_written_to_a_folder_is_verified_offline(record: Record, tmp_path: Path) -> None:
    printed = run(record, "erase", "certificate", record.job, "--out", str(tmp_path))
    assert (printed.returncode, printed.stderr) == (0, "")
    [key] = json.loads(run(record, "audit", "keys", "--json").stdout)
    (tmp_path / "policy").write_text(f"log {key['key']}\nquorum none\n")
    certificate = tmp_path / f"{record.job}.certificate"
    streams = tmp_path / f"{record.job}.streams"
    assert record.customer in streams.read_text().split("\n")
    call = ("verify-erasure", str(certificate), "--policy", str(tmp_path / "policy"))
    (tmp_path / "offline").mkdir()
    verified = run_ledger(tmp_path / "offline" / "none", *call, "--streams", str(streams))
    assert (verified.returncode, verified.stderr) == (0, ""), verified
    assert f"certifies the erasure of {record.customer}." in verified.stdout
    assert "the list is the one given" in verified.stdout


def test_exports_in_the_clear_are_written_again_and_sealed_ones_stay(record: Record) -> None:
    content = record.clear.read_bytes()
    assert MARK.encode() not in content
    assert KEPT.encode() in content
    assert record.customer.encode() in content
    [export] = json.loads(run(record, "erase", "exports", "list", "--json").stdout)["data"]
    assert (export["path"], export["lacks"]) == (str(record.clear), [])
    again = run(record, "erase", "exports", "rewrite", str(record.copy))
    assert again.returncode == 0, again
    assert record.copy.read_bytes() == content
    assert record.sealed.read_bytes() == record.sealed_bytes
    assert MARK.encode() not in record.sealed_bytes
    assert run(record, "audit", "verify-export", str(record.sealed)).returncode == 0


def test_an_erasure_is_requested_again_after_its_own_old_keys_were_restored(
    record: Record, cluster: Cluster
) -> None:
    folder = record.stage.folder
    certificate = folder / "certificates"
    assert run(record, "erase", "certificate", record.job, "--out", str(certificate)).returncode == 0
    file = certificate / f"{record.job}.certificate"
    with cluster.create_database(template="template0") as dsn:
        restored = run_ledger(folder / "data", "restore", str(record.backup), **on(dsn))
        assert restored.returncode == 0, restored
        assert read_wrap(dsn, record.customer) is not None
        service = start_service(dsn, folder / "restored")
        try:
            call = ("erase", "replay", str(file))
            assert "pass --yes" in run_ledger(folder / "data", *call, **on(dsn)).stderr
            replayed = run_ledger(folder / "data", *call, "--yes", "--json", **on(dsn))
            [subject] = json.loads(replayed.stdout)["data"]
            assert (subject["subject"], subject["outcome"]) == (record.customer, "requested")
            # A copy does nothing by itself, not even this.
            active = ("webhooks", "resume", "--reason", "a test", "--yes")
            assert run_ledger(folder / "data", *active, **on(dsn)).returncode == 0
            shown = ("erase", "show", subject["job"], "--json")
            wait_until(
                lambda: (
                    json.loads(run_ledger(folder / "data", *shown, **on(dsn)).stdout)["status"] == "succeeded"
                ),
                seconds=60,
            )
            again = run_ledger(folder / "data", *call, "--yes", "--json", **on(dsn))
            assert json.loads(again.stdout)["data"][0]["outcome"] == "erased already"
        finally:
            service.stop()
        assert read_wrap(dsn, record.customer) is None
        program = find_newest_program("pg_dump")
        text = subprocess.run([program, dsn], check=True, capture_output=True, text=True).stdout
        assert MARK not in text


def read_wrap(dsn: str, subject: str) -> bytes | None:
    with psycopg.connect(dsn) as conn:
        query = "SELECT wrapped FROM ledger.data_keys WHERE subject = %s"
        row = conn.execute(query, (subject,)).fetchone()
    assert row is not None
    return row[0]
