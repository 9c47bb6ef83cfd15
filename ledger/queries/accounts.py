"""Queries on accounts (contract §2.11)."""

from __future__ import annotations

from ledger import accounts
from ledger.accounts import Account
from ledger.call import Call
from ledger.errors import UnknownObject, UnknownReference
from ledger.queries.context import QueryContext
from ledger.queries.inner_lists import cut_page, make_list_result
from ledger.queries.pages import QueryResult
from ledger.wire.accounts import CAPABILITIES, render_account
from ledger.wire.json_values import Json
from ledger.wire.parameters import two_cursors_error

URL = "/v1/accounts"


async def retrieve_current(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/account`: the account that the call acts on."""
    return QueryResult(await _read_account(context, call.account))


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/accounts/{id}`. Whether the key reaches the account was checked before."""
    return QueryResult(await _read_account(context, call.target))


async def list_connected(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/accounts`: the accounts connected to the one that the call acts on, newest first."""
    params = call.parameters
    cursor = await _find_cursor(call, context)
    limit = params["limit"]
    rows = await context.pool.run_idempotent(
        lambda conn: accounts.list_connected(
            conn,
            call.account,
            limit=limit + 1,
            created=params.get("created", {}),
            cursor=cursor,
            is_newer="ending_before" in params,
        )
    )
    page = rows[:limit]
    if "ending_before" in params:
        page.reverse()
    return make_list_result([_render(account) for account in page], URL, has_more=len(rows) > limit)


async def list_capabilities(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/accounts/{id}/capabilities`: all on one page."""
    account = await _read_account(context, call.target)
    data = [_render_capability(account, name) for name in CAPABILITIES]
    return make_list_result(data, f"{URL}/{call.target}/capabilities")


async def retrieve_capability(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/accounts/{id}/capabilities/{capability}`. Raises UnknownObject."""
    if call.part not in CAPABILITIES:
        raise UnknownObject("capability", call.part)
    return QueryResult(_render_capability(await _read_account(context, call.target), call.part))


async def list_external_accounts(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/accounts/{id}/external_accounts`: there are none."""
    return _render_empty(call, "external_accounts", "external_account")


async def list_persons(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/accounts/{id}/persons`: there are none."""
    return _render_empty(call, "persons", "person")


async def _find_cursor(call: Call, context: QueryContext) -> str | None:
    """The id of the connected account that is the call's cursor. Raises InvalidParameter for an unknown one,
    and for two."""
    cursor = None
    for param in ("starting_after", "ending_before"):
        account_id = call.parameters.get(param)
        if account_id is None:
            continue
        account = await _find(context, account_id)
        if account is None or account.platform != call.account:
            raise UnknownReference("account", account_id, param=param)
        if cursor is not None:
            raise two_cursors_error()
        cursor = account_id
    return cursor


async def _read_account(context: QueryContext, account_id: str) -> Json:
    account = await _find(context, account_id)
    assert account is not None, "a key's account exists, and so does one that it reaches"
    return _render(account)


async def _find(context: QueryContext, account_id: str) -> Account | None:
    return await context.pool.run_idempotent(lambda conn: accounts.find_account(conn, account_id))


def _render(account: Account) -> Json:
    return render_account(account.id, account.name, int(account.created_at))


def _render_capability(account: Json, name: str) -> Json:
    return {
        "id": name,
        "object": "capability",
        "account": account["id"],
        "requested": True,
        "requested_at": account["created"],
        "status": CAPABILITIES[name],
    }


def _render_empty(call: Call, segment: str, noun: str) -> QueryResult:
    page, _ = cut_page(list[Json](), call.parameters, noun=noun)
    return make_list_result(page, f"{URL}/{call.target}/{segment}")
