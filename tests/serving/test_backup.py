"""`ledger backup`, `ledger restore` and `ledger psql` with PostgreSQL's own programs, embedded and not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.postgres.programs.client import add_options, describe_connection, find_newest_program
from tests.conftest import Cluster
from tests.serving.process import PROGRAM, SERVICE_KEY, build_environment, run_ledger, run_refused, run_serve

PASSWORD = "the password: 'of' \\ the owner"
LINES: list[dict[str, Any]] = [
    {"op": "customer", "id": "cus_1", "name": "Ada", "metadata": {"ALTER TABLE x OWNER TO y;": "\n\\.\n"}},
    {"op": "charge", "id": "ch_1", "customer": "cus_1", "amount": 2000, "currency": "usd"},
    {"op": "file", "id": "file_1", "purpose": "dispute_evidence", "content": "JVBERi0xLjQ="},
]
# Other tests may wait for locks in their databases.
WAITING = """
SELECT pid FROM pg_locks
WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
COMPARED = """
SELECT 'event', notification_id::text, md5(state) FROM ledger.events
UNION ALL SELECT 'chunk', file, md5(sealed) FROM ledger.file_chunks
UNION ALL SELECT 'account', id, name FROM ledger.accounts
UNION ALL SELECT 'owner', tableowner, schemaname || '.' || tablename FROM pg_tables
    WHERE tableowner = 'ledger_projector'
UNION ALL SELECT 'right', grantee || ' ' || privilege_type, table_schema || '.' || table_name
    FROM information_schema.role_table_grants WHERE grantee LIKE 'ledger\\_%'
UNION ALL SELECT 'trigger', tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal
ORDER BY 1, 2, 3
"""


def on(dsn: str, key: str = SERVICE_KEY) -> dict[str, Any]:
    return {"database_url": dsn, "secret_key": key}


def read(dsn: str, query: str = COMPARED) -> list[Any]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query).fetchall()


def is_empty(dsn: str) -> bool:
    return not read(dsn, "SELECT FROM pg_namespace WHERE nspname IN ('ledger', 'projections', 'webhooks')")


@pytest.fixture(scope="module")
def source(cluster: Cluster, place: Path) -> Iterator[str]:
    """A database with some data."""
    with cluster.create_database() as dsn:
        run_ledger(place / "data", "accounts", "create", "Shop", **on(dsn))
        lines = place / "lines.ndjson"
        lines.write_text("".join(json.dumps(line) + "\n" for line in LINES))
        assert run_ledger(place / "data", "import", str(lines), **on(dsn)).returncode == 0
        yield dsn


@pytest.fixture(scope="module")
def backup(source: str, place: Path) -> Path:
    """A backup of that database."""
    file = place / "ledger.dump"
    made = run_ledger(place / "data", "backup", str(file), **on(source))
    assert (made.returncode, made.stderr) == (0, "")
    assert "everything up to position 3." in made.stdout
    assert SERVICE_KEY not in made.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    return file


@pytest.fixture
def target(cluster: Cluster) -> Iterator[str]:
    """An empty database."""
    with cluster.create_database(template="template0") as dsn:
        yield dsn


def test_a_backup_is_restored_by_a_user_who_is_no_superuser(
    cluster: Cluster, source: str, backup: Path, target: str, place: Path
) -> None:
    role, database = sql.Identifier("test_restorer"), sql.Identifier(str(dsn_of(target)["dbname"]))
    cluster.execute(
        sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(role, sql.Literal(PASSWORD))
    )
    try:
        for granted in ("ledger_api", "ledger_projector"):  # made by this server's first migration
            statement = "GRANT {} TO {} WITH ADMIN OPTION"
            cluster.execute(sql.SQL(statement).format(sql.Identifier(granted), role))
        # What whoever makes a role has of it.
        cluster.execute(sql.SQL("GRANT ledger_analyst TO {} WITH ADMIN TRUE, SET FALSE").format(role))
        cluster.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, role))
        owned = make_conninfo(target, user="test_restorer", password=PASSWORD)
        restored = run_ledger(place / "data", "restore", str(backup), **on(owned))
        assert restored.returncode == 0, restored
        assert PASSWORD not in restored.stdout + restored.stderr
        assert read(target) == read(source)
        again = run_refused(place / "data", "restore", str(backup), **on(owned))
        assert "the database is not empty (it has the schema" in again
        question = (
            "--role",
            "ledger_analyst",
            "-Atc",
            "SELECT current_user FROM reporting.freshness LIMIT 1",
        )
        assert run_ledger(place / "data", "psql", *question, **on(owned)).stdout == "ledger_analyst\n"
    finally:
        cluster.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
        cluster.execute(sql.SQL("DROP ROLE {}").format(role))


def dsn_of(dsn: str) -> dict[str, Any]:
    return psycopg.conninfo.conninfo_to_dict(dsn)


def test_a_restored_database_runs(source: str, target: str, place: Path) -> None:
    """From the log alone: the projections are built again."""
    file = place / "log.dump"
    assert run_ledger(place / "data", "backup", "--log-only", str(file), **on(source)).returncode == 0
    assert run_ledger(place / "data", "restore", str(file), **on(target)).returncode == 0
    (account,) = [row[0] for row in read(target, "SELECT id FROM ledger.accounts")]
    key = run_ledger(place / "data", "keys", "create", account, **on(target)).stdout.split()[3]
    with run_serve(place / "copy", **on(target)) as service:
        answer = httpx.get(f"{service.url}/v1/charges", auth=(key, ""))
        assert [charge["id"] for charge in answer.json()["data"]] == ["ch_1"]
        assert httpx.get(f"{service.url}/v1/customers/cus_1", auth=(key, "")).json()["name"] == "Ada"


def test_an_embedded_database_is_backed_up_while_it_is_used(place: Path) -> None:
    data_dir, file = place / "embedded", place / "embedded.dump"
    with run_serve(data_dir) as service:
        key = json.loads((data_dir / "dev-keys.json").read_text())["secret"]
        httpx.post(f"{service.url}/v1/customers", auth=(key, ""), data={"name": "Grace"}).raise_for_status()
        made = run_ledger(data_dir, "backup", str(file))
        assert (made.returncode, made.stderr) == (0, "")
        assert f"the service key ({data_dir / 'secret.key'})" in made.stdout
    copy = place / "restored"
    assert "the key is missing" in run_refused(copy, "restore", str(file))
    assert "is not the key that the data" in run_refused(
        copy, "restore", str(file), secret_key="another-key-" * 4
    )
    assert not copy.exists()
    restored = run_ledger(copy, "restore", str(file), "--key-file", str(data_dir / "secret.key"))
    assert (restored.returncode, restored.stderr) == (0, "")
    assert "`ledger erase replay" in restored.stdout
    assert "there is a database" in run_refused(copy, "restore", str(file))
    position, name = "SELECT position FROM head", "SELECT name FROM accounts"
    shown = run_ledger(copy, "psql", "-At", "-c", position, "-c", name).stdout.split()
    assert shown == ["1", "Development"]
    roles = "SELECT rolname, rolconfig FROM pg_roles WHERE rolname LIKE 'ledger%' ORDER BY 1"
    ended = [run_ledger(each, "psql", "-At", "-c", roles) for each in (copy, data_dir)]
    assert ended[0].stdout == ended[1].stdout
    assert "ledger_analyst" in ended[0].stdout
    assert json.loads(run_ledger(copy, "webhooks", "status", "--json").stdout)["off"] == ["copy"]


def test_a_file_that_cannot_be_restored_is_refused_in_one_line(
    cluster: Cluster, backup: Path, target: str, place: Path
) -> None:
    def refuse(file: Path, **settings: Any) -> str:
        keys = ("--keys", f"{backup}.keys")
        line = run_refused(place / "data", "restore", str(file), *keys, **(on(target) | settings))
        assert is_empty(target)
        return line

    file = place / "other.dump"
    assert "cannot read" in refuse(file)
    file.write_text("SELECT 1;\n")
    assert "is not a backup" in refuse(file)
    content = backup.read_bytes()
    for size in (5, 1000, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        assert "is damaged or incomplete" in refuse(file)
    assert "LEDGER_SECRET_KEY is not the key" in refuse(backup, secret_key="another-key-" * 4)
    with cluster.create_database() as newer:
        with psycopg.connect(newer) as conn:
            conn.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
            conn.execute("UPDATE ledger.served SET oldest = '9998'")
        assert run_ledger(place / "data", "backup", str(file), "--force", **on(newer)).returncode == 0
    assert "has schema 9999, which supports releases from 9998 on" in refuse(file)
    subprocess.run([find_newest_program("pg_dump"), "-Fc", "-f", file, target], check=True)
    assert "is a dump of another database" in refuse(file)
    assert "there is nothing to back up" in run_refused(
        place / "data", "backup", str(place / "nothing.dump"), **on(target)
    )


@pytest.mark.parametrize(
    ("whole", "altered", "reason"),
    [
        (
            b"IS 'For analysts",
            b"IS 'For \xe3nalysts",
            "is damaged or incomplete: its definitions are not UTF-8",
        ),
        (
            b"COMMENT ON SCHEMA reporting",
            b";\n\\! touch altered\n--      ",
            "backslash commands are restricted",
        ),
    ],
    ids=["text that is not UTF-8", "a shell command"],
)
def test_a_file_with_other_statements_is_refused_in_one_line(
    backup: Path, target: str, place: Path, whole: bytes, altered: bytes, reason: str
) -> None:
    file = place / "altered.dump"
    assert len(whole) == len(altered)
    file.write_bytes(backup.read_bytes().replace(whole, altered))
    keys = ("--keys", f"{backup}.keys")
    assert reason in run_refused(place / "data", "restore", str(file), *keys, **on(target))
    assert not Path("altered").exists()
    assert is_empty(target)


def test_a_damaged_backup_leaves_no_embedded_database(backup: Path, place: Path) -> None:
    damaged, data_dir = place / "damaged.dump", place / "half"
    content = backup.read_bytes()
    damaged.write_bytes(content[: len(content) - 1])
    assert "is damaged or incomplete" in run_refused(
        data_dir, "restore", str(damaged), "--keys", f"{backup}.keys", secret_key=SERVICE_KEY
    )
    assert not data_dir.exists()
    data_dir.mkdir()
    (data_dir / "notes.txt").touch()
    line = run_refused(data_dir, "restore", str(backup), secret_key=SERVICE_KEY)
    assert f"{data_dir} is not empty (it has notes.txt)" in line


def test_a_backup_replaces_no_file_and_is_whole_or_not_there(source: str, place: Path) -> None:
    folder = place / "backups"
    folder.mkdir()
    file = folder / "kept.dump"
    file.write_text("kept")
    assert "kept.dump exists" in run_refused(place / "data", "backup", str(file), **on(source))
    assert "is a directory" in run_refused(place / "data", "backup", str(folder), "--force", **on(source))
    assert "cannot write" in run_refused(place / "data", "backup", str(folder / "no" / "x"), **on(source))
    assert "cannot write" in run_refused(place / "data", "backup", str(file / "x"), **on(source))
    limited = ("sh", "-c", 'ulimit -f 32; exec "$0" "$@"', *PROGRAM)
    line = run_refused(
        place / "data", "backup", str(file), "--force", program=limited, release=Path.cwd(), **on(source)
    )
    assert "the database cannot be dumped" in line
    assert [path.name for path in folder.iterdir()] == ["kept.dump"]
    assert file.read_text() == "kept"
    assert run_ledger(place / "data", "backup", str(file), "--force", **on(source)).returncode == 0
    assert file.read_bytes().startswith(b"PGDMP")


@pytest.mark.parametrize("command", ["backup", "export"])
def test_a_device_or_pipe_is_not_replaced_by_a_file(source: str, place: Path, command: str) -> None:
    pipe = place / f"{command}.pipe"
    os.mkfifo(pipe)
    assert "is not an ordinary file" in run_refused(
        place / "data", command, str(pipe), "--force", **on(source)
    )
    assert pipe.is_fifo()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_backup_that_a_signal_ends_leaves_nothing(source: str, place: Path, number: signal.Signals) -> None:
    folder = place / f"ended by {number}"
    folder.mkdir()
    with psycopg.connect(source) as conn:
        conn.execute("LOCK TABLE ledger.service_key")  # pg_dump waits for it
        process = subprocess.Popen(
            [*PROGRAM, "backup", str(folder / "x")],
            env=build_environment(place / "data", **on(source)),
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # under nohup one is ignored
        )
        while not (waiting := read(source, WAITING)):
            time.sleep(0.05)
        assert list(folder.iterdir())
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert not list(folder.iterdir())
    assert waiting[0] not in read(source, "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


def test_a_backup_whose_server_is_lost_says_so_in_one_line(source: str, place: Path) -> None:
    file = place / "lost.dump"
    with psycopg.connect(source) as conn:
        conn.execute("LOCK TABLE ledger.service_key")  # pg_dump waits for it
        process = subprocess.Popen(
            [*PROGRAM, "backup", str(file)],
            env=build_environment(place / "data", **on(source)),
            stderr=subprocess.PIPE,
            text=True,
        )
        while not read(source, WAITING):
            time.sleep(0.05)
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND (application_name = 'ledger cli' OR pid IN (SELECT pid FROM pg_locks WHERE NOT granted))"
        )
        _, errors = process.communicate(timeout=20)
    assert re.fullmatch(r"ledger: the database cannot be dumped: .+\n", errors), errors
    assert not file.exists()


def test_a_restore_that_a_signal_ends_leaves_no_embedded_database(backup: Path, place: Path) -> None:
    drill = place / "ended"
    process = subprocess.Popen(
        [*PROGRAM, "restore", str(backup)], env=build_environment(drill, secret_key=SERVICE_KEY)
    )
    while not drill.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert not drill.exists()


def test_a_user_without_the_rights_to_dump_is_told_so(source: str, place: Path) -> None:
    with psycopg.connect(source, autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS ledger_test_service")
        conn.execute(
            "CREATE ROLE ledger_test_service LOGIN PASSWORD 'x' IN ROLE ledger_api, ledger_projector"
        )
        service = make_conninfo(source, user="ledger_test_service", password="x", passfile="/nonexistent")
        try:
            line = run_refused(place / "data", "backup", str(place / "no.dump"), **on(service))
        finally:
            conn.execute("DROP ROLE ledger_test_service")
    assert "use the user who owns the database" in line


def test_psql_is_read_only_unless_told_otherwise(source: str, place: Path) -> None:
    def psql(*arguments: str) -> tuple[int, str, str]:
        ended = run_ledger(place / "data", "psql", *arguments, **on(source))
        return ended.returncode, ended.stdout.strip(), ended.stderr.strip()

    change = "UPDATE accounts SET name = 'Other'"
    assert psql("-Atc", "SELECT position FROM head") == (0, "3", "")
    assert psql("-At", "-v", "ON_ERROR_STOP=1", "-c", change)[2].endswith("in a read-only transaction")
    assert psql("--write", "-c", change) == (0, "UPDATE 1", "")
    assert psql("-Atc", "SELECT current_user", "--role", "ledger_api")[1] == "ledger_api"
    assert psql("--role", "ledger_api", "--write", "-c", "DELETE FROM events")[2].startswith(
        "ERROR:  permission denied"
    )
    names = ("statement_timeout", "timezone", "default_transaction_read_only")
    show = [argument for name in names for argument in ("-c", f"SHOW {name}")]
    as_analyst = psql("--role", "ledger_analyst", "-At", *show)[1].splitlines()
    assert as_analyst == ["5min", "UTC", "on"], "as in a login of the role"
    assert psql("--role", "ledger_analyst", "--write", "-At", *show)[1].splitlines()[-1] == "off"


def test_a_password_is_no_argument_of_a_program() -> None:
    url = f"postgresql://ada:{'%20secret'}@db.example.com/ledger?sslmode=require&keepalives_idle=7"
    connection = describe_connection(add_options(url, {"search_path": "a, b"}))
    assert connection.arguments == ["--dbname", "keepalives_idle=7"]
    assert connection.environment["PGPASSWORD"] == " secret"
    assert connection.environment["PGOPTIONS"] == "-c search_path=a,\\ b"
