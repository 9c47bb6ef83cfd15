"""Replaces the service key while processes serve: `ledger secrets rotate`.

    accepted → current → everything wrapped again → the key before: retired

Each step is committed by itself and may be repeated, so a rotation that was killed goes on where it was. All
processes have both keys meanwhile. What one of them wraps under the old key until it knows better is wrapped
again too: the old key is retired only after a look that found nothing under it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from ledger.errors import SettingError
from ledger.keys.announcements import list_announced
from ledger.keys.data_keys import get_wrap_context
from ledger.keys.registered_keys import (
    KeyState,
    find_unusable,
    get_secret_context,
    lock_registered,
    read_registered,
    register_key,
)
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, fetch_all, fetch_one

RESTART = "restart every process with both keys"
PAGE_ROWS = 500
"""Data keys wrapped again in one transaction: an erasure or an append waits for it, some 20 ms."""
CHANGE_SECONDS = 15.0
"""How long the processes are waited for to wrap under the new key: they look every five seconds."""
_CHANGE_PAUSE_SECONDS = 0.2
# An erasure of one of a page's keys waits for it, and all appends wait for that. So the server ends the page
# of a process that is stopped, or cut off.
SESSION_SETTINGS = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "idle_in_transaction_session_timeout": "3s",
}

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtext('ledger.secrets'), hashtext('rotate'))"
_IS_MIGRATED = "SELECT finished_at IS NOT NULL FROM ledger.key_migration"
_COUNT = """
SELECT coalesce(k.id, w.id), coalesce(k.state, 'unknown'), coalesce(k.is_root, false),
       extract(epoch FROM k.accepted_at)::float8, extract(epoch FROM k.current_at)::float8,
       extract(epoch FROM k.retired_at)::float8, coalesce(w.data_keys, 0)::bigint,
       coalesce(w.secrets, 0)::bigint
FROM ledger.service_keys k FULL JOIN (
    SELECT id, sum(data_keys) AS data_keys, sum(secrets) AS secrets FROM (
        SELECT wrapped_by AS id, count(*) AS data_keys, 0 AS secrets FROM ledger.data_keys
        WHERE wrapped_by IS NOT NULL GROUP BY wrapped_by
        UNION ALL SELECT wrapped_by, 0, count(*) FROM ledger.service_secrets GROUP BY wrapped_by) AS wraps
    GROUP BY id) AS w ON w.id = k.id
ORDER BY k.accepted_at, 1
"""
_ACCEPT_AGAIN = "UPDATE ledger.service_keys SET state = 'accepted' WHERE state = 'current'"
_MAKE_CURRENT = "UPDATE ledger.service_keys SET state = 'current', current_at = now() WHERE id = %(target)s"
_SELECT_SECRETS = """
SELECT purpose, wrapped, wrapped_by FROM ledger.service_secrets WHERE wrapped_by <> %(target)s FOR UPDATE
"""
_UPDATE_WRAPPED = """
UPDATE ledger.service_secrets SET wrapped = %(wrapped)s, wrapped_by = %(target)s WHERE purpose = %(purpose)s
"""
# Rows that an append or an erasure has locked are for the next look: so there is no deadlock.
_SELECT_PAGE = """
SELECT subject, wrapped, wrapped_by FROM ledger.data_keys
WHERE wrapped_by <> %(target)s AND subject > %(after)s
ORDER BY subject LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""
# One statement, before and after which the server knows the session to be idle. By a nested loop, which looks
# each subject up in its partition; else it would read every partition for each page.
_UPDATE_KEYS = """
UPDATE ledger.data_keys d SET wrapped = w.wrapped, wrapped_by = %(target)s
FROM unnest(%(subjects)s::text[], %(wraps)s::bytea[]) AS w (subject, wrapped)
WHERE d.subject = w.subject AND ledger.key_group(d.subject) = ledger.key_group(w.subject)
"""
_HAS_OTHER_WRAPS = """
SELECT EXISTS (SELECT FROM ledger.data_keys WHERE wrapped_by <> %(target)s)
    OR EXISTS (SELECT FROM ledger.service_secrets WHERE wrapped_by <> %(target)s)
"""
_RETIRE = """
UPDATE ledger.service_keys SET state = 'retired', retired_at = now()
WHERE id <> %(target)s AND state <> 'retired' RETURNING id
"""
_SET_CHECK_VALUE = "UPDATE ledger.service_key SET check_value = %(check_value)s"


class KeyUse(NamedTuple):
    """A service key of the database. `state` is `unknown` for an id that only a wrap has; times are unix
    seconds or None; `data_keys` and `secrets` are how many it wraps."""

    id: str
    state: str
    is_root: bool
    accepted_at: float | None
    current_at: float | None
    retired_at: float | None
    data_keys: int
    secrets: int


class Rewrapped(NamedTuple):
    """What a rotation has wrapped again, and the ids of the keys that it has retired."""

    data_keys: int
    secrets: int
    retired: list[str]


async def list_key_use(conn: Conn) -> list[KeyUse]:
    """The service keys of the database, the oldest first. Raises psycopg.Error."""
    return [KeyUse(*row) for row in await fetch_all(conn, _COUNT)]


async def find_obstacle(conn: Conn, keys: ServiceKeys, *, remedy: str = RESTART) -> str | None:
    """Why the service key cannot be replaced by the current one of `keys` now; None if it can. `remedy`: what
    to do about processes that lack it. Raises psycopg.Error."""
    states = (await read_registered(conn)).states
    if not states:
        return "no process has ever started on this database: there is nothing to rotate"
    if not any(states.get(key_id, KeyState.RETIRED) != KeyState.RETIRED for key_id in keys.ids):
        return f"LEDGER_SECRET_KEY {find_unusable(states, keys.ids)}"
    if states.get(keys.current_id) == KeyState.RETIRED:
        return f"the key with the id {keys.current_id} was replaced before: a retired key does not come back"
    row = await fetch_one(conn, _IS_MIGRATED)
    if row is None or not row[0]:
        return (
            "data of older releases is still opened by keys that are derived from the service key: run "
            "`ledger migrate --contract`, and wait until a worker has stored them (docs/operations.md, "
            "Replace the service key)"
        )
    lacking = [pid for pid, has_key, _ in await list_announced(conn, keys.current_id) if not has_key]
    if lacking:
        return (
            f"{_count_processes(lacking)} without the key with the id {keys.current_id}: {remedy}, "
            "then run this again"
        )
    return None


async def rotate(
    conn: Conn,
    keys: ServiceKeys,
    check_value: bytes,
    *,
    settle_seconds: float,
    remedy: str = RESTART,
    show_progress: Callable[[int], None] = lambda count: None,
) -> Rewrapped:
    """Wrap everything under the current key of `keys`, which has the one before too, and retire that.

    check_value     of the new key (`ledger.service_key`)
    settle_seconds  the longest time that an append takes which was under way
    remedy          what to do about running processes that lack the current key, as words for an operator
    show_progress   is called with the data keys wrapped again so far

    Raises SettingError if there is an obstacle or what is wrapped does not open, and psycopg.Error."""
    target = keys.current_id
    row = await fetch_one(conn, _TRY_LOCK)
    assert row is not None
    obstacle = await find_obstacle(conn, keys, remedy=remedy) if row[0] else "another rotation is under way"
    if obstacle is not None:
        raise SettingError(obstacle)
    await _make_current(conn, target)
    if await _wait_for_processes(conn, target, remedy):
        # Whatever they began under the old key is committed by then.
        await asyncio.sleep(settle_seconds)
    secrets = await _rewrap_secrets(conn, keys)
    data_keys = 0
    while (count := await _rewrap_data_keys(conn, keys, data_keys, show_progress)) > data_keys:
        data_keys = count
    return Rewrapped(data_keys, secrets, await _retire(conn, target, check_value))


async def _make_current(conn: Conn, target: str) -> None:
    async with conn.transaction():
        await lock_registered(conn)
        states = (await read_registered(conn)).states
        if target not in states:
            await register_key(conn, target, KeyState.ACCEPTED)
        if states.get(target) != KeyState.CURRENT:
            await conn.execute(_ACCEPT_AGAIN)
            await conn.execute(_MAKE_CURRENT, {"target": target})


async def _wait_for_processes(conn: Conn, target: str, remedy: str) -> bool:
    """Wait until every running process wraps under the new key. Returns whether there is any. Raises
    SettingError."""
    deadline = asyncio.get_running_loop().time() + CHANGE_SECONDS
    while True:
        announced = await list_announced(conn, target)
        others = [pid for pid, has_key, wraps_other in announced if wraps_other or not has_key]
        if not others:
            return bool(announced)
        if asyncio.get_running_loop().time() > deadline:
            raise SettingError(
                f"{_count_processes(others)} still wrapping under another key than the new one: {remedy}, "
                "then run this again"
            )
        await asyncio.sleep(_CHANGE_PAUSE_SECONDS)


def _count_processes(pids: Sequence[int]) -> str:
    """These running processes as the beginning of a sentence."""
    sessions = ", ".join(map(str, pids))
    if len(pids) == 1:
        return f"1 running process (its session in the database: {sessions}) is"
    return f"{len(pids)} running processes (their sessions in the database: {sessions}) are"


async def _rewrap_secrets(conn: Conn, keys: ServiceKeys) -> int:
    async with conn.transaction():
        rows = await fetch_all(conn, _SELECT_SECRETS, {"target": keys.current_id})
        for purpose, wrapped, key_id in rows:
            context = get_secret_context(purpose.encode())
            rewrapped, target = keys.wrap(_unwrap(keys, wrapped, key_id, context), context)
            await conn.execute(_UPDATE_WRAPPED, {"purpose": purpose, "wrapped": rewrapped, "target": target})
    return len(rows)


async def _rewrap_data_keys(
    conn: Conn, keys: ServiceKeys, count: int, show_progress: Callable[[int], None]
) -> int:
    """Wrap again, page by page, the data keys that are not under the current key. Returns `count` and how
    many they were."""
    after = ""
    while True:
        async with conn.transaction():
            rows = await fetch_all(
                conn, _SELECT_PAGE, {"target": keys.current_id, "after": after, "limit": PAGE_ROWS}
            )
            if not rows:
                return count
            wraps = []
            for subject, wrapped, key_id in rows:
                context = get_wrap_context(subject)
                wraps.append(keys.wrap(_unwrap(keys, wrapped, key_id, context), context)[0])
            subjects = [subject for subject, _, _ in rows]
            await conn.execute(
                _UPDATE_KEYS, {"subjects": subjects, "wraps": wraps, "target": keys.current_id}
            )
        after, count = rows[-1][0], count + len(rows)
        show_progress(count)


def _unwrap(keys: ServiceKeys, wrapped: bytes, key_id: str, context: str) -> bytes:
    """What is wrapped. Raises SettingError: then the key before stays in use."""
    if key_id not in keys.ids:
        raise SettingError(
            f"the {context} is wrapped under the key with the id {key_id}, which is not one of the two here: "
            "use it as LEDGER_PREVIOUS_SECRET_KEY"
        )
    try:
        return keys.unwrap(wrapped, key_id, context)
    except InvalidTag:
        raise SettingError(
            f"the {context} is damaged, so nothing was retired: restore its row from a backup, then run this "
            "again (docs/operations.md, Replace the service key)"
        ) from None


async def _retire(conn: Conn, target: str, check_value: bytes) -> list[str]:
    async with conn.transaction():
        await lock_registered(conn)
        row = await fetch_one(conn, _HAS_OTHER_WRAPS, {"target": target})
        if row is None or row[0] or any(wraps for _, _, wraps in await list_announced(conn, target)):
            raise SettingError("some process has wrapped data under the key before meanwhile: run this again")
        await conn.execute(_SET_CHECK_VALUE, {"check_value": check_value})
        return [key_id for (key_id,) in await fetch_all(conn, _RETIRE, {"target": target})]
