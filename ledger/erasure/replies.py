"""Rewrites the kept replies of an erased person: a request that is sent again gets the same status and ids.

A reply is kept for a day, and sealed for the subject of the object that it shows. It is opened while the key
still exists, redacted member by member, and stored unsealed. A secret that was cut out of it keeps its place.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.compression.documents import compress
from ledger.domain.redaction.documents import REDACTED, redact_document
from ledger.erasure.records import Erasure, Page, Place
from ledger.keys.data_keys import DataKeys
from ledger.keys.documents import find_subject, open_document
from ledger.postgres.connections import Conn, fetch_all

PAGE_REPLIES = 5000

# One that is sealed for a subject of the erasure, by the header of a sealed document; or that
# answers a change of an object of the erasure, which somebody else has since.
_PAGE = """
WITH page AS (
    SELECT r.key, r.compressed, r.secret_at, r.position FROM ledger.replies r
    WHERE r.account = %(account)s AND r.livemode = %(livemode)s AND r.key > %(after)s
    ORDER BY r.key LIMIT %(limit)s
), sealed AS (
    SELECT key, compressed, secret_at, position,
           convert_from(substr(compressed, 3, get_byte(compressed, 1)), 'LATIN1') AS subject
    FROM page WHERE substr(compressed, 1, 1) = '\\x01'::bytea
)
SELECT (SELECT count(*) FROM page), (SELECT max(key) FROM page), s.key, s.compressed, s.secret_at
FROM (SELECT) AS always LEFT JOIN sealed s
ON s.subject = ANY (%(subjects)s::text[])
OR (SELECT true FROM ledger.erasure_streams e WHERE e.job = %(job)s AND e.stream = s.subject)
OR (SELECT true FROM ledger.events n JOIN ledger.erasure_streams e ON e.stream = n.originator_id
    WHERE n.notification_id = s.position AND e.job = %(job)s)
"""
_UPDATE = """
UPDATE ledger.replies SET body = NULL, compressed = %(compressed)s, secret_at = %(secret_at)s::integer,
    secret_of = CASE WHEN %(secret_at)s::integer IS NULL THEN NULL ELSE secret_of END
WHERE account = %(account)s AND livemode = %(livemode)s AND key = %(key)s
"""
_SECRET = "secret\x1fof\x1freply"  # noqa: S105 (a mark in the place of one; no JSON has it)
_ERROR_MEMBERS = ("charge", "code", "decline_code", "doc_url", "param", "type")

_encode = msgspec.json.Encoder().encode


class RepliesRewrite:
    """Rewrites the replies of erasures."""

    def __init__(self, keys: DataKeys) -> None:
        self._keys = keys

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """Rewrite those of the next replies of the account that are sealed for the person, in the caller's
        transaction. Raises psycopg.Error."""
        owner = {"account": erasure.account, "livemode": erasure.livemode}
        parameters = {
            **owner, "job": erasure.job, "subjects": erasure.subjects, "after": erasure.place.cursor,
            "limit": PAGE_REPLIES,
        }  # fmt: skip
        rows = await fetch_all(conn, _PAGE, parameters)
        count, last = rows[0][:2]
        found = [row[2:] for row in rows if row[2] is not None]
        subjects = {find_subject(compressed) for _, compressed, _ in found}
        keyring = await self._keys.load(conn, filter(None, subjects), erasing=True)
        for key, compressed, secret_at in found:
            document = open_document(keyring, compressed)
            body, at = redact_reply((document or b"{}").decode(), secret_at if document else None)
            await conn.execute(
                _UPDATE, {**owner, "key": key, "compressed": compress(body.encode()), "secret_at": at}
            )
        place = Place(last) if count == PAGE_REPLIES else None
        return Page(place, {"replies": len(found)})


def redact_reply(body: str, secret_at: int | None) -> tuple[str, int | None]:
    """The body of a reply as it is once its data is erased, without the secret that was cut out of it, and
    the offset of that; both offsets in characters."""
    marked = body if secret_at is None else f"{body[:secret_at]}{_escape(_SECRET)}{body[secret_at:]}"
    document = msgspec.json.decode(marked)
    redacted = redact_document(document)
    if isinstance(document, dict) and isinstance(error := document.get("error"), dict):
        redacted["error"] |= {name: error[name] for name in _ERROR_MEMBERS if name in error}
    if secret_at is not None:
        _restore_secret(document, redacted)
    text = _encode(redacted).decode()
    at = text.find(_escape(_SECRET))
    return (text, None) if at < 0 else (text.replace(_escape(_SECRET), ""), at)


def _restore_secret(document: Any, redacted: Any) -> None:
    """Put the value with the secret back where it was redacted: an address, or the secret alone."""
    if isinstance(document, dict):
        for name, value in document.items():
            if isinstance(value, str) and _SECRET in value and redacted.get(name) == REDACTED:
                redacted[name] = value
            elif name in redacted:
                _restore_secret(value, redacted[name])
    elif isinstance(document, list):
        for value, other in zip(document, redacted, strict=True):
            _restore_secret(value, other)


def _escape(text: str) -> str:
    return text.replace("\x1f", "\\u001f")
