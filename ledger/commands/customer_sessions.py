"""Commands on customer sessions (contract §2.1, §6), and the secrets that go with them.

A client secret, and the ephemeral key it is exchanged for, are derived from what the session grants and
the service key, and never kept (README, invariant 7). Each carries its session's id and two MACs: a short
one over what is known before anything is looked up, so that a forged one never reaches the database, and
one over the grant, which is in the session's stream.
"""

from __future__ import annotations

import hmac
from typing import Any

import msgspec

from ledger.accounts import ApiKey
from ledger.call import Call
from ledger.commands.execution import Decide, Decision, DecisionContext
from ledger.domain import customer_session
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter
from ledger.ids import encode_digest
from ledger.objects import expand, get_param, get_target
from ledger.store.codec import State
from ledger.store.journal import Change, fold_changes
from ledger.store.log import StreamReader
from ledger.wire import elements
from ledger.wire.customer_sessions import render_customer_session
from ledger.wire.versions import LATEST_VERSION

CLIENT_SECRET_PREFIX = "cuss_secret_"  # noqa: S105 (no secret)
EPHEMERAL_KEY_PREFIXES = {False: "ek_test_", True: "ek_live_"}

_ID_DIGITS = 22
_CHECK_DIGITS = 16
_GRANT_DIGITS = 32
_DIGITS = _ID_DIGITS + _CHECK_DIGITS + _GRANT_DIGITS

_encode = msgspec.json.Encoder().encode


class SessionSecrets:
    """Derives client secrets and ephemeral keys from the service key, and knows them again."""

    def __init__(self, service_key: bytes) -> None:
        self._key = hmac.digest(service_key, b"ledger/customer_session/secret/1", "sha256")

    def derive_client_secret(self, state: State) -> str:
        """The session's client secret: `cuss_secret_` and 70 digits, 48 of which only the service key can
        make."""
        assert isinstance(state, CustomerSession)
        return self._derive(CLIENT_SECRET_PREFIX, state, state.account, state.livemode)

    def derive_ephemeral_key(self, state: CustomerSession) -> str:
        """The ephemeral key that the session is exchanged for: `ek_test_` or `ek_live_`, and 70 digits."""
        return self._derive(EPHEMERAL_KEY_PREFIXES[state.livemode], state)

    def parse_client_secret(self, secret: str, account: str, livemode: bool) -> str | None:
        """Id of the session that a client secret is of; None when none of this account and mode has it.

        What the session grants is not looked at: compare with `derive_client_secret`.
        """
        return self._parse(CLIENT_SECRET_PREFIX, secret, account, livemode)

    def parse_ephemeral_key(self, key: str) -> str | None:
        """Id of the session that an ephemeral key is of; None when it was not made here. As above."""
        return next(
            (
                session_id
                for prefix in EPHEMERAL_KEY_PREFIXES.values()
                if (session_id := self._parse(prefix, key))
            ),
            None,
        )

    def _derive(self, prefix: str, state: CustomerSession, *scope: Any) -> str:
        digits = state.id.partition("_")[2]
        check = self._mac("check", prefix, digits, *scope)[:_CHECK_DIGITS]
        grant = customer_session.encode_grant(state).decode()
        return f"{prefix}{digits}{check}{self._mac('grant', prefix, grant)}"

    def _parse(self, prefix: str, text: str, *scope: Any) -> str | None:
        digits = text.removeprefix(prefix)
        if len(text) != len(prefix) + _DIGITS or len(digits) != _DIGITS or not digits.isascii():
            return None
        check = self._mac("check", prefix, digits[:_ID_DIGITS], *scope)[:_CHECK_DIGITS]
        if not hmac.compare_digest(digits[_ID_DIGITS:-_GRANT_DIGITS], check):
            return None
        return f"cuss_{digits[:_ID_DIGITS]}"

    def _mac(self, *parts: Any) -> str:
        return encode_digest(hmac.digest(self._key, _encode(parts), "sha256"))


class EphemeralKeys:
    """The keys that sessions were exchanged for. None is kept: the session tells what its key may do."""

    def __init__(self, secrets: SessionSecrets, streams: StreamReader) -> None:
        self._secrets = secrets
        self._streams = streams

    async def find(self, key: str) -> ApiKey | None:
        """What the key may do; None when it is not one of ours. Raises Unavailable."""
        session_id = self._secrets.parse_ephemeral_key(key)
        if session_id is None:
            return None
        state = self._streams.get_cached(session_id)
        if not isinstance(state, CustomerSession) or state.claimed_at is None:
            state = await self._streams.read(session_id)
        if not isinstance(state, CustomerSession) or state.claimed_at is None:
            return None
        if not hmac.compare_digest(self._secrets.derive_ephemeral_key(state), key):
            return None
        return ApiKey(
            id=state.id,
            account=state.account,
            kind="ek",
            livemode=state.livemode,
            last4=key[-4:],
            name="",
            scopes=(),
            expires_at=state.expires_at,
            api_version=LATEST_VERSION,
            customer=state.customer,
        )


def create(secrets: SessionSecrets, terms: Terms) -> Decide:
    """`POST /v1/customer_sessions`"""

    async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
        params = call.parameters
        if "customer_account" in params:
            raise InvalidParameter("Accounts of API v2 are not served.", param="customer_account")
        customer = await get_param(call, Customer, "customer", params["customer"], context.get)
        (event,) = customer_session.create(
            session_id=context.new_id("cuss"),
            account=call.account,
            livemode=call.livemode,
            customer=customer.id,
            components=params["components"],
            terms=terms,
            now=now,
        )
        state = customer_session.evolve(None, event)
        secret = secrets.derive_client_secret(state)
        answer = render_customer_session(state, secret)
        if call.expand:
            await expand(state, answer, call.expand, now, context.get)
        return Decision([Change(event, state)], answer, secret=secret, secret_of=state.id)

    return decide


def exchange(secrets: SessionSecrets) -> Decide:
    """`GET /v1/elements/sessions`: a GET that writes. The claim is an event on the session's next version,
    so of any number of exchanges one succeeds; the others decide again, and see that it is used."""

    async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
        params = call.parameters
        answer = elements.render_elements_session(
            context.new_id("elements_session"), params["type"], livemode=call.livemode
        )
        secret = params.get(customer_session.CLIENT_SECRET_PARAM)
        if secret is None:
            return Decision([], answer)
        session_id = secrets.parse_client_secret(secret, call.account, call.livemode)
        if session_id is None:
            raise _unknown_secret_error()
        state = await context.get(session_id)
        if not isinstance(state, CustomerSession) or not hmac.compare_digest(
            secrets.derive_client_secret(state), secret
        ):
            raise _unknown_secret_error()
        (event,) = customer_session.claim(state, now=now)
        customer = await context.get(state.customer)
        if not isinstance(customer, Customer) or customer.deleted:
            raise _unknown_secret_error()
        state = customer_session.evolve(state, event)
        answer["customer"] = elements.render_elements_customer(state, secrets.derive_ephemeral_key(state))
        return Decision([Change(event, state)], answer)

    return decide


async def revoke(call: Call, context: DecisionContext, now: int) -> Decision:
    """`DELETE /internal/v1/customer_sessions/{id}`"""
    state = await get_target(call, CustomerSession, context.get)
    changes = fold_changes(customer_session.revoke(state, now=now), state)
    after = changes[-1].state if changes else state
    assert isinstance(after, CustomerSession)
    return Decision(changes, elements.render_session_record(after, now))


def _unknown_secret_error() -> InvalidParameter:
    return InvalidParameter(
        "No such customer session: the client secret is none of this account's, in this mode, for a customer "
        "that is there.",
        code="resource_missing",
        param=customer_session.CLIENT_SECRET_PARAM,
    )
