"""Files: the recorded facts about uploaded bytes (contract §2.9). `ledger/files/storage` stores the bytes
themselves.

The type of a file is detected from its content; only the name tells a csv from other text. Whether a file may
be evidence is checked when it is attached to a dispute (contract §2.2), from facts recorded at the upload, so
no decision reads the bytes.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.backdating import resolve_created_at
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.rules import Rule, redact_text
from ledger.errors import InvalidState

EVIDENCE_PURPOSE = "dispute_evidence"
EVIDENCE_BYTES_MAX = 5 * 1024 * 1024
EVIDENCE_PAGES_MAX = 49
EVIDENCE_TYPES = frozenset({"pdf", "jpg", "png"})
UPLOAD_PURPOSES = (
    "account_requirement", "additional_verification", "business_icon", "business_logo", "customer_signature",
    "dispute_evidence", "identity_document", "issuing_regulatory_reporting", "pci_document",
    "platform_terms_of_service", "tax_document_user_upload", "terminal_android_apk",
    "terminal_reader_splashscreen", "terminal_wifi_certificate", "terminal_wifi_private_key",
)  # fmt: skip
GENERATED_PURPOSES = (
    "document_provider_identity_document", "finance_report_run", "financial_account_statement",
    "identity_document_downloadable", "selfie", "sigma_scheduled_query",
)  # fmt: skip
INLINE_LINKS_MAX = 10
"""How many of its links are rendered in a file."""
SNIFF_BYTES = 1024
"""How many bytes from the start of a file `detect_type` needs."""

_MAGIC_NUMBERS = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"PK\x03\x04", "zip"),
)
_CONTROL_BYTES = frozenset(range(32)) - {9, 10, 12, 13}


@domain_event
class FileUploaded(DomainEvent):
    """A file was uploaded, or imported from another system.

    created  unix seconds; before `at` for an imported file
    size     bytes
    type     detected from the content by `detect_type`, such as pdf; None if unknown
    digest   SHA-256 of the bytes, hexadecimal
    pages    page count of a PDF; None for another type, or if the pages cannot be counted
    """

    TOPIC: ClassVar[str] = "file.uploaded"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"filename": redact_text}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)
    class_version: ClassVar[int] = 2

    account: str
    livemode: bool
    created: int
    purpose: str
    filename: str | None
    size: int
    type: str | None
    digest: str
    pages: int | None

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 had no `created`: no file was imported."""
        state["created"] = state["at"]


@domain_event
class FileLinked(DomainEvent):
    """A file link with the id `link` was created for the file."""

    TOPIC: ClassVar[str] = "file.linked"

    link: str


EVENTS: tuple[type[DomainEvent], ...] = (FileUploaded, FileLinked)


class File(State, frozen=True, kw_only=True):
    """A file. `links`: ids of the newest links, newest first; one more than are rendered, to show whether
    there are more."""

    created: int
    purpose: str
    filename: str | None
    size: int
    type: str | None
    digest: str
    pages: int | None
    links: list[str] = msgspec.field(default_factory=list)


def evolve(state: File | None, event: DomainEvent) -> File:
    """The file after `event`. Raises TypeError for an event of another aggregate."""
    match event:
        case FileUploaded():
            return File(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=event.created,
                purpose=event.purpose,
                filename=event.filename,
                size=event.size,
                type=event.type,
                digest=event.digest,
                pages=event.pages,
            )
        case FileLinked():
            assert state is not None
            links = [event.link, *state.links][: INLINE_LINKS_MAX + 1]
            return msgspec.structs.replace(state, version=event.originator_version, links=links)
    raise TypeError(f"{type(event).__name__} is not a file event")


def upload(
    *,
    file_id: str,
    account: str,
    livemode: bool,
    purpose: str,
    filename: str | None,
    size: int,
    type: str | None,
    digest: str,
    pages: int | None,
    now: int,
    created: int | None = None,
) -> list[DomainEvent]:
    """Records a file whose bytes are stored already. `created` (unix seconds) is for imports; default `now`.

    Whether the content suits the purpose is checked when the file is used. Raises InvalidParameter for
    `created` in the future.
    """
    return [
        FileUploaded(
            originator_id=file_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            created=resolve_created_at({"created": created}, now),
            purpose=purpose,
            filename=filename,
            size=size,
            type=type,
            digest=digest,
            pages=pages,
        )
    ]


def check_usable_as_evidence(state: File, param: str) -> None:
    """Raises InvalidState, param `param`, for a file that may not be evidence (contract §2.2).

    A PDF whose pages cannot be counted is accepted: a PDF reader may open what our library cannot parse.
    """
    if state.purpose != EVIDENCE_PURPOSE:
        text = f"The file {state.id} has the purpose {state.purpose}; evidence needs {EVIDENCE_PURPOSE}."
        raise InvalidState(text, param=param)
    if state.size > EVIDENCE_BYTES_MAX:
        text = "The file you uploaded was too large. Please upload a file smaller than 5 MB."
        raise InvalidState(text, param=param)
    if state.type not in EVIDENCE_TYPES:
        text = "The file you uploaded is not supported. Please upload a PDF, JPEG or PNG file."
        raise InvalidState(text, param=param)
    if state.pages is not None and state.pages > EVIDENCE_PAGES_MAX:
        text = "The file you uploaded was too long. Please upload a file with fewer than 50 pages."
        raise InvalidState(text, param=param)


def detect_type(first_bytes: bytes, filename: str | None) -> str | None:
    """The type of a file (jpg, png, gif, zip, pdf, csv or txt) by its first SNIFF_BYTES bytes; None if
    unknown. `filename` only tells csv from txt."""
    for magic, file_type in _MAGIC_NUMBERS:
        if first_bytes.startswith(magic):
            return file_type
    if b"%PDF-" in first_bytes:  # PDF readers accept the header anywhere in the first 1024 bytes
        return "pdf"
    if not first_bytes or not _CONTROL_BYTES.isdisjoint(first_bytes):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(first_bytes)  # accepts an incomplete last character
    except UnicodeDecodeError:
        return None
    return "csv" if (filename or "").lower().endswith(".csv") else "txt"
