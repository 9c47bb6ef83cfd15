"""What the tests of consumers run against: a ledger that appends and restarts, and a consumer's database."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import psycopg
from psycopg import sql

from tests.api.service import Registrar, Service

COMPARE = """
WITH applied AS (
    SELECT number, position, type, object, lag(position, 1, 0::bigint) OVER (ORDER BY number) AS previous
    FROM applied_events
)
SELECT
    (SELECT count(*) FROM ledger.events WHERE notification_id NOT IN (SELECT position FROM applied)),
    (SELECT count(*) - count(DISTINCT position) FROM applied),
    (SELECT count(*) FROM applied WHERE position <> previous + 1),
    (SELECT count(*) FROM applied LEFT JOIN ledger.events ON notification_id = position
     WHERE originator_id IS DISTINCT FROM object),
    (SELECT count(*) FROM (SELECT type, count(*) FROM applied GROUP BY type) AS listed (type, count)
     FULL JOIN event_counts AS counted USING (type) WHERE counted.count IS DISTINCT FROM listed.count)
"""
IMPORTED = 1000
END_CONNECTIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
IS_WAITED_FOR = """
SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE application_name = %s AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))
"""

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"


class Comparison(NamedTuple):
    """How what a consumer applied differs from the log: numbers of events, and of types counted wrongly."""

    lost: int
    doubled: int
    reordered: int
    mistaken: int
    miscounted: int


EQUAL = Comparison(0, 0, 0, 0, 0)


class RestartableLedger:
    """A running service with an account, and keys for the feed."""

    def __init__(self, dsn: str, place: Path) -> None:
        self.dsn = dsn
        self._place = place
        self._logs: list[str] = []
        self.service = self._start()
        registrar = Registrar(dsn)
        self.account = registrar.account()
        self.feed_key = registrar.key(self.account.id, "rk", scopes=["ledger_feed"])[1]
        self.account_feed_key = registrar.key(self.account.id, "rk", scopes=["feed"])[1]
        operator_key = registrar.key(self.account.id, "rk", scopes=["catalog", "network"])[1]
        registrar.close()
        self._import_customers(operator_key)

    def _import_customers(self, operator_key: str) -> None:
        """A history, so that cuts need not wait for what is appended."""
        lines = [
            f'{{"op": "customer", "id": "cus_{number}", "name": "Zoë 漢"}}' for number in range(IMPORTED)
        ]
        answer = httpx.post(
            f"{self.service.url}/internal/v1/import",
            content="\n".join(lines).encode(),
            headers={"authorization": f"Bearer {operator_key}", "content-type": "application/x-ndjson"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        assert "error" not in answer.text, answer.text[:500]

    def _start(self) -> Service:
        place = self._place / str(len(self._logs))
        place.mkdir()
        return Service(self.dsn, place)

    def restart(self) -> None:
        """Stop the service, and start it again at another port."""
        self.close()
        self.service = self._start()

    def close(self) -> None:
        """Stop the service."""
        self.service.stop()
        self._logs.append(self.service.log)

    @property
    def log(self) -> str:
        """What all processes of the service have logged."""
        return "".join(self._logs)

    def read_head(self) -> int:
        with psycopg.connect(self.dsn) as conn:
            row = conn.execute("SELECT position FROM ledger.head").fetchone()
        assert row is not None
        return int(row[0])

    def post(self, path: str, form: dict[str, Any]) -> Any:
        """The answer to a request of the account."""
        answer = httpx.post(self.service.url + path, data=form, auth=(self.account.secret, ""), timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def open_dispute(self) -> None:
        """A charge that its customer disputes at once."""
        self.post("/v1/charges", {"amount": 3000, "currency": "usd", "source": "tok_createDispute"})

    @contextlib.contextmanager
    def append_meanwhile(self) -> Iterator[None]:
        """A writer that creates customers until the block ends, also while the service is restarted."""
        is_done = threading.Event()
        writer = threading.Thread(target=self._append, args=(is_done,))
        writer.start()
        try:
            yield
        finally:
            is_done.set()
            writer.join()

    def _append(self, is_done: threading.Event) -> None:
        with httpx.Client(auth=(self.account.secret, ""), timeout=30) as client:
            while not is_done.wait(0.003):
                with contextlib.suppress(httpx.TransportError):  # the service restarts
                    client.post(f"{self.service.url}/v1/customers", data={"name": "Zoë 漢"})


class ConsumerDatabase:
    """A consumer's tables, in a schema of their own."""

    def __init__(self, dsn: str, schema: str) -> None:
        search_path = f"-csearch_path={schema}"
        self._application_name = schema
        self._conn = psycopg.connect(dsn, options=search_path, autocommit=True)
        self._conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        info = self._conn.info
        login = f"{quote(info.user)}:{quote(info.password)}"
        parameters = {
            "host": info.host,
            "port": info.port,
            "application_name": schema,
            "options": search_path,
        }
        # quote: in a URL of Postgres a plus sign is no space
        self.url = f"postgresql://{login}@/{info.dbname}?{urlencode(parameters, quote_via=quote)}"

    def close(self) -> None:
        self._conn.close()

    def read(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cur = self._conn.execute(query, parameters)
        return cur.fetchall() if cur.description else []

    def read_position(self) -> int:
        """How far the consumer has come; 0 before it has begun."""
        if self.read("SELECT to_regclass('ledger_feed_positions')") == [(None,)]:
            return 0
        rows = self.read("SELECT position FROM ledger_feed_positions")
        return int(rows[0][0]) if rows else 0

    @contextlib.contextmanager
    def hold_position(self) -> Iterator[Callable[[int], object]]:
        """Another instance, which holds the position until the end of the block: a function that moves it."""
        with self._conn.transaction():
            self.read("SELECT FROM ledger_feed_positions FOR UPDATE")
            yield lambda position: self.read("UPDATE ledger_feed_positions SET position = %s", position)

    @contextlib.contextmanager
    def hold_tables(self) -> Iterator[None]:
        """Another instance, which creates the consumer's own tables during the block, and fails."""
        with self._conn.transaction(force_rollback=True):
            self.read("CREATE TABLE event_counts ()")
            yield

    def count_waiting(self) -> int:
        """How many of the consumer's connections wait for a lock."""
        self.read("SELECT pg_stat_clear_snapshot()")  # or a transaction sees them as they were
        return int(self.read(WAITING, self._application_name)[0][0])

    def is_waited_for(self) -> bool:
        """Whether the consumer waits for a lock of this connection."""
        return self.read(IS_WAITED_FOR, self._application_name) == [(True,)]

    def compare(self) -> Comparison:
        """What was applied, beside the log."""
        return Comparison(*self.read(COMPARE)[0])

    def end_connections(self) -> None:
        """Take the consumer's connections away, whatever they do."""
        self.read(END_CONNECTIONS, self._application_name)
