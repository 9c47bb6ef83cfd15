"""Ask a witness for its cosignature over HTTP (C2SP tlog-witness, `add-checkpoint`).

It follows no redirect and uses no proxy. An answer is limited in time and in bytes, and its cosignatures are
verified before anybody sees them.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

import httpcore

from ledger.errors import LedgerError
from ledger.tlog.encoding import parse_decimal
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import Note, NoteSignature, parse_note, parse_signature_lines, verify_note
from ledger.tlog.submissions import SIZE_CONTENT_TYPE, Submission
from ledger.tree.witnesses.addresses import WitnessAddress

ANSWER_BYTES_MAX = 65_536
ANSWER_SECONDS_MAX = 10.0
KEEP_ALIVE_SECONDS = 5.0

_COSIGNED, _OTHER_SIZE, _INCONSISTENT = 200, 409, 422
_REFUSALS = {
    400: "it finds the request malformed",
    403: "it does not know the key of this log",
    404: "it does not know this log, or the URL is wrong",
}


class WitnessUnreachable(LedgerError):
    """There is no answer, or none of the protocol. `str()` is one line that says why."""


class WitnessRefuses(LedgerError):
    """The witness refuses the log as such, or does not sign with its key. `str()` is one line with the
    reason."""


class WitnessContradicts(LedgerError):
    """The witness has seen a tree that the checkpoint does not continue."""


class OtherSize(NamedTuple):
    """The witness knows another tree than the request begins with: one of this size."""

    size: int


class WitnessClient:
    """Sends requests to one witness, one at a time."""

    def __init__(self, witness: WitnessAddress) -> None:
        self._witness = witness
        self._url = f"{witness.url}/add-checkpoint"
        self._headers = [(b"Host", urlsplit(witness.url).netloc.encode()), (b"User-Agent", b"ledger")]
        self._pool = httpcore.AsyncConnectionPool(
            httpcore.default_ssl_context(), max_connections=1, keepalive_expiry=KEEP_ALIVE_SECONDS
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._pool.aclose()

    async def submit(self, submission: Submission) -> tuple[NoteSignature, ...] | OtherSize:
        """The witness's cosignatures of the submitted checkpoint, verified; or the size to begin with.

        Raises WitnessUnreachable, WitnessRefuses and WitnessContradicts.
        """
        code, content_type, body = await self._post(submission.encode())
        try:
            text = body.decode()
            if code == _COSIGNED:
                return self._verify(submission, text)
            if code == _OTHER_SIZE and content_type == SIZE_CONTENT_TYPE:
                return OtherSize(parse_decimal(text.removesuffix("\n"), "the size that the witness knows"))
        except UnicodeDecodeError:
            raise WitnessUnreachable(f"its answer {code} is not UTF-8") from None
        except ProofError as error:
            raise WitnessRefuses(f"its answer {code} cannot be used: {error}") from None
        if code == _INCONSISTENT:
            raise WitnessContradicts("it has cosigned a tree that this one does not continue")
        if code in _REFUSALS:
            raise WitnessRefuses(_REFUSALS[code])
        raise WitnessUnreachable(f"it answers {code}, which is not an answer of the protocol")

    def _verify(self, submission: Submission, text: str) -> tuple[NoteSignature, ...]:
        """The lines of the witness's keys in an answer; others are ignored. Raises ProofError if there is
        none, and if one of them is wrong."""
        keys = self._witness.keys
        lines = tuple(line for line in parse_signature_lines(text) if any(line.is_of(key) for key in keys))
        verify_note(Note(parse_note(submission.note).text, lines), keys)
        if any(not key.read_time(line.signature) for line in lines for key in keys if line.is_of(key)):
            raise ProofError("the cosignature has no time")
        return lines

    async def _post(self, body: bytes) -> tuple[int, str, bytes]:
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS_MAX),
                self._pool.stream("POST", self._url, headers=self._headers, content=body) as response,
            ):
                answer = bytearray()
                async for chunk in response.aiter_stream():
                    answer += chunk
                    if len(answer) > ANSWER_BYTES_MAX:
                        raise WitnessUnreachable(f"its answer is longer than {ANSWER_BYTES_MAX} bytes")
        except TimeoutError:
            raise WitnessUnreachable(f"it did not answer within {ANSWER_SECONDS_MAX:g} s") from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise WitnessUnreachable(f"no answer: {type(error).__name__}") from None
        headers = {name.lower(): value for name, value in response.headers}
        return response.status, headers.get(b"content-type", b"").decode("latin-1"), bytes(answer)
