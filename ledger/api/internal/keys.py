"""Accounts and their keys, for operators (scope keys): an account's own, and of those connected to it.

A key is made in the mode of the key that asks, and shown once. Under an Idempotency-Key one account or key
is made; again, the account is answered as it was, but a key is not kept: 409 tells which one it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from ledger.accounts import (
    SCOPES,
    KeyCache,
    KeyKind,
    KeySummary,
    create_account,
    create_key,
    list_accounts,
    list_keys,
    revoke_key,
    roll_key,
)
from ledger.api.authentication import account_access_error
from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, build_response
from ledger.clock import Clock
from ledger.commands.execution import CommandResult, Execution, fingerprint_of
from ledger.commands.models import Body, Id, Seconds, Text
from ledger.errors import InvalidParameter, RequestError, SecretAlreadyIssued, UnknownObject
from ledger.postgres.connections import Conn, Pool
from ledger.store.journal import IdempotencyKeyUsed, Reply, insert_reply

OVERLAP_SECONDS_MAX = 30 * 86_400

_LIMIT = Query(ge=1, le=100)
_STARTING_AFTER = Query(max_length=255, description="An id: the page begins after it, towards newer ones.")


class AccountBody(Body):
    """An account to be connected to the caller's."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Berlin branch"}]})

    name: Text


class KeyBody(Body):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "rk", "name": "importer", "scopes": ["catalog", "network"]}]}
    )

    account: Id | None = Field(None, description="A connected account; the caller's own when absent.")
    kind: KeyKind = "sk"
    name: Text = ""
    scopes: Annotated[list[str], Field(max_length=len(SCOPES))] = Field(
        [], description="What a restricted key may do."
    )
    expires_at: Seconds | None = Field(None, description="When it ends, unix seconds; never when absent.")


class RollBody(Body):
    """How a key is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 86400}]})

    overlap_seconds: Annotated[int, Field(ge=0, le=OVERLAP_SECONDS_MAX)] = Field(
        0, description="How long the old key is still good."
    )


CreateObject = Callable[[Conn], Awaitable[dict[str, Any]]]
"""Makes something, and gives the answer that tells of it."""


def key_routes(
    callers: Callers,
    keys: KeyCache,
    pool: Pool,
    execution: Execution,
    clock: Clock,
) -> APIRouter:
    """Nothing here shows a key but the call that makes it."""
    router = APIRouter(tags=["accounts and keys"])
    keys_caller = callers.require_scopes("keys")

    async def resolve_account(caller: Exchange, account: str | None) -> str:
        if account is None or account == caller.account:
            return caller.account
        if not await keys.can_access(caller.key, account):
            raise account_access_error(caller.key, account)
        return account

    async def find_key(conn: Conn, caller: Exchange, key_id: str) -> KeySummary:
        """The key, if it is in the caller's reach and mode."""
        for account in await list_accounts(conn, caller.account):
            for listed in await list_keys(conn, account[0]):
                if listed.key.id == key_id and listed.key.livemode == caller.key.livemode:
                    return listed
        raise UnknownObject("key", key_id)

    async def create_once(request: Request, caller: Exchange, body: Body, create: CreateObject) -> Response:
        """What `make` makes; under an Idempotency-Key together with the reply that a repetition will get. Of
        any number at once one commits both, the others undo what they made. A refusal is not kept."""
        idempotency_key = caller.read_idempotency_key()
        if idempotency_key is None:
            async with pool.connection() as conn:
                return build_response(CommandResult(*execution.encode(await create(conn))), caller)
        cause = caller.build_cause()
        fingerprint = fingerprint_of(caller.method, caller.path, body.to_params())
        stored_reply = await execution.find_reply(cause)
        if stored_reply is None:
            try:
                async with pool.connection() as conn, conn.transaction():
                    created = await create(conn)
                    reply = Reply(fingerprint, *execution.encode(_replay_answer(created)))
                    await insert_reply(conn, cause, reply, clock.now())
                return build_response(CommandResult(*execution.encode(created)), caller)
            except IdempotencyKeyUsed:
                stored_reply = await execution.find_reply(cause)
            assert stored_reply is not None, "a taken key has a reply for a day"
        return build_response(await execution.replay(stored_reply, idempotency_key, fingerprint), caller)

    @router.get("/accounts", summary="Own and connected accounts")
    async def accounts(
        limit: Annotated[int, _LIMIT] = 10,
        starting_after: Annotated[str | None, _STARTING_AFTER] = None,
        caller: Exchange = keys_caller,
    ) -> dict[str, Any]:
        """Oldest first."""
        async with pool.connection() as conn:
            rows = await list_accounts(conn, caller.account)
        names = ("id", "name", "platform", "api_version", "created_at")
        return _paginate([dict(zip(names, row, strict=True)) for row in rows], limit, starting_after)

    @router.post("/accounts", summary="Create a connected account")
    async def new_account(request: Request, body: AccountBody, caller: Exchange = keys_caller) -> Response:
        """It is connected to the caller's account, which may act on it with Stripe-Account."""

        async def create(conn: Conn) -> dict[str, Any]:
            account = await create_account(conn, body.name, platform=caller.account)
            return {"id": account, "name": body.name, "platform": caller.account}

        return await create_once(request, caller, body, create)

    @router.get("/keys", summary="Keys, without what they are")
    async def listed_keys(
        account: Annotated[str | None, Query(max_length=255)] = None,
        limit: Annotated[int, _LIMIT] = 10,
        starting_after: Annotated[str | None, _STARTING_AFTER] = None,
        caller: Exchange = keys_caller,
    ) -> dict[str, Any]:
        """Of one account, oldest first. `last_used_at` is up to a few seconds late."""
        account_id = await resolve_account(caller, account)
        async with pool.connection() as conn:
            rows = await list_keys(conn, account_id)
        return _paginate([_render_key(row, clock.now()) for row in rows], limit, starting_after)

    @router.post("/keys", summary="Create a key")
    async def new_key(request: Request, body: KeyBody, caller: Exchange = keys_caller) -> Response:
        """The answer's `key` cannot be shown again: the same Idempotency-Key gets 409 `secret_shown_once`,
        which names the key that was made. If the answer was lost, roll that one."""
        account = await resolve_account(caller, body.account)
        if body.scopes and body.kind != "rk":
            raise InvalidParameter("Only restricted keys (kind rk) have scopes.", param="scopes")
        for number, scope in enumerate(body.scopes):
            if scope not in SCOPES:
                known = ", ".join(SCOPES)
                raise InvalidParameter(f"Invalid scope: must be one of {known}", param=f"scopes[{number}]")
        if body.expires_at is not None and body.expires_at <= clock.now():
            raise InvalidParameter("expires_at has passed already.", param="expires_at")

        async def create(conn: Conn) -> dict[str, Any]:
            key_id, secret = await create_key(
                conn,
                account,
                body.kind,
                livemode=caller.key.livemode,
                name=body.name,
                scopes=body.scopes,
                expires_at=body.expires_at,
            )
            return _render_key(await find_key(conn, caller, key_id), clock.now()) | {"key": secret}

        return await create_once(request, caller, body, create)

    @router.post("/keys/{id}/roll", summary="Replace a key")
    async def rolled(
        request: Request,
        body: RollBody,
        key_id: Annotated[str, Path(alias="id", max_length=255)],
        caller: Exchange = keys_caller,
    ) -> Response:
        """The new key may do what the old one may; both are good for the overlap. The same Idempotency-Key
        rolls once, and is told 409 like that of a creation."""

        async def roll(conn: Conn) -> dict[str, Any]:
            await find_key(conn, caller, key_id)
            new_key_id, secret = await roll_key(
                conn, key_id, overlap_seconds=body.overlap_seconds, now=clock.now()
            )
            return _render_key(await find_key(conn, caller, new_key_id), clock.now()) | {"key": secret}

        return await create_once(request, caller, body, roll)

    @router.post("/keys/{id}/revoke", summary="End a key now")
    async def revoked(
        key_id: Annotated[str, Path(alias="id", max_length=255)], caller: Exchange = keys_caller
    ) -> dict[str, Any]:
        """Every process refuses it within a second."""
        async with pool.connection() as conn:
            await find_key(conn, caller, key_id)
            await revoke_key(conn, key_id, now=clock.now())
            return _render_key(await find_key(conn, caller, key_id), clock.now())

    return router


def _replay_answer(created: dict[str, Any]) -> dict[str, Any] | RequestError:
    """What a repetition is answered: the same, where there is no secret in it."""
    if "key" not in created:
        return created
    return SecretAlreadyIssued(
        f"The key '{created['id']}' was made with this idempotency key. It was shown once and is not kept: "
        "roll "
        "it, or use another idempotency key to make another.",
        code="secret_shown_once",
    )


def _render_key(listed: KeySummary, now: float) -> dict[str, Any]:
    key = listed.key
    return {
        "id": key.id,
        "account": key.account,
        "kind": key.kind,
        "livemode": key.livemode,
        "masked": key.masked,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": key.get_status(now),
        "created_at": listed.created_at,
        "expires_at": key.expires_at,
        "last_used_at": listed.last_used_at,
    }


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
