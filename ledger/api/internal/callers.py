"""Who calls the internal API, and what was asked before: scope, account, rate limit, idempotency key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel

from ledger.accounts import ApiKey, KeyRing
from ledger.api.authentication import acted_on, authenticate, unreachable
from ledger.api.public.protocol import Exchange
from ledger.api.rate_limits import Limits
from ledger.call import Call
from ledger.commands.execution import Answered, Decide, Execution, fingerprint_of
from ledger.errors import Forbidden, InvalidParameter
from ledger.store.journal import Cause
from ledger.wire.parameters import unknown

IDEMPOTENCY_KEY_LENGTH_MAX = 255


class Caller(NamedTuple):
    """The key of a request, the account it acts on, and the request's id."""

    key: ApiKey
    account: str
    request_id: str


class Callers:
    """Finds out who calls. `tick` takes over where the one clock stands, and tells it."""

    def __init__(self, keys: KeyRing, tick: Callable[[], Awaitable[float]], limits: Limits) -> None:
        self._keys = keys
        self._tick = tick
        self._limits = limits

    def scoped(self, *scopes: str) -> Any:
        """A dependency: the Caller, whose key has all of `scopes`; `Stripe-Account` and `Stripe-Context` mean
        what they do on the public API."""

        async def caller(
            request: Request,
            authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
            stripe_account: Annotated[str | None, Header(description="a connected account")] = None,
            stripe_context: Annotated[str | None, Header(description="the same as Stripe-Account")] = None,
        ) -> Caller:
            exchange: Exchange = request.state.exchange
            now = await self._tick()
            exchange.key = key = await authenticate(self._keys, (authorization or "").encode(), now)
            exchange.account = account = key.account
            try:
                for scope in scopes:
                    require(key, scope)
                account = await acted_on(self._keys, key, stripe_account, stripe_context)
            finally:  # a refusal counts too, but never against an account that is not the caller's
                self._limits.check(key.id, account)
            exchange.account = account
            check_query(request)
            return Caller(key, account, exchange.request_id)

        return Depends(caller)

    async def acting_on(self, caller: Caller, account: str | None) -> Caller:
        """The caller on the account that its body names, which says the same as `Stripe-Account`."""
        if account is None or account == caller.account:
            return caller
        if caller.account != caller.key.account:
            raise InvalidParameter("The body names another account than Stripe-Account.", param="account")
        if not await self._keys.reaches(caller.key, account):
            raise unreachable(caller.key, account)
        return caller._replace(account=account)


def check_query(request: Request) -> None:
    """Raises InvalidParameter for a name in the query that the route does not declare: none is ignored. A
    route that takes its query as one model leaves that to the model."""
    declared = request.scope["route"].dependant.query_params
    if any(isinstance(field.field_info.annotation, type(BaseModel)) for field in declared):
        return
    names = {field.alias for field in declared}
    for name in request.query_params:
        if name not in names:
            raise unknown(name)


def require(key: ApiKey, scope: str) -> None:
    """Raises Forbidden, naming the scope, unless the key has it."""
    if scope not in key.scopes:
        raise Forbidden(
            f"The provided key '{key.masked}' lacks the scope '{scope}'.", code="more_permissions_required"
        )


def idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key, if it has one. Raises InvalidParameter for one that is too long."""
    given = request.headers.get("idempotency-key") or None
    if given is not None and len(given) > IDEMPOTENCY_KEY_LENGTH_MAX:
        raise InvalidParameter(f"Idempotency keys must be at most {IDEMPOTENCY_KEY_LENGTH_MAX} characters.")
    return given


async def carried_out(
    execution: Execution,
    caller: Caller,
    request: Request,
    decide: Decide,
    parameters: dict[str, Any],
    *,
    target: str = "",
) -> Answered:
    """The command run as a request to the public API is, under its Idempotency-Key (CONTRACT 1.9)."""
    key, account, request_id = caller
    given = idempotency_key(request)
    cause = Cause(account, key.livemode, key.id, request_id, given)
    call = Call(
        account,
        key.livemode,
        key.id,
        request_id,
        given,
        target,
        parameters,
        {},
        as_platform=account != key.account,
    )
    fingerprint = fingerprint_of(request.method, request.url.path, parameters) if given is not None else ""
    return await execution.run(cause, call, decide, fingerprint=fingerprint)


def answer(answered: Answered, caller: Caller, request: Request) -> Response:
    """The HTTP answer, with the headers that tell of its request and of a replay."""
    headers = {"request-id": caller.request_id}
    given = request.headers.get("idempotency-key")
    if given:
        headers["idempotency-key"] = given
        headers["original-request"] = answered.replay_of or caller.request_id
    if answered.replay_of is not None:
        headers["idempotent-replayed"] = "true"
    return Response(answered.body, answered.status, headers, "application/json")
