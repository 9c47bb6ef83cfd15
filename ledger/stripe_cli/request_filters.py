"""Which requests a run of `stripe logs tail` is shown. Pure: filters and a request in, yes or no out.

Values of one filter are alternatives, and all filters must match, as in Stripe's list of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Filters = Mapping[str, Sequence[str]]
"""Values by name, as `ledger.wire.tables.stripe_cli` has checked and spelt them."""


class RequestFacts(NamedTuple):
    """What filters look at.

    account      whose data the request was for
    key_account  whose key it had: the same, or the platform's that `account` is connected to
    client       the address that it came from; None over a Unix socket
    """

    account: str
    key_account: str
    method: str
    path: str
    status: int
    client: str | None


def matches(filters: Filters, request: RequestFacts, viewer: str) -> bool:
    """Whether the account `viewer`, which is one of the two of the request, is to be shown it."""
    return all(_CHECKS[name](values, request, viewer) for name, values in filters.items())


def _matches_account(values: Sequence[str], request: RequestFacts, viewer: str) -> bool:
    if request.account == request.key_account:
        return "self" in values
    return ("connect_out" if viewer == request.key_account else "connect_in") in values


def _matches_status(values: Sequence[str], request: RequestFacts, _: str) -> bool:
    return ("SUCCEEDED" if 200 <= request.status < 300 else "FAILED") in values


_CHECKS: Mapping[str, Callable[[Sequence[str], RequestFacts, str], bool]] = {
    "filter_account": _matches_account,
    "filter_http_method": lambda values, request, _: request.method in values,
    "filter_ip_address": lambda values, request, _: request.client in values,
    "filter_request_path": lambda values, request, _: request.path in values,
    "filter_request_status": _matches_status,
    "filter_source": lambda values, request, _: "API" in values,  # there is no dashboard
    "filter_status_code": lambda values, request, _: str(request.status) in values,
    "filter_status_code_type": lambda values, request, _: f"{request.status // 100}XX" in values,
}
