"""The types that can be listed as of a moment, and what their filters mean for a state.

The parameters are those of the public lists, from the same tables. The filters of a public list are columns
of a projection with the names of the aggregate's members; here the members themselves are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import eq, ge, gt, le, lt
from types import ModuleType
from typing import Any

from ledger.audit.candidates import LOG_INDEXED
from ledger.audit.object_json import render_whole_object
from ledger.domain import customer_session, resource
from ledger.domain.aggregate import State
from ledger.domain.file_link import FileLink, is_expired
from ledger.domain.resource import Resource
from ledger.errors import InvalidParameter
from ledger.objects import render_object
from ledger.queries.resources import build_filters, matches_filters
from ledger.wire import tables
from ledger.wire.aggregates import AGGREGATES
from ledger.wire.elements import render_session_record
from ledger.wire.json_values import Json
from ledger.wire.parameters import PAGINATION, ParameterTable, TimestampFilter
from ledger.wire.published_types import PUBLISHED_TYPES_BY_NAME, PublishedType
from ledger.wire.scalars import Parameter, Text

_OWN_PARAMETERS: dict[str, Parameter] = {
    "type": Text(required=True),
    "at": Text(length_max=100),
    "status": Text(description="Only objects with this status."),
}
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "eq": eq,
    "gt": gt,
    "gte": ge,
    "lt": lt,
    "lte": le,
}
_PERSONAL_FILTERS = frozenset({"email"})
_OPEN_FILTERS_OF_PUBLISHED = frozenset({*LOG_INDEXED, "created"})
"""What is known of a published object without its content, which is personal data as a whole."""
_AGGREGATES = {row.object_type: row for row in AGGREGATES}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedType:
    """A type of object and its list.

    table       the parameters
    referenced  by filter, the type of the object that it must name
    published   the row of a type that other services publish
    """

    name: str
    table: ParameterTable
    referenced: Mapping[str, str] = field(default_factory=dict)
    published: PublishedType | None = None

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """Those of the aggregates that such an object may be."""
        if self.published is not None:
            return (resource,)
        row = _AGGREGATES[self.name]
        return (row.module, resource) if row.published_too else (row.module,)

    @property
    def references(self) -> dict[str, type[State]]:
        """By filter, the class of the object that it must name."""
        return {name: _AGGREGATES[object_type].state for name, object_type in self.referenced.items()}

    @property
    def topics(self) -> list[str]:
        """The topics of the events that such an object may have."""
        return [event_class.TOPIC for module in self.modules for event_class in module.EVENTS]

    @property
    def ages_by_clock(self) -> bool:
        """Whether `created` is never after the time of the first event: other services may publish any."""
        return resource not in self.modules

    def is_personal(self, name: str) -> bool:
        """Whether a filter is by personal data: it then needs the scope `personal_data`."""
        if self.published is not None:
            return name not in _OPEN_FILTERS_OF_PUBLISHED
        return name in _PERSONAL_FILTERS

    def list_named(self, filters: Mapping[str, Any]) -> dict[str, str]:
        """The filters by which the log has an index."""
        return {name: filters[name] for name in LOG_INDEXED if isinstance(filters.get(name), str)}

    def matches(self, state: State, filters: Mapping[str, Any], now: int) -> bool:
        """Whether the list has the object with these filters, at `now` (unix seconds). No list has deleted
        objects."""
        filters = dict(filters)
        if getattr(state, "deleted", False) or not _is_created_within(state, filters.pop("created", {})):
            return False
        if self.published is not None:
            assert isinstance(state, Resource)
            if (
                "status" in filters
                and not _filters_by_status(self.published)
                and state.status != filters.pop("status")
            ):
                return False
            return matches_filters(state, build_filters(self.published, filters))
        if "status" in filters and _get_status(state, now) != filters.pop("status"):
            return False
        if "expired" in filters:
            assert isinstance(state, FileLink)
            if is_expired(state, now) != filters.pop("expired"):
                return False
        return all(getattr(state, name) == value for name, value in filters.items())

    def render(self, state: State, now: int) -> Json:
        """The object as its list shows it, without secrets."""
        if isinstance(state, customer_session.CustomerSession):
            return render_session_record(state, now)
        return render_whole_object(state, now)


def get_listed_type(form: Mapping[str, Any]) -> ListedType:
    """The type that the parameter `type` of a form names. Raises InvalidParameter for one that has no list;
    without one, for a parameter that no list has, or else for the missing type."""
    name = form.get("type")
    if not isinstance(name, str):
        _EVERY_PARAMETER.parse(form)
    if name in _LISTED_TYPES:
        return _LISTED_TYPES[name]
    if name in PUBLISHED_TYPES_BY_NAME:
        return _make_published(PUBLISHED_TYPES_BY_NAME[name])
    known = ", ".join(sorted(_LISTED_TYPES))
    raise InvalidParameter(
        f"Invalid type: must be one of {known}, or a type that other services publish, such as invoice.",
        param="type",
    )


def _get_status(state: State, now: int) -> str | None:
    if isinstance(state, customer_session.CustomerSession):
        return customer_session.get_status(state, now)
    status: str | None = render_object(state, now).get("status")
    return status


def _is_created_within(state: State, bounds: Mapping[str, int]) -> bool:
    created = state.created  # type: ignore[attr-defined]  # every type that is listed has it
    return all(_COMPARISONS[operator](created, bound) for operator, bound in bounds.items())


def _filters_by_status(published_type: PublishedType) -> bool:
    return any(row.name == "status" for row in published_type.filters)


def _make_table(public: ParameterTable, *, has_status: bool = True) -> ParameterTable:
    """The parameters of a list as of a moment: those of the public list, but pages go forwards only."""
    members = {name: member for name, member in public.members.items() if name != "ending_before"}
    own = {name: member for name, member in _OWN_PARAMETERS.items() if has_status or name != "status"}
    return ParameterTable({**own, **members})


def _make_published(published_type: PublishedType) -> ListedType:
    return ListedType(
        name=published_type.object_type,
        table=_make_table(tables.published.build_list_table(published_type)),
        published=published_type,
    )


_SESSION_LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "customer": Text(description="Only sessions of this customer."),
    }
)
_ROWS = (
    ListedType(
        name="customer",
        table=_make_table(tables.customers.LIST, has_status=False),
    ),
    ListedType(
        name="charge",
        table=_make_table(tables.charges.LIST),
        referenced={"customer": "customer", "payment_intent": "payment_intent"},
    ),
    ListedType(
        name="dispute",
        table=_make_table(tables.disputes.LIST),
        referenced={"charge": "charge", "payment_intent": "payment_intent"},
    ),
    ListedType(
        name="refund",
        table=_make_table(tables.refunds.LIST),
        referenced={"charge": "charge", "payment_intent": "payment_intent"},
    ),
    ListedType(
        name="payment_intent",
        table=_make_table(tables.payment_intents.LIST),
        referenced={"customer": "customer"},
    ),
    ListedType(
        name="file",
        table=_make_table(tables.files.LIST, has_status=False),
    ),
    ListedType(
        name="file_link",
        table=_make_table(tables.file_links.LIST, has_status=False),
        referenced={"file": "file"},
    ),
    ListedType(
        name="webhook_endpoint",
        table=_make_table(tables.webhook_endpoints.LIST),
    ),
    ListedType(
        name="privacy.redaction_job",
        table=_make_table(tables.redaction_jobs.LIST, has_status=False),
    ),
    ListedType(
        name="customer_session",
        table=_make_table(_SESSION_LIST),
        referenced={"customer": "customer"},
    ),
)
_LISTED_TYPES = {row.name: row for row in _ROWS}
_EVERY_PARAMETER = ParameterTable(
    {name: member for row in _ROWS for name, member in row.table.members.items()}
)
