"""The parameters by which the Stripe CLI opens a session (docs/stripe-cli.md).

Other releases of the CLI may send more: what is not declared is ignored, for it is information only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import msgspec

from ledger.errors import InvalidParameter
from ledger.wire.parameters import Array, ParameterTable
from ledger.wire.scalars import Choice, Parser, Text
from ledger.wire.suggestions import list_alternatives

FEATURES = ("webhooks", "v2_events", "request_logs")
FILTER_CHOICES: Mapping[str, Sequence[str]] = {
    "filter_account": ("connect_in", "connect_out", "self"),
    "filter_http_method": ("DELETE", "GET", "POST"),
    "filter_request_status": ("FAILED", "SUCCEEDED"),
    "filter_source": ("API", "DASHBOARD"),
    "filter_status_code_type": ("2XX", "4XX", "5XX"),
}
FILTER_NAMES = (*FILTER_CHOICES, "filter_ip_address", "filter_request_path", "filter_status_code")
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
            parsed = {key: _parse_filter(name, key, values) for key, values in filters.items()}
            return {key: values for key, values in parsed.items() if values}

        return parse


def _parse_filter(name: str, key: str, values: Any) -> list[str]:
    """The values of one filter, spelt as in FILTER_CHOICES. An error names the parameter: it is one text."""
    if key not in FILTER_NAMES:
        expected = list_alternatives(key, FILTER_NAMES)
        raise InvalidParameter(f"Invalid {name}: unknown filter {key[:80]}, must be {expected}", param=name)
    if values is None:
        return []
    if type(values) is not list or len(values) > FILTER_VALUES_MAX:
        raise InvalidParameter(
            f"Invalid {name}: {key} must be an array of at most {FILTER_VALUES_MAX} strings", param=name
        )
    return [_parse_filter_value(name, key, value) for value in values]


def _parse_filter_value(name: str, key: str, value: Any) -> str:
    if type(value) is not str or len(value) > FILTER_VALUE_LENGTH_MAX or "\0" in value:
        text = f"{key} must have strings of at most {FILTER_VALUE_LENGTH_MAX} characters"
        raise InvalidParameter(f"Invalid {name}: {text}", param=name)
    choices = FILTER_CHOICES.get(key)
    if choices is not None:
        found = next((each for each in choices if each.lower() == _spell_out(key, value).lower()), None)
        if found is None:
            raise InvalidParameter(f"Invalid {name}: {key} takes {', '.join(choices)}", param=name)
        return found
    if key == "filter_status_code" and not re.fullmatch("[1-5][0-9][0-9]", value):
        raise InvalidParameter(f"Invalid {name}: {key} takes status codes, as 404", param=name)
    if key == "filter_ip_address":
        try:
            return str(ip_address(value))
        except ValueError:
            raise InvalidParameter(f"Invalid {name}: {key} takes IP addresses", param=name) from None
    if key == "filter_request_path" and not value.startswith("/"):
        raise InvalidParameter(f"Invalid {name}: {key} takes paths, as /v1/charges", param=name)
    return value


def _spell_out(key: str, value: str) -> str:
    """The CLI sends 4XX as 400."""
    return f"{value[0]}XX" if key == "filter_status_code_type" and re.fullmatch("[245]00", value) else value


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
