"""One request to the public API, decoded: who asks, in which mode, what, and how to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Expansion = dict[str, Any]
"""Members to expand, nested: {"charge": {"customer": {}}}."""


@dataclass(frozen=True, slots=True)
class Call:
    """What an operation is given.

    `account` is the account acted on and `livemode` the key's mode. `target` is the id in the path, empty
    where there is none. `parameters` are the parsed values of the operation's table, without `expand`.
    `as_platform`: the key's account acts on one that is connected to it. `base_url`: the service's address
    as the caller knows it, without a path.
    """

    account: str
    livemode: bool
    actor: str
    request_id: str
    idempotency_key: str | None
    target: str
    parameters: dict[str, Any]
    expand: Expansion
    as_platform: bool = False
    base_url: str = ""
