"""Queries on the objects that other services publish (contract §2.13): as published, one or a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ledger.call import Call
from ledger.domain.resource import Resource
from ledger.errors import UnknownObject
from ledger.objects import expand, fetch_own, is_visible, mode_hint, share_reads
from ledger.queries.context import QueryContext, list_objects, render
from ledger.queries.customers import get_customer
from ledger.queries.inner_lists import cut_page
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult
from ledger.wire.files import add_urls
from ledger.wire.json_values import make_list_object
from ledger.wire.published_types import PublishedType, format_filter

# The members that have a column; only `customer` and `subscription` are in an index. For any other member the
# rows of the type are compared one by one.
_COLUMN_FILTERS = {
    "customer": "AND customer = %(customer)s",
    "subscription": "AND subscription = %(subscription)s",
    "status": "AND status = %(status)s",
}
_STATE_FILTERS = {
    "not_canceled": "AND status IS DISTINCT FROM 'canceled'",
    "ended": "AND status IN ('canceled', 'incomplete_expired')",
}
# By the hash of the member, the second text. Rows of older releases have none, but a state in the clear:
# there by the member as JSON, the first text; of an expanded object by its id. Few of them contain the value
# at all: only they are parsed, which takes ten times as long as to look for it.
_MEMBER_FILTER = """AND CASE WHEN members IS NOT NULL
THEN position(decode((%(member_{name})s::text[])[2], 'hex') IN members) > 0
ELSE position(convert_to((%(member_{name})s::text[])[1], 'UTF8') IN state) > 0
AND coalesce(
    convert_from(state, 'UTF8')::json #> '{{object,{name},id}}',
    convert_from(state, 'UTF8')::json #> '{{object,{name}}}'
)::text = (%(member_{name})s::text[])[1] END"""
_MEMBER_PREFIX = "member_"
_RESOURCES = ListQuery.of(
    "resources",
    noun="resource",
    where="AND NOT deleted",
    filters={"object_type": "AND type = %(object_type)s"},
)
_SUBSCRIPTION = "subscription"
_ALL, _ENDED = "all", "ended"
"""Values of the parameter `status` of the list of subscriptions that are no status."""


def build_list_query(published_type: PublishedType) -> ListQuery:
    """The list of a type."""
    member_filters = {
        f"{_MEMBER_PREFIX}{row.name}": _MEMBER_FILTER.format(name=row.name)
        for row in published_type.filters
        if row.served and row.name not in _COLUMN_FILTERS
    }
    return replace(
        _RESOURCES,
        noun=published_type.object_type,
        url=published_type.url,
        filters={**_RESOURCES.filters, **_COLUMN_FILTERS, **_STATE_FILTERS, **member_filters},
        cursor_select=f"{_RESOURCES.cursor_select} AND type = %(object_type)s",
    )


async def retrieve(published_type: PublishedType, call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/{path}/{id}`. Of a deleted object there is a stub, or nothing, as the type says. Raises
    UnknownObject."""
    state = await _get_resource(published_type, call, context)
    return QueryResult(await render(call, context, state, context.now()))


async def list_all(
    published_type: PublishedType, list_query: ListQuery, call: Call, context: QueryContext
) -> QueryResult:
    """`GET /v1/{path}`: the objects that are not deleted."""
    filters = _hash_members(call, context, build_filters(published_type, call.parameters))
    return await list_objects(call, context, list_query, Resource, filters=filters)


async def list_of_customer(
    published_type: PublishedType, list_query: ListQuery, call: Call, context: QueryContext
) -> QueryResult:
    """`GET /v1/customers/{id}/{of_customer}`: the objects of a type that name the customer. Raises
    UnknownObject for the customer, also for a deleted one."""
    state = await get_customer(call, context)
    filters = _hash_members(call, context, build_filters(published_type, call.parameters))
    filters["customer"] = state.id
    url = f"/v1/customers/{state.id}/{published_type.of_customer}"
    return await list_objects(call, context, list_query, Resource, filters=filters, url=url)


async def retrieve_of_customer(
    published_type: PublishedType, call: Call, context: QueryContext
) -> QueryResult:
    """`GET /v1/customers/{id}/{of_customer}/{part}`: an object of a type, which names the customer. Raises
    UnknownObject for either."""
    customer = await get_customer(call, context)
    state = await _get_resource(published_type, call.replace(target=call.part), context)
    if state.customer != customer.id:
        raise UnknownObject(published_type.object_type, call.part)
    return QueryResult(await render(call, context, state, context.now()))


async def list_part(
    published_type: PublishedType, member: str, call: Call, context: QueryContext
) -> QueryResult:
    """`GET /v1/{path}/{id}/{member}`: the objects in a member of a published object, in its order. Empty if
    it was published without them. Raises UnknownObject, UnknownReference for a cursor."""
    state = await _get_resource(published_type, call, context)
    if state.deleted:
        raise UnknownObject(published_type.object_type, call.target)
    part = state.object.get(member)
    items = part.get("data") if isinstance(part, dict) else part
    items = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    page, has_more = cut_page(items, call.parameters, noun="object")
    body = make_list_object(page, f"{published_type.url}/{state.id}/{member}", has_more=has_more)
    if call.expand:
        fetch = share_reads(context.get_expanded)
        await expand(state, body, {"data": call.expand}, context.now(), fetch)
        add_urls(body, call.base_url, context.link_urls.derive_digits)
    return QueryResult(body)


async def _get_resource(published_type: PublishedType, call: Call, context: QueryContext) -> Resource:
    state = await fetch_own(call, call.target, context.get)
    name = published_type.object_type
    if not isinstance(state, Resource) or state.type != name:
        raise UnknownObject(name, call.target)
    if not is_visible(state, call) or (state.deleted and not published_type.has_stub):
        raise UnknownObject(name, call.target, hint=mode_hint(state, Resource, call))
    return state


def build_filters(published_type: PublishedType, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values by filter of the list query, for the parameters of a list."""
    filters: dict[str, Any] = {"object_type": published_type.object_type}
    for row in published_type.filters:
        if row.name not in parameters:
            continue
        value = parameters[row.name]
        if row.name in _COLUMN_FILTERS:
            filters[row.name] = value
        else:
            filters[f"{_MEMBER_PREFIX}{row.name}"] = msgspec.json.encode(value).decode()
    if published_type.object_type == _SUBSCRIPTION:
        status = filters.get("status")
        if status in (None, _ALL, _ENDED):
            filters.pop("status", None)
        if status in (None, _ENDED):
            filters["not_canceled" if status is None else "ended"] = True
    return filters


def _hash_members(call: Call, context: QueryContext, filters: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the list query takes them: those of members with their hashes."""

    def add_hash(name: str, value: Any) -> Any:
        if not name.startswith(_MEMBER_PREFIX):
            return value
        text = format_filter(name.removeprefix(_MEMBER_PREFIX), value)
        hashed = context.blind_index.hash(call.account, call.livemode, "members", text)
        return [value, hashed.hex()]

    return {name: add_hash(name, value) for name, value in filters.items()}


def matches_filters(state: Resource, filters: Mapping[str, Any]) -> bool:
    """Whether the list query with these filters, as from `build_filters`, has the object."""
    for name, value in filters.items():
        match name:
            case "object_type":
                matched = state.type == value
            case "not_canceled":
                matched = state.status != "canceled"
            case "ended":
                matched = state.status in ("canceled", "incomplete_expired")
            case "customer" | "subscription" | "status":
                matched = getattr(state, name) == value
            case _:
                member = state.object.get(name.removeprefix(_MEMBER_PREFIX))
                if isinstance(member, dict) and "id" in member:
                    member = member["id"]
                matched = msgspec.json.encode(member).decode() == value
        if not matched:
            return False
    return True
