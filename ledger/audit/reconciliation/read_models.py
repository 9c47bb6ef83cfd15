"""Reconciles the read models of money with the entries of the log: `postings`, `balance_transactions`,
`balance_changes`, and the balance that is added up from the last.

Each live generation is compared up to its checkpoint, without what its parked streams lack. Rows are found by
the entries of a page; that there are no others is known from counts, and only if these differ are all rows
looked up in the log. The balance is read by the statement that answers `GET /v1/balance`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from psycopg.rows import TupleRow

from ledger.audit.reconciliation.model import Entry
from ledger.audit.reconciliation.report import Report
from ledger.keys.data_keys import NO_KEYS, DataKeys
from ledger.keys.documents import find_subject, load_document_keys, open_document, run_on
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.balance import BALANCE

PROJECTIONS = ("postings", "balance_transactions", "balance_changes")
SCAN_ROWS = 5000

_LIVE = """
SELECT l.projection, l.generation, c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = ANY (%(names)s::text[])
"""
_PARKED = """
SELECT p.stream, p.position FROM projections.parked p
CROSS JOIN LATERAL (SELECT account FROM ledger.events WHERE notification_id = p.position OFFSET 0) e
WHERE p.projection = %(projection)s AND p.generation = %(generation)s
AND (%(account)s::text IS NULL OR e.account = %(account)s)
ORDER BY p.position, p.stream
"""
_ROWS = {
    "postings": """
SELECT id, account, livemode, created, position, ordinal, ledger_account, currency, amount, transaction,
       source
FROM projections.postings WHERE generation = %(generation)s AND position = ANY (%(positions)s::bigint[])
""",
    "balance_transactions": """
SELECT id, account, livemode, created, position, type, currency, source, fact
FROM projections.balance_transactions WHERE generation = %(generation)s AND id = ANY (%(ids)s::text[])
""",
    "balance_changes": """
SELECT id, account, livemode, created, position, currency, net, available_on
FROM projections.balance_changes WHERE generation = %(generation)s AND id = ANY (%(ids)s::text[])
""",
}
_COLUMNS = {
    "postings": ("account", "livemode", "created", "position", "ordinal", "ledger_account", "currency",
                 "amount", "transaction", "source"),
    "balance_transactions": ("account", "livemode", "created", "position", "type", "currency", "source",
                             "fact"),
    "balance_changes": ("account", "livemode", "created", "position", "currency", "net", "available_on"),
}  # fmt: skip
# The names are those of PROJECTIONS.
_COUNT = """
SELECT count(*) FROM projections.{name}
WHERE generation = %(generation)s AND (%(account)s::text IS NULL OR account = %(account)s)
"""
_SCAN = """
SELECT id, position, {transaction}, source FROM (
    SELECT id, position, {transaction}, {source} AS source FROM projections.{name}
    WHERE generation = %(generation)s AND id > %(after)s
    AND (%(account)s::text IS NULL OR account = %(account)s)
    ORDER BY id LIMIT %(limit)s) AS page
"""
_POSITIONS = """
SELECT ledger.movement_id(e.state), e.notification_id FROM ledger.events e
WHERE ledger.movement_id(e.state) = ANY (%(ids)s::text[])
AND position('"movement":{'::bytea IN e.state) > 0 AND e.notification_id <= %(upto)s
"""


class _Live(NamedTuple):
    """A live generation; `parked` has the position from which on each parked stream is not applied."""

    name: str
    generation: int
    checkpoint: int
    parked: dict[str, int]

    def has(self, entry: Entry) -> bool:
        """Whether the generation must have the entry's rows."""
        return entry.position <= min(self.checkpoint, self.parked.get(entry.stream, self.checkpoint + 1) - 1)


class RowChecker:
    """Compares the rows of all read models of money, on a connection in one snapshot. `account`: only that
    one; `now` (unix seconds): the time of the balance."""

    def __init__(self, conn: Conn, keys: DataKeys, report: Report, account: str | None, now: int) -> None:
        self._conn = conn
        self._keys = keys
        self._keyring = NO_KEYS
        self._report = report
        self._account = account
        self._now = now
        self._live: list[_Live] = []
        self._matched: Counter[str] = Counter()
        self._strays: defaultdict[str, set[str]] = defaultdict(set)
        self._funds: defaultdict[tuple[str, bool], Counter[tuple[str, bool]]] = defaultdict(Counter)

    async def start(self) -> None:
        """Read which generations are live; report what they lack."""
        found = {row[0]: row[1:] for row in await fetch_all(self._conn, _LIVE, {"names": list(PROJECTIONS)})}
        for name in PROJECTIONS:
            generation, checkpoint = found.get(name, (None, None))
            self._report.checkpoints[name] = checkpoint
            if generation is None:
                self._report.add_gap(None, name, "has no live generation")
                continue
            bindings = {"projection": name, "generation": generation, "account": self._account}
            parked: dict[str, int] = dict(await fetch_all(self._conn, _PARKED, bindings))
            self._live.append(_Live(name, generation, checkpoint, parked))
            for stream, position in parked.items():
                self._report.add_gap(position, stream, f"is parked in {name}")

    async def check(self, entries: Sequence[Entry]) -> None:
        """Compare the rows of these entries."""
        for live in self._live:
            own = [entry for entry in entries if live.has(entry)]
            if not own:
                continue
            bindings = {
                "generation": live.generation,
                "ids": [entry.movement["id"] for entry in own],
                "positions": [entry.position for entry in own],
            }
            rows = {row[0]: row for row in await fetch_all(self._conn, _ROWS[live.name], bindings)}
            if live.name == "balance_transactions":
                facts = [row[-1] for row in rows.values()]
                self._keyring = await load_document_keys(run_on(self._conn), self._keys, facts)
            for entry in own:
                for key, expected in _make_rows(live.name, entry):
                    self._compare(live.name, entry, key, expected, rows.pop(key, None))
            for row in rows.values():  # of postings: rows at these positions that no entry makes
                self._matched[live.name] += 1
                self._report.add(
                    row[4], row[-1], f"row {row[0]} of {live.name}", expected="none", found="a row"
                )
            if live.name == "balance_changes":
                self._add_funds(own)

    async def finish(self, *, is_complete: bool) -> None:
        """Find rows that no entry makes, and compare the balances. `is_complete`: whether all streams of the
        log could be read, so that the sums are known."""
        for live in self._live:
            bindings = {"generation": live.generation, "account": self._account}
            row = await fetch_one(self._conn, _COUNT.format(name=live.name).encode(), bindings)
            assert row is not None
            if row[0] != self._matched[live.name]:
                await self._find_strays(live)
            if live.name == "balance_changes" and is_complete:
                await self._check_balances(live)

    def _compare(
        self, name: str, entry: Entry, key: str, expected: Sequence[Any], row: TupleRow | None
    ) -> None:
        self._report.rows[name] += 1
        what = f"row {key} of {name}"
        if row is None:
            self._report.add(entry.position, entry.source, what, expected="a row", found="none")
            return
        self._matched[name] += 1
        for column, value, found in zip(_COLUMNS[name], expected, row[1:], strict=True):
            if column == "fact":
                self._compare_fact(entry, what, value, found)
            elif found != value:
                self._report.add(
                    entry.position, entry.source, f"{column} of {what}", expected=value, found=found
                )

    def _compare_fact(self, entry: Entry, what: str, expected: dict[str, Any], stored: bytes) -> None:
        document = open_document(self._keyring, stored)
        if document is None and self._keyring.is_erased(find_subject(stored) or ""):
            return  # an erasure is about to rewrite the row
        try:
            fact = msgspec.json.decode(document or b"", type=dict[str, Any])
        except msgspec.MsgspecError:
            self._report.add(
                entry.position, entry.source, f"fact of {what}", expected="JSON", found="no JSON"
            )
            return
        for member, value in expected.items():
            if fact.get(member) != value:
                text = f"{member} in the fact of {what}"
                self._report.add(entry.position, entry.source, text, expected=value, found=fact.get(member))

    def _add_funds(self, entries: Sequence[Entry]) -> None:
        """Add to the expected balances: by owner, then by currency and whether it is pending."""
        for entry in entries:
            funds = self._funds[entry.account, entry.livemode]
            currency = entry.movement["currency"]
            funds[currency, False] += entry.net
            if entry.movement["available_on"] > self._now:
                funds[currency, True] += entry.net

    async def _find_strays(self, live: _Live) -> None:
        """Report the rows whose balance transaction no event has made, or not at the row's position."""
        is_posting = live.name == "postings"
        statement = _SCAN.format(
            name=live.name,
            transaction="transaction" if is_posting else "id",
            source="source" if live.name != "balance_changes" else "account",
        ).replace("SELECT id, position, id,", "SELECT id, position, id AS transaction,")
        after = ""
        while True:
            bindings = {
                "generation": live.generation, "after": after, "limit": SCAN_ROWS, "account": self._account,
            }  # fmt: skip
            rows = await fetch_all(self._conn, statement.encode(), bindings)
            if not rows:
                return
            after = rows[-1][0]
            ids = {"ids": [row[2] for row in rows], "upto": live.checkpoint}
            positions: dict[str, int] = dict(await fetch_all(self._conn, _POSITIONS, ids))
            for key, position, transaction, source in rows:
                at = positions.get(transaction)
                if at is None or (is_posting and at != position):
                    what = f"row {key} of {live.name}"
                    self._report.add(position, source, what, expected="none", found="a row")

    async def _check_balances(self, live: _Live) -> None:
        for (account, livemode), funds in sorted(self._funds.items()):
            bindings = {"account": account, "livemode": livemode, "counted": 0, "now": self._now}
            rows = await fetch_all(self._conn, BALANCE.select.encode(), bindings)
            found = {row[1]: (row[2], row[3]) for row in rows if row[1] is not None}
            for currency in sorted({currency for currency, _ in funds} | found.keys()):
                expected = (funds[currency, False], funds[currency, True])
                if found.get(currency, (0, 0)) != expected:
                    mode = "live" if livemode else "test"
                    what = f"balance and pending part in {currency}, {mode} mode"
                    self._report.add(live.checkpoint, account, what, expected=expected,
                                     found=found.get(currency))  # fmt: skip


def _make_rows(name: str, entry: Entry) -> list[tuple[str, tuple[Any, ...]]]:
    """The keys and values of the rows that the entry makes in a projection, in the order of _COLUMNS."""
    movement = entry.movement
    start = (entry.account, entry.livemode, movement["created"], entry.position)
    if name == "postings":
        return [
            (f"{movement['id']}/{ordinal}", (*start, ordinal, *posting, movement["id"], entry.source))
            for ordinal, posting in enumerate(entry.postings)
        ]
    if name == "balance_changes":
        values = (*start, movement["currency"], entry.net, movement["available_on"])
        return [(movement["id"], values)]
    fact = {
        **movement, "type": entry.type, "reporting_category": entry.category, "source": entry.source,
    }  # fmt: skip
    return [(movement["id"], (*start, entry.type, movement["currency"], entry.source, fact))]
