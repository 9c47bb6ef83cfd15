"""The parameters of the operations on webhook endpoints (contract §5.1, §5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD
from ledger.domain.webhook_urls import URL_LENGTH_MAX, check_url
from ledger.wire import event_types, versions
from ledger.wire.parameters import EXPAND, PAGINATION, Array, Metadata, ParameterTable
from ledger.wire.scalars import Boolean, Choice, Parameter, Parser, Text, not_text_error


@dataclass(frozen=True, kw_only=True)
class Url(Text):
    """A URL to which Events are delivered. The decision checks the additional rules of live mode."""

    length_max: int = URL_LENGTH_MAX

    def compile(self, name: str) -> Parser:
        parse_empty = self.parse_empty

        def parse(raw: Any) -> str | None:
            if type(raw) is not str:
                raise not_text_error(raw, name)
            if not raw:
                return parse_empty(name)
            check_url(raw, livemode=False)
            return raw

        return parse

    def value_schema(self) -> dict[str, Any]:
        return {**super().value_schema(), "format": "uri"}


def _make_enabled_events(*, required: bool) -> Array:
    names = (EVENT_TYPE_WILDCARD, *event_types.ORDERED_EVENT_TYPES)
    return Array(
        Choice(names, described_in=event_types.EVENT_TYPES_DESCRIBED_IN),
        items_max=len(names),
        required=required,
        description="Types of Events to deliver, or `*` for all. An update replaces the existing ones.",
    )


_CREATE_AND_UPDATE: dict[str, Parameter] = {
    "description": Text(unsettable=True, description="Your description of the endpoint."),
    "expand": EXPAND,
    "metadata": Metadata(),
}

CREATE = ParameterTable(
    {
        **_CREATE_AND_UPDATE,
        "api_version": Choice(
            versions.ORDERED_VERSIONS,
            described_in="docs/wire-contract.md, Appendix B",
            description="API version of the Events. Default: that of the account.",
        ),
        "connect": Boolean(
            description="True: Events of connected accounts. Default: the account's own Events."
        ),
        "enabled_events": _make_enabled_events(required=True),
        "url": Url(
            required=True, description="URL to which Events are delivered; in live mode it must use https."
        ),
    }
)

UPDATE = ParameterTable(
    {
        **_CREATE_AND_UPDATE,
        "disabled": Boolean(description="True disables deliveries; Events of that time are never delivered."),
        "enabled_events": _make_enabled_events(required=False),
        "url": Url(description="URL to which Events are delivered; in live mode it must use https."),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

DELETE = ParameterTable({})

LIST = ParameterTable(PAGINATION)
