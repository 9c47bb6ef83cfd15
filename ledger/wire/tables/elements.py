"""The parameters with which a front end exchanges a client secret (contract §6.1).

Each release of the front-end SDKs sends parameters of its own, so undeclared ones are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.wire.parameters import ParameterTable
from ledger.wire.scalars import Choice, Text


class _ClientSecret(Text):
    """Accepts anything: the command refuses an invalid secret, always with the same error."""

    def compile(self, name: str) -> Callable[[Any], str]:
        def parse(raw: Any) -> str:
            return raw if type(raw) is str else ""

        return parse


SESSION = ParameterTable(
    {
        "customer_session_client_secret": _ClientSecret(
            description="The client secret of a customer session. This request uses it up."
        ),
        "key": Text(description="The publishable key, if there is no Authorization header."),
        "type": Choice(
            ("deferred_intent", "payment_intent", "setup_intent"),
            default="deferred_intent",
            description="Purpose of the payment form.",
        ),
    },
    ignore_unknown=True,
)
