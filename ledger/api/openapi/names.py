"""Names of the operations of the public API: those of the functions in generated clients, so they stay.

A name is a verb and what the path names: `list_charges`, `capture_charge`, `retrieve_customer_source`. Routes
of FastAPI are named as their functions are; docs/internal-api.md lists these.
"""

from __future__ import annotations

import re

from ledger.api.public.operations import Operation

_BASE = re.compile("^/(v1|v2/core)/")
_VERBS = {"GET": "retrieve", "POST": "update", "DELETE": "delete"}
_OWN_NAMES = {
    "GET /v1/account": "retrieve_own_account",
    "GET /v1/accounts": "list_connected_accounts",
    "GET /v1/accounts/{account}/capabilities": "list_account_capabilities",
    "GET /v1/elements/sessions": "exchange_client_secret",
    "POST /v1/files": "upload_file",
    "GET /v1/files/{file}/contents": "download_file",
    "GET /v2/core/events": "list_thin_events",
    "GET /v2/core/events/{event}": "retrieve_thin_event",
}
"""Where the rule gives no good name, or that of a route of the internal API."""


def name_operation(operation: Operation) -> str:
    """The operation's id."""
    if operation.name in _OWN_NAMES:
        return _OWN_NAMES[operation.name]
    *owners, last = _split(operation.path)
    prefix = "".join(f"{_singular(owner)}_" for owner in owners)
    if operation.path.endswith("}"):
        return f"{_VERBS[operation.method]}_{prefix}{_singular(last)}"
    if operation.is_list:
        return f"list_{prefix}{last}"
    if operation.method == "POST" and not owners:
        return f"create_{_singular(last)}"
    if operation.method == "POST" and (len(owners) > 1 or last != "dispute"):
        return f"{last}_{prefix.removesuffix('_')}"
    return f"{_VERBS[operation.method]}_{prefix}{last}"


def _split(path: str) -> list[str]:
    """What the path names between its ids: `customers`, `sources`; `checkout_sessions`."""
    parts = re.split(r"/\{\w+\}/?", _BASE.sub("", path))
    names = [part.replace("/", "_").replace(".", "_") for part in parts if part]
    if names[-1] == "dispute_close":  # the legacy path to the newest dispute of a charge
        names[-1:] = ["dispute", "close"]
    return names


def _singular(plural: str) -> str:
    for ending, replacement in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if plural.endswith(ending):
            return plural.removesuffix(ending) + replacement
    return plural
