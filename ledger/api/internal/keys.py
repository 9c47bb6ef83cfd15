"""Accounts and their keys, for operators (scope keys): an account's own, and of those connected to it.

A key is made in the mode of the key that asks, and shown once. Under an Idempotency-Key one account or key
is made; again, the account is answered as it was, but a key is not kept: 409 tells which one it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from pydantic import ConfigDict, Field

from ledger.accounts import (
    SCOPES,
    KeyRing,
    Kind,
    ListedKey,
    create_account,
    create_key,
    list_accounts,
    list_keys,
    revoke_key,
    roll_key,
)
from ledger.api.authentication import unreachable
from ledger.api.internal.callers import Caller, Callers, answer, idempotency_key
from ledger.clock import Clock
from ledger.commands.execution import Answered, Execution, fingerprint_of
from ledger.commands.models import Body, Id, Seconds, Text
from ledger.errors import InvalidParameter, Refused, ShownOnce, UnknownObject
from ledger.store.journal import Cause, KeyTaken, Reply, keep_reply

OVERLAP_SECONDS_MAX = 30 * 86_400

_LIMIT = Query(ge=1, le=100)
_AFTER = Query(max_length=255, description="An id: the page begins after it, towards newer ones.")


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
    kind: Kind = "sk"
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


Make = Callable[[AsyncConnection[TupleRow]], Awaitable[dict[str, Any]]]
"""Makes something, and gives the answer that tells of it."""


def key_routes(
    callers: Callers,
    keys: KeyRing,
    pool: AsyncConnectionPool[AsyncConnection[TupleRow]],
    execution: Execution,
    clock: Clock,
) -> APIRouter:
    """Nothing here shows a key but the call that makes it."""
    router = APIRouter(tags=["accounts and keys"])
    may = callers.scoped("keys")

    async def reached(caller: Caller, account: str | None) -> str:
        if account is None or account == caller.account:
            return caller.account
        if not await keys.reaches(caller.key, account):
            raise unreachable(caller.key, account)
        return account

    async def found(conn: AsyncConnection[TupleRow], caller: Caller, key_id: str) -> ListedKey:
        """The key, if it is in the caller's reach and mode."""
        for account in await list_accounts(conn, caller.account):
            for listed in await list_keys(conn, account[0]):
                if listed.key.id == key_id and listed.key.livemode == caller.key.livemode:
                    return listed
        raise UnknownObject("key", key_id)

    async def made_once(request: Request, caller: Caller, body: Body, make: Make) -> Response:
        """What `make` makes; under an Idempotency-Key together with the reply that a repetition will get. Of
        any number at once one commits both, the others undo what they made. A refusal is not kept."""
        key = idempotency_key(request)
        if key is None:
            async with pool.connection() as conn:
                return answer(Answered(*execution.encode(await make(conn))), caller, request)
        cause = Cause(caller.account, caller.key.livemode, caller.key.id, caller.request_id, key)
        fingerprint = fingerprint_of(request.method, request.url.path, body.given())
        replied = await execution.replied(cause)
        if replied is None:
            try:
                async with pool.connection() as conn, conn.transaction():
                    made = await make(conn)
                    reply = Reply(fingerprint, *execution.encode(_again(made)))
                    await keep_reply(conn, cause, reply, clock.now())
                return answer(Answered(*execution.encode(made)), caller, request)
            except KeyTaken:
                replied = await execution.replied(cause)
            assert replied is not None, "a taken key has a reply for a day"
        return answer(await execution.replay(replied, key, fingerprint), caller, request)

    @router.get("/accounts", summary="Own and connected accounts")
    async def accounts(
        limit: Annotated[int, _LIMIT] = 10,
        starting_after: Annotated[str | None, _AFTER] = None,
        caller: Caller = may,
    ) -> dict[str, Any]:
        """Oldest first."""
        async with pool.connection() as conn:
            rows = await list_accounts(conn, caller.account)
        names = ("id", "name", "platform", "api_version", "created_at")
        return _page([dict(zip(names, row, strict=True)) for row in rows], limit, starting_after)

    @router.post("/accounts", summary="Create a connected account")
    async def new_account(request: Request, body: AccountBody, caller: Caller = may) -> Response:
        """It is connected to the caller's account, which may act on it with Stripe-Account."""

        async def make(conn: AsyncConnection[TupleRow]) -> dict[str, Any]:
            account = await create_account(conn, body.name, platform=caller.account)
            return {"id": account, "name": body.name, "platform": caller.account}

        return await made_once(request, caller, body, make)

    @router.get("/keys", summary="Keys, without what they are")
    async def listed_keys(
        account: Annotated[str | None, Query(max_length=255)] = None,
        limit: Annotated[int, _LIMIT] = 10,
        starting_after: Annotated[str | None, _AFTER] = None,
        caller: Caller = may,
    ) -> dict[str, Any]:
        """Of one account, oldest first. `last_used_at` is up to a few seconds late."""
        named = await reached(caller, account)
        async with pool.connection() as conn:
            rows = await list_keys(conn, named)
        return _page([_shown(row, clock.now()) for row in rows], limit, starting_after)

    @router.post("/keys", summary="Create a key")
    async def new_key(request: Request, body: KeyBody, caller: Caller = may) -> Response:
        """The answer's `key` cannot be shown again: the same Idempotency-Key gets 409 `secret_shown_once`,
        which names the key that was made. If the answer was lost, roll that one."""
        account = await reached(caller, body.account)
        if body.scopes and body.kind != "rk":
            raise InvalidParameter("Only restricted keys (kind rk) have scopes.", param="scopes")
        for number, scope in enumerate(body.scopes):
            if scope not in SCOPES:
                known = ", ".join(SCOPES)
                raise InvalidParameter(f"Invalid scope: must be one of {known}", param=f"scopes[{number}]")
        if body.expires_at is not None and body.expires_at <= clock.now():
            raise InvalidParameter("expires_at has passed already.", param="expires_at")

        async def make(conn: AsyncConnection[TupleRow]) -> dict[str, Any]:
            key_id, secret = await create_key(
                conn,
                account,
                body.kind,
                livemode=caller.key.livemode,
                name=body.name,
                scopes=body.scopes,
                expires_at=body.expires_at,
            )
            return _shown(await found(conn, caller, key_id), clock.now()) | {"key": secret}

        return await made_once(request, caller, body, make)

    @router.post("/keys/{id}/roll", summary="Replace a key")
    async def rolled(
        request: Request,
        body: RollBody,
        key_id: Annotated[str, Path(alias="id", max_length=255)],
        caller: Caller = may,
    ) -> Response:
        """The new key may do what the old one may; both are good for the overlap. The same Idempotency-Key
        rolls once, and is told 409 like that of a creation."""

        async def make(conn: AsyncConnection[TupleRow]) -> dict[str, Any]:
            await found(conn, caller, key_id)
            made, secret = await roll_key(conn, key_id, overlap_seconds=body.overlap_seconds, now=clock.now())
            return _shown(await found(conn, caller, made), clock.now()) | {"key": secret}

        return await made_once(request, caller, body, make)

    @router.post("/keys/{id}/revoke", summary="End a key now")
    async def revoked(
        key_id: Annotated[str, Path(alias="id", max_length=255)], caller: Caller = may
    ) -> dict[str, Any]:
        """Every process refuses it within a second."""
        async with pool.connection() as conn:
            await found(conn, caller, key_id)
            await revoke_key(conn, key_id, now=clock.now())
            return _shown(await found(conn, caller, key_id), clock.now())

    return router


def _again(made: dict[str, Any]) -> dict[str, Any] | Refused:
    """What a repetition is answered: the same, where there is no secret in it."""
    if "key" not in made:
        return made
    return ShownOnce(
        f"The key '{made['id']}' was made with this idempotency key. It was shown once and is not kept: roll "
        "it, or use another idempotency key to make another.",
        code="secret_shown_once",
    )


def _shown(listed: ListedKey, now: float) -> dict[str, Any]:
    key = listed.key
    return {
        "id": key.id,
        "account": key.account,
        "kind": key.kind,
        "livemode": key.livemode,
        "masked": key.masked,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": key.state(now),
        "created_at": listed.created_at,
        "expires_at": key.expires_at,
        "last_used_at": listed.last_used_at,
    }


def _page(rows: Sequence[dict[str, Any]], limit: int, starting_after: str | None) -> dict[str, Any]:
    start = 0
    if starting_after is not None:
        ids = [row["id"] for row in rows]
        if starting_after not in ids:
            raise InvalidParameter(
                f"No such object: '{starting_after}'", code="resource_missing", param="starting_after"
            )
        start = ids.index(starting_after) + 1
    return {"data": rows[start : start + limit], "has_more": len(rows) > start + limit}
