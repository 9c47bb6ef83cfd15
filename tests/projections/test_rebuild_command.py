"""Rebuilding as an operator does it, from a shell: what is said, what each command does, and that processes
and Postgres may be killed at any moment without starting over (`kill -9` of real ones)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ledger.domain import customer
from ledger.domain.aggregate import State
from ledger.domain.customer import Customer
from ledger.domain.event import DomainEvent
from ledger.postgres.connections import open_connection
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from ledger.store.codec import evolve
from projections.rebuild.records import Rebuild
from tests.api.service import Registrar, Service, create_client
from tests.conftest import Cluster
from tests.forks import ForkedProcess, start_ledger
from tests.projections.histories import ACCOUNT, KEY, Author, catch_up, load_rows, run_story
from tests.projections.rebuilds import load_live_generations, load_rebuild
from tests.serving.process import build_environment, list_children, run_ledger, run_refused

CUSTOMERS = 3000
EVENTS = 3 * CUSTOMERS
WAIT_SECONDS = 40.0
# Each page but a share's first waits for the test, its rows written and not committed.
GATE = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.stream <> '' THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER gate BEFORE UPDATE ON projections.shares FOR EACH ROW EXECUTE FUNCTION public.gate();
"""

# Each later stage waits for the test, too.
LATER_GATES = """
CREATE FUNCTION public.indexed(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(11); RETURN $1; END $$;
CREATE INDEX indexed ON ONLY projections.customers (public.indexed(id));
CREATE FUNCTION public.later_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint); RETURN NEW; END $$;
CREATE TRIGGER caught_up BEFORE UPDATE ON projections.rebuilds FOR EACH ROW
WHEN (OLD.state = 'catching up') EXECUTE FUNCTION public.later_gate(12);
CREATE TRIGGER compared BEFORE INSERT ON projections.operations FOR EACH ROW
WHEN (NEW.action = 'compare') EXECUTE FUNCTION public.later_gate(13);
"""


async def write_history(author: Author) -> None:
    """Customers, each changed twice: more than two pages."""
    events: list[DomainEvent] = []
    for number in range(CUSTOMERS):
        state: State | None = None
        decided = customer.create(
            customer_id=f"cus_{number:05}",
            account=ACCOUNT,
            livemode=False,
            params={"email": f"jenny.{number}@example.com"},
            card_id="card_none",
            now=author.now,
        )
        for detail in ("one", "two", ""):
            for event in decided:
                state = evolve(state, event)
            assert isinstance(state, Customer)
            events += decided
            decided = customer.update(state, {"description": detail}, card_id="card_none", now=author.now)
    for start in range(0, EVENTS, 900):
        await author.append(events[start : start + 900])
    await catch_up(author.dsn)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of this module's own, to crash: what it wrote is safe with the kernel, fsync or not."""
    place = Path(tempfile.mkdtemp(prefix="rebuilding-"))
    place.chmod(0o755)
    server = EmbeddedPostgres(place / "data", settings={"fsync": "off", "shared_buffers": "32MB"})
    server.start()
    migrate(server.dsn())
    run_story(server.dsn(), write_history)
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(GATE)
    yield server
    server.destroy()
    shutil.rmtree(place)


class Shell:
    """An operator's, at a database with history."""

    def __init__(self, dsn: str, place: Path) -> None:
        self.dsn = dsn
        self.place = place
        self.settings: dict[str, Any] = {"database_url": dsn, "secret_key": KEY.decode()}
        self.begun: list[ForkedProcess] = []

    def does(self, *arguments: str, status: int = 0) -> str:
        """What `ledger projections …` prints."""
        ended = run_ledger(self.place, "projections", *arguments, **self.settings)
        assert ended.returncode == status, ended
        return ended.stdout

    def refused(self, *arguments: str) -> str:
        return run_refused(self.place, "projections", *arguments, **self.settings)

    def begins(self, *arguments: str) -> ForkedProcess:
        """`ledger …`, left running; ended with the test at the latest."""
        said = self.place / f"begun-{len(self.begun)}"
        process = start_ledger(
            arguments,
            environment=build_environment(self.place, **self.settings),
            directory=self.place.parent,
            output=said.with_suffix(".out"),
            errors=said.with_suffix(".err"),
        )
        self.begun.append(process)
        return process

    def rebuild(self, number: int = 1) -> Rebuild:
        return asyncio.run(load_rebuild(self.dsn, number))

    def sql(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            cur = conn.execute(statement.encode())
            return cur.fetchall() if cur.description else []

    @contextlib.contextmanager
    def gate_closed(self) -> Iterator[None]:
        """No share gets beyond its first page."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute("SELECT pg_advisory_lock(7)")
            yield

    def first_pages(self) -> int:
        """How many events every share has filled that has come to the closed gate."""
        shares = "SELECT bool_and(stream <> ''), sum(events)::bigint FROM projections.shares"
        wait_until(lambda: self.sql(shares)[0][0])
        return int(self.sql(shares)[0][1])

    @contextlib.contextmanager
    def holding(self, statement: str) -> Iterator[psycopg.Connection[Any]]:
        """The locks of a statement."""
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn) as conn:
            conn.execute(statement.encode())
            yield conn

    def generations(self, name: str) -> dict[int, list[dict[str, Any]]]:
        """All rows by generation."""

        async def read() -> dict[int, list[dict[str, Any]]]:
            async with open_connection(self.dsn, "ledger_projector", name="test") as conn:
                found = await conn.execute(
                    "SELECT generation FROM projections.checkpoints WHERE projection = %s ORDER BY 1", (name,)
                )
                numbers = [row[0] for row in await found.fetchall()]
                return {number: (await load_rows(conn, number))[name] for number in numbers}

        return asyncio.run(read())

    def live(self, name: str) -> int:
        async def read() -> int:
            async with open_connection(self.dsn, "ledger_projector", name="test") as conn:
                return (await load_live_generations(conn))[name]

        return asyncio.run(read())


@pytest.fixture
def shell(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Shell]:
    name = conninfo_to_dict(server.dsn())["dbname"]
    with Cluster(server.dsn("postgres")).create_database(str(name)) as dsn:
        shell = Shell(dsn, tmp_path)
        yield shell
        for process in shell.begun:
            for pid in [*list_children(process.pid), process.pid]:
                kill(pid)
            process.wait()


def wait_until(holds: Callable[[], Any]) -> Any:
    """What it gives when it is something."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def list_backfill_pids(driver: ForkedProcess) -> set[int]:
    return {pid for pid, command in list_children(driver.pid, "args").items() if " fill " in command}


def has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else True


def wait_for_end(process: ForkedProcess) -> tuple[int, str]:
    """Exit status, and what it said on standard error."""
    return process.wait(WAIT_SECONDS), process.errors.read_text()


def check_whole(shell: Shell, *, workers: int, number: int = 1) -> None:
    """Switched, each event filled once, and the rows those that were live."""
    done = shell.rebuild(number)
    assert (done.state, done.error, done.workers) == ("switched", None, workers)
    assert done.events == done.total == EVENTS, "no page was filled twice"
    found = shell.generations("customers")
    assert set(found) == {1, 2}
    assert len(found[1]) == CUSTOMERS
    assert found[2] == found[1]
    assert shell.live("customers") == 2


def test_an_operator_rebuilds_compares_accepts_and_rolls_back(shell: Shell) -> None:
    lines = [
        json.loads(line)
        for line in shell.does("rebuild", "customers", "feed", "--workers", "2", "--json").splitlines()
    ]
    stages = ["filling", "indexing", "catching up", "comparing", "switched"]
    assert {line["state"] for line in lines} <= set(stages)
    assert sorted(lines, key=lambda line: stages.index(line["state"])) == lines
    last = lines[-1]
    assert (last["state"], last["events"], last["total"]) == ("switched", EVENTS, EVENTS)
    assert last["bytes"] > 100_000
    assert last["events_per_second"] > 0
    check_whole(shell, workers=2)

    shell.sql("UPDATE projections.customers SET email = 'drifted' WHERE id = 'cus_00007' AND generation = 2")
    (verified,) = json.loads(shell.does("verify", "customers", "--json", status=1))
    assert (verified["rows"], verified["differing"], verified["keys"]) == (CUSTOMERS, 1, ["cus_00007"])

    plain = shell.does("rebuild", "customers", status=1)
    assert plain.splitlines()[-1].startswith("rebuild 2 of customers: differing")
    assert shell.live("customers") == 2
    output = shell.does("diff", "customers")
    assert re.match(rf"rebuild 2, compared at \S+Z: {CUSTOMERS} rows, {CUSTOMERS} live", output), output
    assert "Look at the differences with `diff`" in shell.refused("switch", "customers")
    assert 'cus_00007\n  email: "…" → "…"' in output
    status = shell.does("status")
    states = {tuple(line.split("\t")[:3]) for line in status.splitlines() if line.count("\t") > 2}
    assert {("customers", "1", "kept"), ("customers", "2", "live"), ("customers", "3", "building")} < states
    assert "1 row differs" in status
    assert "ledger projections diff customers" in status
    assert "--reason" in shell.refused("switch", "customers", "--accept-differences")
    shell.does("switch", "customers", "--accept-differences", "--reason", "drifted by hand")
    assert shell.live("customers") == 3
    accepted = shell.sql(
        "SELECT reason, details ->> 'accepted' FROM projections.operations "
        "WHERE action = 'switch' AND generation = 3"
    )
    assert accepted == [("drifted by hand", "true")]

    assert "Generation 2 of customers is live" in shell.does("rollback", "customers")
    assert shell.does("retire", "customers", "--yes") == "Dropped of customers: 1\n", (
        "generation 3 is newer and is kept for switching forward"
    )
    assert "Dropped of customers: 3" in shell.does("retire", "customers", "--generation", "3", "--yes")
    assert list(shell.generations("customers")) == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rebuild",), "Name projections, or pass all (in the shell: --all)."),
        (("rebuild", "customers", "--workers", "0"), "--workers: Must be 1 to 64."),
        (("cancel", "nothing"), "No such projection: 'nothing'"),
        (("retire", "customers", "--generation", "0"), "--generation: Must be 1 to 2147483647."),
        (("switch", "customers", "--generation", "0"), "--generation: Must be 1 to 2147483647."),
        (
            ("retire", "customers", "--removed", "--yes"),
            "--reason: Give a reason for dropping the projection; it is kept on record.",
        ),
        (
            ("retire", "customers", "--removed", "--reason", "x", "--yes"),
            "customers is a projection of this release",
        ),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(
    server: EmbeddedPostgres, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in Shell(server.dsn(), tmp_path).refused(*arguments)


def test_a_rebuild_killed_during_its_backfill_continues_after_its_last_page(shell: Shell) -> None:
    with shell.gate_closed():
        first = shell.begins("projections", "rebuild", "customers", "--workers", "2")
        pages = shell.first_pages()
        (doomed, other) = sorted(list_backfill_pids(first))
        kill(doomed)
        replaced = wait_until(lambda: list_backfill_pids(first) - {doomed, other})
        output = shell.refused("rebuild", "customers", "feed")
        assert "rebuild 1 of customers, started by " in output
        assert output.endswith("is running.")

        kill(first.pid)
        wait_until(lambda: all(has_ended(pid) for pid in {other, *replaced}))
        (standing,) = json.loads(shell.does("status", "--json"))["rebuilds"]
        assert (standing["state"], standing["events"]) == ("filling", pages)
        assert (standing["driven"], standing["bytes"] > 0) == (False, True)

        second = shell.begins("projections", "resume", "customers")
        for pid in [*wait_until(lambda: list_backfill_pids(second)), second.pid]:
            kill(pid)
        third = shell.begins("projections", "resume", "customers")
        wait_until(lambda: list_backfill_pids(third))
        assert "is paused" in shell.does("pause", "customers")
    status, said = wait_for_end(third)
    assert status == 1
    assert "paused; to continue: ledger projections resume customers" in said
    # A page under way when it was paused is kept: then the share may be done.
    assert shell.rebuild().events >= pages
    shell.does("resume", "customers")
    check_whole(shell, workers=2)


def test_a_rebuild_survives_crashes_of_postgres_while_filling_and_while_indexing(
    server: EmbeddedPostgres, shell: Shell
) -> None:
    with contextlib.suppress(psycopg.OperationalError), shell.gate_closed():
        filling = shell.begins("projections", "rebuild", "customers")
        pages = shell.first_pages()
        server.kill()
        status, said = wait_for_end(filling)
        assert status == 1
        assert said.startswith("ledger: the connection to the database was lost (")
        assert "ledger projections resume customers" in said
    server.start()
    assert shell.rebuild().events == pages

    # Attaching a partition asks for this lock, too.
    with shell.holding("LOCK TABLE projections.customers IN SHARE UPDATE EXCLUSIVE MODE"):
        indexing = shell.begins("projections", "resume", "customers")
        wait_until(lambda: shell.rebuild().state == "indexing")
        server.kill()
        assert wait_for_end(indexing)[0] == 1
    server.start()
    assert (shell.rebuild().state, shell.rebuild().events) == ("indexing", EVENTS)

    worker = shell.begins("worker")
    wait_until(lambda: shell.rebuild().state == "switched")
    worker.terminate()
    assert wait_for_end(worker)[0] == 0
    check_whole(shell, workers=1)


def test_a_rebuild_killed_in_a_later_stage_continues(shell: Shell) -> None:
    shell.sql(LATER_GATES)
    held_up = (
        "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database AND datname = current_database() "
        "WHERE locktype = 'advisory' AND objid = {} AND NOT granted"
    )
    driver = None
    for number, stage in enumerate(("indexing", "catching up", "comparing"), start=11):
        with psycopg.connect(shell.dsn, autocommit=True) as conn:
            conn.execute(f"SELECT pg_advisory_lock({number})".encode())
            if driver is None:
                driver = shell.begins("projections", "rebuild", "customers")
            else:
                driver = shell.begins("projections", "resume", "customers")
            wait_until(partial(shell.sql, held_up.format(number)))
            assert shell.rebuild().state == stage
            kill(driver.pid)
            wait_until(lambda: shell.rebuild().needs_driver)
            if stage == "comparing":
                status = shell.does("status")
                assert "no process is running it: start a worker, or run: ledger projections resume" in status
    shell.does("resume", "customers")
    check_whole(shell, workers=1)


def test_a_projection_that_no_release_has_is_dropped_unless_a_worker_of_another_release_runs(
    shell: Shell,
) -> None:
    shell.sql(
        "CREATE TABLE projections.gone_g1 (id text); "
        "ALTER TABLE projections.gone_g1 OWNER TO ledger_projector; "
        "INSERT INTO projections.checkpoints (projection, generation) VALUES ('gone', 1); "
        "INSERT INTO projections.live (projection, generation) VALUES ('gone', 1)"
    )
    assert "not of this release" in next(line for line in shell.does("status").splitlines() if "gone" in line)
    remove = ("retire", "gone", "--removed", "--reason", "nobody lists it", "--yes")
    with psycopg.connect(shell.dsn, application_name="ledger projections", autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(1, 0)")
        assert "a worker of another release, which may still have gone, is running" in shell.refused(*remove)
    assert shell.does(*remove) == "Dropped of gone: 1\n"
    assert shell.sql("SELECT to_regclass('projections.gone_g1')") == [(None,)]


def test_a_rebuild_cancelled_during_an_index_build_leaves_nothing_behind(shell: Shell) -> None:
    with shell.gate_closed():
        driver = shell.begins("projections", "rebuild", "customers")
        shell.first_pages()
        reader = shell.holding("SELECT FROM projections.customers_g2 LIMIT 1")
        conn = reader.__enter__()
    waits = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'projections.customers_g2'::regclass"
    wait_until(lambda: shell.rebuild().state == "indexing" and shell.sql(waits))
    cancel = shell.begins("projections", "cancel", "customers")
    wait_until(lambda: shell.rebuild().state == "cancelled")
    conn.rollback()
    assert wait_for_end(cancel)[0] == 0
    status, said = wait_for_end(driver)
    assert (status, said) == (1, "ledger: customers: the rebuild was cancelled\n")
    assert shell.sql("SELECT to_regclass('projections.customers_g2')") == [(None,)]
    assert list(shell.generations("customers")) == [1]
    assert shell.live("customers") == 1


def test_calls_succeed_while_everything_they_read_is_rebuilt(shell: Shell) -> None:
    shell.place.mkdir(exist_ok=True)
    service = Service(shell.dsn, shell.place, LEDGER_SECRET_KEY=KEY.decode())
    registrar = Registrar(shell.dsn)
    try:
        stripe = create_client(service, registrar.account().secret)
        names: list[str] = []
        stop = False

        def call() -> int:
            """Makes customers, and finds each in its list and its Event in the feed, at once."""
            while not stop:
                made = stripe.v1.customers.create({"email": f"{len(names)}@example.com", "name": "Ada"})
                names.append(made.id)
                assert stripe.v1.customers.list({"limit": 1}).data[0].id == made.id
                (event,) = stripe.v1.events.list({"limit": 1}).data
                assert (event.type, event.data.object["id"]) == ("customer.created", made.id)
            return len(names)

        with ThreadPoolExecutor() as threads:
            with shell.gate_closed():
                driver = shell.begins("projections", "rebuild", "--all", "--workers", "2")
                calling = threads.submit(call)
                shell.first_pages()
                filled = wait_until(lambda: len(names) > 5 and len(names))
            status, said = wait_for_end(driver)
            after = len(names)
            wait_until(lambda: calling.done() or len(names) > after + 5)
            stop = True
            assert calling.result() > filled
        assert status == 0, said
        assert {shell.live(name) for name in ("customers", "feed", "postings")} == {2}
        listed = [each.id for each in stripe.v1.customers.list({"limit": 100}).auto_paging_iter()]
        assert listed == names[::-1]
        events = list(stripe.v1.events.list({"limit": 100}).auto_paging_iter())
        assert [event.data.object["id"] for event in events] == names[::-1], "each once"
        ids = [row["id"] for row in shell.generations("feed")[2]]
        assert set(ids) == {row["id"] for row in shell.generations("feed")[1]}
        assert len(ids) == len(set(ids)) == EVENTS + len(names)
    finally:
        registrar.close()
        service.stop()
