"""A sealed log, and what it asks of a witness."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ledger.postgres.connections import Conn, open_connection
from ledger.store.journal import Append
from ledger.store.store import Store
from ledger.tlog.encoding import NUMBER_MAX
from ledger.tlog.keys import VerifierKey
from ledger.tlog.notes import Note, parse_note
from ledger.tree.checkpoints import KeptCheckpoint, list_kept
from ledger.tree.keys import list_keys
from ledger.tree.sealer import Sealer
from ledger.tree.witnesses.addresses import WitnessAddress
from ledger.tree.witnesses.cosignatures import read_witnesses
from ledger.tree.witnesses.service import WitnessFollower
from tests.store.stores import CAUSE, create_change, open_store
from tests.tree.sealed import make_sealer

ASKED_AGAIN_SOON, NEVER_ASKED_AGAIN = 1.0, None


@dataclass
class SealedLog:
    """One ledger's log. Every seal is also kept."""

    store: Store
    sealer: Sealer
    conn: Conn

    async def grow(self, count: int) -> int:
        """Append events, seal them, and return the size of the tree."""
        changes = [create_change(f"cus_{secrets.token_hex(8)}") for _ in range(count)]
        await self.store.journal.append(Append(CAUSE, changes))
        while (await self.sealer.seal()).remaining:
            pass
        return (await self.newest()).size

    async def newest(self) -> KeptCheckpoint:
        return (await list_kept(self.conn, before=NUMBER_MAX, limit=1))[0]

    async def newest_note(self) -> Note:
        return parse_note((await self.newest()).note)

    async def key(self) -> VerifierKey:
        return (await list_keys(self.conn))[0].verifier

    async def logs(self) -> dict[str, list[VerifierKey]]:
        """As a witness configures this log."""
        key = await self.key()
        return {key.name: [key]}

    async def states(self) -> list[tuple[int, str, str | None]]:
        return [(each.size, each.state, each.reason) for each in await read_witnesses(self.conn)]


@asynccontextmanager
async def open_log(dsn: str) -> AsyncIterator[SealedLog]:
    async with (
        open_store(dsn) as store,
        make_sealer(store, checkpoint_seconds=0) as sealer,
        open_connection(dsn, "ledger_api", name="test") as conn,
    ):
        yield SealedLog(store, sealer, conn)


@asynccontextmanager
async def open_follower(log: SealedLog, witness: WitnessAddress) -> AsyncIterator[WitnessFollower]:
    """One that asks when it is called."""
    follower = WitnessFollower(log.store, witness)
    try:
        yield follower
    finally:
        await follower.close()


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once the condition holds."""
    for _ in range(1500):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not hold after 30 s")
