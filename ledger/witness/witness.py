"""The rules by which a witness cosigns (C2SP tlog-witness).

It cosigns a checkpoint of a log that it knows, signed by that log, if the tree continues the last one that it
cosigned. What else a log signed is refused, and kept as evidence where it contradicts the last checkpoint.
Submissions of one log are handled one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

import structlog

from ledger.errors import SettingError
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.cosignatures import cosign
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import EMPTY_ROOT, ProofError, check_consistency
from ledger.tlog.notes import Note, parse_note, verify_note
from ledger.tlog.signed_messages import split_checkpoint
from ledger.tlog.submissions import Submission, parse_submission
from ledger.witness.storage import EvidenceKind, WitnessStorage

LOGS_MAX = 1000

Logs = Mapping[str, Sequence[VerifierKey]]
log = structlog.get_logger()


class Outcome(Enum):
    """What becomes of a submission."""

    COSIGNED = auto()
    MALFORMED = auto()
    UNTRUSTED = auto()
    UNKNOWN_LOG = auto()
    OTHER_SIZE = auto()
    INCONSISTENT = auto()


class Answer(NamedTuple):
    """The answer to a submission; `text` ends with a newline.

    COSIGNED    the lines of the cosignatures
    OTHER_SIZE  the size of the tree that the witness knows
    others      why it is refused
    """

    outcome: Outcome
    text: str


class LogStatus(NamedTuple):
    """What the witness knows of a log.

    size      of the last tree that it cosigned; 0 for none
    evidence  cases kept, by kind
    """

    origin: str
    size: int
    evidence: Mapping[EvidenceKind, int]


class _Last(NamedTuple):
    """The last checkpoint of a log: None before the first, which continues the empty tree."""

    note: Note | None
    size: int = 0
    root: bytes = EMPTY_ROOT


class Witness:
    """Cosigns checkpoints of `logs`: by origin, the keys of which any may sign. Threads may share it.

    now  unix seconds
    """

    def __init__(self, logs: Logs, storage: WitnessStorage, now: Callable[[], float] = time.time) -> None:
        """Raises SettingError for a checkpoint on disk that this witness did not cosign."""
        self._logs = logs
        self._storage = storage
        self._now = now
        self._locks = {origin: threading.Lock() for origin in logs}
        self._last = {origin: _describe(storage.read_checkpoint(origin)) for origin in logs}

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer a submission. The cosigned checkpoint is on disk before this returns. Raises OSError if it
        cannot be written: then it is not cosigned."""
        try:
            submission = parse_submission(body)
            note = parse_note(submission.note)
            checkpoint = Checkpoint(*split_checkpoint(note.text))
        except ProofError as error:
            return Answer(Outcome.MALFORMED, f"{error}\n")
        if checkpoint.origin not in self._logs:
            return Answer(Outcome.UNKNOWN_LOG, "the log is not known\n")
        try:
            signers = verify_note(note, self._logs[checkpoint.origin])
        except ProofError as error:
            return Answer(Outcome.UNTRUSTED, f"{error}\n")
        if submission.old_size > checkpoint.size:
            return Answer(Outcome.MALFORMED, "the old size is greater than that of the checkpoint\n")
        # Only what is verified is kept: lines of others could be anything.
        kept = tuple(line for line in note.signatures if any(line.is_of(key) for key in signers))
        with self._locks[checkpoint.origin]:
            return self._advance(submission, checkpoint, Note(note.text, kept))

    def list_logs(self) -> list[LogStatus]:
        """The logs in the order in which they were configured."""
        return [
            LogStatus(origin, last.size, self._storage.count_evidence(origin))
            for origin, last in self._last.items()
        ]

    def get_checkpoint(self, origin: str) -> Note | None:
        """The last checkpoint of a known log, with the log's signatures and this witness's."""
        return self._last[origin].note

    def _advance(self, submission: Submission, checkpoint: Checkpoint, note: Note) -> Answer:
        last = self._last[checkpoint.origin]
        if submission.old_size != last.size:
            self._keep_evidence(checkpoint, note)
            return Answer(Outcome.OTHER_SIZE, f"{last.size}\n")
        try:
            _check(submission, checkpoint, last)
        except ProofError as error:
            self._keep_evidence(checkpoint, note, is_unproven=True)
            return Answer(Outcome.INCONSISTENT, f"{error}\n")
        at = max(int(self._now()), self._read_last_time(last))
        cosignatures = tuple(cosign(note.text, signer, at) for signer in self._storage.signers)
        cosigned = note.merge(cosignatures)
        self._storage.write_checkpoint(checkpoint.origin, cosigned)
        self._last[checkpoint.origin] = _Last(cosigned, checkpoint.size, checkpoint.root)
        return Answer(Outcome.COSIGNED, "".join(line.to_line() for line in cosignatures))

    def _keep_evidence(self, checkpoint: Checkpoint, note: Note, *, is_unproven: bool = False) -> None:
        last = self._last[checkpoint.origin]
        if last.note is None or (checkpoint.size, checkpoint.root) == (last.size, last.root):
            return
        if checkpoint.size == last.size:
            kind = EvidenceKind.FORK
        elif checkpoint.size < last.size:
            kind = EvidenceKind.ROLLBACK
        elif is_unproven:
            kind = EvidenceKind.INCONSISTENT
        else:
            return
        if self._storage.keep_evidence(checkpoint.origin, kind, last.note, note):
            log.error(
                "checkpoint_contradicts_the_last_one",
                kind=kind.value,
                origin=checkpoint.origin,
                seen_size=last.size,
                offered_size=checkpoint.size,
            )

    def _read_last_time(self, last: _Last) -> int:
        """When the last checkpoint was cosigned: a later one is never dated before it, also if the clock was
        put back."""
        lines = last.note.signatures if last.note is not None else ()
        times = [
            key.read_time(line.signature)
            for key in self._storage.verifiers
            for line in lines
            if line.is_of(key)
        ]
        return max((at for at in times if at is not None), default=0)


def parse_logs(texts: Sequence[str]) -> Logs:
    """The logs of `--log` and of the lines of a file: a verifier key each, whose name is the log's origin; or
    the origin, a space and the key. Raises SettingError."""
    logs: dict[str, list[VerifierKey]] = {}
    for text in texts:
        origin, _, key_text = text.strip().rpartition(" ")
        try:
            key = VerifierKey.parse(key_text)
        except ProofError as error:
            raise SettingError(f"--log: {error}") from None
        logs.setdefault(origin.strip() or key.name, []).append(key)
    if not 0 < len(logs) <= LOGS_MAX:
        raise SettingError(f"--log: a witness has 1 to {LOGS_MAX} logs, not {len(logs)}")
    return logs


def _check(submission: Submission, checkpoint: Checkpoint, last: _Last) -> None:
    """Check that a checkpoint continues the last one. Raises ProofError."""
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise ProofError("the root is not that of an empty tree")
    check_consistency(last.size, last.root, checkpoint.size, checkpoint.root, submission.proof)


def _describe(note: Note | None) -> _Last:
    if note is None:
        return _Last(None)
    checkpoint = Checkpoint(*split_checkpoint(note.text))
    return _Last(note, checkpoint.size, checkpoint.root)
