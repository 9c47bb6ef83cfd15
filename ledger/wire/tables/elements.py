"""What a front end may send to exchange a client secret (contract §6.1).

Front-end SDKs of every release call this, each with names of its own: what is not declared is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ledger.wire.parameters import ParameterTable
from ledger.wire.scalars import Choice, Parameter, Text


class _ClientSecret(Text):
    """Whatever was sent: what is no secret of ours is refused in one way, however it looks."""

    def compile(self, name: str) -> Callable[[Any], str]:
        def parse(raw: Any) -> str:
            return raw if type(raw) is str else ""

        return parse


class _LenientTable(ParameterTable):
    """A table that ignores what it does not declare, however it looks."""

    def __init__(self, members: Mapping[str, Parameter]) -> None:
        super().__init__(members)
        self.only_names = frozenset(members)
        parse_declared = self.parse
        self.parse = lambda form: parse_declared({name: form[name] for name in members if name in form})


SESSION = _LenientTable(
    {
        "customer_session_client_secret": _ClientSecret(
            description="The client secret of a customer session; it is used up by this."
        ),
        "key": Text(description="The publishable key, unless it is in the Authorization header."),
        "type": Choice(
            ("deferred_intent", "payment_intent", "setup_intent"),
            default="deferred_intent",
            description="What the payment form is for.",
        ),
    }
)
