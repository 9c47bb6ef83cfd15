"""What the operations on webhook endpoints accept (CONTRACT 5.1, 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.domain.webhook_endpoint import EVERY_TYPE, URL_LENGTH_MAX, check_url
from ledger.wire import event_types, versions
from ledger.wire.parameters import EXPAND, PAGE, Array, Metadata, Table
from ledger.wire.scalars import Boolean, Choice, Parameter, Parser, Text, not_text


@dataclass(frozen=True, kw_only=True)
class Url(Text):
    """An address to send to. What only live mode asks of it is not known here; the decision looks again."""

    length_max: int = URL_LENGTH_MAX

    def compile(self, name: str) -> Parser:
        empty = self.empty

        def parse(given: Any) -> str | None:
            if type(given) is not str:
                raise not_text(given, name)
            if not given:
                return empty(name)
            check_url(given, livemode=False)
            return given

        return parse

    def shape(self) -> dict[str, Any]:
        return {**super().shape(), "format": "uri"}


def _enabled_events(*, required: bool) -> Array:
    names = (EVERY_TYPE, *event_types.ORDERED)
    return Array(
        Choice(names),
        items_max=len(names),
        required=required,
        description="Types of Events to send, or `*` for all. On an update they replace those there were.",
    )


_ENDPOINT: dict[str, Parameter] = {
    "description": Text(unsettable=True, description="What the endpoint is for."),
    "expand": EXPAND,
    "metadata": Metadata(),
}

CREATE = Table(
    {
        **_ENDPOINT,
        "api_version": Choice(
            versions.ORDERED, description="The version its Events are rendered in; the account's when absent."
        ),
        "connect": Boolean(
            description="True: Events of connected accounts. False, or absent: the account's own."
        ),
        "enabled_events": _enabled_events(required=True),
        "url": Url(required=True, description="Where to send Events; in live mode only https."),
    }
)

UPDATE = Table(
    {
        **_ENDPOINT,
        "disabled": Boolean(description="True stops sending; Events of that time are never sent later."),
        "enabled_events": _enabled_events(required=False),
        "url": Url(description="Where to send Events; in live mode only https."),
    }
)

RETRIEVE = Table({"expand": EXPAND})

DELETE = Table({})

LIST = Table(PAGE)
