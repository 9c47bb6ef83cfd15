"""Who calls the internal API, and what was asked before: scope, account, rate limit, idempotency key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel

from ledger.accounts import ApiKey, KeyCache
from ledger.api.authentication import account_access_error, authenticate, resolve_account
from ledger.api.public.protocol import Exchange
from ledger.api.rate_limits import RateLimits
from ledger.call import Call
from ledger.commands.execution import CommandResult, Decide, Execution, fingerprint_of
from ledger.errors import Forbidden, InvalidParameter
from ledger.store.journal import Cause
from ledger.wire.parameters import unknown_parameter_error

IDEMPOTENCY_KEY_LENGTH_MAX = 255


class Caller(NamedTuple):
    """The key of a request, the account it acts on, and the request's id."""

    key: ApiKey
    account: str
    request_id: str


class Callers:
    """Finds out who calls. `refresh_clock` takes over where the one clock stands, and tells it."""

    def __init__(
        self, keys: KeyCache, refresh_clock: Callable[[], Awaitable[float]], rate_limits: RateLimits
    ) -> None:
        self._keys = keys
        self._refresh_clock = refresh_clock
        self._rate_limits = rate_limits

    def require_scopes(self, *scopes: str) -> Any:
        """A dependency: the Caller, whose key has all of `scopes`; `Stripe-Account` and `Stripe-Context` mean
        what they do on the public API."""

        async def resolve_caller(
            request: Request,
            authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
            stripe_account: Annotated[str | None, Header(description="a connected account")] = None,
            stripe_context: Annotated[str | None, Header(description="the same as Stripe-Account")] = None,
        ) -> Caller:
            exchange: Exchange = request.state.exchange
            now = await self._refresh_clock()
            exchange.key = key = await authenticate(self._keys, (authorization or "").encode(), now)
            exchange.account = account = key.account
            try:
                for scope in scopes:
                    check_scope(key, scope)
                account = await resolve_account(self._keys, key, stripe_account, stripe_context)
            finally:  # a refusal counts too, but never against an account that is not the caller's
                self._rate_limits.check(key.id, account)
            exchange.account = account
            check_query_names(request)
            return Caller(key, account, exchange.request_id)

        return Depends(resolve_caller)

    async def switch_account(self, caller: Caller, account: str | None) -> Caller:
        """The caller on the account that its body names, which says the same as `Stripe-Account`."""
        if account is None or account == caller.account:
            return caller
        if caller.account != caller.key.account:
            raise InvalidParameter("The body names another account than Stripe-Account.", param="account")
        if not await self._keys.can_access(caller.key, account):
            raise account_access_error(caller.key, account)
        return caller._replace(account=account)


def check_query_names(request: Request) -> None:
    """Raises InvalidParameter for a name in the query that the route does not declare: none is ignored. A
    route that takes its query as one model leaves that to the model."""
    declared = request.scope["route"].dependant.query_params
    if any(isinstance(field.field_info.annotation, type(BaseModel)) for field in declared):
        return
    names = {field.alias for field in declared}
    for name in request.query_params:
        if name not in names:
            raise unknown_parameter_error(name)


def check_scope(key: ApiKey, scope: str) -> None:
    """Raises Forbidden, naming the scope, unless the key has it."""
    if scope not in key.scopes:
        raise Forbidden(
            f"The provided key '{key.masked}' lacks the scope '{scope}'.", code="more_permissions_required"
        )


def read_idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key, if it has one. Raises InvalidParameter for one that is too long."""
    value = request.headers.get("idempotency-key") or None
    if value is not None and len(value) > IDEMPOTENCY_KEY_LENGTH_MAX:
        raise InvalidParameter(f"Idempotency keys must be at most {IDEMPOTENCY_KEY_LENGTH_MAX} characters.")
    return value


async def run_command(
    execution: Execution,
    caller: Caller,
    request: Request,
    decide: Decide,
    parameters: dict[str, Any],
    *,
    target: str = "",
) -> CommandResult:
    """The command run as a request to the public API is, under its Idempotency-Key (contract §1.9)."""
    key, account, request_id = caller
    idempotency_key = read_idempotency_key(request)
    cause = Cause(account, key.livemode, key.id, request_id, idempotency_key)
    call = Call(
        account,
        key.livemode,
        key.id,
        request_id,
        idempotency_key,
        target,
        parameters,
        {},
        as_platform=account != key.account,
    )
    fingerprint = (
        fingerprint_of(request.method, request.url.path, parameters) if idempotency_key is not None else ""
    )
    return await execution.run(cause, call, decide, fingerprint=fingerprint)


def build_response(result: CommandResult, caller: Caller, request: Request) -> Response:
    """The HTTP answer, with the headers that tell of its request and of a replay."""
    headers = {"request-id": caller.request_id}
    idempotency_key = request.headers.get("idempotency-key")
    if idempotency_key:
        headers["idempotency-key"] = idempotency_key
        headers["original-request"] = result.original_request_id or caller.request_id
    if result.original_request_id is not None:
        headers["idempotent-replayed"] = "true"
    return Response(result.body, result.status, headers, "application/json")
