"""An operator's mistake is explained in one line on standard error, with exit status 1 and no traceback."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.postgres.migrations import SERVER_VERSION_MIN
from tests.conftest import Cluster
from tests.serving.commands import LEAVES, list_examples, split_call
from tests.serving.process import SERVICE_KEY, run_ledger, run_refused, run_serve

NOWHERE = "postgresql://127.0.0.1:1/none"
OFFLINE = {
    "ledger config": ("config",),
    "ledger openapi": ("openapi", "--path", "/v1/balance"),
    "ledger restore": ("restore", "none"),
    "ledger verify": ("verify", "none", "--policy", "none"),
    "ledger verify-erasure": ("verify-erasure", "none", "--policy", "none"),
    "ledger witness": ("witness", "--data", "witness", "--print-key"),
    "ledger audit verify-archive": ("audit", "verify-archive", "none"),
    "ledger audit verify-export": ("audit", "verify-export", "none"),
}
"""The commands that need no database by design, each with a call of it."""


def test_a_wrong_setting_is_named(place: Path) -> None:
    assert run_refused(place / "data", "serve", port="http").startswith("ledger: LEDGER_PORT: ")
    assert not (place / "data").exists()


def make_call(name: str) -> list[str]:
    """A call of a command that parses: the first example in its help, without questions."""
    arguments = split_call(list_examples(LEAVES[name])[0])
    asks = any("--yes" in parameter.opts for parameter in LEAVES[name].params)
    return [*arguments, *(["--yes"] if asks else [])]


def test_only_serve_creates_a_database(place: Path) -> None:
    """Whatever a command is, unless it is known to need none: it is called as its help shows."""
    assert OFFLINE.keys() < LEAVES.keys()
    empty, missing = place / "empty", place / "missing"
    empty.mkdir(exist_ok=True)
    (place / "objects.ndjson").touch()  # which an example imports
    before = set(place.iterdir())
    needing = LEAVES.keys() - OFFLINE.keys() - {"ledger serve"}
    for data_dir, name in ((empty, "ledger accounts list"), *((missing, name) for name in needing)):
        assert run_refused(data_dir, *make_call(name)) == (
            f"ledger: there is no database in {data_dir}: start one with `ledger serve`, or set "
            "LEDGER_DATA_DIR or LEDGER_DATABASE_URL"
        ), name
    assert set(place.iterdir()) == before
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("name", OFFLINE)
def test_a_command_that_needs_no_database_makes_none(place: Path, name: str) -> None:
    ended = run_ledger(place / "missing", *OFFLINE[name])
    assert "there is no database" not in ended.stderr
    assert not (place / "missing").exists()


def test_a_command_without_the_key_of_the_database_makes_no_other(place: Path) -> None:
    data_dir = place / "keyless"
    with run_serve(data_dir):
        pass
    (data_dir / "secret.key").unlink()
    assert f"{data_dir / 'secret.key'} is missing" in run_refused(data_dir, "accounts", "list")
    assert not (data_dir / "secret.key").exists()
    (data_dir / "secret.key").write_bytes(b"\xff" * 32)
    assert "is not the key that the data" in run_refused(data_dir, "accounts", "list")
    shutil.rmtree(data_dir)


def test_a_database_without_a_service_key_is_refused(place: Path) -> None:
    assert "LEDGER_SECRET_KEY: required" in run_refused(place / "data", "serve", database_url=NOWHERE)


@pytest.mark.parametrize("command", [["serve"], ["accounts", "list"]])
def test_an_unreachable_database_is_reported(place: Path, command: list[str]) -> None:
    line = run_refused(place / "data", *command, database_url=NOWHERE, secret_key=SERVICE_KEY)
    assert "refused" in line


def test_an_invalid_connection_string_is_reported(place: Path) -> None:
    line = run_refused(place / "data", "serve", database_url="nonsense://x", secret_key=SERVICE_KEY)
    assert line.startswith("ledger: LEDGER_DATABASE_URL: ")


@pytest.mark.parametrize("password", ["p@ssLOVELACE", "12/LOVELACE", "LOVELACE/1", "p@1:2/LOVELACE"])
@pytest.mark.parametrize("command", [["accounts", "list"], ["psql"], ["restore", "no.dump"]])
def test_a_password_that_is_not_escaped_is_in_no_error(
    place: Path, command: list[str], password: str
) -> None:
    url = f"postgresql://ada:{password}@127.0.0.1:1/none"
    line = run_refused(place / "data", *command, database_url=url, secret_key=SERVICE_KEY)
    assert "@ is %40, / is %2F" in line
    assert "LOVELACE" not in line


def test_a_password_is_not_printed(place: Path) -> None:
    url = "postgresql://ada:lovelace@127.0.0.1:1/none"
    assert "lovelace" not in run_refused(place / "data", "migrate", database_url=url, secret_key=SERVICE_KEY)


def test_a_postgres_that_is_too_old_is_refused(place: Path) -> None:
    with postgres_of_version("14.11") as url:
        line = run_refused(place / "data", "serve", database_url=url, secret_key=SERVICE_KEY)
    assert "Postgres 14 is too old" in line
    assert str(SERVER_VERSION_MIN // 10000) in line


@pytest.mark.parametrize(
    "command", [("worker",), ("accounts", "list"), ("keys", "list"), ("projections", "verify")], ids=" ".join
)
def test_a_database_that_is_not_migrated_is_refused(
    cluster: Cluster, place: Path, command: tuple[str, ...]
) -> None:
    with cluster.create_database(template="template0") as dsn:
        line = run_refused(place / "data", *command, database_url=dsn, secret_key=SERVICE_KEY)
    assert "run `ledger migrate`" in line


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("accounts", "create", ""), "The name of an account must not be empty."),
        (("accounts", "create", "  "), "The name of an account must not be empty."),
        (("accounts", "create", "\udcff"), "The name is not valid UTF-8 text."),
        (("accounts", "create", "a" * 5001), "A name has at most 5000 characters."),
        (("accounts", "create", "Ada", "--platform", ""), "No such account: ''"),
        (("accounts", "create", "Ada", "--reason", "x" * 1001), "--reason: must be text of at most 1000 "),
        (("keys", "create", ""), "No such account: ''"),
        (("keys", "create", "acct_none", "--name", "\udcff"), "The name is not valid UTF-8 text."),
        (
            ("keys", "create", "acct_none", "--expires-in-days", "nan"),
            "--expires-in-days: must be more than 0",
        ),
        (("keys", "create", "acct_none", "--expires-in-days", "1e300"), "at most 100000"),
        (("keys", "roll", "key_none", "--overlap", "9" * 15), "--overlap: must be 0 to 2592000 seconds"),
        (("projections", "rebuild"), "Name projections, or pass all (in the shell: --all)."),
        (("projections", "verify", "nonsense"), "No such projection: 'nonsense'"),
        (("projections", "show", "dispute"), "No such projection: 'dispute'. Did you mean disputes?"),
    ],
    ids=lambda value: (
        " ".join(value)[:40].encode("ascii", "replace").decode() if type(value) is tuple else ""
    ),
)
def test_a_wrong_argument_is_explained(dsn: str, place: Path, command: tuple[str, ...], reason: str) -> None:
    line = run_refused(place / "data", *command, database_url=dsn, secret_key=SERVICE_KEY)
    assert reason in line


def test_a_command_that_succeeds_names_a_setting_that_is_misspelt(dsn: str, place: Path) -> None:
    """And no other variable that begins alike: it may belong to another program."""
    settings = {"database_url": dsn, "secret_key": SERVICE_KEY, "lst_wait_ms": "lovelace", "x": "lovelace"}
    ended = run_ledger(place / "data", "accounts", "list", "--json", **settings)
    line = "ledger: LEDGER_LST_WAIT_MS: unknown setting; did you mean LEDGER_LIST_WAIT_MS?\n"
    assert (ended.returncode, ended.stderr) == (0, line)
    assert ended.stdout.startswith("{")


def test_a_verification_that_compares_nothing_fails(dsn: str, place: Path) -> None:
    """The projections are live, but the log is empty."""
    settings = {"database_url": dsn, "secret_key": SERVICE_KEY}
    with run_serve(place / "nothing", **settings) as service:
        service.wait_until(lambda: httpx.get(f"{service.url}/readyz").status_code == 200)
        for options in ((), ("--sample", "5"), ("customers",), ("--json",)):
            ended = run_ledger(place / "nothing", "projections", "verify", *options, **settings)
            assert ended.returncode == 1
            assert re.fullmatch(r"ledger: nothing was verified: .+\n", ended.stderr)


def test_a_database_that_supports_only_later_releases_is_refused(cluster: Cluster, place: Path) -> None:
    with cluster.create_database() as dsn:
        with psycopg.connect(dsn) as conn:
            conn.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
            conn.execute("UPDATE ledger.served SET oldest = '9998'")
        line = run_refused(place / "data", "api", database_url=dsn, secret_key=SERVICE_KEY)
    assert "schema is at 9999 and supports releases from 9998 on" in line
    assert "run a newer release" in line


def test_a_user_without_the_rights_to_migrate_learns_which_it_needs(cluster: Cluster, place: Path) -> None:
    role = sql.Identifier("ledger_test_plain")
    with cluster.create_database(template="template0") as dsn:
        cluster.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'plain'").format(role))
        try:
            plain = make_conninfo(dsn, user="ledger_test_plain", password="plain")
            line = run_refused(place / "data", "migrate", database_url=plain, secret_key=SERVICE_KEY)
        finally:
            cluster.execute(sql.SQL("DROP ROLE {}").format(role))
    assert "CREATEROLE" in line


def test_migrating_again_changes_nothing(cluster: Cluster, place: Path) -> None:
    with cluster.create_database() as dsn:
        ended = run_ledger(place / "data", "migrate", database_url=dsn, secret_key=SERVICE_KEY)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "up to date" in ended.stdout


def test_a_port_in_use_is_reported_before_anything_is_created(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = run_refused(place / "data", "serve", port=port)
    assert f"port {port}" in line
    assert "LEDGER_PORT" in line
    assert not (place / "data").exists()


def test_an_unknown_host_is_reported(place: Path) -> None:
    assert "LEDGER_HOST" in run_refused(place / "data", "serve", host="no such host")


def test_a_data_directory_that_is_a_file_is_reported(place: Path) -> None:
    file = place / "file"
    file.write_text("")
    assert "File exists" in run_refused(file, "serve")


@contextmanager
def postgres_of_version(version: str) -> Iterator[str]:
    """A server that reports this version and lets anyone in: no binary of that version is available here."""

    def answer(server: socket.socket) -> None:
        for _ in range(2):  # who looks at the server, and who looks at the schema
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                status = b"server_version\0" + version.encode() + b"\0"
                connection.sendall(
                    b"R" + (8).to_bytes(4) + (0).to_bytes(4)
                    + b"S" + (4 + len(status)).to_bytes(4) + status
                    + b"Z" + (5).to_bytes(4) + b"I"
                )  # fmt: skip
                connection.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        yield f"postgresql://x@127.0.0.1:{server.getsockname()[1]}/x?sslmode=disable&gssencmode=disable"
        thread.join()
