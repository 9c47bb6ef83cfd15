"""The JSON bodies of the operations on event destinations (contract §10.5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ledger.commands.models import Body, Metadata, StorableText, Text
from ledger.domain.webhook_endpoint import FROM_ACCOUNTS, FROM_SELF
from ledger.wire.event_destinations import ENABLED_EVENTS_MAX, WEBHOOK_ENDPOINT
from ledger.wire.suggestions import list_alternatives
from ledger.wire.versions import ORDERED_VERSIONS, is_version

_CLOUD_TYPES = ("amazon_eventbridge", "azure_event_grid")
_SOURCES = (FROM_SELF, FROM_ACCOUNTS)
_ORGANIZATION_SOURCES = ("@organization_members", "@organization_members/@accounts")


def _check_type(name: str) -> str:
    if name in _CLOUD_TYPES:
        raise ValueError(
            f"'{name}' is not available here: this service sends Events to URLs, by a destination of type "
            f"{WEBHOOK_ENDPOINT}"
        )
    if name != WEBHOOK_ENDPOINT:
        raise ValueError(f"must be {WEBHOOK_ENDPOINT}")
    return name


def _check_source(name: str) -> str:
    if name in _ORGANIZATION_SOURCES:
        raise ValueError(
            f"'{name}' is not available here: this service has no organizations; must be one of "
            f"{list_alternatives(name, _SOURCES)}"
        )
    if name not in _SOURCES:
        raise ValueError(f"must be one of {list_alternatives(name, _SOURCES)}")
    return name


def _check_version(name: str) -> str:
    if not is_version(name):
        raise ValueError(f"must be an API version: {list_alternatives(name, ORDERED_VERSIONS)}")
    return name


def _drop_repeated(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


EnabledEvents = Annotated[
    list[StorableText],
    Field(
        min_length=1,
        max_length=ENABLED_EVENTS_MAX,
        description="Types of events to send, or `*` for all: `v1.charge.captured` if the payload is thin, "
        "`charge.captured` if it is snapshot.",
    ),
    AfterValidator(_drop_repeated),
]
EventsFrom = Annotated[
    list[Annotated[StorableText, AfterValidator(_check_source)]],
    Field(
        min_length=1,
        description=f"`{FROM_SELF}`: events of the own account; `{FROM_ACCOUNTS}`: those of the accounts "
        f"connected to it; thin events may come from both. Default: `{FROM_SELF}`.",
    ),
    AfterValidator(_drop_repeated),
]
DestinationName = Annotated[
    StorableText, Field(min_length=1, max_length=255, description="Your name for the destination.")
]
Description = Annotated[Text, Field(description="Your description of the destination.")]
_INCLUDE_DESCRIPTION = "Members to show that are null otherwise."


class WebhookTarget(Body):
    url: Text = Field(description="URL to which events are sent; in live mode it must use https.")


class DestinationCreation(Body):
    """A new event destination."""

    # First: an error about it comes before those about the members of another type.
    type: Annotated[StorableText, AfterValidator(_check_type)] = Field(
        description=f"How events are sent: `{WEBHOOK_ENDPOINT}`."
    )
    name: DestinationName
    event_payload: Literal["snapshot", "thin"] = Field(
        description="`thin`: what has happened and to which object, which the receiver fetches; `snapshot`: "
        "the object as it was."
    )
    enabled_events: EnabledEvents
    webhook_endpoint: WebhookTarget
    description: Description = Field(default_factory=str)
    events_from: EventsFrom = Field(default_factory=lambda: [FROM_SELF])
    include: list[Literal["webhook_endpoint.signing_secret", "webhook_endpoint.url"]] = Field(
        default_factory=list, description=_INCLUDE_DESCRIPTION
    )
    metadata: Metadata = Field(default_factory=dict, description="Up to 50 key-value pairs of your own.")
    snapshot_api_version: Annotated[StorableText, AfterValidator(_check_version)] = Field(
        default_factory=str, description="API version of snapshots. Default: that of the account."
    )


class DestinationUpdate(Body):
    """Changes of an event destination; what is absent stays."""

    # Factories, as the schema of a default would say what an absent field means: it changes nothing.
    name: DestinationName = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    enabled_events: EnabledEvents = Field(default_factory=list)
    include: list[Literal["webhook_endpoint.url"]] = Field(
        default_factory=list, description=_INCLUDE_DESCRIPTION
    )
    metadata: dict[StorableText, Text | None] = Field(
        default_factory=dict, description="Key-value pairs to set; null removes a key."
    )
    webhook_endpoint: WebhookTarget = Field(default_factory=lambda: WebhookTarget(url=""))
