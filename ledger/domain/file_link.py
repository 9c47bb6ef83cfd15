"""File links: URLs that serve a file's bytes without a key until they expire (contract §2.9).

The URL is not stored: `ledger/files/urls` derives it from the link's id. A link expires by the clock, without
an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain import merge_patch
from ledger.domain.aggregate import State, next_header
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.file import File, FileLinked
from ledger.domain.redaction.rules import Rule, keep, redact_members, redact_metadata
from ledger.errors import InvalidParameter, InvalidState

# Contract §2.9, from the SDK. Files of other purposes can be read with a key only.
LINKABLE_PURPOSES = frozenset(
    {
        "business_icon", "business_logo", "customer_signature", "dispute_evidence", "finance_report_run",
        "financial_account_statement", "identity_document_downloadable", "issuing_regulatory_reporting",
        "pci_document", "selfie", "sigma_scheduled_query", "tax_document_user_upload",
        "terminal_android_apk", "terminal_reader_splashscreen",
    }
)  # fmt: skip


@domain_event
class FileLinkCreated(DomainEvent):
    """A link to the file with the id `file`. `expires_at` is in unix seconds; None: it never expires."""

    TOPIC: ClassVar[str] = "file_link.created"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"metadata": redact_metadata}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    file: str
    expires_at: int | None
    metadata: dict[str, str] | None


@domain_event
class FileLinkUpdated(DomainEvent):
    """`changes` maps each changed field (expires_at, metadata) to its complete new value."""

    TOPIC: ClassVar[str] = "file_link.updated"
    REDACTION: ClassVar[Mapping[str, Rule]] = {
        "changes": redact_members({"metadata": redact_metadata, "expires_at": keep})
    }
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    changes: dict[str, Any] | None


EVENTS: tuple[type[DomainEvent], ...] = (FileLinkCreated, FileLinkUpdated)


class FileLink(State, frozen=True, kw_only=True):
    """A file link. `expires_at` is in unix seconds; None: it never expires."""

    created: int
    file: str
    expires_at: int | None
    metadata: dict[str, str]


def evolve(state: FileLink | None, event: DomainEvent) -> FileLink:
    """The link after `event`. Raises TypeError for an event of another aggregate."""
    match event:
        case FileLinkCreated():
            return FileLink(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=event.at,
                file=event.file,
                expires_at=event.expires_at,
                metadata=event.metadata or {},
            )
        case FileLinkUpdated():
            assert state is not None
            return msgspec.structs.replace(state, version=event.originator_version, **event.changes or {})
    raise TypeError(f"{type(event).__name__} is not a file link event")


def create(
    file: File, params: Mapping[str, Any], *, link_id: str, now: int, param: str, expires_param: str
) -> list[DomainEvent]:
    """FileLinkCreated on the link's stream and FileLinked on the file's, to be appended together.

    `param` and `expires_param` are the parameter names for errors. Raises InvalidState, `param`, for a
    purpose whose files cannot be linked; InvalidParameter, `expires_param`, for `expires_at` in the past,
    and for metadata beyond its limits.
    """
    if file.purpose not in LINKABLE_PURPOSES:
        text = f"File links cannot be created for files with the purpose {file.purpose}."
        raise InvalidState(text, param=param)
    expires_at = params.get("expires_at")
    _check_in_future(expires_at, now, expires_param)
    link_created = FileLinkCreated(
        originator_id=link_id,
        originator_version=1,
        at=now,
        account=file.account,
        livemode=file.livemode,
        file=file.id,
        expires_at=expires_at,
        metadata=merge_patch.merge_metadata({}, params.get("metadata")),
    )
    file_linked = FileLinked(**next_header(file, now), link=link_id)
    return [link_created, file_linked]


def update(state: FileLink, params: Mapping[str, Any], *, now: int) -> list[DomainEvent]:
    """Changes `expires_at` (unix seconds in the future, "now", or None for never) and `metadata`.

    Returns [] if nothing changes. Raises InvalidState for an expired link, InvalidParameter for `expires_at`
    in the past and for metadata beyond its limits.
    """
    if is_expired(state, now):
        raise InvalidState("Expired file links can no longer be updated.")
    after: dict[str, Any] = {}
    if "expires_at" in params:
        expires_at = params["expires_at"]
        if expires_at == "now":
            expires_at = now
        else:
            _check_in_future(expires_at, now, "expires_at")
        after["expires_at"] = expires_at
    if "metadata" in params:
        after["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    changes = merge_patch.find_changes(state, after)
    return [FileLinkUpdated(**next_header(state, now), changes=changes)] if changes else []


def is_expired(state: FileLink, now: int) -> bool:
    """Whether the link's URL no longer serves the file at `now` (unix seconds)."""
    return state.expires_at is not None and state.expires_at <= now


def _check_in_future(expires_at: int | None, now: int, param: str) -> None:
    if expires_at is not None and expires_at <= now:
        raise InvalidParameter("A file link must expire in the future.", param=param)
