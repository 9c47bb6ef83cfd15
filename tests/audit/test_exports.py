"""Exports over HTTP and on the command line, and the worked queries over them."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import duckdb
import psycopg
import pytest

from ledger.audit.exports import ndjson
from ledger.audit.exports.content import ExportLine
from ledger.cli.audit.exports.check import verify_export_file
from ledger.errors import SettingError
from ledger.postgres.connections import open_connection
from ledger.tree.keys import list_keys
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.serving.process import run_ledger, run_refused

QUERIES = Path(__file__).parents[2] / "docs/audit/queries.md"
_OWN = """
SELECT notification_id FROM ledger.events WHERE account = %s AND NOT livemode ORDER BY notification_id
"""


class Exporter(InternalClient):
    """Calls the audit API with a key that has the scope `audit` and no other."""

    def export(self, **query: Any) -> bytes:
        answer = self.get(f"/audit/export?{urlencode(query, doseq=True)}")
        assert answer.status_code == 200, answer.text
        return answer.content


class History(NamedTuple):
    """What happened in an account, for the questions of docs/audit/queries.md: ids by what stands for them
    there."""

    account: str
    ids: dict[str, str]


@pytest.fixture
def exporter(operator: InternalClient, account: Account, registrar: Registrar) -> Exporter:
    return Exporter(operator.http, registrar.key(account.id, "rk", scopes=["audit"])[1])


@pytest.fixture
def history(raw: Caller, operator: InternalClient, account: Account, service: Service) -> History:
    """Two customers, one of them deleted; disputes that are open, submitted, won and lost; two keys."""
    ok(Caller(raw.http, account.live_secret).post("/v1/customers", {"name": "Live"}))
    kept, deleted = (ok(raw.post("/v1/customers", {"email": "ada@example.com"}))["id"] for _ in range(2))
    ok(raw.post(f"/v1/customers/{kept}", {"name": "Ada"}, idempotency_key="change"))
    ok(raw.delete(f"/v1/customers/{deleted}"))
    disputes = [raw.dispute(customer=ok(raw.post("/v1/customers", {"source": "tok_createDispute"}))["id"])]
    for number in range(3):
        charge = operator.post("/charges", {"id": f"ch_{kept}{number}", "customer": kept, "amount": 2000,
                                            "currency": "usd"})  # fmt: skip
        body = {"charge": ok(charge)["id"], "kind": "chargeback", "reference": f"net{number}{kept}"}
        disputes.append(ok(operator.post("/disputes", body)))
    for fact, dispute in (("won", disputes[1]), ("lost", disputes[2])):
        ok(operator.post(f"/disputes/{dispute['id']}/facts", {"fact": fact, "reference": f"{fact}{kept}"}))
    evidence = {"evidence[product_description]": "Hats", "submit": "true"}
    answer = raw.post(f"/v1/disputes/{disputes[3]['id']}", evidence)
    ok(answer)
    with psycopg.connect(service.dsn) as conn:
        row = conn.execute(
            "SELECT actor FROM ledger.events WHERE request_id = %s", [answer.headers["request-id"]]
        ).fetchone()
    assert row is not None
    ids = {"acct_1": account.id, "du_1": disputes[3]["id"], "key_1": row[0],
           "req_1": answer.headers["request-id"]}  # fmt: skip
    return History(account.id, ids)


@pytest.fixture
def key(service: Service) -> str:
    """The public key of the service's log."""

    async def read() -> str:
        async with open_connection(service.dsn, "ledger_api", name="tests") as conn:
            (current,) = [each for each in await list_keys(conn) if each.retired_at is None]
            return str(current.verifier)

    return asyncio.run(read())


def list_own_positions(service: Service, account: str) -> list[int]:
    with psycopg.connect(service.dsn) as conn:
        return [row[0] for row in conn.execute(_OWN, [account])]


def read_lines(content: bytes) -> Iterator[ExportLine]:
    parts = ndjson.read_parts(io.BytesIO(content))
    return (part for _, part in parts if isinstance(part, ExportLine))


def verify(capsys: pytest.CaptureFixture[str], file: Path, **trust: Any) -> str:
    """What `ledger audit verify-export` prints about a file that it accepts."""
    verify_export_file(file, **{"key": None, "policy": None} | trust)
    return capsys.readouterr().out


@pytest.mark.parametrize("export_format", ["ndjson", "parquet"])
def test_what_was_written_before_is_exported_and_verified_offline(
    exporter: Exporter,
    history: History,
    service: Service,
    key: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    export_format: str,
) -> None:
    file, policy_file, key_file = tmp_path / "export", tmp_path / "policy", tmp_path / "key"
    own = list_own_positions(service, history.account)
    policy_file.write_text(f"log {key}\nquorum none\n")
    key_file.write_text(f"{key}\n")
    file.write_bytes(exporter.export(format=export_format))
    for trust in ({"key": key}, {"key": str(key_file)}, {"policy": policy_file}):
        printed = verify(capsys, file, **trust)
        assert f"{len(own)} records unchanged" in printed
        assert f"account: {history.account}, test mode; filters: none" in printed
        assert f"signed by: the log {key.split('+')[0]}, key {key.split('+')[1]}" in printed
    assert "signed by: NOT CHECKED" in verify(capsys, file)
    file.write_bytes(exporter.export(format=export_format, type=["dispute.*", "charge.disputed"]))
    assert "filters: type=dispute.*,charge.disputed\npartial: " in verify(capsys, file, key=key)
    completed = run_ledger(tmp_path / "no data", "audit", "verify-export", str(file), "--key", key)
    assert (completed.returncode, completed.stdout) == (0, verify(capsys, file, key=key)), completed


def test_exports_hold_the_callers_records_with_personal_data_sealed(
    exporter: Exporter, history: History, service: Service
) -> None:
    content = exporter.export()
    lines = list(read_lines(content))
    assert [line.position for line in lines] == list_own_positions(service, history.account)
    assert {(line.account, line.livemode) for line in lines} == {(history.account, False)}
    assert b"ada@example.com" not in content
    answer = exporter.get("/audit/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    parquet_answer = exporter.get("/audit/export?format=parquet")
    assert parquet_answer.headers["content-type"] == "application/vnd.apache.parquet"


def test_bad_filters_are_refused_before_the_first_byte(
    exporter: Exporter, raw: Caller, registrar: Registrar, account: Account
) -> None:
    for query, param in (
        ("format=xml", "format"),
        ("nothing=1", "nothing"),
        ("type=nothing", "type"),
        ("position[gt]=x", "position[gt]"),
        ("position[gt]=999999999", "position[gt]"),
        ("time[gte]=yesterday", "time[gte]"),
    ):
        error = exporter.get(f"/audit/export?{query}").json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param), error
    other = Exporter(exporter.http, registrar.key(account.id, "rk", scopes=["catalog"])[1])
    assert_refused(other.get("/audit/export"), 403, code="more_permissions_required", message="'audit'")


def test_a_damaged_file_is_refused_with_its_line(
    exporter: Exporter, history: History, key: str, tmp_path: Path
) -> None:
    file, content = tmp_path / "export.ndjson", exporter.export()
    file.write_bytes(content.replace(b'"version":2', b'"version":3', 1))
    line = run_refused(tmp_path / "no data", "audit", "verify-export", str(file), "--key", key)
    assert re.search(r"export.ndjson: line \d+: position \d+ was changed", line)
    file.write_bytes(content[:-5])
    with pytest.raises(
        SystemExit, match=r"export.ndjson: line \d+: the file ends within it: it is truncated"
    ):
        verify_export_file(file, key)


def test_keys_policies_and_files_that_cannot_be_used_are_refused(tmp_path: Path, key: str) -> None:
    file, policy = tmp_path / "export.ndjson", tmp_path / "policy"
    with pytest.raises(SettingError, match="cannot read"):
        verify_export_file(file)
    file.write_bytes(b"")
    with pytest.raises(SystemExit, match="truncated"):
        verify_export_file(file, key)
    policy.write_text("quorum x\n")
    for trust, message in (
        ({"key": "a+b+c"}, "--key: "),
        ({"key": str(tmp_path / "none")}, "cannot read"),
        ({"policy": tmp_path / "none"}, "cannot read"),
        ({"policy": policy}, "--policy: policy, line 1"),
        ({"policy": policy, "key": key}, "--key: use either"),
    ):
        with pytest.raises(SettingError, match=message):
            verify_export_file(file, **trust)


def test_the_command_writes_a_file_and_goes_on_with_a_partial_one(
    history: History, service: Service, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = {"database_url": service.dsn, "secret_key": SERVICE_KEY}
    out, partial = tmp_path / "events.ndjson", tmp_path / "events.ndjson.partial"
    command = ("audit", "export", "--account", history.account, "--out", str(out))
    done = run_ledger(tmp_path / "data", *command, **on)
    own = list_own_positions(service, history.account)
    assert (done.returncode, done.stderr) == (0, f"{len(own)} records exported.\n"), done
    whole = out.read_bytes()
    assert [line.position for line in read_lines(whole)] == own
    assert not partial.exists()

    partial.write_bytes(whole[: len(whole) // 2])
    out.unlink()
    other = ("--type", "dispute.*")
    assert "the file has other filters: {}" in run_refused(
        tmp_path / "data", *command, "--resume", *other, **on
    )
    resumed = run_ledger(tmp_path / "data", *command, "--resume", **on)
    assert resumed.returncode == 0, resumed
    assert [line.position for line in read_lines(out.read_bytes())] == own
    assert f"{len(own)} records unchanged" in verify(capsys, out, key=key)
    printed = run_ledger(
        tmp_path / "data", *command[:4], "--after", str(own[2]), "--type", "customer.*", **on
    )
    positions = [line.position for line in read_lines(printed.stdout.encode())]
    assert positions == [position for position in positions if position > own[2]]
    parquet = run_ledger(tmp_path / "data", *command, "--format", "parquet", **on)
    assert parquet.returncode == 0, parquet
    assert f"{len(own)} records unchanged" in verify(capsys, out, key=key)


def parse_queries() -> list[tuple[str, str, str]]:
    """The title of each worked query, its SQL for Postgres, and that for DuckDB."""
    sections = re.split(r"^## \d+\. ", QUERIES.read_text(), flags=re.MULTILINE)[1:]
    queries = []
    for section in sections:
        postgres, over_parquet = re.findall(r"```sql\n(.*?)```", section, flags=re.DOTALL)
        queries.append((section.partition("\n")[0], postgres, over_parquet))
    return queries


def test_the_worked_queries_give_the_same_rows_in_both_forms(
    exporter: Exporter, history: History, service: Service, tmp_path: Path
) -> None:
    """As an analyst, who may read nothing else."""
    file = tmp_path / "events.parquet"
    file.write_bytes(exporter.export(format="parquet"))
    page = QUERIES.read_text()
    (view,) = re.findall(r"```sql\n(.*?)```", page.partition("\n## 1. ")[0], flags=re.DOTALL)
    queries = parse_queries()
    assert len(queries) == 10
    with duckdb.connect() as duck, psycopg.connect(service.dsn, autocommit=True) as conn:
        duck.execute(view.replace("events.parquet", str(file)))
        conn.execute("SET ROLE ledger_analyst")
        for title, postgres, over_parquet in queries:
            for name, value in history.ids.items():
                postgres = postgres.replace(name, value)
                over_parquet = over_parquet.replace(name, value)
            rows = conn.execute(postgres.encode()).fetchall()
            assert rows, title
            assert duck.execute(over_parquet).fetchall() == rows, title
