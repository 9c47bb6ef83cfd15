"""What all routes of the internal API need: authenticate the caller, run a command, build its response."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_origin

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel

from ledger.accounts import ApiKey
from ledger.api.authentication import account_access_error, authenticate, resolve_account
from ledger.api.clock import RefreshClock
from ledger.api.console.cookie import read_authorization
from ledger.api.exchange import Exchange
from ledger.api.key_cache import KeyCache
from ledger.api.rate_limits import RateLimits
from ledger.call import Call
from ledger.commands.execution import CommandResult, Decide, Execution, MakeChange, fingerprint_of
from ledger.errors import Forbidden, InvalidParameter, RequestError
from ledger.postgres.connections import Pool
from ledger.wire.parameters import unknown_parameter_error
from ledger.wire.suggestions import find_nearest

PUBLIC_SCOPE_PREFIX = "rak_"


class Callers:
    """Authenticates the caller of each request and checks its scopes. Calls `refresh_clock` once per
    request."""

    def __init__(self, keys: KeyCache, refresh_clock: RefreshClock, rate_limits: RateLimits) -> None:
        self._keys = keys
        self._refresh_clock = refresh_clock
        self._rate_limits = rate_limits

    def require_scopes(self, *scopes: str) -> Any:
        """A FastAPI dependency: the request's `Exchange`, with its account and its key, which has all of
        `scopes`. Stripe-Account and Stripe-Context mean the same as on the public API."""

        async def authorize(
            request: Request,
            stripe_account: Annotated[str | None, Header(description="a connected account")] = None,
            stripe_context: Annotated[str | None, Header(description="the same as Stripe-Account")] = None,
        ) -> Exchange:
            exchange: Exchange = request.state.exchange
            await self.authorize(exchange, scopes, stripe_account, stripe_context)
            check_query_names(request)
            check_repetitions(request)
            return exchange

        return Depends(authorize)

    async def authorize(
        self,
        exchange: Exchange,
        scopes: Iterable[str],
        account: str | None,
        context: str | None,
    ) -> None:
        """Set the key and the account of a request, whose key must have all of `scopes`: from its header
        Authorization or its cookie, and from Stripe-Account and Stripe-Context. Raises RequestError."""
        now = await self._refresh_clock()
        key = await authenticate(self._keys, read_authorization(exchange.request_headers), now)
        exchange.set_key(key)
        allowed = False
        try:
            for scope in scopes:
                check_scope(key, scope)
            exchange.account = await resolve_account(self._keys, key, account, context)
            allowed = True
        finally:  # a refused request counts too, but never against an account that is not the caller's
            self._rate_limits.check(key.id, exchange.account)
            if exchange.on_authorized is not None:
                exchange.on_authorized(allowed)

    async def check_account(self, exchange: Exchange, account: str) -> None:
        """Check that the request may act on `account`, which its body names. Raises Forbidden if the key
        cannot access it, InvalidParameter if Stripe-Account names another account."""
        if account == exchange.account:
            return
        if exchange.as_platform:
            raise InvalidParameter("`account` differs from the Stripe-Account header.", param="account")
        if not await self._keys.can_access(exchange.key, account):
            raise account_access_error(exchange.key, account)

    async def can_see(self, exchange: Exchange, account: str, livemode: bool) -> bool:
        """Whether the key of a request reaches `account` in this mode: its own, or a connected one. Raises
        Unavailable."""
        return livemode == exchange.key.livemode and await self._keys.can_access(exchange.key, account)


def check_query_names(request: Request) -> None:
    """Raises InvalidParameter for a query parameter that the route does not declare: none is ignored. A route
    that declares its query as one model is skipped, because the model checks this itself."""
    declared = request.scope["route"].dependant.query_params
    if any(isinstance(field.field_info.annotation, type(BaseModel)) for field in declared):
        return
    names = {field.alias for field in declared}
    for name in request.query_params:
        if name not in names:
            raise unknown_parameter_error(name, find_nearest(name, sorted(names)))


def check_repetitions(request: Request) -> None:
    """Raises InvalidParameter for a query parameter that is sent more than once and is no list: else it would
    not be clear which question was answered."""
    lists = set()
    for field in request.scope["route"].dependant.query_params:
        kind = field.field_info.annotation
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        members = kind.model_fields if is_model else {field.alias: field.field_info}
        lists |= {name for name, member in members.items() if get_origin(member.annotation) is list}
    sent = [name for name, _ in request.query_params.multi_items()]
    for name in sent:
        if sent.count(name) > 1 and name not in lists and not name.endswith("[]"):
            raise InvalidParameter(f"Received {name} more than once.", param=name)


def check_scope(key: ApiKey, scope: str) -> None:
    """Raises Forbidden, naming the scope, unless the key has it. Those of the public API (`rak_…`) every
    secret key has."""
    if not (key.allows(scope) or (key.kind == "sk" and scope.startswith(PUBLIC_SCOPE_PREFIX))):
        raise Forbidden(
            f"The provided key '{key.masked}' lacks the scope '{scope}'.", code="more_permissions_required"
        )


async def run_command(
    execution: Execution, exchange: Exchange, decide: Decide, parameters: dict[str, Any], *, target: str = ""
) -> CommandResult:
    """Run a command as the public API does: under the request's Idempotency-Key (contract §1.9)."""
    idempotency_key = exchange.read_idempotency_key()
    call = Call(exchange.build_cause(), target, parameters, as_platform=exchange.as_platform)
    fingerprint = ""
    if idempotency_key is not None:
        fingerprint = fingerprint_of(exchange.method, exchange.path, parameters)
    return await execution.run(call, decide, fingerprint=fingerprint)


async def change_once(
    execution: Execution,
    pool: Pool,
    exchange: Exchange,
    parameters: dict[str, Any],
    change: MakeChange,
    *,
    replay_answer: Callable[[dict[str, Any]], dict[str, Any] | RequestError] = lambda answer: answer,
) -> Response:
    """Make a change that is not recorded in the log, and respond with its result, once per Idempotency-Key.
    `replay_answer`: what a repetition gets instead of the response."""
    idempotency_key = exchange.read_idempotency_key()
    fingerprint = ""
    if idempotency_key is not None:
        fingerprint = fingerprint_of(exchange.method, exchange.path, parameters)
    result = await execution.change_once(
        pool, exchange.build_cause(), change, fingerprint=fingerprint, replay_answer=replay_answer
    )
    return build_response(result, exchange)


def build_response(result: CommandResult, exchange: Exchange) -> Response:
    """The response with a command's result, with the headers that mark a replay if it is one."""
    exchange.set_result(result)
    headers = {name.decode(): value.decode("latin-1") for name, value in exchange.collect_headers()}
    return Response(result.body, result.status, headers)
