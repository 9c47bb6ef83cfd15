"""The SQL of list queries: one page of a projection's live rows, newest first, by key.

All SQL is assembled from texts in the code, when a module is imported or, once for each combination of
filters, by `build_page_query`. Nothing that a caller sends is part of it: values are parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from ledger.postgres.statements import Statement, parse_statement

# One statement, one snapshot: the checkpoint it reads covers the rows it reads, if the session takes its
# snapshots first (SNAPSHOT_FIRST). `applied_position` comes between the first two parts.
_QUERY_START = "SELECT progress.*, page.* FROM (SELECT h.position AS head, "
_QUERY_PROGRESS = """
 AS checkpoint, c.shape, EXISTS (SELECT FROM projections.parked p
                                WHERE p.projection = c.projection AND p.generation = c.generation)
                            AS incomplete, extract(epoch FROM h.recorded_at)::bigint AS newest
    FROM ledger.head h, projections.live l
    JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
    WHERE l.projection = %(projection)s
) AS progress LEFT JOIN (
"""
_QUERY_END = ") AS page ON true\n"
_FROM_LIVE_CHECKPOINT = """
FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s
"""
PROGRESS_COLUMNS = 5
"""How many columns of a row are the projection's progress: head, checkpoint, shape, incomplete, newest."""

_CREATED_FILTERS = {
    "eq": "AND created = %(eq)s",
    "gt": "AND created > %(gt)s",
    "gte": "AND created >= %(gte)s",
    "lt": "AND created < %(lt)s",
    "lte": "AND created <= %(lte)s",
}
_SORT_KEYS = {True: "(created, position, ordinal)", False: "(created, position)"}
_CURSOR_KEYS = {True: "(%(created)s, %(position)s, %(ordinal)s)", False: "(%(created)s, %(position)s)"}
_ORDER_BY = {
    (True, False): "ORDER BY created DESC, position DESC, ordinal DESC",
    (True, True): "ORDER BY created, position, ordinal",
    (False, False): "ORDER BY created DESC, position DESC",
    (False, True): "ORDER BY created, position",
}


def in_live_generation(projection: str) -> str:
    """The condition on `generation` for the rows that are served. A subquery without parameters runs once for
    a statement; the planner then uses the indexes that begin with `generation`."""
    live = f"SELECT generation FROM projections.live WHERE projection = '{projection}'"  # noqa: S608
    return f"generation = ({live})"


def equal_hash(*columns: str) -> str:
    """The condition by which an index of hashes finds the rows whose columns equal the parameters of their
    names. The columns are compared as well."""
    values = ", ".join(f"%({name})s::{'boolean' if name == 'livemode' else 'text'}" for name in columns)
    return f"hash_record_extended(ROW ({', '.join(columns)}), 0) = hash_record_extended(ROW ({values}), 0)"


def any_equal_hash(column: str) -> str:
    """As `equal_hash` of account, mode and the column, whose parameter has the forms in which rows may have
    the value."""
    return f"""hash_record_extended(ROW (account, livemode, {column}), 0) = ANY (ARRAY(
    SELECT hash_record_extended(ROW (%(account)s::text, %(livemode)s::boolean, form), 0)
    FROM unnest(%({column})s::text[]) AS form))"""  # noqa: S608 (names in our code)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ListQuery:
    """One list over one projection.

    noun                the object's name in the error for an unknown cursor: "No such {noun}"
    url                 of the list object
    select              a SELECT up to its WHERE; binds account and livemode; ends in the columns created,
                        position (and ordinal)
    cursor_select       selects the sort key (created, position, and ordinal if `by_ordinal`) of the id
                        %(cursor)s
    filters             by parameter, the condition that it adds
    hashed              of `filters`, those that have an index of hashes, of account, mode and the column of
                        that name. Other pages, but not the row of one id, are read along the index of the
                        hashes of account and mode. None: the list has no such indexes
    in_forms            of `hashed`, those whose parameter is a list: a row may have the value in one of
                        several forms
    filter_shape_min    by parameter, the first shape of rows that has the column it needs
    by_ordinal          whether several rows may share a position
    partitioned_by_day  whether rows are partitioned by day; then %(since)s and %(until)s are bound: `created`
                        is later than `since` and not later than `until`
    recorded_at_select  selects when (unix seconds) the row of an id from a caller, %(id)s, was recorded
    applied_position    SQL for the position up to which the list is complete: the checkpoint, or less
    """

    projection: str
    noun: str
    url: str
    select: str
    cursor_select: str
    filters: Mapping[str, str] = field(default_factory=dict)
    hashed: frozenset[str] | None = None
    in_forms: frozenset[str] = frozenset()
    filter_shape_min: Mapping[str, int] = field(default_factory=dict)
    by_ordinal: bool = False
    partitioned_by_day: bool = False
    recorded_at_select: str | None = None
    applied_position: str = "c.position"

    @classmethod
    def of(
        cls,
        projection: str,
        *,
        noun: str,
        filters: Mapping[str, str] | None = None,
        hashed: Collection[str] | None = None,
        in_forms: Collection[str] = (),
        filter_shape_min: Mapping[str, int] | None = None,
        column: str = "state",
        further_columns: Collection[str] = (),
        where: str = "",
    ) -> Self:
        """The list of a projection that has one row per object, selected by account and mode.

        column  holds the object; the id follows it, then `further_columns`
        where   a further condition on the listed rows, not on the cursor's: the list of customers has no
                deleted ones, but a page may begin after one

        Projection and columns become part of the SQL; they are names in our code, never input.
        """
        columns = ", ".join([column, "id", *further_columns])
        source = f"FROM projections.{projection}\nWHERE {in_live_generation(projection)}\n"
        owned = "AND account = %(account)s AND livemode = %(livemode)s"
        return cls(
            projection=projection,
            noun=noun,
            url=f"/v1/{projection}",
            select=f"SELECT {columns}, created, position {source}{owned} {where}",
            cursor_select=f"SELECT created, position {source}AND id = %(cursor)s {owned}",
            filters=filters or {},
            hashed=None if hashed is None else frozenset(hashed),
            in_forms=frozenset(in_forms),
            filter_shape_min=filter_shape_min or {},
        )


@lru_cache(maxsize=1024)
def build_page_query(list_query: ListQuery, filters: Sequence[str], older: bool | None) -> Statement:
    """The statement of one page with these `filters`. `older`: whether the page has rows older than the
    cursor, or newer ones; None without a cursor. Binds projection, limit and the parameters of the parts."""
    conditions = {**_CREATED_FILTERS, **list_query.filters}
    parts = [
        _QUERY_START + list_query.applied_position + _QUERY_PROGRESS,
        list_query.select,
        *(conditions[name] for name in filters),
        *_build_hash_conditions(list_query, filters),
    ]
    if older is not None:
        comparison = "<" if older else ">"
        parts.append(
            f"AND {_SORT_KEYS[list_query.by_ordinal]} {comparison} {_CURSOR_KEYS[list_query.by_ordinal]}"
        )
    order = _ORDER_BY[list_query.by_ordinal, older is False]
    return parse_statement("\n".join([*parts, order, "LIMIT %(limit)s", _QUERY_END, order]))


def _build_hash_conditions(list_query: ListQuery, filters: Sequence[str]) -> list[str]:
    """The conditions that lead into the indexes of hashes."""
    if list_query.hashed is None or "id" in filters:
        return []
    names = [name for name in filters if name in list_query.hashed]
    if not names:
        return [f"AND {equal_hash('account', 'livemode')}"]
    return [
        f"AND {any_equal_hash(name)}"
        if name in list_query.in_forms
        else f"AND {equal_hash('account', 'livemode', name)}"
        for name in names
    ]


@lru_cache
def build_whole_query(list_query: ListQuery) -> Statement:
    """The statement of all rows of `select`, with the projection's progress."""
    progress = _QUERY_START + list_query.applied_position + _QUERY_PROGRESS
    return parse_statement(progress + list_query.select + _QUERY_END)


@lru_cache
def build_cursor_query(list_query: ListQuery) -> Statement:
    """The statement for the sort key of the cursor's row, with the projection's progress."""
    progress = _QUERY_START + list_query.applied_position + _QUERY_PROGRESS
    return parse_statement(progress + list_query.cursor_select + _QUERY_END)


@lru_cache
def build_applied_position_query(list_query: ListQuery) -> Statement:
    """The statement for only the position up to which the list is complete."""
    return parse_statement("SELECT " + list_query.applied_position + _FROM_LIVE_CHECKPOINT)
