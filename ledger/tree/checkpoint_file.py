"""Copy each kept checkpoint to a file, so that it can be taken off this machine.

Whoever has a copy can later show that the log was changed before it (`ledger audit verify --against FILE`).
A file that knows a larger tree than the log has is never overwritten: then the log was rolled back.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import structlog

from ledger.background import BackgroundLoop
from ledger.errors import SettingError
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, ReconnectingConnection, fetch_one
from ledger.postgres.private_files import write_durable_file
from ledger.store.store import Store
from ledger.tlog.checkpoints import Checkpoint, parse_checkpoint
from ledger.tlog.encoding import NUMBER_MAX
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note
from ledger.tree.checkpoints import list_kept

POLL_SECONDS = 1.0

_HEAD = "SELECT position FROM ledger.head"
log = structlog.get_logger()


class FileContent(NamedTuple):
    """What the file has: its text, and what that says; '' and None when there is no file yet."""

    text: str
    checkpoint: Checkpoint | None


class CheckpointFile:
    """Writes `path` whenever the newest kept checkpoint changes, also when it was cosigned; from `start` to
    `close`. Any number of processes may write files of their own.

    content  of the file now (`read_checkpoint_file`)
    """

    def __init__(self, store: Store, path: Path, content: FileContent) -> None:
        self._path = path
        self._content = content
        self._durability = store.durability
        self._connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="checkpoint file", answer_seconds=BACKGROUND_ANSWER_SECONDS
        )
        self._loop = BackgroundLoop("checkpoint file", self.copy, close_timeout_seconds=1)

    async def start(self) -> None:
        """Begin."""
        await self._loop.start()

    async def close(self) -> None:
        """End after the write under way."""
        await self._loop.close()
        await self._connection.drop()

    async def copy(self) -> float | None:
        """Write the newest kept checkpoint, if it has changed. Returns the seconds to wait before the next
        time, None for ever. Raises psycopg.Error, Unavailable and OSError."""
        async with self._connection as conn:
            newest = await list_kept(conn, before=NUMBER_MAX, limit=1)
            head = await fetch_one(conn, _HEAD)
        assert head is not None
        last = self._content.checkpoint
        if last is not None and last.size > head[0]:
            reason = f"the file has a checkpoint of {last.size} records, the log ends at position {head[0]}"
            log.error("log_was_rolled_back", file=str(self._path), reason=reason)
            return None
        if not newest or newest[0].note == self._content.text:
            return POLL_SECONDS
        checkpoint = parse_checkpoint(parse_note(newest[0].note).text)
        if last is not None and checkpoint.origin != last.origin:
            log.error("checkpoint_file_is_of_another_log", file=str(self._path), origin=last.origin)
            return None
        if last is not None and checkpoint.size < last.size:
            return POLL_SECONDS  # the sealer has not caught up after a crash of the database server
        # The file outlives the primary: it must not know more of the log than a standby.
        await self._durability.confirm()
        await asyncio.to_thread(write_durable_file, self._path, newest[0].note)
        self._content = FileContent(newest[0].note, checkpoint)
        return POLL_SECONDS


def read_checkpoint_file(path: Path) -> FileContent:
    """What the file has now. Raises SettingError for one that is no checkpoint, and when its directory is
    missing."""
    if not path.parent.is_dir():
        raise SettingError(f"LEDGER_CHECKPOINT_FILE: there is no directory {path.parent}")
    try:
        text = path.read_text()
        return FileContent(text, parse_checkpoint(parse_note(text).text))
    except FileNotFoundError:
        return FileContent("", None)
    except (OSError, UnicodeDecodeError, ProofError) as error:
        raise SettingError(f"LEDGER_CHECKPOINT_FILE: {path} is not a checkpoint: {error}") from None
