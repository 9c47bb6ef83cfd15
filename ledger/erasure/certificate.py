"""The text of a certificate of erasure: what its signed note says, in one form only.

A certificate is a signed note (C2SP signed-note) of the log's keys. Each line is a name, a colon and a value;
the last lines say what it means. Its first line is not the name of the log, and its second one no size of a
tree: so no verifier can take it for a checkpoint, which the same keys sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from ledger.tlog.encoding import decode_hash, encode_base64, parse_decimal
from ledger.tlog.merkle import ProofError

FORMAT = "ledger/erasure-certificate@v1"
FILE_SUFFIX = ".certificate"
MEANING = (
    "What this says: when the erasure was completed, the service held no key any more that opens the "
    "personal data of these subjects, wherever they are stored: tables, write-ahead log, standbys, dumps.",
    "It also says: what the service answers since then shows these data as redacted; what it keeps in the "
    "places that were reached was written again or deleted.",
    "It does not say: that no copies are left outside the service. Receivers of webhooks, readers of the API "
    "and of the feed, and holders of exports have stores of their own.",
    "It does not say: that no backup of the keys is left. One that is older than the erasure opens these "
    "data until it is deleted, within the time for which such backups are kept.",
    "What stays: ids, amounts, currencies, times, countries, and the brand and last four digits of cards, "
    "which accounts and card networks need.",
    "What is proved: the records of the request and of the completion are in the log, at these positions "
    "(two proof files, C2SP tlog-proof). The rest is the statement of whoever holds the key of the log.",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MODES = {True: "live", False: "test"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DIGEST = "SHA-256 "


class ErasureStep(NamedTuple):
    """The record of a step of the erasure: its position in the log, and its time in microseconds since
    1970-01-01 UTC."""

    position: int
    recorded_at: int


class Certificate(NamedTuple):
    """What a certificate says.

    log                  the name of the log whose keys sign it
    subjects             ids of what was to be erased
    requested, completed their records in the log
    data_keys_destroyed  how many data keys, of these subjects and of what belongs to them
    streams              how many objects lost their personal data
    streams_digest       32 bytes: `digest_streams` of their ids
    counts               how many rows, files and keys were reached, by the place where they are
    not_reached          what the erasure knows of and could not change, each as one line
    """

    log: str
    job: str
    account: str
    livemode: bool
    subjects: tuple[str, ...]
    requested: ErasureStep
    completed: ErasureStep
    data_keys_destroyed: int
    streams: int
    streams_digest: bytes
    counts: Mapping[str, int]
    not_reached: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The text to sign."""
        return "".join(f"{line}\n" for line in _list_lines(self))


def digest_streams(streams: Iterable[str]) -> bytes:
    """The digest of a list of ids: SHA-256 of the ids in the order of their bytes, each followed by a
    newline, as `LC_ALL=C sort -u FILE | sha256sum` computes it. The caller passes them in this order, each
    once."""
    digest = sha256()
    for stream in streams:
        digest.update(f"{stream}\n".encode())
    return digest.digest()


def parse_certificate(text: str) -> Certificate:
    """Read the text of a certificate, without its signatures. Raises ProofError for a text that `to_text`
    does not make."""
    head, meaning = text.split("\n")[: -len(MEANING) - 1], "".join(f"{line}\n" for line in MEANING)
    if not head or head[0] != FORMAT:
        raise ProofError(f"the certificate does not begin with the line {FORMAT}")
    if not text.endswith(f"\n{meaning}"):
        raise ProofError("the certificate does not end with the lines that say what it means")
    lines = _Lines(head[1:])
    certificate = Certificate(
        log=lines.take("log"),
        job=lines.take("job"),
        account=lines.take("account"),
        livemode=_parse_mode(lines.take("mode")),
        subjects=tuple(lines.take_all("subject")),
        requested=_parse_step(lines.take("requested"), "requested"),
        completed=_parse_step(lines.take("completed"), "completed"),
        data_keys_destroyed=parse_decimal(lines.take("data keys destroyed"), "the number of data keys"),
        streams=parse_decimal(lines.take("streams"), "the number of streams"),
        streams_digest=decode_hash(
            lines.take("list of streams").removeprefix(_DIGEST), "the list of streams"
        ),
        counts=dict(map(_parse_count, lines.take_all("reached"))),
        not_reached=tuple(lines.take_all("not reached")),
    )
    if certificate.to_text() != text:
        raise ProofError("the certificate has lines that its form does not have")
    return certificate


class _Lines:
    """Lines of names and values, taken from the first one on."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._rest = list(reversed(lines))

    def take(self, name: str) -> str:
        """The value of the next line, which has this name. Raises ProofError."""
        prefix = f"{name}: "
        if not self._rest or not self._rest[-1].startswith(prefix):
            raise ProofError(f"the certificate has no line {name!r} where it belongs")
        return self._rest.pop().removeprefix(prefix)

    def take_all(self, name: str) -> Iterator[str]:
        """The values of the next lines that have this name."""
        while self._rest and self._rest[-1].startswith(f"{name}: "):
            yield self.take(name)


def _list_lines(certificate: Certificate) -> Iterator[str]:
    yield FORMAT
    yield f"log: {certificate.log}"
    yield f"job: {certificate.job}"
    yield f"account: {certificate.account}"
    yield f"mode: {_MODES[certificate.livemode]}"
    yield from (f"subject: {subject}" for subject in certificate.subjects)
    yield f"requested: {_format_step(certificate.requested)}"
    yield f"completed: {_format_step(certificate.completed)}"
    yield f"data keys destroyed: {certificate.data_keys_destroyed}"
    yield f"streams: {certificate.streams}"
    yield f"list of streams: {_DIGEST}{encode_base64(certificate.streams_digest)}"
    yield from (f"reached: {name} {count}" for name, count in sorted(certificate.counts.items()))
    yield from (f"not reached: {text}" for text in certificate.not_reached)
    yield from MEANING


def _format_step(step: ErasureStep) -> str:
    time = _EPOCH + timedelta(microseconds=step.recorded_at)
    return f"position {step.position}, {time.isoformat(timespec='microseconds').replace('+00:00', 'Z')}"


def _parse_step(text: str, name: str) -> ErasureStep:
    position, separator, time = text.removeprefix("position ").partition(", ")
    try:
        elapsed = datetime.fromisoformat(time) - _EPOCH
    except (ValueError, TypeError):
        separator = ""
    if not separator:
        raise ProofError(f"the line {name!r} of the certificate is no position and time")
    return ErasureStep(parse_decimal(position, f"the position {name}"), elapsed // timedelta(microseconds=1))


def _parse_mode(text: str) -> bool:
    if text not in _MODES.values():
        raise ProofError("the mode of the certificate is neither live nor test")
    return text == _MODES[True]


def _parse_count(text: str) -> tuple[str, int]:
    name, _, count = text.partition(" ")
    if not _NAME.fullmatch(name):
        raise ProofError("a place in the certificate has no name")
    return name, parse_decimal(count, f"the count of {name}")
