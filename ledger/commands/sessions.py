"""Commands on customer sessions (CONTRACT 2.1), and their client secret.

The secret is derived from what the session grants and the service key, never kept: an idempotent replay
derives it again, and a forged one fails before anything is looked up (README, invariant 7).
"""

from __future__ import annotations

import hmac

from ledger.call import Call
from ledger.commands.execution import Decide, Decided, Reading
from ledger.domain import session
from ledger.domain.customer import Customer
from ledger.domain.money import Terms
from ledger.domain.session import CustomerSession
from ledger.errors import InvalidParameter
from ledger.ids import digits_of
from ledger.objects import expanded, named
from ledger.store.codec import State
from ledger.store.journal import Change
from ledger.wire import render

PREFIX = "cuss_secret_"


class Secrets:
    """Derives client secrets from the service key."""

    def __init__(self, service_key: bytes) -> None:
        self._key = hmac.digest(service_key, b"ledger/customer_session/secret/1", "sha256")

    def of(self, state: State) -> str:
        """`cuss_secret_`, the session's id part, and 32 digits that only the service key can make."""
        assert isinstance(state, CustomerSession)
        mac = hmac.digest(self._key, session.grant(state), "sha256")
        return PREFIX + state.id.partition("_")[2] + digits_of(mac)


def create(secrets: Secrets, terms: Terms) -> Decide:
    """`POST /v1/customer_sessions`"""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        given = call.parameters
        if "customer_account" in given:
            raise InvalidParameter("Accounts of API v2 are not served.", param="customer_account")
        customer = await named(call, Customer, "customer", given["customer"], reading.state)
        (event,) = session.create(
            session_id=reading.new_id("cuss"),
            account=call.account,
            livemode=call.livemode,
            customer=customer.id,
            components=given["components"],
            terms=terms,
            now=now,
        )
        state = session.evolve(None, event)
        secret = secrets.of(state)
        answer = render.customer_session(state, secret)
        if call.expand:
            await expanded(state, answer, call.expand, now, reading.state)
        return Decided([Change(event, state)], answer, secret=secret, secret_of=state.id)

    return decide
