"""Accounts and their keys, for operators (scope `keys`): the caller's account and those connected to it.

A live-mode key reaches the keys of both modes, a test-mode key those of test mode only: with `keys`, a key
can create others with every scope, so one that reached live mode would have all rights there. The secret of a
new key is in that one response only. Repeating a creation under its Idempotency-Key creates nothing: the
response for an account is repeated, and for a key it is a 409 that names the key, because the secret is not
stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from ledger import accounts
from ledger.accounts import (
    OVERLAP_SECONDS_MAX,
    SCOPES,
    SCOPES_PAGE,
    KeyKind,
    KeySummary,
    Mode,
)
from ledger.api.authentication import account_access_error
from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, change_once
from ledger.api.key_cache import KeyCache
from ledger.api.openapi.answers import answers_with
from ledger.clock import Clock
from ledger.commands.execution import Execution, MakeChange
from ledger.commands.models import Body, Id, Seconds, Text
from ledger.errors import Forbidden, InvalidParameter, RequestError, SecretAlreadyIssued, UnknownObject
from ledger.postgres.connections import Conn, Pool
from ledger.wire.suggestions import list_alternatives

SHELL_SCOPES = frozenset({"alerts", "ledger_feed"})
"""Scopes that reach beyond an account and those connected to it: only the command line gives them."""
_LIMIT = Query(ge=1, le=100)
_STARTING_AFTER = Query(max_length=255, description="An id: the page begins after it, towards newer ones.")
_KEY_ID = Path(alias="id", max_length=255)


class AccountBody(Body):
    """A new account, to be connected to the caller's."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Berlin branch"}]})

    name: Text = Field(description="A name for the account.")


class KeyBody(Body):
    """A new key."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "rk", "name": "importer", "scopes": ["catalog", "network"]}]}
    )

    account: Id | None = Field(None, description="A connected account; default: the caller's own.")
    kind: KeyKind = Field("sk", description="sk: secret, rk: restricted, pk: publishable.")
    mode: Mode | None = Field(
        None,
        description="Default: that of the caller's key. Only a live-mode key may create a live-mode key.",
    )
    name: Text = Field("", description="A name for the key.")
    scopes: Annotated[list[str], Field(max_length=len(SCOPES))] = Field(
        [], description="The scopes of a restricted key."
    )
    expires_at: Seconds | None = Field(None, description="When it expires, in unix seconds; default: never.")


class RollBody(Body):
    """How to replace a key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 86400}]})

    overlap_seconds: Annotated[int, Field(ge=0, le=OVERLAP_SECONDS_MAX)] = Field(
        0, description="How long the old key stays valid."
    )


class KeyRegistry:
    """Finds keys in a caller's reach, and creates accounts and keys once per Idempotency-Key."""

    def __init__(self, keys: KeyCache, pool: Pool, execution: Execution, clock: Clock) -> None:
        self._keys = keys
        self._execution = execution
        self.pool = pool
        self.clock = clock

    async def resolve_account(self, caller: Exchange, account: str | None) -> str:
        """`account`, or the caller's own by default. Raises RequestError when it is not in reach."""
        if account is None or account == caller.account:
            return caller.account
        if not await self._keys.can_access(caller.key, account):
            raise account_access_error(caller.key, account)
        return account

    def check_mode(self, caller: Exchange, mode: Mode | None) -> None:
        """Raises Forbidden when the caller does not reach the keys of this mode."""
        if mode == "live" and not caller.key.livemode:
            raise Forbidden(
                f"The provided key '{caller.key.masked}' is a test-mode key and does not reach live-mode "
                "keys. Use a live-mode key with the scope 'keys', or `ledger keys create --live`.",
                code="livemode_mismatch",
            )

    async def get_key(self, conn: Conn, caller: Exchange, key_id: str) -> KeySummary:
        """The key, if it is in the caller's reach. Raises UnknownObject otherwise."""
        summary = await accounts.find_key(conn, key_id, account=caller.account, livemode=caller.key.livemode)
        if summary is None:
            raise UnknownObject("key", key_id)
        return summary

    async def render_key(self, conn: Conn, caller: Exchange, key_id: str) -> dict[str, Any]:
        """The key as the API shows it. Raises UnknownObject."""
        return (await self.get_key(conn, caller, key_id)).to_json(self.clock.now())

    async def create_once(self, caller: Exchange, body: Body, create: MakeChange) -> Response:
        """Run `create` and respond with its result, once per Idempotency-Key."""
        return await change_once(
            self._execution, self.pool, caller, body.to_params(), create, replay_answer=_replay_answer
        )


def key_routes(
    callers: Callers,
    keys: KeyCache,
    pool: Pool,
    execution: Execution,
    clock: Clock,
) -> APIRouter:
    """The routes under `/accounts` and `/keys`. Only the response to a creation contains a secret."""
    router = APIRouter(tags=["accounts and keys"])
    registry = KeyRegistry(keys, pool, execution, clock)
    keys_caller = callers.require_scopes("keys")
    _add_account_routes(router, registry, keys_caller)
    _add_key_list_and_creation(router, registry, keys_caller)
    _add_key_replacement(router, registry, keys_caller)
    return router


def _add_account_routes(router: APIRouter, registry: KeyRegistry, keys_caller: Any) -> None:
    @router.get(
        "/accounts",
        summary="List your own and connected accounts",
        responses=answers_with("kept_account_list"),
    )
    async def list_accounts(
        limit: Annotated[int, _LIMIT] = 10,
        starting_after: Annotated[str | None, _STARTING_AFTER] = None,
        caller: Exchange = keys_caller,
    ) -> dict[str, Any]:
        """Oldest first."""
        rows = await registry.pool.run_idempotent(lambda conn: accounts.list_accounts(conn, caller.account))
        return _paginate([row._asdict() for row in rows], limit, starting_after)

    @router.post(
        "/accounts", summary="Create a connected account", responses=answers_with("connected_account")
    )
    async def create_account(body: AccountBody, caller: Exchange = keys_caller) -> Response:
        """It is connected to the caller's account, which may act on it with Stripe-Account."""

        async def create(conn: Conn) -> dict[str, Any]:
            account = await accounts.create_account(
                conn, body.name, platform=caller.account, who=caller.key.id
            )
            return {"id": account, "name": body.name, "platform": caller.account}

        return await registry.create_once(caller, body, create)


def _add_key_list_and_creation(router: APIRouter, registry: KeyRegistry, keys_caller: Any) -> None:
    @router.get("/keys", summary="List keys, without their secrets", responses=answers_with("api_key_list"))
    async def list_keys(
        account: Annotated[str | None, Query(max_length=255)] = None,
        mode: Annotated[
            Mode | None, Query(description="Default: both with a live-mode key, otherwise `test`.")
        ] = None,
        limit: Annotated[int, _LIMIT] = 10,
        starting_after: Annotated[str | None, _STARTING_AFTER] = None,
        caller: Exchange = keys_caller,
    ) -> dict[str, Any]:
        """The keys of one account, oldest first. `last_used_at` is up to a few seconds late."""
        account_id = await registry.resolve_account(caller, account)
        registry.check_mode(caller, mode)
        if mode is None and not caller.key.livemode:
            mode = "test"
        rows = await registry.pool.run_idempotent(
            lambda conn: accounts.list_keys(conn, account_id, mode=mode)
        )
        now = registry.clock.now()
        return _paginate([row.to_json(now) for row in rows], limit, starting_after)

    @router.post("/keys", summary="Create a key", responses=answers_with("new_api_key"))
    async def create_key(body: KeyBody, caller: Exchange = keys_caller) -> Response:
        """The secret is in the response's `key` and cannot be shown again: a repetition under the same
        Idempotency-Key gets 409 `secret_shown_once`, which names the key that was created. If the response
        was lost, roll that key."""
        account = await registry.resolve_account(caller, body.account)
        mode = body.mode or caller.key.mode
        registry.check_mode(caller, mode)
        _check_key_body(body, registry.clock.now())

        async def create(conn: Conn) -> dict[str, Any]:
            key_id, secret = await accounts.create_key(
                conn,
                account,
                body.kind,
                livemode=mode == "live",
                name=body.name,
                scopes=body.scopes,
                expires_at=body.expires_at,
                who=caller.key.id,
            )
            return await registry.render_key(conn, caller, key_id) | {"key": secret}

        return await registry.create_once(caller, body, create)


def _add_key_replacement(router: APIRouter, registry: KeyRegistry, keys_caller: Any) -> None:
    @router.post("/keys/{id}/roll", summary="Replace a key", responses=answers_with("new_api_key"))
    async def roll_key(
        body: RollBody,
        key_id: Annotated[str, _KEY_ID],
        caller: Exchange = keys_caller,
    ) -> Response:
        """The new key has the rights of the old one; during the overlap both are valid. A repetition under
        the same Idempotency-Key gets 409, as for a creation."""

        async def roll(conn: Conn) -> dict[str, Any]:
            _check_roll(caller, await registry.get_key(conn, caller, key_id))
            new_key_id, secret = await accounts.roll_key(
                conn,
                key_id,
                overlap_seconds=body.overlap_seconds,
                now=registry.clock.now(),
                who=caller.key.id,
            )
            return await registry.render_key(conn, caller, new_key_id) | {"key": secret}

        return await registry.create_once(caller, body, roll)

    @router.post("/keys/{id}/revoke", summary="Revoke a key", responses=answers_with("api_key"))
    async def revoke_key(key_id: Annotated[str, _KEY_ID], caller: Exchange = keys_caller) -> dict[str, Any]:
        """Every process refuses it within a second."""

        async def revoke(conn: Conn) -> dict[str, Any]:
            await registry.get_key(conn, caller, key_id)
            await accounts.revoke_key(conn, key_id, now=registry.clock.now(), who=caller.key.id)
            return await registry.render_key(conn, caller, key_id)

        return await registry.pool.run_idempotent(revoke)


def _check_roll(caller: Exchange, summary: KeySummary) -> None:
    """Raises Forbidden if the new key would have a scope that is not given over HTTP, and that the caller's
    key does not have."""
    for scope in sorted(SHELL_SCOPES.intersection(summary.key.scopes).difference(caller.key.scopes)):
        raise Forbidden(
            f"The key '{summary.key.id}' has the scope '{scope}', which the provided key "
            f"'{caller.key.masked}' lacks: roll it on the command line, with `ledger keys roll`.",
            code="more_permissions_required",
        )


def _check_key_body(body: KeyBody, now: float) -> None:
    """Raises InvalidParameter for unknown scopes, scopes of an unrestricted key, or a past expiry."""
    if body.scopes and body.kind != "rk":
        raise InvalidParameter("Only restricted keys (kind rk) have scopes.", param="scopes")
    for number, scope in enumerate(body.scopes):
        if scope not in SCOPES:
            known = list_alternatives(scope, SCOPES, SCOPES_PAGE)
            raise InvalidParameter(f"Invalid scope: must be one of {known}", param=f"scopes[{number}]")
        if scope in SHELL_SCOPES:
            raise InvalidParameter(
                f"The scope '{scope}' reaches all accounts, so it is not given over HTTP. Use the command "
                f"line: ledger keys create ACCOUNT --kind rk --scope {scope}",
                param=f"scopes[{number}]",
            )
    if body.expires_at is not None and body.expires_at <= now:
        raise InvalidParameter("expires_at is in the past.", param="expires_at")


def _replay_answer(created: dict[str, Any]) -> dict[str, Any] | RequestError:
    """The response that a repeated request gets: the same one, or an error instead of one with a secret."""
    if "key" not in created:
        return created
    return SecretAlreadyIssued(
        f"The key '{created['id']}' was created with this idempotency key. Its secret was shown once and is "
        "not stored: roll the key, or use another idempotency key to create another one.",
        code="secret_shown_once",
    )


def _paginate(rows: Sequence[dict[str, Any]], limit: int, starting_after: str | None) -> dict[str, Any]:
    start = 0
    if starting_after is not None:
        ids = [row["id"] for row in rows]
        if starting_after not in ids:
            raise InvalidParameter(
                f"No such object: '{starting_after}'", code="resource_missing", param="starting_after"
            )
        start = ids.index(starting_after) + 1
    return {"data": rows[start : start + limit], "has_more": len(rows) > start + limit}
