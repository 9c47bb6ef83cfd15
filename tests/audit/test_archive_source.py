"""Archives of a log that only these tests use: over several pages and levels of tiles, against the checkpoint
that proves most."""

from __future__ import annotations

import psycopg
import pytest

from ledger.audit.exports import archive, source
from ledger.audit.exports.archive import check_tiles, plan_archive, read_archive_tiles
from ledger.audit.exports.content import ExportError
from ledger.audit.exports.formats import make_encoder
from ledger.audit.search.filters import PositionRange
from ledger.errors import InvalidParameter, Unavailable
from ledger.queries.context import QueryContext
from ledger.tree.storage import read_tree_head
from tests.audit.test_export_source import fill, list_positions, run_on, verify
from tests.tree.sealed import make_sealer

# As when a witness has signed the checkpoint of a smaller tree, and none the newest.
_COSIGN = "UPDATE ledger.checkpoints SET cosignatures = 1 WHERE size = %(size)s"
_CHANGE = """
SET session_replication_role = replica;
UPDATE ledger.events SET topic = 'customer.deleted' WHERE notification_id = 260
"""


async def write(context: QueryContext, after: int, upto: int) -> tuple[bytes, dict[str, bytes], int]:
    """The records, as NDJSON; the tiles by path; the size of the tree."""
    plan = await plan_archive(context, PositionRange(after, upto))
    parts = [part async for part in source.stream_export(context, plan, make_encoder("ndjson"))]
    tiles = {path: hashes async for path, hashes in read_archive_tiles(context, plan)}
    return b"".join(parts), tiles, plan.size


def check(content: bytes, tiles: dict[str, bytes]) -> tuple[int, int]:
    """How many records and tiles are proved."""
    verified = verify(content)
    assert verified.is_complete
    return verified.records, check_tiles(tiles.__getitem__, verified.header, verified.checkpoint)


def test_ranges_of_a_longer_log_are_proved_by_records_and_by_tiles(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(dsn, 1100)
    monkeypatch.setattr(source, "PAGE_RECORDS", 70)
    monkeypatch.setattr(archive, "TILES_PER_READ", 2)

    async def work(context: QueryContext) -> None:
        for after, upto, tiles_wanted in ((0, 1100, 6), (255, 257, 4), (500, 512, 3), (1099, 1100, 2)):
            content, tiles, size = await write(context, after, upto)
            assert list_positions(content) == list(range(after + 1, upto + 1))
            assert check(content, tiles) == (upto - after, tiles_wanted)
            assert size == 1100
        with pytest.raises(InvalidParameter, match="Position 1101 is not sealed"):
            await plan_archive(context, PositionRange(0, 1101))

    run_on(dsn, work)


def test_a_record_that_was_changed_after_it_was_sealed_is_found_in_its_archive(dsn: str) -> None:
    fill(dsn, 300)

    async def work(context: QueryContext) -> None:
        with psycopg.connect(dsn, autocommit=True) as superuser:
            superuser.execute(_CHANGE)
        content, tiles, _ = await write(context, 250, 300)
        with pytest.raises(ExportError, match="position 260 was changed"):
            check(content, tiles)

    run_on(dsn, work)


def test_a_checkpoint_that_a_witness_has_signed_comes_first_if_it_has_the_range(dsn: str) -> None:
    async def work(context: QueryContext) -> None:
        with pytest.raises(Unavailable, match="no checkpoint has been signed"):
            await plan_archive(context, PositionRange(0, 1))
        async with make_sealer(context.store, checkpoint_seconds=0) as sealer:
            for count in (300, 600):
                fill(dsn, count, after=count - 300)
                await sealer.seal()
        with psycopg.connect(dsn, autocommit=True) as conn:
            assert conn.execute(_COSIGN, {"size": 300}).rowcount == 1
        for upto, size in ((300, 300), (301, 600)):
            content, tiles, found = await write(context, 10, upto)
            assert found == size
            assert check(content, tiles)[0] == upto - 10
        async with context.pool.connection() as conn:
            assert (await read_tree_head(conn)).size == 600

    run_on(dsn, work, seals=False)
