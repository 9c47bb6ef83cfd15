"""Makes certificates of erasure, keeps them for good, and reads them with their proofs.

A certificate is made once its erasure's last record is in the sealed tree, and never again: whoever asks
later gets the same one. The proofs are made when they are asked for, so that they have the signatures of
witnesses that came later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ledger.erasure.certificate import Certificate, ErasureStep, parse_certificate
from ledger.errors import DamagedTree
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.store.seals.clear_rows import describe_clear_generations, list_clear_generations_of_job
from ledger.tlog.notes import parse_note, sign_note
from ledger.tlog.signed_messages import SignatureType
from ledger.tree.checkpoints import lock_tree
from ledger.tree.keys import Keyring
from ledger.tree.proofs import make_proof_file
from ledger.tree.records import Record, encode_record
from ledger.tree.storage import read_records_at

_COLUMNS = "job, account, livemode, requested, completed, note, extract(epoch FROM made_at)::float8"
_SELECT = f"SELECT {_COLUMNS} FROM ledger.erasure_certificates"  # noqa: S608 (a constant)
_ONE = f"{_SELECT} WHERE job = %(job)s"
_PAGE = f"""{_SELECT}
WHERE (account, livemode) = (%(account)s, %(livemode)s) AND completed < %(before)s
ORDER BY completed DESC LIMIT %(limit)s
"""
_INSERT = """
INSERT INTO ledger.erasure_certificates (job, account, livemode, requested, completed, note)
VALUES (%(job)s, %(account)s, %(livemode)s, %(requested)s, %(completed)s, %(note)s)
"""
_STREAMS = 'SELECT stream FROM ledger.erasure_streams WHERE job = %(job)s ORDER BY stream COLLATE "C"'
# What releases before 0039 sealed has a key that follows from the service key, and is in copies of the log.
_OPENS_BY_SERVICE_KEY = """
SELECT EXISTS (
    SELECT FROM ledger.stream_keys k
    JOIN ledger.erasure_streams s ON k.stream IN (s.stream, s.stream || '/chunks')
    WHERE s.job = %(job)s
) AND EXISTS (SELECT FROM ledger.service_keys WHERE is_root AND state <> 'retired')
"""
OPENS_BY_SERVICE_KEY = (
    "copies of what releases before 0039 sealed: the service key opens them until it is replaced (ledger "
    "secrets rotate) and destroyed"
)
# Their keys stay, because other accounts have sealed something under them (`closure`).
_LEFT = """
SELECT s.stream FROM ledger.erasure_streams s
CROSS JOIN LATERAL (
    SELECT k.erasing_since FROM ledger.data_keys k
    WHERE k.subject = s.stream AND ledger.key_group(k.subject) = ledger.key_group(s.stream) LIMIT 1) k
WHERE s.job = %(job)s AND k.erasing_since IS NULL ORDER BY s.stream COLLATE "C"
"""
_NAMED_MAX = 20
"""An account chooses the ids under which it publishes: there may be any number of these."""
_WAIT_FOR_COMMIT = "SET LOCAL synchronous_commit = on"


class CompletedErasure(NamedTuple):
    """What an erasure tells about itself when it is done.

    requested, completed  positions of the job's records
    streams, digest       how many objects lost their personal data, and `digest_streams` of their ids
    counts                how many rows, files and keys were reached, by the place: `feed`, `replies` …
    not_reached           what could not be changed, each as one line
    """

    job: str
    account: str
    livemode: bool
    subjects: Sequence[str]
    requested: int
    completed: int
    data_keys_destroyed: int
    streams: int
    streams_digest: bytes
    counts: Mapping[str, int]
    not_reached: Sequence[str] = ()


class KeptCertificate(NamedTuple):
    """A certificate that is kept. `requested` and `completed` are positions; `made_at`: unix seconds."""

    job: str
    account: str
    livemode: bool
    requested: int
    completed: int
    note: str
    made_at: float

    def read(self) -> Certificate:
        """What it says."""
        return parse_certificate(parse_note(self.note).text)


async def make_certificate(
    conn: Conn, keyring: Keyring, erasure: CompletedErasure, at: float
) -> KeptCertificate | None:
    """The certificate of an erasure, which is made and kept unless there is one; None while the sealed tree
    does not have its last record: ask again a moment later.

    at  unix seconds

    Raises psycopg.Error, ProofError for a text that a note cannot have, and DamagedTree for records that are
    not the job's.
    """
    async with conn.transaction():
        # Meanwhile the keys are not rotated, and no other process makes the certificate.
        tree = await lock_tree(conn, wait=True)
        assert tree is not None
        kept = await find_certificate(conn, erasure.job)
        if kept is not None or tree.edge.size < erasure.completed:
            return kept
        await conn.execute(_WAIT_FOR_COMMIT)
        certificate = await _describe(conn, erasure)
        signer = await keyring.open_signer(conn, at)
        # An ML-DSA key of a log cosigns checkpoints and nothing else (C2SP tlog-cosignature).
        keys = [key for key in signer.keys if key.kind is SignatureType.ED25519]
        note = sign_note(certificate._replace(log=signer.origin).to_text(), keys)
        parameters = {name: getattr(erasure, name) for name in KeptCertificate._fields[:5]} | {"note": note}
        await conn.execute(_INSERT, parameters)
        return await find_certificate(conn, erasure.job)


async def find_certificate(conn: Conn, job: str) -> KeptCertificate | None:
    """The certificate of a job; None while there is none. Raises psycopg.Error."""
    row = await fetch_one(conn, _ONE, {"job": job})
    return None if row is None else KeptCertificate(*row)


async def list_certificates(
    conn: Conn, account: str, *, livemode: bool, before: int, limit: int
) -> list[KeptCertificate]:
    """The certificates of erasures that were completed before a position, the newest first. Raises
    psycopg.Error."""
    parameters = {"account": account, "livemode": livemode, "before": before, "limit": limit}
    return [KeptCertificate(*row) for row in await fetch_all(conn, _PAGE, parameters)]


async def list_streams(conn: Conn, job: str) -> list[str]:
    """The ids of all that an erasure reached, in the order in which the certificate digests them. Raises
    psycopg.Error."""
    return [row[0] for row in await fetch_all(conn, _STREAMS, {"job": job})]


async def make_certified_proof(conn: Conn, position: int) -> str:
    """The proof file of one of the two records of a certificate, which holds the record. Raises
    psycopg.Error and DamagedTree."""
    [record] = await read_records_at(conn, [position])
    return await make_proof_file(conn, position, encode_record(record))


async def _describe(conn: Conn, erasure: CompletedErasure) -> Certificate:
    records = await read_records_at(conn, [erasure.requested, erasure.completed])
    if [_identify(record) for record in records] != [
        (position, erasure.job, erasure.account, erasure.livemode)
        for position in (erasure.requested, erasure.completed)
    ]:
        raise DamagedTree(
            f"the records {erasure.requested} and {erasure.completed} are not of the erasure's job"
        )
    row = await fetch_one(conn, _OPENS_BY_SERVICE_KEY, {"job": erasure.job})
    not_reached = [*erasure.not_reached, *[OPENS_BY_SERVICE_KEY] * (row is not None and row[0])]
    if left := [stream for (stream,) in await fetch_all(conn, _LEFT, {"job": erasure.job})]:
        not_reached.append(
            f"what is sealed under the keys of {_name_some(left)}: other accounts use them, too"
        )
    if generations := await list_clear_generations_of_job(conn, erasure.job):
        not_reached.append(describe_clear_generations(generations))
    requested, completed = (ErasureStep(record.position, record.recorded_at) for record in records)
    return Certificate(
        log="",
        job=erasure.job,
        account=erasure.account,
        livemode=erasure.livemode,
        subjects=tuple(erasure.subjects),
        requested=requested,
        completed=completed,
        data_keys_destroyed=erasure.data_keys_destroyed,
        streams=erasure.streams,
        streams_digest=erasure.streams_digest,
        counts=erasure.counts,
        not_reached=tuple(map(_make_line, not_reached)),
    )


def _identify(record: Record) -> tuple[int, str, str, bool]:
    return record.position, record.stream, record.account, record.livemode


def _make_line(text: str) -> str:
    """A text as one line of the note: a path may have any characters."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def _name_some(streams: Sequence[str]) -> str:
    """The streams as words, and how many there are besides those that are named."""
    named, others = ", ".join(streams[:_NAMED_MAX]), len(streams) - _NAMED_MAX
    return f"{named} and {others} more" if others > 0 else named
