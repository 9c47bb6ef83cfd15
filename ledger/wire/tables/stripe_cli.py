"""The parameters by which the Stripe CLI opens a session (docs/stripe-cli.md).

Other releases of the CLI may send more: what is not declared is ignored, for it is information only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ledger.errors import InvalidParameter
from ledger.wire.parameters import Array, ParameterTable
from ledger.wire.scalars import Choice, Parser, Text, not_text_error
from ledger.wire.suggestions import list_alternatives

FEATURES = ("webhooks", "v2_events", "request_logs")
FILTER_NAMES = (
    "filter_account", "filter_http_method", "filter_ip_address", "filter_request_path",
    "filter_request_status", "filter_source", "filter_status_code", "filter_status_code_type",
)  # fmt: skip
FILTER_VALUES_MAX = 100
FILTER_VALUE_LENGTH_MAX = 500
DEVICE_LENGTH_MAX = 500


@dataclass(frozen=True, kw_only=True)
class RequestLogFilters(Text):
    """Filters of request logs: a JSON object with an array of texts for each name. The value is a dict of
    lists; a filter without a value is left out."""

    length_max: int = 20_000

    def compile(self, name: str) -> Parser:
        parse_text = super().compile(name)

        def parse(raw: Any) -> dict[str, list[str]]:
            if raw == "":
                return {}
            try:
                filters = msgspec.json.decode(parse_text(raw))
            except msgspec.DecodeError:
                raise InvalidParameter(f"Invalid {name}: must be a JSON object", param=name) from None
            if type(filters) is not dict:
                raise InvalidParameter(f"Invalid {name}: must be a JSON object", param=name)
            for key, values in filters.items():
                _check_filter(f"{name}[{key}]", key, values)
            return {key: values for key, values in filters.items() if values}

        return parse


def _check_filter(name: str, key: str, values: Any) -> None:
    if key not in FILTER_NAMES:
        expected = list_alternatives(key, FILTER_NAMES)
        raise InvalidParameter(f"Unknown filter {name[:80]}: must be one of {expected}", param=name[:80])
    if values is None:
        return
    if type(values) is not list or len(values) > FILTER_VALUES_MAX:
        raise InvalidParameter(
            f"Invalid {name}: must be an array of at most {FILTER_VALUES_MAX} strings", param=name
        )
    for value in values:
        if type(value) is not str:
            raise not_text_error(value, name)
        if len(value) > FILTER_VALUE_LENGTH_MAX or "\0" in value:
            raise InvalidParameter(
                f"Invalid {name}: its values have at most {FILTER_VALUE_LENGTH_MAX} characters", param=name
            )


CREATE_SESSION = ParameterTable(
    {
        "device_name": Text(
            required=True, length_max=DEVICE_LENGTH_MAX, description="Name of the machine of the CLI."
        ),
        "filters": RequestLogFilters(description="Which request logs to send, as JSON."),
        "websocket_features": Array(
            Choice(FEATURES), items_max=len(FEATURES), required=True, description="What to send."
        ),
    },
    ignore_unknown=True,
)
